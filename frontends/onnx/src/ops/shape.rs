//! Shapes: Reshape, Flatten, Squeeze, Unsqueeze, Shape, Size, Identity, Dropout, Expand.

use std::ops::Range;

use fornax_ir::graph::ValueId;
use fornax_ir::ops::Identity;
use fornax_ir::types::{Constant, DType};

use crate::context::Context;
use crate::error::Result;

use super::support::{axes, axis, broadcast, expand, extents, int_constant, reshape};

/// `Reshape`: 0 keeps an extent (unless `allowzero`), -1 is what is left. The shape is an attribute before version 5.
pub(crate) fn reshape_to(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let mut wanted = if cx.version() < 5 {
        cx.attrs().require_ints("shape")?
    } else {
        let shape = cx.input(1)?;
        cx.const_list(shape, "shape")?
    };
    if let (Some(batch), Some(first @ 1)) = (cx.reopened_batch(x), wanted.first_mut()) {
        *first = batch as i64;
    }
    let allow_zero = cx.version() >= 14 && cx.attrs().flag("allowzero", false)?;
    let shape = resolve(cx, x, &wanted, allow_zero)?;
    Ok(vec![reshape(cx, x, shape)?])
}

/// The shape that `wanted` asks of `x`.
pub(crate) fn resolve(cx: &Context<'_>, x: ValueId, wanted: &[i64], allow_zero: bool) -> Result<Vec<usize>> {
    let given = cx.shape(x);
    let refuse = |expected: &str| Err(cx.error("shape", expected, format!("{wanted:?} for {given}")));
    let mut shape = Vec::with_capacity(wanted.len());
    let mut free = None;
    for (i, dim) in wanted.iter().enumerate() {
        shape.push(match *dim {
            -1 if free.is_some() => return refuse("at most one -1"),
            -1 => {
                free = Some(i);
                1
            }
            0 if !allow_zero => match given.get(i) {
                Some(extent) => *extent,
                None => return refuse("0 only at axes of the operand"),
            },
            dim => match usize::try_from(dim) {
                Ok(extent) => extent,
                Err(_) => return refuse("extents of -1 or more"),
            },
        });
    }
    if free.is_some() && allow_zero && wanted.contains(&0) {
        return refuse("no -1 beside 0 with allowzero");
    }
    let count = given.numel();
    let Some(product) = shape.iter().try_fold(1usize, |n, d| n.checked_mul(*d)) else {
        return refuse("as many elements");
    };
    match free {
        Some(i) if product > 0 && count.is_multiple_of(product) => shape[i] = count / product,
        None if product == count => {}
        _ => return refuse("as many elements"),
    }
    Ok(shape)
}

/// `Flatten`: a matrix whose rows are the axes before `axis`.
pub(crate) fn flatten(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let shape = cx.shape(x).clone();
    let split = match cx.attrs().int("axis", 1)? {
        v if v == shape.rank() as i64 => shape.rank(),
        v if v < 0 && cx.version() < 11 => return Err(cx.error("axis", "0 or more", v.to_string())),
        v => axis(cx, "axis", v, shape.rank())?,
    };
    let shape = vec![shape[..split].iter().product(), shape[split..].iter().product()];
    Ok(vec![reshape(cx, x, shape)?])
}

/// The axes of Squeeze and Unsqueeze: an attribute before version 13, an input since. Exporters write the one axis of an
/// Unsqueeze as a scalar too.
pub(crate) fn listed_axes(cx: &Context<'_>, scalar: bool) -> Result<Option<Vec<i64>>> {
    if cx.version() < 13 {
        return cx.attrs().ints("axes");
    }
    match cx.optional(1) {
        None => Ok(None),
        Some(id) if scalar && cx.shape(id).rank() == 0 => cx.const_ints(id, "axes").map(Some),
        Some(id) => cx.const_list(id, "axes").map(Some),
    }
}

/// `Squeeze`: takes out the listed axes, or every axis of extent 1.
pub(crate) fn squeeze(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let shape = cx.shape(x).clone();
    // No axes listed in the attribute is no attribute.
    let given = listed_axes(cx, false)?.filter(|given| cx.version() >= 13 || !given.is_empty());
    let gone = match given {
        Some(given) => axes(cx, "axes", &given, shape.rank())?,
        None => (0..shape.rank()).filter(|i| shape[*i] == 1).collect(),
    };
    if let Some(i) = gone.iter().find(|i| shape[**i] != 1) {
        return Err(cx.error("axes", "axes of extent 1", format!("axis {i} of {shape}")));
    }
    let shape = (0..shape.rank()).filter(|i| !gone.contains(i)).map(|i| shape[i]).collect();
    Ok(vec![reshape(cx, x, shape)?])
}

/// Axes up to which Unsqueeze looks at its list; far above any limit on rank.
const MOST_AXES: usize = 256;

/// `Unsqueeze`: the listed axes of the result have extent 1.
pub(crate) fn unsqueeze(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let given = listed_axes(cx, true)?.ok_or_else(|| cx.error("axes", "a list", "none"))?;
    let shape = cx.shape(x).clone();
    let rank = shape.rank() + given.len();
    if rank > MOST_AXES {
        return Err(cx.error("axes", format!("a result of at most {MOST_AXES} axes"), rank.to_string()));
    }
    let new = axes(cx, "axes", &given, rank)?;
    let mut old = shape.iter();
    let shape = (0..rank).map(|i| if new.contains(&i) { 1 } else { old.next().copied().unwrap_or(1) }).collect();
    Ok(vec![reshape(cx, x, shape)?])
}

/// `Shape`, of a range of axes since version 15: a constant.
pub(crate) fn shape_of(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let dims: Vec<i64> = cx.shape(x)[listed_extents(cx, x)?].iter().map(|d| *d as i64).collect();
    Ok(vec![cx.add_constant(Constant::from_i64([dims.len()], &dims))])
}

/// The axes of `x` whose extents `Shape` gives.
pub(crate) fn listed_extents(cx: &Context<'_>, x: ValueId) -> Result<Range<usize>> {
    let rank = cx.shape(x).rank() as i64;
    let bound = |v: i64| (if v < 0 { v.saturating_add(rank) } else { v }).clamp(0, rank) as usize;
    if cx.version() < 15 {
        return Ok(0..rank as usize);
    }
    let (start, end) = (bound(cx.attrs().int("start", 0)?), bound(cx.attrs().int("end", rank)?));
    Ok(start.min(end)..end)
}

/// `Size`: a constant.
pub(crate) fn size(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let count = cx.shape(x).numel() as i64;
    Ok(vec![cx.add_constant(Constant::from_i64([], &[count]))])
}

/// `Identity`.
pub(crate) fn identity(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    Ok(vec![cx.emit(Identity {}, &[x])?])
}

/// `Dropout` in inference mode: the operand, and a mask of ones where it is asked for.
pub(crate) fn dropout(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    if dropout_is_active(cx)? {
        return Err(cx.unsupported("training mode"));
    }
    let mut outputs = vec![cx.emit(Identity {}, &[x])?];
    if cx.output_count() > 1 {
        let shape = cx.shape(x).to_vec();
        let dtype = if cx.version() < 10 { cx.ty(x).dtype } else { DType::Bool };
        let one = int_constant(cx, dtype, Vec::new(), &[1]);
        outputs.push(expand(cx, one, shape)?);
    }
    Ok(outputs)
}

/// Whether a Dropout drops anything: in training, and with a ratio that is not known to be 0.
fn dropout_is_active(cx: &Context<'_>) -> Result<bool> {
    if cx.version() < 7 {
        return Ok(!cx.attrs().flag("is_test", false)? && cx.attrs().float("ratio", 0.5)? != 0.0);
    }
    for (slot, field) in [(1, "ratio"), (2, "training_mode")] {
        if let Some(id) = cx.optional(slot).filter(|id| cx.shape(*id).rank() > 0) {
            return Err(cx.error(field, "a scalar", cx.ty(id).to_string()));
        }
    }
    let Some(training) = cx.optional(2) else { return Ok(false) };
    if cx.const_f64(training, "training_mode")? == 0.0 {
        return Ok(false);
    }
    match cx.optional(1) {
        None => Ok(true),
        Some(ratio) => Ok(cx.const_f64(ratio, "ratio")? != 0.0),
    }
}

/// `Expand`: to the shape that the operand and the wanted shape broadcast to together.
pub(crate) fn expand_to(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (x, wanted) = (cx.input(0)?, cx.input(1)?);
    let wanted = extents(cx, "shape", &cx.const_list(wanted, "shape")?)?;
    let Some(shape) = broadcast(cx.shape(x), &wanted) else {
        return Err(cx.error("shape", format!("a shape that {} broadcasts with", cx.shape(x)), format!("{wanted:?}")));
    };
    Ok(vec![expand(cx, x, shape)?])
}
