//! Lowering of `lp_norm`.

use super::Lower;
use super::context::Lowering;
use super::nests::{NestCall, View, expect_f32, float};
use crate::kernels::loops::nest::{Affine, Combine, Inst};
use fornax_ir::OpError;
use fornax_ir::ops::LpNorm;
use fornax_ir::scalar::{BinaryFn, UnaryFn};

impl Lower for LpNorm {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        expect_f32("x", cx.ty.dtype)?;
        let (x, order) = (View::operand(cx, 0)?, cx.order(0));
        let out = cx.output(order);
        let out = View::of(cx, out);
        let spatial = x.shape.len() - 2;
        let write = [&out.strides[..2], &vec![0; spatial]].concat();
        let mut call = NestCall::new("lp_norm", &x.shape, spatial, &out, Affine::new(0, write));
        call.input("x", &x, Affine::new(0, x.strides.clone()));
        let power = |p: f32| [float(p), Inst::Binary(BinaryFn::Pow, 1, 2)];
        let body = [vec![Inst::Load(0), Inst::Unary(UnaryFn::Abs, 0)], power(self.p as f32).to_vec()].concat();
        let root = vec![Inst::Accumulated, float(1.0 / self.p as f32), Inst::Binary(BinaryFn::Pow, 0, 1)];
        call.compute(vec![float(0.0)], body, Combine::Sum, root);
        call.run(cx);
        Ok(())
    }
}
