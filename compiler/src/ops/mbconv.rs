//! The inverted residual block of MobileNetV2 and EfficientNet as one operator, and EfficientNetV2's Fused-MBConv.
//!
//! ```text
//! x ─▶ [expand 1x1, bias, expand] ─▶ depthwise kxk, bias, act ─▶ [squeeze-excite] ─▶ project 1x1, bias, project ─▶ [+ x] ─▶ y
//! x ─▶ kxk dense, bias, act ──────────────────────────────────▶ [squeeze-excite] ─▶ project 1x1, bias, project ─▶ [+ x] ─▶ y     (fused)
//! ```
//!
//! Operands in order: `x`; `w [E, C, 1, 1]`, `b [E]` if `expand` is set; `w [E, 1, k, k]` (fused: `[E, C, k, k]`), `b [E]`;
//! `w1, b1, w2, b2` as in squeeze-and-excite if `se` is set; `w [M, E, 1, 1]`, `b [M]`. Every bias is present. Made only by `fuse_mbconv`.

use super::Operation;
use super::attributes::attributes;
use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::shapes::{check, expect_len, expect_operands};
use super::{Conv, Op, SqueezeExcite};
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::scalar::UnaryFn;
use crate::types::TensorType;

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

    /// The operators that the block stands for, in order.
    fn stages(&self) -> Result<Vec<Stage>, OpError> {
        let plain = !(self.fused && self.expand);
        check(plain, "expand", || "false where the spatial convolution is dense".into(), || "true".into())?;
        let pointwise = |then| Conv { bias: true, then, ..Conv::default() };
        let mut stages = Vec::new();
        if self.expand {
            stages.push(Stage::Conv("expand", pointwise(self.expand_act)));
        }
        let spatial = Conv {
            strides: self.strides.clone(),
            pads: self.pads.clone(),
            dilations: self.dilations.clone(),
            ..pointwise(self.act)
        };
        stages.push(if self.fused { Stage::Conv("dense", spatial) } else { Stage::Depthwise(spatial) });
        if let Some(functions) = &self.se {
            expect_len("se", 2, functions.len())?;
            stages.push(Stage::SqueezeExcite(SqueezeExcite { act: functions[0], gate: functions[1] }));
        }
        let project = Conv { residual: self.residual, then_first: true, ..pointwise(self.project_act) };
        stages.push(Stage::Conv("project", project));
        Ok(stages)
    }
}

/// One of the operators that a block stands for.
enum Stage {
    /// A convolution and its name in errors.
    Conv(&'static str, Conv),
    /// A convolution of one group per channel.
    Depthwise(Conv),
    /// A squeeze-and-excite.
    SqueezeExcite(SqueezeExcite),
}

impl Stage {
    /// Number of weight operands.
    fn weights(&self) -> usize {
        if matches!(self, Self::SqueezeExcite(_)) { 4 } else { 2 }
    }

    /// The operator, for a value of `channels` channels, and its name in errors.
    fn op(&self, channels: usize) -> (&'static str, Op) {
        match self {
            Self::Conv(name, conv) => (name, conv.clone().into()),
            Self::Depthwise(conv) => ("depthwise", Conv { group: channels, ..conv.clone() }.into()),
            Self::SqueezeExcite(op) => ("squeeze_excite", op.clone().into()),
        }
    }

    /// The operands among the block's input `x`, the `value` of the stage before and the stage's `weights`.
    fn operands<'a, T>(&self, x: &'a T, value: &'a T, weights: &[&'a T]) -> Vec<&'a T> {
        let residual = matches!(self, Self::Conv(_, Conv { residual: true, .. }));
        [value].into_iter().chain(weights.iter().copied()).chain(residual.then_some(x)).collect()
    }

    fn infer(&self, x: &TensorType, value: &TensorType, weights: &[&TensorType]) -> Result<TensorType, OpError> {
        check(value.shape.rank() == 4, "x", || "rank 4".into(), || value.to_string())?;
        let channels = value.shape[1];
        if let Self::Depthwise(_) = self {
            let filters = weights[0].shape.first();
            let expected = || format!("{channels} filters");
            check(filters == Some(&channels), "depthwise w", expected, || weights[0].to_string())?;
        }
        let (name, op) = self.op(channels);
        let located = |e: OpError| OpError::new(format!("{name} {}", e.field), e.expected, e.found);
        op.infer(&self.operands(x, value, weights)).map_err(located)
    }
}

impl Operation for MbConv {
    fn name(&self) -> &'static str {
        "mbconv"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        let stages = self.stages()?;
        let operands = 1 + stages.iter().map(Stage::weights).sum::<usize>();
        expect_operands(inputs, operands)?;
        let (x, mut rest) = (inputs[0], &inputs[1..]);
        let mut value = x.clone();
        for stage in &stages {
            let (weights, after) = rest.split_at(stage.weights());
            rest = after;
            value = stage.infer(x, &value, weights)?;
        }
        Ok(value)
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let types: Vec<_> = inputs.iter().map(|operand| &operand.ty).collect();
        self.infer(&types)?;
        let (x, mut rest) = (inputs[0], &inputs[1..]);
        let mut value = x.clone();
        for stage in self.stages()? {
            let (weights, after) = rest.split_at(stage.weights());
            rest = after;
            let (_, op) = stage.op(value.ty.shape[1]);
            value = op.evaluate(&stage.operands(x, &value, weights))?;
        }
        Ok(value)
    }

    fn macs(&self, inputs: &[&TensorType], _output: &TensorType) -> u64 {
        let (Ok(stages), Some((x, mut rest))) = (self.stages(), inputs.split_first()) else { return 0 };
        let (mut value, mut macs) = ((*x).clone(), 0u64);
        for stage in stages {
            let Some((weights, after)) = rest.split_at_checked(stage.weights()) else { return 0 };
            let Ok(result) = stage.infer(x, &value, weights) else { return 0 };
            let (_, op) = stage.op(value.shape[1]);
            macs = macs.saturating_add(op.macs(&stage.operands(*x, &value, weights), &result));
            (rest, value) = (after, result);
        }
        macs
    }

    fn lower(&self, _cx: &mut Lowering<'_>) -> Result<(), OpError> {
        Err(OpError::new("operator", "a native kernel", "none"))
    }
}
