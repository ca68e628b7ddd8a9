//! Constant operands on their way into a kernel's packing.
//!
//! In: an `f32` constant. Out: a packed constant of the plan. The elements are read when the program's memory is filled, straight
//! from the model's bytes, so no second copy of a weight is ever made.

use fornax_runtime::packing::Packing;

use super::context::Lowering;
use crate::plan::{Generated, Operand, PackedConstant};
use fornax_ir::OpError;
use fornax_ir::types::{Constant, DType, Payload};

/// Operand `i`, if it is an `f32` constant whose elements are known.
pub fn constant<'a>(cx: &'a Lowering<'_>, i: usize) -> Option<&'a Constant> {
    cx.constant(i).filter(|c| c.ty.dtype == DType::F32 && !matches!(c.payload, Payload::Hash(_)))
}

/// Packs operand `i`, for which [`constant`] holds.
///
/// # Errors
/// If operand `i` is no known `f32` constant.
pub fn pack(cx: &mut Lowering<'_>, i: usize, packing: Packing) -> Result<Operand, OpError> {
    let missing = || OpError::new(format!("operand {i}"), "a known f32 constant", "none");
    let source = constant(cx, i).ok_or_else(missing)?.clone();
    Ok(cx.plan.constant(PackedConstant::packed(source, packing)).into())
}

/// Packs bias operand `i`; as many zeros without an operand.
///
/// # Errors
/// As [`pack`].
pub fn bias(cx: &mut Lowering<'_>, i: Option<usize>, packing: Packing) -> Result<Operand, OpError> {
    match i {
        None => Ok(cx.plan.constant(Generated::Zeros(packing.len() * 4)).into()),
        Some(i) => pack(cx, i, packing),
    }
}

/// A bias of `count` elements and zeros up to `len`.
///
/// # Errors
/// As [`pack`].
pub fn padded_bias(cx: &mut Lowering<'_>, i: Option<usize>, count: usize, len: usize) -> Result<Operand, OpError> {
    bias(cx, i, Packing::padded(count, len))
}
