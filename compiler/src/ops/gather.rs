//! Selection along an axis by an index tensor (`i32` or `i64`; negative counts from the end; kernels clamp what is out of range).
//! Operands: data, indices. Result: the axis replaced by the shape of the indices.

use super::Operation;
use super::attributes::attributes;
use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::shapes::{checked, expect_axis, expect_indices, offsets, operands, resolve};
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::types::Shape;
use crate::types::TensorType;

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

impl Operation for Gather {
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

    fn lower(&self, _cx: &mut Lowering<'_>) -> Result<(), OpError> {
        Err(OpError::new("operator", "a native kernel", "none"))
    }
}
