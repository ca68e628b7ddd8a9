//! Samples at computed places of a map, between its pixels: RoiAlign, DeformConv.
//!
//! In: a map and places as computed coordinates. Out: sums of the four pixels around each place, weighted by their distance, pooled or multiplied by
//! filters. Pixels outside the map count nothing.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::reduce::ReduceKind;
use fornax_ir::ops::{Gather, GatherElements, MatMul, Reduce, Slice, Where};
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::{Constant, DType};

use crate::context::Context;
use crate::error::Result;

use super::support::{
    binary, cast, expand, expect_len, extent, int_constant, per_channel, positions, reshape, transpose, unary,
    with_scalar,
};
use super::window::{explicit_pads, kernel_shape, positive};

/// The two pixels of an axis around each place: positions as `i64`, and weights.
type Sides = [(ValueId, ValueId); 2];

/// A column of a matrix, as `[rows, 1]`.
fn column(cx: &mut Context<'_>, x: ValueId, at: usize) -> Result<ValueId> {
    let rows = cx.shape(x)[0];
    cx.emit(Slice { starts: vec![0, at], steps: Vec::new(), sizes: vec![rows, 1] }, &[x])
}

/// What an axis of regions is sampled at, `[regions, samples]`: places of a map of `extent` pixels, in each bin `ratio` of them.
fn samples(
    cx: &mut Context<'_>,
    [begin, end]: [ValueId; 2],
    (bins, ratio, extent): (usize, usize, usize),
    half_pixel: bool,
) -> Result<Sides> {
    let mut span = binary(cx, BinaryFn::Sub, end, begin)?;
    if !half_pixel {
        // Regions of less than a pixel are one wide.
        span = with_scalar(cx, BinaryFn::Max, span, 1.0)?;
    }
    let bin = with_scalar(cx, BinaryFn::Div, span, bins as f64)?;
    let count = bins.saturating_mul(ratio);
    cx.charge(count as u64)?;
    let steps = (0..count).map(|i| (i / ratio) as f32 + ((i % ratio) as f32 + 0.5) / ratio as f32);
    let steps = cx.add_constant(Constant::from_f32([1, count], &steps.collect::<Vec<_>>()));
    let from = binary(cx, BinaryFn::Mul, bin, steps)?;
    let at = binary(cx, BinaryFn::Add, begin, from)?;
    let above = with_scalar(cx, BinaryFn::GreaterOrEqual, at, -1.0)?;
    let below = with_scalar(cx, BinaryFn::LessOrEqual, at, extent as f64)?;
    let inside = binary(cx, BinaryFn::And, above, below)?;
    let last = extent as f32 - 1.0;
    let at = unary(cx, UnaryFn::Clip(0.0, last), at)?;
    let low = unary(cx, UnaryFn::Floor, at)?;
    let far = binary(cx, BinaryFn::Sub, at, low)?;
    let one = cx.scalar_like(far, 1.0)?;
    let near = binary(cx, BinaryFn::Sub, one, far)?;
    let high = with_scalar(cx, BinaryFn::Add, low, 1.0)?;
    let high = unary(cx, UnaryFn::Clip(0.0, last), high)?;
    let zero = cx.scalar_like(far, 0.0)?;
    let mut sides = [(low, near), (high, far)];
    for (place, weight) in &mut sides {
        *place = cast(cx, *place, DType::I64)?;
        *weight = cx.emit(Where {}, &[inside, *weight, zero])?;
    }
    Ok(sides)
}

/// `RoiAlign`: regions of a map in bins, of each the mean of samples, or the largest weighted pixel around them.
pub(crate) fn roi_align(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (x, rois, batch) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let [images, channels, rows, columns] = cx.shape(x)[..] else {
        return Err(cx.error("X", "rank 4", cx.ty(x).to_string()));
    };
    let regions = match cx.shape(rois)[..] {
        [regions, 4] => regions,
        _ => return Err(cx.error("rois", "shape [regions, 4]", cx.ty(rois).to_string())),
    };
    if cx.shape(batch)[..] != [regions] || rows == 0 || columns == 0 {
        let expected = format!("shape [{regions}], of images that are not empty");
        return Err(cx.error("batch_indices", expected, cx.ty(batch).to_string()));
    }
    let high = extent(cx, "output_height", cx.attrs().int("output_height", 1)?)?;
    let wide = extent(cx, "output_width", cx.attrs().int("output_width", 1)?)?;
    let ratio = extent(cx, "sampling_ratio", cx.attrs().int("sampling_ratio", 0)?)?;
    if ratio == 0 {
        return Err(cx.unsupported("sampling_ratio 0: as many samples as a region has pixels"));
    }
    let default = if cx.version() < 16 { "output_half_pixel" } else { "half_pixel" };
    let half_pixel = match cx.attrs().string("coordinate_transformation_mode", default)? {
        "half_pixel" => true,
        "output_half_pixel" => false,
        other => return Err(cx.error("coordinate_transformation_mode", "half_pixel or output_half_pixel", other)),
    };
    let largest = match cx.attrs().string("mode", "avg")? {
        "avg" => false,
        "max" => true,
        other => return Err(cx.error("mode", "avg or max", other)),
    };
    let scale = f64::from(cx.attrs().float("spatial_scale", 1.0)?);
    let wide_rois = cast(cx, rois, DType::F32)?;
    let scaled = with_scalar(cx, BinaryFn::Mul, wide_rois, scale)?;
    let scaled = with_scalar(cx, BinaryFn::Sub, scaled, if half_pixel { 0.5 } else { 0.0 })?;
    let mut edges = Vec::with_capacity(4);
    for at in 0..4 {
        edges.push(column(cx, scaled, at)?);
    }
    let vertical = samples(cx, [edges[1], edges[3]], (high, ratio, rows), half_pixel)?;
    let horizontal = samples(cx, [edges[0], edges[2]], (wide, ratio, columns), half_pixel)?;
    // Pixels by rows of their channels.
    let pixels = cast(cx, x, DType::F32)?;
    let pixels = transpose(cx, pixels, vec![0, 2, 3, 1])?;
    let pixels = reshape(cx, pixels, vec![images * rows * columns, channels])?;
    let batch = cast(cx, batch, DType::I64)?;
    let image = with_scalar(cx, BinaryFn::Mul, batch, rows as f64)?;
    let image = reshape(cx, image, vec![regions, 1])?;
    let function = if largest { BinaryFn::Max } else { BinaryFn::Add };
    let mut y = None;
    for (row, row_weight) in vertical {
        let row = binary(cx, BinaryFn::Add, image, row)?;
        let row = with_scalar(cx, BinaryFn::Mul, row, columns as f64)?;
        let row = reshape(cx, row, vec![regions, high * ratio, 1])?;
        let row_weight = reshape(cx, row_weight, vec![regions, high * ratio, 1])?;
        for (at, weight) in horizontal {
            let at = reshape(cx, at, vec![regions, 1, wide * ratio])?;
            let weight = reshape(cx, weight, vec![regions, 1, wide * ratio])?;
            let at = binary(cx, BinaryFn::Add, row, at)?;
            let weight = binary(cx, BinaryFn::Mul, row_weight, weight)?;
            let weight = reshape(cx, weight, vec![regions, high * ratio, wide * ratio, 1])?;
            let read = cx.emit(Gather { axis: 0 }, &[pixels, at])?;
            let term = binary(cx, BinaryFn::Mul, read, weight)?;
            y = Some(match y {
                None => term,
                Some(before) => binary(cx, function, before, term)?,
            });
        }
    }
    let Some(y) = y else { return Err(cx.error("X", "pixels", "none")) };
    let y = reshape(cx, y, vec![regions, high, ratio, wide, ratio, channels])?;
    let kind = if largest { ReduceKind::Max } else { ReduceKind::Mean };
    let y = cx.emit(Reduce { kind, axes: vec![2, 4], keepdims: false }, &[y])?;
    let y = transpose(cx, y, vec![0, 3, 1, 2])?;
    Ok(vec![cast(cx, y, cx.ty(x).dtype)?])
}

/// The pixels around places of an axis, of any shape; those outside weigh nothing.
fn around(cx: &mut Context<'_>, at: ValueId, extent: usize) -> Result<Sides> {
    let last = extent as f64 - 1.0;
    let low = unary(cx, UnaryFn::Floor, at)?;
    let far = binary(cx, BinaryFn::Sub, at, low)?;
    let one = cx.scalar_like(far, 1.0)?;
    let near = binary(cx, BinaryFn::Sub, one, far)?;
    let high = with_scalar(cx, BinaryFn::Add, low, 1.0)?;
    let zero = cx.scalar_like(far, 0.0)?;
    let mut sides = [(low, near), (high, far)];
    for (place, weight) in &mut sides {
        let above = with_scalar(cx, BinaryFn::GreaterOrEqual, *place, 0.0)?;
        let below = with_scalar(cx, BinaryFn::LessOrEqual, *place, last)?;
        let inside = binary(cx, BinaryFn::And, above, below)?;
        *weight = cx.emit(Where {}, &[inside, *weight, zero])?;
        let clipped = unary(cx, UnaryFn::Clip(0.0, last as f32), *place)?;
        *place = cast(cx, clipped, DType::I64)?;
    }
    Ok(sides)
}

/// A `DeformConv` in progress: extents.
struct Deformed {
    images: usize,
    channels: usize,
    /// Of the map, the window and the result.
    map: [usize; 2],
    kernel: [usize; 2],
    result: [usize; 2],
    /// Groups of channels that share offsets.
    groups: usize,
}

impl Deformed {
    fn taps(&self) -> usize {
        self.kernel[0] * self.kernel[1]
    }

    fn places(&self) -> usize {
        self.result[0] * self.result[1]
    }

    /// Where the taps read along axis `axis`: `[images, groups, taps, rows, columns]`.
    fn coordinates(
        &self,
        cx: &mut Context<'_>,
        offset: ValueId,
        axis: usize,
        [stride, dilation, pad]: [usize; 3],
    ) -> Result<ValueId> {
        let [rows, columns] = self.result;
        let apart = vec![self.images, self.groups, self.taps(), 2, rows, columns];
        let whole = reshape(cx, offset, apart)?;
        let sizes = vec![self.images, self.groups, self.taps(), 1, rows, columns];
        let moved = cx.emit(Slice { starts: vec![0, 0, 0, axis, 0, 0], steps: Vec::new(), sizes }, &[whole])?;
        let moved = reshape(cx, moved, vec![self.images, self.groups, self.taps(), rows, columns])?;
        let extent = self.result[axis];
        cx.charge((self.taps() * extent) as u64)?;
        let tap = |k: usize| if axis == 0 { k / self.kernel[1] } else { k % self.kernel[1] };
        let base = (0..self.taps() * extent)
            .map(|i| (i % extent * stride + tap(i / extent) * dilation) as f32 - pad as f32)
            .collect::<Vec<_>>();
        let shape = if axis == 0 { [1, 1, self.taps(), extent, 1] } else { [1, 1, self.taps(), 1, extent] };
        let base = cx.add_constant(Constant::from_f32(shape, &base));
        binary(cx, BinaryFn::Add, base, moved)
    }

    /// What the taps read, `[images, groups, channels of a group, taps and places]`.
    fn read(&self, cx: &mut Context<'_>, x: ValueId, [vertical, horizontal]: [ValueId; 2]) -> Result<ValueId> {
        let [rows, columns] = self.map;
        let (of_group, count) = (self.channels / self.groups, self.taps() * self.places());
        let x = reshape(cx, x, vec![self.images, self.groups, of_group, rows * columns])?;
        let (vertical, horizontal) = (around(cx, vertical, rows)?, around(cx, horizontal, columns)?);
        let mut y = None;
        for (row, row_weight) in vertical {
            let row = with_scalar(cx, BinaryFn::Mul, row, columns as f64)?;
            for (at, weight) in horizontal {
                let at = binary(cx, BinaryFn::Add, row, at)?;
                let weight = binary(cx, BinaryFn::Mul, row_weight, weight)?;
                let at = reshape(cx, at, vec![self.images, self.groups, 1, count])?;
                let at = expand(cx, at, vec![self.images, self.groups, of_group, count])?;
                let weight = reshape(cx, weight, vec![self.images, self.groups, 1, count])?;
                let read = cx.emit(GatherElements { axis: 3 }, &[x, at])?;
                let term = binary(cx, BinaryFn::Mul, read, weight)?;
                y = Some(match y {
                    None => term,
                    Some(before) => binary(cx, BinaryFn::Add, before, term)?,
                });
            }
        }
        y.ok_or_else(|| cx.error("X", "pixels", "none"))
    }
}

/// `DeformConv` over two axes: a convolution whose taps are moved by computed offsets.
pub(crate) fn deform_conv(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (x, weight, offset) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let (bias, mask) = (cx.optional(3), cx.optional(4));
    let [images, channels, rows, columns] = cx.shape(x)[..] else {
        return Err(cx.unsupported(format!("X of type {}: other than two spatial axes", cx.ty(x))));
    };
    let weights = cx.shape(weight).to_vec();
    expect_len(cx, "W", &weights, 4)?;
    let kernel = kernel_shape(cx, 2, Some(&weights[2..]))?;
    let (strides, dilations) = (positive(cx, "strides", 2)?, positive(cx, "dilations", 2)?);
    let pads = explicit_pads(cx, 2)?;
    let groups = extent(cx, "group", cx.attrs().int("group", 1)?)?;
    let shared = extent(cx, "offset_group", cx.attrs().int("offset_group", 1)?)?;
    let filters = weights[0];
    let divides = |n: usize, of: usize| n > 0 && of.is_multiple_of(n);
    if !divides(groups, channels) || !divides(groups, filters) || weights[1] != channels / groups {
        let expected = format!("filters in {groups} groups, of {channels} channels");
        return Err(cx.error("W", expected, cx.ty(weight).to_string()));
    }
    if !divides(shared, channels) || rows == 0 || columns == 0 {
        return Err(cx.error("offset_group", format!("a divisor of {channels}"), shared.to_string()));
    }
    let mut result = [0; 2];
    for (axis, extent) in [rows, columns].into_iter().enumerate() {
        let span = super::window::dilated(cx, kernel[axis], dilations[axis])?;
        let padded = extent.saturating_add(pads[axis]).saturating_add(pads[axis + 2]);
        let Some(rest) = padded.checked_sub(span) else {
            return Err(cx.error("kernel_shape", format!("a window within {padded}"), span.to_string()));
        };
        result[axis] = rest / strides[axis] + 1;
    }
    let kernel = [kernel[0], kernel[1]];
    let of = Deformed { images, channels, map: [rows, columns], kernel, result, groups: shared };
    let taps = shared.saturating_mul(of.taps());
    for (name, id, count) in [("offset", Some(offset), taps.saturating_mul(2)), ("mask", mask, taps)] {
        let Some(id) = id else { continue };
        if cx.shape(id)[..] != [images, count, result[0], result[1]] {
            let expected = format!("shape [{images},{count},{},{}]", result[0], result[1]);
            return Err(cx.error(name, expected, cx.ty(id).to_string()));
        }
    }
    let given = cx.ty(x).dtype;
    let (x, offset) = (cast(cx, x, DType::F32)?, cast(cx, offset, DType::F32)?);
    let vertical = of.coordinates(cx, offset, 0, [strides[0], dilations[0], pads[0]])?;
    let horizontal = of.coordinates(cx, offset, 1, [strides[1], dilations[1], pads[1]])?;
    let mut read = of.read(cx, x, [vertical, horizontal])?;
    let count = of.taps() * of.places();
    if let Some(mask) = mask {
        let mask = cast(cx, mask, DType::F32)?;
        let mask = reshape(cx, mask, vec![images, shared, 1, count])?;
        read = binary(cx, BinaryFn::Mul, read, mask)?;
    }
    let depth = channels / groups * of.taps();
    let read = reshape(cx, read, vec![images, groups, depth, of.places()])?;
    let weight = cast(cx, weight, DType::F32)?;
    let weight = reshape(cx, weight, vec![1, groups, filters / groups, depth])?;
    let y = cx.emit(MatMul {}, &[weight, read])?;
    let mut y = reshape(cx, y, vec![images, filters, result[0], result[1]])?;
    if let Some(bias) = bias {
        let bias = cast(cx, bias, DType::F32)?;
        let bias = per_channel(cx, "B", bias, [filters, 1, 4])?;
        y = binary(cx, BinaryFn::Add, y, bias)?;
    }
    Ok(vec![cast(cx, y, given)?])
}

/// `MaxUnpool`: each element of a pooled map at the place of its window that the index names, zero elsewhere. Indices are those of `MaxPool`: what an index
/// names outside the element's own window is not written.
pub(crate) fn max_unpool(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (x, indices) = (cx.input(0)?, cx.input(1)?);
    let given = cx.shape(x).to_vec();
    super::support::expect_rank(cx, "X", x, 3)?;
    if cx.shape(indices) != cx.shape(x) {
        return Err(cx.error("I", format!("shape {}", cx.shape(x)), cx.ty(indices).to_string()));
    }
    let axes = given.len() - 2;
    let kernel = kernel_shape(cx, axes, None)?;
    let (strides, pads) = (positive(cx, "strides", axes)?, explicit_pads(cx, axes)?);
    let mut shape = given.clone();
    for axis in 0..axes {
        let last = given[axis + 2].saturating_sub(1).saturating_mul(strides[axis]).saturating_add(kernel[axis]);
        let cropped = pads[axis].saturating_add(pads[axis + axes]);
        let Some(extent) = last.checked_sub(cropped).filter(|_| given[axis + 2] > 0) else {
            return Err(cx.error("pads", format!("less than {last}"), format!("{pads:?}")));
        };
        shape[axis + 2] = extent;
    }
    let count = shape.iter().fold(1usize, |n, d| n.saturating_mul(*d));
    let own = positions(cx, count, shape.clone())?;
    // Every window that a place may lie in: the last one that begins before it, and those before that one.
    let reach: Vec<usize> = (0..axes).map(|axis| kernel[axis].div_ceil(strides[axis])).collect();
    let choices = reach.iter().fold(1usize, |n, of_axis| n.saturating_mul(*of_axis));
    cx.charge((count as u64).saturating_mul(choices as u64))?;
    let mut y = None;
    for choice in 0..choices {
        let (mut rest, mut value, mut index) = (choice, x, indices);
        for axis in 0..axes {
            let back = rest % reach[axis];
            rest /= reach[axis];
            // A window that is not there gives way to its neighbour, which names the place only if it is the right one.
            let most = given[axis + 2] - 1;
            let window =
                |at: usize| (at.saturating_add(pads[axis]) / strides[axis]).saturating_sub(back).min(most) as i64;
            let windows: Vec<i64> = (0..shape[axis + 2]).map(window).collect();
            let windows = int_constant(cx, DType::I64, vec![windows.len()], &windows);
            value = cx.emit(Gather { axis: axis + 2 }, &[value, windows])?;
            index = cx.emit(Gather { axis: axis + 2 }, &[index, windows])?;
        }
        let here = binary(cx, BinaryFn::Equal, index, own)?;
        let before = match y {
            Some(before) => before,
            None => cx.scalar_like(value, 0.0)?,
        };
        y = Some(cx.emit(Where {}, &[here, value, before])?);
    }
    let Some(mut y) = y else { return Err(cx.error("kernel_shape", "a window", "none")) };
    if let Some(wanted) = cx.optional(2) {
        let wanted = super::support::extents(cx, "output_shape", &cx.const_list(wanted, "output_shape")?)?;
        if wanted.len() != shape.len() || wanted.iter().zip(&shape).any(|(wanted, there)| wanted < there) {
            return Err(cx.error("output_shape", format!("{shape:?} or more"), format!("{wanted:?}")));
        }
        let mut pads = vec![0; shape.len()];
        pads.extend(wanted.iter().zip(&shape).map(|(wanted, there)| (wanted - there) as i64));
        let mode = fornax_ir::ops::pad::PadMode::Constant;
        y = cx.emit(fornax_ir::ops::Pad { mode, pads, value: 0.0 }, &[y])?;
    }
    Ok(vec![y])
}
