//! The boundary between generated kernels and the host.
//!
//! Depends on nothing, so that the compiler and the runtime read the same few lines.

/// Version of the kernel signature and of every layout below; code of another version is refused.
pub const ABI_VERSION: u32 = 1;

/// Alignment, in bytes, of the arena, of the constants, of each worker's scratch and of every tensor.
pub const ALIGN: usize = 64;

/// A kernel: runs chunks `begin..end` of one step.
///
/// `ptrs` holds one pointer per argument of the step, in order. `scratch` belongs to the calling worker alone for the
/// length of the call and holds no promise about its contents. The convention is System V whatever the host's own is.
#[cfg(target_arch = "x86_64")]
pub type KernelFn = unsafe extern "sysv64" fn(ptrs: *const *mut u8, begin: u32, end: u32, scratch: *mut u8);

/// A kernel: runs chunks `begin..end` of one step.
///
/// `ptrs` holds one pointer per argument of the step, in order. `scratch` belongs to the calling worker alone for the
/// length of the call and holds no promise about its contents.
#[cfg(not(target_arch = "x86_64"))]
pub type KernelFn = unsafe extern "C" fn(ptrs: *const *mut u8, begin: u32, end: u32, scratch: *mut u8);
