//! Weights and biases on their way into a kernel's packing.
//!
//! In: an `f32` operand, constant or computed, or integers that are known. Out: what the kernel reads. The elements of a constant are put in order when the program's
//! memory is filled, straight from the model's bytes, so no second copy of a weight is ever made; those of a computed operand by a
//! step of the plan, which writes the same bytes.

use fornax_runtime::packing::{self, Packing};

use super::context::Lowering;
use crate::kernels::Pack;
use crate::plan::{AxisOrder, Generated, Operand, PackedConstant};
use fornax_ir::OpError;
use fornax_ir::types::{Constant, DType, Payload, TensorType};

/// Largest operand that a step packs, bytes: it is addressed by 32-bit displacements.
const NEAR: usize = 1 << 28;

/// Operand `i`, if it is an `f32` constant whose elements are known.
pub fn constant<'a>(cx: &'a Lowering<'_>, i: usize) -> Option<&'a Constant> {
    cx.constant(i).filter(|c| c.ty.dtype == DType::F32 && !matches!(c.payload, Payload::Hash(_)))
}

/// Operand `i`, if it is a constant of factors or sums of factors that kernels multiply, whose elements are known.
fn known<'a>(cx: &'a Lowering<'_>, i: usize) -> Option<&'a Constant> {
    let factors = |c: &&Constant| matches!(c.ty.dtype, DType::F32 | DType::I16 | DType::I32);
    cx.constant(i).filter(factors).filter(|c| !matches!(c.payload, Payload::Hash(_)))
}

/// Whether [`pack`] takes operand `i`: a known constant of `f32`, `i16` or `i32`, or a computed `f32` tensor of bounded size.
pub fn usable(cx: &Lowering<'_>, i: usize) -> bool {
    let ty = cx.operand_type(i);
    match cx.constant(i) {
        Some(_) => known(cx, i).is_some(),
        None => ty.dtype == DType::F32 && ty.bytes() <= NEAR,
    }
}

/// Whether all elements of an `f32` constant are integers that `f32` counts with: those of box and edge filters, or of a quantised model.
pub fn are_integers(constant: &Constant) -> bool {
    let Payload::Bytes(bytes) = &constant.payload else { return false };
    let (elements, _) = bytes.as_chunks::<4>();
    elements.iter().map(|bytes| f32::from_le_bytes(*bytes)).all(|w| w.fract() == 0.0 && w.abs() < 16_777_216.0)
}

/// Whether all elements of an `f32` constant are numbers, none of them infinite.
pub fn are_finite(constant: &Constant) -> bool {
    constant.to_f32().is_some_and(|elements| elements.iter().all(|w| w.is_finite()))
}

/// Packs operand `i`, for which [`usable`] holds.
///
/// # Errors
/// If it does not hold, or no kernel writes such a packing.
pub fn pack(cx: &mut Lowering<'_>, i: usize, packing: Packing) -> Result<Operand, OpError> {
    match known(cx, i).cloned() {
        Some(source) => Ok(cx.plan.constant(PackedConstant::packed(source, packing)).into()),
        None => computed(cx, i, packing),
    }
}

/// As [`pack`], with elements of type `dtype`: a constant of `f32` is rounded where that is `bf16`.
///
/// # Errors
/// As there; if a computed operand would have to be rounded.
pub fn pack_as(cx: &mut Lowering<'_>, i: usize, packing: Packing, dtype: DType) -> Result<Operand, OpError> {
    if dtype != DType::BF16 {
        return pack(cx, i, packing);
    }
    let source = constant(cx, i).and_then(rounded);
    let source = source.ok_or_else(|| OpError::new(format!("operand {i}"), "a known constant of f32", "none"))?;
    Ok(cx.plan.constant(PackedConstant::packed(source, packing)).into())
}

/// A constant of `f32` as `bf16`.
fn rounded(source: &Constant) -> Option<Constant> {
    let elements = source.to_f32()?;
    let bytes: Vec<u8> = elements.iter().flat_map(|v| half::bf16::from_f32(*v).to_le_bytes()).collect();
    let ty = TensorType::new(DType::BF16, source.ty.shape.clone());
    let mut rounded = Constant::new(ty, Payload::Bytes(bytes.into()));
    rounded.origins.clone_from(&source.origins);
    Some(rounded)
}

/// Packs operand `i` by a step.
fn computed(cx: &mut Lowering<'_>, i: usize, packing: Packing) -> Result<Operand, OpError> {
    if !usable(cx, i) {
        let found = cx.operand_type(i).to_string();
        return Err(OpError::new(format!("operand {i}"), "a known constant or a computed tensor of f32", found));
    }
    let (order, shape) = (cx.order(i), cx.operand_type(i).shape.clone());
    match restride(&shape, &order.strides(&shape), packing.extents()) {
        Some(strides) => packed_by_step(cx, i, order, (packing, strides)),
        None => {
            let strides = AxisOrder::RowMajor.strides(packing.extents());
            packed_by_step(cx, i, AxisOrder::RowMajor, (packing, strides))
        }
    }
}

/// Packs operand `i`, which is read in `order` by the strides that come with the packing: 0 where it is repeated.
///
/// # Errors
/// If no kernel writes such a packing.
pub fn packed_by_step(
    cx: &mut Lowering<'_>,
    i: usize,
    order: AxisOrder,
    (packing, strides): (Packing, Vec<usize>),
) -> Result<Operand, OpError> {
    let from = cx.operand_as(i, order)?;
    let text = packing.to_string();
    let len = packing.len();
    let spec = Pack::new(DType::F32, packing, strides)
        .ok_or_else(|| OpError::new(format!("operand {i}"), "a packing that a step can write", text))?;
    let to = cx.temp(&format!("packed{i}"), TensorType::f32([len]), AxisOrder::RowMajor);
    cx.step(spec, &[from.into(), to.into()]);
    Ok(to.into())
}

/// The strides of a tensor of `shape` and `strides` seen under `extents`, row-major; `None` where no strides say it. A tensor of one element is
/// repeated.
fn restride(shape: &[usize], strides: &[usize], extents: &[usize]) -> Option<Vec<usize>> {
    let count: usize = shape.iter().product();
    if count == 1 {
        return Some(vec![0; extents.len()]);
    }
    // Axes of one element have no stride; neighbours whose strides fit are one axis.
    let mut runs: Vec<(usize, usize)> = Vec::new();
    for (extent, stride) in shape.iter().copied().zip(strides.iter().copied()).filter(|(extent, _)| *extent != 1) {
        match runs.last_mut() {
            Some((run, last)) if *last == extent * stride => (*run, *last) = (*run * extent, stride),
            _ => runs.push((extent, stride)),
        }
    }
    let mut out = vec![0; extents.len()];
    let mut rest = runs.pop();
    for (axis, extent) in extents.iter().copied().enumerate().rev().filter(|(_, extent)| *extent != 1) {
        let (left, stride) = rest?;
        out[axis] = stride;
        rest = match left {
            _ if left == extent => runs.pop(),
            _ if extent > 0 && left.is_multiple_of(extent) => Some((left / extent, stride * extent)),
            _ => return None,
        };
    }
    (rest.is_none() && runs.is_empty()).then_some(out)
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

/// Operand `i`, a matrix, with its axes exchanged: rows are what were columns.
///
/// # Errors
/// As [`pack`].
pub fn transposed(cx: &mut Lowering<'_>, i: usize) -> Result<Operand, OpError> {
    let extents = cx.operand_type(i).shape.to_vec();
    pack(cx, i, Packing::new(extents, packing::Transform::None, packing::Layout::new([1, 0])))
}

#[cfg(test)]
mod tests {
    use super::restride;

    #[test]
    fn tensors_are_seen_under_other_extents() {
        let see = |shape: &[usize], strides: &[usize], extents: &[usize]| restride(shape, strides, extents);
        // Row-major and channel-last weights [6, 4, 3, 3] as groups, filters, channels, taps.
        assert_eq!(see(&[6, 4, 3, 3], &[36, 9, 3, 1], &[2, 3, 4, 9]), Some(vec![108, 36, 9, 1]));
        assert_eq!(see(&[6, 4, 3, 3], &[36, 1, 12, 4], &[1, 6, 4, 9]), Some(vec![0, 36, 1, 4]));
        assert_eq!(see(&[6, 4, 1, 1], &[4, 1, 4, 4], &[1, 6, 4, 1]), Some(vec![0, 4, 1, 0]));
        assert_eq!(see(&[1, 1], &[1, 1], &[5]), Some(vec![0]));
        assert_eq!(see(&[4, 6], &[1, 4], &[24]), None);
        assert_eq!(see(&[4, 6], &[6, 1], &[5]), None);
        assert_eq!(see(&[0, 3], &[3, 1], &[0, 3]), Some(vec![3, 1]));
    }
}
