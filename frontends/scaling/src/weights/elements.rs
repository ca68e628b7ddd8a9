//! Elements of a state dict's tensors: converted to `f32`, put into another order of axes.

use bytes::Bytes;
use safetensors::Dtype;

use super::file::Tensor;

/// Bytes of an element of a type that converts to `f32`.
pub(super) fn width(dtype: Dtype) -> Option<usize> {
    match dtype {
        Dtype::F16 | Dtype::BF16 => Some(2),
        Dtype::F32 => Some(4),
        Dtype::F64 => Some(8),
        _ => None,
    }
}

/// The first element that is infinite or no number.
pub(super) fn not_finite(tensor: &Tensor) -> Option<f32> {
    const EXPONENT: u32 = 0x7f80_0000;
    if tensor.dtype == Dtype::F32 {
        let finite = |c: &[u8; 4]| u32::from_le_bytes(*c) & EXPONENT != EXPONENT;
        let chunks = tensor.bytes.as_chunks().0;
        return chunks.iter().find(|c| !finite(c)).map(|c| f32::from_le_bytes(*c));
    }
    floats(tensor).into_iter().find(|value| !value.is_finite())
}

/// The elements as `f32`; none if the type does not convert.
pub(super) fn floats(tensor: &Tensor) -> Vec<f32> {
    let Some(width) = width(tensor.dtype) else { return Vec::new() };
    let chunks = tensor.bytes.chunks_exact(width);
    match tensor.dtype {
        Dtype::F16 => chunks.map(|c| half::f16::from_le_bytes([c[0], c[1]]).to_f32()).collect(),
        Dtype::BF16 => chunks.map(|c| half::bf16::from_le_bytes([c[0], c[1]]).to_f32()).collect(),
        Dtype::F64 => chunks.map(|c| f64::from_le_bytes(c.try_into().unwrap_or_default()) as f32).collect(),
        _ => chunks.map(|c| f32::from_le_bytes(c.try_into().unwrap_or_default())).collect(),
    }
}

/// Elements of four bytes each.
pub(super) fn to_bytes(values: &[f32]) -> Bytes {
    values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>().into()
}

/// Row-major elements of four bytes with axis `i` of the result taken from axis `axes[i]`.
pub(super) fn permuted(elements: &Bytes, shape: &[usize], axes: &[usize]) -> Bytes {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    let (extents, steps): (Vec<usize>, Vec<usize>) = axes.iter().map(|axis| (shape[*axis], strides[*axis])).unzip();
    let mut out = Vec::with_capacity(elements.len());
    let mut at = vec![0; axes.len()];
    for _ in 0..elements.len() / 4 {
        let from: usize = at.iter().zip(&steps).map(|(i, step)| i * step).sum();
        out.extend_from_slice(&elements[4 * from..4 * from + 4]);
        for axis in (0..at.len()).rev() {
            at[axis] += 1;
            if at[axis] < extents[axis] {
                break;
            }
            at[axis] = 0;
        }
    }
    out.into()
}
