//! Lowering of `squeeze_excite`.

use super::Lower;
use super::context::Lowering;
use super::dense::{Squeeze, squeeze_gate};
use super::weights;
use crate::kernels::Gate;
use crate::plan::AxisOrder;
use fornax_ir::OpError;
use fornax_ir::ops::SqueezeExcite;

impl Lower for SqueezeExcite {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let shape = cx.ty.shape.clone();
        if shape.contains(&0) || (1..5).any(|i| !weights::usable(cx, i)) {
            return super::fallback::squeeze_excite(cx, self);
        }
        let element = cx.stored_type(0);
        let x = cx.operand_stored(0, AxisOrder::ChannelsLast, element)?;
        let gate = squeeze_gate(
            cx,
            Squeeze::Map(x),
            [1, 2, 3, 4],
            ([self.activation, self.gate], ["mean", "reduce", "expand"]),
        )?;
        cx.part(&["gate"]);
        let y = cx.output_stored(AxisOrder::ChannelsLast, element);
        let spec = Gate { element, batch: shape[0], pixels: shape[2] * shape[3], channels: shape[1] };
        cx.step(spec, &[x.into(), gate.into(), y.into()]);
        Ok(())
    }
}
