//! What several operators share: operand checks, broadcast shapes, and the map from result elements to operand elements.
//!
//! A type that passed [`checked`], as all operands and results have, has a byte count and strides that fit in `isize`, also
//! where one of its axes is empty: [`Shape::checked_bytes`].

use crate::error::OpError;
use crate::scalar::UnaryFn;
use crate::types::{DType, Shape, TensorType};

/// The operands as an array; fails unless there are `N`.
pub fn operands<'a, T: ?Sized, const N: usize>(inputs: &[&'a T]) -> Result<[&'a T; N], OpError> {
    inputs.try_into().map_err(|_| OpError::new("operands", N.to_string(), inputs.len().to_string()))
}

/// Fails with `field` unless `condition` holds.
pub fn check(
    condition: bool,
    field: &str,
    expected: impl FnOnce() -> String,
    found: impl FnOnce() -> String,
) -> Result<(), OpError> {
    if condition { Ok(()) } else { Err(OpError::new(field, expected(), found())) }
}

/// Fails unless there are `expected` operands.
pub fn expect_operands(inputs: &[&TensorType], expected: usize) -> Result<(), OpError> {
    check(inputs.len() == expected, "operands", || expected.to_string(), || inputs.len().to_string())
}

/// Fails if `ty` has element type `bool`; `field` is the operand's name.
pub fn expect_number(field: &str, ty: &TensorType) -> Result<(), OpError> {
    check(ty.dtype != DType::Bool, field, || "a numeric type".into(), || ty.dtype.to_string())
}

/// The type of sums of products of elements: `i32` of `i16`, else that of the elements.
pub fn sum_type(dtype: DType) -> DType {
    if dtype == DType::I16 { DType::I32 } else { dtype }
}

/// Fails unless `ty` is `dtype` elements in `shape`; `field` is the operand's name.
pub fn expect_type(field: &str, dtype: DType, shape: &[usize], ty: &TensorType) -> Result<(), OpError> {
    let expected = || TensorType::new(dtype, shape).to_string();
    check(ty.dtype == dtype && ty.shape[..] == *shape, field, expected, || ty.to_string())
}

/// Fails unless `ty` has `rank` axes or more; `field` is the operand's name.
pub fn expect_rank(field: &str, rank: usize, ty: &TensorType) -> Result<(), OpError> {
    check(ty.shape.rank() >= rank, field, || format!("rank {rank} or more"), || ty.to_string())
}

/// Fails unless attribute `field` may end a producer of `dtype` elements: an activation, and floating-point elements.
pub fn expect_activation(field: &str, function: Option<UnaryFn>, dtype: DType) -> Result<(), OpError> {
    let Some(function) = function else { return Ok(()) };
    check(function.is_activation(), field, || "an activation".into(), || function.spelling().0.into())?;
    check(dtype.is_float(), field, || format!("no activation of {dtype} elements"), || function.spelling().0.into())
}

/// Products of the extents before and after `axis`, 0 and 0 for a shape without elements: element `(o, i, k)` of the
/// three-axis view is at `(o * shape[axis] + i) * after + k`.
pub fn around_axis(shape: &[usize], axis: usize) -> (usize, usize) {
    if shape.contains(&0) {
        return (0, 0);
    }
    (shape[..axis].iter().product(), shape[axis + 1..].iter().product())
}

/// Fails unless `ty` has element type `dtype`; `field` is the operand's name.
pub fn expect_dtype(field: &str, dtype: DType, ty: &TensorType) -> Result<(), OpError> {
    if ty.dtype == dtype { Ok(()) } else { Err(OpError::new(field, dtype.name(), ty.dtype.name())) }
}

/// Fails unless `ty` has a floating-point element type; `field` is the operand's name.
pub fn expect_float(field: &str, ty: &TensorType) -> Result<(), OpError> {
    if ty.dtype.is_float() { Ok(()) } else { Err(OpError::new(field, "a floating-point type", ty.dtype.name())) }
}

/// Fails unless `axis` is below `rank`.
pub fn expect_axis(axis: usize, rank: usize) -> Result<(), OpError> {
    if axis < rank { Ok(()) } else { Err(OpError::new("axis", format!("an axis below {rank}"), axis.to_string())) }
}

/// Fails unless `ty` can index an axis: `i32` or `i64`.
pub fn expect_indices(ty: &TensorType) -> Result<(), OpError> {
    match ty.dtype {
        DType::I32 | DType::I64 => Ok(()),
        other => Err(OpError::new("indices", "i32 or i64", other.name())),
    }
}

/// The element of an axis of `extent` that `index` names; negative indices count from the end.
pub fn resolve(index: i64, extent: usize) -> Result<usize, OpError> {
    let at = if index < 0 { i128::from(index) + extent as i128 } else { i128::from(index) };
    match usize::try_from(at) {
        Ok(at) if at < extent => Ok(at),
        _ => Err(OpError::new("indices", format!("indices from -{extent} below {extent}"), index.to_string())),
    }
}

/// Fails unless attribute `field`, a list, has `expected` entries.
pub fn expect_len(field: &str, expected: usize, found: usize) -> Result<(), OpError> {
    if found == expected {
        Ok(())
    } else {
        Err(OpError::new(field, format!("{expected} entries"), format!("{found} entries")))
    }
}

/// A result type, if its size is addressable.
pub fn checked(dtype: DType, shape: impl Into<Shape>) -> Result<TensorType, OpError> {
    let ty = TensorType::new(dtype, shape);
    expect_addressable("result", &ty)?;
    Ok(ty)
}

/// Fails unless the size of `ty` is addressable; `field` is the value's name.
pub fn expect_addressable(field: &str, ty: &TensorType) -> Result<(), OpError> {
    match ty.shape.checked_bytes(ty.dtype) {
        Some(_) => Ok(()),
        None => Err(OpError::new(field, "an addressable size", ty.to_string())),
    }
}

/// The shape that `a` and `b` broadcast to by NumPy's rule: aligned at the last axis, extents equal or 1.
pub fn broadcast(a: &[usize], b: &[usize]) -> Result<Shape, OpError> {
    let rank = a.len().max(b.len());
    let extent = |s: &[usize], axis: usize| (axis + s.len()).checked_sub(rank).map_or(1, |at| s[at]);
    (0..rank)
        .map(|axis| match (extent(a, axis), extent(b, axis)) {
            (x, y) if x == y || y == 1 => Ok(x),
            (1, y) => Ok(y),
            _ => {
                let (a, b) = (Shape::from(a), Shape::from(b));
                Err(OpError::new("operands", format!("a shape that broadcasts with {a}"), b.to_string()))
            }
        })
        .collect()
}

/// Row-major strides in elements; all 0 for a shape without elements.
pub fn strides(shape: &[usize]) -> Vec<usize> {
    let mut strides = vec![0; shape.len()];
    if !shape.contains(&0) {
        let mut stride = 1;
        for (axis, extent) in shape.iter().enumerate().rev() {
            strides[axis] = stride;
            stride *= extent;
        }
    }
    strides
}

/// Strides of a tensor of shape `from` read as one of shape `to`, which it broadcasts to: 0 along repeated axes.
pub fn broadcast_strides(from: &[usize], to: &[usize]) -> Vec<usize> {
    let own = strides(from);
    let missing = to.len() - from.len();
    let stride = |axis: usize| axis.checked_sub(missing).filter(|at| from[*at] != 1).map_or(0, |at| own[at]);
    (0..to.len()).map(stride).collect()
}

/// For each element of `shape`, row-major, the sum over its axes of `term(axis, coordinate)`; `None` where any term is `None`.
///
/// With terms `coordinate * stride` this is the element of a strided operand; a term may also skip, repeat or leave out.
pub fn offsets(shape: &[usize], term: impl Fn(usize, usize) -> Option<usize>) -> Vec<Option<usize>> {
    if shape.contains(&0) {
        return Vec::new();
    }
    shape.iter().enumerate().fold(vec![Some(0)], |sums, (axis, extent)| {
        let terms: Vec<_> = (0..*extent).map(|i| term(axis, i)).collect();
        sums.iter().flat_map(|sum| terms.iter().map(move |t| Some((*sum)? + (*t)?))).collect()
    })
}

/// For each element of `to`, row-major, the element of a tensor of shape `from` that it reads under broadcasting.
pub fn broadcast_offsets(from: &[usize], to: &[usize]) -> Vec<usize> {
    let strides = broadcast_strides(from, to);
    offsets(to, |axis, i| Some(i * strides[axis])).into_iter().flatten().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_broadcast_from_the_last_axis() {
        assert_eq!(broadcast(&[2, 1, 3], &[4, 1]).unwrap(), Shape::from([2, 4, 3]));
        assert_eq!(broadcast(&[], &[5]).unwrap(), Shape::from([5]));
        assert_eq!(broadcast(&[], &[]).unwrap(), Shape::from([]));
        assert_eq!(broadcast(&[1, 3], &[0, 1]).unwrap(), Shape::from([0, 3]));
        let error = broadcast(&[2, 3], &[2, 4]).unwrap_err();
        assert_eq!(error.to_string(), "operands: expected a shape that broadcasts with [2,3], found [2,4]");
        assert!(broadcast(&[0], &[2]).is_err());
    }

    #[test]
    fn sizes_beyond_the_address_space_are_errors() {
        assert!(checked(DType::F32, [1 << 40, 1 << 40]).is_err());
        assert!(checked(DType::F32, [usize::MAX / 8]).is_ok());
        assert!(checked(DType::F64, [usize::MAX / 8]).is_err());
        assert!(checked(DType::U8, [0, 1 << 40, 1 << 40]).is_err(), "strides must not overflow either");
        assert_eq!(checked(DType::U8, [0, 3]).unwrap().bytes(), 0);
    }

    #[test]
    fn strides_of_repeated_axes_are_zero() {
        assert_eq!(strides(&[2, 3, 4]), [12, 4, 1]);
        assert_eq!(strides(&[2, 0, 4]), [0, 0, 0]);
        assert_eq!(broadcast_strides(&[3, 1], &[2, 3, 4]), [0, 1, 0]);
        assert_eq!(broadcast_offsets(&[2, 1], &[2, 2]), [0, 0, 1, 1]);
        assert_eq!(broadcast_offsets(&[], &[2]), [0, 0]);
        assert_eq!(broadcast_offsets(&[], &[]), [0]);
    }

    #[test]
    fn offsets_skip_where_a_term_is_none() {
        let got = offsets(&[2, 2], |axis, i| if axis == 0 { Some(10 * i) } else { (i == 1).then_some(1) });
        assert_eq!(got, [None, Some(1), None, Some(11)]);
        assert!(offsets(&[usize::MAX, 0], |_, i| Some(i)).is_empty());
    }
}
