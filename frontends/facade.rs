//! The facade: a model from whatever it is kept in, compiled for the shapes it is given, and run.
//!
//! ```text
//! source (onnx, spec, library) ──▶ Model ──▶ compile ──▶ Compiled ──▶ Session
//!                                    └─▶ emit, export: files
//! ```

mod compile;
mod compiled;
mod emit;
mod exchange;
mod export;
mod head;
mod library;
mod manifest;
mod metadata;
mod model;
mod onnx;
mod options;
mod parted;
mod pooled;
mod respecified;
#[cfg(feature = "train")]
mod retrained;
mod session;
mod source;
mod spec;
mod stats;
mod values;

#[cfg(feature = "train")]
pub(crate) use compile::host;
pub use compiled::Compiled;
#[cfg(feature = "train")]
pub(crate) use emit::StepParts;
pub use emit::{Artifact, ArtifactOptions, Artifacts, Emit};
#[cfg(feature = "train")]
pub(crate) use head::Head;
pub use model::Model;
pub use options::{Features, LibrarySource, Options, ScaledOptions};
#[cfg(feature = "train")]
pub(crate) use retrained::with_constants;
pub use session::{Session, SessionOptions};
pub use spec::open_spec;
pub use stats::Stats;
