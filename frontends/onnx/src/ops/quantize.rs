//! Quantisation: QuantizeLinear, DequantizeLinear, DynamicQuantizeLinear, and the integer products.
//!
//! Everything is composed of casts, element-wise functions and products. Those of 8-bit integers (MatMulInteger, ConvInteger, QLinearMatMul,
//! QLinearConv) are taken of 16-bit ones from which the zero point is gone, and summed in `i32`, so that every sum is the standard's.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::reduce::ReduceKind;
use fornax_ir::ops::{Expand, MatMul, Slice};
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::DType;

use crate::context::Context;
use crate::error::Result;
use crate::narrow::Narrow;

use super::narrow;
use super::support::{
    along_axis, axis, binary, broadcast, cast, dtype, extent, integer_range, reduce, reshape, unary, with_scalar,
};

/// `QuantizeLinear`: `saturate(round(x / scale) + zero_point)`.
pub(crate) fn quantize_linear(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (x, scale, zero) = (cx.input(0)?, cx.input(1)?, cx.optional(2));
    let declared = match cx.attrs().int("output_dtype", 0)? {
        0 => None,
        code => Some(Quantised::of(cx, code)?),
    };
    let given = zero.map(|id| cx.narrow(2).map_or(Quantised::Plain(cx.ty(id).dtype), Quantised::Narrow));
    let to = match (declared, given) {
        (None, given) => given.unwrap_or(Quantised::Plain(DType::U8)),
        (Some(declared), Some(given)) if declared != given => {
            return Err(cx.error("y_zero_point", declared.name(), given.name()));
        }
        (Some(declared), _) => declared,
    };
    let wide = match cx.attrs().int("precision", 0)? {
        0 => cx.ty(scale).dtype,
        code => dtype(cx, "precision", code)?,
    };
    let (scale, zero) = spread(cx, x, scale, zero)?;
    let x = cast(cx, x, wide)?;
    let scale = cast(cx, scale, wide)?;
    let kind = match to {
        Quantised::Plain(to) => return quantize(cx, x, scale, zero, to).map(|y| vec![y]),
        Quantised::Narrow(kind) => kind,
    };
    if let Some(range) = kind.range() {
        cx.gives = Some(kind);
        return quantize_within(cx, x, scale, zero, (kind.carrier(), range)).map(|y| vec![y]);
    }
    let mut y = binary(cx, BinaryFn::Div, x, scale)?;
    if let Some(zero) = zero {
        let zero = narrow::numbers(cx, 2, zero)?;
        let zero = cast(cx, zero, cx.ty(y).dtype)?;
        y = binary(cx, BinaryFn::Add, y, zero)?;
    }
    Ok(vec![narrow::converted(cx, y, kind)?])
}

/// What elements are quantised to.
#[derive(Clone, Copy, PartialEq)]
enum Quantised {
    Plain(DType),
    Narrow(Narrow),
}

impl Quantised {
    /// The type of ONNX's number, of the attribute `output_dtype`.
    fn of(cx: &Context<'_>, code: i64) -> Result<Self> {
        match i32::try_from(code).ok().and_then(Narrow::of) {
            Some(kind) => Ok(Self::Narrow(kind)),
            None => dtype(cx, "output_dtype", code).map(Self::Plain),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Plain(dtype) => dtype.name(),
            Self::Narrow(kind) => kind.name(),
        }
    }
}

/// `saturate(round(x / scale) + zero)` as elements of type `to`; the operands broadcast.
pub(super) fn quantize(
    cx: &mut Context<'_>,
    x: ValueId,
    scale: ValueId,
    zero: Option<ValueId>,
    to: DType,
) -> Result<ValueId> {
    let Some(range) = integer_range(to).filter(|_| to.size() <= 2) else {
        return Err(cx.unsupported(format!("quantised elements of type {to}")));
    };
    quantize_within(cx, x, scale, zero, (to, range))
}

/// `round(x / scale) + zero` as the nearest integers of a range, of type `to`.
fn quantize_within(
    cx: &mut Context<'_>,
    x: ValueId,
    scale: ValueId,
    zero: Option<ValueId>,
    (to, (lo, hi)): (DType, (f64, f64)),
) -> Result<ValueId> {
    let scaled = binary(cx, BinaryFn::Div, x, scale)?;
    let mut y = unary(cx, UnaryFn::Round, scaled)?;
    if cx.ty(y).dtype != DType::F64 {
        // Narrower types do not hold every integer of the range.
        y = cast(cx, y, DType::F32)?;
    }
    if let Some(zero) = zero {
        let zero = cast(cx, zero, cx.ty(y).dtype)?;
        y = binary(cx, BinaryFn::Add, y, zero)?;
    }
    let y = match cx.ty(y).dtype {
        DType::F32 => unary(cx, UnaryFn::Clip(lo as f32, hi as f32), y)?,
        _ => {
            let raised = with_scalar(cx, BinaryFn::Max, y, lo)?;
            with_scalar(cx, BinaryFn::Min, raised, hi)?
        }
    };
    cast(cx, y, to)
}

/// `DequantizeLinear`: `(x - zero_point) * scale`.
pub(crate) fn dequantize_linear(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (x, scale, zero) = (cx.input(0)?, cx.input(1)?, cx.optional(2));
    let to = match cx.attrs().int("output_dtype", 0)? {
        0 => cx.ty(scale).dtype,
        code => dtype(cx, "output_dtype", code)?,
    };
    if let Some(zero) = zero.filter(|id| cx.ty(*id).dtype != cx.ty(x).dtype || cx.narrow(0) != cx.narrow(2)) {
        let name = |slot: usize, id: ValueId| cx.narrow(slot).map_or(cx.ty(id).dtype.name(), Narrow::name);
        return Err(cx.error("x_zero_point", name(0, x), name(2, zero)));
    }
    let x = narrow::numbers(cx, 0, x)?;
    let zero = zero.map(|zero| narrow::numbers(cx, 2, zero)).transpose()?;
    let (scale, zero) = spread(cx, x, scale, zero)?;
    let centred = centred(cx, x, zero, DType::F32)?;
    let scale = cast(cx, scale, DType::F32)?;
    let y = binary(cx, BinaryFn::Mul, centred, scale)?;
    Ok(vec![cast(cx, y, to)?])
}

/// `x - zero` in the type `wide`, which is wider than the elements or floating-point: exact, since a difference of narrow integers is narrow, and wide ones
/// are subtracted as they are.
pub(super) fn centred(cx: &mut Context<'_>, x: ValueId, zero: Option<ValueId>, wide: DType) -> Result<ValueId> {
    let given = cx.ty(x).dtype;
    if given == wide && cx.narrow(0).is_some() {
        // 8-bit floats, which are numbers already; their zero point is 0.
        return zero.map_or(Ok(x), |zero| binary(cx, BinaryFn::Sub, x, zero));
    }
    if integer_range(given).is_none() {
        return Err(cx.unsupported(format!("quantised elements of type {given}")));
    }
    let Some(zero) = zero else { return cast(cx, x, wide) };
    if given.size() > 2 {
        let difference = binary(cx, BinaryFn::Sub, x, zero)?;
        return cast(cx, difference, wide);
    }
    let (x, zero) = (cast(cx, x, wide)?, cast(cx, zero, wide)?);
    binary(cx, BinaryFn::Sub, x, zero)
}

/// Scale and zero point in shapes that broadcast to `x`: one element, one per entry of `axis`, or one per block.
fn spread(
    cx: &mut Context<'_>,
    x: ValueId,
    scale: ValueId,
    zero: Option<ValueId>,
) -> Result<(ValueId, Option<ValueId>)> {
    if let Some(zero) = zero.filter(|id| cx.shape(*id).numel() != cx.shape(scale).numel()) {
        return Err(cx.error("zero_point", format!("shape {}", cx.shape(scale)), cx.ty(zero).to_string()));
    }
    let block = extent(cx, "block_size", cx.attrs().int("block_size", 0)?)?;
    let place = |cx: &mut Context<'_>, v: ValueId, field: &str| {
        let rank = cx.shape(x).rank();
        if matches!(cx.shape(v)[..], [] | [1]) && block == 0 {
            return reshape(cx, v, Vec::new());
        }
        let axis = axis(cx, "axis", cx.attrs().int("axis", 1)?, rank)?;
        if block > 0 {
            return blocks(cx, x, v, axis, block, field);
        }
        if cx.shape(v)[..] != [cx.shape(x)[axis]] {
            let expected = format!("{} entries, as axis {axis}", cx.shape(x)[axis]);
            return Err(cx.error(field, expected, cx.ty(v).to_string()));
        }
        along_axis(cx, field, v, axis, rank)
    };
    let scale = place(cx, scale, "scale")?;
    let zero = zero.map(|zero| place(cx, zero, "zero_point")).transpose()?;
    Ok((scale, zero))
}

/// `v` with each entry of `axis` repeated `block` times, cut to the shape of `x`.
fn blocks(cx: &mut Context<'_>, x: ValueId, v: ValueId, axis: usize, block: usize, field: &str) -> Result<ValueId> {
    let (shape, given) = (cx.shape(x).to_vec(), cx.shape(v).to_vec());
    let mut expected = shape.clone();
    expected[axis] = shape[axis].div_ceil(block);
    if given != expected {
        return Err(cx.error(field, format!("shape {expected:?}"), format!("{given:?}")));
    }
    let mut apart = given.clone();
    apart.insert(axis + 1, 1);
    let apart = reshape(cx, v, apart)?;
    let mut repeated = given.clone();
    repeated.insert(axis + 1, block);
    let repeated = cx.emit(Expand { shape: repeated }, &[apart])?;
    let mut joined = given;
    joined[axis] = joined[axis].saturating_mul(block);
    let joined = reshape(cx, repeated, joined)?;
    cx.emit(Slice { starts: vec![0; shape.len()], steps: Vec::new(), sizes: shape }, &[joined])
}

/// `DynamicQuantizeLinear`: a range that holds 0 and every element, in 256 steps.
pub(crate) fn dynamic_quantize_linear(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    dynamically(cx, x).map(Vec::from)
}

/// The elements of `x` in 256 steps of its range, their scale and their zero point.
pub(super) fn dynamically(cx: &mut Context<'_>, x: ValueId) -> Result<[ValueId; 3]> {
    let axes: Vec<usize> = (0..cx.shape(x).rank()).collect();
    let lowest = reduce(cx, ReduceKind::Min, x, axes.clone())?;
    let lowest = reshape(cx, lowest, Vec::new())?;
    let lowest = with_scalar(cx, BinaryFn::Min, lowest, 0.0)?;
    let highest = reduce(cx, ReduceKind::Max, x, axes)?;
    let highest = reshape(cx, highest, Vec::new())?;
    let highest = with_scalar(cx, BinaryFn::Max, highest, 0.0)?;
    let range = binary(cx, BinaryFn::Sub, highest, lowest)?;
    let scale = with_scalar(cx, BinaryFn::Div, range, 255.0)?;
    let steps = binary(cx, BinaryFn::Div, lowest, scale)?;
    let steps = unary(cx, UnaryFn::Neg, steps)?;
    let clipped = unary(cx, UnaryFn::Clip(0.0, 255.0), steps)?;
    let rounded = unary(cx, UnaryFn::Round, clipped)?;
    let zero = cast(cx, rounded, DType::U8)?;
    let y = quantize(cx, x, scale, Some(zero), DType::U8)?;
    Ok([y, scale, zero])
}

/// A zero point of a matrix product in a shape that broadcasts to its operand: one element, or one per row or column.
pub(super) fn matrix_zero(
    cx: &mut Context<'_>,
    field: &str,
    zero: ValueId,
    operand: ValueId,
    columns: bool,
) -> Result<ValueId> {
    let rank = cx.shape(operand).rank();
    match cx.shape(zero)[..] {
        [] | [1] => reshape(cx, zero, Vec::new()),
        [count] if rank >= 2 => {
            let axis = if columns { rank - 1 } else { rank - 2 };
            if cx.shape(operand)[axis] != count {
                let expected = format!("{} entries", cx.shape(operand)[axis]);
                return Err(cx.error(field, expected, count.to_string()));
            }
            along_axis(cx, field, zero, axis, rank)
        }
        _ if broadcast(cx.shape(operand), cx.shape(zero)).as_deref() == Some(&cx.shape(operand)[..]) => Ok(zero),
        _ => Err(cx.error(field, format!("a shape that broadcasts to {}", cx.shape(operand)), cx.ty(zero).to_string())),
    }
}

/// `MatMulInteger`, in 32-bit integers.
pub(crate) fn matmul_integer(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let a_zero = cx.optional(2).map(|zero| matrix_zero(cx, "a_zero_point", zero, a, false)).transpose()?;
    let b_zero = cx.optional(3).map(|zero| matrix_zero(cx, "b_zero_point", zero, b, true)).transpose()?;
    Ok(vec![integer_product(cx, [a, b], [a_zero, b_zero])?])
}

/// The product of centred matrices of 8-bit integers, as `i32`.
pub(super) fn integer_product(
    cx: &mut Context<'_>,
    [a, b]: [ValueId; 2],
    zeros: [Option<ValueId>; 2],
) -> Result<ValueId> {
    let (a, b) = (centred(cx, a, zeros[0], DType::I16)?, centred(cx, b, zeros[1], DType::I16)?);
    cx.emit(MatMul {}, &[a, b])
}

/// `QLinearMatMul`: the integer product scaled and quantised again.
pub(crate) fn qlinear_matmul(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (a, b) = (cx.input(0)?, cx.input(3)?);
    let (a_scale, a_zero) = (cx.input(1)?, cx.input(2)?);
    let (b_scale, b_zero) = (cx.input(4)?, cx.input(5)?);
    let (y_scale, y_zero) = (cx.input(6)?, cx.input(7)?);
    let a_zero = matrix_zero(cx, "a_zero_point", a_zero, a, false)?;
    let b_zero = matrix_zero(cx, "b_zero_point", b_zero, b, true)?;
    let a_scale = matrix_zero(cx, "a_scale", a_scale, a, false)?;
    let b_scale = matrix_zero(cx, "b_scale", b_scale, b, true)?;
    if cx.shape(y_scale).numel() != 1 || cx.shape(y_zero).numel() != 1 {
        return Err(cx.unsupported("y_scale or y_zero_point per row"));
    }
    let to = cx.ty(y_zero).dtype;
    let product = integer_product(cx, [a, b], [Some(a_zero), Some(b_zero)])?;
    requantize(cx, product, [a_scale, b_scale, y_scale], y_zero, to).map(|y| vec![y])
}

/// A sum of integer products times the scales of its operands, quantised by the scale of the result.
pub(super) fn requantize(
    cx: &mut Context<'_>,
    sum: ValueId,
    scales: [ValueId; 3],
    zero: ValueId,
    to: DType,
) -> Result<ValueId> {
    let [a, b, y] = scales;
    let (a, b, y) = (cast(cx, a, DType::F32)?, cast(cx, b, DType::F32)?, cast(cx, y, DType::F32)?);
    let scale = binary(cx, BinaryFn::Mul, a, b)?;
    let sum = cast(cx, sum, DType::F32)?;
    let x = binary(cx, BinaryFn::Mul, sum, scale)?;
    let (y, zero) = (reshape(cx, y, Vec::new())?, reshape(cx, zero, Vec::new())?);
    quantize(cx, x, y, Some(zero), to)
}

/// `ConvInteger`, in 32-bit integers.
pub(crate) fn conv_integer(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (x, w) = (cx.input(0)?, cx.input(1)?);
    Ok(vec![integer_convolution(cx, [x, w], [cx.optional(2), cx.optional(3)], None)?])
}

/// `QLinearConv`: the integer convolution scaled and quantised again.
pub(crate) fn qlinear_conv(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (x, w) = (cx.input(0)?, cx.input(3)?);
    let (x_scale, w_scale, y_scale) = (cx.input(1)?, cx.input(4)?, cx.input(6)?);
    let y_zero = cx.input(7)?;
    for (field, id) in [("x_scale", x_scale), ("y_scale", y_scale), ("y_zero_point", y_zero)] {
        cx.expect_scalar(id, field)?;
    }
    let rank = cx.shape(x).rank();
    let zeros = [cx.optional(2), cx.optional(5)];
    let sum = integer_convolution(cx, [x, w], zeros, cx.optional(8))?;
    let x_scale = reshape(cx, x_scale, Vec::new())?;
    let w_scale = along_axis(cx, "w_scale", w_scale, 1, rank)?;
    let to = cx.ty(y_zero).dtype;
    requantize(cx, sum, [x_scale, w_scale, y_scale], y_zero, to).map(|y| vec![y])
}

/// The convolution of centred 8-bit integers, as `i32`. Padding stands for the zero point, so it is 0.
fn integer_convolution(
    cx: &mut Context<'_>,
    [x, w]: [ValueId; 2],
    [x_zero, w_zero]: [Option<ValueId>; 2],
    bias: Option<ValueId>,
) -> Result<ValueId> {
    if let Some(zero) = x_zero {
        cx.expect_scalar(zero, "x_zero_point")?;
    }
    let op = super::conv::attributes(cx, x, w, bias.is_some())?;
    let rank = cx.shape(w).rank();
    let x_zero = x_zero.map(|zero| reshape(cx, zero, Vec::new())).transpose()?;
    let w_zero = w_zero.map(|zero| along_axis(cx, "w_zero_point", zero, 0, rank)).transpose()?;
    let operands = [centred(cx, x, x_zero, DType::I16)?, centred(cx, w, w_zero, DType::I16)?];
    cx.emit(op, &operands.into_iter().chain(bias).collect::<Vec<_>>())
}
