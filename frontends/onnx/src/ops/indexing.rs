//! Elements by computed or listed places: GatherND, ScatterND, ScatterElements, TensorScatter, ReverseSequence.
//!
//! Reading is a gather of flattened axes. Writing at places that are known at compile time is a gather too: each element of the result is one of
//! the data or one of the updates, combined where the operator says so.

use std::collections::BTreeMap;

use fornax_ir::graph::ValueId;
use fornax_ir::ops::{Concat, Gather, GatherElements, Where};
use fornax_ir::scalar::BinaryFn;
use fornax_ir::types::DType;

use crate::context::Context;
use crate::error::Result;

use super::support::{axis, binary, cast, expand, extent, int_constant, positions, reshape, with_scalar};

fn product(extents: &[usize]) -> usize {
    extents.iter().fold(1, |n, d| n.saturating_mul(*d))
}

/// `GatherND`: slices at tuples of indices, of each entry of the batch axes.
pub(crate) fn gather_nd(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (data, indices) = (cx.input(0)?, cx.input(1)?);
    let batch = extent(cx, "batch_dims", cx.attrs().int("batch_dims", 0)?)?;
    let (shape, index) = (cx.shape(data).to_vec(), cx.shape(indices).to_vec());
    let Some((width, outer)) = index.split_last() else {
        return Err(cx.error("indices", "rank 1 or more", cx.ty(indices).to_string()));
    };
    let depth = batch.saturating_add(*width);
    if depth > shape.len() || batch > outer.len() || shape[..batch] != outer[..batch] {
        let expected = format!("{batch} axes as data, and at most {} indices each", shape.len().saturating_sub(batch));
        return Err(cx.error("indices", expected, cx.ty(indices).to_string()));
    }
    let mut rest = shape[depth..].to_vec();
    let wrap = |cx: &mut Context<'_>, at: ValueId, extent: usize| {
        let negative = with_scalar(cx, BinaryFn::Less, at, 0.0)?;
        let raised = with_scalar(cx, BinaryFn::Add, at, extent as f64)?;
        cx.emit(Where {}, &[negative, raised, at])
    };
    let count = product(outer);
    let flat = reshape(cx, indices, vec![count, *width])?;
    let mut linear = int_constant(cx, DType::I64, Vec::new(), &[0]);
    if batch > 0 {
        let entries = product(&shape[..batch]);
        let entry = positions(cx, entries, vec![entries, 1])?;
        let each = count / entries.max(1);
        let entry = expand(cx, entry, vec![entries, each])?;
        linear = reshape(cx, entry, vec![count])?;
    }
    for (i, extent) in shape[batch..depth].iter().enumerate() {
        let op = fornax_ir::ops::Slice { starts: vec![0, i], steps: Vec::new(), sizes: vec![count, 1] };
        let at = cx.emit(op, &[flat])?;
        let at = reshape(cx, at, vec![count])?;
        let at = wrap(cx, at, *extent)?;
        let before = with_scalar(cx, BinaryFn::Mul, linear, *extent as f64)?;
        linear = binary(cx, BinaryFn::Add, before, at)?;
    }
    let linear = expand(cx, linear, vec![count])?;
    let mut rows = vec![product(&shape[..depth])];
    rows.append(&mut rest.clone());
    let rows = reshape(cx, data, rows)?;
    let found = cx.emit(Gather { axis: 0 }, &[rows, linear])?;
    let mut result = outer.to_vec();
    result.append(&mut rest);
    Ok(vec![reshape(cx, found, result)?])
}

/// How an update meets what is there.
fn reduction(cx: &Context<'_>) -> Result<Option<BinaryFn>> {
    Ok(match cx.attrs().string("reduction", "none")? {
        "none" => None,
        "add" => Some(BinaryFn::Add),
        "mul" => Some(BinaryFn::Mul),
        "max" => Some(BinaryFn::Max),
        "min" => Some(BinaryFn::Min),
        other => return Err(cx.error("reduction", "none, add, mul, max or min", other)),
    })
}

/// Rows of `data` with the rows of `updates` written at `places`, in their order. `data` and `updates` are `[rows, width]`.
fn scattered(
    cx: &mut Context<'_>,
    data: ValueId,
    updates: ValueId,
    places: &[usize],
    function: Option<BinaryFn>,
) -> Result<ValueId> {
    let count = cx.shape(data)[0];
    cx.charge(count as u64 + places.len() as u64)?;
    let Some(function) = function else {
        let mut source: Vec<i64> = (0..count as i64).collect();
        for (update, place) in places.iter().enumerate() {
            source[*place] = (count + update) as i64;
        }
        let all = cx.emit(Concat { axis: 0 }, &[data, updates])?;
        let source = int_constant(cx, DType::I64, vec![count], &source);
        return cx.emit(Gather { axis: 0 }, &[all, source]);
    };
    // One layer for the first update of every place, one for the second, and so on.
    let mut layers: Vec<BTreeMap<usize, usize>> = Vec::new();
    let mut met = vec![0usize; count];
    for (update, place) in places.iter().enumerate() {
        if met[*place] == layers.len() {
            layers.push(BTreeMap::new());
        }
        layers[met[*place]].insert(*place, update);
        met[*place] += 1;
    }
    let mut y = data;
    for layer in layers {
        cx.charge(count as u64)?;
        let source: Vec<i64> = (0..count).map(|row| layer.get(&row).map_or(0, |update| *update as i64)).collect();
        let hit: Vec<i64> = (0..count).map(|row| i64::from(layer.contains_key(&row))).collect();
        let source = int_constant(cx, DType::I64, vec![count], &source);
        let hit = int_constant(cx, DType::Bool, vec![count, 1], &hit);
        let rows = cx.emit(Gather { axis: 0 }, &[updates, source])?;
        let combined = binary(cx, function, y, rows)?;
        y = cx.emit(Where {}, &[hit, combined, y])?;
    }
    Ok(y)
}

/// An index counted from the front.
fn place(cx: &Context<'_>, index: i64, extent: usize) -> Result<usize> {
    let at = if index < 0 { index.saturating_add(extent as i64) } else { index };
    usize::try_from(at)
        .ok()
        .filter(|at| *at < extent)
        .ok_or_else(|| cx.error("indices", format!("indices of an axis of {extent}"), index.to_string()))
}

/// `ScatterND`: slices written at tuples of indices that are known.
pub(crate) fn scatter_nd(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (data, indices, updates) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let function = reduction(cx)?;
    let (shape, index) = (cx.shape(data).to_vec(), cx.shape(indices).to_vec());
    let Some((width, outer)) = index.split_last().filter(|(width, _)| **width <= shape.len()) else {
        return Err(cx.error("indices", format!("at most {} indices each", shape.len()), cx.ty(indices).to_string()));
    };
    let wanted = [outer, &shape[*width..]].concat();
    if cx.shape(updates)[..] != wanted[..] {
        return Err(cx.error("updates", format!("shape {wanted:?}"), cx.ty(updates).to_string()));
    }
    let listed = cx.const_ints(indices, "indices")?;
    let mut places = Vec::with_capacity(product(outer));
    for tuple in 0..product(outer) {
        let mut at = 0;
        for (i, extent) in shape[..*width].iter().enumerate() {
            at = at * extent + place(cx, listed[tuple * width + i], *extent)?;
        }
        places.push(at);
    }
    let (rows, columns) = (product(&shape[..*width]), product(&shape[*width..]));
    let matrix = reshape(cx, data, vec![rows, columns])?;
    let updates = reshape(cx, updates, vec![places.len(), columns])?;
    let y = scattered(cx, matrix, updates, &places, function)?;
    Ok(vec![reshape(cx, y, shape)?])
}

/// `ScatterElements`, and `Scatter` before it: elements written along an axis at indices that are known.
pub(crate) fn scatter_elements(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (data, indices, updates) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let function = reduction(cx)?;
    let (shape, index) = (cx.shape(data).to_vec(), cx.shape(indices).to_vec());
    let axis = axis(cx, "axis", cx.attrs().int("axis", 0)?, shape.len())?;
    if cx.shape(updates)[..] != index[..] || index.len() != shape.len() {
        return Err(cx.error(
            "updates",
            format!("shape {index:?} of rank {}", shape.len()),
            cx.ty(updates).to_string(),
        ));
    }
    if let Some(wide) = (0..shape.len()).find(|i| *i != axis && index[*i] > shape[*i]) {
        return Err(cx.error(
            "indices",
            format!("at most {} along axis {wide}", shape[wide]),
            cx.ty(indices).to_string(),
        ));
    }
    let listed = cx.const_ints(indices, "indices")?;
    let mut places = Vec::with_capacity(listed.len());
    for (element, along) in listed.iter().enumerate() {
        let (mut rest, mut at, mut stride) = (element, 0, 1);
        for i in (0..shape.len()).rev() {
            let coordinate = if i == axis { place(cx, *along, shape[i])? } else { rest % index[i] };
            rest /= index[i];
            at += coordinate * stride;
            stride *= shape[i];
        }
        places.push(at);
    }
    let flat = reshape(cx, data, vec![product(&shape), 1])?;
    let updates = reshape(cx, updates, vec![places.len(), 1])?;
    let y = scattered(cx, flat, updates, &places, function)?;
    Ok(vec![reshape(cx, y, shape)?])
}

/// `TensorScatter`: the update written along an axis of a cache, from an index of each entry of the batch on.
pub(crate) fn tensor_scatter(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (cache, update) = (cx.input(0)?, cx.input(1)?);
    let (shape, part) = (cx.shape(cache).to_vec(), cx.shape(update).to_vec());
    let axis = axis(cx, "axis", cx.attrs().int("axis", -2)?, shape.len())?;
    let fits = |(i, (a, b)): (usize, (&usize, &usize))| if i == axis { b <= a } else { a == b };
    if axis == 0 || part.len() != shape.len() || part[axis] == 0 || !shape.iter().zip(&part).enumerate().all(fits) {
        return Err(cx.error(
            "update",
            format!("a part of {} along axis {axis}", cx.ty(cache)),
            cx.ty(update).to_string(),
        ));
    }
    let circular = match cx.attrs().string("mode", "linear")? {
        "linear" => false,
        "circular" => true,
        other => return Err(cx.error("mode", "linear or circular", other)),
    };
    let start = match cx.optional(2) {
        Some(start) if cx.shape(start)[..] == [shape[0]] => {
            let mut ones = vec![1; shape.len()];
            ones[0] = shape[0];
            reshape(cx, start, ones)?
        }
        Some(start) => {
            return Err(cx.error("write_indices", format!("shape [{}]", shape[0]), cx.ty(start).to_string()));
        }
        None => int_constant(cx, DType::I64, vec![1; shape.len()], &[0]),
    };
    let mut along = vec![1; shape.len()];
    along[axis] = shape[axis];
    let at = positions(cx, shape[axis], along)?;
    let mut from = binary(cx, BinaryFn::Sub, at, start)?;
    if circular {
        from = with_scalar(cx, BinaryFn::Mod, from, shape[axis] as f64)?;
    }
    let begun = with_scalar(cx, BinaryFn::GreaterOrEqual, from, 0.0)?;
    let going = with_scalar(cx, BinaryFn::Less, from, part[axis] as f64)?;
    let written = binary(cx, BinaryFn::And, begun, going)?;
    let zero = int_constant(cx, DType::I64, Vec::new(), &[0]);
    let index = cx.emit(Where {}, &[written, from, zero])?;
    let index = expand(cx, index, shape.clone())?;
    let moved = cx.emit(GatherElements { axis }, &[update, index])?;
    Ok(vec![cx.emit(Where {}, &[written, moved, cache])?])
}

/// `ReverseSequence`: the first elements of each entry of the batch in reverse, as many as its length says.
pub(crate) fn reverse_sequence(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (x, lengths) = (cx.input(0)?, cx.input(1)?);
    let shape = cx.shape(x).to_vec();
    let time = axis(cx, "time_axis", cx.attrs().int("time_axis", 0)?, shape.len())?;
    let batch = axis(cx, "batch_axis", cx.attrs().int("batch_axis", 1)?, shape.len())?;
    if time == batch || cx.shape(lengths)[..] != [shape[batch]] {
        return Err(cx.error(
            "sequence_lens",
            format!("shape [{}], of another axis than time", shape[batch]),
            cx.ty(lengths).to_string(),
        ));
    }
    let mut along = vec![1; shape.len()];
    along[time] = shape[time];
    let at = positions(cx, shape[time], along)?;
    let mut of_batch = vec![1; shape.len()];
    of_batch[batch] = shape[batch];
    let lengths = cast(cx, lengths, DType::I64)?;
    let lengths = reshape(cx, lengths, of_batch)?;
    let last = with_scalar(cx, BinaryFn::Sub, lengths, 1.0)?;
    let back = binary(cx, BinaryFn::Sub, last, at)?;
    let within = binary(cx, BinaryFn::Less, at, lengths)?;
    let index = cx.emit(Where {}, &[within, back, at])?;
    let index = expand(cx, index, shape)?;
    Ok(vec![cx.emit(GatherElements { axis: time }, &[x, index])?])
}
