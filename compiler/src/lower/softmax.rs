//! Lowering of `softmax`.

use super::Lower;
use super::context::Lowering;
use crate::kernels;
use crate::plan::Layout;
use fornax_ir::OpError;
use fornax_ir::ops::Softmax;
use fornax_ir::ops::around_axis;
use fornax_ir::types::{DType, TensorType};

impl Lower for Softmax {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let Some((layout, spec)) = rows(self, &cx.ty) else { return super::fallback::softmax(cx, self) };
        let x = cx.operand_as(0, layout)?;
        let y = cx.output(layout);
        cx.step(spec, &[x.into(), y.into()]);
        Ok(())
    }
}

/// The layout in which the axis is innermost, and the kernel over its rows; for `f32` elements.
fn rows(op: &Softmax, ty: &TensorType) -> Option<(Layout, kernels::Softmax)> {
    let length = ty.shape[op.axis];
    let (outer, inner) = around_axis(&ty.shape, op.axis);
    let (layout, rows) = match (op.axis, inner) {
        (_, 1) => (Layout::RowMajor, outer),
        (1, _) => (Layout::ChannelsLast, outer * inner),
        _ => return None,
    };
    (ty.dtype == DType::F32).then_some((layout, kernels::Softmax { element: ty.dtype, rows, length, log: op.log }))
}
