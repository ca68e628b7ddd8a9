//! Liveness to arena offsets.
//!
//! In: a plan whose values have no place. Out: offsets, 64-byte aligned, such that buffers that are live at the same step do not
//! overlap, and the sizes of arena and scratch memory. The largest buffers are placed first, each as low as it fits.

use super::live_ranges::{LiveRange, live_ranges};
use crate::plan::{Placement, Plan};
use fornax_ir::{Remark, Verdict};

/// Alignment of every buffer, bytes: one cache line, one widest vector.
const ALIGN: usize = 64;

pub(super) fn run(plan: &mut Plan) {
    let ranges = live_ranges(plan);
    let mut order: Vec<usize> = (0..plan.buffers.len())
        .filter(|i| ranges[*i].is_some() && plan.buffers[*i].placement == Placement::Unplaced)
        .collect();
    order.sort_by_key(|i| (std::cmp::Reverse(plan.buffers[*i].bytes), *i));
    let mut placed: Vec<(LiveRange, usize, usize)> = Vec::new();
    for i in order {
        let Some(range) = ranges[i] else { continue };
        let bytes = plan.buffers[i].bytes.next_multiple_of(ALIGN);
        let mut busy: Vec<(usize, usize)> = placed
            .iter()
            .filter(|(other, ..)| other.first <= range.last && range.first <= other.last)
            .map(|(_, begin, end)| (*begin, *end))
            .collect();
        busy.sort_unstable();
        let mut offset = 0;
        for (begin, end) in busy {
            if offset + bytes <= begin {
                break;
            }
            offset = offset.max(end);
        }
        placed.push((range, offset, offset + bytes));
        plan.buffers[i].placement = Placement::Arena(offset);
        plan.arena_bytes = plan.arena_bytes.max(offset + bytes);
    }
    plan.scratch_bytes = plan.steps.iter().map(|step| step.kernel.scratch).max().unwrap_or(0);
    let together: usize = placed.iter().map(|(_, begin, end)| end - begin).sum();
    let figures =
        vec![("values", placed.len() as f64), ("bytes", together as f64), ("arena bytes", plan.arena_bytes as f64)];
    plan.remarks.push(Remark {
        stage: "place",
        node: plan.name.clone(),
        origins: Vec::new(),
        verdict: Verdict::Note,
        text: "values share the arena".into(),
        figures,
    });
}
