//! When the values of a plan are live.

use crate::plan::{Operand, Plan};

/// First and last step that touches a buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    pub first: usize,
    pub last: usize,
}

/// The span of every buffer that some step touches.
pub(super) fn spans(plan: &Plan) -> Vec<Option<Span>> {
    let mut spans: Vec<Option<Span>> = vec![None; plan.buffers.len()];
    for (index, step) in plan.steps.iter().enumerate() {
        for operand in &step.operands {
            if let Operand::View(view) = operand {
                let span = &mut spans[plan.views[view.0].buffer.0];
                *span = Some(Span { first: span.map_or(index, |s| s.first), last: index });
            }
        }
    }
    spans
}
