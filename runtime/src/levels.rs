//! The levels: sets of vector instructions that code is compiled for, said once.
//!
//! In: the table below. Out: for the loader what a level's number means and needs; for the compiler the vectors that its kernels may
//! use; for compiled libraries the bits of `cpuid` that `init` tests; for headers, documentation and messages the names. Levels of
//! one architecture stand in the order of preference: of those that a processor runs, the last is the best. Levels of different
//! architectures have nothing in common, their numbers included.

use std::fmt;

use crate::features::CpuFeatures;

/// Instruction-set architecture.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

impl Arch {
    /// The architecture that this is.
    pub const HOST: Arch = if cfg!(target_arch = "x86_64") { Arch::X86_64 } else { Arch::Aarch64 };

    /// Its number in a library.
    pub const fn number(self) -> u32 {
        match self {
            Arch::X86_64 => 1,
            Arch::Aarch64 => 2,
        }
    }

    /// Its name, as target triples begin.
    pub const fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
        }
    }

    /// Its levels, in order of preference.
    pub fn levels(self) -> impl DoubleEndedIterator<Item = &'static Level> {
        LEVELS.iter().copied().filter(move |level| level.arch == self)
    }
}

/// The vector registers of a level, and what instructions can do with them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Vectors {
    /// 32-bit lanes of a register.
    pub lanes: usize,
    /// Number of registers.
    pub registers: usize,
    /// Whether a multiplication and addition round once.
    pub fma: bool,
    /// Whether there are registers of masks, that instructions leave out lanes by.
    pub masks: bool,
    /// Whether an operand can be one element in memory, for every lane.
    pub embedded_broadcast: bool,
    /// Whether there are tile registers.
    pub tiles: bool,
}

/// Which code generator writes a level's kernels.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Backend {
    /// Cranelift, whose vectors have 128 bits.
    Cranelift,
    /// Our own encoder for x86-64, for vectors of 256 and 512 bits.
    X86,
}

/// A set of vector instructions.
#[derive(PartialEq, Eq, Hash)]
pub struct Level {
    /// Number in a library and for its `init`; 0, which no level has, asks for the best of the processor.
    pub number: u32,
    /// Architecture.
    pub arch: Arch,
    /// Name.
    pub name: &'static str,
    /// Other names that are understood.
    pub aliases: &'static [&'static str],
    /// What it is, in a few words.
    pub about: &'static str,
    /// What a processor needs.
    pub features: CpuFeatures,
    /// Vectors of its kernels.
    pub vectors: Vectors,
    /// Who writes its kernels.
    pub backend: Backend,
    /// Whether a library for every processor of the architecture holds code for it.
    pub multi: bool,
}

const V2: CpuFeatures =
    CpuFeatures { sse3: true, ssse3: true, sse41: true, sse42: true, popcnt: true, ..CpuFeatures::NONE };
const V3: CpuFeatures = CpuFeatures { avx: true, avx2: true, fma: true, bmi1: true, bmi2: true, lzcnt: true, ..V2 };

/// 128-bit vectors, multiplication and addition apart.
pub static X86_64: Level = Level {
    number: 1,
    arch: Arch::X86_64,
    name: "x86-64",
    aliases: &["x86-64-v2"],
    about: "SSE4.2, 128-bit vectors, no fused multiply-add",
    features: V2,
    vectors: Vectors { lanes: 4, registers: 16, fma: false, masks: false, embedded_broadcast: false, tiles: false },
    backend: Backend::Cranelift,
    multi: true,
};

/// 128-bit vectors with FMA.
pub static X86_64_FMA: Level = Level {
    number: 2,
    arch: Arch::X86_64,
    name: "x86-64-fma",
    aliases: &[],
    about: "FMA and what AVX2 comes with, 128-bit vectors",
    features: V3,
    vectors: Vectors { fma: true, ..X86_64.vectors },
    backend: Backend::Cranelift,
    multi: false,
};

/// 256-bit vectors with FMA.
pub static X86_64_V3: Level = Level {
    number: 3,
    arch: Arch::X86_64,
    name: "x86-64-v3",
    aliases: &["avx2"],
    about: "AVX2 and FMA, 256-bit vectors",
    features: V3,
    vectors: Vectors { lanes: 8, registers: 16, fma: true, masks: false, embedded_broadcast: false, tiles: false },
    backend: Backend::X86,
    multi: true,
};

/// 512-bit vectors.
pub static X86_64_V4: Level = Level {
    number: 4,
    arch: Arch::X86_64,
    name: "x86-64-v4",
    aliases: &["avx512"],
    about: "AVX-512 F, VL, DQ and BW, 512-bit vectors",
    features: CpuFeatures { avx512: true, ..V3 },
    vectors: Vectors { lanes: 16, registers: 32, fma: true, masks: true, embedded_broadcast: true, tiles: false },
    backend: Backend::X86,
    multi: true,
};

/// Tile registers next to 512-bit vectors.
pub static X86_64_AMX: Level = Level {
    number: 5,
    arch: Arch::X86_64,
    name: "x86-64-amx",
    aliases: &["amx"],
    about: "AMX for bf16 and int8, AVX-512 with BF16, 512-bit vectors",
    features: CpuFeatures { avx512_bf16: true, amx_tile: true, amx_bf16: true, amx_int8: true, ..X86_64_V4.features },
    vectors: Vectors { tiles: true, ..X86_64_V4.vectors },
    backend: Backend::X86,
    multi: true,
};

/// 128-bit vectors of 64-bit Arm.
pub static AARCH64: Level = Level {
    number: 1,
    arch: Arch::Aarch64,
    name: "aarch64",
    aliases: &["neon"],
    about: "Advanced SIMD, 128-bit vectors",
    features: CpuFeatures { neon: true, ..CpuFeatures::NONE },
    vectors: Vectors { lanes: 4, registers: 32, fma: true, masks: false, embedded_broadcast: false, tiles: false },
    backend: Backend::Cranelift,
    multi: true,
};

/// Every level.
pub static LEVELS: [&Level; 6] = [&X86_64, &X86_64_FMA, &X86_64_V3, &X86_64_V4, &X86_64_AMX, &AARCH64];

impl Level {
    /// The level of a name or alias.
    pub fn named(name: &str) -> Option<&'static Level> {
        LEVELS.into_iter().find(|level| level.name == name || level.aliases.contains(&name))
    }

    /// The level of a number in a library for an architecture.
    pub fn numbered(arch: Arch, number: u32) -> Option<&'static Level> {
        arch.levels().find(|level| level.number == number)
    }

    /// The next worse level of its architecture.
    pub fn below(&self) -> Option<&'static Level> {
        self.arch.levels().take_while(|level| *level != self).last()
    }

    /// Whether this machine runs its code, if the operating system gives the process what it has to ask for: see [`Level::usable_here`].
    pub fn runs_here(&self) -> bool {
        self.arch == Arch::HOST && CpuFeatures::detect().covers(self.features)
    }

    /// Whether this process runs its code. For a level of tile registers this asks for the permission to use them, which is the process's
    /// from then on: so it is a question for who has such code to run.
    pub fn usable_here(&self) -> bool {
        self.arch == Arch::HOST && CpuFeatures::prove(self.features).is_ok()
    }
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}

impl fmt::Debug for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_stand_for_one_level_each() {
        for level in LEVELS {
            assert_eq!(Level::numbered(level.arch, level.number), Some(level));
            for name in level.aliases.iter().chain([&level.name]) {
                assert_eq!(Level::named(name), Some(level), "{name}");
            }
        }
        assert_eq!((Level::named("avx"), Level::numbered(Arch::Aarch64, 2)), (None, None));
        assert!(LEVELS.iter().all(|level| (1..32).contains(&level.number)), "init keeps a bit for each");
    }

    /// Whoever runs nothing else runs the first level, and more features never mean a worse level.
    #[test]
    fn levels_stand_in_order_of_preference() {
        for arch in [Arch::X86_64, Arch::Aarch64] {
            let levels: Vec<_> = arch.levels().collect();
            for (worse, better) in levels.iter().zip(&levels[1..]) {
                assert!(!worse.features.covers(better.features) || worse.features == better.features);
                assert!(better.features.covers(levels[0].features) && worse.vectors.lanes <= better.vectors.lanes);
                assert_eq!(better.below(), Some(*worse));
                // What a level of tile registers adds to the one below is of no use without them.
                let other = Vectors { tiles: better.vectors.tiles, ..worse.vectors };
                assert!(!better.vectors.tiles || other == better.vectors && better.features.covers(worse.features));
            }
            assert!(
                levels[0].below().is_none() && levels.iter().all(|level| !level.usable_here() || level.runs_here())
            );
            assert!(levels[0].multi, "a library for every processor");
        }
        assert!(Arch::HOST.levels().any(Level::runs_here));
    }
}
