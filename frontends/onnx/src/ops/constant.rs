//! Values known at compile time, and operators composed around tables of positions: Constant, ConstantOfShape, Range,
//! EyeLike, OneHot, Trilu, CumSum, CumProd.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::literal::Literal;
use fornax_ir::ops::pad::PadMode;
use fornax_ir::ops::{Pad, Where};
use fornax_ir::scalar::BinaryFn;
use fornax_ir::types::{Constant, DType, TensorType};

use crate::context::Context;
use crate::error::Result;

use super::support::{
    axis, binary, cast, dtype, expand, extent, extents, int_constant, positions, reshape, with_scalar,
};

/// `Constant` in any of its numeric forms.
pub(crate) fn constant(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let attrs = cx.attrs();
    let forms = cx.node.attribute.iter().filter(|attribute| !attribute.name.starts_with("__")).count();
    if forms > 1 {
        return Err(cx.error("attributes", "one value", forms.to_string()));
    }
    if let Some((value, kind)) = attrs.narrow_tensor("value")? {
        cx.gives = Some(kind);
        return Ok(vec![cx.add_constant(value)]);
    }
    let value = if let Some(tensor) = attrs.tensor("value")? {
        tensor
    } else if attrs.has("value_float") {
        Constant::from_f32([], &[attrs.require_float("value_float")?])
    } else if let Some(values) = attrs.floats("value_floats")? {
        Constant::from_f32([values.len()], &values)
    } else if attrs.has("value_int") {
        Constant::from_i64([], &[attrs.require_int("value_int")?])
    } else if let Some(values) = attrs.ints("value_ints")? {
        Constant::from_i64([values.len()], &values)
    } else if let Some(values) = attrs.sparse_tensor("sparse_value")? {
        values
    } else {
        for name in ["value_string", "value_strings"] {
            if attrs.has(name) {
                return Err(cx.unsupported(name));
            }
        }
        return Err(cx.error("value", "a value", "none"));
    };
    Ok(vec![cx.add_constant(value)])
}

/// `ConstantOfShape`: one element, zero unless given, in every place.
pub(crate) fn constant_of_shape(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let shape = extents(cx, "input", &cx.const_list(cx.input(0)?, "input")?)?;
    let value = match cx.attrs().tensor("value")? {
        None => Constant::from_f32([], &[0.0]),
        Some(value) if value.ty.shape.numel() == 1 => value,
        Some(value) => return Err(cx.error("value", "one element", value.ty.to_string())),
    };
    let element = cx.add_constant(value);
    let element = reshape(cx, element, Vec::new())?;
    Ok(vec![expand(cx, element, shape)?])
}

/// `Range`, of constants.
pub(crate) fn range(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let names = ["start", "limit", "delta"];
    let ty = cx.ty(cx.input(0)?).dtype;
    for (slot, name) in names.iter().enumerate() {
        let id = cx.input(slot)?;
        if cx.ty(id).dtype != ty {
            return Err(cx.error(*name, format!("a scalar of {ty}"), cx.ty(id).to_string()));
        }
        // Exporters write vectors of one element, too.
        cx.expect_scalar(id, name)?;
    }
    if matches!(ty, DType::I32 | DType::I64) {
        return whole_range(cx, ty);
    }
    let mut given = [0.0; 3];
    for (slot, name) in names.iter().enumerate() {
        given[slot] = cx.const_f64(cx.input(slot)?, name)?;
    }
    let [start, limit, delta] = given;
    let count = ((limit - start) / delta).ceil();
    if delta == 0.0 || !count.is_finite() {
        return Err(cx.error("delta", "a step that reaches the limit", delta.to_string()));
    }
    let count = count.max(0.0) as usize;
    cx.charge(count as u64)?;
    let values = (0..count).map(|i| start + i as f64 * delta);
    let ty = TensorType::new(ty, [count]);
    let literal = match ty.dtype.is_float() {
        true => Literal::new_float(ty, values.collect()),
        false => Literal::new_int(ty, values.map(|v| v as i64).collect()),
    };
    Ok(vec![cx.add_constant(literal.to_constant())])
}

fn whole_range(cx: &mut Context<'_>, ty: DType) -> Result<Vec<ValueId>> {
    let only = |slot: usize, name: &str| cx.const_int(cx.input(slot)?, name);
    let (start, limit, delta) = (only(0, "start")?, only(1, "limit")?, only(2, "delta")?);
    if delta == 0 {
        return Err(cx.error("delta", "a step other than 0", "0"));
    }
    let span = if delta > 0 { i128::from(limit) - i128::from(start) } else { i128::from(start) - i128::from(limit) };
    let count = span.max(0).unsigned_abs().div_ceil(u128::from(delta.unsigned_abs()));
    let count = usize::try_from(count).unwrap_or(usize::MAX);
    cx.charge(count as u64)?;
    let values: Vec<i64> = (0..count as i64).map(|i| start.wrapping_add(i.wrapping_mul(delta))).collect();
    Ok(vec![int_constant(cx, ty, vec![count], &values)])
}

/// Column less row of every element of the last two axes, as `i64 [rows, columns]`.
fn diagonals(cx: &mut Context<'_>, rows: usize, columns: usize) -> Result<ValueId> {
    let row = positions(cx, rows, vec![rows, 1])?;
    let column = positions(cx, columns, vec![1, columns])?;
    binary(cx, BinaryFn::Sub, column, row)
}

/// `EyeLike`.
pub(crate) fn eye_like(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let [rows, columns] = cx.shape(x)[..] else { return Err(cx.error("input", "rank 2", cx.ty(x).to_string())) };
    let to = match cx.attrs().has("dtype") {
        true => dtype(cx, "dtype", cx.attrs().require_int("dtype")?)?,
        false => cx.ty(x).dtype,
    };
    let k = cx.attrs().int("k", 0)?;
    let diagonals = diagonals(cx, rows, columns)?;
    let k = int_constant(cx, DType::I64, Vec::new(), &[k]);
    let on = binary(cx, BinaryFn::Equal, diagonals, k)?;
    Ok(vec![cast(cx, on, to)?])
}

/// `Trilu`: the part above (or below) a diagonal that is known, zero elsewhere.
pub(crate) fn trilu(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let [.., rows, columns] = cx.shape(x)[..] else {
        return Err(cx.error("input", "rank 2 or more", cx.ty(x).to_string()));
    };
    let k = match cx.optional(1) {
        None => 0,
        Some(id) => cx.const_int(id, "k")?,
    };
    let upper = cx.attrs().flag("upper", true)?;
    let diagonals = diagonals(cx, rows, columns)?;
    let k = int_constant(cx, DType::I64, Vec::new(), &[k]);
    let function = if upper { BinaryFn::GreaterOrEqual } else { BinaryFn::LessOrEqual };
    let keep = binary(cx, function, diagonals, k)?;
    let zero = cx.scalar_like(x, 0.0)?;
    Ok(vec![cx.emit(Where {}, &[keep, x, zero])?])
}

/// `OneHot`, of a depth that is known. Indices outside `[-depth, depth)` select nothing.
pub(crate) fn one_hot(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (indices, values) = (cx.input(0)?, cx.input(2)?);
    let depth = extent(cx, "depth", cx.const_f64(cx.input(1)?, "depth")? as i64)?;
    super::support::expect_rank(cx, "indices", indices, 1)?;
    if cx.shape(values)[..] != [2] {
        return Err(cx.error("values", "two elements", cx.ty(values).to_string()));
    }
    let mut shape = cx.shape(indices).to_vec();
    let axis = axis(cx, "axis", cx.attrs().int("axis", -1)?, shape.len() + 1)?;
    let mut table = vec![1; shape.len() + 1];
    table[axis] = depth;
    shape.insert(axis, 1);
    let table = positions(cx, depth, table)?;
    let indices = cast(cx, indices, DType::I64)?;
    let indices = reshape(cx, indices, shape)?;
    let raised = with_scalar(cx, BinaryFn::Add, indices, depth as f64)?;
    let negative = with_scalar(cx, BinaryFn::Less, indices, 0.0)?;
    let indices = cx.emit(Where {}, &[negative, raised, indices])?;
    let hit = binary(cx, BinaryFn::Equal, table, indices)?;
    let on = element(cx, values, 1)?;
    let off = element(cx, values, 0)?;
    Ok(vec![cx.emit(Where {}, &[hit, on, off])?])
}

/// Element `i` of a vector, as a scalar.
fn element(cx: &mut Context<'_>, v: ValueId, i: usize) -> Result<ValueId> {
    let slice = fornax_ir::ops::Slice { starts: vec![i], steps: Vec::new(), sizes: vec![1] };
    let one = cx.emit(slice, &[v])?;
    reshape(cx, one, Vec::new())
}

/// `CumSum` along an axis that is known.
pub(crate) fn cum_sum(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    cumulated(cx, BinaryFn::Add, 0.0)
}

/// `CumProd` along an axis that is known.
pub(crate) fn cum_prod(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    cumulated(cx, BinaryFn::Mul, 1.0)
}

/// Partial sums or products over distances 1, 2, 4, …; `neutral` moves in.
fn cumulated(cx: &mut Context<'_>, function: BinaryFn, neutral: f64) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let shape = cx.shape(x).clone();
    let axis = axis(cx, "axis", cx.const_int(cx.input(1)?, "axis")?, shape.rank())?;
    let reverse = cx.attrs().flag("reverse", false)?;
    let mut all = x;
    if cx.attrs().flag("exclusive", false)? && shape[axis] > 0 {
        all = shifted(cx, all, axis, (1, reverse), neutral)?;
    }
    let mut distance = 1;
    while distance < shape[axis] {
        let moved = shifted(cx, all, axis, (distance, reverse), neutral)?;
        all = binary(cx, function, all, moved)?;
        distance *= 2;
    }
    Ok(vec![all])
}

/// `x` moved along an axis by a distance towards the end (or the begin), `value` moving in.
pub(crate) fn shifted(
    cx: &mut Context<'_>,
    x: ValueId,
    axis: usize,
    (distance, backwards): (usize, bool),
    value: f64,
) -> Result<ValueId> {
    let rank = cx.shape(x).rank();
    let distance = if backwards { -(distance as i64) } else { distance as i64 };
    let mut pads = vec![0; 2 * rank];
    (pads[axis], pads[axis + rank]) = (distance, -distance);
    cx.emit(Pad { mode: PadMode::Constant, pads, value }, &[x])
}
