//! The machine a plan is made for: a level of vector instructions, cache sizes.
//!
//! A target prints as the name of its level (`x86-64-v3`, …) and parses back. Cache sizes guide schedules only: no target may change
//! a bit of a result, except x86-64 without FMA, which multiplies and adds.

mod machine;

use std::fmt;
use std::str::FromStr;

use fornax_runtime::FloatMode;
use fornax_runtime::levels::{self, LEVELS};
pub(crate) use fornax_runtime::levels::{Arch, Backend, Level, Vectors};
pub(crate) use machine::overlapped;
pub use machine::{Cost, Machine};

/// A machine to compile for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    /// Vector instructions that kernels use.
    pub level: &'static Level,
    /// Size of the L2 of one core, bytes.
    pub l2: usize,
}

impl Target {
    /// A machine of a level with the L2 of [`Machine::NOMINAL`].
    pub const fn new(level: &'static Level) -> Self {
        Self { level, l2: Machine::NOMINAL.l2 }
    }

    /// x86-64 with FMA and 128-bit vectors.
    pub const fn x86_64_fma() -> Self {
        Self::new(&levels::X86_64_FMA)
    }

    /// A target of every level, in the order of their table.
    pub fn all() -> impl Iterator<Item = Self> {
        LEVELS.into_iter().map(Self::new)
    }

    /// The targets whose code a library for any processor of an architecture holds, in order of preference.
    pub fn multi(arch: Arch) -> Vec<Self> {
        arch.levels().filter(|level| level.multi).map(Self::new).collect()
    }

    /// The best target of the machine this runs on, with its L2 where the system tells its size. Its code may need what the operating system
    /// has not given yet: see [`Target::usable`].
    ///
    /// # Errors
    /// The name of the architecture, if it has no level that this processor runs.
    pub fn host() -> Result<Self, String> {
        let best = Self::runnable().pop().ok_or(std::env::consts::ARCH)?;
        Ok(Self { l2: l2_size().unwrap_or(best.l2), ..best })
    }

    /// The targets whose code this machine runs, the best last.
    pub fn runnable() -> Vec<Self> {
        Self::all().filter(Self::runs_here).collect()
    }

    /// Whether this machine runs its code.
    pub fn runs_here(&self) -> bool {
        self.level.runs_here()
    }

    /// The same machine on a level that this process may use: the one below where tile registers are refused to it. Asks for them, so it is for
    /// who is about to plan something that needs them.
    pub fn usable(self) -> Self {
        match self.level.below() {
            Some(level) if self.level.vectors.tiles && self.runs_here() && !self.level.usable_here() => {
                Self { level, ..self }.usable()
            }
            _ => self,
        }
    }

    /// The target whose code a program of this mode is. Where subnormals are kept there is neither a product of `bf16` nor a store that
    /// flushes: nothing of what a level of tile registers adds, so the code is that of the level below.
    pub fn needed(&self, mode: FloatMode) -> Self {
        match self.level.below() {
            Some(level) if self.level.vectors.tiles && mode == FloatMode::Ieee => Self { level, ..self.clone() },
            _ => self.clone(),
        }
    }

    /// Architecture.
    pub fn arch(&self) -> Arch {
        self.level.arch
    }

    /// The vectors that kernels use.
    pub fn vectors(&self) -> Vectors {
        self.level.vectors
    }

    /// What code costs on it.
    pub fn machine(&self) -> Machine {
        Machine { l2: self.l2, ..Machine::of(self.lanes()) }
    }

    /// Whether a multiplication and addition round once.
    pub fn fma(&self) -> bool {
        self.vectors().fma
    }

    /// `f32` lanes of the vectors that kernels use.
    pub fn lanes(&self) -> usize {
        self.vectors().lanes
    }

    /// Vector registers of that width.
    pub fn vector_registers(&self) -> usize {
        self.vectors().registers
    }
}

/// Bytes of the L2 of this machine's first core.
fn l2_size() -> Option<usize> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/cpu0/cache/index2/size").ok()?;
    cache_size(text.trim())
}

/// Bytes of a cache whose size reads `2048K`.
fn cache_size(text: &str) -> Option<usize> {
    let kib: usize = text.strip_suffix('K')?.parse().ok()?;
    // A size beyond reason is none.
    (64..=1 << 18).contains(&kib).then_some(kib << 10)
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.level, f)
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Level::named(text).map(Self::new).ok_or_else(|| {
            let names = LEVELS.map(|level| level.name);
            format!("target {text}: expected one of {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back() {
        for target in Target::all() {
            assert_eq!(target.to_string().parse(), Ok(target));
        }
        assert_eq!("avx2".parse(), "x86-64-v3".parse::<Target>());
        assert!("x86".parse::<Target>().unwrap_err().ends_with("x86-64-v4, x86-64-amx, aarch64"));
    }

    #[test]
    fn sizes_of_caches_are_read() {
        assert_eq!(["2048K", "512K"].map(cache_size), [Some(2 << 20), Some(512 << 10)]);
        assert_eq!(["", "K", "0K", "-1K", "99999999K", "2M"].map(cache_size), [None; 6]);
    }

    #[test]
    fn what_keeps_subnormals_needs_no_tile_registers() {
        for target in Target::all() {
            let tiles = target.vectors().tiles;
            let needed = target.needed(FloatMode::Ieee);
            assert_eq!((needed == target, needed.vectors().tiles), (!tiles, false));
            assert_eq!((needed.lanes(), needed.vector_registers()), (target.lanes(), target.vector_registers()));
            assert_eq!(target.needed(FloatMode::Flush), target);
            let usable = target.clone().usable();
            assert!(usable == target || tiles && usable == needed, "{target}: {usable}");
        }
    }

    #[test]
    fn the_host_is_the_widest_that_runs() {
        let host = Target::host().unwrap();
        assert_eq!(Target::runnable().last(), Some(&Target::new(host.level)));
        assert!(host.runs_here());
    }
}
