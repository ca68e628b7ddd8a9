//! Constant operands on their way into a kernel's packing.
//!
//! In: an `f32` constant. Out: a packed constant of the plan. The elements are read when the program's memory is filled, straight
//! from the model's bytes, so no second copy of a weight is ever made; they are moved as bytes, since the source is unaligned.

use std::sync::Arc;

use super::context::Lowering;
use crate::plan::{ConstId, Key};
use fornax_ir::OpError;
use fornax_ir::types::{Constant, DType, Payload};

/// The little-endian bytes of an `f32`.
pub type Float = [u8; 4];

/// Operand `i`, if it is an `f32` constant whose elements are known.
pub fn constant<'a>(cx: &'a Lowering<'_>, i: usize) -> Option<&'a Constant> {
    cx.constant(i).filter(|c| c.ty.dtype == DType::F32 && !matches!(c.payload, Payload::Hash(_)))
}

/// Packs operand `i`, for which [`constant`] holds, into `len` floats that are 0 before `write(elements, packed)`. The text
/// `packing` says what `write` does: equal texts and elements are stored once.
///
/// # Errors
/// If operand `i` is no known `f32` constant.
pub fn pack(
    cx: &mut Lowering<'_>,
    i: usize,
    packing: &str,
    len: usize,
    write: impl Fn(&[Float], &mut [Float]) + Send + Sync + 'static,
) -> Result<ConstId, OpError> {
    let missing = || OpError::new(format!("operand {i}"), "a known f32 constant", "none");
    let source = constant(cx, i).ok_or_else(missing)?.clone();
    let key = Key::new(&source, packing);
    let fill = move |out: &mut [u8]| {
        if let Some(bytes) = source.bytes() {
            write(bytes.as_chunks::<4>().0, out.as_chunks_mut::<4>().0);
        }
    };
    let origins = cx.constant(i).map(|c| c.origins.clone()).unwrap_or_default();
    Ok(cx.pack(key, origins, len * 4, Arc::new(fill)))
}

/// Packs bias operand `i` into `len` floats, zeros behind it; zeros alone without an operand.
///
/// # Errors
/// As [`pack`].
pub fn bias(cx: &mut Lowering<'_>, i: Option<usize>, len: usize) -> Result<ConstId, OpError> {
    match i {
        None => Ok(cx.zeros(len * 4)),
        Some(i) => pack(cx, i, &format!("padded to {len}"), len, |from, to| {
            to.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        }),
    }
}
