//! How models are opened and compiled.

use std::path::PathBuf;

use fornax_compiler::Target;
use fornax_compiler::pipeline::Precision;
use fornax_onnx::Limits;
use fornax_scaling::architecture::Padding;

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
    /// Compute every value as it is defined: no Winograd form of convolutions, which rounds differently and carries the error of an
    /// outlier to the elements around it.
    pub exact: bool,
    /// What convolutions compute in, and what is stored between them.
    pub precision: Precision,
    /// For compiled libraries.
    pub library: LibrarySource,
    /// For specs and presets.
    pub scaled: ScaledOptions,
    /// What the network computes, if not its declared outputs.
    pub features: Option<Features>,
    /// Inputs of an ONNX file that have an initializer as their default, and are to be given when it runs.
    pub fed: Vec<String>,
    /// Values of inputs of an ONNX file, numbers in row-major order (a boolean is 0 or 1): they are inputs no more. Those that decide shapes
    /// must be known before a library is compiled.
    pub fixed: Vec<(String, Vec<f64>)>,
}

/// What a network computes instead of its declared outputs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Features {
    /// Pooled features, the input of the final linear layer, as the one output `pooled`.
    Pooled,
    /// For each reduction of the input's side (2, 4, … 32) the last value of that size, for detectors and segmenters; of specs
    /// and presets only.
    Reductions(Vec<usize>),
}

/// How a spec becomes a network with weights.
#[derive(Clone, Debug, Default)]
pub struct ScaledOptions {
    /// State dict with the weights, safetensors or a PyTorch checkpoint; without one they are random.
    pub weights: Option<PathBuf>,
    /// Glob patterns of tensors of the state dict that are left out.
    pub ignore: Vec<String>,
    /// Channels of the input, if not those of the spec. Of a state dict for 3 channels the stem is adapted as timm does.
    pub channels: Option<usize>,
    /// Seed of random weights.
    pub seed: u64,
    /// Outputs of the classifier, if not those of the spec. A state dict that has another number keeps its other weights, and
    /// the classifier is random.
    pub classes: Option<usize>,
    /// Height and width of the input, if not those of the spec.
    pub side: Option<(usize, usize)>,
    /// Epsilon of batch norms, if not that of the source of the weights.
    pub eps: Option<f64>,
    /// Padding, if not that of the source of the weights.
    pub padding: Option<Padding>,
}

/// What else belongs to a compiled library.
#[derive(Clone, Debug, Default)]
pub struct LibrarySource {
    /// The file with its weights; by default those it holds, or those in the file next to it of the same name.
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
            exact: false,
            precision: Precision::F32,
            library: LibrarySource::default(),
            scaled: ScaledOptions::default(),
            features: None,
            fed: Vec::new(),
            fixed: Vec::new(),
        }
    }
}
