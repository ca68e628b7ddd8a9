//! What chooses by data: NonZero, Compress and NonMaxSuppression.
//!
//! Their results have memory for all that could be chosen, and an extent that depends on data ([`crate::live`]).

use fornax_ir::graph::ValueId;
use fornax_ir::ops::{Concat, Gather, NonMaxSuppression, Slice, Where};
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::DType;

use crate::context::Context;
use crate::error::Result;
use crate::live::{Entry, Extent};

use super::carry::{compacted, filled, mark, within};
use super::support::{axis, binary, expand, int_constant, positions, reshape, transpose, unary, with_scalar};

/// `x` as flags: what is not zero. False behind a count.
fn flags(cx: &mut Context<'_>, x: ValueId) -> Result<ValueId> {
    let x = filled(cx, x, 0.0)?;
    if cx.ty(x).dtype == DType::Bool {
        return Ok(x);
    }
    let zero = with_scalar(cx, BinaryFn::Equal, x, 0.0)?;
    unary(cx, UnaryFn::Not, zero)
}

/// `NonZero`: the indices of what is not zero, a row for each axis.
pub(crate) fn non_zero(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let mut shape = cx.shape(x).to_vec();
    if shape.is_empty() {
        shape.push(1);
    }
    let count: usize = shape.iter().product();
    if count == 0 {
        return Ok(vec![int_constant(cx, DType::I64, vec![shape.len(), 0], &[])]);
    }
    // The same flags chosen by twice give one extent, so that what is chosen goes together.
    let (places, extent) = match cx.assembly.positions.get(&x).copied() {
        Some((places, number)) => (places, Extent { bound: count, count: number }),
        None => {
            let flags = flags(cx, x)?;
            let flat = reshape(cx, flags, vec![count])?;
            let (places, extent) = compacted(cx, flat)?;
            cx.assembly.positions.insert(x, (places, extent.count));
            (places, extent)
        }
    };
    let mut rows = Vec::with_capacity(shape.len());
    for (axis, extent) in shape.iter().enumerate() {
        let stride: usize = shape[axis + 1..].iter().product();
        let mut row = places;
        if stride > 1 {
            row = with_scalar(cx, BinaryFn::Div, row, stride as f64)?;
        }
        if axis > 0 {
            row = with_scalar(cx, BinaryFn::Mod, row, *extent as f64)?;
        }
        rows.push(reshape(cx, row, vec![1, count])?);
    }
    let all = cx.emit(Concat { axis: 0 }, &rows)?;
    Ok(vec![mark(cx, all, 1, extent)?])
}

/// `Compress`: the slices along an axis, or the elements, whose condition holds.
pub(crate) fn compress(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (mut x, condition) = (cx.input(0)?, cx.input(1)?);
    cx.expect_vector(condition, "condition")?;
    let live = cx.live(x);
    let along = match cx.attrs().optional_int("axis")? {
        Some(given) => axis(cx, "axis", given, cx.shape(x).rank())?,
        None => 0,
    };
    if let Some(live) = live.filter(|live| live.axis != along || (!cx.attrs().has("axis") && cx.shape(x).rank() > 1)) {
        return Err(cx.unsupported(format!("input: axis {} has an extent that depends on data", live.axis)));
    }
    if !cx.attrs().has("axis") {
        let count = cx.shape(x).numel();
        x = reshape(cx, x, vec![count])?;
    }
    let extent = cx.shape(x)[along];
    let mut mask = filled(cx, condition, 0.0)?;
    let bound = cx.shape(mask)[0].min(extent);
    let first = |bound: usize| Slice { starts: vec![0], steps: Vec::new(), sizes: vec![bound] };
    if cx.shape(mask)[0] > bound {
        mask = cx.emit(first(bound), &[mask])?;
    }
    if bound == 0 {
        let mut sizes = cx.shape(x).to_vec();
        sizes[along] = 0;
        return Ok(vec![cx.emit(Slice { starts: vec![0; sizes.len()], steps: Vec::new(), sizes }, &[x])?]);
    }
    if let Some(live) = live {
        let mut inside = within(cx, crate::live::Live { axis: 0, ..live }, 1)?;
        if extent > bound {
            inside = cx.emit(first(bound), &[inside])?;
        }
        mask = binary(cx, BinaryFn::And, mask, inside)?;
    }
    let (places, extent) = compacted(cx, mask)?;
    let chosen = cx.emit(Gather { axis: along }, &[x, places])?;
    Ok(vec![mark(cx, chosen, along, extent)?])
}

/// `NonMaxSuppression`: image, class and index of the boxes that are chosen, in this order and by falling scores.
pub(crate) fn non_max_suppression(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (boxes, scores) = (cx.input(0)?, cx.input(1)?);
    let [images, classes, count] = cx.shape(scores)[..] else {
        return Err(cx.error("scores", "rank 3", cx.ty(scores).to_string()));
    };
    if cx.shape(boxes)[..] != [images, count, 4] {
        return Err(cx.error("boxes", format!("shape [{images},{count},4]"), cx.ty(boxes).to_string()));
    }
    for (field, id, along) in [("boxes", boxes, 1), ("scores", scores, 2)] {
        if let Some(live) = cx.live(id).filter(|live| live.axis != along) {
            return Err(cx.unsupported(format!("{field}: axis {} has an extent that depends on data", live.axis)));
        }
    }
    let most = match cx.optional(2) {
        None => 0,
        Some(id) => match cx.entries(id).as_deref() {
            Some([Entry::Count(extent)]) => extent.bound as i64,
            _ => cx.const_int(id, "max_output_boxes_per_class")?,
        },
    };
    let k = usize::try_from(most.max(0)).unwrap_or(usize::MAX).min(count);
    let threshold = match cx.optional(3) {
        Some(id) => {
            cx.expect_scalar(id, "iou_threshold")?;
            if cx.constant(id).is_some() && !(0.0..=1.0).contains(&cx.const_f64(id, "iou_threshold")?) {
                let found = cx.const_f64(id, "iou_threshold")?.to_string();
                return Err(cx.error("iou_threshold", "0 to 1", found));
            }
            reshape(cx, id, Vec::new())?
        }
        None => cx.scalar_like(boxes, 0.0)?,
    };
    let least = cx.optional(4);
    let bound = images.saturating_mul(classes).saturating_mul(k);
    let corners = corners(cx, boxes)?;
    if bound == 0 {
        return Ok(vec![int_constant(cx, DType::I64, vec![0, 3], &[])]);
    }
    let scores = candidates(cx, boxes, scores, least)?;
    let found = cx.emit_all(NonMaxSuppression { k }, &[corners, scores, threshold])?;
    let indices = reshape(cx, found[0], vec![bound])?;
    if images * classes == 1 {
        let number = match cx.optional(2).and_then(|id| cx.entries(id)).as_deref() {
            Some([Entry::Count(extent)]) => {
                let chosen = reshape(cx, found[1], Vec::new())?;
                binary(cx, BinaryFn::Min, chosen, extent.count)?
            }
            _ => reshape(cx, found[1], Vec::new())?,
        };
        let zero = int_constant(cx, DType::I64, Vec::new(), &[0]);
        let zeros = expand(cx, zero, vec![bound, 2])?;
        let column = reshape(cx, indices, vec![bound, 1])?;
        let rows = cx.emit(Concat { axis: 1 }, &[zeros, column])?;
        return Ok(vec![mark(cx, rows, 0, Extent { bound, count: number })?]);
    }
    let numbers = positions(cx, k, vec![1, 1, k])?;
    let mut counts = reshape(cx, found[1], vec![images, classes, 1])?;
    if let Some([Entry::Count(extent)]) = cx.optional(2).and_then(|id| cx.entries(id)).as_deref() {
        counts = binary(cx, BinaryFn::Min, counts, extent.count)?;
    }
    let chosen = binary(cx, BinaryFn::Less, numbers, counts)?;
    let chosen = reshape(cx, chosen, vec![bound])?;
    let (places, extent) = compacted(cx, chosen)?;
    let group = with_scalar(cx, BinaryFn::Div, places, k as f64)?;
    let image = with_scalar(cx, BinaryFn::Div, group, classes as f64)?;
    let class = with_scalar(cx, BinaryFn::Mod, group, classes as f64)?;
    let index = cx.emit(Gather { axis: 0 }, &[indices, places])?;
    let columns = [image, class, index].map(|column| reshape(cx, column, vec![bound, 1]));
    let columns = columns.into_iter().collect::<Result<Vec<_>>>()?;
    let rows = cx.emit(Concat { axis: 1 }, &columns)?;
    Ok(vec![mark(cx, rows, 0, extent)?])
}

/// The boxes as planes of their low `x` and `y` and their high `x` and `y`.
fn corners(cx: &mut Context<'_>, boxes: ValueId) -> Result<ValueId> {
    let [images, count, _] = cx.shape(boxes)[..] else {
        return Err(cx.error("boxes", "rank 3", cx.ty(boxes).to_string()));
    };
    let planes = transpose(cx, boxes, vec![0, 2, 1])?;
    let two = |first: usize| Slice { starts: vec![0, first, 0], steps: Vec::new(), sizes: vec![images, 2, count] };
    let (a, b) = (cx.emit(two(0), &[planes])?, cx.emit(two(2), &[planes])?);
    match cx.attrs().int("center_point_box", 0)? {
        // Two opposite corners, y before x.
        0 => {
            let order = int_constant(cx, DType::I64, vec![2], &[1, 0]);
            let low = binary(cx, BinaryFn::Min, a, b)?;
            let high = binary(cx, BinaryFn::Max, a, b)?;
            let low = cx.emit(Gather { axis: 1 }, &[low, order])?;
            let high = cx.emit(Gather { axis: 1 }, &[high, order])?;
            cx.emit(Concat { axis: 1 }, &[low, high])
        }
        // The middle, width and height.
        1 => {
            let half = with_scalar(cx, BinaryFn::Mul, b, 0.5)?;
            let low = binary(cx, BinaryFn::Sub, a, half)?;
            let high = binary(cx, BinaryFn::Add, a, half)?;
            cx.emit(Concat { axis: 1 }, &[low, high])
        }
        other => Err(cx.error("center_point_box", "0 or 1", other.to_string())),
    }
}

/// The scores of the boxes that may be chosen, -inf of the others.
fn candidates(cx: &mut Context<'_>, boxes: ValueId, scores: ValueId, least: Option<ValueId>) -> Result<ValueId> {
    let none = f64::NEG_INFINITY;
    let mut kept = match least {
        Some(least) => {
            cx.expect_scalar(least, "score_threshold")?;
            let least = reshape(cx, least, Vec::new())?;
            let above = binary(cx, BinaryFn::Greater, scores, least)?;
            let none = cx.scalar_like(scores, none)?;
            cx.emit(Where {}, &[above, scores, none])?
        }
        // Without a threshold everything may be.
        None => with_scalar(cx, BinaryFn::Max, scores, f64::from(f32::MIN))?,
    };
    for (id, axis) in [(scores, 2), (boxes, 2)] {
        if let Some(live) = cx.live(id) {
            let inside = within(cx, crate::live::Live { axis, ..live }, 3)?;
            let none = cx.scalar_like(kept, none)?;
            kept = cx.emit(Where {}, &[inside, kept, none])?;
        }
    }
    Ok(kept)
}
