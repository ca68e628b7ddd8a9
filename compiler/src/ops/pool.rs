//! Windowed maximum and average. `x [N, C, spatial…]`; extents as in convolution, rounded up where `ceil_mode`
//! (a window must start inside the input or its begin padding).

use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::Operation;
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::types::TensorType;
use super::attributes::{attributes, word_attr};

/// What a window computes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PoolKind {
    /// Largest; padding never wins.
    Max,
    /// Mean over the elements inside, or over the whole window where `count_include_pad`.
    Average,
}
word_attr!(PoolKind { Max = "max", Average = "average" });

attributes! {
    /// Attributes of a pooling window.
    pub struct Pool {
        /// What a window computes.
        pub kind: PoolKind = PoolKind::Max,
        /// Window extents.
        pub kernel: Vec<usize> = vec![1, 1],
        /// Stride of each spatial axis.
        pub strides: Vec<usize> = vec![1, 1],
        /// Padding: all begins, then all ends.
        pub pads: Vec<usize> = vec![0, 0, 0, 0],
        /// Dilation of each spatial axis.
        pub dilations: Vec<usize> = vec![1, 1],
        /// Round extents up.
        pub ceil_mode: bool = false,
        /// Whether padding counts in an average.
        pub count_include_pad: bool = false,
    }
}

impl Pool {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl Operation for Pool {
    fn name(&self) -> &'static str {
        "pool"
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
