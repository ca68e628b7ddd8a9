//! Inference batch normalisation: `y = (x - mean) / sqrt(variance + epsilon) * scale + bias`, per channel (axis 1).
//!
//! Operands: `x [N, C, …]`, then `scale`, `bias`, `mean`, `variance`, each `[C]`.

use super::Operation;
use super::attributes::attributes;
use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::shapes::{expect_float, expect_operands, expect_rank, expect_type};
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::types::TensorType;

attributes! {
    /// Attributes of a batch normalisation.
    pub struct BatchNorm {
        /// Added to the variance.
        pub epsilon: f32 = 1e-5,
    }
}

impl BatchNorm {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl Operation for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        expect_operands(inputs, 5)?;
        let x = inputs[0];
        expect_float("x", x)?;
        expect_rank("x", 2, x)?;
        for (field, operand) in ["scale", "bias", "mean", "variance"].into_iter().zip(&inputs[1..]) {
            expect_float(field, operand)?;
            expect_type(field, operand.dtype, &x.shape[1..2], operand)?;
        }
        Ok(x.clone())
    }

    fn evaluate(&self, _inputs: &[&Literal]) -> Result<Literal, OpError> {
        Err(OpError::new("operator", "an evaluator", "none"))
    }

    fn lower(&self, _cx: &mut Lowering<'_>) -> Result<(), OpError> {
        Err(OpError::new("operator", "a native kernel", "none"))
    }
}
