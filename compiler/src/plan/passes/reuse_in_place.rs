//! A result takes over the memory of an operand that is read for the last time, where its kernel may write in place.
//!
//! In: a plan without offsets. Out: fewer buffers. The operand must be as large as the result, and the step its last reader.

use super::live_ranges::{LiveRange, live_ranges};
use super::remark;
use crate::kernels::Access;
use crate::plan::{BufferId, Operand, Placement, Plan};

pub(super) fn run(plan: &mut Plan) {
    let mut ranges = live_ranges(plan);
    let mut views: Vec<Vec<usize>> = vec![Vec::new(); plan.buffers.len()];
    plan.views.iter().enumerate().for_each(|(at, view)| views[view.buffer.0].push(at));
    for index in 0..plan.steps.len() {
        let Some((from, to, names)) = merge(plan, &ranges, index) else { continue };
        let moved = std::mem::take(&mut views[to.0]);
        moved.iter().for_each(|view| plan.views[*view].buffer = from);
        views[from.0].extend(moved);
        // From the first step of the operand to the last one of the result.
        if let (Some(first), Some(last)) = (ranges[from.0], ranges[to.0].take()) {
            ranges[from.0] = Some(LiveRange { first: first.first, last: last.last });
        }
        let bytes = plan.buffers[from.0].bytes as f64;
        let text = format!("{} in place of {}", names[1], names[0]);
        let remark = remark(plan, "reuse_in_place", index, text, &[("bytes", bytes)]);
        plan.remarks.push(remark);
    }
}

/// The buffer of an operand of a step, that of the result that takes it over, and the names of both arguments.
fn merge(plan: &Plan, ranges: &[Option<LiveRange>], index: usize) -> Option<(BufferId, BufferId, [&'static str; 2])> {
    let step = &plan.steps[index];
    let buffer = |operand: usize| match step.operands[operand] {
        Operand::View(view) => Some(plan.views[view.0].buffer),
        Operand::Constant(_) => None,
    };
    step.kernel.arguments.iter().enumerate().find_map(|(k, argument)| {
        let source = argument.in_place?;
        let (from, to) = (buffer(source)?, buffer(k)?);
        let unplaced = |id: BufferId| plan.buffers[id.0].placement == Placement::Unplaced;
        let same_size = plan.buffers[from.0].bytes == plan.buffers[to.0].bytes;
        let last_read = ranges[from.0].is_some_and(|s| s.last == index);
        let first_write = ranges[to.0].is_some_and(|s| s.first == index) && argument.access == Access::Write;
        let once = (0..step.operands.len()).filter(|o| buffer(*o) == Some(from)).count() == 1;
        let whole = plan.offset(step.operands[source]) == 0 && plan.offset(step.operands[k]) == 0;
        let fits =
            from != to && whole && unplaced(from) && unplaced(to) && same_size && last_read && first_write && once;
        fits.then(|| (from, to, [step.kernel.arguments[source].name, argument.name]))
    })
}
