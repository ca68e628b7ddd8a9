//! Lowering of `unary`.

use super::nests::map;
use crate::kernels::loops::nest::Inst;
use super::Lower;
use fornax_ir::ops::Unary;
use fornax_ir::OpError;
use super::context::Lowering;

impl Lower for Unary {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let function = self.function;
        map(cx, function.spelling().0, vec![Inst::Load(0), Inst::Unary(function, 0)])
    }
}

