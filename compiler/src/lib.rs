//! The Fornax compiler: from a graph to machine code.
//!
//! ```text
//!  fornax_ir::graph::Graph    operators over values of static shape, as a frontend built them
//!     │  graph passes         fornax_ir::passes
//!     │  lower                every operator chooses kernels and physical layouts for one Target
//!     ▼
//!  plan::Plan                 kernel calls over slots; packed constants, arena offsets; prints and parses
//!     │  plan passes          plan::passes
//!     │  emit                 each distinct kernel is written once through codegen::Emitter
//!     ▼
//!  runtime::Program           executable memory, packed constants, the table of steps
//! ```
//!
//! [`pipeline`] is this way as one list of stages, [`jit`] and [`aot`] are its two ends. Modules depend downwards only:
//! `pipeline > emit > lower > plan > kernels > codegen > target, numerics, times, error`; the graph is a crate of its own, [`fornax_ir`], which
//! knows none of them. What is not named here is private to the crate.

mod codegen;
mod emit;
mod error;
#[doc(hidden)]
pub mod internals;
mod kernels;
mod lower;
mod numerics;
pub mod pipeline;
mod plan;
mod target;
mod times;

pub use emit::{aot, clif, disassembly, distinct_kernels, jit};
pub use error::{Error, Result, RuntimeError};
pub use kernels::{Kernel, LayerKind};
pub use plan::{KernelCall, Plan, Port, parse as parse_plan};
pub use target::{Cost, Machine, Target};
pub use times::Times;
