//! Lowering of `reshape`.

use super::Lower;
use super::context::Lowering;
use crate::plan::AxisOrder;
use fornax_ir::OpError;
use fornax_ir::ops::Reshape;

impl Lower for Reshape {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let view = cx.operand_as(0, AxisOrder::RowMajor)?;
        cx.alias(view, AxisOrder::RowMajor);
        Ok(())
    }
}
