//! Whether a plan is one that may be emitted.
//!
//! In: a plan. Out: every way in which it breaks what emission relies on. Invariant of a valid plan: each operand is at least as large
//! as its kernel argument, nothing that is only read is written, what has an offset lies inside of the arena, and the programs of loop
//! nests compute with values of the kinds that their instructions take.

use super::{KernelCall, Operand, Placement, Plan};
use crate::error::{Error, Result};
use crate::kernels::{Access, Spec};

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
    if let Spec::Loops(loops) = &kernel.spec
        && let Err(fault) = loops.nest().check_kinds()
    {
        faults.push(format!("{at}: {fault}"));
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::loops::nest::{Affine, Inst, LoopNest, Output};
    use crate::kernels::{Kernel, Loops};
    use fornax_ir::scalar::BinaryFn;
    use fornax_ir::types::DType;

    /// The text of a plan of one nest that adds an integer to a float.
    fn mixed() -> String {
        let at = || Affine::new(0, [1]);
        let body = vec![Inst::Load(0), Inst::Load(1), Inst::Binary(BinaryFn::Add, 0, 1)];
        let mut nest = LoopNest::map(&[4], Output { dtype: DType::F32, elements: 4, at: at() }, body);
        nest.input("x", DType::F32, 4, at());
        nest.input("i", DType::I64, 4, at());
        let loops = Loops::new("mixed", nest);
        let kernel = Kernel::new(loops.clone(), &"x86-64-v3".parse().unwrap());
        let Kernel { name, schedule, .. } = &kernel;
        format!(
            "plan @p for x86-64-v3\narena 0 bytes, scratch 0 bytes, constants 0 bytes\n\
             {name}(x=in0, i=in1, y=out0) chunks=1 {schedule}  ; n\n\
             in0 = \"x\" : f32[4]\nin1 = \"i\" : i64[4]\nout0 = \"y\" : f32[4]\nkernel {name}\n{loops}"
        )
    }

    #[test]
    fn programs_of_mixed_kinds_are_refused() {
        let error = crate::plan::parse(&mixed()).map(drop).unwrap_err();
        let Error::Plan(faults) = error else { panic!("{error}") };
        assert_eq!(faults.len(), 1, "{faults:?}");
        assert!(faults[0].starts_with("n: f32_mixed_4_h"), "{faults:?}");
        assert!(faults[0].ends_with("body %2: expected %1 to be a float, found an integer"), "{faults:?}");
    }
}
