//! Lowering of `select`.

use super::Lower;
use super::context::Lowering;
use super::nests::map;
use crate::kernels::loops::nest::Inst;
use fornax_ir::OpError;
use fornax_ir::ops::Where;

impl Lower for Where {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        map(cx, "where", vec![Inst::Load(0), Inst::Load(1), Inst::Load(2), Inst::Select(0, 1, 2)])
    }
}
