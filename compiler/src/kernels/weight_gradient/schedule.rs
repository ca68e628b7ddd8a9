//! How the gradient of weights runs on a target: what vectors hold, tile, chunks.
//!
//! The tile is the cheapest of those that fit the registers, by the multiply-adds that could begin while it runs.

use super::super::CHUNK;
use std::fmt;

use super::WeightGradient;
use crate::kernels::Family;
use crate::kernels::conv::Input;
use crate::target::Machine;

/// What the lanes of a vector hold.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Lanes {
    /// Channels of `x`, as the weights are stored; filters are broadcast.
    Channels,
    /// Channels of `dy`; those of `x` are broadcast, and tiles are transposed on their way to memory.
    Filters,
}

impl fmt::Display for Lanes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Channels => "Channels",
            Self::Filters => "Filters",
        })
    }
}

/// What the tiles of a unit follow one another along.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Sweep {
    /// All vectors, for the elements of one tile.
    Vectors,
    /// All elements, for the vectors of one tile.
    Elements,
}

impl fmt::Display for Sweep {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Vectors => "Vectors",
            Self::Elements => "Elements",
        })
    }
}

/// How the gradient of weights runs.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Schedule {
    /// What vectors hold.
    pub lanes: Lanes,
    /// Lanes of a vector.
    pub side: usize,
    /// Most vectors of a tile.
    pub vectors: usize,
    /// Most broadcast elements of a tile.
    pub elements: usize,
    /// What a unit goes over.
    pub sweep: Sweep,
    /// Units of one chunk: a unit is a tile's elements or vectors under the taps of one kernel row, for all of the others.
    pub units: usize,
}

schedule_text!(Schedule, "Schedule" { "lanes": lanes, "side": side, "vectors": vectors, "elements": elements, "sweep": sweep, "units": units });

/// Most chunks of a kernel.
const MOST_CHUNKS: u64 = 64;
/// Cycles of a turn over pixels besides its products, and of a tile.
const TURN: usize = 1;
const TILE: usize = 30;
/// Shuffles, for each vector and line of a square, and loads and stores.
const TRANSPOSED: usize = 6;

impl WeightGradient {
    /// The schedule for vectors of `lanes` in `registers`.
    pub(super) fn plan(&self, lanes: usize, registers: usize) -> Schedule {
        let kinds = [Lanes::Channels, Lanes::Filters];
        let tiles = kinds.into_iter().filter(|kind| self.input == Input::ChannelsLast || *kind == Lanes::Filters);
        let tiles = tiles.flat_map(|kind| {
            let [vectors, elements] = self.extents(lanes, kind);
            // Next to the sums: a vector of operands for each, a broadcast element, one to spare.
            let most = move |v: usize| (registers - v - 2) / v;
            let sizes = (1..=vectors.max(1)).take_while(move |v| registers > 2 * v + 2);
            sizes.flat_map(move |v| (1..=most(v).min(elements.max(1))).map(move |n| (kind, v, n)))
        });
        let best = tiles.min_by_key(|(kind, v, n)| self.slots(lanes, *kind, [*v, *n]));
        let (kind, vectors, elements) = best.unwrap_or((Lanes::Filters, 1, 1));
        let sweep = self.sweep(kind);
        let schedule = Schedule { lanes: kind, side: lanes, vectors, elements, sweep, units: 1 };
        let worth = (self.flops() / Machine::of(lanes).flops_in(CHUNK)).clamp(1, MOST_CHUNKS);
        let units = self.units(&schedule).div_ceil(worth as usize).max(1);
        Schedule { units, ..schedule }
    }

    /// Vectors of lanes, and elements that are broadcast.
    pub(super) fn extents(&self, lanes: usize, kind: Lanes) -> [usize; 2] {
        match kind {
            Lanes::Channels => [self.channels.div_ceil(lanes), self.filters],
            Lanes::Filters => [self.filters.div_ceil(lanes), self.channels],
        }
    }

    /// Elements that are broadcast in all units of a kernel row.
    pub(super) fn broadcast(&self, kind: Lanes) -> usize {
        match kind {
            Lanes::Channels => self.filters,
            Lanes::Filters => self.channels,
        }
    }

    /// The sweep over the smaller operand: every unit reads all of it, which a near cache has then.
    fn sweep(&self, kind: Lanes) -> Sweep {
        let larger = match kind {
            Lanes::Channels => self.channels > self.filters,
            Lanes::Filters => self.filters > self.channels,
        };
        if larger { Sweep::Elements } else { Sweep::Vectors }
    }

    /// Tiles of the extent that units are cut along.
    pub(super) fn outer_tiles(&self, schedule: &Schedule) -> usize {
        let [all, broadcast] = self.extents(schedule.side, schedule.lanes);
        match schedule.sweep {
            Sweep::Vectors => broadcast.div_ceil(schedule.elements),
            Sweep::Elements => all.div_ceil(schedule.vectors),
        }
    }

    /// Work units.
    pub(super) fn units(&self, schedule: &Schedule) -> usize {
        self.rows.kernel * self.outer_tiles(schedule)
    }

    /// Multiply-adds that could begin while it runs in tiles of at most so many vectors and elements.
    pub(super) fn slots(&self, lanes: usize, kind: Lanes, [most, elements]: [usize; 2]) -> u64 {
        let machine = Machine::of(lanes);
        let [turn, tile, latency] = [TURN, TILE, machine.latency].map(|cycles| cycles * machine.fma_per_cycle);
        let [all, broadcast] = self.extents(lanes, kind);
        if all * broadcast == 0 {
            return 0;
        }
        let pixels = self.rows.output * self.columns.output;
        let [rows, columns] = self.blocks();
        let (blocks, mut cost) = (rows * columns, 0);
        for (v, strips) in even(all, most) {
            for (n, tiles) in even(broadcast, elements) {
                let products = (v * n).max(v + n).max(latency) + turn;
                let stored = match kind {
                    Lanes::Channels => 3 * v * n,
                    Lanes::Filters => v * n.next_multiple_of(lanes) * TRANSPOSED,
                };
                cost += strips * tiles * (pixels * products + blocks * (tile + stored));
            }
        }
        (cost * self.batch * self.taps()) as u64
    }
}

/// `count` in even parts of at most `most`: the size of parts, the larger first, and how many there are.
pub(super) fn even(count: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    let parts = count.div_ceil(most);
    let (size, larger) = (count / parts.max(1), count % parts.max(1));
    [(size + 1, larger), (size, parts - larger)].into_iter().filter(|(_, parts)| *parts > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::conv::Axis;
    use fornax_ir::types::DType;

    /// What vectors hold, how many, and elements, of a 1x1 convolution of `pixels`, `channels` and `filters`.
    fn tile([pixels, channels, filters]: [usize; 3], (lanes, registers): (usize, usize)) -> (Lanes, usize, usize) {
        let (rows, columns) = (Axis::plain(1), Axis::plain(pixels));
        let (element, batch, input) = (DType::F32, 1, Input::ChannelsLast);
        let (gate, sum) = (false, false);
        let spec = WeightGradient { element, batch, channels, filters, rows, columns, input, gate, sum };
        let schedule = spec.plan(lanes, registers);
        (schedule.lanes, schedule.vectors, schedule.elements)
    }

    #[test]
    fn tiles_fit_the_registers_and_leave_no_lane_idle() {
        for size in [(4, 16), (8, 16), (16, 32)] {
            for extents in (1..120).map(|i| [300, i, 121 - i]) {
                let (_, vectors, elements) = tile(extents, size);
                assert!(vectors * elements + vectors < size.1, "{vectors}x{elements} for {extents:?}");
            }
        }
        let wide = |extents| tile(extents, (16, 32));
        assert_eq!(wide([3136, 24, 144]).0, Lanes::Filters);
        assert_eq!(wide([3136, 144, 24]).0, Lanes::Channels);
        assert_eq!(wide([49, 192, 1152]).0, Lanes::Channels);
    }

    #[test]
    fn the_smaller_operand_is_swept() {
        let sweep = |channels, filters| {
            let (rows, columns) = (Axis::plain(1), Axis::plain(196));
            let (element, batch, input) = (DType::F32, 1, Input::ChannelsLast);
            let spec =
                WeightGradient { element, batch, channels, filters, rows, columns, input, gate: false, sum: false };
            let schedule = spec.plan(8, 16);
            (schedule.lanes, schedule.sweep)
        };
        assert_eq!(sweep(672, 112), (Lanes::Channels, Sweep::Elements));
        assert_eq!(sweep(112, 672), (Lanes::Channels, Sweep::Vectors));
    }

    #[test]
    fn parts_are_even() {
        let parts = |count, most| even(count, most).collect::<Vec<_>>();
        assert_eq!(parts(16, 14), [(8, 2)]);
        assert_eq!(parts(17, 6), [(6, 2), (5, 1)]);
        assert_eq!(parts(0, 6), []);
    }
}
