//! Permutation of axes: axis `i` of the result is axis `perm[i]` of the operand.

use super::Operation;
use super::attributes::attributes;
use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::shapes::{checked, expect_len, offsets, operands, strides};
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::types::Shape;
use crate::types::TensorType;

attributes! {
    /// Attributes of a transpose.
    pub struct Transpose {
        /// Source axis of each axis of the result.
        pub perm: Vec<usize> = vec![],
    }
}

impl Transpose {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl Operation for Transpose {
    fn name(&self) -> &'static str {
        "transpose"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        let [x] = operands(inputs)?;
        let rank = x.shape.rank();
        expect_len("perm", rank, self.perm.len())?;
        if let Some(axis) = (0..rank).find(|axis| !self.perm.contains(axis)) {
            let expected = format!("a permutation of {rank} axes");
            return Err(OpError::new("perm", expected, format!("{:?} without {axis}", self.perm)));
        }
        checked(x.dtype, self.perm.iter().map(|axis| x.shape[*axis]).collect::<Vec<_>>())
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let [x] = operands(inputs)?;
        let shape: Shape = self.perm.iter().map(|axis| x.ty.shape[*axis]).collect();
        let strides = strides(&x.ty.shape);
        let source = offsets(&shape, |axis, i| Some(i * strides[self.perm[axis]]));
        Ok(x.gather_elements(shape, 0.0, |i| source[i]))
    }

    fn lower(&self, _cx: &mut Lowering<'_>) -> Result<(), OpError> {
        Err(OpError::new("operator", "a native kernel", "none"))
    }
}
