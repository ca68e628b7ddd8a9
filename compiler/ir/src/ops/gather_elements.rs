//! Selection along an axis, one index per element of the result. Operands: data, indices (of the same rank).

use super::OneResult;
use super::attributes::{Attr, AttrReader, attributes};
use super::literal::Literal;
use super::shapes::{checked, expect_axis, expect_indices, expect_len, offsets, operands, resolve, strides};
use crate::error::OpError;
use crate::types::TensorType;

attributes! {
    /// Attributes of a gather of elements.
    pub struct GatherElements {
        /// Axis that is indexed.
        pub axis: usize = 0,
    }
}

impl GatherElements {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl OneResult for GatherElements {
    fn name(&self) -> &'static str {
        "gather_elements"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        let [data, indices] = operands(inputs)?;
        expect_axis(self.axis, data.shape.rank())?;
        expect_indices(indices)?;
        expect_len("indices", data.shape.rank(), indices.shape.rank())?;
        let fits = |axis: usize| indices.shape[axis] <= data.shape[axis];
        if !(0..data.shape.rank()).all(|axis| axis == self.axis || fits(axis)) {
            let expected = format!("a shape within {} except along axis {}", data.shape, self.axis);
            return Err(OpError::new("indices", expected, indices.shape.to_string()));
        }
        if data.shape[self.axis] == 0 && indices.shape.numel() > 0 {
            return Err(OpError::new("data", format!("elements along axis {}", self.axis), data.shape.to_string()));
        }
        checked(data.dtype, indices.shape.clone())
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let [data, indices] = operands(inputs)?;
        let extent = data.ty.shape[self.axis];
        let strides = strides(&data.ty.shape);
        let at = indices.ints("indices")?.iter().map(|i| resolve(*i, extent)).collect::<Result<Vec<_>, _>>()?;
        let rest = offsets(&indices.ty.shape, |axis, i| Some(if axis == self.axis { 0 } else { i * strides[axis] }));
        let source = |i: usize| rest[i].map(|rest| rest + at[i] * strides[self.axis]);
        Ok(data.gather_elements(indices.ty.shape.clone(), 0.0, source))
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
    fn each_element_has_its_own_index() {
        let data = Literal::from_f32([3, 3], &[1., 2., 3., 4., 5., 6., 7., 8., 9.]);
        let at = indices(&[2, 3], &[1, 2, 0, 2, 0, -3]);
        let down = GatherElements { axis: 0 };
        assert_eq!(down.infer(&[&data.ty, &at.ty]), Ok(TensorType::f32([2, 3])));
        assert_eq!(down.evaluate(&[&data, &at]), Ok(Literal::from_f32([2, 3], &[4., 8., 3., 7., 2., 3.])));
        let across = GatherElements { axis: 1 }.evaluate(&[&data, &at]);
        assert_eq!(across, Ok(Literal::from_f32([2, 3], &[2., 3., 1., 6., 4., 4.])));
    }

    #[test]
    fn the_indexed_axis_may_grow() {
        let data = Literal::from_f32([2], &[1., 2.]);
        let at = indices(&[3], &[1, 0, -1]);
        assert_eq!(GatherElements { axis: 0 }.infer(&[&data.ty, &at.ty]), Ok(TensorType::f32([3])));
        assert_eq!(GatherElements { axis: 0 }.evaluate(&[&data, &at]), Ok(Literal::from_f32([3], &[2., 1., 2.])));
        let none = GatherElements { axis: 0 }.evaluate(&[&data, &indices(&[0], &[])]);
        assert_eq!(none, Ok(Literal::from_f32([0], &[])));
    }

    #[test]
    fn operands_are_checked() {
        let data = TensorType::f32([2, 3]);
        let infer = |axis, shape: &[usize]| {
            GatherElements { axis }.infer(&[&data, &TensorType::new(DType::I32, shape)]).unwrap_err().to_string()
        };
        assert_eq!(infer(1, &[3, 3]), "indices: expected a shape within [2,3] except along axis 1, found [3,3]");
        assert_eq!(infer(0, &[2]), "indices: expected 2 entries, found 1 entries");
        assert!(infer(2, &[2, 3]).starts_with("axis"));
        assert_eq!(GatherElements { axis: 0 }.infer(&[&data, &data]).unwrap_err().field, "indices");
        let x = Literal::from_f32([2], &[1., 2.]);
        assert_eq!(GatherElements { axis: 0 }.evaluate(&[&x, &indices(&[1], &[2])]).unwrap_err().field, "indices");
    }
}
