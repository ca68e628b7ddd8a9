//! Lowering of `expand`.

use super::nests::move_elements;
use super::Lower;
use fornax_ir::ops::Expand;
use fornax_ir::OpError;
use super::context::Lowering;

impl Lower for Expand {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        move_elements(cx, "expand")
    }
}

