//! Lowering of `conv_with_slope`: the kernels of convolutions whose epilogue can store slopes; its parts where another one applies.

use super::Lower;
use super::context::Lowering;
use super::convolve::{ConvCall, ConvKernel, FusedOperands};
use super::decompose;
use crate::codegen::epilogue::EpilogueOp;
use crate::plan::AxisOrder;
use fornax_ir::OpError;
use fornax_ir::ops::{ConvWithSlope, Op};

impl Lower for ConvWithSlope {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let (x, y, sums) = (cx.operand_type(0).clone(), cx.ty.clone(), self.sums());
        let call = ConvCall { op: &sums, x: &x, weights: 1, bias: sums.bias.then_some(2), y: &y };
        let order = call.input_order(cx.order(0));
        let step = EpilogueOp::ApplyWithSlope(self.function()?.function);
        let kernel = match call.native(cx, order)? {
            Some(ConvKernel::Dense(mut spec)) => {
                spec.epilogue = spec.epilogue.then(step);
                ConvKernel::Dense(spec)
            }
            Some(ConvKernel::Depthwise(mut spec)) => {
                spec.epilogue = spec.epilogue.then(step);
                ConvKernel::Depthwise(spec)
            }
            _ => return decompose::lower(&Op::from(self.clone()), cx),
        };
        let from = cx.operand_as(0, order)?;
        let last = cx.count() - 1;
        let residual = if sums.residual { Some(cx.operand_as(last, AxisOrder::ChannelsLast)?) } else { None };
        let [to, slope] = [0, 1].map(|result| cx.output_of(result, AxisOrder::ChannelsLast));
        call.lower(cx, kernel, [from, to], FusedOperands { residual, slope: Some(slope), gate: None })?;
        Ok(())
    }
}
