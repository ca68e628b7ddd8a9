//! A strided box of the operand: element `i` of an axis of the result is element `starts + i steps` of that axis.
//! Also ONNX's Split, one slice per result.

use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::Operation;
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::types::TensorType;
use super::attributes::attributes;

attributes! {
    /// Attributes of a slice; one entry per axis.
    pub struct Slice {
        /// First element.
        pub starts: Vec<usize> = vec![],
        /// Step, negative to walk backwards; empty: all 1.
        pub steps: Vec<i64> = vec![],
        /// Extents of the result.
        pub sizes: Vec<usize> = vec![],
    }
}

impl Slice {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl Operation for Slice {
    fn name(&self) -> &'static str {
        "slice"
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
