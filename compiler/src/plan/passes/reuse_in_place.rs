//! A result takes over the memory of an operand that is read for the last time, where its kernel may write in place.
//!
//! In: a plan without offsets. Out: fewer storages. The operand must be as large as the result, and the step its last reader.

use super::remark;
use super::spans::spans;
use crate::kernels::Access;
use crate::plan::{Home, Operand, Plan, StorageId};

/// Runs the pass.
pub(super) fn run(plan: &mut Plan) {
    for index in 0..plan.steps.len() {
        let Some((from, to, names)) = merge(plan, index) else { continue };
        for slot in plan.slots.iter_mut().filter(|slot| slot.storage == to) {
            slot.storage = from;
        }
        let bytes = plan.storages[from.0].bytes as f64;
        let text = format!("{} in place of {}", names[1], names[0]);
        let remark = remark(plan, "reuse_in_place", index, text, &[("bytes", bytes)]);
        plan.remarks.push(remark);
    }
}

/// The storage of an operand of a step, that of the result that takes it over, and the names of both arguments.
fn merge(plan: &Plan, index: usize) -> Option<(StorageId, StorageId, [&'static str; 2])> {
    let spans = spans(plan);
    let step = &plan.steps[index];
    let storage = |operand: usize| match step.operands[operand] {
        Operand::Slot(slot) => Some(plan.slots[slot.0].storage),
        Operand::Constant(_) => None,
    };
    step.kernel.arguments.iter().enumerate().find_map(|(k, argument)| {
        let source = argument.in_place?;
        let (from, to) = (storage(source)?, storage(k)?);
        let unplaced = |id: StorageId| plan.storages[id.0].home == Home::Unplaced;
        let same_size = plan.storages[from.0].bytes == plan.storages[to.0].bytes;
        let last_read = spans[from.0].is_some_and(|s| s.last == index);
        let first_write = spans[to.0].is_some_and(|s| s.first == index) && argument.access == Access::Write;
        let once = (0..step.operands.len()).filter(|o| storage(*o) == Some(from)).count() == 1;
        let fits = from != to && unplaced(from) && unplaced(to) && same_size && last_read && first_write && once;
        fits.then(|| (from, to, [step.kernel.arguments[source].name, argument.name]))
    })
}
