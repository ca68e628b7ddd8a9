//! Lowering of `unary_gradient`: the derivative of the function, step by step, times what comes down.

use super::Lower;
use super::context::Lowering;
use super::nests::{expect_f32, expression, map};
use crate::kernels::loops::nest::Inst;
use fornax_ir::OpError;
use fornax_ir::ops::UnaryGradient;
use fornax_ir::scalar::BinaryFn;

impl Lower for UnaryGradient {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        expect_f32("dy", cx.ty.dtype)?;
        let mut body = expression(&self.derivative()?.steps, 1);
        let slope = body.len() - 1;
        body.extend([Inst::Load(0), Inst::Binary(BinaryFn::Mul, slope + 1, slope)]);
        map(cx, "unary_gradient", body)
    }
}
