//! RotaryEmbedding: pairs of elements of each head turned by an angle of their position.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::{Concat, Gather, Slice};
use fornax_ir::scalar::BinaryFn;

use crate::context::Context;
use crate::error::Result;

use super::support::{binary, extent, reshape};

/// `RotaryEmbedding` of `[batch, heads, sequence, size]`, or of `[batch, sequence, heads * size]`.
pub(crate) fn rotary_embedding(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let shape = cx.shape(x).to_vec();
    let heads = extent(cx, "num_heads", cx.attrs().int("num_heads", 0)?)?;
    let (apart, head_axis) = match shape[..] {
        [n, h, s, d] => (vec![n, h, s, d], 1),
        [n, s, hidden] if heads > 0 && hidden.is_multiple_of(heads) => (vec![n, s, heads, hidden / heads], 2),
        [_, _, hidden] => {
            return Err(cx.error("num_heads", format!("a divisor of {hidden}"), heads.to_string()));
        }
        _ => return Err(cx.error("X", "rank 3 or 4", cx.ty(x).to_string())),
    };
    let size = apart[3];
    let turned = match extent(cx, "rotary_embedding_dim", cx.attrs().int("rotary_embedding_dim", 0)?)? {
        0 => size,
        given => given,
    };
    if turned > size || !turned.is_multiple_of(2) {
        let expected = format!("an even number up to {size}");
        return Err(cx.error("rotary_embedding_dim", expected, turned.to_string()));
    }
    let positions = [apart[0], apart[3 - head_axis], turned / 2];
    let cos = angles(cx, 1, "cos_cache", positions, head_axis)?;
    let sin = angles(cx, 2, "sin_cache", positions, head_axis)?;
    let x = reshape(cx, x, apart.clone())?;
    let interleaved = cx.attrs().flag("interleaved", false)?;
    let y = turn(cx, x, cos, sin, turned, interleaved)?;
    let y = if turned == size {
        y
    } else {
        let rest = part(cx, x, turned, 1, size - turned)?;
        cx.emit(Concat { axis: 3 }, &[y, rest])?
    };
    Ok(vec![reshape(cx, y, shape)?])
}

/// A cache input as `[batch, …, turned / 2]` with extent 1 at `head_axis`, looked up by position where positions are given.
fn angles(cx: &mut Context<'_>, slot: usize, field: &str, wanted: [usize; 3], head_axis: usize) -> Result<ValueId> {
    let mut cache = cx.input(slot)?;
    if let Some(ids) = cx.optional(3) {
        if cx.shape(cache).rank() != 2 {
            return Err(cx.error(field, "rank 2", cx.ty(cache).to_string()));
        }
        cache = cx.emit(Gather { axis: 0 }, &[cache, ids])?;
    }
    if cx.shape(cache)[..] != wanted {
        return Err(cx.error(field, format!("shape {wanted:?}"), cx.ty(cache).to_string()));
    }
    let mut shape = wanted.to_vec();
    shape.insert(head_axis, 1);
    reshape(cx, cache, shape)
}

/// `count` elements of the last axis of a rank-4 value, from `start` in steps of `step`.
fn part(cx: &mut Context<'_>, x: ValueId, start: usize, step: i64, count: usize) -> Result<ValueId> {
    let mut sizes = cx.shape(x).to_vec();
    sizes[3] = count;
    cx.emit(Slice { starts: vec![0, 0, 0, start], steps: vec![1, 1, 1, step], sizes }, &[x])
}

/// The first `turned` elements of the last axis, as pairs of neighbours or of the two halves, turned.
fn turn(
    cx: &mut Context<'_>,
    x: ValueId,
    cos: ValueId,
    sin: ValueId,
    turned: usize,
    interleaved: bool,
) -> Result<ValueId> {
    let half = turned / 2;
    let (second, step) = if interleaved { (1, 2) } else { (half, 1) };
    if half == 0 {
        return part(cx, x, 0, 1, 0);
    }
    let (a, b) = (part(cx, x, 0, step, half)?, part(cx, x, second, step, half)?);
    let (cos_a, sin_b) = (binary(cx, BinaryFn::Mul, cos, a)?, binary(cx, BinaryFn::Mul, sin, b)?);
    let (sin_a, cos_b) = (binary(cx, BinaryFn::Mul, sin, a)?, binary(cx, BinaryFn::Mul, cos, b)?);
    let real = binary(cx, BinaryFn::Sub, cos_a, sin_b)?;
    let imaginary = binary(cx, BinaryFn::Add, sin_a, cos_b)?;
    if !interleaved {
        return cx.emit(Concat { axis: 3 }, &[real, imaginary]);
    }
    let mut shape = cx.shape(real).to_vec();
    shape.push(1);
    let (real, imaginary) = (reshape(cx, real, shape.clone())?, reshape(cx, imaginary, shape.clone())?);
    let pairs = cx.emit(Concat { axis: 4 }, &[real, imaginary])?;
    shape.pop();
    shape[3] = turned;
    reshape(cx, pairs, shape)
}
