//! The ONNX frontend: a model file in, an [`ir::Graph`](fornax_compiler::ir::Graph) of static shapes out.

mod assembly;
mod attributes;
mod context;
mod error;
mod external;
mod limits;
mod proto;
mod registry;
mod tensors;

pub use error::{Error, Result};
pub use limits::Limits;
pub use registry::operators;
