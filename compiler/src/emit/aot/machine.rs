//! What Cranelift has no instructions for: identification of the processor, a system call, and the floating-point control register.
//!
//! In: an architecture. Out: the bytes of functions that [`super::entry`] calls, each with the instructions it holds next to it.
//! They keep to System V and use no stack beyond the red zone, which a signal handler spares.

use fornax_runtime::FloatMode;

use crate::target::Arch;

/// `fn(leaf, subleaf, out: *mut [u32; 4])`: eax, ebx, ecx, edx of `cpuid`.
pub const CPUID: &[u8] = &[
    0x53, // push rbx
    0x49, 0x89, 0xd0, // mov r8, rdx
    0x89, 0xf8, // mov eax, edi
    0x89, 0xf1, // mov ecx, esi
    0x0f, 0xa2, // cpuid
    0x41, 0x89, 0x00, // mov [r8], eax
    0x41, 0x89, 0x58, 0x04, // mov [r8+4], ebx
    0x41, 0x89, 0x48, 0x08, // mov [r8+8], ecx
    0x41, 0x89, 0x50, 0x0c, // mov [r8+0Ch], edx
    0x5b, // pop rbx
    0xc3, // ret
];

/// `fn() -> u64`: which registers the operating system saves.
pub const XGETBV: &[u8] = &[
    0x31, 0xc9, // xor ecx, ecx
    0x0f, 0x01, 0xd0, // xgetbv
    0x48, 0xc1, 0xe2, 0x20, // shl rdx, 20h
    0x48, 0x09, 0xd0, // or rax, rdx
    0xc3, // ret
];

/// `fn(code: u64, argument: u64) -> u64`: the system call of this name on Linux; 0 where it succeeded.
pub const ARCH_PRCTL: &[u8] = &[
    0xb8, 0x9e, 0, 0, 0, // mov eax, 9eh
    0x0f, 0x05, // syscall
    0xc3, // ret
];

/// `fn() -> u32`: rounds to nearest, traps nothing, keeps or flushes subnormals; returns the state before.
pub const fn float_enter(arch: Arch, mode: FloatMode) -> &'static [u8] {
    match (arch, mode) {
        (Arch::X86_64, FloatMode::Ieee) => &[
            0x0f, 0xae, 0x5c, 0x24, 0xf8, // stmxcsr [rsp-8]
            0x8b, 0x44, 0x24, 0xf8, // mov eax, [rsp-8]
            0xc7, 0x44, 0x24, 0xf8, 0x80, 0x1f, 0, 0, // mov dword [rsp-8], 1f80h
            0x0f, 0xae, 0x54, 0x24, 0xf8, // ldmxcsr [rsp-8]
            0xc3, // ret
        ],
        (Arch::X86_64, FloatMode::Flush) => &[
            0x0f, 0xae, 0x5c, 0x24, 0xf8, // stmxcsr [rsp-8]
            0x8b, 0x44, 0x24, 0xf8, // mov eax, [rsp-8]
            0xc7, 0x44, 0x24, 0xf8, 0xc0, 0x9f, 0, 0, // mov dword [rsp-8], 9fc0h
            0x0f, 0xae, 0x54, 0x24, 0xf8, // ldmxcsr [rsp-8]
            0xc3, // ret
        ],
        (Arch::Aarch64, FloatMode::Ieee) => &[
            0x00, 0x44, 0x3b, 0xd5, // mrs x0, fpcr
            0x1f, 0x44, 0x1b, 0xd5, // msr fpcr, xzr
            0xc0, 0x03, 0x5f, 0xd6, // ret
        ],
        (Arch::Aarch64, FloatMode::Flush) => &[
            0x00, 0x44, 0x3b, 0xd5, // mrs x0, fpcr
            0x01, 0x20, 0xa0, 0xd2, // mov x1, #0x1000000
            0x01, 0x44, 0x1b, 0xd5, // msr fpcr, x1
            0xc0, 0x03, 0x5f, 0xd6, // ret
        ],
    }
}

/// `fn(state: u32)`: puts back what [`float_enter`] returned.
pub const fn float_leave(arch: Arch) -> &'static [u8] {
    match arch {
        Arch::X86_64 => &[
            0x89, 0x7c, 0x24, 0xf8, // mov [rsp-8], edi
            0x0f, 0xae, 0x54, 0x24, 0xf8, // ldmxcsr [rsp-8]
            0xc3, // ret
        ],
        Arch::Aarch64 => &[
            0x00, 0x44, 0x1b, 0xd5, // msr fpcr, x0
            0xc0, 0x03, 0x5f, 0xd6, // ret
        ],
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::x86::disassemble;

    #[test]
    fn entering_sets_what_a_mode_says() {
        for mode in [FloatMode::Ieee, FloatMode::Flush] {
            let control = mode.control(Arch::X86_64).to_le_bytes();
            assert!(float_enter(Arch::X86_64, mode).windows(4).any(|bytes| bytes == control), "{mode:?}");
        }
    }

    #[test]
    fn bytes_are_the_instructions_beside_them() {
        let enter = |mode| float_enter(Arch::X86_64, mode);
        for code in
            [CPUID, XGETBV, ARCH_PRCTL, enter(FloatMode::Ieee), enter(FloatMode::Flush), float_leave(Arch::X86_64)]
        {
            let source = include_str!("machine.rs");
            for line in disassemble(code).lines() {
                let bare = |text: &str| text.to_lowercase().replace([' ', '\t'], "").replace("dwordptr", "dword");
                // The offset stands before two blanks.
                let Some((_, line)) = line.trim_start().split_once("  ") else { continue };
                let noted = source
                    .lines()
                    .filter_map(|noted| noted.split_once("// "))
                    .any(|(_, text)| bare(text) == bare(line));
                assert!(noted, "{line}: no such line beside the bytes");
            }
        }
    }
}
