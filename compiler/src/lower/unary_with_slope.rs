//! Lowering of `unary_with_slope`: a loop nest for each result.

use super::Lower;
use super::context::Lowering;
use super::nests::{expect_f32, expression, map_result};
use fornax_ir::OpError;
use fornax_ir::ops::UnaryWithSlope;

impl Lower for UnaryWithSlope {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        expect_f32("x", cx.ty.dtype)?;
        let both = self.steps()?;
        let steps = &both.expression.steps;
        for (result, steps, name) in [(0, &steps[..=both.value], "value"), (1, &steps[..], "slope")] {
            if cx.results[result].used {
                map_result(cx, result, name, expression(steps, 0))?;
            }
        }
        Ok(())
    }
}
