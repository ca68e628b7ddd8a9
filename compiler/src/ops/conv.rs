//! Convolution: `y = then(conv(x, w) + bias + residual)`.
//!
//! Operands: `x [N, C, spatial…]`, `w [M, C / group, kernel…]`, then `bias [M]` if `bias`, then `residual` (the type of the
//! result) if `residual`. Result `[N, M, spatial…]`, each extent `(in + pads - dilation (k - 1) - 1) / stride + 1`.
//! Epilogue order: bias, residual, `then`; with `then_first` the activation comes before the residual (Fused-MBConv, expansion 1).

use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::Operation;
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::types::TensorType;
use super::attributes::attributes;
use crate::scalar::UnaryFn;

attributes! {
    /// Attributes of a convolution with any number of spatial axes.
    pub struct Conv {
        /// Stride of each spatial axis.
        pub strides: Vec<usize> = vec![1, 1],
        /// Padding: all begins, then all ends.
        pub pads: Vec<usize> = vec![0, 0, 0, 0],
        /// Dilation of each spatial axis.
        pub dilations: Vec<usize> = vec![1, 1],
        /// Number of groups.
        pub group: usize = 1,
        /// Whether a bias operand follows the weight.
        pub bias: bool = false,
        /// Whether the last operand is added to the result.
        pub residual: bool = false,
        /// Whether the activation applies before the residual is added.
        pub then_first: bool = false,
        /// Activation of the result.
        pub then: Option<UnaryFn> = None,
    }
}

impl Conv {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl Operation for Conv {
    fn name(&self) -> &'static str {
        "conv"
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
