//! Transposed convolution: `y = conv_transpose(x, w) + bias`.
//!
//! Operands: `x [N, C, spatial…]`, `w [C, M / group, kernel…]`, then `bias [M]` if `bias`. Each extent of the result is
//! `stride (in - 1) + output_padding + dilation (k - 1) + 1 - pads`.

use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::Operation;
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::types::TensorType;
use super::attributes::attributes;

attributes! {
    /// Attributes of a transposed convolution.
    pub struct ConvTranspose {
        /// Stride of each spatial axis.
        pub strides: Vec<usize> = vec![1, 1],
        /// Padding taken off the result: all begins, then all ends. May be negative (an `output_shape` larger than the natural one).
        pub pads: Vec<i64> = vec![0, 0, 0, 0],
        /// Dilation of each spatial axis.
        pub dilations: Vec<usize> = vec![1, 1],
        /// Extra rows at the end of each axis.
        pub output_padding: Vec<usize> = vec![0, 0],
        /// Number of groups.
        pub group: usize = 1,
        /// Whether a bias operand follows the weight.
        pub bias: bool = false,
    }
}

impl ConvTranspose {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl Operation for ConvTranspose {
    fn name(&self) -> &'static str {
        "conv_transpose"
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
