//! What code costs on a nominal machine: the one model that schedules, grains and predictions are made with.
//!
//! In: work in floating-point operations and bytes. Out: cycles and microseconds. The figures are those of recent server cores, the same
//! for every processor of a level, so that what is compiled does not depend on where; sizes of chunks that no target may change are
//! said in cycles of [`Machine::NOMINAL`]. Predictions are to be compared with each other: `cargo bench --bench cost` prints them
//! next to measured times.

/// A core, its caches and their rates.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Machine {
    /// `f32` lanes of a vector.
    pub(crate) lanes: usize,
    /// 10^9 cycles per second.
    pub ghz: f64,
    /// Multiply-adds of whole vectors that begin in a cycle; without FMA its two halves are counted as one.
    pub(crate) fma_per_cycle: usize,
    /// Cycles from one multiply-add to the next that needs its result.
    pub(crate) latency: usize,
    /// Bytes of the L1 data cache.
    pub(crate) l1: usize,
    /// Bytes of the L2.
    pub(crate) l2: usize,
    /// Bytes of the last-level cache that a core may count on.
    pub(crate) l3: usize,
    /// Bytes that come from the L2 in a cycle.
    pub(crate) l2_rate: f64,
    /// Bytes that come from the last-level cache, or from another core's, in a cycle.
    pub(crate) l3_rate: f64,
    /// Bytes that come from memory in a cycle.
    pub memory_rate: f64,
}

/// Share of the peak that arithmetic with all operands near reaches.
const ATTAINED: f64 = 0.75;
/// Share of the peak that kernels of all kinds reach on the whole.
const SUSTAINED: f64 = 0.375;

impl Machine {
    /// The widest machine, for choices that every target has to make alike.
    pub const NOMINAL: Self = Self::of(16);

    /// The machine of a level with vectors of `lanes`.
    pub(crate) const fn of(lanes: usize) -> Self {
        Self {
            lanes,
            ghz: 2.5,
            fma_per_cycle: 2,
            latency: 4,
            l1: 32 << 10,
            l2: 1 << 20,
            l3: 32 << 20,
            l2_rate: 32.0,
            l3_rate: 8.0,
            memory_rate: 6.4,
        }
    }

    /// Floating-point operations in `cycles` at the peak; a multiply-add is two.
    pub(crate) const fn flops_in(&self, cycles: u64) -> u64 {
        cycles * (2 * self.fma_per_cycle * self.lanes) as u64
    }

    /// Bytes that come from the last-level cache in `cycles`.
    pub(crate) const fn bytes_in(&self, cycles: u64) -> usize {
        (cycles as f64 * self.l3_rate) as usize
    }

    /// Operations of arithmetic with all operands near in the time that a byte takes from the last-level cache.
    pub(crate) const fn flops_per_byte(&self) -> f64 {
        self.flops_in(1) as f64 * ATTAINED / self.l3_rate
    }

    /// Cycles of `count` instructions that take the place of a multiply-add each.
    pub(crate) fn issued(&self, count: f64) -> f64 {
        count / self.fma_per_cycle as f64
    }

    /// Cycles of arithmetic with all operands near.
    pub(crate) fn attained(&self, flops: f64) -> f64 {
        flops / (self.flops_in(1) as f64 * ATTAINED)
    }

    /// Bytes a cycle from the cache that holds `bytes`.
    fn rate(&self, bytes: f64) -> f64 {
        match bytes {
            near if near <= self.l2 as f64 => self.l2_rate,
            far if far <= self.l3 as f64 => self.l3_rate,
            _ => self.memory_rate,
        }
    }
}

/// Arithmetic and traffic together, both in one unit: they overlap in part.
pub(crate) fn overlapped(arithmetic: f64, traffic: f64) -> f64 {
    arithmetic.max(traffic) + arithmetic.min(traffic) / 2.0
}

/// What a kernel costs.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Cost {
    /// Cycles of one core with all operands near.
    pub(crate) cycles: f64,
    /// Bytes that come from elsewhere, or go there.
    pub(crate) bytes: f64,
    /// Bytes of memory that these are of: what is read and written counts once.
    pub(crate) footprint: f64,
}

impl Cost {
    /// A kernel of which no more is known than how much it does.
    pub(crate) fn of(flops: u64, bytes: u64, machine: &Machine) -> Self {
        Self::near(flops as f64 / (machine.flops_in(1) as f64 * SUSTAINED), bytes)
    }

    /// A kernel that takes `cycles` with all operands near, which are `bytes` large.
    pub(crate) fn near(cycles: f64, bytes: u64) -> Self {
        Self { cycles, bytes: bytes as f64, footprint: bytes as f64 }
    }

    /// Microseconds on one core, operands where they fit.
    pub fn microseconds(&self, machine: &Machine) -> f64 {
        self.time(machine, machine.rate(self.footprint))
    }

    /// Microseconds on one of several cores, whose operands the others wrote.
    pub(crate) fn microseconds_shared(&self, machine: &Machine) -> f64 {
        self.time(machine, machine.l3_rate)
    }

    fn time(&self, machine: &Machine, rate: f64) -> f64 {
        overlapped(self.cycles, self.bytes / rate) / (machine.ghz * 1e3)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_and_traffic_take_their_time() {
        let machine = Machine::NOMINAL;
        assert_eq!((machine.flops_in(1), machine.bytes_in(8192), machine.flops_per_byte()), (64, 1 << 16, 6.0));
        // 60 operations or 20 bytes in a nanosecond.
        let time = |flops, bytes| Cost::of(flops, bytes, &machine).microseconds_shared(&machine);
        assert_eq!([time(60_000, 0), time(0, 20_000), time(60_000, 20_000)], [1.0, 1.0, 1.5]);
        // The nearer, the faster.
        let time = |bytes| Cost::of(0, bytes, &machine).microseconds(&machine) / bytes as f64;
        assert!(time(1 << 20) < time(1 << 21) && time(1 << 21) < time(1 << 26));
    }
}
