//! What several operator families share: axes, element types, windows and one-line emissions.
//!
//! Helpers take the field they speak about, so that errors name the attribute or input of the model file.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::reduce::ReduceKind;
use fornax_ir::ops::{Binary, Cast, Expand, Reduce, Reshape, Transpose, Unary};
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::{Constant, DType, Shape, TensorType};

use crate::context::Context;
use crate::error::Result;
use crate::tensors::{element_type, is_foreign};

/// An axis counted from the front, for one that may count from the end.
pub(crate) fn axis(cx: &Context<'_>, field: &str, value: i64, rank: usize) -> Result<usize> {
    let bound = rank as i64;
    match value {
        v if (0..bound).contains(&v) => Ok(v as usize),
        v if (-bound..0).contains(&v) => Ok((v + bound) as usize),
        v => Err(cx.error(field, format!("an axis of rank {rank}"), v.to_string())),
    }
}

/// Axes counted from the front, in the given order; duplicates are refused.
pub(crate) fn axes(cx: &Context<'_>, field: &str, values: &[i64], rank: usize) -> Result<Vec<usize>> {
    if values.len() > rank {
        return Err(cx.error(field, format!("distinct axes of rank {rank}"), format!("{} axes", values.len())));
    }
    let mut out = Vec::with_capacity(values.len());
    for value in values {
        let one = axis(cx, field, *value, rank)?;
        if out.contains(&one) {
            return Err(cx.error(field, "distinct axes", format!("{values:?}")));
        }
        out.push(one);
    }
    Ok(out)
}

/// An extent or count that must not be negative.
pub(crate) fn extent(cx: &Context<'_>, field: &str, value: i64) -> Result<usize> {
    usize::try_from(value).map_err(|_| cx.error(field, "no negative number", value.to_string()))
}

/// Extents or counts that must not be negative.
pub(crate) fn extents(cx: &Context<'_>, field: &str, values: &[i64]) -> Result<Vec<usize>> {
    values.iter().map(|v| extent(cx, field, *v)).collect()
}

/// Fails unless `values` has `expected` entries.
pub(crate) fn expect_len<T: std::fmt::Debug>(
    cx: &Context<'_>,
    field: &str,
    values: &[T],
    expected: usize,
) -> Result<()> {
    if values.len() == expected {
        return Ok(());
    }
    Err(cx.error(field, format!("{expected} entries"), values.len().to_string()))
}

/// Fails unless the value `x` has at least `rank` axes.
pub(crate) fn expect_rank(cx: &Context<'_>, field: &str, x: ValueId, rank: usize) -> Result<()> {
    if cx.shape(x).rank() >= rank {
        return Ok(());
    }
    Err(cx.error(field, format!("rank {rank} or more"), cx.ty(x).to_string()))
}

/// Refuses a node that names more outputs than the first `count`.
pub(crate) fn expect_outputs(cx: &Context<'_>, count: usize, what: &str) -> Result<()> {
    if cx.output_count() <= count { Ok(()) } else { Err(cx.unsupported(what)) }
}

/// The element type of a `TensorProto.DataType` code; a type that ONNX has and the IR has not is unsupported.
pub(crate) fn dtype(cx: &Context<'_>, field: &str, code: i64) -> Result<DType> {
    let wrong = || cx.error(field, "an element type", code.to_string());
    let kind = i32::try_from(code).map_err(|_| wrong())?;
    element_type(kind).map_err(|found| match kind {
        8 => cx.unsupported(format!("{field}: strings")),
        kind if is_foreign(kind) => cx.unsupported(format!("{field}: element type {code}, {found}")),
        _ => wrong(),
    })
}

/// The smallest and largest value of an integer type of at most 32 bits.
pub(crate) fn integer_range(dtype: DType) -> Option<(f64, f64)> {
    Some(match dtype {
        DType::I8 => (-128.0, 127.0),
        DType::U8 => (0.0, 255.0),
        DType::I16 => (-32768.0, 32767.0),
        DType::U16 => (0.0, 65535.0),
        DType::I32 => (-2147483648.0, 2147483647.0),
        DType::U32 => (0.0, 4294967295.0),
        _ => return None,
    })
}

/// Shape broadcasting of NumPy; `None` where the shapes do not broadcast.
pub(crate) fn broadcast(a: &[usize], b: &[usize]) -> Option<Vec<usize>> {
    let rank = a.len().max(b.len());
    let extent = |s: &[usize], i: usize| (i + s.len()).checked_sub(rank).map_or(1, |i| s[i]);
    (0..rank)
        .map(|i| match (extent(a, i), extent(b, i)) {
            (1, d) | (d, 1) => Some(d),
            (d, e) => (d == e).then_some(d),
        })
        .collect()
}

/// Emits an element-wise function.
pub(crate) fn unary(cx: &mut Context<'_>, function: UnaryFn, x: ValueId) -> Result<ValueId> {
    cx.emit(Unary { function }, &[x])
}

/// Emits an element-wise function of two operands.
pub(crate) fn binary(cx: &mut Context<'_>, function: BinaryFn, a: ValueId, b: ValueId) -> Result<ValueId> {
    cx.emit(Binary { function }, &[a, b])
}

/// Emits an element-wise function of a value and a number.
pub(crate) fn with_scalar(cx: &mut Context<'_>, function: BinaryFn, a: ValueId, b: f64) -> Result<ValueId> {
    let b = cx.scalar_like(a, b)?;
    binary(cx, function, a, b)
}

/// `x` with elements of type `to`.
pub(crate) fn cast(cx: &mut Context<'_>, x: ValueId, to: DType) -> Result<ValueId> {
    if cx.ty(x).dtype == to { Ok(x) } else { cx.emit(Cast { to }, &[x]) }
}

/// `x` in another shape of as many elements.
pub(crate) fn reshape(cx: &mut Context<'_>, x: ValueId, shape: Vec<usize>) -> Result<ValueId> {
    if cx.shape(x)[..] == shape[..] { Ok(x) } else { cx.emit(Reshape { shape }, &[x]) }
}

/// `x` broadcast to `shape`.
pub(crate) fn expand(cx: &mut Context<'_>, x: ValueId, shape: Vec<usize>) -> Result<ValueId> {
    if cx.shape(x)[..] == shape[..] { Ok(x) } else { cx.emit(Expand { shape }, &[x]) }
}

/// `x` with its axes permuted.
pub(crate) fn transpose(cx: &mut Context<'_>, x: ValueId, perm: Vec<usize>) -> Result<ValueId> {
    cx.emit(Transpose { perm }, &[x])
}

/// A reduction that keeps its axes with extent 1.
pub(crate) fn reduce(cx: &mut Context<'_>, kind: ReduceKind, x: ValueId, axes: Vec<usize>) -> Result<ValueId> {
    cx.emit(Reduce { kind, axes, keepdims: true }, &[x])
}

/// A vector along `axis` of a value of rank `rank`: `[C]` becomes `[1, …, C, …, 1]`. Scalars and `[1]` become all ones.
pub(crate) fn along_axis(cx: &mut Context<'_>, field: &str, v: ValueId, axis: usize, rank: usize) -> Result<ValueId> {
    let count = match cx.shape(v)[..] {
        [] => 1,
        [count] => count,
        _ => return Err(cx.error(field, "a vector", cx.ty(v).to_string())),
    };
    let mut shape = vec![1; rank];
    if let Some(extent) = shape.get_mut(axis) {
        *extent = count;
    }
    reshape(cx, v, shape)
}

/// A vector of one entry per channel, shaped to broadcast along `axis` of a value of rank `rank`.
pub(crate) fn per_channel(
    cx: &mut Context<'_>,
    field: &str,
    v: ValueId,
    [count, axis, rank]: [usize; 3],
) -> Result<ValueId> {
    if cx.shape(v)[..] != [count] {
        return Err(cx.error(field, format!("shape [{count}], one for each channel"), cx.ty(v).to_string()));
    }
    along_axis(cx, field, v, axis, rank)
}

/// Fails unless `v` broadcasts to the shape of `x`.
pub(crate) fn expect_broadcast(cx: &Context<'_>, field: &str, v: ValueId, x: ValueId) -> Result<()> {
    if broadcast(cx.shape(x), cx.shape(v)).as_deref() == Some(&cx.shape(x)[..]) {
        return Ok(());
    }
    Err(cx.error(field, format!("a shape that broadcasts to {}", cx.shape(x)), cx.ty(v).to_string()))
}

/// A constant of one dtype from whole numbers.
pub(crate) fn int_constant(cx: &mut Context<'_>, dtype: DType, shape: Vec<usize>, values: &[i64]) -> ValueId {
    let bytes: Vec<u8> = match dtype {
        DType::F32 => values.iter().flat_map(|v| (*v as f32).to_le_bytes()).collect(),
        DType::F64 => values.iter().flat_map(|v| (*v as f64).to_le_bytes()).collect(),
        DType::F16 => values.iter().flat_map(|v| half::f16::from_f64(*v as f64).to_le_bytes()).collect(),
        DType::BF16 => values.iter().flat_map(|v| half::bf16::from_f64(*v as f64).to_le_bytes()).collect(),
        other => values.iter().flat_map(|v| v.to_le_bytes().into_iter().take(other.size())).collect(),
    };
    cx.add_constant(Constant::from_bytes(TensorType::new(dtype, Shape::from(shape)), bytes))
}

/// The `i64` positions `0, 1, …` of an axis of extent `count`, in `shape`.
pub(crate) fn positions(cx: &mut Context<'_>, count: usize, shape: Vec<usize>) -> Result<ValueId> {
    cx.charge(count as u64)?;
    let values: Vec<i64> = (0..count as i64).collect();
    Ok(int_constant(cx, DType::I64, shape, &values))
}
