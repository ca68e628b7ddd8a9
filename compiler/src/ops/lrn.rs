//! Local response normalisation over channels (axis 1):
//! `y = x / (bias + alpha / size * sum of squares over the window)^beta`, window `[c - (size - 1) / 2, c + size / 2]`.

use super::Operation;
use super::attributes::attributes;
use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::shapes::{check, expect_float, expect_operands, expect_rank};
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::types::TensorType;

attributes! {
    /// Attributes of a local response normalisation.
    pub struct Lrn {
        /// Window, channels.
        pub size: usize = 1,
        /// Scale of the sum.
        pub alpha: f32 = 1e-4,
        /// Exponent.
        pub beta: f32 = 0.75,
        /// Added to the sum.
        pub bias: f32 = 1.0,
    }
}

impl Lrn {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl Operation for Lrn {
    fn name(&self) -> &'static str {
        "lrn"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        expect_operands(inputs, 1)?;
        expect_float("x", inputs[0])?;
        expect_rank("x", 2, inputs[0])?;
        check(self.size > 0, "size", || "at least 1".into(), || self.size.to_string())?;
        Ok(inputs[0].clone())
    }

    fn evaluate(&self, _inputs: &[&Literal]) -> Result<Literal, OpError> {
        Err(OpError::new("operator", "an evaluator", "none"))
    }

    fn lower(&self, _cx: &mut Lowering<'_>) -> Result<(), OpError> {
        Err(OpError::new("operator", "a native kernel", "none"))
    }
}
