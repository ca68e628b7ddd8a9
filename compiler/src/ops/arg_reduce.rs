//! Index of the largest or smallest element along an axis, as `i64`.

use super::Operation;
use super::attributes::attributes;
use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::shapes::{check, checked, expect_axis, expect_number, expect_operands};
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::types::{DType, TensorType};

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

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        expect_operands(inputs, 1)?;
        let (x, axis) = (inputs[0], self.axis);
        expect_number("x", x)?;
        expect_axis(axis, x.shape.rank())?;
        check(x.shape[axis] > 0, "x", || format!("elements along axis {axis}"), || x.to_string())?;
        let mut shape = x.shape.to_vec();
        if self.keepdims {
            shape[axis] = 1;
        } else {
            shape.remove(axis);
        }
        checked(DType::I64, shape)
    }

    fn evaluate(&self, _inputs: &[&Literal]) -> Result<Literal, OpError> {
        Err(OpError::new("operator", "an evaluator", "none"))
    }

    fn lower(&self, _cx: &mut Lowering<'_>) -> Result<(), OpError> {
        Err(OpError::new("operator", "a native kernel", "none"))
    }
}
