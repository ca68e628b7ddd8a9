//! Lowering of `gather`.

use super::Lower;
use super::context::Lowering;
use super::nests::{NestCall, View};
use crate::kernels::loops::nest::{Affine, Combine, Entry, Inst};
use crate::plan::AxisOrder;
use fornax_ir::OpError;
use fornax_ir::ops::Gather;

impl Lower for Gather {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let x = View::operand(cx, 0)?.moved();
        let indices = cx.operand_as(1, AxisOrder::RowMajor)?;
        let indices = View::of(cx, indices);
        let out = cx.output(AxisOrder::RowMajor);
        let out = View::of(cx, out).moved();
        let (axis, rank) = (self.axis, indices.shape.len());
        let place = |data: &[i64], index: &[i64]| [&data[..axis], index, &data[axis + 1..]].concat();
        let shape = cx.ty.shape.to_vec();
        let mut call = NestCall::new("gather", &shape, 0, &out, Affine::new(0, out.strides.clone()));
        let input = call.input("x", &x, Affine::new(0, place(&x.strides, &vec![0; rank])));
        let at = Affine::new(0, place(&vec![0; x.shape.len()], &indices.strides));
        let table = call.table("indices", &indices, at, Entry::Wrap(x.shape[axis]));
        call.nest.inputs[input].lookups.push((table, x.strides[axis]));
        call.compute(Vec::new(), vec![Inst::Load(input)], Combine::Last, Vec::new());
        call.run(cx);
        Ok(())
    }
}
