//! Whether a plan is one that may be emitted.
//!
//! In: a plan. Out: every way in which it breaks what emission relies on. Invariant of a valid plan: each operand is at least as large
//! as its kernel argument, nothing that is only read is written, and what has an offset lies inside of the arena.

use super::{KernelCall, Operand, Placement, Plan};
use crate::error::{Error, Result};
use crate::kernels::Access;

/// Holds a plan to its invariants; values need no place yet.
///
/// # Errors
/// [`Error::Plan`] with every fault: a bug of a lowering or a pass, or a text that no plan printed.
pub fn verify(plan: &Plan) -> Result<()> {
    let faults: Vec<String> = plan.steps.iter().flat_map(|step| faults(plan, step)).collect();
    if faults.is_empty() { Ok(()) } else { Err(Error::Plan(faults)) }
}

/// [`verify`], that every value has a place, and that constants are known: what emission asks for.
///
/// # Errors
/// As [`verify`].
pub fn verify_placed(plan: &Plan) -> Result<()> {
    verify(plan)?;
    if plan.variables.iter().any(|variable| matches!(variable.initial.payload, fornax_ir::types::Payload::Hash(_))) {
        return Err(Error::Plan(vec!["variables: expected their elements, found only their hashes".into()]));
    }
    if !plan.updates.is_empty() {
        return Err(Error::Plan(vec!["updates: the pass `place_updates` has not run".into()]));
    }
    if let Some(at) = plan.constants.iter().position(|constant| !constant.is_known()) {
        return Err(Error::Plan(vec![format!("constant @{at}: expected its elements, found only their hash")]));
    }
    let unplaced = |operand: &Operand| plan.placement(*operand) == Placement::Unplaced;
    let faults: Vec<String> = plan
        .steps
        .iter()
        .filter(|step| step.operands.iter().any(unplaced))
        .map(|step| {
            format!("{}: {}: an operand has no place: the pass `place` has not run", step.node, step.kernel.name)
        })
        .collect();
    let scratch = plan.steps.iter().map(|step| step.kernel.scratch).max().unwrap_or(0);
    match faults.is_empty() {
        true if scratch <= plan.scratch_bytes => Ok(()),
        true => Err(Error::Plan(vec![format!("scratch: kernels need {scratch} bytes, has {}", plan.scratch_bytes)])),
        false => Err(Error::Plan(faults)),
    }
}

fn faults(plan: &Plan, step: &KernelCall) -> Vec<String> {
    let (kernel, mut faults) = (&step.kernel, Vec::new());
    let at = format!("{}: {}", step.node, kernel.name);
    if kernel.arguments.len() != step.operands.len() {
        return vec![format!("{at}: {} operands for {} arguments", step.operands.len(), kernel.arguments.len())];
    }
    for (argument, operand) in kernel.arguments.iter().zip(&step.operands) {
        let (bytes, placement) = (plan.extent(*operand), plan.placement(*operand));
        if bytes < argument.bytes {
            faults.push(format!("{at}: {} needs {} bytes, has {bytes}", argument.name, argument.bytes));
        }
        if matches!(placement, Placement::Constant(_) | Placement::Input(_)) && argument.access != Access::Read {
            faults.push(format!("{at}: {} is written, but read-only", argument.name));
        }
        if let Placement::Arena(offset) = placement
            && offset.checked_add(argument.bytes).is_none_or(|end| end > plan.arena_bytes)
        {
            let arena = plan.arena_bytes;
            faults
                .push(format!("{at}: {}: {} bytes at {offset} of an arena of {arena}", argument.name, argument.bytes));
        }
    }
    faults
}
