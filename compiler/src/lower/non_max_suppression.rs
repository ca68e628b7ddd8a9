//! Lowering of `non_max_suppression`.

use super::Lower;
use super::context::Lowering;
use crate::kernels::Suppress;
use crate::plan::{AxisOrder, Operand};
use fornax_ir::OpError;
use fornax_ir::ops::NonMaxSuppression;

impl Lower for NonMaxSuppression {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let mut operands: Vec<Operand> = Vec::new();
        for i in 0..cx.count() {
            operands.push(cx.operand_as(i, AxisOrder::RowMajor)?.into());
        }
        let [images, classes, boxes] = cx.operand_type(1).shape[..] else {
            return Err(OpError::new("scores", "rank 3", cx.operand_type(1).to_string()));
        };
        for result in [0, 1] {
            operands.push(cx.output_of(result, AxisOrder::RowMajor).into());
        }
        cx.step(Suppress { images, classes, boxes, k: self.k }, &operands);
        Ok(())
    }
}
