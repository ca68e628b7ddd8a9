//! The Fornax compiler: from a graph to machine code.
//!
//! ```text
//!  fornax_ir::graph::Graph    operators over values of static shape, after the graph passes
//!     │  lower                every operator chooses kernels and physical layouts for one Target
//!     ▼
//!  plan::Plan                 kernel calls over slots; packed constants, arena offsets; printable
//!     │  emit                 each distinct kernel is written once through codegen::Emitter
//!     ▼
//!  runtime::Program           executable memory, packed constants, the table of steps
//! ```
//!
//! Modules depend downwards only: `emit > lower > plan > kernels > codegen > target, times, error`; the graph is a crate of its own,
//! [`fornax_ir`], which knows none of them.

pub mod codegen;
pub mod emit;
pub mod error;
pub mod kernels;
pub mod lower;
pub mod plan;
pub mod target;
pub mod times;

pub use error::{Error, OpError, Result};
pub use fornax_ir::{Remark, Verdict, graph as ir, ops, passes, pipeline, remark, scalar, types};
