//! Lowering of `cast`.

use super::Lower;
use super::context::Lowering;
use super::nests::{expect_native, map_of, move_elements};
use crate::codegen::elements::widens;
use crate::kernels::loops::nest::Inst;
use fornax_ir::OpError;
use fornax_ir::ops::Cast;

impl Lower for Cast {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let from = cx.operand_type(0).dtype;
        if from == self.to {
            return move_elements(cx, "cast");
        }
        // Elements of 16 bits are widened where they are read, and rounded where they are stored.
        let program = match (widens(from), widens(self.to)) {
            (true, true) => vec![Inst::Load(0)],
            (true, false) => vec![Inst::Load(0), Inst::ToInt(self.to, 0)],
            (false, true) => vec![Inst::Load(0), Inst::ToFloat(0)],
            (false, false) => vec![Inst::Load(0), Inst::Wrap(self.to, 0)],
        };
        map_of(cx, &format!("cast_{from}"), program, |dtype| widens(dtype) || expect_native("", dtype).is_ok())
    }
}
