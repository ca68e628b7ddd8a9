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

mod artifact;
pub mod classify;
mod compiled;
mod error;
mod export;
mod features;
mod images;
mod metadata;
mod model;
mod options;
mod pillow;
mod precompiled;
mod preprocess;
mod presets;
pub mod profile;
mod replace;
mod resample;
mod scale;
mod scaled;
mod session;
mod signature;
mod stats;
pub mod tensors;

pub use artifact::{Artifact, ArtifactOptions, Artifacts, Emit};
pub use compiled::Compiled;
pub use error::{Error, Result};
pub use fornax_compiler as compiler;
pub use fornax_compiler::target::Target;
pub use fornax_onnx::{Bindings, Dim, InputDecl, Limits, operators};
pub use fornax_runtime as runtime;
pub use fornax_runtime::{DType, Port, Shape, Tensor};
pub use fornax_scaling as scaling;
pub use images::Image;
pub use model::Model;
pub use options::{Features, LibrarySource, Options};
pub use preprocess::{ChannelOrder, Crop, Layout, Preprocess, Resize};
pub use presets::{ImageInput, Preset, describe};
pub use replace::{write_file, write_files};
pub use resample::{Interpolation, Resampler};
pub use scale::{Measurement, Meter};
pub use scaled::{ScaledOptions, open_spec};
pub use session::{Session, SessionOptions};
pub use stats::Stats;
