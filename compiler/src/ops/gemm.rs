//! General matrix product: `y = then(alpha op(a) op(b) + beta c)`. Operands: `a`, `b` (rank 2), then `c` if `bias`
//! (broadcast to the result).

use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::Operation;
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::types::TensorType;
use super::attributes::attributes;
use crate::scalar::UnaryFn;

attributes! {
    /// Attributes of a general matrix product.
    pub struct Gemm {
        /// Factor of the product.
        pub alpha: f32 = 1.0,
        /// Factor of `c`.
        pub beta: f32 = 1.0,
        /// Transpose `a`.
        pub trans_a: bool = false,
        /// Transpose `b`.
        pub trans_b: bool = false,
        /// Whether `c` is given.
        pub bias: bool = false,
        /// Activation of the result.
        pub then: Option<UnaryFn> = None,
    }
}

impl Gemm {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl Operation for Gemm {
    fn name(&self) -> &'static str {
        "gemm"
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
