//! Selection along an axis by an index tensor (`i32` or `i64`; negative counts from the end). An index out of range is an error
//! where it is known before the model runs; kernels clamp it. Operands: data, indices. Result: the axis replaced by the shape
//! of the indices.

use super::attributes::{Attr, AttrReader, attributes};
use super::literal::Literal;
use super::shapes::{checked, expect_axis, expect_indices, offsets, operands, resolve};
use super::{GradientContext, MatMul, OneResult};
use crate::error::OpError;
use crate::scalar::BinaryFn;
use crate::types::{Shape, TensorType};

attributes! {
    /// Attributes of a gather.
    pub struct Gather {
        /// Axis that is indexed.
        pub axis: usize = 0,
    }
}

impl Gather {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }

    /// Shape of the result: that of `data` with the axis replaced by the shape of the indices.
    fn shape(&self, data: &[usize], indices: &[usize]) -> Shape {
        data[..self.axis].iter().chain(indices).chain(&data[self.axis + 1..]).copied().collect()
    }
}

impl OneResult for Gather {
    fn name(&self) -> &'static str {
        "gather"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        let [data, indices] = operands(inputs)?;
        expect_axis(self.axis, data.shape.rank())?;
        expect_indices(indices)?;
        let ty = checked(data.dtype, self.shape(&data.shape, &indices.shape))?;
        if data.shape[self.axis] == 0 && ty.shape.numel() > 0 {
            return Err(OpError::new("data", format!("elements along axis {}", self.axis), data.shape.to_string()));
        }
        Ok(ty)
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let [data, indices] = operands(inputs)?;
        let extent = data.ty.shape[self.axis];
        let at = indices.ints("indices")?.iter().map(|i| resolve(*i, extent)).collect::<Result<Vec<_>, _>>()?;
        // As [outer, axis, inner] the operand is indexed along its middle axis only.
        let [outer, inner] = [&data.ty.shape[..self.axis], &data.ty.shape[self.axis + 1..]].map(|s| s.iter().product());
        let source = offsets(&[outer, at.len(), inner], |axis, i| {
            Some(match axis {
                0 => i * extent * inner,
                1 => at[i] * inner,
                _ => i,
            })
        });
        Ok(data.gather_elements(self.shape(&data.ty.shape, &indices.ty.shape), 0.0, |i| source[i]))
    }

    fn gradient(&self, cx: &mut GradientContext<'_>) -> Result<(), OpError> {
        // A product with a matrix of ones where an index names an element.
        let (dy, data, indices) = (cx.dy()?, cx.operand(0), cx.operand(1));
        let (shape, picked, dtype) = (cx.shape(data), cx.shape(indices), cx.ty(indices).dtype);
        let (extent, count) = (shape[self.axis], picked.iter().product::<usize>());
        let integers =
            |shape: &[usize], values: Vec<i64>| Literal::new_int(TensorType::new(dtype, shape), values).to_constant();
        let zero = cx.constant(integers(&[], vec![0]));
        let length = cx.constant(integers(&[], vec![extent as i64]));
        let elements = cx.constant(integers(&[extent, 1], (0..extent as i64).collect()));
        let indices = cx.reshape(indices, &[1, count])?;
        let (negative, from_end) = (cx.binary(BinaryFn::Less, indices, zero)?, cx.add(indices, length)?);
        let indices = cx.choose(negative, from_end, indices)?;
        let (named, one) = (cx.binary(BinaryFn::Equal, elements, indices)?, cx.number(dy, 1.0));
        let matrix = cx.masked(named, one)?;
        let (before, after): (usize, usize) =
            (shape[..self.axis].iter().product(), shape[self.axis + 1..].iter().product());
        let dy = cx.reshape(dy, &[before, count, after])?;
        let dx = cx.op(MatMul {}, &[matrix, dy])?;
        let dx = cx.reshape(dx, &shape)?;
        cx.set(0, dx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::DType;

    fn indices(shape: &[usize], values: &[i64]) -> Literal {
        Literal::new_int(TensorType::new(DType::I64, shape), values.to_vec())
    }

    #[test]
    fn the_indexed_axis_takes_the_shape_of_the_indices() {
        let data = Literal::from_f32([2, 3], &[0., 1., 2., 3., 4., 5.]);
        let at = indices(&[1, 2], &[2, -3]);
        let op = Gather { axis: 1 };
        assert_eq!(op.infer(&[&data.ty, &at.ty]), Ok(TensorType::f32([2, 1, 2])));
        assert_eq!(op.evaluate(&[&data, &at]), Ok(Literal::from_f32([2, 1, 2], &[2., 0., 5., 3.])));
        let row = Gather { axis: 0 }.evaluate(&[&data, &indices(&[], &[-1])]);
        assert_eq!(row, Ok(Literal::from_f32([3], &[3., 4., 5.])));
    }

    #[test]
    fn one_extent_of_a_shape_is_a_scalar() {
        let shape = indices(&[4], &[1, 3, 224, 224]);
        assert_eq!(Gather { axis: 0 }.evaluate(&[&shape, &indices(&[], &[2])]), Ok(indices(&[], &[224])));
    }

    #[test]
    fn indices_outside_the_axis_are_errors() {
        let data = Literal::from_f32([3], &[0., 1., 2.]);
        for index in [3, -4, i64::MIN, i64::MAX] {
            assert_eq!(Gather { axis: 0 }.evaluate(&[&data, &indices(&[1], &[index])]).unwrap_err().field, "indices");
        }
    }

    #[test]
    fn an_empty_axis_can_only_be_indexed_by_nothing() {
        let data = Literal::from_f32([2, 0], &[]);
        let infer = |axis, at: &Literal| Gather { axis }.infer(&[&data.ty, &at.ty]);
        assert_eq!(infer(1, &indices(&[1], &[0])).unwrap_err().field, "data");
        let none = indices(&[0], &[]);
        assert_eq!(infer(1, &none), Ok(TensorType::f32([2, 0])));
        assert_eq!(Gather { axis: 1 }.evaluate(&[&data, &none]), Ok(Literal::from_f32([2, 0], &[])));
        let row = Gather { axis: 0 }.evaluate(&[&data, &indices(&[1], &[1])]);
        assert_eq!(row, Ok(Literal::from_f32([1, 0], &[])));
    }

    #[test]
    fn operands_are_checked() {
        let (data, at) = (TensorType::f32([3]), TensorType::new(DType::I64, [1 << 40]));
        assert_eq!(Gather { axis: 1 }.infer(&[&data, &at]).unwrap_err().field, "axis");
        assert_eq!(Gather { axis: 0 }.infer(&[&TensorType::f32([]), &at]).unwrap_err().field, "axis");
        assert_eq!(Gather { axis: 0 }.infer(&[&data, &data]).unwrap_err().field, "indices");
        assert_eq!(Gather { axis: 0 }.infer(&[&data]).unwrap_err().field, "operands");
        let wide = TensorType::f32([3, 1 << 40]);
        assert_eq!(Gather { axis: 0 }.infer(&[&wide, &at]).unwrap_err().field, "result");
    }
}
