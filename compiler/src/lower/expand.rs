//! Lowering of `expand`.

use super::Lower;
use super::context::Lowering;
use super::nests::move_elements;
use fornax_ir::OpError;
use fornax_ir::ops::Expand;

impl Lower for Expand {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        move_elements(cx, "expand")
    }
}
