//! The same elements, row-major, in another shape. Also ONNX's Flatten, Squeeze and Unsqueeze.

use super::Operation;
use super::attributes::attributes;
use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::shapes::{checked, operands};
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::types::TensorType;

attributes! {
    /// Attributes of a reshape.
    pub struct Reshape {
        /// Shape of the result.
        pub shape: Vec<usize> = vec![],
    }
}

impl Reshape {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl Operation for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        let [x] = operands(inputs)?;
        let ty = checked(x.dtype, self.shape.clone())?;
        if ty.shape.checked_numel() != x.shape.checked_numel() {
            return Err(OpError::new("shape", format!("as many elements as {}", x.shape), ty.shape.to_string()));
        }
        Ok(ty)
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let [x] = operands(inputs)?;
        Ok(x.clone().reshaped(self.shape.clone().into()))
    }

    fn lower(&self, _cx: &mut Lowering<'_>) -> Result<(), OpError> {
        Err(OpError::new("operator", "a native kernel", "none"))
    }
}
