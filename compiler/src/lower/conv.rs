//! Lowering of `conv`.

use super::Lower;
use super::context::Lowering;
use super::convolve::{ConvCall, FusedOperands};
use crate::plan::Layout;
use fornax_ir::OpError;
use fornax_ir::ops::Conv;

impl Lower for Conv {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let (x, y) = (cx.operand_type(0).clone(), cx.ty.clone());
        let call = ConvCall { op: self, x: &x, weights: 1, bias: self.bias.then_some(2), y: &y };
        let layout = call.input_layout(cx.layout(0));
        let Some(kernel) = call.native(cx, layout)? else {
            return super::fallback::conv(cx, self);
        };
        let from = cx.operand_as(0, layout)?;
        let last = cx.count() - 1;
        let residual = if self.residual { Some(cx.operand_as(last, Layout::ChannelsLast)?) } else { None };
        let to = cx.output(Layout::ChannelsLast);
        call.lower(cx, kernel, [from, to], FusedOperands { residual, gate: None })?;
        Ok(())
    }
}
