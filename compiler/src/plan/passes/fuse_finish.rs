//! What follows integer sums is computed where they are summed.
//!
//! In: the steps of a plan whose element-wise chains are one each. Out: fewer steps. A loop nest that is the only reader of a map of `i32` sums
//! becomes the end of the kernel that sums them, if it fits ([`Finish`]): the map then has no memory.

use super::fuse_chains::{loops, users_of};
use super::{remark, union};
use crate::kernels::{Access, Finish, Kernel, Spec};
use crate::plan::{BufferId, Operand, Placement, Plan};
use fornax_ir::graph::print::name;

/// Runs the pass, in the order of the steps.
pub(super) fn run(plan: &mut Plan) {
    let users = users_of(plan);
    let mut gone = vec![false; plan.steps.len()];
    for at in 0..plan.steps.len() {
        let Some((first, spec, operands)) = finished(plan, at, &users) else { continue };
        let producer = std::mem::take(&mut plan.steps[first].origins);
        let node = plan.steps[first].node.clone();
        let step = &mut plan.steps[at];
        step.origins = union(producer, std::mem::take(&mut step.origins));
        (step.kernel, step.operands) = (Kernel::new(spec, &plan.target), operands);
        gone[first] = true;
        let text = format!("computes it from the sums of %{}", name(&node));
        let remark = remark(plan, "fuse_finish", at, text, &[]);
        plan.remarks.push(remark);
    }
    let mut gone = gone.into_iter();
    plan.steps.retain(|_| !gone.next().unwrap_or(false));
}

/// The step whose sums step `at` alone reads, with the kernel and operands of both.
fn finished(plan: &Plan, at: usize, users: &[Vec<usize>]) -> Option<(usize, Spec, Vec<Operand>)> {
    let consumer = &plan.steps[at];
    let nest = loops(consumer)?;
    let inputs = nest.nest().inputs.len();
    consumer.operands[..inputs].iter().enumerate().find_map(|(k, operand)| {
        let BufferId(id) = plan.buffer(*operand)?;
        let [first, second] = users[id][..] else { return None };
        let first = if first == at { second } else { first };
        let producer = plan.steps.get(first).filter(|_| first < at)?;
        let written = producer.kernel.arguments.iter().position(|argument| argument.access == Access::Write)?;
        let sums = producer.operands[written];
        let whole = plan.offset(sums) == 0 && plan.offset(*operand) == 0;
        if !whole || plan.buffer(sums) != Some(BufferId(id)) || plan.buffers[id].placement != Placement::Unplaced {
            return None;
        }
        let spec = producer.kernel.spec.finished(|map| Finish::new(nest, k, map))?;
        let mut operands = producer.operands.clone();
        operands[written] = *consumer.operands.last()?;
        operands.extend(consumer.operands[..inputs].iter().enumerate().filter(|(i, _)| *i != k).map(|(_, x)| *x));
        Some((first, spec, operands))
    })
}
