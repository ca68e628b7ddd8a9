//! Lowering of `conv`.

use super::Lower;
use super::context::Lowering;
use super::convolve::{ConvCall, ConvKernel, FusedOperands};
use crate::plan::AxisOrder;
use fornax_ir::OpError;
use fornax_ir::ops::Conv;

impl Lower for Conv {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let (x, y) = (cx.operand_type(0).clone(), cx.ty.clone());
        let call = ConvCall { op: self, x: &x, weights: 1, bias: self.bias.then_some(2), y: &y };
        let order = call.input_order(cx.order(0));
        let Some(kernel) = call.native(cx, order)? else {
            return super::fallback::conv(cx, self);
        };
        let from = match kernel {
            ConvKernel::Padded(..) => cx.operand(0)?,
            _ => cx.operand_as(0, order)?,
        };
        let last = cx.count() - 1;
        let residual = if self.residual { Some(cx.operand_as(last, AxisOrder::ChannelsLast)?) } else { None };
        let to = cx.output(AxisOrder::ChannelsLast);
        call.lower(cx, kernel, [from, to], FusedOperands { residual, ..FusedOperands::default() })?;
        Ok(())
    }
}
