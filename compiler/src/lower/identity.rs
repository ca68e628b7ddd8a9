//! Lowering of `identity`.

use super::Lower;
use fornax_ir::ops::Identity;
use fornax_ir::OpError;
use super::context::Lowering;

impl Lower for Identity {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let view = cx.operand(0)?;
        let layout = cx.layout(0);
        cx.alias(view, layout);
        Ok(())
    }
}

