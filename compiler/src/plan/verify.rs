//! Whether a plan is one that may be emitted.
//!
//! In: a plan. Out: every way in which it breaks what emission relies on. Invariant of a valid plan: all that it names is there; each
//! operand is at least as large as its kernel argument, and so is the memory at its place; nothing that is only read is written;
//! loop nests touch what their operands have, and compute with values of the kinds that their instructions take.
//! Anyone can change a plan, so this is asked right before code is made of it, not only by those who built it.

use fornax_runtime::ALIGN;

use super::{ConstId, Contents, Generated, KernelCall, Operand, Placement, Plan};
use crate::error::{Error, Result};
use crate::kernels::loops::nest::Entry;
use crate::kernels::{Access, Argument, Kernel, Spec};

/// Holds a plan to its invariants; values need no place yet.
///
/// # Errors
/// [`Error::Plan`] with every fault: a bug of a lowering or a pass, or a text that no plan printed.
pub fn verify(plan: &Plan) -> Result<()> {
    if plan.prologue > plan.steps.len() {
        return Err(Error::Plan(vec![format!("prologue: {} of {} steps", plan.prologue, plan.steps.len())]));
    }
    let unnamed: Vec<String> = plan.steps.iter().filter_map(|step| unnamed(plan, step)).collect();
    let faults =
        if unnamed.is_empty() { plan.steps.iter().flat_map(|step| faults(plan, step)).collect() } else { unnamed };
    if faults.is_empty() {
        plan.steps.iter().try_for_each(|step| check_counts(plan, step))
    } else {
        Err(Error::Plan(faults))
    }
}

/// Refuses a step whose kernel would count beyond 32 bits: work units, and for all but loop nests elements, of which rows, channels and
/// turns of loops are parts.
fn check_counts(plan: &Plan, step: &KernelCall) -> Result<()> {
    let most = u64::from(u32::MAX) - 1;
    let within = |what: &str, needed: u64| -> Result<()> {
        match needed > most {
            true => {
                let what = format!("{what} of {} ({})", step.kernel.name, step.node);
                Err(fornax_ir::Error::Limit { what, limit: most, needed, hint: None }.into())
            }
            false => Ok(()),
        }
    };
    within("work units", step.kernel.chunks.into())?;
    if let Spec::Loops(loops) = &step.kernel.spec {
        let below = loops.nest().guards.iter().map(|guard| guard.below as u64).max();
        return within("extent of a padded axis", below.unwrap_or(0));
    }
    for (argument, operand) in step.kernel.arguments.iter().zip(&step.operands) {
        let size = match operand {
            Operand::View(view) => plan.views[view.0].ty.dtype.size(),
            Operand::Constant(ConstId(id)) => match &plan.constants[*id].contents {
                Contents::Packed(source, _) => source.ty.dtype.size(),
                Contents::Generated(_) => size_of::<f32>(),
            },
        };
        within("elements of an operand", (argument.bytes / size) as u64)?;
    }
    Ok(())
}

/// [`verify`], that every value has a place, that constants are known, and that kernels are those of their specs: what emission asks for.
///
/// What a kernel of another family than loop nests does inside of its arguments is taken from its spec: its arguments are what it says.
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
    if let Some(at) = plan.constants.iter().position(|constant| !constant.fits()) {
        let bytes = plan.constants[at].bytes;
        return Err(Error::Plan(vec![format!(
            "constant @{at}: expected the size of its contents, found {bytes} bytes"
        )]));
    }
    let mut faults: Vec<String> = plan.steps.iter().flat_map(|step| emission_faults(plan, step)).collect();
    faults.extend(plan.steps[..plan.prologue].iter().filter_map(|step| varies(plan, step)));
    let scratch = plan.steps.iter().map(|step| step.kernel.scratch).max().unwrap_or(0);
    match faults.is_empty() {
        true if scratch <= plan.scratch_bytes => Ok(()),
        true => Err(Error::Plan(vec![format!("scratch: kernels need {scratch} bytes, has {}", plan.scratch_bytes)])),
        false => Err(Error::Plan(faults)),
    }
}

/// What keeps a step from being emitted.
fn emission_faults(plan: &Plan, step: &KernelCall) -> Option<String> {
    let at = || format!("{}: {}", step.node, step.kernel.name);
    if step.operands.iter().any(|operand| plan.placement(*operand) == Placement::Unplaced) {
        return Some(format!("{}: an operand has no place: the pass `place` has not run", at()));
    }
    if !step.kernel.is_consistent() {
        return Some(format!("{}: expected arguments, work units and scratch of its spec, found others", at()));
    }
    None
}

/// What makes a step of the prologue depend on the run.
fn varies(plan: &Plan, step: &KernelCall) -> Option<String> {
    let at = step.operands.iter().zip(&step.kernel.arguments).find_map(|(operand, argument)| {
        match (plan.placement(*operand), argument.access) {
            (Placement::Input(_) | Placement::Output(_), _) => Some(argument.name),
            (Placement::State(_), Access::Write | Access::Update) => Some(argument.name),
            _ => None,
        }
    })?;
    let (node, kernel) = (&step.node, &step.kernel.name);
    Some(format!("{node}: {kernel}: {at}: expected what no run changes in a step of the prologue"))
}

/// The first thing that a step names and that is not there.
fn unnamed(plan: &Plan, step: &KernelCall) -> Option<String> {
    let at = || format!("{}: {}", step.node, step.kernel.name);
    if step.kernel.arguments.len() != step.operands.len() {
        let (operands, arguments) = (step.operands.len(), step.kernel.arguments.len());
        return Some(format!("{}: {operands} operands for {arguments} arguments", at()));
    }
    let constant = |ConstId(id): ConstId| id < plan.constants.len();
    let known = |operand: &Operand| match *operand {
        Operand::Constant(id) => constant(id),
        Operand::View(view) => {
            let buffer = plan.views.get(view.0).and_then(|view| plan.buffers.get(view.buffer.0));
            buffer.is_some_and(|buffer| match buffer.placement {
                Placement::Constant(id) => constant(id),
                Placement::Input(port) => port < plan.inputs.len(),
                Placement::Output(port) => port < plan.outputs.len(),
                Placement::Unplaced | Placement::Arena(_) | Placement::State(_) => true,
            })
        }
    };
    let unknown = step.operands.iter().position(|operand| !known(operand))?;
    Some(format!("{}: operand {unknown} leads to a view, buffer, constant or port that is not there", at()))
}

fn faults(plan: &Plan, step: &KernelCall) -> Vec<String> {
    let (kernel, mut faults) = (&step.kernel, Vec::new());
    let at = format!("{}: {}", step.node, kernel.name);
    if let Spec::Loops(loops) = &kernel.spec {
        let nest = loops.nest();
        let entries = |table: usize| positions(plan, *step.operands.get(nest.inputs.len() + table)?);
        let found = [nest.check_kinds(), nest.check_bounds(entries)];
        faults.extend(found.into_iter().filter_map(Result::err).map(|fault| format!("{at}: {fault}")));
    }
    for (index, (argument, operand)) in kernel.arguments.iter().zip(&step.operands).enumerate() {
        let (bytes, place) = (plan.extent(*operand), (plan.placement(*operand), plan.offset(*operand)));
        if bytes < argument.bytes {
            faults.push(format!("{at}: {} needs {} bytes, has {bytes}", argument.name, argument.bytes));
        }
        if matches!(place.0, Placement::Constant(_) | Placement::Input(_)) && argument.access != Access::Read {
            faults.push(format!("{at}: {} is written, but read-only", argument.name));
        }
        faults.extend(outside(plan, argument, place).map(|fault| format!("{at}: {}: {fault}", argument.name)));
        if trusts(kernel, index) && !is_table(plan, *operand) {
            faults.push(format!("{at}: {}: expected a table of positions, found other values", argument.name));
        }
    }
    faults
}

/// Why an argument does not fit into the memory at its place.
fn outside(plan: &Plan, argument: &Argument, (placement, within): (Placement, usize)) -> Option<String> {
    let needed = argument.bytes;
    if !within.is_multiple_of(argument.element.size()) {
        return Some(format!("expected to begin with an element of {}, found {within} bytes", argument.element));
    }
    let block = |offset: usize, total: usize, name: &str| {
        let end = offset.checked_add(within).and_then(|begin| begin.checked_add(needed));
        let inside = end.is_some_and(|end| end <= total) && offset.is_multiple_of(ALIGN);
        (!inside).then(|| match within {
            0 => format!("{needed} bytes at {offset} of {name} of {total}"),
            within => format!("{needed} bytes at {offset}+{within} of {name} of {total}"),
        })
    };
    let port = |total: usize, name: &str| match within {
        0 => (needed > total).then(|| format!("{needed} bytes of {name} of {total}")),
        within => Some(format!("expected to begin with {name}, found {within} bytes within")),
    };
    match placement {
        Placement::Unplaced => None,
        Placement::Arena(offset) => block(offset, plan.arena_bytes, "an arena"),
        Placement::State(offset) => block(offset, plan.state_bytes(), "a state"),
        Placement::Input(at) => port(plan.inputs[at].ty.bytes(), "an input"),
        Placement::Output(at) => port(plan.outputs[at].ty.bytes(), "an output"),
        Placement::Constant(ConstId(id)) => port(plan.constants[id].bytes, "a constant"),
    }
}

/// Whether a kernel takes the elements of argument `index` for positions as they are, without clamping them.
fn trusts(kernel: &Kernel, index: usize) -> bool {
    let Spec::Loops(loops) = &kernel.spec else { return false };
    let nest = loops.nest();
    let table = index.checked_sub(nest.inputs.len()).and_then(|table| nest.tables.get(table));
    table.is_some_and(|table| table.entry == Entry::Skip)
}

/// Whether an operand is a table of positions that a lowering made.
fn is_table(plan: &Plan, operand: Operand) -> bool {
    match plan.placement(operand) {
        Placement::Constant(ConstId(id)) => {
            matches!(plan.constants[id].contents, Contents::Generated(Generated::Indices(_)))
        }
        _ => false,
    }
}

/// The smallest and largest entry of a table of positions that a lowering made, if they are known.
fn positions(plan: &Plan, operand: Operand) -> Option<(i64, i64)> {
    match plan.placement(operand) {
        Placement::Constant(ConstId(id)) => match &plan.constants[id].contents {
            Contents::Generated(Generated::Indices(list)) => list.range(),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Loops;
    use crate::kernels::loops::nest::{Affine, Inst, LoopNest, Output};
    use crate::pipeline;
    use crate::target::Target;
    use fornax_ir::graph::parse;
    use fornax_ir::scalar::BinaryFn;
    use fornax_ir::types::DType;

    fn plan(text: &str) -> Plan {
        pipeline::plan_of(&parse(text).unwrap(), &Target::host().unwrap()).unwrap()
    }

    fn unary() -> Plan {
        plan("graph @g(%x: f32[4,64]) { %a = exp %x %m = softmax %a {axis=1} return %m as \"y\" }")
    }

    /// Changes a plan that is right and tells what is wrong with it then.
    fn broken(mut plan: Plan, change: impl FnOnce(&mut Plan)) -> String {
        verify_placed(&plan).unwrap();
        change(&mut plan);
        let (placed, compiled) = (verify_placed(&plan).unwrap_err(), crate::emit::jit::compile(&plan).unwrap_err());
        assert_eq!(placed, compiled, "code is made of valid plans only");
        placed.to_string()
    }

    #[test]
    fn ports_are_as_large_as_what_kernels_touch() {
        let error = broken(unary(), |plan| plan.inputs[0].ty.shape = [1].into());
        assert!(error.contains("1024 bytes of an input of 4"), "{error}");
        let error = broken(unary(), |plan| plan.outputs[0].ty.shape = [1].into());
        assert!(error.contains("1024 bytes of an output of 4"), "{error}");
        let error = broken(unary(), |plan| {
            plan.inputs.clear();
        });
        assert!(error.contains("port that is not there"), "{error}");
    }

    #[test]
    fn scratch_and_arena_hold_what_kernels_need() {
        let error = broken(unary(), |plan| plan.scratch_bytes = 0);
        assert!(error.contains("kernels need 128 bytes, has 0"), "{error}");
        let error = broken(unary(), |plan| {
            plan.steps.iter_mut().for_each(|step| step.kernel.scratch = 0);
            plan.scratch_bytes = 0;
        });
        assert!(error.contains("of its spec"), "{error}");
        let error = broken(unary(), |plan| plan.arena_bytes = 0);
        assert!(error.contains("of an arena of 0"), "{error}");
    }

    #[test]
    fn operands_are_what_kernels_take() {
        let error = broken(unary(), |plan| plan.steps[0].operands.swap(0, 1));
        assert!(error.contains("is written, but read-only"), "{error}");
        let error = broken(unary(), |plan| plan.steps[0].operands[0] = super::super::ViewId(1000).into());
        assert!(error.contains("operand 0 leads to a view"), "{error}");
        let error = broken(unary(), |plan| plan.steps[0].kernel.arguments[0].bytes = 4);
        assert!(error.contains("expected arguments"), "{error}");
        let error = broken(unary(), |plan| plan.steps[0].kernel.chunks += 1);
        assert!(error.contains("expected arguments"), "{error}");
    }

    #[test]
    fn views_begin_where_their_memory_allows() {
        let within = |operand: usize, offset: usize| {
            broken(unary(), |plan| match plan.steps[0].operands[operand] {
                Operand::View(view) => plan.views[view.0].offset = offset,
                Operand::Constant(_) => panic!("a view"),
            })
        };
        let error = within(0, 4);
        assert!(error.contains("expected to begin with an input, found 4 bytes within"), "{error}");
        let error = within(1, 2);
        assert!(error.contains("expected to begin with an element of f32, found 2 bytes"), "{error}");
        for offset in [64, usize::MAX - 3] {
            let error = within(1, offset);
            assert!(error.contains("y needs 1024 bytes, has"), "{error}");
        }
    }

    #[test]
    fn counts_beyond_32_bits_are_refused() {
        let softmax = |rows: u64| {
            let text = format!("graph @g(%x: f32[{rows},1]) {{ %y = softmax %x {{axis=1}} return %y as \"y\" }}");
            pipeline::plan_of(&parse(&text).unwrap(), &Target::host().unwrap())
        };
        assert!(softmax((1 << 32) - 2).is_ok());
        for rows in [(1 << 32) - 1, 1 << 32, 1 << 40] {
            let error = softmax(rows).unwrap_err();
            assert!(
                matches!(&error, Error::Graph(fornax_ir::Error::Limit { needed, .. }) if *needed == rows),
                "{error}"
            );
        }
    }

    #[test]
    fn tables_of_positions_stay_tables() {
        let pad =
            || plan("graph @g(%x: f32[4,64]) { %y = pad %x {mode=reflect, pads=[1, 1, 1, 1]} return %y as \"y\" }");
        let swapped = |plan: &mut Plan| {
            let step = plan.steps.iter_mut().find(|step| (0..step.operands.len()).any(|at| trusts(&step.kernel, at)));
            let step = step.expect("a step with a table");
            let at = (0..step.operands.len()).find(|at| trusts(&step.kernel, *at)).unwrap();
            step.operands[at] = step.operands[0];
        };
        let error = broken(pad(), swapped);
        assert!(error.contains("expected a table of positions"), "{error}");
    }

    #[test]
    fn tables_of_positions_lead_inside() {
        let gaps = |extent: usize| {
            let node = "pad %x {mode=reflect, pads=[1, 1, 1, 1]}";
            plan(&format!("graph @g(%x: f32[{extent},64]) {{ %y = {node} return %y as \"y\" }}"))
        };
        let swapped = |plan: &mut Plan| {
            let larger = gaps(64);
            let table = larger.steps.iter().find_map(|step| {
                let trusted = (0..step.operands.len()).find(|at| trusts(&step.kernel, *at))?;
                let Operand::Constant(ConstId(id)) = step.operands[trusted] else { return None };
                Some(larger.constants[id].clone())
            });
            let step = plan.steps.iter().position(|step| (0..step.operands.len()).any(|at| trusts(&step.kernel, at)));
            let at = (0..).find(|at| trusts(&plan.steps[step.unwrap()].kernel, *at)).unwrap();
            plan.constants.push(table.unwrap());
            plan.steps[step.unwrap()].operands[at] = Operand::Constant(ConstId(plan.constants.len() - 1));
        };
        let error = broken(gaps(4), swapped);
        assert!(error.contains("x: expected elements of 256, found"), "{error}");
    }

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
