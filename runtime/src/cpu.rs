//! The state that kernels need a thread in, and the processors it may run on.
//!
//! [`float_environment`] gives every thread the same rounding, so that results do not depend on what the host program did to its
//! own; its [`FloatMode`] is a property of the program that runs.
#![allow(unsafe_code, reason = "reads and writes the floating-point control register")]

use std::arch::asm;
use std::marker::PhantomData;

use rustix::thread::{CpuSet, sched_getaffinity, sched_getcpu, sched_setaffinity};

use crate::levels::Arch;
use crate::sync::available_parallelism;

/// What becomes of subnormal numbers while a program runs. Everything else is alike: rounding to nearest, nothing trapped.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum FloatMode {
    /// They are what they are.
    #[default]
    Ieee,
    /// They are zero, as operands and as results: what matrix units do, whatever they are told.
    Flush,
}

impl FloatMode {
    /// The control register: rounding to nearest, every exception masked, flags clear.
    pub const fn control(self, arch: Arch) -> u32 {
        match (arch, self) {
            (Arch::X86_64, FloatMode::Ieee) => 0x1f80,
            // Flush to zero, and denormals are zero.
            (Arch::X86_64, FloatMode::Flush) => 0x1f80 | 1 << 15 | 1 << 6,
            (Arch::Aarch64, FloatMode::Ieee) => 0,
            (Arch::Aarch64, FloatMode::Flush) => 1 << 24,
        }
    }

    /// Sets this thread's control register, whatever was in it.
    fn set(self) {
        write_float_control(u64::from(self.control(Arch::HOST)));
    }
}

/// Puts the floating-point state of this thread back when dropped, on the thread that made it.
#[must_use = "the state is put back at once if the guard is not kept"]
pub struct FloatGuard {
    saved: u64,
    mode: FloatMode,
    /// The state is the thread's, so the guard must not leave it.
    not_send: PhantomData<*const ()>,
}

/// Sets this thread to round to nearest, trap nothing and treat subnormals as `mode` says, until the guard is dropped.
///
/// Guards nest; drop them in reverse order.
pub fn float_environment(mode: FloatMode) -> FloatGuard {
    let saved = read_float_control();
    mode.set();
    FloatGuard { saved, mode, not_send: PhantomData }
}

impl FloatGuard {
    /// Changes the mode of the thread, at no cost where it is `mode` already.
    pub(crate) fn change(&mut self, mode: FloatMode) {
        if mode != self.mode {
            mode.set();
            self.mode = mode;
        }
    }
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
        // SAFETY: loads MXCSR from a local; the value is that of a mode or one that was read from there, so
        // no reserved bit is set. Calls of kernels stay on their side of it, as it may touch memory.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const mxcsr, options(nostack)) };
    }
    #[cfg(target_arch = "aarch64")]
    // SAFETY: writes a register of this thread with the value of a mode or one that was read from it.
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

/// The processor this thread runs on at the moment.
pub(crate) fn current_cpu() -> usize {
    sched_getcpu()
}

/// The first of the processors that share a core with `cpu`; `cpu` itself when the system does not say.
pub(crate) fn first_sibling(cpu: usize) -> usize {
    let path = format!("/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list");
    let list = std::fs::read_to_string(path).unwrap_or_default();
    first_in(&list).unwrap_or(cpu)
}

/// The first number of a list such as `0,64` or `2-3`.
fn first_in(list: &str) -> Option<usize> {
    list.trim().split([',', '-']).next()?.parse().ok()
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
    fn the_float_environment_is_set_and_put_back() {
        let [ieee, flush] = [FloatMode::Ieee, FloatMode::Flush].map(|mode| u64::from(mode.control(Arch::HOST)));
        let odd = flush | if cfg!(target_arch = "x86_64") { 0x2000 } else { 0b10 << 22 }; // round down
        let original = read_float_control();
        write_float_control(odd);
        let guard = float_environment(FloatMode::Ieee);
        let inside = read_float_control();
        let mut nested = float_environment(FloatMode::Flush);
        let inside_nested = read_float_control();
        nested.change(FloatMode::Ieee);
        let changed = read_float_control();
        drop(nested);
        let after_nested = read_float_control();
        drop(guard);
        let after = read_float_control();
        write_float_control(original);
        assert_eq!((inside, inside_nested, changed, after_nested, after), (ieee, flush, ieee, ieee, odd));
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
    fn siblings() {
        assert_eq!(["0,64\n", "2-3\n", "17\n", "\n"].map(first_in), [Some(0), Some(2), Some(17), None]);
        assert_eq!(first_sibling(usize::MAX), usize::MAX);
        assert!(first_sibling(current_cpu()) <= current_cpu() || allowed_cpus().len() > 1);
    }

    #[test]
    fn model_names() {
        assert_eq!(model_name_in("processor\t: 0\nmodel name\t: A: CPU\nmodel name: B\n"), Some("A: CPU"));
        assert_eq!(model_name_in("BogoMIPS : 50\nmodel name :  \n"), None);
        assert!(!model_name().is_empty());
    }
}
