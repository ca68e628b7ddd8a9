//! Lowering of `cast`.

use super::Lower;
use super::context::Lowering;
use super::nests::{expect_native, map_of, move_elements};
use crate::codegen::elements::widens;
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
        let mut program = vec![Inst::Load(0)];
        program.extend(conversion(from, self.to));
        map_of(cx, &format!("cast_{from}"), program, |dtype| widens(dtype) || expect_native("", dtype).is_ok())
    }
}

/// What makes an element that was read one that is stored. Elements of 16 bits are widened where they are read, and rounded where they are stored:
/// once, so that an `f64` or an integer that `f32` does not hold comes there as `f64`.
fn conversion(from: DType, to: DType) -> Option<Inst> {
    let narrow = matches!(to, DType::F16 | DType::BF16);
    match (from, to) {
        (DType::F64, _) if narrow => None,
        _ if widens(from) && widens(to) => None,
        (_, DType::F64) => Some(Inst::ToDouble(0)),
        _ if widens(to) && narrow && from.size() == 8 => Some(Inst::ToDouble(0)),
        _ if widens(to) => Some(Inst::ToFloat(0)),
        _ if from.is_float() => Some(Inst::ToInt(to, 0)),
        _ => Some(Inst::Wrap(to, 0)),
    }
}
