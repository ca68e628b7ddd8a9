//! Lowering of `concat`.

use super::Lower;
use super::context::Lowering;
use super::nests::{View, common_order, copy};
use crate::kernels::loops::nest::Affine;
use fornax_ir::OpError;
use fornax_ir::ops::Concat;

impl Lower for Concat {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let order = common_order(cx, &cx.ty.shape.clone());
        let views = (0..cx.count()).map(|i| View::operand(cx, i)).collect::<Result<Vec<_>, _>>()?;
        let out = cx.output(order);
        let out = View::of(cx, out);
        let mut first = 0;
        for x in views {
            let write = Affine::new(first as i64 * out.strides[self.axis], out.strides.clone());
            copy(cx, "concat", &x.shape, &x, Affine::new(0, x.strides.clone()), &out, write);
            first += x.shape[self.axis];
        }
        Ok(())
    }
}
