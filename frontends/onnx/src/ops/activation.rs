//! Activations and other element-wise functions of one value that are not just rows of [`super::unary`].

use fornax_ir::graph::ValueId;
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::DType;

use crate::context::Context;
use crate::error::Result;

use super::support::{along_axis, binary, expect_broadcast, unary, with_scalar};

/// `Relu`; on integers the larger of the element and 0.
pub(crate) fn relu(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let y =
        if cx.ty(x).dtype.is_float() { unary(cx, UnaryFn::Relu, x)? } else { with_scalar(cx, BinaryFn::Max, x, 0.0)? };
    Ok(vec![y])
}

/// `Celu`; its parameter divides, so 0 is refused.
pub(crate) fn celu(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let alpha = cx.attrs().float("alpha", 1.0)?;
    if alpha == 0.0 {
        return Err(cx.error("alpha", "a number other than 0", "0"));
    }
    Ok(vec![unary(cx, UnaryFn::Celu(alpha), x)?])
}

/// `Selu`; versions before 6 have rounder defaults.
pub(crate) fn selu(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let (alpha, gamma) = if cx.version() < 6 { (1.6732, 1.0507) } else { (1.673_263_2, 1.050_701) };
    let (alpha, gamma) = (cx.attrs().float("alpha", alpha)?, cx.attrs().float("gamma", gamma)?);
    Ok(vec![unary(cx, UnaryFn::Selu(alpha, gamma), x)?])
}

/// `Gelu`, exact or through tanh.
pub(crate) fn gelu(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let function = match cx.attrs().string("approximate", "none")? {
        "none" => UnaryFn::Gelu,
        "tanh" => UnaryFn::GeluTanh,
        other => return Err(cx.error("approximate", "none or tanh", other)),
    };
    Ok(vec![unary(cx, function, x)?])
}

/// `Clip`: bounds are attributes before version 11, scalar inputs since.
pub(crate) fn clip(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let (lo, hi) = if cx.version() < 11 {
        let (lo, hi) = if cx.version() < 6 { (f32::NEG_INFINITY, f32::INFINITY) } else { (f32::MIN, f32::MAX) };
        let (lo, hi) = (cx.attrs().float("min", lo)?, cx.attrs().float("max", hi)?);
        if cx.ty(x).dtype == DType::F32 {
            return Ok(vec![unary(cx, UnaryFn::Clip(lo, hi), x)?]);
        }
        (Some(cx.scalar_like(x, f64::from(lo))?), Some(cx.scalar_like(x, f64::from(hi))?))
    } else {
        (clip_bound(cx, 1, "min")?, clip_bound(cx, 2, "max")?)
    };
    if let Some(function) = constant_clip(cx, x, lo, hi)? {
        return Ok(vec![unary(cx, function, x)?]);
    }
    let mut y = x;
    if let Some(lo) = lo {
        y = binary(cx, BinaryFn::Max, y, lo)?;
    }
    if let Some(hi) = hi {
        y = binary(cx, BinaryFn::Min, y, hi)?;
    }
    Ok(vec![y])
}

/// A bound of `Clip` given as an input: one element, made a scalar.
fn clip_bound(cx: &mut Context<'_>, slot: usize, field: &str) -> Result<Option<ValueId>> {
    let Some(bound) = cx.optional(slot) else { return Ok(None) };
    cx.expect_scalar(bound, field)?;
    super::support::reshape(cx, bound, Vec::new()).map(Some)
}

/// The function of an `f32` clip whose bounds are known; an absent bound is infinite.
fn constant_clip(cx: &Context<'_>, x: ValueId, lo: Option<ValueId>, hi: Option<ValueId>) -> Result<Option<UnaryFn>> {
    if cx.ty(x).dtype != DType::F32 || (lo.is_none() && hi.is_none()) {
        return Ok(None);
    }
    let known = |id: ValueId| cx.constant(id).is_some();
    if !lo.is_none_or(known) || !hi.is_none_or(known) {
        return Ok(None);
    }
    let value = |id: Option<ValueId>, field: &str, absent: f32| -> Result<f32> {
        let Some(id) = id else { return Ok(absent) };
        Ok(cx.const_f64s(id, field)?.first().map_or(absent, |v| *v as f32))
    };
    Ok(Some(UnaryFn::Clip(value(lo, "min", f32::NEG_INFINITY)?, value(hi, "max", f32::INFINITY)?)))
}

/// `PRelu`: the slope broadcasts to the operand, never the other way. Before version 7 it is one slope per channel.
pub(crate) fn prelu(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (x, slope) = (cx.input(0)?, cx.input(1)?);
    let rank = cx.shape(x).rank();
    let slope = if cx.version() < 7 { along_axis(cx, "slope", slope, 1, rank)? } else { slope };
    expect_broadcast(cx, "slope", slope, x)?;
    Ok(vec![binary(cx, BinaryFn::Prelu, x, slope)?])
}

/// `Shrink`: towards zero by `bias` outside `[-lambd, lambd]`, zero inside.
pub(crate) fn shrink(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let (bias, lambd) = (cx.attrs().float("bias", 0.0)?, cx.attrs().float("lambd", 0.5)?);
    if !cx.ty(x).dtype.is_float() {
        return Err(cx.unsupported("integer elements"));
    }
    let below = with_scalar(cx, BinaryFn::Less, x, f64::from(-lambd))?;
    let above = with_scalar(cx, BinaryFn::Greater, x, f64::from(lambd))?;
    let raised = with_scalar(cx, BinaryFn::Add, x, f64::from(bias))?;
    let lowered = with_scalar(cx, BinaryFn::Sub, x, f64::from(bias))?;
    let zero = cx.scalar_like(x, 0.0)?;
    let upper = cx.emit(fornax_ir::ops::Where {}, &[above, lowered, zero])?;
    Ok(vec![cx.emit(fornax_ir::ops::Where {}, &[below, raised, upper])?])
}

/// `IsInf`, of either sign or of one.
pub(crate) fn is_inf(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let negative = cx.attrs().flag("detect_negative", true)?;
    let positive = cx.attrs().flag("detect_positive", true)?;
    let y = match (negative, positive) {
        (true, true) => {
            let magnitude = unary(cx, UnaryFn::Abs, x)?;
            with_scalar(cx, BinaryFn::Equal, magnitude, f64::INFINITY)?
        }
        (true, false) => with_scalar(cx, BinaryFn::Equal, x, f64::NEG_INFINITY)?,
        (false, true) => with_scalar(cx, BinaryFn::Equal, x, f64::INFINITY)?,
        // No element is less than itself: false everywhere.
        (false, false) => binary(cx, BinaryFn::Less, x, x)?,
    };
    Ok(vec![y])
}

/// `SwiGLU`: the gate's swish times the value.
pub(crate) fn swiglu(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (gate, value) = (cx.input(0)?, cx.input(1)?);
    if cx.ty(gate) != cx.ty(value) {
        return Err(cx.error("B", cx.ty(gate).to_string(), cx.ty(value).to_string()));
    }
    let alpha = cx.attrs().float("alpha", 1.0)?;
    let gate = unary(cx, UnaryFn::Swish(alpha), gate)?;
    Ok(vec![binary(cx, BinaryFn::Mul, gate, value)?])
}
