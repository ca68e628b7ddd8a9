//! The inverted residual block of MobileNetV2 and EfficientNet as one operator, and EfficientNetV2's Fused-MBConv.
//!
//! ```text
//! x ─▶ [expand 1x1, bias, expand] ─▶ depthwise kxk, bias, act ─▶ [squeeze-excite] ─▶ project 1x1, bias, project ─▶ [+ x] ─▶ y
//! x ─▶ kxk dense, bias, act ──────────────────────────────────▶ [squeeze-excite] ─▶ project 1x1, bias, project ─▶ [+ x] ─▶ y     (fused)
//! ```
//!
//! Operands in order: `x`; `w [E, C, 1, 1]`, `b [E]` if `expand` is set; `w [E, 1, k, k]` (fused: `[E, C, k, k]`), `b [E]`;
//! `w1, b1, w2, b2` as in squeeze-and-excite if `se` is set; `w [M, E, 1, 1]`, `b [M]`. Every bias is present. Made only by `fuse_mbconv`.

use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::Operation;
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::types::TensorType;
use super::attributes::attributes;
use crate::scalar::UnaryFn;

attributes! {
    /// Attributes of an inverted residual block.
    pub struct MbConv {
        /// Whether the spatial convolution is dense (Fused-MBConv); then there is no expansion before it.
        pub fused: bool = false,
        /// Whether a 1x1 expansion comes first.
        pub expand: bool = false,
        /// Activation of the expansion.
        pub expand_act: Option<UnaryFn> = None,
        /// Activation of the spatial convolution.
        pub act: Option<UnaryFn> = None,
        /// Stride of the spatial convolution, height and width.
        pub strides: Vec<usize> = vec![1, 1],
        /// Padding of the spatial convolution: top, left, bottom, right.
        pub pads: Vec<usize> = vec![0, 0, 0, 0],
        /// Dilation of the spatial convolution.
        pub dilations: Vec<usize> = vec![1, 1],
        /// Activation and gate of the squeeze-and-excite.
        pub se: Option<Vec<UnaryFn>> = None,
        /// Activation of the projection (none in the published blocks).
        pub project_act: Option<UnaryFn> = None,
        /// Whether the block's input is added to its result.
        pub residual: bool = false,
    }
}

impl MbConv {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl Operation for MbConv {
    fn name(&self) -> &'static str {
        "mbconv"
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
