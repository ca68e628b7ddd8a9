//! Lowering of `conv_weight_gradient`: one kernel for dense convolutions, one for depthwise ones; its parts for all others.

use super::Lower;
use super::context::Lowering;
use super::convolve::{FEW_CHANNELS, NEAR, axis};
use super::windows::plane;
use super::{decompose, depthwise};
use crate::codegen::epilogue::Epilogue;
use crate::kernels::conv::{Axis, Input};
use crate::kernels::{ChannelWeightGradient, Spec, WeightGradient};
use crate::plan::{AxisOrder, Operand};
use fornax_ir::OpError;
use fornax_ir::ops::{ConvWeightGradient, Op};
use fornax_ir::types::DType;

impl Lower for ConvWeightGradient {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let channels = self.group > 1;
        let few = cx.operand_type(0).shape[1] <= FEW_CHANNELS && !AxisOrder::coincide(&cx.operand_type(0).shape);
        let image = cx.order(0) == AxisOrder::RowMajor && few && !channels;
        let input = if image { Input::RowMajor } else { Input::ChannelsLast };
        let spec: Option<Spec> = match channels {
            true => by_channel(self, cx)?.map(Spec::from),
            false => dense(self, cx, input)?.map(Spec::from),
        };
        let Some(spec) = spec else { return decompose::lower(&Op::from(self.clone()), cx) };
        let x = cx.operand_as(0, if image { AxisOrder::RowMajor } else { AxisOrder::ChannelsLast })?;
        let dy = cx.operand_as(1, AxisOrder::ChannelsLast)?;
        let mut operands: Vec<Operand> = vec![x.into(), dy.into()];
        if self.gate {
            // One element for each channel of each image, whatever the order.
            operands.push(cx.operand(2)?.into());
        }
        if channels {
            let x = &cx.operand_type(0).shape;
            let row = x[1] * x[3];
            operands.push(cx.zeros(row * cx.ty.dtype.size()));
        }
        // Channels innermost, which is row-major for a single tap and for a single channel.
        let order = AxisOrder::ChannelsLast;
        if self.accumulate {
            operands.push(cx.operand_as(2 + usize::from(self.gate), order)?.into());
        }
        operands.push(cx.output(order).into());
        cx.step(spec, &operands);
        Ok(())
    }
}

/// The kernel for one group and at most two axes, if there is one.
fn dense(op: &ConvWeightGradient, cx: &Lowering<'_>, input: Input) -> Result<Option<WeightGradient>, OpError> {
    let (x, dy) = (cx.operand_type(0), cx.operand_type(1));
    let (weights, windows) = op.windows(x, dy)?;
    let [rows, columns] = match windows[..] {
        [columns] => [Axis::plain(1), axis(columns)],
        [rows, columns] => [axis(rows), axis(columns)],
        _ => return Ok(None),
    };
    let near = [x, dy, &weights].iter().all(|ty| ty.bytes() <= NEAR);
    let (element, batch, channels, filters) = (x.dtype, x.shape[0], x.shape[1], dy.shape[1]);
    let (gate, sum) = (op.gate, op.accumulate);
    let spec = WeightGradient { element, batch, channels, filters, rows, columns, input, gate, sum };
    Ok((element == DType::F32 && near).then(|| spec.flattened()))
}

/// The kernel for as many groups as channels and filters, if there is one.
fn by_channel(op: &ConvWeightGradient, cx: &Lowering<'_>) -> Result<Option<ChannelWeightGradient>, OpError> {
    let (x, dy) = (cx.operand_type(0), cx.operand_type(1));
    let (_, windows) = op.windows(x, dy)?;
    let single = !op.gate && op.group == x.shape[1] && op.group == dy.shape[1];
    let Some(plane) = plane(&windows).filter(|_| single && x.dtype == DType::F32) else { return Ok(None) };
    let spec = depthwise::spec(x, plane, Epilogue::default());
    let spec = spec.map(|spec| ChannelWeightGradient { sliding: spec.sliding(), sum: op.accumulate });
    Ok(spec.filter(ChannelWeightGradient::applies))
}
