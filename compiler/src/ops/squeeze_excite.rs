//! Squeeze-and-excite (Hu et al. 2018): `y = x * gate(w2 act(w1 mean(x) + b1) + b2)`, the mean over all spatial axes.
//!
//! Operands: `x [N, C, H, W]`, `w1 [R, C, 1, 1]`, `b1 [R]`, `w2 [C, R, 1, 1]`, `b2 [C]`. Made only by `fuse_squeeze_excite`.

use super::Operation;
use super::attributes::attributes;
use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::shapes::{check, expect_activation, expect_float, expect_operands, expect_rank, expect_type};
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::scalar::UnaryFn;
use crate::types::TensorType;

attributes! {
    /// Attributes of a squeeze-and-excite.
    pub struct SqueezeExcite {
        /// Activation after the reduction.
        pub act: UnaryFn = UnaryFn::Silu,
        /// Gate function.
        pub gate: UnaryFn = UnaryFn::Sigmoid,
    }
}

impl SqueezeExcite {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl Operation for SqueezeExcite {
    fn name(&self) -> &'static str {
        "squeeze_excite"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        expect_operands(inputs, 5)?;
        let x = inputs[0];
        expect_float("x", x)?;
        check(x.shape.rank() == 4, "x", || "rank 4".into(), || x.to_string())?;
        expect_rank("w1", 1, inputs[1])?;
        let (channels, reduced) = (x.shape[1], inputs[1].shape[0]);
        expect_type("w1", x.dtype, &[reduced, channels, 1, 1], inputs[1])?;
        expect_type("b1", x.dtype, &[reduced], inputs[2])?;
        expect_type("w2", x.dtype, &[channels, reduced, 1, 1], inputs[3])?;
        expect_type("b2", x.dtype, &[channels], inputs[4])?;
        expect_activation("act", Some(self.act), x.dtype)?;
        expect_activation("gate", Some(self.gate), x.dtype)?;
        Ok(x.clone())
    }

    fn evaluate(&self, _inputs: &[&Literal]) -> Result<Literal, OpError> {
        Err(OpError::new("operator", "an evaluator", "none"))
    }

    fn lower(&self, _cx: &mut Lowering<'_>) -> Result<(), OpError> {
        Err(OpError::new("operator", "a native kernel", "none"))
    }
}
