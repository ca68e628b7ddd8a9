//! The machine a plan is made for: architecture, vector features, cache sizes.
//!
//! A target prints as one word (`x86-64-v3`, …) and parses back. Cache sizes guide schedules only: no target may change a bit
//! of a result, except x86-64 without FMA, which multiplies and adds.

use std::fmt;
use std::str::FromStr;

/// Instruction-set architecture.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit Arm.
    Aarch64,
}

/// A machine to compile for.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Target {
    /// Architecture.
    pub arch: Arch,
    /// AVX and FMA may be used (x86-64); always true on aarch64, whose baseline has both vectors and FMA.
    pub fma: bool,
    /// Size of the second-level cache of one core, bytes.
    pub l2: usize,
}

/// Names of the targets, for `targets` and error messages.
pub const NAMES: &[&str] = &["x86-64", "x86-64-v3", "aarch64"];

impl Target {
    /// The baseline x86-64 with FMA and 128-bit vectors.
    pub fn x86_64_v3() -> Self {
        Self { arch: Arch::X86_64, fma: true, l2: 1 << 20 }
    }

    /// The target of the machine this runs on.
    ///
    /// # Errors
    /// The name of the architecture, if it is none of [`NAMES`].
    pub fn host() -> Result<Self, String> {
        match std::env::consts::ARCH {
            "x86_64" => Ok(Self { fma: fornax_runtime::CpuFeatures::detect().fma, ..Self::x86_64_v3() }),
            "aarch64" => Ok(Self { arch: Arch::Aarch64, fma: true, l2: 1 << 20 }),
            other => Err(other.into()),
        }
    }

    /// `f32` lanes of the vectors that kernels use.
    pub fn lanes(&self) -> usize {
        4
    }

    /// Vector registers of that width.
    pub fn vector_registers(&self) -> usize {
        match self.arch {
            Arch::X86_64 => 16,
            Arch::Aarch64 => 32,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.arch, self.fma) {
            (Arch::X86_64, false) => "x86-64",
            (Arch::X86_64, true) => "x86-64-v3",
            (Arch::Aarch64, _) => "aarch64",
        })
    }
}

impl FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "x86-64" => Ok(Self { fma: false, ..Self::x86_64_v3() }),
            "x86-64-v3" => Ok(Self::x86_64_v3()),
            "aarch64" => Ok(Self { arch: Arch::Aarch64, fma: true, l2: 1 << 20 }),
            other => Err(format!("target {other}: expected one of {}", NAMES.join(", "))),
        }
    }
}
