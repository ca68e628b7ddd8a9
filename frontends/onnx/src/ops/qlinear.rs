//! Quantised operators of ONNX Runtime: elements of 8 bits in and out, each with a scale and a zero point.
//!
//! In: quantised operands. Out: the operator of the numbers that they stand for, in `f32`, quantised again. The integer products sum exactly as in
//! [`super::quantize`].

use fornax_ir::graph::ValueId;
use fornax_ir::ops::pool::PoolKind;
use fornax_ir::ops::reduce::ReduceKind;
use fornax_ir::ops::{Concat, Reduce, Softmax, Where};
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::DType;

use crate::context::Context;
use crate::error::Result;

use super::quantize::{centred, integer_product, matrix_zero, qlinear_conv, quantize};
use super::support::{
    axes, axis, binary, cast, expect_broadcast, expect_rank, reduce, reshape, transpose, unary, with_scalar,
};

/// A scale and a zero point: where they are among the operands.
#[derive(Clone, Copy)]
struct Quantisation {
    scale: usize,
    zero: usize,
}

impl Quantisation {
    /// The scale and the zero point, which are scalars.
    fn of(self, cx: &mut Context<'_>) -> Result<(ValueId, Option<ValueId>)> {
        let (scale, zero) = (cx.input(self.scale)?, cx.optional(self.zero));
        for (id, field) in [(Some(scale), "scale"), (zero, "zero_point")] {
            id.map(|id| cx.expect_scalar(id, field)).transpose()?;
        }
        let scale = reshape(cx, scale, Vec::new())?;
        let zero = zero.map(|zero| reshape(cx, zero, Vec::new())).transpose()?;
        Ok((scale, zero))
    }

    /// The numbers that the elements of `x` stand for.
    fn numbers(self, cx: &mut Context<'_>, x: ValueId) -> Result<ValueId> {
        let (scale, zero) = self.of(cx)?;
        let whole = centred(cx, x, zero, DType::F32)?;
        binary(cx, BinaryFn::Mul, whole, scale)
    }

    /// The numbers of `x` as elements of type `to`, rounded after the zero point is added, as ONNX Runtime's pools do it.
    fn elements_of_pool(self, cx: &mut Context<'_>, x: ValueId, to: DType) -> Result<ValueId> {
        let (scale, zero) = self.of(cx)?;
        let mut steps = binary(cx, BinaryFn::Div, x, scale)?;
        if let Some(zero) = zero {
            let zero = cast(cx, zero, DType::F32)?;
            steps = binary(cx, BinaryFn::Add, steps, zero)?;
        }
        let one = cx.scalar_like(steps, 1.0)?;
        quantize(cx, steps, one, None, to)
    }

    /// The numbers of `x` as elements of type `to`.
    fn elements(self, cx: &mut Context<'_>, x: ValueId, to: DType) -> Result<ValueId> {
        let (scale, zero) = self.of(cx)?;
        quantize(cx, x, scale, zero, to)
    }
}

/// Operand 0 with operands 1 and 2, to a result with operands 3 and 4.
fn of_one(cx: &mut Context<'_>, f: impl FnOnce(&mut Context<'_>, ValueId) -> Result<ValueId>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let numbers = Quantisation { scale: 1, zero: 2 }.numbers(cx, x)?;
    let y = f(cx, numbers)?;
    let to = cx.ty(x).dtype;
    Ok(vec![Quantisation { scale: 3, zero: 4 }.elements(cx, y, to)?])
}

/// `QLinearSigmoid`.
pub(crate) fn sigmoid(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    of_one(cx, |cx, x| unary(cx, UnaryFn::Sigmoid, x))
}

/// `QLinearLeakyRelu`.
pub(crate) fn leaky_relu(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let alpha = cx.attrs().float("alpha", 0.01)?;
    of_one(cx, |cx, x| unary(cx, UnaryFn::LeakyRelu(alpha), x))
}

/// `QLinearSoftmax`: along an axis, or before version 13 of the standard's operator along all axes from it on.
pub(crate) fn softmax(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let shape = cx.shape(cx.input(0)?).to_vec();
    let whole = cx.attrs().require_int("opset")? < 13;
    let at = axis(cx, "axis", cx.attrs().int("axis", -1)?, shape.len())?;
    of_one(cx, |cx, x| {
        if !whole {
            return cx.emit(Softmax { axis: at, log: false }, &[x]);
        }
        let matrix = vec![shape[..at].iter().product(), shape[at..].iter().product()];
        let matrix = reshape(cx, x, matrix)?;
        let y = cx.emit(Softmax { axis: 1, log: false }, &[matrix])?;
        reshape(cx, y, shape)
    })
}

/// `QLinearReduceMean`.
pub(crate) fn reduce_mean(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let rank = cx.shape(cx.input(0)?).rank();
    let given = cx.attrs().require_ints("axes")?;
    let mut axes = if given.is_empty() { (0..rank).collect() } else { axes(cx, "axes", &given, rank)? };
    axes.sort_unstable();
    let keepdims = cx.attrs().require_int("keepdims")? != 0;
    of_one(cx, |cx, x| cx.emit(Reduce { kind: ReduceKind::Mean, axes, keepdims }, &[x]))
}

/// The axes of a value with its channels moved from the end to axis 1.
fn channels_first(rank: usize) -> Vec<usize> {
    let mut perm: Vec<usize> = (0..rank).collect();
    perm[1..].rotate_right(1);
    perm
}

/// The axes of a value with its channels moved from axis 1 to the end.
fn channels_last(rank: usize) -> Vec<usize> {
    let mut perm: Vec<usize> = (0..rank).collect();
    perm[1..].rotate_left(1);
    perm
}

/// Applies `f`, which takes channels on axis 1, to a value that may have them at the end.
fn on_channels(
    cx: &mut Context<'_>,
    x: ValueId,
    last: bool,
    f: impl FnOnce(&mut Context<'_>, ValueId) -> Result<ValueId>,
) -> Result<ValueId> {
    expect_rank(cx, "X", x, 3)?;
    if !last {
        return f(cx, x);
    }
    let rank = cx.shape(x).rank();
    let x = transpose(cx, x, channels_first(rank))?;
    let y = f(cx, x)?;
    transpose(cx, y, channels_last(rank))
}

/// `QLinearAveragePool`.
pub(crate) fn average_pool(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let last = cx.attrs().flag("channels_last", false)?;
    let x = cx.input(0)?;
    let numbers = Quantisation { scale: 1, zero: 2 }.numbers(cx, x)?;
    let y = on_channels(cx, numbers, last, |cx, x| {
        let pool = super::pool::window(cx, PoolKind::Average, x)?;
        cx.emit(pool, &[x])
    })?;
    let to = cx.ty(x).dtype;
    Ok(vec![Quantisation { scale: 3, zero: 4 }.elements_of_pool(cx, y, to)?])
}

/// `QLinearGlobalAveragePool`.
pub(crate) fn global_average_pool(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let last = cx.attrs().flag("channels_last", false)?;
    of_one(cx, |cx, x| {
        on_channels(cx, x, last, |cx, x| {
            let axes = (2..cx.shape(x).rank()).collect();
            reduce(cx, ReduceKind::Mean, x, axes)
        })
    })
}

/// `NhwcMaxPool`: of quantised elements as they are.
pub(crate) fn nhwc_max_pool(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let y = on_channels(cx, x, true, |cx, x| {
        let pool = super::pool::window(cx, PoolKind::Max, x)?;
        cx.emit(pool, &[x])
    })?;
    Ok(vec![y])
}

/// A function of two quantised operands.
fn of_two(cx: &mut Context<'_>, function: BinaryFn) -> Result<Vec<ValueId>> {
    let (a, b) = (cx.input(0)?, cx.input(3)?);
    let left = Quantisation { scale: 1, zero: 2 }.numbers(cx, a)?;
    let right = Quantisation { scale: 4, zero: 5 }.numbers(cx, b)?;
    let y = binary(cx, function, left, right)?;
    let to = cx.ty(a).dtype;
    Ok(vec![Quantisation { scale: 6, zero: 7 }.elements(cx, y, to)?])
}

/// `QLinearAdd`.
pub(crate) fn add(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    of_two(cx, BinaryFn::Add)
}

/// `QLinearMul`.
pub(crate) fn mul(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    of_two(cx, BinaryFn::Mul)
}

/// `QLinearWhere`.
pub(crate) fn select(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (condition, a, b) = (cx.input(0)?, cx.input(1)?, cx.input(4)?);
    let left = Quantisation { scale: 2, zero: 3 }.numbers(cx, a)?;
    let right = Quantisation { scale: 5, zero: 6 }.numbers(cx, b)?;
    let y = cx.emit(Where {}, &[condition, left, right])?;
    let to = cx.ty(a).dtype;
    Ok(vec![Quantisation { scale: 7, zero: 8 }.elements(cx, y, to)?])
}

/// `QLinearConcat`: each operand comes with its scale and zero point; those of the result go first.
pub(crate) fn concat(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let count = cx.input_count().saturating_sub(2);
    if count == 0 || !count.is_multiple_of(3) {
        return Err(cx.error("inputs", "an operand, its scale and its zero point, once or more", count.to_string()));
    }
    let mut parts = Vec::with_capacity(count / 3);
    for at in (2..2 + count).step_by(3) {
        let x = cx.input(at)?;
        parts.push(Quantisation { scale: at + 1, zero: at + 2 }.numbers(cx, x)?);
    }
    let axis = axis(cx, "axis", cx.attrs().require_int("axis")?, cx.shape(parts[0]).rank())?;
    let y = cx.emit(Concat { axis }, &parts)?;
    let to = cx.ty(cx.input(1)?).dtype;
    Ok(vec![Quantisation { scale: 0, zero: 1 }.elements(cx, y, to)?])
}

/// `QLinearConv`, as the standard's with channels on axis 1.
pub(crate) fn conv(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    if cx.attrs().flag("channels_last", false)? {
        return Err(cx.unsupported("channels_last"));
    }
    qlinear_conv(cx)
}

/// The product of centred integers, as `i32`, with zero points as the operators name them.
fn product(cx: &mut Context<'_>, [a, b]: [ValueId; 2], zeros: [Option<ValueId>; 2]) -> Result<ValueId> {
    let a_zero = zeros[0].map(|zero| matrix_zero(cx, "a_zero_point", zero, a, false)).transpose()?;
    let b_zero = zeros[1].map(|zero| matrix_zero(cx, "b_zero_point", zero, b, true)).transpose()?;
    integer_product(cx, [a, b], [a_zero, b_zero])
}

/// A product scaled by the scales of its operands, which are one number, or one per row and column.
fn scaled_product(
    cx: &mut Context<'_>,
    operands: [ValueId; 2],
    zeros: [Option<ValueId>; 2],
    scales: [ValueId; 2],
) -> Result<ValueId> {
    let a_scale = matrix_zero(cx, "a_scale", scales[0], operands[0], false)?;
    let b_scale = matrix_zero(cx, "b_scale", scales[1], operands[1], true)?;
    let product = product(cx, operands, zeros)?;
    let product = cast(cx, product, DType::F32)?;
    let (a_scale, b_scale) = (cast(cx, a_scale, DType::F32)?, cast(cx, b_scale, DType::F32)?);
    let scale = binary(cx, BinaryFn::Mul, a_scale, b_scale)?;
    binary(cx, BinaryFn::Mul, product, scale)
}

/// `y + bias`, where there is one.
fn with_bias(cx: &mut Context<'_>, y: ValueId, bias: Option<ValueId>) -> Result<ValueId> {
    let Some(bias) = bias else { return Ok(y) };
    expect_broadcast(cx, "bias", bias, y)?;
    binary(cx, BinaryFn::Add, y, bias)
}

/// `MatMulIntegerToFloat`.
pub(crate) fn matmul_integer_to_float(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let operands = [cx.input(0)?, cx.input(1)?];
    let (scales, zeros) = ([cx.input(2)?, cx.input(3)?], [cx.optional(4), cx.optional(5)]);
    let y = scaled_product(cx, operands, zeros, scales)?;
    let y = cast(cx, y, cx.ty(scales[0]).dtype)?;
    let bias = cx.optional(6);
    Ok(vec![with_bias(cx, y, bias)?])
}

/// `DynamicQuantizeMatMul`: a product whose first operand is quantised as it comes.
pub(crate) fn dynamic_quantize_matmul(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (a, b, b_scale) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let (b_zero, bias) = (cx.optional(3), cx.optional(4));
    let [elements, scale, zero] = super::quantize::dynamically(cx, a)?;
    let y = scaled_product(cx, [elements, b], [Some(zero), b_zero], [scale, b_scale])?;
    Ok(vec![with_bias(cx, y, bias)?])
}

/// `QGemm`: a product of quantised matrices and an integer bias, quantised again where there is a scale of the result.
pub(crate) fn qgemm(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (a, b) = (cx.input(0)?, cx.input(3)?);
    for (field, id) in [("A", a), ("B", b)] {
        if cx.shape(id).rank() != 2 {
            return Err(cx.error(field, "rank 2", cx.ty(id).to_string()));
        }
    }
    let turned = |cx: &mut Context<'_>, x: ValueId, name: &str| match cx.attrs().flag(name, false)? {
        true => transpose(cx, x, vec![1, 0]),
        false => Ok(x),
    };
    let (a, b) = (turned(cx, a, "transA")?, turned(cx, b, "transB")?);
    let zeros = [Some(cx.input(2)?), Some(cx.input(5)?)];
    let sum = product(cx, [a, b], zeros)?;
    let mut sum = cast(cx, sum, DType::I32)?;
    let bias = cx.optional(6);
    sum = with_bias(cx, sum, bias)?;
    let a_scale = matrix_zero(cx, "a_scale", cx.input(1)?, a, false)?;
    let b_scale = matrix_zero(cx, "b_scale", cx.input(4)?, b, true)?;
    let scale = binary(cx, BinaryFn::Mul, a_scale, b_scale)?;
    let alpha = cx.attrs().float("alpha", 1.0)?;
    let scale = with_scalar(cx, BinaryFn::Mul, scale, f64::from(alpha))?;
    let sum = cast(cx, sum, DType::F32)?;
    let y = binary(cx, BinaryFn::Mul, sum, scale)?;
    if cx.optional(7).is_none() {
        return Ok(vec![y]);
    }
    let to = cx.optional(8).map_or(cx.ty(a).dtype, |zero| cx.ty(zero).dtype);
    Ok(vec![Quantisation { scale: 7, zero: 8 }.elements(cx, y, to)?])
}
