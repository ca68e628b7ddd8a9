//! Experiments of early versions of the standard that files still have: Affine, Crop, ImageScaler, ParametricSoftplus, ScaledTanh.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::Slice;
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::Constant;

use crate::context::Context;
use crate::error::Result;

use super::support::{binary, expect_len, extents, per_channel, unary, with_scalar};

/// `Affine`: `alpha x + beta`.
pub(crate) fn affine(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let (alpha, beta) = (cx.attrs().float("alpha", 1.0)?, cx.attrs().float("beta", 0.0)?);
    let scaled = with_scalar(cx, BinaryFn::Mul, x, f64::from(alpha))?;
    Ok(vec![with_scalar(cx, BinaryFn::Add, scaled, f64::from(beta))?])
}

/// `ScaledTanh`: `alpha tanh(beta x)`.
pub(crate) fn scaled_tanh(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let (alpha, beta) = (cx.attrs().float("alpha", 1.0)?, cx.attrs().float("beta", 1.0)?);
    let inner = with_scalar(cx, BinaryFn::Mul, x, f64::from(beta))?;
    let inner = unary(cx, UnaryFn::Tanh, inner)?;
    Ok(vec![with_scalar(cx, BinaryFn::Mul, inner, f64::from(alpha))?])
}

/// `ParametricSoftplus`: `alpha ln(1 + exp(beta x))`.
pub(crate) fn parametric_softplus(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let (alpha, beta) = (cx.attrs().float("alpha", 1.0)?, cx.attrs().float("beta", 1.0)?);
    let inner = with_scalar(cx, BinaryFn::Mul, x, f64::from(beta))?;
    let inner = unary(cx, UnaryFn::Softplus, inner)?;
    Ok(vec![with_scalar(cx, BinaryFn::Mul, inner, f64::from(alpha))?])
}

/// `ImageScaler`: `scale x`, and a bias for each channel of `[n, C, h, w]`.
pub(crate) fn image_scaler(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let [_, channels, _, _] = cx.shape(x)[..] else { return Err(cx.error("input", "rank 4", cx.ty(x).to_string())) };
    let scale = cx.attrs().float("scale", 1.0)?;
    let bias = cx.attrs().floats("bias")?.unwrap_or_else(|| vec![0.0; channels]);
    let bias = cx.add_constant(Constant::from_f32([bias.len()], &bias));
    let bias = per_channel(cx, "bias", bias, [channels, 1, 4])?;
    let scaled = with_scalar(cx, BinaryFn::Mul, x, f64::from(scale))?;
    Ok(vec![binary(cx, BinaryFn::Add, scaled, bias)?])
}

/// `Crop` of `[n, C, h, w]`: `border` is taken off at the left, top, right and bottom; with `scale`, its height and width are left from
/// the top left on.
pub(crate) fn crop(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let [n, c, height, width] = cx.shape(x)[..] else { return Err(cx.error("input", "rank 4", cx.ty(x).to_string())) };
    let border = cx.attrs().require_ints("border")?;
    expect_len(cx, "border", &border, 4)?;
    let border = extents(cx, "border", &border)?;
    let (left, top, right, bottom) = (border[0], border[1], border[2], border[3]);
    let sides = match cx.attrs().ints("scale")? {
        None => [top, left]
            .iter()
            .zip([bottom, right])
            .zip([height, width])
            .map(|((begin, end), side)| side.checked_sub(*begin)?.checked_sub(end))
            .collect(),
        Some(scale) => {
            expect_len(cx, "scale", &scale, 2)?;
            Some(extents(cx, "scale", &scale)?)
        }
    };
    let fits = |sides: &Vec<usize>| {
        let end = |begin: usize, side: usize| begin.saturating_add(side);
        end(top, sides[0]) <= height && end(left, sides[1]) <= width
    };
    let Some(sides) = sides.filter(fits) else {
        return Err(cx.error("border", format!("what is within {height}x{width}"), format!("{border:?}")));
    };
    let op = Slice { starts: vec![0, 0, top, left], steps: Vec::new(), sizes: vec![n, c, sides[0], sides[1]] };
    Ok(vec![cx.emit(op, &[x])?])
}
