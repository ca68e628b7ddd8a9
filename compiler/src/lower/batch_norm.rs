//! Lowering of `batch_norm`.

use super::Lower;
use super::context::Lowering;
use super::nests::{NestCall, View, expect_float, number};
use crate::kernels::loops::nest::{Affine, Combine, Inst};
use fornax_ir::OpError;
use fornax_ir::ops::BatchNorm;
use fornax_ir::scalar::{BinaryFn, UnaryFn};

impl Lower for BatchNorm {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let dtype = cx.ty.dtype;
        expect_float("x", dtype)?;
        let views = (0..5).map(|i| View::operand(cx, i)).collect::<Result<Vec<_>, _>>()?;
        let order = cx.order(0);
        let out = cx.output(order);
        let out = View::of(cx, out);
        let shape = cx.ty.shape.to_vec();
        let mut call = NestCall::new("batch_norm", &shape, 0, &out, Affine::new(0, out.strides.clone()));
        let [x, parameters @ ..] = views.as_slice() else { return Err(OpError::new("operands", "5", "0")) };
        call.input("x", x, Affine::new(0, x.strides.clone()));
        let along: Vec<i64> = (0..shape.len()).map(|axis| i64::from(axis == 1)).collect();
        for (view, name) in parameters.iter().zip(["scale", "bias", "mean", "variance"]) {
            call.input(name, view, Affine::new(0, along.clone()));
        }
        let body = vec![
            Inst::Load(4),
            number(dtype, self.epsilon.into()),
            Inst::Binary(BinaryFn::Add, 0, 1),
            Inst::Unary(UnaryFn::Sqrt, 2),
            Inst::Load(1),
            Inst::Binary(BinaryFn::Div, 4, 3),
            Inst::Load(0),
            Inst::Load(3),
            Inst::Binary(BinaryFn::Sub, 6, 7),
            Inst::Load(2),
            Inst::Fma(8, 5, 9),
        ];
        call.compute(Vec::new(), body, Combine::Last, Vec::new());
        call.run(cx);
        Ok(())
    }
}
