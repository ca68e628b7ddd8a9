//! The TOML form of a spec as serde reads it: every key optional, every value with its location.
//!
//! In: text. Out: a [`Document`], whose types are right and whose values are unchecked; [`super::read`] checks them.

use std::collections::BTreeMap;

use serde::Deserialize;
use toml::Spanned;

type Text = Option<Spanned<String>>;
type Number = Option<Spanned<f64>>;
type Whole = Option<Spanned<i64>>;
type Flag = Option<bool>;

/// A spec.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct Document {
    pub base: Text,
    pub name: Text,
    pub family: Text,
    pub width: Number,
    pub depth: Number,
    pub resolution: Whole,
    pub classes: Whole,
    pub labels: Option<Spanned<Vec<String>>>,
    pub weights: Text,
    pub channels: Whole,
    pub activation: Text,
    pub padding: Text,
    pub eps: Number,
    pub dropout: Number,
    pub rounding: Text,
    pub divisor: Whole,
    pub repeat_rounding: Text,
    pub scaling: Option<ScalingTable>,
    pub squeeze_excite: Option<SqueezeExciteTable>,
    pub preprocessing: Option<PreprocessingTable>,
    pub stem: Option<StemTable>,
    pub head: Option<HeadTable>,
    pub stages: Option<Spanned<Vec<Spanned<StageTable>>>>,
    pub metadata: Option<BTreeMap<String, String>>,
}

/// `[scaling]`.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct ScalingTable {
    pub phi: Number,
    pub width_base: Number,
    pub depth_base: Number,
    pub resolution_base: Number,
    pub side_multiple: Whole,
    pub alpha: Number,
    pub beta: Number,
    pub gamma: Number,
    pub convention: Text,
    pub constraint: Number,
}

/// `[squeeze_excite]`.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct SqueezeExciteTable {
    pub ratio: Number,
    pub of: Text,
    pub divisor: Whole,
    pub activation: Text,
    pub gate: Text,
}

/// `[preprocessing]`.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct PreprocessingTable {
    pub crop: Number,
    pub crop_mode: Text,
    pub interpolation: Text,
    pub mean: Option<Spanned<Vec<f64>>>,
    pub std: Option<Spanned<Vec<f64>>>,
}

/// `[stem]`.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct StemTable {
    pub kernel: Whole,
    pub stride: Whole,
    pub filters: Whole,
    pub activation: Text,
    pub scale: Flag,
}

/// `[head]`.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct HeadTable {
    pub filters: Whole,
    pub position: Text,
    pub bias: Flag,
    pub activation: Text,
    pub scale: Flag,
    pub shrink: Flag,
}

/// A row of `stages`.
#[derive(Deserialize, Clone, Debug)]
#[serde(deny_unknown_fields)]
pub(crate) struct StageTable {
    pub block: Text,
    pub repeats: Whole,
    pub kernel: Option<Spanned<KernelValue>>,
    pub stride: Whole,
    pub expansion: Number,
    pub filters: Whole,
    pub se: Number,
    pub activation: Text,
    pub skip: Flag,
    pub scale_repeats: Flag,
    pub expand_from: Whole,
    pub expand_split: Whole,
    pub project_split: Whole,
    pub continues: Flag,
}

/// One side or several.
#[derive(Deserialize, Clone, Debug)]
#[serde(untagged, expecting = "a whole number or a list of them")]
pub(crate) enum KernelValue {
    One(i64),
    Many(Vec<i64>),
}
