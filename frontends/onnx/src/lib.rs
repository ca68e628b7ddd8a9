//! The ONNX frontend: a model file in, an [`ir::Graph`](fornax_ir::graph::Graph) of static shapes out.
//!
//! [`OnnxFile::open`] maps and decodes a file and checks everything that does not depend on shapes;
//! [`OnnxFile::import`] binds the open dimensions and builds the graph. Weights stay slices of the mapped file.
//! Whatever a file contains, the answer is a graph or an [`Error`].
//!
//! ```
//! use fornax_ir::inputs::Bindings;
//! use fornax_onnx::{Limits, OnnxFile};
//!
//! let file = OnnxFile::open("../../examples/signs.onnx".as_ref(), &Limits::default())?;
//! let graph = file.import(&Bindings { dims: [("batch".into(), 2)].into(), ..Bindings::default() })?;
//! assert_eq!(graph.node(graph.inputs()[0]).ty.shape[0], 2);
//! assert_eq!(file.outputs().len(), graph.outputs().len());
//! # Ok::<(), fornax_onnx::Error>(())
//! ```

mod assembly;
mod attributes;
mod bindings;
mod context;
mod domain;
mod error;
mod export;
mod external;
mod file;
mod functions;
mod import;
mod initializers;
mod limits;
mod live;
mod names;
mod narrow;
mod ops;
mod order;
mod proto;
mod refusals;
mod registry;
mod schema;
mod single;
mod sparse;
mod tensors;

pub use error::{Error, Result};
pub use export::{ExportOptions, export};
pub use file::{OnnxFile, Outline};
pub use limits::Limits;
pub use registry::operators;
pub use single::read_tensor;
