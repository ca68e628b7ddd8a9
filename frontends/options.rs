//! How models are opened and compiled.

use std::path::PathBuf;

use fornax_compiler::target::Target;
use fornax_onnx::Limits;

use crate::scaled::ScaledOptions;

/// How to open and compile a model.
#[derive(Clone, Debug)]
pub struct Options {
    /// The machine to compile for; `None` is this one.
    pub target: Option<Target>,
    /// Bounds on the file and its import.
    pub limits: Limits,
    /// The most bytes an arena may have.
    pub arena_bytes: u64,
    /// Verify the graph between passes.
    pub verify: bool,
    /// For compiled libraries.
    pub library: LibrarySource,
    /// For specs and presets.
    pub scaled: ScaledOptions,
    /// What the network computes, if not its declared outputs.
    pub features: Option<Features>,
}

/// What a network computes instead of its declared outputs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Features {
    /// What the classifier reads, as the one output `pooled`.
    Pooled,
    /// For each reduction of the input's side (2, 4, … 32) the last value of that size, for detectors and segmenters; of specs
    /// and presets only.
    Reductions(Vec<usize>),
}

/// What else belongs to a compiled library.
#[derive(Clone, Debug, Default)]
pub struct LibrarySource {
    /// The file with its weights; by default those it holds, or those beside it under the same name.
    pub weights: Option<PathBuf>,
    /// Read the weights that it holds whole, and check their hash.
    pub check_weights: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            target: None,
            limits: Limits::default(),
            arena_bytes: 1 << 34,
            verify: false,
            library: LibrarySource::default(),
            scaled: ScaledOptions::default(),
            features: None,
        }
    }
}
