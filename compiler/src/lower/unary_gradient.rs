//! Lowering of `unary_gradient`: the derivative of the function, step by step, times what comes down.

use super::Lower;
use super::context::Lowering;
use super::nests::{float, map};
use crate::kernels::loops::nest::Inst;
use fornax_ir::OpError;
use fornax_ir::ops::UnaryGradient;
use fornax_ir::scalar::{BinaryFn, Step};

impl Lower for UnaryGradient {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let steps = self.derivative()?.steps;
        let mut body: Vec<Inst> = steps
            .into_iter()
            .map(|step| match step {
                Step::Argument => Inst::Load(1),
                Step::Number(number) => float(number as f32),
                Step::Unary(function, a) => Inst::Unary(function, a),
                Step::Binary(function, a, b) => Inst::Binary(function, a, b),
                Step::Select(condition, a, b) => Inst::Select(condition, a, b),
            })
            .collect();
        let slope = body.len() - 1;
        body.extend([Inst::Load(0), Inst::Binary(BinaryFn::Mul, slope + 1, slope)]);
        map(cx, "unary_gradient", body)
    }
}
