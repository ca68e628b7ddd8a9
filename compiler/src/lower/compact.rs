//! Lowering of `compact`.

use super::Lower;
use super::context::Lowering;
use crate::kernels;
use crate::plan::AxisOrder;
use fornax_ir::OpError;
use fornax_ir::ops::Compact;

impl Lower for Compact {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let mask = cx.operand_as(0, AxisOrder::RowMajor)?;
        let elements = cx.operand_type(0).shape.numel();
        let [indices, count] = [0, 1].map(|result| cx.output_of(result, AxisOrder::RowMajor));
        cx.step(kernels::Compact { elements }, &[mask.into(), indices.into(), count.into()]);
        Ok(())
    }
}
