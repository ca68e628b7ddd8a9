//! What the host's processor can do, and the state that kernels need it in.
//!
//! [`CpuFeatures::prove`] is the only maker of [`HostProof`], and `Program::new` demands one: code for instructions
//! that the host lacks cannot be reached. [`float_environment`] gives every thread the same rounding, so that results
//! do not depend on what the host program did to its own.
#![allow(unsafe_code, reason = "reads and writes the floating-point control register")]

use std::arch::asm;
use std::fmt;
use std::marker::PhantomData;

use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

use crate::error::Error;
use crate::sync::{OnceLock, available_parallelism};

macro_rules! features {
    ($($(#[$doc:meta])* $field:ident = $detect:expr;)*) => {
        /// Instruction-set extensions, of a processor or needed by some code.
        ///
        /// The default has none of them: on x86-64 that means SSE2.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub struct CpuFeatures {
            $($(#[$doc])* pub $field: bool,)*
        }

        impl CpuFeatures {
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
    sse3 = x86!("sse3");
    /// SSSE3.
    ssse3 = x86!("ssse3");
    /// SSE4.1.
    sse41 = x86!("sse4.1");
    /// SSE4.2.
    sse42 = x86!("sse4.2");
    /// POPCNT.
    popcnt = x86!("popcnt");
    /// AVX, with the operating system saving its registers.
    avx = x86!("avx");
    /// Half-precision conversions.
    f16c = x86!("f16c");
    /// AVX2.
    avx2 = x86!("avx2");
    /// Fused multiply-add on 128 and 256 bits.
    fma = x86!("fma");
    /// BMI1.
    bmi1 = x86!("bmi1");
    /// BMI2.
    bmi2 = x86!("bmi2");
    /// LZCNT.
    lzcnt = x86!("lzcnt");
    /// AVX-512 F, VL, DQ and BW together, with the operating system saving their registers.
    avx512 = x86!("avx512f", "avx512vl", "avx512dq", "avx512bw");
    /// AVX-512 byte dot products.
    avx512_vnni = x86!("avx512vnni");
    /// AVX-512 bf16 dot products.
    avx512_bf16 = x86!("avx512bf16");
    /// aarch64 Advanced SIMD.
    neon = cfg!(target_arch = "aarch64");
}

impl CpuFeatures {
    /// What this machine has; looked up once.
    pub fn detect() -> CpuFeatures {
        static HOST: OnceLock<CpuFeatures> = OnceLock::new();
        *HOST.get_or_init(CpuFeatures::read)
    }

    /// What code of an x86-64 level, by its number in [`crate::artifact::LEVELS`], needs.
    pub fn of_x86_64_level(number: u32) -> CpuFeatures {
        let wide = number >= 2;
        CpuFeatures {
            sse3: true,
            ssse3: true,
            sse41: true,
            sse42: true,
            popcnt: true,
            avx: wide,
            avx2: wide,
            fma: wide,
            bmi1: wide,
            bmi2: wide,
            lzcnt: wide,
            avx512: number >= 4,
            ..CpuFeatures::default()
        }
    }

    /// True when everything in `needed` is in `self`.
    pub fn covers(&self, needed: CpuFeatures) -> bool {
        needed.without(*self) == CpuFeatures::default()
    }

    /// Proves that this machine has all of `needed`, or says what is missing.
    pub fn prove(needed: CpuFeatures) -> Result<HostProof, Error> {
        let missing = needed.without(CpuFeatures::detect());
        if missing != CpuFeatures::default() {
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

/// Rounding to nearest, subnormals kept, every exception masked.
#[cfg(target_arch = "x86_64")]
const FLOAT_CONTROL: u64 = 0x1f80;
/// Rounding to nearest, subnormals kept, no exception traps.
#[cfg(target_arch = "aarch64")]
const FLOAT_CONTROL: u64 = 0;

/// Puts the floating-point state of this thread back when dropped, on the thread that made it.
#[must_use = "the state is put back at once if the guard is not kept"]
pub struct FloatGuard {
    saved: u64,
    /// The state is the thread's, so the guard must not leave it.
    not_send: PhantomData<*const ()>,
}

/// Sets this thread to round to nearest, keep subnormals and trap nothing, until the guard is dropped.
///
/// Guards nest; drop them in reverse order.
pub fn float_environment() -> FloatGuard {
    let saved = read_float_control();
    write_float_control(FLOAT_CONTROL);
    FloatGuard { saved, not_send: PhantomData }
}

impl Drop for FloatGuard {
    fn drop(&mut self) {
        write_float_control(self.saved);
    }
}

fn read_float_control() -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        let mut mxcsr = 0u32;
        // SAFETY: stores MXCSR in the four bytes of a local.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut mxcsr, options(nostack, preserves_flags)) };
        u64::from(mxcsr)
    }
    #[cfg(target_arch = "aarch64")]
    {
        let fpcr: u64;
        // SAFETY: reads a register of this thread. No `nomem`, so that it stays in order with memory accesses.
        unsafe { asm!("mrs {}, fpcr", out(reg) fpcr, options(nostack, preserves_flags)) };
        fpcr
    }
}

fn write_float_control(value: u64) {
    #[cfg(target_arch = "x86_64")]
    {
        let mxcsr = value as u32;
        // SAFETY: loads MXCSR from a local; the value is the architecture's default or one that was read from there, so
        // no reserved bit is set. Calls of kernels stay on their side of it, as it may touch memory.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const mxcsr, options(nostack)) };
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: writes a register of this thread with its default or a value that was read from it.
    unsafe {
        asm!("msr fpcr, {}", in(reg) value, options(nostack, preserves_flags));
    }
}

/// How many threads can run at once: processors of the affinity mask, or the quota of the control group; at least 1.
pub fn available_threads() -> usize {
    available_parallelism().map_or(1, std::num::NonZero::get)
}

/// The processors this thread may run on, ascending; empty when the system does not say.
pub fn allowed_cpus() -> Vec<usize> {
    match sched_getaffinity(None) {
        Ok(set) => (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)).collect(),
        Err(_) => Vec::new(),
    }
}

/// Binds this thread to one processor; false when there is no such processor or the system refuses.
///
/// Threads started from here on inherit the binding, so create the pool first.
pub fn pin_current_thread(cpu: usize) -> bool {
    if cpu >= CpuSet::MAX_CPU {
        return false;
    }
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).is_ok()
}

/// The processor's own name, `unknown` when the system does not give one.
pub fn model_name() -> String {
    let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    model_name_in(&text).unwrap_or("unknown").to_owned()
}

fn model_name_in(cpuinfo: &str) -> Option<&str> {
    let fields = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    let named = fields.filter(|(key, value)| key.trim() == "model name" && !value.trim().is_empty());
    named.map(|(_, value)| value.trim()).next()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proof_names_what_is_missing() {
        let host = CpuFeatures::detect();
        assert!(host.covers(CpuFeatures::default()) && host.covers(host));
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
        let features = CpuFeatures { fma: true, avx: true, ..CpuFeatures::default() };
        assert_eq!(features.to_string(), "avx,fma");
        assert_eq!(CpuFeatures::default().to_string(), "no extensions");
    }

    #[test]
    fn the_float_environment_is_set_and_put_back() {
        #[cfg(target_arch = "x86_64")]
        let odd = FLOAT_CONTROL | 0x8000 | 0x0040 | 0x2000; // flush to zero, denormals are zero, round down
        #[cfg(target_arch = "aarch64")]
        let odd = 1 << 24 | 0b10 << 22; // flush to zero, round down
        let original = read_float_control();
        write_float_control(odd);
        let guard = float_environment();
        let inside = read_float_control();
        let nested = float_environment();
        drop(nested);
        let after_nested = read_float_control();
        drop(guard);
        let after = read_float_control();
        write_float_control(original);
        assert_eq!((inside, after_nested, after), (FLOAT_CONTROL, FLOAT_CONTROL, odd));
    }

    #[test]
    fn pinning_binds_to_one_processor() {
        std::thread::spawn(|| {
            let cpu = *allowed_cpus().last().unwrap();
            assert!(pin_current_thread(cpu));
            assert_eq!(allowed_cpus(), [cpu]);
            assert!(!pin_current_thread(usize::MAX));
        })
        .join()
        .unwrap();
        assert!(available_threads() >= 1);
    }

    #[test]
    fn model_names() {
        assert_eq!(model_name_in("processor\t: 0\nmodel name\t: A: CPU\nmodel name: B\n"), Some("A: CPU"));
        assert_eq!(model_name_in("BogoMIPS : 50\nmodel name :  \n"), None);
        assert!(!model_name().is_empty());
    }
}
