//! The inverted residual block of MobileNetV2 and EfficientNet as one operator, and EfficientNetV2's Fused-MBConv.
//!
//! ```text
//! x ─▶ [expand 1x1, bias, expand] ─▶ depthwise kxk, bias, act ─▶ [squeeze-excite] ─▶ project 1x1, bias, project ─▶ [+ x] ─▶ y
//! x ─▶ kxk dense, bias, act ──────────────────────────────────▶ [squeeze-excite] ─▶ project 1x1, bias, project ─▶ [+ x] ─▶ y     (fused)
//! ```
//!
//! Operands in order: `x`; `w [E, C, 1, 1]`, `b [E]` if `expand` is set; `w [E, 1, k, k]` (fused: `[E, C, k, k]`), `b [E]`;
//! `w1, b1, w2, b2` as in squeeze-and-excite if `se` is set; `w [M, E, 1, 1]`, `b [M]`. Every bias is present. Made only by `fuse_mbconv`.

use super::attributes::attributes;
use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::shapes::{check, expect_len};
use super::{Conv, Decomposition, OneResult, Op, SqueezeExcite, only};
use crate::error::OpError;
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
        pub expand_activation: Option<UnaryFn> = None,
        /// Activation of the spatial convolution.
        pub activation: Option<UnaryFn> = None,
        /// Stride of the spatial convolution, height and width.
        pub strides: Vec<usize> = vec![1, 1],
        /// Padding of the spatial convolution: top, left, bottom, right.
        pub pads: Vec<usize> = vec![0, 0, 0, 0],
        /// Dilation of the spatial convolution.
        pub dilations: Vec<usize> = vec![1, 1],
        /// Activation and gate of the squeeze-and-excite.
        pub se: Option<Vec<UnaryFn>> = None,
        /// Activation of the projection (none in the published blocks).
        pub project_activation: Option<UnaryFn> = None,
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
        let pointwise = |activation| Conv { bias: true, activation, ..Conv::default() };
        let mut stages = Vec::new();
        if self.expand {
            stages.push(Stage::Conv(Part::Expand, pointwise(self.expand_activation)));
        }
        let spatial = Conv {
            strides: self.strides.clone(),
            pads: self.pads.clone(),
            dilations: self.dilations.clone(),
            ..pointwise(self.activation)
        };
        stages.push(if self.fused { Stage::Conv(Part::Dense, spatial) } else { Stage::Depthwise(spatial) });
        if let Some(functions) = &self.se {
            expect_len("se", 2, functions.len())?;
            stages.push(Stage::SqueezeExcite(SqueezeExcite { activation: functions[0], gate: functions[1] }));
        }
        let project = Conv { residual: self.residual, activation_first: true, ..pointwise(self.project_activation) };
        stages.push(Stage::Conv(Part::Project, project));
        Ok(stages)
    }

    /// The block's value, where `apply` gives that of each operator the block stands for from its part in the block and its
    /// operands; `ty` is the type of a value. Checks the number of operands and what an operator alone cannot.
    ///
    /// # Errors
    /// What `apply` says; a wrong number of operands, or operands that do not make a block.
    pub fn chain<T: Clone>(
        &self,
        inputs: &[&T],
        ty: impl Fn(&T) -> &TensorType,
        mut apply: impl FnMut(Part, &Op, &[&T]) -> Result<T, OpError>,
    ) -> Result<T, OpError> {
        let stages = self.stages()?;
        let expected = 1 + stages.iter().map(Stage::weights).sum::<usize>();
        check(inputs.len() == expected, "operands", || expected.to_string(), || inputs.len().to_string())?;
        let (x, mut rest) = (inputs[0], &inputs[1..]);
        let mut value = x.clone();
        for stage in stages {
            let (weights, after) = rest.split_at(stage.weights());
            rest = after;
            let (part, op) = stage.op(ty(&value), ty(weights[0]))?;
            let residual = matches!(&op, Op::Conv(conv) if conv.residual).then_some(x);
            let operands: Vec<_> = [&value].into_iter().chain(weights.iter().copied()).chain(residual).collect();
            value = apply(part, &op, &operands)?;
        }
        Ok(value)
    }
}

/// What an operator is to the block that stands for it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Part {
    /// The 1x1 convolution that widens the block.
    Expand,
    /// The spatial convolution of one filter per channel.
    Depthwise,
    /// The dense spatial convolution of a Fused-MBConv.
    Dense,
    /// The channel gate.
    SqueezeExcite,
    /// The 1x1 convolution that narrows the block; its last operator.
    Project,
}

impl Part {
    /// Its name in messages and in names of values.
    pub fn name(self) -> &'static str {
        match self {
            Self::Expand => "expand",
            Self::Depthwise => "depthwise",
            Self::Dense => "dense",
            Self::SqueezeExcite => "squeeze_excite",
            Self::Project => "project",
        }
    }
}

impl std::fmt::Display for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// One of the operators that a block stands for.
enum Stage {
    /// A convolution and what it is to the block.
    Conv(Part, Conv),
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

    /// The operator for a `value` and the first weight `w`, and its part in the block.
    fn op(self, value: &TensorType, w: &TensorType) -> Result<(Part, Op), OpError> {
        check(value.shape.rank() == 4, "x", || "rank 4".into(), || value.to_string())?;
        Ok(match self {
            Self::Conv(part, conv) => (part, conv.into()),
            Self::Depthwise(conv) => {
                let group = value.shape[1];
                let filters = w.shape.first() == Some(&group);
                check(filters, "depthwise w", || format!("{group} filters"), || w.to_string())?;
                (Part::Depthwise, Conv { group, ..conv }.into())
            }
            Self::SqueezeExcite(op) => (Part::SqueezeExcite, op.into()),
        })
    }
}

impl OneResult for MbConv {
    fn name(&self) -> &'static str {
        "mbconv"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        let located = |part: Part, e: OpError| OpError::new(format!("{part} {}", e.field), e.expected, e.found);
        self.chain(inputs, |ty| ty, |part, op, operands| only(op.infer(operands).map_err(|e| located(part, e))?))
    }

    fn magnitude(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        self.chain(inputs, |value| &value.ty, |_, op, operands| op.magnitude(operands))
    }

    fn terms(&self, inputs: &[&TensorType]) -> Result<usize, OpError> {
        let mut total = 0;
        self.chain(
            inputs,
            |ty| ty,
            |_, op, operands| {
                total += op.terms(operands)?;
                only(op.infer(operands)?)
            },
        )?;
        Ok(total)
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        self.chain(inputs, |value| &value.ty, |_, op, operands| only(op.evaluate(operands)?))
    }

    fn macs(&self, inputs: &[&TensorType], _output: &TensorType) -> u64 {
        let mut macs = 0u64;
        let result = self.chain(
            inputs,
            |ty| ty,
            |_, op, operands| {
                let result = only(op.infer(operands)?)?;
                macs = macs.saturating_add(op.macs(operands, &result));
                Ok(result)
            },
        );
        if result.is_ok() { macs } else { 0 }
    }

    fn unfused(&self, inputs: &[&TensorType]) -> Result<Option<Decomposition>, OpError> {
        let mut parts = Decomposition::over(inputs);
        let numbers: Vec<(usize, TensorType)> = inputs.iter().map(|ty| (*ty).clone()).enumerate().collect();
        let (result, _) = self.chain(
            &numbers.iter().collect::<Vec<_>>(),
            |(_, ty)| ty,
            |_, op, operands| {
                let numbers: Vec<usize> = operands.iter().map(|(number, _)| *number).collect();
                let number = parts.step(op.clone(), &numbers)?;
                Ok((number, parts.ty(number).clone()))
            },
        )?;
        Ok(Some(parts.with_results([result])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::random_values;

    fn random(seed: u64, shape: &[usize]) -> Literal {
        Literal::from_f32(shape, &random_values(seed, shape.iter().product()))
    }

    /// Operands of a block of 2 channels that expands to 6, squeezes to 1 and projects to 2.
    fn operands() -> Vec<Literal> {
        let shapes: [&[usize]; 11] = [
            &[1, 2, 5, 5],
            &[6, 2, 1, 1],
            &[6],
            &[6, 1, 3, 3],
            &[6],
            &[1, 6, 1, 1],
            &[1],
            &[6, 1, 1, 1],
            &[6],
            &[2, 6, 1, 1],
            &[2],
        ];
        (1..).zip(shapes).map(|(seed, shape)| random(seed, shape)).collect()
    }

    fn block() -> MbConv {
        MbConv {
            expand: true,
            expand_activation: Some(UnaryFn::Silu),
            activation: Some(UnaryFn::Silu),
            pads: vec![1; 4],
            se: Some(vec![UnaryFn::Silu, UnaryFn::Sigmoid]),
            residual: true,
            ..MbConv::default()
        }
    }

    #[test]
    fn a_block_is_its_operators_one_after_the_other() {
        let operands = operands();
        let o: Vec<_> = operands.iter().collect();
        let pointwise = Conv { bias: true, activation: Some(UnaryFn::Silu), ..Conv::default() };
        let expanded = pointwise.evaluate(&o[..3]).unwrap();
        let depthwise = Conv { group: 6, pads: vec![1; 4], ..pointwise.clone() };
        let spatial = depthwise.evaluate(&[&expanded, o[3], o[4]]).unwrap();
        let gated = SqueezeExcite::default().evaluate(&[&spatial, o[5], o[6], o[7], o[8]]).unwrap();
        let project = Conv { residual: true, activation: None, ..pointwise };
        let expected = project.evaluate(&[&gated, o[9], o[10], o[0]]).unwrap();
        assert_eq!(block().evaluate(&o).unwrap(), expected);
        let types: Vec<_> = o.iter().map(|operand| &operand.ty).collect();
        assert_eq!(block().macs(&types, &expected.ty), 25 * (12 + 54 + 12) + 12);
    }

    #[test]
    fn a_fused_block_has_a_dense_convolution() {
        let o = [
            random(1, &[1, 2, 5, 4]),
            random(2, &[3, 2, 3, 3]),
            random(3, &[3]),
            random(4, &[4, 3, 1, 1]),
            random(5, &[4]),
        ];
        let o: Vec<_> = o.iter().collect();
        let op = MbConv { fused: true, activation: Some(UnaryFn::Relu), strides: vec![2, 2], ..MbConv::default() };
        let dense = Conv { bias: true, strides: vec![2, 2], activation: Some(UnaryFn::Relu), ..Conv::default() };
        let spatial = dense.evaluate(&o[..3]).unwrap();
        let project = Conv { bias: true, ..Conv::default() };
        assert_eq!(op.evaluate(&o).unwrap(), project.evaluate(&[&spatial, o[3], o[4]]).unwrap());
    }

    #[test]
    fn errors_name_the_stage() {
        let operands = operands();
        let types: Vec<_> = operands.iter().map(|operand| &operand.ty).collect();
        let field = |op: &MbConv, types: &[&TensorType]| op.infer(types).unwrap_err().field;
        assert_eq!(field(&block(), &types[..10]), "operands");
        assert_eq!(field(&MbConv { fused: true, ..block() }, &types), "expand");
        assert_eq!(field(&MbConv { se: Some(vec![UnaryFn::Silu]), ..block() }, &types), "se");
        assert_eq!(field(&MbConv { strides: vec![2, 2], ..block() }, &types), "project residual");
        let other = |at: usize, ty: TensorType| {
            let mut types: Vec<_> = types.iter().map(|ty| (*ty).clone()).collect();
            types[at] = ty;
            field(&block(), &types.iter().collect::<Vec<_>>())
        };
        assert_eq!(other(0, TensorType::f32([2, 5, 5])), "x");
        assert_eq!(other(1, TensorType::f32([6, 3, 1, 1])), "expand w");
        assert_eq!(other(3, TensorType::f32([12, 1, 3, 3])), "depthwise w");
        assert_eq!(other(5, TensorType::f32([])), "squeeze_excite w1");
        assert_eq!(other(9, TensorType::f32([3, 6, 1, 1])), "project bias");
    }
}
