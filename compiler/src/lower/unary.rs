//! Lowering of `unary`.

use super::Lower;
use super::context::Lowering;
use super::nests::{expect_function, map};
use crate::kernels::loops::nest::Inst;
use fornax_ir::OpError;
use fornax_ir::ops::Unary;

impl Lower for Unary {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let function = self.function;
        expect_function(function, cx.operand_type(0).dtype)?;
        map(cx, function.spelling().0, vec![Inst::Load(0), Inst::Unary(function, 0)])
    }
}
