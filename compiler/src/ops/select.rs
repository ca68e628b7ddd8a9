//! `where`: `condition ? a : b`, element by element with NumPy broadcasting. Operands: condition (bool), `a`, `b` of one type.

use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::Operation;
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::types::TensorType;
use super::attributes::attributes;

attributes! {
    /// Attributes of `where`: none.
    pub struct Where {}
}

impl Where {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl Operation for Where {
    fn name(&self) -> &'static str {
        "where"
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
