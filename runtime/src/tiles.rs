//! Tile registers (AMX): whether there are any, and the system's permission to use them, which it gives to processes that ask.
#![allow(unsafe_code, reason = "asks the system by a call of its own")]

#[cfg(target_arch = "x86_64")]
use std::arch::asm;

#[cfg(target_arch = "x86_64")]
use crate::sync::OnceLock;

/// State component of tile data, by its bit in XCR0.
#[cfg(target_arch = "x86_64")]
const TILE_DATA: u64 = 18;

/// What the processor says of its AMX units, `edx` of leaf 7, if the operating system saves tile registers for processes that ask for them;
/// else 0. Looked up once.
pub(crate) fn units() -> u32 {
    #[cfg(target_arch = "x86_64")]
    {
        const ARCH_GET_XCOMP_SUPP: u64 = 0x1021;
        const TILE: u32 = 1 << 24;
        static UNITS: OnceLock<u32> = OnceLock::new();
        *UNITS.get_or_init(|| {
            let leaf = |leaf: u32| std::arch::x86_64::__cpuid_count(leaf, 0);
            let said = if leaf(0).eax >= 7 { leaf(7).edx } else { 0 };
            let mut supported = 0u64;
            let place = (&raw mut supported).expose_provenance() as u64;
            let saved = said & TILE != 0 && arch_prctl(ARCH_GET_XCOMP_SUPP, place) && supported & 1 << TILE_DATA != 0;
            if saved { said } else { 0 }
        })
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        0
    }
}

/// Asks the operating system, once, to let this process use tile registers; whether it may.
pub(crate) fn may_use_tiles() -> bool {
    #[cfg(target_arch = "x86_64")]
    {
        const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
        static GRANTED: OnceLock<bool> = OnceLock::new();
        *GRANTED.get_or_init(|| arch_prctl(ARCH_REQ_XCOMP_PERM, TILE_DATA))
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        false
    }
}

/// The system call; whether it succeeded.
#[cfg(target_arch = "x86_64")]
fn arch_prctl(code: u64, argument: u64) -> bool {
    const SYS_ARCH_PRCTL: u64 = 158;
    let result: i64;
    // SAFETY: the two codes that this file has ask for a permission, or write eight bytes to a local whose exposed address is the argument;
    // the system overwrites rcx and r11 besides.
    unsafe {
        asm!("syscall", inlateout("rax") SYS_ARCH_PRCTL => result, in("rdi") code, in("rsi") argument, out("rcx") _, out("r11") _, options(nostack));
    }
    result == 0
}
