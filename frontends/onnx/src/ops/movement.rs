//! Data movement: Transpose, Concat, Split, Slice, Gather, GatherElements, Tile, Pad, DepthToSpace, SpaceToDepth,
//! CenterCropPad.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::pad::PadMode;
use fornax_ir::ops::{Concat, Gather, GatherElements, Pad, Slice, Tile};

use crate::context::Context;
use crate::error::Result;
use crate::narrow::Narrow;

use super::support::{axes, axis, expand, expect_len, extent, extents, reshape, transpose};

/// `Transpose`; without `perm` the axes are reversed.
pub(crate) fn transpose_axes(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let rank = cx.shape(x).rank();
    let perm = match cx.attrs().ints("perm")? {
        None => (0..rank).rev().collect(),
        Some(given) => {
            expect_len(cx, "perm", &given, rank)?;
            extents(cx, "perm", &given)?;
            axes(cx, "perm", &given, rank)?
        }
    };
    Ok(vec![transpose(cx, x, perm)?])
}

/// `Concat`.
pub(crate) fn concat(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let mut operands = (0..cx.input_count().max(1)).map(|slot| cx.input(slot)).collect::<Result<Vec<_>>>()?;
    let given = if cx.version() < 4 { cx.attrs().int("axis", 1)? } else { cx.attrs().require_int("axis")? };
    let axis = axis(cx, "axis", given, cx.shape(operands[0]).rank())?;
    if let Some(batch) = operands.iter().find_map(|x| cx.reopened_batch(*x)).filter(|_| axis != 0) {
        for operand in &mut operands {
            let mut shape = cx.shape(*operand).to_vec();
            if cx.constant(*operand).is_some() && shape.first() == Some(&1) {
                shape[0] = batch;
                *operand = expand(cx, *operand, shape)?;
            }
        }
    }
    Ok(vec![cx.emit(Concat { axis }, &operands)?])
}

/// `Split`: by listed extents, by `num_outputs`, or evenly over the outputs. One slice per output.
pub(crate) fn split(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let shape = cx.shape(x).clone();
    let axis = axis(cx, "axis", cx.attrs().int("axis", 0)?, shape.rank())?;
    let sizes = split_sizes(cx, shape[axis])?;
    // The last parts may be unnamed.
    let parts = cx.node.output.len();
    if sizes.len() != parts || sizes.iter().try_fold(0usize, |n, s| n.checked_add(*s)) != Some(shape[axis]) {
        let expected = format!("{parts} extents that add up to {}", shape[axis]);
        return Err(cx.error("split", expected, format!("{sizes:?}")));
    }
    let mut start = 0;
    let mut outputs = Vec::with_capacity(cx.output_count());
    for size in sizes.into_iter().take(cx.output_count()) {
        let mut starts = vec![0; shape.rank()];
        let mut extents = shape.to_vec();
        (starts[axis], extents[axis]) = (start, size);
        outputs.push(cx.emit(Slice { starts, steps: Vec::new(), sizes: extents }, &[x])?);
        start += size;
    }
    Ok(outputs)
}

/// Extents of the parts of an axis of extent `total`.
fn split_sizes(cx: &Context<'_>, total: usize) -> Result<Vec<usize>> {
    let listed = match cx.version() {
        2..13 => cx.attrs().ints("split")?,
        version => match cx.optional(1) {
            // The first version has the extents in elements of the operand's type.
            Some(id) if version < 2 => Some(cx.const_f64_list(id, "split")?.into_iter().map(|v| v as i64).collect()),
            Some(id) => Some(cx.const_list(id, "split")?),
            None if version < 2 => cx.attrs().ints("split")?,
            None => None,
        },
    };
    if let Some(listed) = listed {
        if cx.attrs().has("num_outputs") {
            return Err(cx.error("num_outputs", "split or num_outputs", "both"));
        }
        return extents(cx, "split", &listed);
    }
    let parts = cx.node.output.len();
    let count = extent(cx, "num_outputs", cx.attrs().int("num_outputs", parts as i64)?)?;
    if count == 0 || count != parts {
        return Err(cx.error("num_outputs", format!("{parts}, as many as outputs"), count.to_string()));
    }
    let part = total.div_ceil(count);
    let last = part.checked_mul(count - 1).and_then(|before| total.checked_sub(before));
    let even = cx.version() >= 18 || total.is_multiple_of(count);
    match last {
        Some(last) if even => {
            let mut sizes = vec![part; count];
            sizes[count - 1] = last;
            Ok(sizes)
        }
        _ => Err(cx.error("num_outputs", format!("a split of extent {total}"), count.to_string())),
    }
}

/// `Slice`: bounds are attributes before version 10, constant inputs since.
pub(crate) fn slice(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let shape = cx.shape(x).clone();
    let (starts, ends, listed, steps) = if cx.version() < 10 {
        (cx.attrs().require_ints("starts")?, cx.attrs().require_ints("ends")?, cx.attrs().ints("axes")?, None)
    } else {
        let list = |slot: usize, what: &str| cx.const_list(cx.input(slot)?, what);
        let optional = |slot: usize, what: &str| cx.optional(slot).map(|id| cx.const_list(id, what)).transpose();
        (list(1, "starts")?, list(2, "ends")?, optional(3, "axes")?, optional(4, "steps")?)
    };
    let listed = listed.unwrap_or_else(|| (0..starts.len() as i64).collect());
    let steps = steps.unwrap_or_else(|| vec![1; starts.len()]);
    for (field, list) in [("ends", &ends), ("axes", &listed), ("steps", &steps)] {
        expect_len(cx, field, list, starts.len())?;
    }
    let axes = axes(cx, "axes", &listed, shape.rank())?;
    let mut op = Slice { starts: vec![0; shape.rank()], steps: vec![1; shape.rank()], sizes: shape.to_vec() };
    for (i, axis) in axes.into_iter().enumerate() {
        if steps[i] == 0 {
            return Err(cx.error("steps", "steps other than 0", "0"));
        }
        (op.starts[axis], op.sizes[axis]) = slice_bounds(shape[axis] as i64, starts[i], ends[i], steps[i]);
        op.steps[axis] = steps[i];
    }
    if op.steps.iter().all(|s| *s == 1) {
        op.steps.clear();
    }
    Ok(vec![cx.emit(op, &[x])?])
}

/// First element and number of elements of a slice of an axis; bounds count from the end where negative and are clamped.
fn slice_bounds(extent: i64, start: i64, end: i64, step: i64) -> (usize, usize) {
    if extent == 0 {
        return (0, 0);
    }
    let from_front = |v: i64| if v < 0 { v.saturating_add(extent) } else { v };
    let (start, end) = (from_front(start), from_front(end));
    let (first, count) = if step > 0 {
        let (first, end) = (start.clamp(0, extent), end.clamp(0, extent));
        (first, (end - first).max(0).unsigned_abs().div_ceil(step.unsigned_abs()))
    } else {
        let (first, end) = (start.clamp(0, extent - 1), end.clamp(-1, extent - 1));
        (first, (first - end).max(0).unsigned_abs().div_ceil(step.unsigned_abs()))
    };
    if count == 0 { (0, 0) } else { (first as usize, count as usize) }
}

/// `Gather`.
pub(crate) fn gather(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (x, indices) = (cx.input(0)?, cx.input(1)?);
    let axis = axis(cx, "axis", cx.attrs().int("axis", 0)?, cx.shape(x).rank())?;
    check_indices(cx, indices, cx.shape(x)[axis])?;
    Ok(vec![cx.emit(Gather { axis }, &[x, indices])?])
}

/// `GatherElements`.
pub(crate) fn gather_elements(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (x, indices) = (cx.input(0)?, cx.input(1)?);
    let axis = axis(cx, "axis", cx.attrs().int("axis", 0)?, cx.shape(x).rank())?;
    check_indices(cx, indices, cx.shape(x)[axis])?;
    Ok(vec![cx.emit(GatherElements { axis }, &[x, indices])?])
}

/// Fails if indices that are known point outside an axis.
fn check_indices(cx: &Context<'_>, indices: ValueId, extent: usize) -> Result<()> {
    if cx.constant(indices).is_none() {
        return Ok(());
    }
    let bound = extent as i64;
    match cx.const_ints(indices, "indices")?.into_iter().find(|i| !(-bound..bound).contains(i)) {
        None => Ok(()),
        Some(outside) => Err(cx.error("indices", format!("-{bound} to {}", bound - 1), outside.to_string())),
    }
}

/// `Tile`; before version 6, copies along one axis.
pub(crate) fn tile(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let rank = cx.shape(x).rank();
    let repeats = if cx.version() < 6 {
        let only = |slot: usize, what: &str| cx.const_f64(cx.input(slot)?, what).map(|value| value as i64);
        let (tiles, along) = (only(1, "tiles")?, only(2, "axis")?);
        let mut repeats = vec![1; rank];
        repeats[axis(cx, "axis", along, rank)?] = extent(cx, "tiles", tiles)?;
        repeats
    } else {
        let repeats = cx.const_list(cx.input(1)?, "repeats")?;
        expect_len(cx, "repeats", &repeats, rank)?;
        extents(cx, "repeats", &repeats)?
    };
    Ok(vec![cx.emit(Tile { repeats }, &[x])?])
}

/// `Pad`: pads are an attribute before version 11, a constant input since; version 18 lets them speak of some axes only.
pub(crate) fn pad(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let rank = cx.shape(x).rank();
    if cx.inputs.get(2).is_some_and(Option::is_some) && cx.narrow(0) != cx.narrow(2) {
        let name = |slot: usize| cx.narrow(slot).map_or("another type", Narrow::name);
        return Err(cx.error("constant_value", name(0), name(2)));
    }
    let mode = match cx.attrs().string("mode", "constant")? {
        "constant" => PadMode::Constant,
        "edge" => PadMode::Edge,
        "reflect" => PadMode::Reflect,
        "wrap" if cx.version() >= 19 => PadMode::Wrap,
        other => return Err(cx.error("mode", "constant, edge, reflect or (since version 19) wrap", other)),
    };
    let (given, value) = match cx.version() {
        ..2 => (cx.attrs().require_ints("paddings")?, f64::from(cx.attrs().float("value", 0.0)?)),
        2..11 => (cx.attrs().require_ints("pads")?, f64::from(cx.attrs().float("value", 0.0)?)),
        _ => (cx.const_list(cx.input(1)?, "pads")?, pad_value(cx)?),
    };
    let listed = match cx.optional(3).filter(|_| cx.version() >= 18) {
        None => (0..rank).collect(),
        Some(id) => axes(cx, "axes", &cx.const_list(id, "axes")?, rank)?,
    };
    expect_len(cx, "pads", &given, 2 * listed.len())?;
    let mut pads = vec![0; 2 * rank];
    for (i, axis) in listed.iter().enumerate() {
        pads[*axis] = given[i];
        pads[axis + rank] = given[i + listed.len()];
    }
    let beyond = |axis: usize| {
        let cropped = |pad: i64| pad.min(0).unsigned_abs();
        cropped(pads[axis]).saturating_add(cropped(pads[axis + rank])) > cx.shape(x)[axis] as u64
    };
    match mode == PadMode::Constant && (0..rank).any(beyond) {
        true => crop_padding(cx, x, pads, value),
        false => Ok(vec![cx.emit(Pad { mode, pads, value }, &[x])?]),
    }
}

/// `Pad` that crops more than the extent, and so some of the constant.
fn crop_padding(cx: &mut Context<'_>, x: ValueId, pads: Vec<i64>, value: f64) -> Result<Vec<ValueId>> {
    let rank = cx.shape(x).rank();
    let padding = pads.iter().map(|pad| (*pad).max(0)).collect();
    let padded = cx.emit(Pad { mode: PadMode::Constant, pads: padding, value }, &[x])?;
    let crop = |axis: usize| usize::try_from(pads[axis].min(0).unsigned_abs()).ok();
    let shape = cx.shape(padded).to_vec();
    let starts: Option<Vec<usize>> = (0..rank).map(crop).collect();
    let sizes = (0..rank).map(|axis| shape[axis].checked_sub(crop(axis)?)?.checked_sub(crop(axis + rank)?));
    let (Some(starts), Some(sizes)) = (starts, sizes.collect::<Option<Vec<usize>>>()) else {
        return Err(cx.error("pads", format!("to crop at most what {shape:?} has, padded"), format!("{pads:?}")));
    };
    Ok(vec![cx.emit(Slice { starts, steps: Vec::new(), sizes }, &[padded])?])
}

/// The constant that `Pad` fills with, given as an input.
fn pad_value(cx: &Context<'_>) -> Result<f64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let Some(id) = cx.optional(2) else { return Ok(0.0) };
    let value = cx.const_f64(id, "constant_value")?;
    if !cx.ty(id).dtype.is_float() && value.abs() > EXACT {
        return Err(cx.unsupported("constant_value beyond 2^53"));
    }
    Ok(value)
}

/// Batch, channels, height and width of an operand, and the attribute `blocksize`.
fn blocks(cx: &Context<'_>, x: ValueId) -> Result<([usize; 4], usize)> {
    let [n, c, h, w] = cx.shape(x)[..] else {
        return Err(cx.error("input", "rank 4", cx.ty(x).to_string()));
    };
    let block = extent(cx, "blocksize", cx.attrs().require_int("blocksize")?)?;
    if block == 0 || block > 1 << 16 {
        return Err(cx.error("blocksize", "1 to 65536", block.to_string()));
    }
    Ok(([n, c, h, w], block))
}

/// `DepthToSpace`, in depth-column-row or column-row-depth order.
pub(crate) fn depth_to_space(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let ([n, c, h, w], block) = blocks(cx, x)?;
    if !c.is_multiple_of(block * block) {
        return Err(cx.error("blocksize", format!("a square that divides {c} channels"), block.to_string()));
    }
    let depth = c / (block * block);
    let (split, perm) = match cx.attrs().string("mode", "DCR")? {
        "DCR" => (vec![n, block, block, depth, h, w], vec![0, 3, 4, 1, 5, 2]),
        "CRD" => (vec![n, depth, block, block, h, w], vec![0, 1, 4, 2, 5, 3]),
        other => return Err(cx.error("mode", "DCR or CRD", other)),
    };
    let split = reshape(cx, x, split)?;
    let moved = transpose(cx, split, perm)?;
    Ok(vec![reshape(cx, moved, vec![n, depth, h.saturating_mul(block), w.saturating_mul(block)])?])
}

/// `SpaceToDepth`, the inverse of [`depth_to_space`].
pub(crate) fn space_to_depth(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let ([n, c, h, w], block) = blocks(cx, x)?;
    if !h.is_multiple_of(block) || !w.is_multiple_of(block) {
        return Err(cx.error("blocksize", format!("a divisor of {h} and {w}"), block.to_string()));
    }
    let perm = match cx.attrs().string("mode", "DCR")? {
        "DCR" => vec![0, 3, 5, 1, 2, 4],
        "CRD" => vec![0, 1, 3, 5, 2, 4],
        other => return Err(cx.error("mode", "DCR or CRD", other)),
    };
    let (h, w) = (h / block, w / block);
    let split = reshape(cx, x, vec![n, c, h, block, w, block])?;
    let moved = transpose(cx, split, perm)?;
    Ok(vec![reshape(cx, moved, vec![n, c.saturating_mul(block * block), h, w])?])
}

/// `CenterCropPad`: each listed axis cut or filled with zeros around its middle.
pub(crate) fn center_crop_pad(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let shape = cx.shape(x).clone();
    let wanted = extents(cx, "shape", &cx.const_list(cx.input(1)?, "shape")?)?;
    let listed = match cx.attrs().ints("axes")? {
        None => (0..shape.rank()).collect(),
        Some(given) => axes(cx, "axes", &given, shape.rank())?,
    };
    expect_len(cx, "shape", &wanted, listed.len())?;
    let rank = shape.rank();
    let mut pads = vec![0; 2 * rank];
    for (wanted, axis) in wanted.into_iter().zip(listed) {
        let (wanted, given) = (wanted as i64, shape[axis] as i64);
        // The half that is cut or added at the begin is rounded down.
        let begin = if wanted >= given { (wanted - given) / 2 } else { -((given - wanted) / 2) };
        (pads[axis], pads[axis + rank]) = (begin, wanted - given - begin);
    }
    Ok(vec![cx.emit(Pad { mode: PadMode::Constant, pads, value: 0.0 }, &[x])?])
}
