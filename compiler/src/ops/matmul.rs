//! Matrix product with NumPy semantics: batch axes broadcast, a vector operand is a row or a column that disappears.

use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::Operation;
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::types::TensorType;
use super::attributes::attributes;

attributes! {
    /// Attributes of a matrix product: none.
    pub struct MatMul {}
}

impl MatMul {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl Operation for MatMul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, _inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        Err(OpError::new("operator", "a shape rule", "none"))
    }

    fn evaluate(&self, _inputs: &[&Literal]) -> Result<Literal, OpError> {
        Err(OpError::new("operator", "an evaluator", "none"))
    }

    fn lower(&self, _cx: &mut Lowering<'_>) -> Result<(), OpError> {
        Err(OpError::new("operator", "a native kernel", "none"))
    }
}
