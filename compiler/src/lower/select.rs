//! Lowering of `select`.

use super::nests::map;
use crate::kernels::loops::nest::Inst;
use super::Lower;
use fornax_ir::ops::Where;
use fornax_ir::OpError;
use super::context::Lowering;

impl Lower for Where {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        map(cx, "where", vec![Inst::Load(0), Inst::Load(1), Inst::Load(2), Inst::Select(0, 1, 2)])
    }
}

