//! Padding (or, where negative, cropping) of each axis.

use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::Operation;
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::types::TensorType;
use super::attributes::{attributes, word_attr};

/// What padding contains.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PadMode {
    /// A constant.
    Constant,
    /// The nearest element.
    Edge,
    /// Mirror images, the edge not repeated.
    Reflect,
    /// The other end.
    Wrap,
}
word_attr!(PadMode { Constant = "constant", Edge = "edge", Reflect = "reflect", Wrap = "wrap" });

attributes! {
    /// Attributes of a padding.
    pub struct Pad {
        /// What padding contains.
        pub mode: PadMode = PadMode::Constant,
        /// All begins, then all ends, over all axes.
        pub pads: Vec<i64> = vec![],
        /// The constant.
        pub value: f64 = 0.0,
    }
}

impl Pad {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl Operation for Pad {
    fn name(&self) -> &'static str {
        "pad"
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
