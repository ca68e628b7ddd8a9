//! Operators that ONNX Runtime makes of transformers: MultiHeadAttention, Attention, EmbedLayerNormalization, MatMulNBits.
//!
//! Each is the chain of operators that it was fused from. What caches of earlier steps need is refused by name.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::{Concat, Gather, MatMul, Slice, Softmax, Where};
use fornax_ir::scalar::BinaryFn;
use fornax_ir::types::DType;

use crate::context::Context;
use crate::error::Result;

use super::normalization::{Norm, normalized};
use super::support::{axis, binary, cast, expand, extent, int_constant, positions, reshape, transpose, with_scalar};

/// Queries, keys and values of a layer, `[batch, sequence, width]` each.
struct Heads {
    qkv: [ValueId; 3],
    count: usize,
    /// Added to the products, where there is something to add.
    bias: Option<ValueId>,
}

/// `[batch, sequence, heads * size]` as `[batch, heads, sequence, size]`.
fn apart(cx: &mut Context<'_>, x: ValueId, heads: usize) -> Result<ValueId> {
    let [batch, sequence, width] = cx.shape(x)[..] else {
        return Err(cx.error("query", "rank 3", cx.ty(x).to_string()));
    };
    if heads == 0 || !width.is_multiple_of(heads) {
        return Err(cx.error("num_heads", format!("a divisor of {width}"), heads.to_string()));
    }
    let x = reshape(cx, x, vec![batch, sequence, heads, width / heads])?;
    transpose(cx, x, vec![0, 2, 1, 3])
}

impl Heads {
    /// The sum of values by the softmax of the products of queries and keys: `[batch, sequence, width]`.
    fn attend(self, cx: &mut Context<'_>) -> Result<ValueId> {
        let [q, k, v] = self.qkv;
        let (q, k, v) = (apart(cx, q, self.count)?, apart(cx, k, self.count)?, apart(cx, v, self.count)?);
        let [batch, heads, rows, size] = cx.shape(q)[..] else { return Err(cx.error("query", "rank 3", "another")) };
        let columns = cx.shape(k)[2];
        let scale = match cx.attrs().float("scale", 0.0)? {
            0.0 => 1.0 / (size as f64).sqrt(),
            given => f64::from(given),
        };
        let keys = transpose(cx, k, vec![0, 1, 3, 2])?;
        let products = cx.emit(MatMul {}, &[q, keys])?;
        let mut products = with_scalar(cx, BinaryFn::Mul, products, scale)?;
        if cx.attrs().flag("unidirectional", false)? {
            let row = positions(cx, rows, vec![rows, 1])?;
            let column = positions(cx, columns, vec![1, columns])?;
            let seen = with_scalar(cx, BinaryFn::Add, row, columns as f64 - rows as f64)?;
            let allowed = binary(cx, BinaryFn::LessOrEqual, column, seen)?;
            let filter = f64::from(cx.attrs().float("mask_filter_value", -10_000.0)?);
            let never = cx.scalar_like(products, filter)?;
            products = cx.emit(Where {}, &[allowed, products, never])?;
        }
        if let Some(bias) = self.bias {
            products = binary(cx, BinaryFn::Add, products, bias)?;
        }
        let weights = cx.emit(Softmax { axis: 3, log: false }, &[products])?;
        let y = cx.emit(MatMul {}, &[weights, v])?;
        let y = transpose(cx, y, vec![0, 2, 1, 3])?;
        let width = heads * cx.shape(v)[3];
        reshape(cx, y, vec![batch, rows, width])
    }
}

/// Refuses operands from `slot` on that are there.
fn refuse(cx: &Context<'_>, slots: &[(usize, &str)]) -> Result<()> {
    match slots.iter().find(|(slot, _)| cx.optional(*slot).is_some()) {
        Some((_, name)) => Err(cx.unsupported(*name)),
        None => Ok(()),
    }
}

/// What a mask of keys adds to the products: the filter where it is 0. `[batch, keys]`, or the number of keys of each of the batch.
fn of_mask(cx: &mut Context<'_>, mask: ValueId, like: ValueId, columns: usize) -> Result<ValueId> {
    let filter = f64::from(cx.attrs().float("mask_filter_value", -10_000.0)?);
    let allowed = match cx.shape(mask)[..] {
        [batch] => {
            let lengths = reshape(cx, mask, vec![batch, 1, 1, 1])?;
            let column = positions(cx, columns, vec![1, columns])?;
            let column = cast(cx, column, cx.ty(lengths).dtype)?;
            binary(cx, BinaryFn::Less, column, lengths)?
        }
        [batch, keys] if keys == columns => {
            let mask = reshape(cx, mask, vec![batch, 1, 1, keys])?;
            with_scalar(cx, BinaryFn::Greater, mask, 0.0)?
        }
        _ => return Err(cx.unsupported("a mask that is neither of keys nor of their number")),
    };
    let (zero, never) = (cx.scalar_like(like, 0.0)?, cx.scalar_like(like, filter)?);
    cx.emit(Where {}, &[allowed, zero, never])
}

/// The sum of two biases of products.
fn both(cx: &mut Context<'_>, a: Option<ValueId>, b: Option<ValueId>) -> Result<Option<ValueId>> {
    match (a, b) {
        (Some(a), Some(b)) => binary(cx, BinaryFn::Add, a, b).map(Some),
        (a, b) => Ok(a.or(b)),
    }
}

/// `count` elements of the last axis.
fn columns(cx: &mut Context<'_>, x: ValueId, start: usize, count: usize) -> Result<ValueId> {
    let mut sizes = cx.shape(x).to_vec();
    let mut starts = vec![0; sizes.len()];
    if let (Some(from), Some(size)) = (starts.last_mut(), sizes.last_mut()) {
        (*from, *size) = (start, count);
    }
    cx.emit(Slice { starts, steps: Vec::new(), sizes }, &[x])
}

/// `MultiHeadAttention` of queries, keys and values side by side in each row.
pub(crate) fn multi_head_attention(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    refuse(cx, &[(6, "past_key"), (7, "past_value"), (8, "past_sequence_length"), (9, "cache_indirection")])?;
    let (q, Some(k), Some(v)) = (cx.input(0)?, cx.optional(1), cx.optional(2)) else {
        return Err(cx.unsupported("packed queries, keys and values"));
    };
    if [q, k, v].iter().any(|x| cx.shape(*x).rank() != 3) {
        return Err(cx.unsupported("keys or values of another rank than 3"));
    }
    let count = extent(cx, "num_heads", cx.attrs().require_int("num_heads")?)?;
    let mut qkv = [q, k, v];
    if let Some(bias) = cx.optional(3) {
        let widths = qkv.map(|x| cx.shape(x)[2]);
        if cx.shape(bias)[..] != [widths.iter().sum::<usize>()] {
            return Err(cx.error("bias", format!("the widths {widths:?} together"), cx.ty(bias).to_string()));
        }
        let mut start = 0;
        for (x, width) in qkv.iter_mut().zip(widths) {
            let part = columns(cx, bias, start, width)?;
            *x = binary(cx, BinaryFn::Add, *x, part)?;
            start += width;
        }
    }
    let keys = cx.shape(k)[1];
    let mask = match cx.optional(4) {
        Some(mask) => Some(of_mask(cx, mask, q, keys)?),
        None => None,
    };
    let added = cx.optional(5);
    let bias = both(cx, mask, added)?;
    Ok(vec![Heads { qkv, count, bias }.attend(cx)?])
}

/// `Attention` of ONNX Runtime: the products with the weights of queries, keys and values, then as above.
pub(crate) fn packed_attention(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    refuse(cx, &[(4, "past"), (6, "past_sequence_length")])?;
    for name in ["do_rotary", "past_present_share_buffer"] {
        if cx.attrs().flag(name, false)? {
            return Err(cx.unsupported(name));
        }
    }
    let (x, weights) = (cx.input(0)?, cx.input(1)?);
    let [_, sequence, _] = cx.shape(x)[..] else { return Err(cx.error("input", "rank 3", cx.ty(x).to_string())) };
    let mut all = cx.emit(MatMul {}, &[x, weights])?;
    if let Some(bias) = cx.optional(2) {
        all = binary(cx, BinaryFn::Add, all, bias)?;
    }
    let width = cx.shape(all)[2];
    let sizes = match cx.attrs().ints("qkv_hidden_sizes")? {
        Some(given) => super::support::extents(cx, "qkv_hidden_sizes", &given)?,
        None => vec![width / 3; 3],
    };
    let [q, k, v] = sizes[..] else { return Err(cx.error("qkv_hidden_sizes", "3 numbers", format!("{sizes:?}"))) };
    if q.saturating_add(k).saturating_add(v) != width {
        return Err(cx.error(
            "weights",
            format!("{} columns", q.saturating_add(k).saturating_add(v)),
            width.to_string(),
        ));
    }
    let qkv = [columns(cx, all, 0, q)?, columns(cx, all, q, k)?, columns(cx, all, q + k, v)?];
    let count = extent(cx, "num_heads", cx.attrs().require_int("num_heads")?)?;
    let mask = match cx.optional(3) {
        Some(mask) => Some(of_mask(cx, mask, x, sequence)?),
        None => None,
    };
    let added = cx.optional(5);
    let bias = both(cx, mask, added)?;
    Ok(vec![Heads { qkv, count, bias }.attend(cx)?])
}

/// `EmbedLayerNormalization`: the normalised sum of the embeddings of words, positions and segments.
pub(crate) fn embed_layer_normalization(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let ids = cx.input(0)?;
    let [_, sequence] = cx.shape(ids)[..] else { return Err(cx.error("input_ids", "rank 2", cx.ty(ids).to_string())) };
    let (word, position) = (cx.input(2)?, cx.input(3)?);
    let mut sum = cx.emit(Gather { axis: 0 }, &[word, ids])?;
    let places = match cx.optional(8) {
        Some(given) => given,
        None => positions(cx, sequence, vec![1, sequence])?,
    };
    let placed = cx.emit(Gather { axis: 0 }, &[position, places])?;
    sum = binary(cx, BinaryFn::Add, sum, placed)?;
    if let (Some(segments), Some(table)) = (cx.optional(1), cx.optional(4)) {
        let of_segments = cx.emit(Gather { axis: 0 }, &[table, segments])?;
        sum = binary(cx, BinaryFn::Add, sum, of_segments)?;
    }
    let (scale, shift, mask) = (cx.input(5)?, cx.input(6)?, cx.optional(7));
    let rank = cx.shape(sum).rank();
    let axes = vec![axis(cx, "embedding", -1, rank)?];
    let epsilon = cx.attrs().float("epsilon", 1e-12)?;
    let y = normalized(cx, sum, Norm { axes, epsilon, centred: true }, scale, Some(shift))?;
    // How many words are not masked, of each of the batch.
    let batch = cx.shape(ids)[0];
    let count = match mask {
        None => {
            let none = int_constant(cx, DType::I32, Vec::new(), &[0]);
            expand(cx, none, vec![batch])?
        }
        Some(mask) => {
            let kind = fornax_ir::ops::reduce::ReduceKind::Sum;
            cx.emit(fornax_ir::ops::Reduce { kind, axes: vec![1], keepdims: false }, &[mask])?
        }
    };
    Ok(vec![y.value, count, sum])
}

/// Bytes as the numbers of `bits` that lie in them, the first in the lowest bits: the last axis grows by as many as a byte has.
fn unpacked(cx: &mut Context<'_>, x: ValueId, bits: u32) -> Result<ValueId> {
    let mut shape = cx.shape(x).to_vec();
    if bits == 8 {
        return Ok(x);
    }
    let per_byte = 8 / bits as usize;
    shape.push(1);
    let mut parts = Vec::with_capacity(per_byte);
    for i in 0..per_byte as u32 {
        let lower = with_scalar(cx, BinaryFn::Div, x, f64::from(1u32 << (bits * i)))?;
        let part = with_scalar(cx, BinaryFn::Mod, lower, f64::from(1u32 << bits))?;
        parts.push(reshape(cx, part, shape.clone())?);
    }
    let all = cx.emit(Concat { axis: shape.len() - 1 }, &parts)?;
    shape.pop();
    if let Some(last) = shape.last_mut() {
        *last = last.saturating_mul(per_byte);
    }
    reshape(cx, all, shape)
}

/// `MatMulNBits`: a product with a matrix `[N, K]` of 2, 4 or 8 bits, in blocks of its rows with a scale and a zero point each.
pub(crate) fn matmul_nbits(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    refuse(cx, &[(4, "g_idx")])?;
    let (a, b, scales) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let number = |cx: &Context<'_>, name: &str| extent(cx, name, cx.attrs().require_int(name)?);
    let (k, n, block) = (number(cx, "K")?, number(cx, "N")?, number(cx, "block_size")?);
    let bits = match cx.attrs().int("bits", 4)? {
        bits @ (2 | 4 | 8) => bits as u32,
        other => return Err(cx.error("bits", "2, 4 or 8", other.to_string())),
    };
    if block == 0 || !block.saturating_mul(bits as usize).is_multiple_of(8) {
        return Err(cx.error("block_size", "whole bytes", block.to_string()));
    }
    let (blocks, bytes) = (k.div_ceil(block), block * bits as usize / 8);
    if cx.shape(b)[..] != [n, blocks, bytes] {
        return Err(cx.error("B", format!("shape [{n},{blocks},{bytes}]"), cx.ty(b).to_string()));
    }
    if cx.shape(scales).numel() != n.saturating_mul(blocks) {
        return Err(cx.error("scales", format!("{n} rows of {blocks}"), cx.ty(scales).to_string()));
    }
    let wide = cx.ty(a).dtype;
    let whole = unpacked(cx, b, bits)?;
    let whole = cast(cx, whole, wide)?;
    let centred = match cx.optional(3) {
        None => with_scalar(cx, BinaryFn::Sub, whole, f64::from(1u32 << (bits - 1)))?,
        Some(zeros) => {
            let zeros = match cx.ty(zeros).dtype {
                DType::U8 => {
                    let row = blocks.saturating_mul(bits as usize).div_ceil(8);
                    let rows = reshape(cx, zeros, vec![n, row])?;
                    let each = unpacked(cx, rows, bits)?;
                    let each = columns(cx, each, 0, blocks)?;
                    cast(cx, each, wide)?
                }
                _ => zeros,
            };
            let zeros = reshape(cx, zeros, vec![n, blocks, 1])?;
            binary(cx, BinaryFn::Sub, whole, zeros)?
        }
    };
    let scales = reshape(cx, scales, vec![n, blocks, 1])?;
    let scaled = binary(cx, BinaryFn::Mul, centred, scales)?;
    let rows = reshape(cx, scaled, vec![n, blocks * block])?;
    let rows = columns(cx, rows, 0, k)?;
    let turned = transpose(cx, rows, vec![1, 0])?;
    let mut y = cx.emit(MatMul {}, &[a, turned])?;
    if let Some(bias) = cx.optional(5) {
        y = binary(cx, BinaryFn::Add, y, bias)?;
    }
    Ok(vec![y])
}
