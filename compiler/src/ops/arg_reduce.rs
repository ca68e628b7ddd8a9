//! Index of the largest or smallest element along an axis, as `i64`.

use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::Operation;
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::types::TensorType;
use super::attributes::attributes;

attributes! {
    /// Attributes of `arg_max` and `arg_min`.
    pub struct ArgReduce {
        /// Smallest instead of largest.
        pub min: bool = false,
        /// Axis to reduce.
        pub axis: usize = 0,
        /// Whether the axis stays with extent 1.
        pub keepdims: bool = true,
        /// Whether the last of equal elements wins.
        pub select_last: bool = false,
    }
}

impl ArgReduce {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl Operation for ArgReduce {
    fn name(&self) -> &'static str {
        "arg_reduce"
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
