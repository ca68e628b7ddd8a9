//! Reductions over axes.

use super::Operation;
use super::attributes::{Attr, AttrReader};
use super::attributes::{attributes, word_attr};
use super::literal::Literal;
use super::shapes::{check, checked, expect_axis, expect_number, expect_operands};
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::types::{Shape, TensorType};

/// What a reduction computes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReduceKind {
    /// Sum.
    Sum,
    /// Sum over the count.
    Mean,
    /// Largest.
    Max,
    /// Smallest.
    Min,
    /// Product.
    Prod,
    /// Sum of absolute values.
    L1,
    /// Square root of the sum of squares.
    L2,
    /// Sum of squares.
    SumSquare,
    /// Logarithm of the sum.
    LogSum,
    /// Logarithm of the sum of exponentials, shifted by the largest.
    LogSumExp,
}
word_attr!(ReduceKind {
    Sum = "sum", Mean = "mean", Max = "max", Min = "min", Prod = "prod", L1 = "l1", L2 = "l2",
    SumSquare = "sum_square", LogSum = "log_sum", LogSumExp = "log_sum_exp",
});

attributes! {
    /// Attributes of a reduction.
    pub struct Reduce {
        /// What it computes.
        pub kind: ReduceKind = ReduceKind::Sum,
        /// Axes to reduce, ascending; empty: none (the importer expands ONNX's "all").
        pub axes: Vec<usize> = vec![],
        /// Whether reduced axes stay with extent 1.
        pub keepdims: bool = true,
    }
}

impl Reduce {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl Operation for Reduce {
    fn name(&self) -> &'static str {
        "reduce"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        expect_operands(inputs, 1)?;
        let x = inputs[0];
        if !matches!(self.kind, ReduceKind::Max | ReduceKind::Min) {
            expect_number("x", x)?;
        }
        self.axes.iter().try_for_each(|axis| expect_axis(*axis, x.shape.rank()))?;
        let ascending = self.axes.windows(2).all(|pair| pair[0] < pair[1]);
        check(ascending, "axes", || "ascending axes".into(), || format!("{:?}", self.axes))?;
        let extent = |axis: usize| match self.axes.contains(&axis) {
            true => self.keepdims.then_some(1),
            false => Some(x.shape[axis]),
        };
        checked(x.dtype, (0..x.shape.rank()).filter_map(extent).collect::<Shape>())
    }

    fn evaluate(&self, _inputs: &[&Literal]) -> Result<Literal, OpError> {
        Err(OpError::new("operator", "an evaluator", "none"))
    }

    fn lower(&self, _cx: &mut Lowering<'_>) -> Result<(), OpError> {
        Err(OpError::new("operator", "a native kernel", "none"))
    }
}
