//! Fornax turns neural networks into native code.
//!
//! ```text
//! model.onnx ──▶ Model ──▶ bind: import, passes, plan, code ──▶ Compiled ──▶ Session::run(tensors) ──▶ tensors
//!                  │         once per set of shapes, kept
//!                  └─▶ graph, optimised, plan: what happens on the way, printable
//! ```
//!
//! A [`Model`] is an opened file; a [`Session`] runs it on its own memory and threads. Code is generated for exact
//! shapes, when they are first seen. [`Preprocess`] and [`classify`] take a photo to a tensor and scores to classes, as
//! the model's metadata says.
//!
//! ```
//! use fornax::{Image, Model, SessionOptions, classify};
//!
//! let model = Model::open("examples/signs.onnx")?;
//! let mut session = model.session(&SessionOptions::default())?;
//!
//! let preprocess = model.preprocess()?.expect("signs.onnx says how");
//! let photo = preprocess.tensor(&[Image::open("examples/photos/stop.jpg")?])?;
//! let outputs = session.run(&[&photo])?;
//!
//! let scores = classify::probabilities(&outputs[0], classify::Scores::Logits)?;
//! let best = classify::top(&scores[0], 1, model.labels()?.as_deref());
//! assert_eq!(best[0].label.as_deref(), Some("stop"));
//! # Ok::<(), fornax::Error>(())
//! ```

pub mod classify;
mod error;
mod facade;
mod files;
mod images;
pub mod report;
pub mod tensors;
#[cfg(feature = "train")]
pub mod train;

pub use error::{Error, Result};
pub use facade::{
    Artifact, ArtifactOptions, Artifacts, Compiled, Emit, Features, LibrarySource, Model, Options, ScaledOptions,
    Session, SessionOptions, Stats, open_spec,
};
pub use files::{Draft, write_file, write_files, write_private_file};
pub use fornax_compiler as compiler;
pub use fornax_compiler::Target;
pub use fornax_compiler::pipeline::Precision;
pub use fornax_ir as ir;
pub use fornax_ir::inputs::{Bindings, Dim, InputDecl};
pub use fornax_onnx::{Limits, Outline, operators};
pub use fornax_runtime as runtime;
pub use fornax_runtime::{DType, Port, Shape, Tensor};
pub use fornax_scaling as scaling;
pub use images::{
    ChannelOrder, Crop, Image, ImageConvention, ImageInput, Interpolation, Layout, Preprocess, Resampler, Resize,
};
