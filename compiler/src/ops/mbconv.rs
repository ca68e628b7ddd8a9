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
use super::convolve::{Call, Extra, Native};
use super::literal::Literal;
use super::lower_dense::{FEW_ROWS, Squeeze, squeeze_gate};
use super::shapes::{check, expect_len};
use super::{Conv, Op, SqueezeExcite, lower_ring};
use crate::error::OpError;
use crate::kernels::Gate;
use crate::plan::lowering::Lowering;
use crate::plan::{Layout, SlotId};
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

    /// The block's value, where `apply` gives that of each operator the block stands for from its name in errors and its
    /// operands; `ty` is the type of a value. Checks the number of operands and what an operator alone cannot.
    pub(super) fn chain<T: Clone>(
        &self,
        inputs: &[&T],
        ty: impl Fn(&T) -> &TensorType,
        mut apply: impl FnMut(&str, &Op, &[&T]) -> Result<T, OpError>,
    ) -> Result<T, OpError> {
        let stages = self.stages()?;
        let expected = 1 + stages.iter().map(Stage::weights).sum::<usize>();
        check(inputs.len() == expected, "operands", || expected.to_string(), || inputs.len().to_string())?;
        let (x, mut rest) = (inputs[0], &inputs[1..]);
        let mut value = x.clone();
        for stage in stages {
            let (weights, after) = rest.split_at(stage.weights());
            rest = after;
            let (name, op) = stage.op(ty(&value), ty(weights[0]))?;
            let residual = matches!(&op, Op::Conv(conv) if conv.residual).then_some(x);
            let operands: Vec<_> = [&value].into_iter().chain(weights.iter().copied()).chain(residual).collect();
            value = apply(name, &op, &operands)?;
        }
        Ok(value)
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

    /// The operator for a `value` and the first weight `w`, and its name in errors.
    fn op(self, value: &TensorType, w: &TensorType) -> Result<(&'static str, Op), OpError> {
        check(value.shape.rank() == 4, "x", || "rank 4".into(), || value.to_string())?;
        Ok(match self {
            Self::Conv(name, conv) => (name, conv.into()),
            Self::Depthwise(conv) => {
                let group = value.shape[1];
                let filters = w.shape.first() == Some(&group);
                check(filters, "depthwise w", || format!("{group} filters"), || w.to_string())?;
                ("depthwise", Conv { group, ..conv }.into())
            }
            Self::SqueezeExcite(op) => ("squeeze_excite", op.into()),
        })
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
        let located = |name: &str, e: OpError| OpError::new(format!("{name} {}", e.field), e.expected, e.found);
        self.chain(inputs, |ty| ty, |name, op, operands| op.infer(operands).map_err(|e| located(name, e)))
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        self.chain(inputs, |value| &value.ty, |_, op, operands| op.evaluate(operands))
    }

    fn macs(&self, inputs: &[&TensorType], _output: &TensorType) -> u64 {
        let mut macs = 0u64;
        let result = self.chain(
            inputs,
            |ty| ty,
            |_, op, operands| {
                let result = op.infer(operands)?;
                macs = macs.saturating_add(op.macs(operands, &result));
                Ok(result)
            },
        );
        if result.is_ok() { macs } else { 0 }
    }

    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let x = cx.operand_as(0, Layout::ChannelsLast)?;
        let mut inputs = vec![Stored { ty: cx.operand_type(0).clone(), place: Place::Image { slot: x, sums: None } }];
        inputs.extend((1..cx.count()).map(|i| Stored { ty: cx.operand_type(i).clone(), place: Place::Operand(i) }));
        let inputs: Vec<_> = inputs.iter().collect();
        let squeezes = self.se.is_some();
        self.chain(
            &inputs,
            |value| &value.ty,
            |name, op, operands| match op {
                Op::Conv(conv) if name == "expand" => postpone(conv, operands),
                Op::Conv(conv) => match &operands[0].place {
                    Place::Expansion(expansion) => lower_expanded(cx, squeezes, expansion, conv, operands),
                    _ => lower_conv(cx, (name, squeezes), conv, operands),
                },
                Op::SqueezeExcite(op) => lower_gate(cx, op, operands),
                other => Err(OpError::new("stage", "a convolution or a gate", other.name())),
            },
        )?;
        Ok(())
    }
}

/// A value of a block while it is lowered.
#[derive(Clone, Debug)]
struct Stored {
    ty: TensorType,
    place: Place,
}

#[derive(Clone, Debug)]
enum Place {
    /// A parameter: the operand of the block that holds it.
    Operand(usize),
    /// A channel-last image, and the sums of its rows if its producer made them.
    Image { slot: SlotId, sums: Option<SlotId> },
    /// A channel-last image whose channels its consumer multiplies by a gate.
    Gated { slot: SlotId, gate: SlotId },
    /// The expansion, which is computed together with its consumer or right before it.
    Expansion(Box<Expansion>),
}

/// An expansion that has no step yet: the convolution and its operands.
#[derive(Clone, Debug)]
struct Expansion {
    op: Conv,
    operands: Vec<Stored>,
}

impl Stored {
    fn operand(&self) -> Result<usize, OpError> {
        match self.place {
            Place::Operand(i) => Ok(i),
            _ => Err(OpError::new("weights", "an operand of the block", self.ty.to_string())),
        }
    }

    fn slot(&self) -> Result<SlotId, OpError> {
        match self.place {
            Place::Image { slot, .. } | Place::Gated { slot, .. } => Ok(slot),
            Place::Operand(_) | Place::Expansion(_) => Err(OpError::new("x", "a computed value", self.ty.to_string())),
        }
    }
}

/// A convolution of a block with its weights and bias.
fn call<'a>(op: &'a Conv, operands: &[&'a Stored], y: &'a TensorType) -> Result<Call<'a>, OpError> {
    let (weights, bias) = (operands[1].operand()?, Some(operands[2].operand()?));
    Ok(Call { op, x: &operands[0].ty, weights, bias, y })
}

/// The expansion of a block, left to its consumer.
fn postpone(op: &Conv, operands: &[&Stored]) -> Result<Stored, OpError> {
    let types: Vec<_> = operands.iter().map(|operand| &operand.ty).collect();
    let ty = op.infer(&types)?;
    let operands = operands.iter().map(|operand| (*operand).clone()).collect();
    Ok(Stored { ty, place: Place::Expansion(Box::new(Expansion { op: op.clone(), operands })) })
}

/// The expansion of a block and the depthwise convolution behind it, in one step or in two.
fn lower_expanded(
    cx: &mut Lowering<'_>,
    squeezes: bool,
    expansion: &Expansion,
    op: &Conv,
    operands: &[&Stored],
) -> Result<Stored, OpError> {
    let types: Vec<_> = operands.iter().map(|operand| &operand.ty).collect();
    let y = op.infer(&types)?;
    let inputs: Vec<&Stored> = expansion.operands.iter().collect();
    let first = call(&expansion.op, &inputs, types[0])?;
    let second = call(op, operands, &y)?;
    if let Some(mut spec) = lower_ring::choose(cx, &first, &second)? {
        spec.depthwise.squeeze = squeezes;
        let slot = cx.temp("depthwise", y.clone(), Layout::ChannelsLast);
        let sums = lower_ring::ring(cx, spec, [&first, &second], [inputs[0].slot()?, slot])?;
        return Ok(Stored { ty: y, place: Place::Image { slot, sums } });
    }
    let expanded = lower_conv(cx, ("expand", squeezes), &expansion.op, &inputs)?;
    lower_conv(cx, ("depthwise", squeezes), op, &[&expanded, operands[1], operands[2]])
}

/// A convolution of a block. If the block squeezes, the depthwise one leaves the sums of its rows.
fn lower_conv(
    cx: &mut Lowering<'_>,
    (name, squeezes): (&str, bool),
    op: &Conv,
    operands: &[&Stored],
) -> Result<Stored, OpError> {
    let types: Vec<_> = operands.iter().map(|operand| &operand.ty).collect();
    let (x, y) = (types[0], op.infer(&types)?);
    let call = call(op, operands, &y)?;
    let mut kernel = call.native(cx, Layout::ChannelsLast)?;
    if let Some(Native::Depthwise(spec)) = &mut kernel {
        spec.squeeze = squeezes;
    }
    let missing = || OpError::new(name, "constant f32 weights", types[1].to_string());
    let mut kernel = kernel.ok_or_else(missing)?;
    let (mut from, mut gate) = (operands[0].slot()?, None);
    if let Place::Gated { slot, gate: values } = operands[0].place {
        let (batch, pixels) = (x.shape[0], x.shape[2] * x.shape[3]);
        // The gate goes where there is less of it to do, whatever the batch: where it goes decides how it rounds.
        let fewer = pixels > y.shape[1].max(FEW_ROWS);
        if let (Native::Dense(spec), true) = (&mut kernel, fewer) {
            *spec = spec.clone().per_image(batch);
            gate = Some(values);
        } else {
            from = cx.temp("gated", x.clone(), Layout::ChannelsLast);
            cx.step(Gate { batch, pixels, channels: x.shape[1] }, &[slot.into(), values.into(), from.into()]);
        }
    }
    let residual = operands.get(3).map(|value| value.slot()).transpose()?;
    // The projection is the block's last stage.
    let last = name == "project";
    let to = if last { cx.output(Layout::ChannelsLast) } else { cx.temp(name, y.clone(), Layout::ChannelsLast) };
    let sums = call.lower(cx, kernel, [from, to], Extra { residual, gate })?;
    Ok(Stored { ty: y, place: Place::Image { slot: to, sums } })
}

/// The gate of a squeeze-and-excite. It stays with the value until the projection.
fn lower_gate(cx: &mut Lowering<'_>, op: &SqueezeExcite, operands: &[&Stored]) -> Result<Stored, OpError> {
    let ty = operands[0].ty.clone();
    let slot = operands[0].slot()?;
    let source = match operands[0].place {
        Place::Image { sums: Some(sums), .. } => Squeeze::RowSums(sums, ty.shape[2] * ty.shape[3]),
        _ => Squeeze::Map(slot),
    };
    let mut at = [0; 4];
    for (at, operand) in at.iter_mut().zip(&operands[1..]) {
        *at = operand.operand()?;
    }
    let gate = squeeze_gate(cx, source, at, [op.act, op.gate])?;
    Ok(Stored { ty, place: Place::Gated { slot, gate } })
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
            expand_act: Some(UnaryFn::Silu),
            act: Some(UnaryFn::Silu),
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
        let pointwise = Conv { bias: true, then: Some(UnaryFn::Silu), ..Conv::default() };
        let expanded = pointwise.evaluate(&o[..3]).unwrap();
        let depthwise = Conv { group: 6, pads: vec![1; 4], ..pointwise.clone() };
        let spatial = depthwise.evaluate(&[&expanded, o[3], o[4]]).unwrap();
        let gated = SqueezeExcite::default().evaluate(&[&spatial, o[5], o[6], o[7], o[8]]).unwrap();
        let project = Conv { residual: true, then: None, ..pointwise };
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
        let op = MbConv { fused: true, act: Some(UnaryFn::Relu), strides: vec![2, 2], ..MbConv::default() };
        let dense = Conv { bias: true, strides: vec![2, 2], then: Some(UnaryFn::Relu), ..Conv::default() };
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
