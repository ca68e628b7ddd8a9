//! Instruction-set extensions: what they are called, how this machine is asked for them, and where `cpuid` tells of them.
//!
//! In: the table below. Out: [`CpuFeatures`], a set of them, and [`HostProof`]: [`CpuFeatures::prove`] is its only maker, and
//! `Program::new` demands one, so that code for instructions that the host lacks cannot be reached.

use std::fmt;

use crate::error::Error;
use crate::sync::OnceLock;
use crate::tiles;

/// A register that `cpuid` answers in, by its place in that answer.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum Answer {
    /// `eax`.
    Eax,
    /// `ebx`.
    Ebx,
    /// `ecx`.
    Ecx,
    /// `edx`.
    Edx,
}

/// Bits of a register that `cpuid` sets.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct CpuidBits {
    /// What `eax` asks for.
    pub leaf: u32,
    /// What `ecx` asks for.
    pub subleaf: u32,
    /// Where the answer stands.
    pub answer: Answer,
    /// The bits that are all set.
    pub bits: u32,
}

/// Registers that the operating system saves (bits of XCR0): those of SSE and AVX.
const YMM: u64 = 0b110;
/// And the masks and upper halves of AVX-512.
const ZMM: u64 = YMM | 0b1110_0000;
/// And those of tiles.
const TMM: u64 = ZMM | 0b110 << 16;

macro_rules! features {
    ($($(#[$doc:meta])* $field:ident = $detect:expr, cpuid [$(($leaf:literal, $subleaf:literal, $answer:ident, $bits:expr)),*], saved $saved:expr;)*) => {
        /// Instruction-set extensions, of a processor or needed by some code.
        ///
        /// The default has none of them: on x86-64 that means SSE2.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub struct CpuFeatures {
            $($(#[$doc])* pub $field: bool,)*
        }

        impl CpuFeatures {
            /// None of them.
            pub const NONE: CpuFeatures = CpuFeatures { $($field: false,)* };

            fn read() -> CpuFeatures {
                CpuFeatures { $($field: $detect,)* }
            }

            /// What `self` has and `other` lacks.
            pub fn without(&self, other: CpuFeatures) -> CpuFeatures {
                CpuFeatures { $($field: self.$field && !other.$field,)* }
            }

            /// The names of what it has, in order of declaration.
            pub fn names(&self) -> Vec<&'static str> {
                [$((self.$field, stringify!($field)),)*].into_iter().filter_map(|(on, name)| on.then_some(name)).collect()
            }

            /// The bits of `cpuid` that tell of what it has, in order of declaration.
            pub fn cpuid(&self) -> Vec<CpuidBits> {
                let all: &[(bool, &[CpuidBits])] = &[$((self.$field, &[$(
                    CpuidBits { leaf: $leaf, subleaf: $subleaf, answer: Answer::$answer, bits: $bits }
                ),*]),)*];
                all.iter().filter(|(on, _)| *on).flat_map(|(_, bits)| bits.iter().copied()).collect()
            }

            /// The bits of XCR0 that are set where the operating system saves the registers it needs.
            pub fn saved(&self) -> u64 {
                [$((self.$field, $saved),)*].into_iter().filter(|(on, _)| *on).fold(0, |all, (_, saved)| all | saved)
            }
        }
    };
}

/// Detects an x86-64 feature; false on other machines.
macro_rules! x86 {
    ($($name:tt),+) => {{
        #[cfg(target_arch = "x86_64")]
        { true $(&& std::arch::is_x86_feature_detected!($name))+ }
        #[cfg(not(target_arch = "x86_64"))]
        { false }
    }};
}

features! {
    /// SSE3.
    sse3 = x86!("sse3"), cpuid [(1, 0, Ecx, 1)], saved 0;
    /// SSSE3.
    ssse3 = x86!("ssse3"), cpuid [(1, 0, Ecx, 1 << 9)], saved 0;
    /// SSE4.1.
    sse41 = x86!("sse4.1"), cpuid [(1, 0, Ecx, 1 << 19)], saved 0;
    /// SSE4.2.
    sse42 = x86!("sse4.2"), cpuid [(1, 0, Ecx, 1 << 20)], saved 0;
    /// POPCNT.
    popcnt = x86!("popcnt"), cpuid [(1, 0, Ecx, 1 << 23)], saved 0;
    /// AVX, with the operating system saving its registers.
    avx = x86!("avx"), cpuid [(1, 0, Ecx, 1 << 28)], saved YMM;
    /// Half-precision conversions.
    f16c = x86!("f16c"), cpuid [(1, 0, Ecx, 1 << 29)], saved YMM;
    /// AVX2.
    avx2 = x86!("avx2"), cpuid [(7, 0, Ebx, 1 << 5)], saved YMM;
    /// Fused multiply-add on 128 and 256 bits.
    fma = x86!("fma"), cpuid [(1, 0, Ecx, 1 << 12)], saved YMM;
    /// BMI1.
    bmi1 = x86!("bmi1"), cpuid [(7, 0, Ebx, 1 << 3)], saved 0;
    /// BMI2.
    bmi2 = x86!("bmi2"), cpuid [(7, 0, Ebx, 1 << 8)], saved 0;
    /// LZCNT.
    lzcnt = x86!("lzcnt"), cpuid [(0x8000_0001, 0, Ecx, 1 << 5)], saved 0;
    /// AVX-512 F, VL, DQ and BW together, with the operating system saving their registers.
    avx512 = x86!("avx512f", "avx512vl", "avx512dq", "avx512bw"),
        cpuid [(7, 0, Ebx, 1 << 16 | 1 << 17 | 1 << 30 | 1 << 31)], saved ZMM;
    /// AVX-512 byte dot products.
    avx512_vnni = x86!("avx512vnni"), cpuid [(7, 0, Ecx, 1 << 11)], saved ZMM;
    /// AVX-512 bf16 dot products.
    avx512_bf16 = x86!("avx512bf16"), cpuid [(7, 1, Eax, 1 << 5)], saved ZMM;
    /// AMX tile registers, which the operating system lets processes use that ask for it: see [`CpuFeatures::prove`].
    amx_tile = tiles::units() & 1 << 24 != 0, cpuid [(7, 0, Edx, 1 << 24)], saved TMM;
    /// AMX products of bf16.
    amx_bf16 = tiles::units() & 1 << 22 != 0, cpuid [(7, 0, Edx, 1 << 22)], saved TMM;
    /// AMX products of 8-bit integers.
    amx_int8 = tiles::units() & 1 << 25 != 0, cpuid [(7, 0, Edx, 1 << 25)], saved TMM;
    /// aarch64 Advanced SIMD.
    neon = cfg!(target_arch = "aarch64"), cpuid [], saved 0;
}

impl CpuFeatures {
    /// What this machine has; looked up once.
    pub fn detect() -> CpuFeatures {
        static HOST: OnceLock<CpuFeatures> = OnceLock::new();
        *HOST.get_or_init(CpuFeatures::read)
    }

    /// True when everything in `needed` is in `self`.
    pub fn covers(&self, needed: CpuFeatures) -> bool {
        needed.without(*self) == CpuFeatures::NONE
    }

    /// Proves that this machine has all of `needed`, or says what is missing. Who needs tile registers asks the operating system for them
    /// here: the permission is the process's from then on, its threads' and children's.
    pub fn prove(needed: CpuFeatures) -> Result<HostProof, Error> {
        let mut missing = needed.without(CpuFeatures::detect());
        if needed.amx_tile && !missing.amx_tile && !tiles::may_use_tiles() {
            missing.amx_tile = true;
        }
        if missing != CpuFeatures::NONE {
            return Err(Error::MissingFeatures { needed, missing });
        }
        Ok(HostProof(needed))
    }
}

impl fmt::Display for CpuFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.names();
        f.pad(&if names.is_empty() { "no extensions".to_owned() } else { names.join(",") })
    }
}

impl fmt::Debug for CpuFeatures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CpuFeatures({self})")
    }
}

/// Evidence that this machine can run code compiled for certain features.
#[derive(Clone, Copy, Debug)]
pub struct HostProof(CpuFeatures);

impl HostProof {
    /// The features proven.
    pub fn features(&self) -> CpuFeatures {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proof_names_what_is_missing() {
        let host = CpuFeatures::detect();
        assert!(host.covers(CpuFeatures::NONE) && host.covers(host));
        assert_eq!(CpuFeatures::prove(host).unwrap().features(), host);
        // No machine has both.
        let needed = CpuFeatures { neon: true, sse3: true, ..host };
        assert!(!host.covers(needed));
        match CpuFeatures::prove(needed) {
            Err(Error::MissingFeatures { missing, .. }) => {
                assert_eq!(missing.names(), if cfg!(target_arch = "x86_64") { ["neon"] } else { ["sse3"] });
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn features_print_in_order() {
        let features = CpuFeatures { fma: true, avx: true, ..CpuFeatures::NONE };
        assert_eq!(features.to_string(), "avx,fma");
        assert_eq!(CpuFeatures::default().to_string(), "no extensions");
    }

    /// What the table says of `cpuid` is what the standard library finds there.
    #[cfg(target_arch = "x86_64")]
    #[test]
    fn cpuid_tells_of_the_host_what_detection_finds() {
        use std::arch::x86_64::{__cpuid, __cpuid_count};
        let host = CpuFeatures::detect();
        let set = |word: &CpuidBits| {
            let least = __cpuid(word.leaf & 0x8000_0000).eax;
            let found = __cpuid_count(word.leaf, word.subleaf);
            let found = match word.answer {
                Answer::Eax => found.eax,
                Answer::Ebx => found.ebx,
                Answer::Ecx => found.ecx,
                Answer::Edx => found.edx,
            };
            least >= word.leaf && found & word.bits == word.bits
        };
        assert!(host.cpuid().iter().all(set), "{host}");
        // What needs no register saved is there if its bits are.
        let plain =
            CpuFeatures { sse3: true, ssse3: true, sse41: true, sse42: true, popcnt: true, ..CpuFeatures::NONE };
        assert_eq!(plain.cpuid().iter().all(set), host.covers(plain));
        assert_eq!((plain.saved(), host.saved() & !TMM), (0, 0));
    }
}
