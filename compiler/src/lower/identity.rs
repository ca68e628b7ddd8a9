//! Lowering of `identity`.

use super::Lower;
use super::context::Lowering;
use fornax_ir::OpError;
use fornax_ir::ops::Identity;

impl Lower for Identity {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let view = cx.operand(0)?;
        let order = cx.order(0);
        cx.alias(view, order);
        Ok(())
    }
}
