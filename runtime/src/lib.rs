//! Runs what the compiler made: load, bind, run.
//!
//! ```text
//! compiled file ──▶ Library ──┐
//! kernels, constants, steps ──┴▶ Program ─┐            shared, immutable; made once the CPU is proven able
//! threads ────────────────────▶ Pool ─────┼▶ Session   one arena, one state block, scratch per worker, pointer tables
//! Tensor inputs ──▶ Session::run ─────────┴▶ Tensor outputs
//! ```
//!
//! The runtime knows nothing of graphs, operators or code generation. A program comes from the compiler, or from a file that
//! it wrote: [`Session::open`] is the short way to run one, [`Library`] the one with choices. After [`Session::new`]
//! nothing is allocated. [`map_file`] gives files as bytes without copying them, [`measure_fma_peak`] tells what the machine can do at most.

#[cfg(not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))))]
compile_error!("fornax-runtime supports Linux on x86-64 and aarch64");

mod abi;
mod arena;
pub mod artifact;
mod cpu;
mod dtype;
mod error;
mod extent;
pub mod features;
mod frame;
pub mod levels;
mod library;
mod map;
pub mod packing;
mod peak;
mod pool;
mod port;
mod program;
mod region;
mod session;
mod state;
mod sync;
mod tensor;
mod tiles;
mod timeline;
mod variables;

pub use abi::{ABI_VERSION, ALIGN, KernelFn};
pub use arena::{is_zero, keep_large_memory_apart, return_free_memory};
pub use cpu::{
    FloatGuard, FloatMode, allowed_cpus, available_threads, float_environment, model_name, pin_current_thread,
};
pub use dtype::DType;
pub use error::{Error, PortKind};
pub use extent::{LiveOutput, cut_outputs, extent_name, live_outputs};
pub use features::{CpuFeatures, HostProof};
pub use levels::{Arch, Level};
pub use library::{Library, LibraryOptions, Sections};
pub use map::{map_file, release_pages, release_range, zeros};
pub use peak::{Peak, measure_fma_peak, measure_tile_peak, peak_gflops};
pub use pool::Pool;
pub use port::Port;
pub use program::{Arg, ConstantPool, Program, ProgramParts, Step};
pub use session::Session;
pub use state::{StateParts, Variable, VariableKind};
pub use tensor::{Element, Shape, Tensor};
pub use timeline::{Span, Timeline};
