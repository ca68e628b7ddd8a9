//! Liveness to arena offsets.
//!
//! In: a plan whose arena storages have no place. Out: offsets, 64-byte aligned, such that storages that are live at the same step
//! do not overlap, and the size of the arena. A storage that a kernel may write in place of its last-read operand takes over that
//! operand's memory.

use super::{Home, Operand, Plan, StorageId};
use crate::kernels::Access;

/// Alignment of every storage, bytes: one cache line, one widest vector.
const ALIGN: usize = 64;

/// First and last step that touches a storage.
#[derive(Clone, Copy, Debug)]
struct Span {
    first: usize,
    last: usize,
}

/// Assigns every arena storage its offset and the plan its arena size.
pub fn assign(plan: &mut Plan) {
    reuse_in_place(plan);
    let spans = spans(plan);
    let mut order: Vec<usize> = (0..plan.storages.len())
        .filter(|i| spans[*i].is_some() && matches!(plan.storages[*i].home, Home::Arena(_)))
        .collect();
    order.sort_by_key(|i| (std::cmp::Reverse(plan.storages[*i].bytes), *i));
    let mut placed: Vec<(Span, usize, usize)> = Vec::new();
    for i in order {
        let Some(span) = spans[i] else { continue };
        let bytes = plan.storages[i].bytes.next_multiple_of(ALIGN);
        let mut busy: Vec<(usize, usize)> = placed
            .iter()
            .filter(|(other, ..)| other.first <= span.last && span.first <= other.last)
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
        placed.push((span, offset, offset + bytes));
        plan.storages[i].home = Home::Arena(offset);
        plan.arena_bytes = plan.arena_bytes.max(offset + bytes);
    }
}

/// Lets a written operand take over the storage of the operand it may be computed in place of.
fn reuse_in_place(plan: &mut Plan) {
    for index in 0..plan.steps.len() {
        let spans = spans(plan);
        let step = &plan.steps[index];
        let storage = |plan: &Plan, operand: usize| match step.operands[operand] {
            Operand::Slot(slot) => Some(plan.slots[slot.0].storage),
            Operand::Constant(_) => None,
        };
        let merge = step.kernel.arguments.iter().enumerate().find_map(|(k, argument)| {
            let from = storage(plan, argument.in_place?)?;
            let to = storage(plan, k)?;
            let arena = |id: StorageId| matches!(plan.storages[id.0].home, Home::Arena(_));
            let same_size = plan.storages[from.0].bytes == plan.storages[to.0].bytes;
            let last_read = spans[from.0].is_some_and(|s| s.last == index);
            let first_write = spans[to.0].is_some_and(|s| s.first == index) && argument.access == Access::Write;
            let once = (0..step.operands.len()).filter(|o| storage(plan, *o) == Some(from)).count() == 1;
            (from != to && arena(from) && arena(to) && same_size && last_read && first_write && once)
                .then_some((from, to))
        });
        if let Some((from, to)) = merge {
            for slot in plan.slots.iter_mut().filter(|slot| slot.storage == to) {
                slot.storage = from;
            }
        }
    }
}

/// The span of every storage that some step touches.
fn spans(plan: &Plan) -> Vec<Option<Span>> {
    let mut spans: Vec<Option<Span>> = vec![None; plan.storages.len()];
    for (index, step) in plan.steps.iter().enumerate() {
        for operand in &step.operands {
            if let Operand::Slot(slot) = operand {
                let span = &mut spans[plan.slots[slot.0].storage.0];
                *span = Some(Span { first: span.map_or(index, |s| s.first), last: index });
            }
        }
    }
    spans
}
