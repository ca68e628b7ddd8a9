//! Windowed pools: MaxPool, AveragePool, LpPool; GlobalLpPool.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::pool::PoolKind;
use fornax_ir::ops::reduce::ReduceKind;
use fornax_ir::ops::{Conv, MaxPool, Pool};
use fornax_ir::scalar::{BinaryFn, UnaryFn};

use crate::context::Context;
use crate::error::Result;

use super::support::{binary, expand, expect_rank, reduce, unary, with_scalar};
use super::window::{AutoPad, Window, dilated};

/// `MaxPool`; with its indices it is another operator of the graph.
pub(crate) fn max_pool(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (x, pool) = pool(cx, PoolKind::Max)?;
    let column_major = cx.attrs().flag("storage_order", false)?;
    if cx.output_count() <= 1 {
        return Ok(vec![cx.emit(pool, &[x])?]);
    }
    let Pool { kernel, strides, pads, dilations, ceil_mode, .. } = pool;
    cx.emit_all(MaxPool { kernel, strides, pads, dilations, ceil_mode, column_major }, &[x])
}

/// `AveragePool`.
pub(crate) fn average_pool(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (x, pool) = pool(cx, PoolKind::Average)?;
    Ok(vec![cx.emit(pool, &[x])?])
}

/// The operand and the window.
fn pool(cx: &mut Context<'_>, kind: PoolKind) -> Result<(ValueId, Pool)> {
    let x = cx.input(0)?;
    Ok((x, window(cx, kind, x)?))
}

/// The window that the node's attributes describe, over the spatial axes of `x`.
pub(super) fn window(cx: &Context<'_>, kind: PoolKind, x: ValueId) -> Result<Pool> {
    expect_rank(cx, "X", x, 3)?;
    let spatial = cx.shape(x)[2..].to_vec();
    let window = Window::of(cx, &spatial, None)?;
    let count_include_pad = kind == PoolKind::Average && cx.attrs().flag("count_include_pad", false)?;
    let ceil_mode = ceil_mode(cx, &spatial, &window)?;
    for (i, pad) in window.pads.iter().enumerate() {
        let axis = i % spatial.len();
        let span = dilated(cx, window.kernel[axis], window.dilations[axis])?;
        if *pad >= span {
            return Err(cx.error("pads", format!("entries below the window's {span}"), format!("{:?}", window.pads)));
        }
    }
    let Window { kernel, strides, dilations, pads } = window;
    Ok(Pool { kind, kernel, strides, pads, dilations, ceil_mode, count_include_pad })
}

/// Whether extents round up. `auto_pad` fixes the extents by itself; for VALID the standard's formula and its shape
/// inference disagree on `ceil_mode`, so that case is refused where the two give different extents.
fn ceil_mode(cx: &Context<'_>, spatial: &[usize], window: &Window) -> Result<bool> {
    if !cx.attrs().flag("ceil_mode", false)? {
        return Ok(false);
    }
    match AutoPad::of(cx)? {
        AutoPad::NotSet => Ok(true),
        AutoPad::SameUpper | AutoPad::SameLower => Ok(false),
        AutoPad::Valid => {
            for (i, extent) in spatial.iter().enumerate() {
                let span = dilated(cx, window.kernel[i], window.dilations[i])?;
                if !extent.saturating_sub(span).is_multiple_of(window.strides[i]) {
                    return Err(cx.unsupported("auto_pad=VALID with ceil_mode=1 over a partial window"));
                }
            }
            Ok(false)
        }
    }
}

/// `LpPool`: the p-norm over a window, as a convolution of p-th powers with ones.
pub(crate) fn lp_pool(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let p = exponent(cx)?;
    let Pool { kernel, strides, mut pads, dilations, ceil_mode, .. } = window(cx, PoolKind::Average, x)?;
    let (shape, axes) = (cx.shape(x).to_vec(), kernel.len());
    for axis in (0..axes).filter(|_| ceil_mode) {
        // A last window that begins inside is filled with zeros.
        let span = dilated(cx, kernel[axis], dilations[axis])?;
        let padded = shape[axis + 2] + pads[axis] + pads[axis + axes];
        let Some(room) = padded.checked_sub(span) else { continue };
        let more = room.div_ceil(strides[axis]) * strides[axis] - room;
        let begin = room.div_ceil(strides[axis]) * strides[axis];
        if more > 0 && begin < shape[axis + 2] + pads[axis] {
            pads[axis + axes] += more;
        }
    }
    let powers = power(cx, x, p)?;
    let weight = [&[shape[1], 1], &kernel[..]].concat();
    let one = cx.scalar_like(x, 1.0)?;
    let ones = expand(cx, one, weight)?;
    let op = Conv { strides, pads, dilations, group: shape[1], ..Conv::default() };
    let sum = cx.emit(op, &[powers, ones])?;
    Ok(vec![root(cx, sum, p)?])
}

/// `GlobalLpPool`: the p-norm over the spatial axes.
pub(crate) fn global_lp_pool(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    expect_rank(cx, "X", x, 3)?;
    let (p, axes) = (exponent(cx)?, (2..cx.shape(x).rank()).collect());
    let powers = power(cx, x, p)?;
    let sum = reduce(cx, ReduceKind::Sum, powers, axes)?;
    Ok(vec![root(cx, sum, p)?])
}

/// The exponent of a p-norm; before version 2 it is a float.
fn exponent(cx: &Context<'_>) -> Result<f64> {
    let p = match cx.version() {
        ..2 => f64::from(cx.attrs().float("p", 2.0)?),
        _ => cx.attrs().int("p", 2)? as f64,
    };
    if p > 0.0 && p.is_finite() { Ok(p) } else { Err(cx.error("p", "a number above 0", p.to_string())) }
}

/// The magnitude to the power `p`.
fn power(cx: &mut Context<'_>, x: ValueId, p: f64) -> Result<ValueId> {
    if p == 2.0 {
        return binary(cx, BinaryFn::Mul, x, x);
    }
    let size = unary(cx, UnaryFn::Abs, x)?;
    if p == 1.0 { Ok(size) } else { with_scalar(cx, BinaryFn::Pow, size, p) }
}

/// The root of order `p`.
fn root(cx: &mut Context<'_>, x: ValueId, p: f64) -> Result<ValueId> {
    match p {
        1.0 => Ok(x),
        2.0 => unary(cx, UnaryFn::Sqrt, x),
        _ => with_scalar(cx, BinaryFn::Pow, x, 1.0 / p),
    }
}
