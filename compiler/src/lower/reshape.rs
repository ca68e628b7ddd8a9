//! Lowering of `reshape`.

use crate::plan::Layout;
use super::Lower;
use fornax_ir::ops::Reshape;
use fornax_ir::OpError;
use super::context::Lowering;

impl Lower for Reshape {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let view = cx.operand_as(0, Layout::RowMajor)?;
        cx.alias(view, Layout::RowMajor);
        Ok(())
    }
}

