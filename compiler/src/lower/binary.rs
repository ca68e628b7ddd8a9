//! Lowering of `binary`.

use super::Lower;
use super::context::Lowering;
use super::nests::map;
use crate::kernels::loops::nest::Inst;
use fornax_ir::OpError;
use fornax_ir::ops::Binary;

impl Lower for Binary {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let function = self.function;
        map(cx, function.name(), vec![Inst::Load(0), Inst::Load(1), Inst::Binary(function, 0, 1)])
    }
}
