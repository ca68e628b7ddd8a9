//! Products of 16-bit integers, as ONNX has them: of 8-bit ones and their zero points.
//!
//! In: a `conv` or a `matmul` of `i16` operands, which are quantised tensors less their zero points. Out: `ConvInteger` or
//! `MatMulInteger` over the quantised tensors themselves, whose import gives the operator again. Every sum is the same 32-bit
//! integer. A convolution of others is refused: ONNX has none.

use fornax_ir::graph::{NodeId, ValueId};
use fornax_ir::ops::literal::Literal;
use fornax_ir::ops::{Cast, Conv, Op};
use fornax_ir::scalar::BinaryFn;
use fornax_ir::types::{DType, TensorType};

use super::Writer;
use super::attributes::{Refusal, int};
use crate::proto::AttributeProto;
use crate::tensors::type_code;

const WIDE: Refusal = "16-bit integers that are no 8-bit ones less a zero point";
const ZERO_POINT: Refusal = "a zero point that is not one integer of the type of the values";

/// Values of 8 bits and the zero point to take off them, by their names.
struct Quantised {
    values: String,
    zero: String,
}

/// `MatMulInteger` of the operands of node `id`; of others than quantised ones their product as 32-bit integers.
pub fn matmul(out: &mut Writer<'_>, id: NodeId) {
    let name = out.name(id);
    if let (Ok(a), Ok(b)) = (quantised(out, id, 0), quantised(out, id, 1)) {
        return product(out, "MatMulInteger", [a, b], &name, Vec::new());
    }
    let mut wide = Vec::with_capacity(2);
    for (operand, what) in out.operands(id).into_iter().zip(["a", "b"]) {
        let cast = out.inner_name(id, what);
        out.node("Cast", &[operand], &cast, vec![int("to", i64::from(type_code(DType::I32)))]);
        wide.push(cast);
    }
    out.node("MatMul", &wide, &name, Vec::new());
}

/// `ConvInteger` of the operands of node `id`, and the sum with a bias.
pub fn conv(out: &mut Writer<'_>, id: NodeId, attributes: Vec<AttributeProto>, conv: &Conv) -> Result<(), Refusal> {
    let operands = [quantised(out, id, 0)?, quantised(out, id, 1)?];
    let name = out.name(id);
    if !conv.bias {
        product(out, "ConvInteger", operands, &name, attributes);
        return Ok(());
    }
    let sums = out.inner_name(id, "sums");
    product(out, "ConvInteger", operands, &sums, attributes);
    let rank = out.ty(id.into()).shape.rank();
    let shape: Vec<i64> = (0..rank - 1).map(|axis| if axis == 0 { -1 } else { 1 }).collect();
    let (bias, shape) = (out.operands(id)[2].clone(), out.integers(id, "bias_shape", &shape));
    let column = out.inner_name(id, "bias");
    out.node("Reshape", &[bias, shape], &column, Vec::new());
    out.node("Add", &[sums, column], &name, Vec::new());
    Ok(())
}

fn product(out: &mut Writer<'_>, op_type: &str, [a, b]: [Quantised; 2], name: &str, attributes: Vec<AttributeProto>) {
    out.node(op_type, &[a.values, b.values, a.zero, b.zero], name, attributes);
}

/// Operand `at` of node `id` as values of 8 bits.
fn quantised(out: &mut Writer<'_>, id: NodeId, at: usize) -> Result<Quantised, Refusal> {
    let value = out.graph.operands(id)[at];
    if let Some(literal) = constant(out, value) {
        return narrowed(out, id, at, &literal);
    }
    if let Some(values) = cast_of(out, value) {
        return Ok(Quantised { values: out.name(values), zero: String::new() });
    }
    let producer = out.graph.producer(value).op();
    let [x, zero] = out.graph.operands(value.node)[..] else { return Err(WIDE) };
    if !matches!(producer, Some(Op::Binary(binary)) if binary.function == BinaryFn::Sub) {
        return Err(WIDE);
    }
    let values = cast_of(out, x).ok_or(WIDE)?;
    let zero = match (constant(out, zero), cast_of(out, zero)) {
        (Some(zero), _) => eight_bits(out, id, at, &zero, out.ty(values).dtype)?,
        (None, Some(zero)) if out.ty(zero).shape.is_empty() && out.ty(zero).dtype == out.ty(values).dtype => {
            out.name(zero)
        }
        _ => return Err(ZERO_POINT),
    };
    Ok(Quantised { values: out.name(values), zero })
}

/// What a value of 16 bits was before it was widened from 8.
fn cast_of(out: &Writer<'_>, value: ValueId) -> Option<ValueId> {
    let widens = matches!(out.graph.producer(value).op(), Some(Op::Cast(Cast { to: DType::I16 })));
    let from = *out.graph.operands(value.node).first()?;
    (widens && matches!(out.ty(from).dtype, DType::I8 | DType::U8)).then_some(from)
}

fn constant(out: &Writer<'_>, value: ValueId) -> Option<Literal> {
    Literal::from_constant(out.graph.producer(value).constant()?).ok()
}

/// A constant zero point in the element type of the values that it belongs to.
fn eight_bits(out: &mut Writer<'_>, id: NodeId, at: usize, zero: &Literal, dtype: DType) -> Result<String, Refusal> {
    let range = if dtype == DType::U8 { 0.0..=255.0 } else { -128.0..=127.0 };
    match zero.to_f64()[..] {
        [zero] if range.contains(&zero) => Ok(out.scalar(id, ["a_zero", "b_zero"][at], dtype, zero)),
        _ => Err(ZERO_POINT),
    }
}

/// Constants as the unsigned 8-bit integers that they are with some zero point. Unsigned ones, since peers saturate the sums of
/// pairs of signed ones on processors without VNNI.
fn narrowed(out: &mut Writer<'_>, id: NodeId, at: usize, literal: &Literal) -> Result<Quantised, Refusal> {
    let values: Vec<i64> = literal.to_f64().iter().map(|value| *value as i64).collect();
    let (least, most) = (values.iter().min().copied().unwrap_or(0), values.iter().max().copied().unwrap_or(0));
    // Values plus the zero point are from 0 to 255, and so is the zero point.
    let (low, high) = ((-least).max(0), (255 - most).min(255));
    if low > high {
        return Err(WIDE);
    }
    let zero = 128.clamp(low, high);
    let name = out.inner_name(id, ["a", "b"][at]);
    let ty = TensorType::new(DType::U8, literal.ty.shape.clone());
    let bytes = Literal::new_int(ty, values.iter().map(|value| value + zero).collect()).to_bytes();
    out.initializer(&name, DType::U8, &literal.ty.shape, bytes.into());
    Ok(Quantised { values: name, zero: out.scalar(id, ["a_zero", "b_zero"][at], DType::U8, zero as f64) })
}
