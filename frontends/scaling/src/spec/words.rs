//! Words of the schema and what they mean; the first spelling of each is the one written.

use super::{Convention, Interpolation, SqueezeOf};
use crate::architecture::{Activation, BlockKind, Gate, Padding};
use crate::rounding::{RepeatRounding, Rounding};

pub(super) const ACTIVATIONS: &[(&str, Activation)] = &[
    ("relu", Activation::Relu),
    ("relu6", Activation::Relu6),
    ("silu", Activation::Silu),
    ("hard_swish", Activation::HardSwish),
    ("swish", Activation::Silu),
    ("hardswish", Activation::HardSwish),
];

pub(super) const GATES: &[(&str, Gate)] =
    &[("sigmoid", Gate::Sigmoid), ("hard_sigmoid", Gate::HardSigmoid), ("hardsigmoid", Gate::HardSigmoid)];

pub(super) const PADDINGS: &[(&str, Padding)] =
    &[("symmetric", Padding::Symmetric), ("same", Padding::Same), ("tf_same", Padding::Same)];

pub(super) const BLOCKS: &[(&str, BlockKind)] = &[
    ("mbconv", BlockKind::MbConv),
    ("fused_mbconv", BlockKind::FusedMbConv),
    ("depthwise_separable", BlockKind::DepthwiseSeparable),
    ("conv_bn_act", BlockKind::ConvBnAct),
];

pub(super) const ROUNDINGS: &[(&str, Rounding)] =
    &[("ten_percent", Rounding::TenPercent), ("nearest", Rounding::Nearest)];

pub(super) const REPEAT_ROUNDINGS: &[(&str, RepeatRounding)] =
    &[("ceil", RepeatRounding::Ceil), ("nearest", RepeatRounding::Nearest)];

pub(super) const SQUEEZE_OF: &[(&str, SqueezeOf)] = &[("input", SqueezeOf::Input), ("expanded", SqueezeOf::Expanded)];

pub(super) const POSITIONS: &[(&str, bool)] = &[("before_pool", false), ("after_pool", true)];

pub(super) const INTERPOLATIONS: &[(&str, Interpolation)] =
    &[("bicubic", Interpolation::Bicubic), ("bilinear", Interpolation::Bilinear)];

pub(super) const CROP_MODES: &[(&str, bool)] = &[("center", false), ("squash", true)];

pub(super) const CONVENTIONS: &[(&str, Convention)] = &[("paper", Convention::Paper), ("brief", Convention::Brief)];

/// The first spelling of a meaning.
pub(super) fn spelling<T: PartialEq>(known: &[(&'static str, T)], meaning: &T) -> &'static str {
    known.iter().find(|(_, known)| known == meaning).map_or("", |(word, _)| word)
}
