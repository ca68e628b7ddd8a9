//! Lowering of `transpose`.

use super::Lower;
use super::context::Lowering;
use super::nests::{View, copy};
use crate::kernels::loops::nest::Affine;
use crate::plan::AxisOrder;
use fornax_ir::OpError;
use fornax_ir::ops::Transpose;

impl Lower for Transpose {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let x = View::operand(cx, 0)?;
        let shape = cx.ty.shape.to_vec();
        let read: Vec<i64> = self.perm.iter().map(|axis| x.strides[*axis]).collect();
        // Where the elements already lie as a order of the result has them, nothing moves.
        for order in [AxisOrder::RowMajor, AxisOrder::ChannelsLast] {
            let strides = order.strides(&shape);
            let coincides = |axis: usize| shape[axis] == 1 || read[axis] == strides[axis] as i64;
            if (0..shape.len()).all(coincides) {
                let view = cx.operand(0)?;
                cx.alias(view, order);
                return Ok(());
            }
        }
        let out = cx.output(AxisOrder::RowMajor);
        let out = View::of(cx, out);
        let write = Affine::new(0, out.strides.clone());
        copy(cx, "transpose", &shape, &x, Affine::new(0, read), &out, write);
        Ok(())
    }
}
