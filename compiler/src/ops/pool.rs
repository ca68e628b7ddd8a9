//! Windowed maximum and average. `x [N, C, spatial…]`; extents as in convolution, rounded up where `ceil_mode`
//! (a window must start inside the input or its begin padding).

use super::Operation;
use super::attributes::{Attr, AttrReader};
use super::attributes::{attributes, word_attr};
use super::literal::Literal;
use super::shapes::{checked, expect_float, expect_number, expect_operands, expect_rank};
use super::window::{Window, WindowAttrs};
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::types::{Shape, TensorType};

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

    /// The window of each spatial axis, for an operand of type `x`.
    pub fn windows(&self, x: &TensorType) -> Result<Vec<Window>, OpError> {
        expect_rank("x", 3, x)?;
        WindowAttrs {
            kernel: &self.kernel,
            strides: &self.strides,
            pads: &self.pads,
            dilations: &self.dilations,
            ceil_mode: self.ceil_mode,
        }
        .windows(&x.shape[2..])
    }
}

impl Operation for Pool {
    fn name(&self) -> &'static str {
        "pool"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        expect_operands(inputs, 1)?;
        let x = inputs[0];
        match self.kind {
            PoolKind::Max => expect_number("x", x)?,
            PoolKind::Average => expect_float("x", x)?,
        }
        let windows = self.windows(x)?;
        checked(
            x.dtype,
            x.shape[..2].iter().copied().chain(windows.iter().map(|window| window.output)).collect::<Shape>(),
        )
    }

    fn evaluate(&self, _inputs: &[&Literal]) -> Result<Literal, OpError> {
        Err(OpError::new("operator", "an evaluator", "none"))
    }

    fn lower(&self, _cx: &mut Lowering<'_>) -> Result<(), OpError> {
        Err(OpError::new("operator", "a native kernel", "none"))
    }
}
