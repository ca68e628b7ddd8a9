//! Lowering of `slice`.

use super::Lower;
use super::context::Lowering;
use super::nests::{View, copy};
use crate::kernels::loops::nest::Affine;
use fornax_ir::OpError;
use fornax_ir::ops::Slice;

impl Lower for Slice {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let x = View::operand(cx, 0)?;
        let order = cx.order(0);
        let out = cx.output(order);
        let out = View::of(cx, out);
        let base = self.starts.iter().zip(&x.strides).map(|(start, stride)| *start as i64 * stride).sum();
        let read: Vec<i64> = (0..x.shape.len()).map(|axis| self.step(axis) * x.strides[axis]).collect();
        let write = Affine::new(0, out.strides.clone());
        copy(cx, "slice", &self.sizes, &x, Affine::new(base, read), &out, write);
        Ok(())
    }
}
