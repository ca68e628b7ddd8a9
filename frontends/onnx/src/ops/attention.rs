//! Attention: scaled products of queries and keys, masks, softmax, and the sum of values.
//!
//! In: queries, keys and values apart by heads or side by side. Out: what the standard's function body computes. A row of queries that may see no
//! key gives zeros.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::reduce::ReduceKind;
use fornax_ir::ops::{Concat, Conv, MatMul, Slice, Softmax, Where};
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::DType;

use crate::context::Context;
use crate::error::Result;

use super::support::{binary, cast, dtype, expand, extent, positions, reduce, reshape, transpose, unary, with_scalar};

/// Operand `x` as `[batch, heads, sequence, size]`.
fn by_heads(cx: &mut Context<'_>, field: &str, x: ValueId, heads: &str) -> Result<ValueId> {
    match cx.shape(x)[..] {
        [_, _, _, _] => Ok(x),
        [batch, sequence, width] => {
            let count = extent(cx, heads, cx.attrs().require_int(heads)?)?;
            if count == 0 || !width.is_multiple_of(count) {
                return Err(cx.error(heads, format!("a divisor of {width}"), count.to_string()));
            }
            apart(cx, x, [batch, sequence, count, width / count])
        }
        _ => Err(cx.error(field, "rank 3 or 4", cx.ty(x).to_string())),
    }
}

/// `[batch, sequence, heads * size]` as `[batch, heads, sequence, size]`.
fn apart(cx: &mut Context<'_>, x: ValueId, shape: [usize; 4]) -> Result<ValueId> {
    let x = reshape(cx, x, shape.to_vec())?;
    transpose(cx, x, vec![0, 2, 1, 3])
}

/// `[batch, heads, sequence, size]` as `[batch, sequence, heads * size]`.
fn together(cx: &mut Context<'_>, x: ValueId) -> Result<ValueId> {
    let x = transpose(cx, x, vec![0, 2, 1, 3])?;
    let [batch, sequence, heads, size] = cx.shape(x)[..] else { return Ok(x) };
    reshape(cx, x, vec![batch, sequence, heads * size])
}

/// Each head of keys or values `times` times, one after the other.
pub(crate) fn repeated(cx: &mut Context<'_>, x: ValueId, times: usize) -> Result<ValueId> {
    let [batch, heads, sequence, size] = cx.shape(x)[..] else { return Ok(x) };
    if times == 1 {
        return Ok(x);
    }
    let one = reshape(cx, x, vec![batch, heads, 1, sequence, size])?;
    let all = expand(cx, one, vec![batch, heads, times, sequence, size])?;
    reshape(cx, all, vec![batch, heads * times, sequence, size])
}

/// The sum of two masks, of which either may be absent.
fn with(cx: &mut Context<'_>, a: Option<ValueId>, b: ValueId) -> Result<ValueId> {
    a.map_or(Ok(b), |a| binary(cx, BinaryFn::Add, a, b))
}

/// 0 where `allowed`, else minus infinity.
fn masked(cx: &mut Context<'_>, allowed: ValueId, like: ValueId) -> Result<ValueId> {
    let (zero, never) = (cx.scalar_like(like, 0.0)?, cx.scalar_like(like, f64::NEG_INFINITY)?);
    cx.emit(Where {}, &[allowed, zero, never])
}

/// What is added to the products of `rows` queries and `columns` keys.
fn bias(cx: &mut Context<'_>, q: ValueId, [rows, columns]: [usize; 2], past: usize) -> Result<Option<ValueId>> {
    let mut sum = None;
    if let Some(mask) = cx.optional(3) {
        let width = cx.shape(mask).last().copied().unwrap_or(columns);
        let mut mask =
            if cx.ty(mask).dtype == DType::Bool { masked(cx, mask, q)? } else { cast(cx, mask, cx.ty(q).dtype)? };
        if width < columns && width > 1 || width == 1 && cx.shape(mask).rank() > 0 && columns > 1 && cx.version() >= 24
        {
            let mut shape = cx.shape(mask).to_vec();
            if let Some(last) = shape.last_mut() {
                *last = columns - width;
            }
            let never = cx.scalar_like(q, f64::NEG_INFINITY)?;
            let never = expand(cx, never, shape.clone())?;
            mask = cx.emit(Concat { axis: shape.len() - 1 }, &[mask, never])?;
        }
        sum = Some(mask);
    }
    // How many keys come before the first query: one number, or one for each of the batch.
    let row = positions(cx, rows, vec![rows, 1])?;
    let column = positions(cx, columns, vec![1, columns])?;
    let lengths = cx.optional(6);
    let at = match lengths {
        None => with_scalar(cx, BinaryFn::Add, row, past as f64)?,
        Some(lengths) => {
            let batch = cx.shape(lengths).numel();
            let lengths = reshape(cx, lengths, vec![batch, 1, 1, 1])?;
            let before = with_scalar(cx, BinaryFn::Sub, lengths, rows as f64)?;
            binary(cx, BinaryFn::Add, row, before)?
        }
    };
    let mut allowed = Vec::new();
    if cx.attrs().flag("is_causal", false)? {
        allowed.push(binary(cx, BinaryFn::LessOrEqual, column, at)?);
    }
    for (name, function, sign) in
        [("left_window_size", BinaryFn::GreaterOrEqual, -1.0), ("right_window_size", BinaryFn::LessOrEqual, 1.0)]
    {
        let size = cx.attrs().int(name, -1)?;
        if size < -1 {
            return Err(cx.error(name, "-1 or more", size.to_string()));
        }
        if size >= 0 {
            let end = with_scalar(cx, BinaryFn::Add, at, sign * size as f64)?;
            allowed.push(binary(cx, function, column, end)?);
        }
    }
    if let Some(lengths) = lengths {
        let batch = cx.shape(lengths).numel();
        let lengths = reshape(cx, lengths, vec![batch, 1, 1, 1])?;
        allowed.push(binary(cx, BinaryFn::Less, column, lengths)?);
    }
    for allowed in allowed {
        let more = masked(cx, allowed, q)?;
        sum = Some(with(cx, sum, more)?);
    }
    Ok(sum)
}

/// `Attention`.
pub(crate) fn attention(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let flat = cx.shape(cx.input(0)?).rank() == 3;
    let (q, k, v) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let q = by_heads(cx, "Q", q, "q_num_heads")?;
    let k = by_heads(cx, "K", k, "kv_num_heads")?;
    let v = by_heads(cx, "V", v, "kv_num_heads")?;
    let joined = |cx: &mut Context<'_>, slot: usize, new: ValueId| match cx.optional(slot) {
        None => Ok(new),
        Some(past) => cx.emit(Concat { axis: 2 }, &[past, new]),
    };
    let (present_k, present_v) = (joined(cx, 4, k)?, joined(cx, 5, v)?);
    let past = cx.optional(4).map_or(0, |past| cx.shape(past).get(2).copied().unwrap_or(0));
    let (q_shape, k_shape) = (cx.shape(q).to_vec(), cx.shape(present_k).to_vec());
    if k_shape[1] == 0 || !q_shape[1].is_multiple_of(k_shape[1]) || cx.shape(present_v)[1] != k_shape[1] {
        let expected = format!("a divisor of {} heads", q_shape[1]);
        return Err(cx.error("K", expected, format!("{} and {} heads", k_shape[1], cx.shape(present_v)[1])));
    }
    let times = q_shape[1] / k_shape[1];
    let (k, v) = (repeated(cx, present_k, times)?, repeated(cx, present_v, times)?);
    // Elements of 16 bits are rounded once, in the results.
    let given = cx.ty(q).dtype;
    let wide = if given == DType::F64 { given } else { DType::F32 };
    let (q, k, v) = (cast(cx, q, wide)?, cast(cx, k, wide)?, cast(cx, v, wide)?);
    let scale = match cx.attrs().has("scale") {
        true => f64::from(cx.attrs().require_float("scale")?),
        false => 1.0 / (q_shape[3] as f64).sqrt(),
    };
    let scaled = with_scalar(cx, BinaryFn::Mul, q, scale.sqrt())?;
    let keys = with_scalar(cx, BinaryFn::Mul, k, scale.sqrt())?;
    let keys = transpose(cx, keys, vec![0, 1, 3, 2])?;
    let mut products = cx.emit(MatMul {}, &[scaled, keys])?;
    let cap = cx.attrs().float("softcap", 0.0)?;
    if cap > 0.0 {
        let inner = with_scalar(cx, BinaryFn::Div, products, f64::from(cap))?;
        let inner = unary(cx, UnaryFn::Tanh, inner)?;
        products = with_scalar(cx, BinaryFn::Mul, inner, f64::from(cap))?;
    }
    let bias = bias(cx, q, [q_shape[2], k_shape[2]], past)?;
    let biased = match bias {
        Some(bias) => binary(cx, BinaryFn::Add, products, bias)?,
        None => products,
    };
    let weights = weights(cx, biased, bias)?;
    let y = cx.emit(MatMul {}, &[weights, v])?;
    let y = if flat { together(cx, y)? } else { y };
    let y = cast(cx, y, given)?;
    let shown = match cx.attrs().int("qk_matmul_output_mode", 0)? {
        0 | 1 => products,
        2 => biased,
        3 => weights,
        other => return Err(cx.error("qk_matmul_output_mode", "0 to 3", other.to_string())),
    };
    let shown = cast(cx, shown, given)?;
    Ok(vec![y, present_k, present_v, shown])
}

/// The softmax of biased products; rows whose bias is minus infinity throughout are zeros.
fn weights(cx: &mut Context<'_>, biased: ValueId, bias: Option<ValueId>) -> Result<ValueId> {
    let given = cx.ty(biased).dtype;
    let wide = match cx.attrs().has("softmax_precision") {
        true => dtype(cx, "softmax_precision", cx.attrs().require_int("softmax_precision")?)?,
        false => given,
    };
    let x = cast(cx, biased, wide)?;
    let axis = cx.shape(x).rank() - 1;
    let y = cx.emit(Softmax { axis, log: false }, &[x])?;
    let y = cast(cx, y, given)?;
    let Some(bias) = bias else { return Ok(y) };
    let last = cx.shape(bias).rank().saturating_sub(1);
    let most = if cx.shape(bias).rank() == 0 { bias } else { reduce(cx, ReduceKind::Max, bias, vec![last])? };
    let none = with_scalar(cx, BinaryFn::Equal, most, f64::NEG_INFINITY)?;
    let zero = cx.scalar_like(y, 0.0)?;
    cx.emit(Where {}, &[none, zero, y])
}

/// `CausalConvWithState`: a depthwise convolution of what came before and the input, and the end of both for the next.
pub(crate) fn causal_conv_with_state(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (x, w, bias) = (cx.input(0)?, cx.input(1)?, cx.optional(2));
    let ([batch, channels, _], [_, 1, taps]) = (&cx.shape(x)[..], &cx.shape(w)[..]) else {
        let found = format!("{} and {}", cx.ty(x), cx.ty(w));
        return Err(cx.error("input", "[n, C, length], and a weight [C, 1, k]", found));
    };
    let (before, group) = (vec![*batch, *channels, taps.saturating_sub(1)], *channels);
    let past = match cx.optional(3) {
        Some(past) if cx.shape(past)[..] == before[..] => past,
        Some(past) => return Err(cx.error("past_state", format!("shape {before:?}"), cx.ty(past).to_string())),
        None => {
            let zero = cx.scalar_like(x, 0.0)?;
            expand(cx, zero, before.clone())?
        }
    };
    let all = cx.emit(Concat { axis: 2 }, &[past, x])?;
    let op =
        Conv { strides: vec![1], pads: vec![0, 0], dilations: vec![1], group, bias: bias.is_some(), ..Conv::default() };
    let operands: Vec<ValueId> = [all, w].into_iter().chain(bias).collect();
    let mut y = cx.emit(op, &operands)?;
    match cx.attrs().string("activation", "none")? {
        "none" => {}
        "silu" | "swish" => y = unary(cx, UnaryFn::Silu, y)?,
        other => return Err(cx.error("activation", "none, silu or swish", other)),
    }
    let start = cx.shape(all)[2] - before[2];
    let state = cx.emit(Slice { starts: vec![0, 0, start], steps: Vec::new(), sizes: before }, &[all])?;
    Ok(vec![y, state])
}

/// A `LinearAttention` in progress.
struct Recurrence {
    /// `[batch, heads, steps, size]` each.
    qkv: [ValueId; 3],
    /// By what the state shrinks before a step, and how much of a value is new: `[batch, heads or 1, steps, size or 1]`.
    decay: Option<ValueId>,
    beta: Option<ValueId>,
    steps: usize,
    /// Heads of queries for each head of keys.
    times: usize,
    scale: f64,
}

impl Recurrence {
    /// The part of step `t`.
    fn at(cx: &mut Context<'_>, x: ValueId, t: usize) -> Result<ValueId> {
        let mut sizes = cx.shape(x).to_vec();
        sizes[2] = 1;
        cx.emit(Slice { starts: vec![0, 0, t, 0], steps: Vec::new(), sizes }, &[x])
    }

    /// The output of step `t`, and the state after it.
    fn step(&self, cx: &mut Context<'_>, mut state: ValueId, t: usize) -> Result<[ValueId; 2]> {
        let [q, k, v] = self.qkv;
        let (query, key, mut value) = (Self::at(cx, q, t)?, Self::at(cx, k, t)?, Self::at(cx, v, t)?);
        let column = transpose(cx, key, vec![0, 1, 3, 2])?;
        if let Some(decay) = self.decay {
            let gate = Self::at(cx, decay, t)?;
            let gate = unary(cx, UnaryFn::Exp, gate)?;
            let gate = transpose(cx, gate, vec![0, 1, 3, 2])?;
            state = binary(cx, BinaryFn::Mul, state, gate)?;
        }
        if let Some(beta) = self.beta {
            let found = cx.emit(MatMul {}, &[key, state])?;
            let rest = binary(cx, BinaryFn::Sub, value, found)?;
            let beta = Self::at(cx, beta, t)?;
            value = binary(cx, BinaryFn::Mul, beta, rest)?;
        }
        let added = binary(cx, BinaryFn::Mul, column, value)?;
        let state = binary(cx, BinaryFn::Add, state, added)?;
        let read = repeated(cx, state, self.times)?;
        let y = cx.emit(MatMul {}, &[query, read])?;
        Ok([with_scalar(cx, BinaryFn::Mul, y, self.scale)?, state])
    }
}

/// Queries, keys or values of a `LinearAttention` by heads, in `f32`.
fn linear_heads(cx: &mut Context<'_>, slot: usize, field: &str, name: &str) -> Result<ValueId> {
    let x = cx.input(slot)?;
    if cx.shape(x).rank() != 3 {
        return Err(cx.error(field, "rank 3", cx.ty(x).to_string()));
    }
    let x = cast(cx, x, DType::F32)?;
    by_heads(cx, field, x, name)
}

/// Whether the state decays, and whether values are corrected by what it holds, as `update_rule` says; each comes with an operand.
fn update_rule(cx: &Context<'_>) -> Result<()> {
    let (gated, delta) = match cx.attrs().string("update_rule", "gated_delta")? {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        other => return Err(cx.error("update_rule", "linear, gated, delta or gated_delta", other)),
    };
    for (slot, field, wanted) in [(4, "decay", gated), (5, "beta", delta)] {
        if cx.optional(slot).is_some() != wanted {
            let (expected, found) = if wanted { ("a value", "none") } else { ("none by this rule", "a value") };
            return Err(cx.error(field, expected, found));
        }
    }
    Ok(())
}

/// An operand beside the steps as `[batch, heads or 1, steps, size or 1]`, in `f32`.
fn beside(cx: &mut Context<'_>, slot: usize, [batch, steps, heads]: [usize; 3]) -> Result<Option<ValueId>> {
    let Some(x) = cx.optional(slot) else { return Ok(None) };
    let x = cast(cx, x, DType::F32)?;
    let width = cx.shape(x).last().copied().unwrap_or(0);
    let count = if width == 1 { 1 } else { heads };
    if cx.shape(x)[..] != [batch, steps, width] || width == 0 || !width.is_multiple_of(count) {
        return Err(cx.error("decay or beta", format!("[{batch},{steps},…]"), cx.ty(x).to_string()));
    }
    apart(cx, x, [batch, steps, count, width / count]).map(Some)
}

/// `LinearAttention`: a state of keys times values, step by step, read by each query.
pub(crate) fn linear_attention(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let given = cx.ty(cx.input(0)?).dtype;
    update_rule(cx)?;
    let q = linear_heads(cx, 0, "query", "q_num_heads")?;
    let k = linear_heads(cx, 1, "key", "kv_num_heads")?;
    let v = linear_heads(cx, 2, "value", "kv_num_heads")?;
    let of = |cx: &Context<'_>, x: ValueId, axis: usize| cx.shape(x)[axis];
    let (batch, steps, size) = (of(cx, q, 0), of(cx, q, 2), of(cx, q, 3));
    let (q_heads, kv_heads, v_size) = (of(cx, q, 1), of(cx, k, 1), of(cx, v, 3));
    if !q_heads.is_multiple_of(kv_heads) {
        return Err(cx.error("q_num_heads", format!("a multiple of {kv_heads}"), q_heads.to_string()));
    }
    let (decay, beta) = (beside(cx, 4, [batch, steps, kv_heads])?, beside(cx, 5, [batch, steps, kv_heads])?);
    let whole = vec![batch, kv_heads, size, v_size];
    let (mut state, kept) = match cx.optional(3) {
        Some(past) => (cast(cx, past, DType::F32)?, cx.ty(past).dtype),
        None => {
            let zero = cx.scalar_like(q, 0.0)?;
            (expand(cx, zero, whole.clone())?, given)
        }
    };
    if cx.shape(state)[..] != whole[..] {
        return Err(cx.error("past_state", format!("shape {whole:?}"), cx.ty(state).to_string()));
    }
    let scale = match cx.attrs().float("scale", 0.0)? {
        0.0 => 1.0 / (size as f64).sqrt(),
        given => f64::from(given),
    };
    cx.charge(steps as u64)?;
    let recurrence = Recurrence { qkv: [q, k, v], decay, beta, steps, times: q_heads / kv_heads, scale };
    let mut outputs = Vec::with_capacity(steps);
    for t in 0..recurrence.steps {
        let [y, after] = recurrence.step(cx, state, t)?;
        outputs.push(y);
        state = after;
    }
    let y = match outputs[..] {
        [] => return Err(cx.unsupported("a sequence without steps")),
        [only] => only,
        _ => cx.emit(Concat { axis: 2 }, &outputs)?,
    };
    let y = together(cx, y)?;
    Ok(vec![cast(cx, y, given)?, cast(cx, state, kept)?])
}
