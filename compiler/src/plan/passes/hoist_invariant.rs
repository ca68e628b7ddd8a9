//! What depends on parameters alone is computed once, not in every run.
//!
//! In: a plan whose updates are placed. Out: first, in their order, the steps that read only constants and variables that no step
//! of this plan writes: folded and packed weights, mostly. They are the plan's prologue, which a session runs again only after somebody
//! has written a variable. What later steps read of their results stays in the arena from one run to the next (see
//! [`super::live_ranges`]).

use std::collections::HashSet;

use super::remark;
use crate::kernels::Access;
use crate::plan::{KernelCall, Placement, Plan};

pub(super) fn run(plan: &mut Plan) {
    let variant = variant_buffers(plan);
    let moved: Vec<bool> = plan.steps.iter().map(|step| is_invariant(plan, step, &variant)).collect();
    let mut steps: Vec<(bool, KernelCall)> = moved.into_iter().zip(std::mem::take(&mut plan.steps)).collect();
    steps.sort_by_key(|(invariant, _)| !invariant);
    plan.prologue = steps.iter().filter(|(invariant, _)| *invariant).count();
    plan.steps = steps.into_iter().map(|(_, step)| step).collect();
    if plan.prologue > 0 {
        let bytes: u64 = plan.steps[..plan.prologue].iter().map(|step| step.kernel.bytes).sum();
        let text = format!("{} steps run only where a variable has been written", plan.prologue);
        let remark = remark(plan, "hoist_invariant", 0, text, &[("bytes", bytes as f64)]);
        plan.remarks.push(remark);
    }
}

/// For each buffer, whether what it holds may differ from one run to the next.
fn variant_buffers(plan: &Plan) -> Vec<bool> {
    let updated: HashSet<usize> = plan
        .steps
        .iter()
        .flat_map(|step| written(plan, step))
        .filter_map(|buffer| match plan.buffers[buffer].placement {
            Placement::State(offset) => Some(offset),
            _ => None,
        })
        .collect();
    let varies = |placement| match placement {
        Placement::Input(_) | Placement::Output(_) => true,
        Placement::State(offset) => updated.contains(&offset),
        Placement::Unplaced | Placement::Arena(_) | Placement::Constant(_) => false,
    };
    let mut variant: Vec<bool> = plan.buffers.iter().map(|buffer| varies(buffer.placement)).collect();
    // A value with several writers is invariant only if all of them are, of which the last may come after its first reader.
    loop {
        let mut changed = false;
        for step in &plan.steps {
            if is_invariant(plan, step, &variant) {
                continue;
            }
            for buffer in written(plan, step) {
                changed |= !std::mem::replace(&mut variant[buffer], true);
            }
        }
        if !changed {
            return variant;
        }
    }
}

/// The buffers that a step writes.
fn written<'a>(plan: &'a Plan, step: &'a KernelCall) -> impl Iterator<Item = usize> + use<'a> {
    let arguments = step.kernel.arguments.iter().zip(&step.operands);
    let written = arguments.filter(|(argument, _)| argument.access != Access::Read);
    written.filter_map(|(_, operand)| plan.buffer(*operand)).map(|buffer| buffer.0)
}

fn is_invariant(plan: &Plan, step: &KernelCall, variant: &[bool]) -> bool {
    let in_arena = |buffer: usize| plan.buffers[buffer].placement == Placement::Unplaced;
    let reads_what_stays =
        step.operands.iter().filter_map(|operand| plan.buffer(*operand)).all(|buffer| !variant[buffer.0]);
    reads_what_stays && written(plan, step).all(in_arena)
}
