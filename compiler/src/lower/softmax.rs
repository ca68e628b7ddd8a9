//! Lowering of `softmax`.

use super::Lower;
use super::context::Lowering;
use crate::kernels;
use crate::plan::AxisOrder;
use fornax_ir::OpError;
use fornax_ir::ops::Softmax;
use fornax_ir::ops::around_axis;
use fornax_ir::types::{DType, TensorType};

impl Lower for Softmax {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let Some((order, spec)) = rows(self, &cx.ty) else { return super::fallback::softmax(cx, self) };
        let x = cx.operand_as(0, order)?;
        let y = cx.output(order);
        cx.step(spec, &[x.into(), y.into()]);
        Ok(())
    }
}

/// The order in which the axis is innermost, and the kernel over its rows; for `f32` elements.
fn rows(op: &Softmax, ty: &TensorType) -> Option<(AxisOrder, kernels::Softmax)> {
    let length = ty.shape[op.axis];
    let (outer, inner) = around_axis(&ty.shape, op.axis);
    let (order, rows) = match (op.axis, inner) {
        (_, 1) => (AxisOrder::RowMajor, outer),
        (1, _) => (AxisOrder::ChannelsLast, outer * inner),
        _ => return None,
    };
    (ty.dtype == DType::F32).then_some((order, kernels::Softmax { element: ty.dtype, rows, length, log: op.log }))
}
