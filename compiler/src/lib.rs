//! The Fornax graph compiler.
//!
//! ```text
//!  ir::Graph                 operators over values of static shape, portable, printable; what frontends build
//!     │  passes              fold constants and batch norms, drop identities, fuse activations, SE and MBConv
//!     ▼
//!  ir::Graph                 the same form, smaller; each rewrite leaves a remark
//!     │  passes::lower       every operator chooses kernels and physical layouts for one Target
//!     ▼
//!  plan::Plan                kernel calls over slots; packed constants, arena offsets; printable
//!     │  emit                each distinct kernel is written once through codegen::Emitter
//!     ▼
//!  runtime::Program          executable memory, packed constants, the table of steps
//! ```
//!
//! Modules depend downwards only: `pipeline > emit > passes > ir > ops > plan > kernels > codegen > target, types, scalar, times, error`.

pub mod codegen;
pub mod emit;
pub mod error;
pub mod ir;
pub mod kernels;
pub mod ops;
pub mod passes;
pub mod pipeline;
pub mod plan;
pub mod scalar;
pub mod target;
pub mod times;
pub mod types;

pub use error::{Error, OpError, Result};
