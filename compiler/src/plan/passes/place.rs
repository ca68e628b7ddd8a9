//! Liveness to arena offsets.
//!
//! In: a plan whose values have no place. Out: offsets, 64-byte aligned, such that buffers that are live at the same step do not
//! overlap, and the sizes of arena and scratch memory. The largest buffers are placed first, each as low as it fits.

use std::collections::BTreeSet;

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
    let mut placed = Placed::new(plan.steps.len() + 1);
    for i in order {
        let Some(range) = ranges[i] else { continue };
        let bytes = plan.buffers[i].bytes.next_multiple_of(ALIGN);
        let mut busy = placed.beside(range);
        busy.sort_unstable();
        let mut offset = 0;
        for (begin, end) in busy {
            if offset + bytes <= begin {
                break;
            }
            offset = offset.max(end);
        }
        placed.insert(range, (offset, offset + bytes));
        plan.buffers[i].placement = Placement::Arena(offset);
        plan.arena_bytes = plan.arena_bytes.max(offset + bytes);
    }
    plan.scratch_bytes = plan.steps.iter().map(|step| step.kernel.scratch).max().unwrap_or(0);
    let together: usize = placed.bytes.iter().map(|(begin, end)| end - begin).sum();
    let figures = vec![
        ("values", placed.bytes.len() as f64),
        ("bytes", together as f64),
        ("arena bytes", plan.arena_bytes as f64),
    ];
    plan.remarks.push(Remark {
        stage: "place",
        node: plan.name.clone(),
        origins: Vec::new(),
        verdict: Verdict::Note,
        text: "values share the arena".into(),
        figures,
    });
}

/// Where values lie, to be asked for those that are live at the same time as another: without a look at all others, of which a long
/// network has many.
struct Placed {
    /// Begin and end of each value.
    bytes: Vec<(usize, usize)>,
    /// By first step.
    begun: BTreeSet<(usize, usize)>,
    /// A segment tree over the steps: the values that are live during all steps of a node, and not of its parent. The leaves are the
    /// second half.
    nodes: Vec<Vec<usize>>,
}

impl Placed {
    fn new(steps: usize) -> Self {
        let nodes = vec![Vec::new(); 2 * steps.max(1)];
        Self { bytes: Vec::new(), begun: BTreeSet::new(), nodes }
    }

    fn insert(&mut self, range: LiveRange, bytes: (usize, usize)) {
        let value = self.bytes.len();
        self.bytes.push(bytes);
        self.begun.insert((range.first, value));
        let leaves = self.nodes.len() / 2;
        let (mut low, mut high) = (range.first + leaves, range.last + 1 + leaves);
        while low < high {
            if low % 2 == 1 {
                self.nodes[low].push(value);
                low += 1;
            }
            if high % 2 == 1 {
                high -= 1;
                self.nodes[high].push(value);
            }
            (low, high) = (low / 2, high / 2);
        }
    }

    /// The bytes of the values that are live at some step of `range`: at its first, or begun later.
    fn beside(&self, range: LiveRange) -> Vec<(usize, usize)> {
        let mut found = Vec::new();
        let mut node = range.first + self.nodes.len() / 2;
        while node > 0 {
            found.extend(self.nodes[node].iter().map(|value| self.bytes[*value]));
            node /= 2;
        }
        let later = self.begun.range((range.first + 1, 0)..(range.last + 1, 0));
        found.extend(later.map(|(_, value)| self.bytes[*value]));
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_that_are_live_together_are_found() {
        let mut random = 1u64;
        let mut next = |below: usize| {
            random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            (random >> 33) as usize % below
        };
        for steps in [1, 2, 7, 64, 100] {
            let (mut placed, mut all) = (Placed::new(steps), Vec::new());
            for value in 0..200 {
                let (a, b) = (next(steps), next(steps));
                let range = LiveRange { first: a.min(b), last: a.max(b) };
                let expected: Vec<(usize, usize)> = all
                    .iter()
                    .filter(|(other, _): &&(LiveRange, _)| other.first <= range.last && range.first <= other.last)
                    .map(|(_, bytes)| *bytes)
                    .collect();
                let mut found = placed.beside(range);
                found.sort_unstable();
                assert_eq!(found, expected, "{range:?} of {steps}");
                let bytes = (value, value + 1);
                placed.insert(range, bytes);
                all.push((range, bytes));
            }
        }
    }
}
