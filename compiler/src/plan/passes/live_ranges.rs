//! When the values of a plan are live.

use crate::plan::{Operand, Plan};

/// First and last step that touches a buffer; as the last, the number of all steps for what the prologue computes and later steps read:
/// it stays for the next run.
#[derive(Clone, Copy, Debug)]
pub(super) struct LiveRange {
    pub first: usize,
    pub last: usize,
}

/// The live range of every buffer that some step touches.
pub(super) fn live_ranges(plan: &Plan) -> Vec<Option<LiveRange>> {
    let mut ranges: Vec<Option<LiveRange>> = vec![None; plan.buffers.len()];
    for (index, step) in plan.steps.iter().enumerate() {
        for operand in &step.operands {
            if let Operand::View(view) = operand {
                let range = &mut ranges[plan.views[view.0].buffer.0];
                *range = Some(LiveRange { first: range.map_or(index, |s| s.first), last: index });
            }
        }
    }
    let kept = |range: &&mut LiveRange| range.first < plan.prologue && range.last >= plan.prologue;
    ranges.iter_mut().flatten().filter(kept).for_each(|range| range.last = plan.steps.len());
    ranges
}
