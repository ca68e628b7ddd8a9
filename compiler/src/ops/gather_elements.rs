//! Selection along an axis, one index per element of the result. Operands: data, indices (of the same rank).

use super::Operation;
use super::attributes::attributes;
use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::shapes::{checked, expect_axis, expect_indices, expect_len, offsets, operands, resolve, strides};
use crate::error::OpError;
use crate::plan::lowering::Lowering;
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

impl Operation for GatherElements {
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

    fn lower(&self, _cx: &mut Lowering<'_>) -> Result<(), OpError> {
        Err(OpError::new("operator", "a native kernel", "none"))
    }
}
