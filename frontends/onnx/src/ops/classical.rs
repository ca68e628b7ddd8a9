//! Operators of classical models on numbers (`ai.onnx.ml`): Scaler, Normalizer, Binarizer, ArrayFeatureExtractor, LinearRegressor.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::reduce::ReduceKind;
use fornax_ir::ops::{Gather, Gemm, Where};
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::{Constant, DType};

use crate::context::Context;
use crate::error::Result;

use super::support::{binary, cast, expect_rank, extent, reduce, reshape, unary, with_scalar};

/// Numbers of an attribute as a row along the last axis: one, or one for each column of `x`.
fn row(cx: &mut Context<'_>, name: &str, x: ValueId, default: f32) -> Result<ValueId> {
    let values = cx.attrs().floats(name)?.unwrap_or_else(|| vec![default]);
    let columns = cx.shape(x).last().copied().unwrap_or(1);
    if values.len() != 1 && values.len() != columns {
        return Err(cx.error(name, format!("1 or {columns} numbers"), values.len().to_string()));
    }
    Ok(cx.add_constant(Constant::from_f32([values.len()], &values)))
}

/// `Scaler`: `(x - offset) * scale`, in `f32`.
pub(crate) fn scaler(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let (offset, scale) = (row(cx, "offset", x, 0.0)?, row(cx, "scale", x, 1.0)?);
    let x = cast(cx, x, DType::F32)?;
    let moved = binary(cx, BinaryFn::Sub, x, offset)?;
    Ok(vec![binary(cx, BinaryFn::Mul, moved, scale)?])
}

/// `Normalizer`: rows divided by their largest element, the sum of magnitudes, or the root of the sum of squares; a row of norm 0 stays.
pub(crate) fn normalizer(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    expect_rank(cx, "X", x, 1)?;
    let x = cast(cx, x, DType::F32)?;
    let last = cx.shape(x).rank() - 1;
    let kind = match cx.attrs().string("norm", "MAX")? {
        "MAX" => ReduceKind::Max,
        "L1" => ReduceKind::L1,
        "L2" => ReduceKind::L2,
        other => return Err(cx.error("norm", "MAX, L1 or L2", other)),
    };
    let norm = reduce(cx, kind, x, vec![last])?;
    let zero = with_scalar(cx, BinaryFn::Equal, norm, 0.0)?;
    let one = cx.scalar_like(norm, 1.0)?;
    let norm = cx.emit(Where {}, &[zero, one, norm])?;
    Ok(vec![binary(cx, BinaryFn::Div, x, norm)?])
}

/// `Binarizer`: 1 above a threshold, else 0.
pub(crate) fn binarizer(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let given = cx.ty(x).dtype;
    let threshold = cx.attrs().float("threshold", 0.0)?;
    let above = with_scalar(cx, BinaryFn::Greater, x, f64::from(threshold))?;
    Ok(vec![cast(cx, above, given)?])
}

/// `ArrayFeatureExtractor`: the columns that the indices name.
pub(crate) fn array_feature_extractor(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (x, indices) = (cx.input(0)?, cx.input(1)?);
    expect_rank(cx, "X", x, 1)?;
    let count = cx.shape(indices).numel();
    let indices = reshape(cx, indices, vec![count])?;
    let x = if cx.shape(x).rank() == 1 { reshape(cx, x, vec![1, cx.shape(x)[0]])? } else { x };
    let axis = cx.shape(x).rank() - 1;
    Ok(vec![cx.emit(Gather { axis }, &[x, indices])?])
}

/// `LinearRegressor`: `x` times the coefficients, plus the intercepts.
pub(crate) fn linear_regressor(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let [_, columns] = cx.shape(x)[..] else { return Err(cx.error("X", "rank 2", cx.ty(x).to_string())) };
    let targets = extent(cx, "targets", cx.attrs().int("targets", 1)?)?;
    let coefficients = cx.attrs().floats("coefficients")?.unwrap_or_default();
    if Some(coefficients.len()) != targets.checked_mul(columns) {
        let expected = format!("{targets} rows of {columns} numbers");
        return Err(cx.error("coefficients", expected, coefficients.len().to_string()));
    }
    let intercepts = cx.attrs().floats("intercepts")?.unwrap_or_else(|| vec![0.0; targets]);
    if intercepts.len() != targets {
        return Err(cx.error("intercepts", format!("{targets} numbers"), intercepts.len().to_string()));
    }
    let x = cast(cx, x, DType::F32)?;
    let weights = cx.add_constant(Constant::from_f32([targets, columns], &coefficients));
    let bias = cx.add_constant(Constant::from_f32([targets], &intercepts));
    let y = cx.emit(Gemm { trans_b: true, bias: true, ..Gemm::default() }, &[x, weights, bias])?;
    Ok(vec![match cx.attrs().string("post_transform", "NONE")? {
        "NONE" => y,
        "LOGISTIC" => unary(cx, UnaryFn::Sigmoid, y)?,
        other => return Err(cx.unsupported(format!("post_transform {}", crate::error::short(other)))),
    }])
}
