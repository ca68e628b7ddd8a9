//! Element-wise functions of two operands of one type, with NumPy broadcasting; the mnemonic is the function's own.

use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::Operation;
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::types::TensorType;
use crate::scalar::BinaryFn;

/// An element-wise function of two operands.
#[derive(Clone, PartialEq, Debug)]
pub struct Binary {
    /// The function.
    pub function: BinaryFn,
}

impl Binary {
    /// Reads the operator from its text form.
    pub fn read(mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        reader.finish()?;
        let function = BinaryFn::ALL.into_iter().find(|f| f.name() == mnemonic);
        function.map(|function| Self { function }).ok_or_else(|| OpError::new("operator", "a function of two operands", mnemonic))
    }
}

impl Operation for Binary {
    fn name(&self) -> &'static str {
        self.function.name()
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        Vec::new()
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
