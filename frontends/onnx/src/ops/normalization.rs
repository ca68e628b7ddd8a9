//! Normalisations. Batch normalisation keeps its own operator; the others are composed of reductions and element-wise
//! functions in the order of ONNX's function bodies.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::reduce::ReduceKind;
use fornax_ir::ops::{BatchNorm, BatchStatistics, Lrn};
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::DType;

use crate::context::Context;
use crate::error::Result;

use super::support::{
    axes, axis, binary, cast, dtype, expect_broadcast, expect_outputs, expect_rank, extent, per_channel, reduce,
    reshape, unary, with_scalar,
};

/// `BatchNormalization`.
pub(crate) fn batch_normalization(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let training = match cx.version() {
        ..7 => !cx.attrs().flag("is_test", false)? && cx.output_count() > 1,
        7..14 => cx.output_count() > 1,
        _ => cx.attrs().flag("training_mode", false)?,
    };
    if training {
        return batch_training(cx);
    }
    expect_outputs(cx, 1, "running statistics as outputs")?;
    if cx.version() < 9 && cx.attrs().int("spatial", 1)? == 0 {
        return Err(cx.unsupported("spatial=0 (statistics per activation)"));
    }
    let epsilon = cx.attrs().float("epsilon", 1e-5)?;
    let operands = (0..5).map(|slot| cx.input(slot)).collect::<Result<Vec<_>>>()?;
    Ok(vec![cx.emit(BatchNorm { epsilon }, &operands)?])
}

/// `BatchNormalization` by the batch's own statistics, and the running ones after it: from version 14 on.
fn batch_training(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    if cx.version() < 14 {
        return Err(cx.unsupported("training mode"));
    }
    let (epsilon, momentum) = (cx.attrs().float("epsilon", 1e-5)?, f64::from(cx.attrs().float("momentum", 0.9)?));
    let operands = (0..5).map(|slot| cx.input(slot)).collect::<Result<Vec<_>>>()?;
    let channels = cx.shape(operands[0]).get(1).copied().unwrap_or(1);
    for (operand, field) in operands[1..].iter().zip(["scale", "B", "input_mean", "input_var"]) {
        if cx.shape(*operand)[..] != [channels] {
            return Err(cx.error(field, format!("shape [{channels}]"), cx.ty(*operand).to_string()));
        }
    }
    let statistics = cx.emit_all(BatchStatistics {}, &operands[..1])?;
    let y = cx.emit(BatchNorm { epsilon }, &[&operands[..3], &statistics].concat())?;
    let mut results = vec![y];
    for (running, current) in operands[3..].iter().zip(statistics).take(cx.output_count().saturating_sub(1)) {
        let kept = with_scalar(cx, BinaryFn::Mul, *running, momentum)?;
        let added = with_scalar(cx, BinaryFn::Mul, current, 1.0 - momentum)?;
        results.push(binary(cx, BinaryFn::Add, kept, added)?);
    }
    Ok(results)
}

/// `LRN`.
pub(crate) fn lrn(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let size = extent(cx, "size", cx.attrs().require_int("size")?)?;
    if size == 0 {
        return Err(cx.error("size", "1 or more", "0"));
    }
    let (alpha, beta) = (cx.attrs().float("alpha", 1e-4)?, cx.attrs().float("beta", 0.75)?);
    let bias = cx.attrs().float("bias", 1.0)?;
    Ok(vec![cx.emit(Lrn { size, alpha, beta, bias }, &[x])?])
}

/// A normalisation: over which axes, with what added to the variance, and whether the mean is taken off first.
pub(crate) struct Norm {
    pub axes: Vec<usize>,
    pub epsilon: f32,
    pub centred: bool,
}

/// A value scaled to unit variance, with its mean (0 where it was not centred) and the inverse of its standard deviation.
pub(crate) struct Standardized {
    pub value: ValueId,
    pub mean: ValueId,
    pub inverse: ValueId,
}

/// `(x - mean) / sqrt(variance + epsilon)`, or `x / sqrt(mean of squares + epsilon)`.
pub(crate) fn standardized(cx: &mut Context<'_>, x: ValueId, norm: Norm) -> Result<Standardized> {
    let (mean, centred) = match norm.centred {
        true => {
            let mean = reduce(cx, ReduceKind::Mean, x, norm.axes.clone())?;
            (mean, binary(cx, BinaryFn::Sub, x, mean)?)
        }
        false => (cx.scalar_like(x, 0.0)?, x),
    };
    let square = binary(cx, BinaryFn::Mul, centred, centred)?;
    let variance = reduce(cx, ReduceKind::Mean, square, norm.axes)?;
    let inverse = inverse_root(cx, variance, norm.epsilon)?;
    Ok(Standardized { value: binary(cx, BinaryFn::Mul, centred, inverse)?, mean, inverse })
}

/// [`standardized`], times `scale`, plus `shift`.
pub(crate) fn normalized(
    cx: &mut Context<'_>,
    x: ValueId,
    norm: Norm,
    scale: ValueId,
    shift: Option<ValueId>,
) -> Result<Standardized> {
    expect_broadcast(cx, "scale", scale, x)?;
    shift.map(|shift| expect_broadcast(cx, "shift", shift, x)).transpose()?;
    let y = standardized(cx, x, norm)?;
    Ok(Standardized { value: affine(cx, y.value, scale, shift)?, ..y })
}

/// `1 / sqrt(x + epsilon)`.
fn inverse_root(cx: &mut Context<'_>, x: ValueId, epsilon: f32) -> Result<ValueId> {
    let raised = with_scalar(cx, BinaryFn::Add, x, f64::from(epsilon))?;
    let root = unary(cx, UnaryFn::Sqrt, raised)?;
    unary(cx, UnaryFn::Reciprocal, root)
}

/// `x * scale + bias`.
fn affine(cx: &mut Context<'_>, x: ValueId, scale: ValueId, bias: Option<ValueId>) -> Result<ValueId> {
    let scaled = binary(cx, BinaryFn::Mul, x, scale)?;
    bias.map_or(Ok(scaled), |bias| binary(cx, BinaryFn::Add, scaled, bias))
}

/// `InstanceNormalization`: over the spatial axes of each channel.
pub(crate) fn instance_normalization(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (x, scale, bias) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    expect_rank(cx, "input", x, 3)?;
    let rank = cx.shape(x).rank();
    let epsilon = cx.attrs().float("epsilon", 1e-5)?;
    let channels = [cx.shape(x)[1], 1, rank];
    let scale = per_channel(cx, "scale", scale, channels)?;
    let bias = per_channel(cx, "B", bias, channels)?;
    let y = standardized(cx, x, Norm { axes: (2..rank).collect(), epsilon, centred: true })?.value;
    Ok(vec![affine(cx, y, scale, Some(bias))?])
}

/// The element type a normalisation computes in; narrower operands are widened to it.
fn stash_type(cx: &Context<'_>, x: ValueId) -> Result<DType> {
    let stash = dtype(cx, "stash_type", cx.attrs().int("stash_type", 1)?)?;
    match (cx.ty(x).dtype, stash) {
        (DType::F64, _) => Ok(DType::F64),
        (_, stash) if stash.is_float() => Ok(stash),
        (_, stash) => Err(cx.error("stash_type", "a floating-point type", stash.name())),
    }
}

/// The axes that a layer normalisation covers: `axis` and all after it.
fn trailing_axes(cx: &Context<'_>, x: ValueId) -> Result<Vec<usize>> {
    let rank = cx.shape(x).rank();
    Ok((axis(cx, "axis", cx.attrs().int("axis", -1)?, rank)?..rank).collect())
}

/// `LayerNormalization`, with its optional outputs `Mean` and `InvStdDev`.
pub(crate) fn layer_normalization(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (x, scale, bias) = (cx.input(0)?, cx.input(1)?, cx.optional(2));
    expect_broadcast(cx, "Scale", scale, x)?;
    bias.map(|bias| expect_broadcast(cx, "B", bias, x)).transpose()?;
    let (given, stash) = (cx.ty(x).dtype, stash_type(cx, x)?);
    let axes = trailing_axes(cx, x)?;
    let epsilon = cx.attrs().float("epsilon", 1e-5)?;
    let wide = cast(cx, x, stash)?;
    let y = standardized(cx, wide, Norm { axes, epsilon, centred: true })?;
    let narrow = cast(cx, y.value, given)?;
    let mut outputs = vec![affine(cx, narrow, scale, bias)?];
    // They are of the stashed type, also where f64 elements are computed in f64.
    let declared = dtype(cx, "stash_type", cx.attrs().int("stash_type", 1)?)?;
    for statistic in [y.mean, y.inverse].into_iter().take(cx.output_count().saturating_sub(1)) {
        outputs.push(cast(cx, statistic, declared)?);
    }
    Ok(outputs)
}

/// `RMSNormalization`: by the root of the mean square; and `SimplifiedLayerNormalization`, its forerunner, with the inverse of that root.
pub(crate) fn rms_normalization(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (x, scale) = (cx.input(0)?, cx.input(1)?);
    expect_broadcast(cx, "scale", scale, x)?;
    let (stash, axes) = (stash_type(cx, x)?, trailing_axes(cx, x)?);
    let epsilon = cx.attrs().float("epsilon", 1e-5)?;
    let wide = cast(cx, x, stash)?;
    let y = standardized(cx, wide, Norm { axes, epsilon, centred: false })?;
    let narrow = cast(cx, y.value, cx.ty(scale).dtype)?;
    Ok(vec![affine(cx, narrow, scale, None)?, y.inverse])
}

/// `GroupNormalization`: scale and bias are per group before version 21, per channel since.
pub(crate) fn group_normalization(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (x, scale, bias) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    expect_rank(cx, "X", x, 2)?;
    let (given, shape) = (cx.ty(x).dtype, cx.shape(x).to_vec());
    let groups = extent(cx, "num_groups", cx.attrs().require_int("num_groups")?)?;
    if groups == 0 || !shape[1].is_multiple_of(groups) {
        return Err(cx.error("num_groups", format!("a divisor of {} channels", shape[1]), groups.to_string()));
    }
    let epsilon = cx.attrs().float("epsilon", 1e-5)?;
    let stash = if cx.version() < 21 { given } else { stash_type(cx, x)? };
    let inner = shape[2..].iter().fold(shape[1] / groups, |n, d| n.saturating_mul(*d));
    let wide = cast(cx, x, stash)?;
    let grouped = reshape(cx, wide, vec![shape[0], groups, inner])?;
    let y = standardized(cx, grouped, Norm { axes: vec![2], epsilon, centred: true })?.value;
    let y = cast(cx, y, given)?;
    if cx.version() < 21 {
        let of_group = [groups, 1, 3];
        let (scale, bias) = (per_channel(cx, "scale", scale, of_group)?, per_channel(cx, "bias", bias, of_group)?);
        let y = affine(cx, y, scale, Some(bias))?;
        return Ok(vec![reshape(cx, y, shape)?]);
    }
    let channels = [shape[1], 1, shape.len()];
    let y = reshape(cx, y, shape)?;
    let (scale, bias) = (per_channel(cx, "scale", scale, channels)?, per_channel(cx, "bias", bias, channels)?);
    Ok(vec![affine(cx, y, scale, Some(bias))?])
}

/// `MeanVarianceNormalization`; ONNX adds 1e-9 to the standard deviation.
pub(crate) fn mean_variance_normalization(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let given = cx.attrs().ints("axes")?.unwrap_or_else(|| vec![0, 2, 3]);
    let mut axes = axes(cx, "axes", &given, cx.shape(x).rank())?;
    axes.sort_unstable();
    let mean = reduce(cx, ReduceKind::Mean, x, axes.clone())?;
    let centred = binary(cx, BinaryFn::Sub, x, mean)?;
    let square = binary(cx, BinaryFn::Mul, centred, centred)?;
    let variance = reduce(cx, ReduceKind::Mean, square, axes)?;
    let deviation = unary(cx, UnaryFn::Sqrt, variance)?;
    let divisor = with_scalar(cx, BinaryFn::Add, deviation, 1e-9)?;
    Ok(vec![binary(cx, BinaryFn::Div, centred, divisor)?])
}

/// `LpNormalization`: by the sum of absolute values or the root of the sum of squares; a zero vector stays zero.
pub(crate) fn lp_normalization(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let axis = axis(cx, "axis", cx.attrs().int("axis", -1)?, cx.shape(x).rank())?;
    let kind = match cx.attrs().int("p", 2)? {
        1 => ReduceKind::L1,
        2 => ReduceKind::L2,
        other => return Err(cx.error("p", "1 or 2", other.to_string())),
    };
    let norm = reduce(cx, kind, x, vec![axis])?;
    let zero = with_scalar(cx, BinaryFn::Equal, norm, 0.0)?;
    let one = cx.scalar_like(norm, 1.0)?;
    let divisor = cx.emit(fornax_ir::ops::Where {}, &[zero, one, norm])?;
    Ok(vec![binary(cx, BinaryFn::Div, x, divisor)?])
}
