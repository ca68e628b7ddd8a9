//! The machine a plan is made for: architecture, vector features, cache sizes.
//!
//! A target prints as one word (`x86-64-v3`, …) and parses back. Cache sizes guide schedules only: no target may change a bit
//! of a result, except x86-64 without FMA, which multiplies and adds.

use std::fmt;
use std::str::FromStr;

use fornax_runtime::CpuFeatures;

/// Instruction-set architecture.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

/// Vector instructions that kernels use.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Level {
    /// x86-64-v2: 128-bit vectors, multiplication and addition apart.
    Base,
    /// 128-bit vectors with FMA: AVX and FMA on x86-64, the baseline of aarch64.
    Fma,
    /// AVX2 and FMA: 256-bit vectors.
    Avx2,
    /// AVX-512 F, VL, DQ and BW: 512-bit vectors.
    Avx512,
}

/// A machine to compile for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    /// Architecture.
    pub arch: Arch,
    /// Vector instructions.
    pub level: Level,
    /// Size of the second-level cache of one core, bytes.
    pub l2: usize,
}

/// Every target: its name, architecture, level and what that means.
const TABLE: &[(&str, Arch, Level, &str)] = &[
    ("x86-64", Arch::X86_64, Level::Base, "SSE4.2, 128-bit vectors, no fused multiply-add"),
    ("x86-64-fma", Arch::X86_64, Level::Fma, "FMA and what AVX2 comes with, 128-bit vectors"),
    ("x86-64-v3", Arch::X86_64, Level::Avx2, "AVX2 and FMA, 256-bit vectors"),
    ("x86-64-v4", Arch::X86_64, Level::Avx512, "AVX-512 F, VL, DQ and BW, 512-bit vectors"),
    ("aarch64", Arch::Aarch64, Level::Fma, "Advanced SIMD, 128-bit vectors"),
];

impl Target {
    /// A machine of an architecture and level with 1 MiB of second-level cache.
    pub const fn new(arch: Arch, level: Level) -> Self {
        Self { arch, level, l2: 1 << 20 }
    }

    /// x86-64 with FMA and 128-bit vectors.
    pub const fn x86_64_fma() -> Self {
        Self::new(Arch::X86_64, Level::Fma)
    }

    /// Every target with its description, in order of names' table.
    pub fn all() -> impl Iterator<Item = (Self, &'static str)> {
        TABLE.iter().map(|(_, arch, level, about)| (Self::new(*arch, *level), *about))
    }

    /// The targets whose code a library for any processor of an architecture holds, in order of their [`Self::number`].
    pub fn multi(arch: Arch) -> Vec<Self> {
        match arch {
            Arch::X86_64 => [Level::Base, Level::Avx2, Level::Avx512].map(|level| Self::new(arch, level)).to_vec(),
            Arch::Aarch64 => vec![Self::new(arch, Level::Fma)],
        }
    }

    /// Number of the level in a library: see [`fornax_runtime::artifact::LEVELS`].
    pub fn number(&self) -> u32 {
        match (self.arch, self.level) {
            (Arch::Aarch64, _) | (_, Level::Base) => 1,
            (_, Level::Fma) => 2,
            (_, Level::Avx2) => 3,
            (_, Level::Avx512) => 4,
        }
    }

    /// The best target of the machine this runs on, with its second-level cache where the system tells its size.
    ///
    /// # Errors
    /// The name of the architecture, if it is none of the targets'.
    pub fn host() -> Result<Self, String> {
        let runs = |target: &Self| target.runs_here();
        let best = Self::all().map(|(target, _)| target).filter(runs).last();
        let best = best.ok_or(std::env::consts::ARCH)?;
        Ok(Self { l2: second_level_cache().unwrap_or(best.l2), ..best })
    }

    /// The targets whose code this machine runs, narrowest first.
    pub fn runnable() -> Vec<Self> {
        Self::all().map(|(target, _)| target).filter(Self::runs_here).collect()
    }

    /// Whether this machine runs its code.
    pub fn runs_here(&self) -> bool {
        let arch = match self.arch {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
        };
        std::env::consts::ARCH == arch && CpuFeatures::detect().covers(self.features())
    }

    /// What a processor needs to run code for this target.
    pub fn features(&self) -> CpuFeatures {
        match self.arch {
            Arch::X86_64 => CpuFeatures::of_x86_64_level(self.number()),
            Arch::Aarch64 => CpuFeatures::default(),
        }
    }

    /// Whether a multiplication and addition round once.
    pub fn fma(&self) -> bool {
        self.level >= Level::Fma
    }

    /// `f32` lanes of the vectors that kernels use.
    pub fn lanes(&self) -> usize {
        match self.level {
            Level::Base | Level::Fma => 4,
            Level::Avx2 => 8,
            Level::Avx512 => 16,
        }
    }

    /// Vector registers of that width.
    pub fn vector_registers(&self) -> usize {
        match (self.arch, self.level) {
            (Arch::Aarch64, _) | (_, Level::Avx512) => 32,
            _ => 16,
        }
    }
}

/// Bytes of the second-level cache of this machine's first core.
fn second_level_cache() -> Option<usize> {
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
        let name = TABLE.iter().find(|(_, arch, level, _)| (*arch, *level) == (self.arch, self.level));
        f.write_str(name.map_or("unknown", |(name, ..)| name))
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = TABLE.iter().find(|(name, ..)| *name == text);
        found.map(|(_, arch, level, _)| Self::new(*arch, *level)).ok_or_else(|| {
            let names: Vec<&str> = TABLE.iter().map(|(name, ..)| *name).collect();
            format!("target {text}: expected one of {}", names.join(", "))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_parse_back() {
        for (target, _) in Target::all() {
            assert_eq!(target.to_string().parse(), Ok(target));
        }
        assert!("x86".parse::<Target>().unwrap_err().ends_with("x86-64-v4, aarch64"));
    }

    #[test]
    fn sizes_of_caches_are_read() {
        assert_eq!(["2048K", "512K"].map(cache_size), [Some(2 << 20), Some(512 << 10)]);
        assert_eq!(["", "K", "0K", "-1K", "99999999K", "2M"].map(cache_size), [None; 6]);
    }

    #[test]
    fn the_host_is_the_widest_that_runs() {
        let host = Target::host().unwrap();
        assert_eq!(Target::runnable().last(), Some(&Target::new(host.arch, host.level)));
        assert!(host.runs_here());
        assert!(CpuFeatures::detect().covers(host.features()));
    }
}
