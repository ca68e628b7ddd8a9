//! Chains of element-wise kernels become one.
//!
//! In: the steps of a plan whose outputs are placed. Out: fewer steps. A loop nest that is the only reader of a value in the arena
//! computes it where it reads it, if another element-wise nest wrote it; the value then has no memory. Every value is written before
//! the first step that reads it and never again, so the producer's operands still stand where the consumer runs.

use super::{remark, union};
use crate::kernels::{Access, Kernel, Loops, Spec};
use crate::plan::{BufferId, KernelCall, Operand, Placement, Plan};
use fornax_ir::graph::print::name;

/// For each buffer, the steps that name it, once per operand. The end of the run counts as one for what a variable becomes.
pub(super) fn users_of(plan: &Plan) -> Vec<Vec<usize>> {
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); plan.buffers.len()];
    plan.updates.iter().for_each(|(_, value)| users[plan.views[value.0].buffer.0].push(usize::MAX));
    for at in 0..plan.steps.len() {
        storages_of(plan, at).for_each(|BufferId(id)| users[id].push(at));
    }
    users
}

/// Runs the pass, in the order of the steps.
pub(super) fn run(plan: &mut Plan) {
    let mut users = users_of(plan);
    let mut gone = vec![false; plan.steps.len()];
    for at in 0..plan.steps.len() {
        let mut own = None;
        while let Some((first, kernel, operands)) = fused(plan, at, own.as_ref(), &users) {
            for step in [first, at] {
                storages_of(plan, step).for_each(|BufferId(id)| users[id].retain(|s| *s != step));
            }
            let producer = std::mem::take(&mut plan.steps[first].origins);
            let step = &mut plan.steps[at];
            step.origins = union(producer, std::mem::take(&mut step.origins));
            (own, step.operands) = (Some(kernel), operands);
            storages_of(plan, at).for_each(|BufferId(id)| users[id].push(at));
            gone[first] = true;
            let text = format!("computes %{} where it reads it", name(&plan.steps[first].node));
            let remark = remark(plan, "fuse_chains", at, text, &[]);
            plan.remarks.push(remark);
        }
        if let Some(kernel) = own {
            plan.steps[at].kernel = Kernel::new(kernel, &plan.target);
        }
    }
    let mut gone = gone.into_iter();
    plan.steps.retain(|_| !gone.next().unwrap_or(false));
}

/// The buffers that a step names, once per operand.
pub(super) fn storages_of(plan: &Plan, step: usize) -> impl Iterator<Item = BufferId> + '_ {
    plan.steps[step].operands.iter().filter_map(|operand| plan.buffer(*operand))
}

/// A step that step `at` can take in, with the kernel and operands that this gives; `own` is its kernel by now, if that is not the step's.
fn fused(plan: &Plan, at: usize, own: Option<&Loops>, users: &[Vec<usize>]) -> Option<(usize, Loops, Vec<Operand>)> {
    let steps = &plan.steps;
    let consumer = own.or_else(|| loops(&steps[at]))?;
    let inputs = consumer.nest().inputs.len();
    steps[at].operands[..inputs].iter().enumerate().find_map(|(k, operand)| {
        let BufferId(id) = plan.buffer(*operand)?;
        let [first, second] = users[id][..] else { return None };
        let first = if first == at { second } else { first };
        let producer = loops(steps.get(first)?)?;
        let writes = steps[first].kernel.arguments.last()?.access == Access::Write
            && plan.buffer(*steps[first].operands.last()?) == Some(BufferId(id));
        if first >= at || !writes || plan.buffers[id].placement != Placement::Unplaced {
            return None;
        }
        let (kernel, operands) = consumer.fuse(k, &steps[at].operands, producer, &steps[first].operands)?;
        Some((first, kernel, operands))
    })
}

/// The nest of a step that is nothing else.
pub(super) fn loops(step: &KernelCall) -> Option<&Loops> {
    match &step.kernel.spec {
        Spec::Loops(loops) => Some(loops),
        #[allow(unreachable_patterns, reason = "with one family every spec matches")]
        _ => None,
    }
}
