//! A spec: what a family of networks is made of and how far it is scaled.
//!
//! In: TOML (schema: `docs/spec.md`) or a preset's name. Out: a [`Spec`], complete and checked value by value, and from it
//! an [`Architecture`](crate::architecture::Architecture), every count resolved. Values know the line they come from, so that
//! what only shows after scaling (too many blocks, too many channels) is reported there too.

mod document;
mod error;
pub mod presets;
mod read;
mod resolve;
mod scaling;
mod source;
mod words;
mod write;

use std::collections::BTreeMap;
use std::sync::Arc;

pub(crate) use document::Document;
pub use error::{Location, SpecError};
pub use resolve::{MAX_BLOCKS, MAX_CHANNELS, Multipliers, Resolved};
pub use scaling::{Convention, Scaling};
pub(crate) use source::Source;

use crate::architecture::{Activation, BlockKind, Gate, Padding};
use crate::rounding::{RepeatRounding, Rounding};

/// Smallest side of an input.
pub const MIN_SIDE: usize = 8;
/// Largest side of an input.
pub const MAX_SIDE: usize = 4096;
/// Channels of an input of colours.
pub const COLOURS: usize = 3;
/// Most channels of an input.
pub const MAX_INPUT_CHANNELS: usize = 1024;

/// First convolution.
#[derive(Clone, PartialEq, Debug)]
pub struct StemSpec {
    /// Side of the kernel.
    pub kernel: usize,
    /// Stride.
    pub stride: usize,
    /// Output channels before scaling.
    pub filters: usize,
    /// Activation; the network's if absent.
    pub activation: Option<Activation>,
    /// Whether width scales it.
    pub scale: bool,
}

/// What stands between the last block and the classifier.
#[derive(Clone, PartialEq, Debug)]
pub struct HeadSpec {
    /// Output channels before scaling.
    pub filters: usize,
    /// Whether the convolution follows the pooling (MobileNetV3), then without batch norm.
    pub after_pool: bool,
    /// Whether a convolution after the pooling has a bias.
    pub bias: bool,
    /// Activation; the network's if absent.
    pub activation: Option<Activation>,
    /// Whether width scales it.
    pub scale: bool,
    /// Whether a width below 1 makes it smaller.
    pub shrink: bool,
}

/// What the squeezed channels are a share of.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SqueezeOf {
    /// The block's input (EfficientNet).
    Input,
    /// The expanded channels (MobileNetV3).
    Expanded,
}

/// Squeeze-and-excite of all blocks with a depthwise convolution, unless a stage says otherwise.
#[derive(Clone, PartialEq, Debug)]
pub struct SqueezeExciteSpec {
    /// Squeezed channels per channel of `of`; 0 for none.
    pub ratio: f64,
    /// What the ratio is of.
    pub of: SqueezeOf,
    /// Squeezed channels are rounded to a multiple of this; 1 rounds down to a whole number.
    pub divisor: usize,
    /// Between the convolutions; the block's if absent.
    pub activation: Option<Activation>,
    /// What it gates with.
    pub gate: Gate,
}

/// A row of blocks.
#[derive(Clone, PartialEq, Debug)]
pub struct StageSpec {
    /// Form. `MbConv` and `FusedMbConv` with expansion 1 become `DepthwiseSeparable` and `ConvBnAct`.
    pub block: BlockKind,
    /// Blocks before scaling.
    pub repeats: usize,
    /// Sides of the kernels.
    pub kernels: Vec<usize>,
    /// Stride of the first block.
    pub stride: usize,
    /// Expanded channels per input channel.
    pub expansion: f64,
    /// Output channels before scaling.
    pub filters: usize,
    /// Squeeze ratio; the network's if absent, which does not hold for dense blocks.
    pub se: Option<f64>,
    /// Activation; the network's if absent.
    pub activation: Option<Activation>,
    /// Whether blocks of stride 1 with as many inputs as outputs add their input.
    pub skip: bool,
    /// Whether depth scales the repeats.
    pub scale_repeats: bool,
    /// Input channels before scaling from which the first block's expansion is computed; its real input if absent (EdgeTPU).
    pub expand_from: Option<usize>,
    /// Groups of the 1x1 expansion.
    pub expand_split: usize,
    /// Groups of the 1x1 projection.
    pub project_split: usize,
    /// Whether the row belongs to the stage of the row before it.
    pub continues: bool,
}

/// How images are resized.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interpolation {
    /// Bicubic.
    Bicubic,
    /// Bilinear.
    Bilinear,
}

/// What the published weights expect of an image; see `preprocess.md`.
#[derive(Clone, PartialEq, Debug)]
pub struct Preprocessing {
    /// Side of the crop over the shorter side of the resized image.
    pub crop: f64,
    /// Whether both sides are resized to the crop, whatever the aspect.
    pub squash: bool,
    /// How images are resized.
    pub interpolation: Interpolation,
    /// Subtracted from each channel, in 0 to 1.
    pub mean: Vec<f64>,
    /// By which each channel is then divided.
    pub std: Vec<f64>,
}

/// A spec.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Name.
    pub name: String,
    /// Family.
    pub family: String,
    /// Multiplier of channels at phi 0. If absent and nothing is scaled, channels are taken as they stand, unrounded.
    pub width: Option<f64>,
    /// Multiplier of repeats at phi 0.
    pub depth: f64,
    /// Side of the input at phi 0.
    pub resolution: usize,
    /// Compound scaling on top of these.
    pub scaling: Option<Scaling>,
    /// Rounding of channels.
    pub rounding: Rounding,
    /// Channels are multiples of this.
    pub divisor: usize,
    /// Rounding of repeats.
    pub repeat_rounding: RepeatRounding,
    /// Activation.
    pub activation: Activation,
    /// Outputs of the classifier.
    pub classes: usize,
    /// Their names, if they are known; as many.
    pub labels: Option<Vec<String>>,
    /// State dict with the weights: the name of a file in the folder of the spec.
    pub weights: Option<String>,
    /// Channels of the input.
    pub channels: usize,
    /// Padding of strided convolutions.
    pub padding: Padding,
    /// Added to the variance in every batch norm.
    pub eps: f64,
    /// Share of features dropped before the classifier while training.
    pub dropout: f64,
    /// Squeeze-and-excite.
    pub squeeze_excite: SqueezeExciteSpec,
    /// First convolution.
    pub stem: StemSpec,
    /// Rows of blocks.
    pub stages: Vec<StageSpec>,
    /// End.
    pub head: HeadSpec,
    /// Images, if known.
    pub preprocessing: Option<Preprocessing>,
    /// Entries that an ONNX file of the network has in its metadata, over those that follow from the spec.
    pub metadata: BTreeMap<String, String>,
    warnings: Vec<String>,
    locations: BTreeMap<String, Location>,
    file: Arc<str>,
}

impl Spec {
    /// Reads a spec; `file` is what errors call it.
    pub fn parse(text: &str, file: &str) -> Result<Self, SpecError> {
        let source = Source { file: file.into(), text: text.into() };
        let document: Document = toml::from_str(text).map_err(|error| source.translate(&error))?;
        let stem = std::path::Path::new(file).file_stem().and_then(|stem| stem.to_str()).unwrap_or("network");
        Self::read(&document, &source, stem)
    }

    /// The spec of a preset.
    pub fn preset(name: &str) -> Result<Self, SpecError> {
        presets::spec(name)
    }

    /// Reads a document over the preset it is based on.
    pub(crate) fn read(document: &Document, source: &Source, name: &str) -> Result<Self, SpecError> {
        let mut spec = match &document.base {
            Some(base) => presets::spec(base.get_ref()).map_err(|error| match error {
                SpecError::UnknownPreset { suggestions, .. } => SpecError::Value {
                    location: source.location(base.span()),
                    key: "base".to_string(),
                    expected: "the name of a preset".into(),
                    found: format!("\"{}\"", base.get_ref()).into(),
                    suggestion: suggestions.first().map(|name| name.as_str().into()),
                },
                other => other,
            })?,
            None => Self::blank(),
        };
        spec.name = name.to_string();
        spec.file = source.file.clone();
        spec.apply(document, source)?;
        if spec.stages.is_empty() {
            return Err(spec.refuse("stages", "at least one row of blocks, or `base = \"PRESET\"`", "none"));
        }
        Ok(spec)
    }

    /// What a spec without `base` starts from.
    fn blank() -> Self {
        Self {
            name: String::new(),
            family: "custom".to_string(),
            width: None,
            depth: 1.0,
            resolution: 224,
            scaling: None,
            rounding: Rounding::TenPercent,
            divisor: 8,
            repeat_rounding: RepeatRounding::Ceil,
            activation: Activation::Silu,
            classes: 1000,
            labels: None,
            weights: None,
            channels: COLOURS,
            padding: Padding::Symmetric,
            eps: 1e-5,
            dropout: 0.0,
            squeeze_excite: SqueezeExciteSpec {
                ratio: 0.0,
                of: SqueezeOf::Input,
                divisor: 1,
                activation: None,
                gate: Gate::Sigmoid,
            },
            stem: StemSpec { kernel: 3, stride: 2, filters: 32, activation: None, scale: true },
            stages: Vec::new(),
            head: HeadSpec {
                filters: 1280,
                after_pool: false,
                bias: true,
                activation: None,
                scale: true,
                shrink: true,
            },
            preprocessing: None,
            metadata: BTreeMap::new(),
            warnings: Vec::new(),
            locations: BTreeMap::new(),
            file: "spec".into(),
        }
    }

    /// The same family with final multipliers and no compound scaling. A member has weights of its own.
    pub fn with_multipliers(&self, multipliers: Multipliers) -> Self {
        let Multipliers { width, depth, side } = multipliers;
        let (scaling, weights, warnings) = (None, None, Vec::new());
        Self { width: Some(width), depth, resolution: side, scaling, weights, warnings, ..self.clone() }
    }

    /// The same network for an input of another side.
    pub fn with_side(&self, side: usize) -> Self {
        let scaling = self.scaling.clone().map(|scaling| Scaling { resolution_base: 1.0, side_multiple: 1, ..scaling });
        Self { resolution: side, scaling, ..self.clone() }
    }

    /// Whether a file of the user's, not a preset, says this key.
    pub fn states(&self, key: &str) -> bool {
        self.locations.get(key).is_some_and(|location| !presets::is_source(&location.file))
    }

    /// An error at a key, where it was set last.
    fn refuse(&self, key: &str, expected: impl Into<Box<str>>, found: impl Into<Box<str>>) -> SpecError {
        SpecError::Value {
            location: self.location(key).cloned().unwrap_or_else(|| Location { file: self.file.clone(), line: 0 }),
            key: key.to_string(),
            expected: expected.into(),
            found: found.into(),
            suggestion: None,
        }
    }

    /// An error that any of these keys may have caused: at the first one that the spec's own file sets, else at the first.
    fn refuse_any(&self, keys: &[&str], expected: impl Into<Box<str>>, found: impl Into<Box<str>>) -> SpecError {
        let own = |key: &&&str| self.location(key).is_some_and(|location| location.file == self.file);
        let key = keys.iter().find(own).or(keys.first()).copied().unwrap_or_default();
        self.refuse(key, expected, found)
    }

    /// Where a key, or the row it belongs to, was set last.
    fn location(&self, key: &str) -> Option<&Location> {
        let parent = key.rsplit_once('.').map_or(key, |(parent, _)| parent);
        self.locations.get(key).or_else(|| self.locations.get(parent))
    }
}
