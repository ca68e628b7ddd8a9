//! Lowering of `arg_reduce`.

use super::Lower;
use super::context::Lowering;
use super::nests::{NestCall, View, expect_native, extremes};
use crate::kernels::loops::nest::{Affine, Combine, Inst};
use crate::plan::AxisOrder;
use fornax_ir::OpError;
use fornax_ir::ops::ArgReduce;

impl Lower for ArgReduce {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let x = View::operand(cx, 0)?;
        expect_native("x", x.dtype)?;
        let out = cx.output(AxisOrder::RowMajor);
        let out = View::of(cx, out);
        // The reduced axis moves to the end.
        let moved = |mut list: Vec<i64>| {
            let last = list.remove(self.axis);
            list.push(last);
            list
        };
        let extents: Vec<usize> =
            moved(x.shape.iter().map(|e| *e as i64).collect()).iter().map(|e| *e as usize).collect();
        let mut write = out.strides.clone();
        if self.keepdims {
            write.remove(self.axis);
        }
        write.push(0);
        let name = if self.min { "arg_min" } else { "arg_max" };
        let mut call = NestCall::new(name, &extents, 1, &out, Affine::new(0, write));
        call.input("x", &x, Affine::new(0, moved(x.strides.clone())));
        let mut position = vec![0; extents.len()];
        position[extents.len() - 1] = 1;
        call.nest.position = Affine::new(0, position);
        // Any element beats or equals the start, whose position is that of the first element.
        let start = extremes(x.dtype)[usize::from(self.min)];
        let combine = Combine::Arg { min: self.min, last: self.select_last };
        call.compute(vec![start], vec![Inst::Load(0)], combine, vec![Inst::Position]);
        call.run(cx);
        Ok(())
    }
}
