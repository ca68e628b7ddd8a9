//! Softmax along one axis, shifted by the largest element; with `log` its logarithm.

use super::Operation;
use super::attributes::attributes;
use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::shapes::{expect_axis, expect_float, expect_operands};
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::types::TensorType;

attributes! {
    /// Attributes of a softmax.
    pub struct Softmax {
        /// Axis that sums to one.
        pub axis: usize = 1,
        /// Logarithm of the result.
        pub log: bool = false,
    }
}

impl Softmax {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl Operation for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        expect_operands(inputs, 1)?;
        expect_float("x", inputs[0])?;
        expect_axis(self.axis, inputs[0].shape.rank())?;
        Ok(inputs[0].clone())
    }

    fn evaluate(&self, _inputs: &[&Literal]) -> Result<Literal, OpError> {
        Err(OpError::new("operator", "an evaluator", "none"))
    }

    fn lower(&self, _cx: &mut Lowering<'_>) -> Result<(), OpError> {
        Err(OpError::new("operator", "a native kernel", "none"))
    }
}
