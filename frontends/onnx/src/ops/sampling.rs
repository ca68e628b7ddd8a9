//! Samples at computed places: GridSample, AffineGrid.
//!
//! In: a value and the places to read it at. Out: sums of neighbours, each read by one index into the flattened axes, weighted by its distance.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::{GatherElements, MatMul, Slice, Where};
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::{Constant, DType};

use crate::context::Context;
use crate::error::Result;

use super::support::{binary, cast, expand, extents, reshape, transpose, unary, with_scalar};

/// What a place outside reads.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outside {
    Zeros,
    Border,
    Reflection,
}

/// A `GridSample` in progress.
struct Grid {
    /// `[n, C, all spatial axes]`.
    x: ValueId,
    /// Spatial extents.
    extents: Vec<usize>,
    /// Coordinates by spatial axis, `[n, places]`.
    at: Vec<ValueId>,
    outside: Outside,
    align: bool,
    batch: usize,
    channels: usize,
    places: usize,
}

/// `GridSample` over any number of spatial axes; cubic over two.
pub(crate) fn grid_sample(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (x, grid) = (cx.input(0)?, cx.input(1)?);
    let (shape, places) = (cx.shape(x).to_vec(), cx.shape(grid).to_vec());
    let rank = shape.len();
    if rank < 3 || places.len() != rank || places[0] != shape[0] || places[rank - 1] != rank - 2 {
        let expected = format!("rank {rank}, {} first and {} last", shape[0], rank.saturating_sub(2));
        return Err(cx.error("grid", expected, cx.ty(grid).to_string()));
    }
    let outside = match cx.attrs().string("padding_mode", "zeros")? {
        "zeros" => Outside::Zeros,
        "border" => Outside::Border,
        "reflection" => Outside::Reflection,
        other => return Err(cx.error("padding_mode", "zeros, border or reflection", other)),
    };
    if shape[2..].contains(&0) {
        return Err(cx.error("X", "extents of 1 or more", cx.ty(x).to_string()));
    }
    let align = cx.attrs().flag("align_corners", false)?;
    let count: usize = places[1..rank - 1].iter().product();
    let flat = reshape(cx, x, vec![shape[0], shape[1], shape[2..].iter().product()])?;
    let grid = cast(cx, grid, DType::F32)?;
    let grid = reshape(cx, grid, vec![shape[0], count, rank - 2])?;
    let mut at = Vec::with_capacity(rank - 2);
    for (axis, extent) in shape[2..].iter().enumerate() {
        // The last axis comes first.
        let op = Slice { starts: vec![0, 0, rank - 3 - axis], steps: Vec::new(), sizes: vec![shape[0], count, 1] };
        let place = cx.emit(op, &[grid])?;
        let place = reshape(cx, place, vec![shape[0], count])?;
        at.push(pixels(cx, place, *extent, align)?);
    }
    let (batch, channels) = (shape[0], shape[1]);
    let grid = Grid { x: flat, extents: shape[2..].to_vec(), at, outside, align, batch, channels, places: count };
    let y = match cx.attrs().string("mode", if cx.version() < 20 { "bilinear" } else { "linear" })? {
        "linear" | "bilinear" => grid.linear(cx)?,
        "nearest" => grid.nearest(cx)?,
        "cubic" | "bicubic" if rank == 4 => grid.cubic(cx)?,
        other @ ("cubic" | "bicubic") => return Err(cx.error("mode", "linear or nearest unless X has rank 4", other)),
        other => return Err(cx.error("mode", "linear, nearest or cubic", other)),
    };
    let mut result = vec![batch, channels];
    result.extend(&places[1..rank - 1]);
    let y = cast(cx, y, cx.ty(x).dtype)?;
    Ok(vec![reshape(cx, y, result)?])
}

/// A coordinate of -1 to 1 as one of pixels.
fn pixels(cx: &mut Context<'_>, x: ValueId, extent: usize, align: bool) -> Result<ValueId> {
    let raised = with_scalar(cx, BinaryFn::Add, x, 1.0)?;
    if align {
        return with_scalar(cx, BinaryFn::Mul, raised, (extent as f64 - 1.0) / 2.0);
    }
    let scaled = with_scalar(cx, BinaryFn::Mul, raised, extent as f64)?;
    let lowered = with_scalar(cx, BinaryFn::Sub, scaled, 1.0)?;
    with_scalar(cx, BinaryFn::Div, lowered, 2.0)
}

impl Grid {
    /// A coordinate brought inside, as `border` and `reflection` do it.
    fn inside(&self, cx: &mut Context<'_>, at: ValueId, axis: usize) -> Result<ValueId> {
        let last = self.extents[axis] as f64 - 1.0;
        match self.outside {
            Outside::Zeros => Ok(at),
            Outside::Border => unary(cx, UnaryFn::Clip(0.0, last as f32), at),
            Outside::Reflection => {
                let (low, high) = if self.align { (0.0, last) } else { (-0.5, last + 0.5) };
                let span = high - low;
                if span <= 0.0 {
                    return with_scalar(cx, BinaryFn::Mul, at, 0.0);
                }
                // The distance from the low end, folded at multiples of the span.
                let from = with_scalar(cx, BinaryFn::Sub, at, low)?;
                let from = unary(cx, UnaryFn::Abs, from)?;
                let turns = with_scalar(cx, BinaryFn::Div, from, span)?;
                let turns = unary(cx, UnaryFn::Floor, turns)?;
                let whole = with_scalar(cx, BinaryFn::Mul, turns, span)?;
                let rest = binary(cx, BinaryFn::Sub, from, whole)?;
                let half = with_scalar(cx, BinaryFn::Mul, turns, 0.5)?;
                let even = unary(cx, UnaryFn::Floor, half)?;
                let even = binary(cx, BinaryFn::Equal, half, even)?;
                let there = with_scalar(cx, BinaryFn::Add, rest, low)?;
                let high = cx.scalar_like(rest, high)?;
                let back = binary(cx, BinaryFn::Sub, high, rest)?;
                let folded = cx.emit(Where {}, &[even, there, back])?;
                // Rounding may leave a step outside.
                unary(cx, UnaryFn::Clip(0.0, last as f32), folded)
            }
        }
    }

    /// The elements at whole coordinates, by axis: `[n, C, places]`; outside they are zeros where zeros are meant.
    fn read(&self, cx: &mut Context<'_>, at: &[ValueId]) -> Result<ValueId> {
        let (mut index, mut known) = (None, None);
        for (axis, place) in at.iter().enumerate() {
            let last = self.extents[axis] as f32 - 1.0;
            let place = match self.outside {
                Outside::Zeros => *place,
                _ => self.inside(cx, *place, axis)?,
            };
            if self.outside == Outside::Zeros {
                let above = with_scalar(cx, BinaryFn::GreaterOrEqual, place, 0.0)?;
                let below = with_scalar(cx, BinaryFn::LessOrEqual, place, f64::from(last))?;
                let here = binary(cx, BinaryFn::And, above, below)?;
                known = Some(match known {
                    None => here,
                    Some(before) => binary(cx, BinaryFn::And, before, here)?,
                });
            }
            let place = unary(cx, UnaryFn::Clip(0.0, last), place)?;
            let place = cast(cx, place, DType::I64)?;
            index = Some(match index {
                None => place,
                Some(before) => {
                    let rows = with_scalar(cx, BinaryFn::Mul, before, self.extents[axis] as f64)?;
                    binary(cx, BinaryFn::Add, rows, place)?
                }
            });
        }
        let Some(index) = index else { return Ok(self.x) };
        let index = reshape(cx, index, vec![self.batch, 1, self.places])?;
        let index = expand(cx, index, vec![self.batch, self.channels, self.places])?;
        let read = cx.emit(GatherElements { axis: 2 }, &[self.x, index])?;
        let Some(known) = known else { return Ok(read) };
        let known = reshape(cx, known, vec![self.batch, 1, self.places])?;
        let zero = cx.scalar_like(read, 0.0)?;
        cx.emit(Where {}, &[known, read, zero])
    }

    fn nearest(&self, cx: &mut Context<'_>) -> Result<ValueId> {
        let mut at = Vec::with_capacity(self.at.len());
        for (axis, place) in self.at.iter().enumerate() {
            let place = self.inside(cx, *place, axis)?;
            at.push(unary(cx, UnaryFn::Round, place)?);
        }
        self.read(cx, &at)
    }

    /// A weight of places times what is read there.
    fn weighted(&self, cx: &mut Context<'_>, weight: ValueId, at: &[ValueId]) -> Result<ValueId> {
        let read = self.read(cx, at)?;
        let read = cast(cx, read, DType::F32)?;
        let weight = reshape(cx, weight, vec![self.batch, 1, self.places])?;
        binary(cx, BinaryFn::Mul, read, weight)
    }

    fn linear(&self, cx: &mut Context<'_>) -> Result<ValueId> {
        let mut sides = Vec::with_capacity(self.at.len());
        for (axis, place) in self.at.iter().enumerate() {
            let place = self.inside(cx, *place, axis)?;
            let low = unary(cx, UnaryFn::Floor, place)?;
            let far = binary(cx, BinaryFn::Sub, place, low)?;
            let one = cx.scalar_like(far, 1.0)?;
            let near = binary(cx, BinaryFn::Sub, one, far)?;
            let high = with_scalar(cx, BinaryFn::Add, low, 1.0)?;
            sides.push([(low, near), (high, far)]);
        }
        let mut sum = None;
        for corner in 0..1usize << sides.len() {
            let (mut at, mut weight) = (Vec::with_capacity(sides.len()), None);
            for (axis, side) in sides.iter().enumerate() {
                let (place, part) = side[corner >> axis & 1];
                at.push(place);
                weight = Some(match weight {
                    None => part,
                    Some(before) => binary(cx, BinaryFn::Mul, before, part)?,
                });
            }
            let Some(weight) = weight else { break };
            let term = self.weighted(cx, weight, &at)?;
            sum = Some(match sum {
                None => term,
                Some(before) => binary(cx, BinaryFn::Add, before, term)?,
            });
        }
        sum.ok_or_else(|| cx.error("X", "a spatial axis", "none"))
    }

    fn cubic(&self, cx: &mut Context<'_>) -> Result<ValueId> {
        let mut taps = Vec::with_capacity(2);
        for place in &self.at {
            let low = unary(cx, UnaryFn::Floor, *place)?;
            let far = binary(cx, BinaryFn::Sub, *place, low)?;
            let mut of_axis = Vec::with_capacity(4);
            for tap in -1i32..=2 {
                let at = with_scalar(cx, BinaryFn::Add, low, f64::from(tap))?;
                of_axis.push((at, cubic_weight(cx, far, tap)?));
            }
            taps.push(of_axis);
        }
        let mut sum = None;
        for (row, row_weight) in &taps[0] {
            for (column, column_weight) in &taps[1] {
                let weight = binary(cx, BinaryFn::Mul, *row_weight, *column_weight)?;
                let term = self.weighted(cx, weight, &[*row, *column])?;
                sum = Some(match sum {
                    None => term,
                    Some(before) => binary(cx, BinaryFn::Add, before, term)?,
                });
            }
        }
        sum.ok_or_else(|| cx.error("X", "two spatial axes", "none"))
    }
}

/// The weight of the tap at `tap` pixels from the one below, of the cubic convolution with a = -0.75 (Keys 1981).
fn cubic_weight(cx: &mut Context<'_>, far: ValueId, tap: i32) -> Result<ValueId> {
    const A: f64 = -0.75;
    // The distance, and the polynomial of it by falling powers.
    let offset = with_scalar(cx, BinaryFn::Sub, far, f64::from(tap))?;
    let distance = unary(cx, UnaryFn::Abs, offset)?;
    let polynomial = match tap {
        0 | 1 => [A + 2.0, -(A + 3.0), 0.0, 1.0],
        _ => [A, -5.0 * A, 8.0 * A, -4.0 * A],
    };
    let mut value = cx.scalar_like(distance, polynomial[0])?;
    for coefficient in &polynomial[1..] {
        value = binary(cx, BinaryFn::Mul, value, distance)?;
        value = with_scalar(cx, BinaryFn::Add, value, *coefficient)?;
    }
    Ok(value)
}

/// `AffineGrid`: the places of a grid of a known size, turned by a matrix of each image.
pub(crate) fn affine_grid(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (theta, size) = (cx.input(0)?, cx.input(1)?);
    let size = extents(cx, "size", &cx.const_list(size, "size")?)?;
    let axes = size.len().saturating_sub(2);
    if !(2..=3).contains(&axes) || cx.shape(theta)[..] != [size[0], axes, axes + 1] {
        let expected = "[n, 2, 3] and a size of 4, or [n, 3, 4] and one of 5";
        return Err(cx.error("theta", expected, format!("{} and a size of {}", cx.ty(theta), size.len())));
    }
    let align = cx.attrs().flag("align_corners", false)?;
    let count = size[2..].iter().try_fold(1usize, |n, d| n.checked_mul(*d)).unwrap_or(usize::MAX);
    cx.charge((count as u64).saturating_mul(axes as u64 + 1))?;
    let coordinate = |i: usize, extent: usize| match (align, extent) {
        (true, 0 | 1) => 0.0,
        (true, _) => -1.0 + 2.0 * i as f64 / (extent as f64 - 1.0),
        (false, _) => (2.0 * i as f64 + 1.0) / extent as f64 - 1.0,
    };
    let mut places = Vec::with_capacity(count * (axes + 1));
    for place in 0..count {
        let (mut rest, mut at) = (place, vec![0.0; axes]);
        // The last axis comes first.
        for (slot, extent) in size[2..].iter().rev().enumerate() {
            at[slot] = coordinate(rest % extent, *extent);
            rest /= extent;
        }
        places.extend(at.iter().map(|at| *at as f32));
        places.push(1.0);
    }
    let places = cx.add_constant(Constant::from_f32([count, axes + 1], &places));
    let places = cast(cx, places, cx.ty(theta).dtype)?;
    let turned = transpose(cx, theta, vec![0, 2, 1])?;
    let grid = cx.emit(MatMul {}, &[places, turned])?;
    let mut shape = vec![size[0]];
    shape.extend(&size[2..]);
    shape.push(axes);
    Ok(vec![reshape(cx, grid, shape)?])
}
