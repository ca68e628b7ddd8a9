//! Where the elements of a graph's parameters come from: a state dict in one of several naming schemes, or a seed.
//!
//! ```text
//! file.safetensors ── map ─┬▶ StateDict ── detect ──▶ Scheme ── defaults ──▶ eps, padding
//! file.pth ───────── torch ┘    └── bind(Architecture, Scheme) ──▶ Bound: every tensor checked, named canonically
//! ```
//!
//! In: a safetensors file or a PyTorch checkpoint. Out: a [`Constant`] for each [`Parameter`], over the mapped file where its elements are `f32` in
//! PyTorch's order. Invariant: a [`Bound`] fills every parameter exactly once and leaves no tensor of the file unexplained;
//! what does not fit is one error that lists all of it.

mod bind;
mod defaults;
mod elements;
mod error;
mod file;
mod outline;
pub mod random;
pub mod schemes;
mod stem;
mod stored;
mod torch;

use fornax_ir::types::Constant;

pub use bind::{Bound, Classifier, Fit};
pub use defaults::{Defaults, Hints};
pub use error::{Error, Result};
pub use file::StateDict;
pub use outline::Outline;
pub use schemes::Scheme;
pub use torch::CheckpointError;

use crate::parameters::Parameter;

/// A source of weights.
pub trait Weights {
    /// The elements of a parameter.
    ///
    /// # Errors
    /// If the source does not have it.
    fn constant(&self, parameter: &Parameter) -> Result<Constant>;
}
