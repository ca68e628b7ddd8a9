//! Windowed pools: MaxPool, AveragePool.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::pool::PoolKind;
use fornax_ir::ops::{MaxPool, Pool};

use crate::context::Context;
use crate::error::Result;

use super::support::expect_rank;
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
