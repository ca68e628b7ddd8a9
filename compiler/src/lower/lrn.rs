//! Lowering of `lrn`.

use super::Lower;
use super::context::Lowering;
use super::fallback::along;
use super::nests::{NestCall, View, expect_f32, float};
use crate::kernels::loops::nest::{Affine, Combine, Inst};
use fornax_ir::OpError;
use fornax_ir::ops::Lrn;
use fornax_ir::scalar::{BinaryFn, UnaryFn};

impl Lower for Lrn {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        expect_f32("x", cx.ty.dtype)?;
        let (x, order, shape) = (View::operand(cx, 0)?, cx.order(0), cx.ty.shape.to_vec());
        let out = cx.output(order);
        let out = View::of(cx, out);
        // The window, cut to what any channel can see.
        let reach = shape[1].saturating_sub(1);
        let (before, after) = (((self.size - 1) / 2).min(reach), (self.size / 2).min(reach));
        let (rank, first) = (shape.len() + 1, -(before as i64));
        let extents = [&shape[..], &[before + after + 1]].concat();
        let mut call = NestCall::new("lrn", &extents, 1, &out, Affine::new(0, [&out.strides[..], &[0]].concat()));
        let step = x.strides[1];
        call.input("x", &x, Affine::new(first * step, [&x.strides[..], &[step]].concat()));
        call.input("centre", &x, Affine::new(0, [&x.strides[..], &[0]].concat()));
        call.guard(along(rank, first, &[(1, 1), (rank - 1, 1)]), shape[1]);
        let mut finish = vec![
            Inst::Accumulated,
            float((f64::from(self.alpha) / self.size as f64) as f32),
            float(self.bias),
            Inst::Fma(0, 1, 2),
            Inst::Load(1),
        ];
        if self.beta == 0.75 {
            // Two square roots, which vectors have, and their product.
            finish.extend([
                Inst::Unary(UnaryFn::Sqrt, 3),
                Inst::Unary(UnaryFn::Sqrt, 5),
                Inst::Binary(BinaryFn::Mul, 5, 6),
            ]);
        } else {
            finish.extend([float(self.beta), Inst::Binary(BinaryFn::Pow, 3, 5)]);
        }
        finish.push(Inst::Binary(BinaryFn::Div, 4, finish.len() - 1));
        call.compute(vec![float(0.0)], vec![Inst::Load(0), Inst::Load(0)], Combine::SumProduct, finish);
        call.run(cx);
        Ok(())
    }
}
