//! Lowering of `mbconv`.

use super::Lower;
use super::context::Lowering;
use super::convolve::{ConvCall, ConvKernel, FusedOperands};
use super::dense::{FEW_ROWS, Squeeze, squeeze_gate};
use super::nests::View;
use super::{fallback, ring};
use crate::codegen::epilogue::EpilogueOp;
use crate::kernels::Gate;
use crate::plan::{AxisOrder, ViewId};
use fornax_ir::OpError;
use fornax_ir::ops::mbconv::Part;
use fornax_ir::ops::{Conv, MbConv, OneResult, Op, SqueezeExcite};
use fornax_ir::types::{DType, TensorType};

impl Lower for MbConv {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let stored = if cx.narrow { DType::BF16 } else { cx.operand_type(0).dtype };
        let x = cx.operand_stored(0, AxisOrder::ChannelsLast, stored)?;
        let mut inputs =
            vec![Stored { ty: cx.operand_type(0).clone(), place: Materialization::Image { view: x, sums: None } }];
        inputs.extend(
            (1..cx.count()).map(|i| Stored { ty: cx.operand_type(i).clone(), place: Materialization::Operand(i) }),
        );
        let inputs: Vec<_> = inputs.iter().collect();
        let squeezes = self.se.is_some();
        self.chain(
            &inputs,
            |value| &value.ty,
            |part, op, operands| match op {
                Op::Conv(conv) if part == Part::Expand => postpone(conv, operands),
                Op::Conv(conv) => match &operands[0].place {
                    Materialization::Expansion(expansion) => lower_expanded(cx, squeezes, expansion, conv, operands),
                    _ => lower_conv(cx, (part, squeezes), conv, operands),
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
    place: Materialization,
}

#[derive(Clone, Debug)]
enum Materialization {
    /// A parameter: the operand of the block that holds it.
    Operand(usize),
    /// A channel-last image, and the sums of its rows if its producer made them.
    Image { view: ViewId, sums: Option<ViewId> },
    /// A channel-last image whose channels its consumer multiplies by a gate.
    Gated { view: ViewId, gate: ViewId },
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
            Materialization::Operand(i) => Ok(i),
            _ => Err(OpError::new("weights", "an operand of the block", self.ty.to_string())),
        }
    }

    fn view(&self) -> Result<ViewId, OpError> {
        match self.place {
            Materialization::Image { view, .. } | Materialization::Gated { view, .. } => Ok(view),
            Materialization::Operand(_) | Materialization::Expansion(_) => {
                Err(OpError::new("x", "a computed value", self.ty.to_string()))
            }
        }
    }
}

/// A convolution of a block with its weights and bias.
fn call<'a>(op: &'a Conv, operands: &[&'a Stored], y: &'a TensorType) -> Result<ConvCall<'a>, OpError> {
    let (weights, bias) = (operands[1].operand()?, Some(operands[2].operand()?));
    Ok(ConvCall { op, x: &operands[0].ty, weights, bias, y })
}

/// The expansion of a block, left to its consumer.
fn postpone(op: &Conv, operands: &[&Stored]) -> Result<Stored, OpError> {
    let types: Vec<_> = operands.iter().map(|operand| &operand.ty).collect();
    let ty = op.infer(&types)?;
    let operands = operands.iter().map(|operand| (*operand).clone()).collect();
    Ok(Stored { ty, place: Materialization::Expansion(Box::new(Expansion { op: op.clone(), operands })) })
}

/// The expansion of a block and the depthwise convolution after it, in one step or in two.
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
    cx.part(&[Part::Expand.name(), Part::Depthwise.name()]);
    if let Some(mut spec) = ring::choose(cx, &first, &second)? {
        if squeezes {
            spec.depthwise.epilogue = spec.depthwise.epilogue.then(EpilogueOp::Sum);
        }
        let view = cx.temp("depthwise", y.clone(), AxisOrder::ChannelsLast);
        let sums = ring::ring(cx, spec, [&first, &second], [inputs[0].view()?, view])?;
        return Ok(Stored { ty: y, place: Materialization::Image { view, sums } });
    }
    let expanded = lower_conv(cx, (Part::Expand, squeezes), &expansion.op, &inputs)?;
    lower_conv(cx, (Part::Depthwise, squeezes), op, &[&expanded, operands[1], operands[2]])
}

/// A convolution of a block. If the block squeezes, the depthwise one leaves the sums of its rows.
fn lower_conv(
    cx: &mut Lowering<'_>,
    (part, squeezes): (Part, bool),
    op: &Conv,
    operands: &[&Stored],
) -> Result<Stored, OpError> {
    cx.part(&[part.name()]);
    let types: Vec<_> = operands.iter().map(|operand| &operand.ty).collect();
    let (x, y) = (types[0], op.infer(&types)?);
    let call = call(op, operands, &y)?;
    let mut kernel = call.native(cx, AxisOrder::ChannelsLast)?;
    let [of_x, of_y] = kernel.as_ref().map_or([x.dtype; 2], ConvKernel::elements);
    if let (Some(ConvKernel::Depthwise(spec)), true) = (&mut kernel, squeezes) {
        spec.epilogue = std::mem::take(&mut spec.epilogue).then(EpilogueOp::Sum);
    }
    let (mut from, mut gate) = (cx.stored(operands[0].view()?, AxisOrder::ChannelsLast, of_x), None);
    if let Materialization::Gated { gate: values, .. } = operands[0].place {
        let view = from;
        let (batch, pixels) = (x.shape[0], x.shape[2] * x.shape[3]);
        // The gate goes where there is less of it to do, whatever the batch: where it goes decides how it rounds.
        let fewer = pixels > y.shape[1].max(FEW_ROWS);
        if let (Some(ConvKernel::Dense(spec)), true) = (&mut kernel, fewer && of_x == DType::F32) {
            *spec = spec.clone().per_image(batch);
            gate = Some(values);
        } else {
            from = cx.temp("gated", TensorType::new(of_x, x.shape.clone()), AxisOrder::ChannelsLast);
            cx.part(&["squeeze_excite.gate"]);
            let gate = Gate { element: of_x, batch, pixels, channels: x.shape[1] };
            cx.step(gate, &[view.into(), values.into(), from.into()]);
            cx.part(&[part.name()]);
        }
    }
    let residual = operands.get(3).map(|value| value.view()).transpose()?;
    let residual = residual.map(|view| cx.stored(view, AxisOrder::ChannelsLast, of_y));
    // The projection is the block's last operator.
    let to = if part == Part::Project {
        cx.output_stored(AxisOrder::ChannelsLast, of_y)
    } else {
        cx.temp(part.name(), TensorType::new(of_y, y.shape.clone()), AxisOrder::ChannelsLast)
    };
    let sums = match kernel {
        Some(kernel) => call.lower(cx, kernel, [from, to], FusedOperands { residual, gate, slope: None })?,
        // A window of more taps than the kernels have.
        None => {
            let windows = op.windows(x, types[1])?;
            let (from, to) = (View::of(cx, from), View::of(cx, to));
            let residual = residual.map(|view| View::of(cx, view));
            fallback::convolve(cx, op, &windows, [&from, &to], (call.weights, call.bias), residual)?;
            None
        }
    };
    Ok(Stored { ty: y, place: Materialization::Image { view: to, sums } })
}

/// The gate of a squeeze-and-excite. It stays with the value until the projection.
fn lower_gate(cx: &mut Lowering<'_>, op: &SqueezeExcite, operands: &[&Stored]) -> Result<Stored, OpError> {
    let ty = operands[0].ty.clone();
    let view = operands[0].view()?;
    let source = match operands[0].place {
        Materialization::Image { sums: Some(sums), .. } => Squeeze::RowSums(sums, ty.shape[2] * ty.shape[3]),
        _ => Squeeze::Map(view),
    };
    let mut at = [0; 4];
    for (at, operand) in at.iter_mut().zip(&operands[1..]) {
        *at = operand.operand()?;
    }
    let names = ["squeeze_excite.mean", "squeeze_excite.reduce", "squeeze_excite.expand"];
    let gate = squeeze_gate(cx, source, at, ([op.activation, op.gate], names))?;
    Ok(Stored { ty, place: Materialization::Gated { view, gate } })
}
