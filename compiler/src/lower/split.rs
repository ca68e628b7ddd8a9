//! Lowering of `split`.

use super::Lower;
use super::context::Lowering;
use super::nests::{View, copy};
use crate::kernels::loops::nest::Affine;
use fornax_ir::OpError;
use fornax_ir::ops::Split;

impl Lower for Split {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let x = View::operand(cx, 0)?;
        let layout = cx.layout(0);
        for (i, (first, _)) in self.parts().enumerate() {
            if !cx.results[i].used {
                continue;
            }
            let out = cx.output_of(i, layout);
            let out = View::of(cx, out);
            let read = Affine::new(first as i64 * x.strides[self.axis], x.strides.clone());
            let write = Affine::new(0, out.strides.clone());
            copy(cx, "split", &out.shape.clone(), &x, read, &out, write);
        }
        Ok(())
    }
}
