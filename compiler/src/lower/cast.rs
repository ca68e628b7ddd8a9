//! Lowering of `cast`.

use super::Lower;
use super::context::Lowering;
use super::nests::{map, move_elements};
use crate::kernels::loops::nest::Inst;
use fornax_ir::OpError;
use fornax_ir::ops::Cast;
use fornax_ir::types::DType;

impl Lower for Cast {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let from = cx.operand_type(0).dtype;
        if from == self.to {
            return move_elements(cx, "cast");
        }
        let convert = match (from, self.to) {
            (DType::F32, to) => Inst::ToInt(to, 0),
            (_, DType::F32) => Inst::ToFloat(0),
            (_, to) => Inst::Wrap(to, 0),
        };
        map(cx, &format!("cast_{from}"), vec![Inst::Load(0), convert])
    }
}
