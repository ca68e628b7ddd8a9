//! Lowering of `gather_elements`.

use super::Lower;
use super::context::Lowering;
use super::nests::{NestCall, View};
use crate::kernels::loops::nest::{Affine, Combine, Entry, Inst};
use fornax_ir::OpError;
use fornax_ir::ops::GatherElements;

impl Lower for GatherElements {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let x = View::operand(cx, 0)?.moved();
        let indices = View::operand(cx, 1)?;
        let order = cx.order(1);
        let out = cx.output(order);
        let out = View::of(cx, out).moved();
        let mut rest = x.strides.clone();
        rest[self.axis] = 0;
        let shape = cx.ty.shape.to_vec();
        let mut call = NestCall::new("gather_elements", &shape, 0, &out, Affine::new(0, out.strides.clone()));
        let input = call.input("x", &x, Affine::new(0, rest));
        let at = Affine::new(0, indices.strides.clone());
        let table = call.table("indices", &indices, at, Entry::Wrap(x.shape[self.axis]));
        call.nest.inputs[input].lookups.push((table, x.strides[self.axis]));
        call.compute(Vec::new(), vec![Inst::Load(input)], Combine::Last, Vec::new());
        call.run(cx);
        Ok(())
    }
}
