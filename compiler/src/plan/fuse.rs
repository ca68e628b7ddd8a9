//! Chains of element-wise kernels become one.
//!
//! In: the steps of a plan whose outputs are placed. Out: fewer steps. A loop nest that is the only reader of a value in the arena
//! computes it where it reads it, if another element-wise nest wrote it; the value then has no memory. Every value is written before
//! the first step that reads it and never again, so the producer's operands still stand where the consumer runs.

use super::{Home, Operand, Slot, Step, Storage, StorageId};
use crate::kernels::{Access, Kernel, Loops, Spec};
use crate::target::Target;

/// Fuses what can be fused, in the order of the steps. Values in `kept` are read after the last step, too.
pub(super) fn chains(steps: &mut Vec<Step>, slots: &[Slot], storages: &[Storage], kept: &[StorageId], target: &Target) {
    let storage = |operand: &Operand| match operand {
        Operand::Slot(slot) => Some(slots[slot.0].storage),
        Operand::Constant(_) => None,
    };
    // For each storage, the steps that name it, once per operand. The end of the run counts as one.
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); storages.len()];
    kept.iter().for_each(|StorageId(id)| users[*id].push(usize::MAX));
    for (at, step) in steps.iter().enumerate() {
        step.operands.iter().filter_map(storage).for_each(|StorageId(id)| users[id].push(at));
    }
    let mut gone = vec![false; steps.len()];
    for at in 0..steps.len() {
        while let Some((first, kernel, operands)) = fused(steps, at, &users, storages, &storage) {
            for step in [first, at] {
                steps[step]
                    .operands
                    .iter()
                    .filter_map(storage)
                    .for_each(|StorageId(id)| users[id].retain(|s| *s != step));
            }
            operands.iter().filter_map(storage).for_each(|StorageId(id)| users[id].push(at));
            gone[first] = true;
            let of_producer = std::mem::take(&mut steps[first].origins);
            let of_consumer = std::mem::take(&mut steps[at].origins);
            steps[at].origins = union(of_producer, of_consumer);
            (steps[at].kernel, steps[at].operands) = (Kernel::new(kernel, target), operands);
        }
    }
    let mut gone = gone.into_iter();
    steps.retain(|_| !gone.next().unwrap_or(false));
}

/// Names of both lists, each once.
fn union(mut names: Vec<String>, more: Vec<String>) -> Vec<String> {
    for name in more {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// A step that step `at` can take in, with the kernel and operands that this gives.
fn fused(
    steps: &[Step],
    at: usize,
    users: &[Vec<usize>],
    storages: &[Storage],
    storage: &impl Fn(&Operand) -> Option<StorageId>,
) -> Option<(usize, Loops, Vec<Operand>)> {
    let consumer = loops(&steps[at])?;
    let inputs = consumer.nest().inputs.len();
    steps[at].operands[..inputs].iter().enumerate().find_map(|(k, operand)| {
        let StorageId(id) = storage(operand)?;
        let [first, second] = users[id][..] else { return None };
        let first = if first == at { second } else { first };
        let producer = loops(steps.get(first)?)?;
        let writes = steps[first].kernel.arguments.last()?.access == Access::Write
            && storage(steps[first].operands.last()?) == Some(StorageId(id));
        if first >= at || !writes || !matches!(storages[id].home, Home::Arena(_)) {
            return None;
        }
        let (kernel, operands) = consumer.fuse(k, &steps[at].operands, producer, &steps[first].operands)?;
        Some((first, kernel, operands))
    })
}

fn loops(step: &Step) -> Option<&Loops> {
    match &step.kernel.spec {
        Spec::Loops(loops) => Some(loops),
        #[allow(unreachable_patterns, reason = "with one family every spec matches")]
        _ => None,
    }
}
