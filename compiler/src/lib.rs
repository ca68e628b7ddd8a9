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
//! [`pipeline`] is this way as one list of stages. Modules depend downwards only:
//! `pipeline > emit > lower > plan > kernels > codegen > target, times, error`; the graph is a crate of its own, [`fornax_ir`], which
//! knows none of them.

pub mod codegen;
pub mod emit;
pub mod error;
pub mod kernels;
pub mod lower;
pub mod pipeline;
pub mod plan;
pub mod target;
pub mod times;

pub use error::{Error, OpError, Result};
pub use fornax_ir::{Remark, Verdict, graph as ir, ops, passes, remark, scalar, types};
