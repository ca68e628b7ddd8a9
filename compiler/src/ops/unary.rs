//! Element-wise functions of one operand; the mnemonic is the function's own (`relu`, `clip`, `exp`, …).

use super::attributes::{Attr, AttrReader, AttrValue};
use super::literal::Literal;
use super::Operation;
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::types::TensorType;
use crate::scalar::UnaryFn;

/// An element-wise function.
#[derive(Clone, PartialEq, Debug)]
pub struct Unary {
    /// The function; its parameters print as `p=[…]`.
    pub function: UnaryFn,
}

impl Unary {
    /// Reads the operator from its text form.
    pub fn read(mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        let mut reader = reader;
        let p: Vec<f32> = reader.take("p", Vec::new())?;
        reader.finish()?;
        let function = UnaryFn::from_spelling(mnemonic, &p)
            .ok_or_else(|| OpError::new("p", "the parameters of the function", format!("{p:?}")))?;
        Ok(Self { function })
    }
}

impl Operation for Unary {
    fn name(&self) -> &'static str {
        self.function.spelling().0
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        let p = self.function.spelling().1;
        if p.is_empty() { Vec::new() } else { vec![("p", p.to_attr())] }
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
