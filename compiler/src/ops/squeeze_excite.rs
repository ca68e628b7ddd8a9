//! Squeeze-and-excite (Hu et al. 2018): `y = x * gate(w2 act(w1 mean(x) + b1) + b2)`, the mean over all spatial axes.
//!
//! Operands: `x [N, C, H, W]`, `w1 [R, C, 1, 1]`, `b1 [R]`, `w2 [C, R, 1, 1]`, `b2 [C]`. Made only by `fuse_squeeze_excite`.

use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::Operation;
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::types::TensorType;
use super::attributes::attributes;
use crate::scalar::UnaryFn;

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
