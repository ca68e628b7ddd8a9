//! NumPy broadcast of the operand to a shape it broadcasts to.

use super::Operation;
use super::attributes::attributes;
use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::shapes::{broadcast, broadcast_offsets, checked, operands};
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::types::TensorType;

attributes! {
    /// Attributes of an expand.
    pub struct Expand {
        /// Shape of the result.
        pub shape: Vec<usize> = vec![],
    }
}

impl Expand {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl Operation for Expand {
    fn name(&self) -> &'static str {
        "expand"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        let [x] = operands(inputs)?;
        let ty = checked(x.dtype, self.shape.clone())?;
        if broadcast(&x.shape, &self.shape).ok().as_ref() != Some(&ty.shape) {
            return Err(OpError::new("shape", format!("a shape that {} broadcasts to", x.shape), ty.shape.to_string()));
        }
        Ok(ty)
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let [x] = operands(inputs)?;
        let source = broadcast_offsets(&x.ty.shape, &self.shape);
        Ok(x.gather_elements(self.shape.clone().into(), 0.0, |i| Some(source[i])))
    }

    fn lower(&self, _cx: &mut Lowering<'_>) -> Result<(), OpError> {
        Err(OpError::new("operator", "a native kernel", "none"))
    }
}
