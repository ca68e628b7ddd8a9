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
        let [of_x, of_y] = kernel.elements();
        let order = if matches!(kernel, ConvKernel::Padded(..)) { cx.order(0) } else { order };
        let from = cx.operand_stored(0, order, of_x)?;
        let last = cx.count() - 1;
        let residual = match self.residual {
            true => Some(cx.operand_stored(last, AxisOrder::ChannelsLast, of_y)?),
            false => None,
        };
        let to = cx.output_stored(AxisOrder::ChannelsLast, of_y);
        call.lower(cx, kernel, [from, to], FusedOperands { residual, ..FusedOperands::default() })?;
        Ok(())
    }
}
