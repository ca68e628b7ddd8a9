//! The facade: a model from whatever it is kept in, compiled for the shapes it is given, and run.
//!
//! ```text
//! source (onnx, spec, library) ──▶ Model ──▶ compile ──▶ Compiled ──▶ Session
//!                                    └─▶ emit, export: files
//! ```

mod compile;
mod compiled;
mod emit;
mod export;
mod library;
mod manifest;
mod metadata;
mod model;
mod onnx;
mod options;
mod pooled;
mod session;
mod source;
mod spec;
mod stats;

pub use compiled::Compiled;
pub use emit::{Artifact, ArtifactOptions, Artifacts, Emit};
pub use model::Model;
pub use options::{Features, LibrarySource, Options, ScaledOptions};
pub use session::{Session, SessionOptions};
pub use spec::open_spec;
pub use stats::Stats;
