//! The whole way from a graph to a program, as one list of named stages.
//!
//! ```text
//!  graph ──▶ graph passes ──▶ lower ──▶ plan passes ──▶ emit ──▶ program or library
//!            fornax_ir::pipeline         plan::passes
//! ```
//!
//! In: a graph as a frontend built it, the targets. Out: what the stages make of it up to the one asked for, the remarks of all of them
//! and their times. Both ways of emission start from the same [`Planned`]: [`compile`] emits into memory,
//! [`crate::emit::aot::compile`] the plans of several targets and shapes into a library.

use crate::emit::jit;
use crate::error::{Error, Result};
use crate::lower::lower;
use crate::plan::{self, Plan};
use crate::target::Target;
use crate::times::Times;
use fornax_ir::Remark;
use fornax_ir::graph::Graph;
use fornax_runtime::Program;

pub use crate::numerics::{Numerics, Precision};
pub use fornax_ir::pipeline::{Optimised, PASSES, Pass, PipelineOptions, Snapshot, kept_bytes, optimise, run_pass};

/// How to compile.
#[derive(Clone, Debug, Default)]
pub struct CompileOptions {
    /// How to optimise the graph, and which stage is the last.
    pub graph: PipelineOptions,
    /// Compute every value as it is defined, without algorithms that round differently and carry errors from one element to others
    /// (the Winograd form of convolutions).
    pub exact: bool,
    /// What convolutions compute in.
    pub precision: Precision,
}

impl CompileOptions {
    fn numerics(&self) -> Numerics {
        Numerics { exact: self.exact, precision: self.precision }
    }
}

impl From<PipelineOptions> for CompileOptions {
    fn from(graph: PipelineOptions) -> Self {
        Self { graph, ..Self::default() }
    }
}

/// What a stage works on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// Graph to graph.
    Graph,
    /// Graph to plan.
    Lower,
    /// Plan to plan.
    Plan,
    /// Plan to machine code.
    Emit,
}

impl Form {
    /// Its name in lists.
    pub fn name(self) -> &'static str {
        match self {
            Self::Graph => "graph",
            Self::Lower => "graph to plan",
            Self::Plan => "plan",
            Self::Emit => "plan to code",
        }
    }
}

/// A stage.
#[derive(Clone, Copy, Debug)]
pub struct Stage {
    /// Its name: what `--after` and `--time-passes` call it.
    pub name: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// What it works on.
    pub form: Form,
}

/// Every stage, in the order in which they run.
pub fn stages() -> impl Iterator<Item = Stage> {
    let graph = PASSES.iter().map(|pass| Stage { name: pass.name, about: pass.about, form: Form::Graph });
    let lower = Stage { name: "lower", about: "choose kernels and physical layouts for a target", form: Form::Lower };
    let plan = plan::passes::PASSES.iter().map(|p| Stage { name: p.name, about: p.about, form: Form::Plan });
    let emit =
        Stage { name: "emit", about: "write each distinct kernel once, and pack the constants", form: Form::Emit };
    graph.chain([lower]).chain(plan).chain([emit])
}

/// The stage of this name.
///
/// # Errors
/// [`fornax_ir::Error::Invalid`] with all names.
pub fn stage(name: &str) -> Result<Stage> {
    stages().find(|stage| stage.name == name).ok_or_else(|| {
        let known: Vec<&str> = stages().map(|stage| stage.name).collect();
        fornax_ir::Error::Invalid(vec![format!("stage: expected one of {}, found {name}", known.join(" "))]).into()
    })
}

/// A network after graph passes, lowering and plan passes, or after the stage that the options name.
#[derive(Clone, Debug)]
pub struct Planned {
    /// The graph after the graph passes that ran.
    pub graph: Graph,
    /// A plan for each target; none if a graph pass was the last stage.
    pub plans: Vec<Plan>,
    /// Remarks of the graph passes; those of the later stages are in each plan.
    pub remarks: Vec<Remark>,
    /// Every stage that ran and the time it took, for all targets together.
    pub times: Times,
}

/// Runs every stage before emission, or up to `options.graph.after`.
///
/// # Errors
/// A graph or plan that breaks an invariant, a limit, an operator without kernel, or an unknown name in `options.graph.after`.
pub fn plan_for(graph: Graph, targets: &[Target], options: &CompileOptions) -> Result<Planned> {
    let (numerics, options) = (options.numerics(), &options.graph);
    let last = options.after.as_deref().map(stage).transpose()?;
    let in_graph = last.filter(|stage| stage.form == Form::Graph);
    let after = in_graph.map(|stage| stage.name.to_string());
    let optimised = optimise(graph, &PipelineOptions { after, ..options.clone() })?;
    let mut times = Times::default();
    optimised.snapshots.iter().for_each(|snapshot| times.add(snapshot.pass, snapshot.time));
    let mut planned = Planned { graph: optimised.graph, plans: Vec::new(), remarks: optimised.remarks, times };
    if in_graph.is_some() {
        return Ok(planned);
    }
    let lowered = |target| lower(&planned.graph, target, numerics);
    planned.plans = planned.times.stage("lower", || targets.iter().map(lowered).collect::<Result<_>>())?;
    let check = options.verify || cfg!(debug_assertions);
    let last = last.map_or("", |stage| stage.name);
    if last != "lower" {
        run_plan_passes(&mut planned.plans, last, check, &mut planned.times)?;
    }
    Ok(planned)
}

/// Runs the passes over plans, up to the one called `last` if there is one of that name.
fn run_plan_passes(plans: &mut [Plan], last: &str, check: bool, times: &mut Times) -> Result<()> {
    for pass in plan::passes::PASSES {
        times.stage(pass.name, || plans.iter_mut().for_each(pass.run));
        if check {
            plans.iter().try_for_each(|plan| plan::verify(plan).map_err(|e| after(pass.name, e)))?;
        }
        if pass.name == last {
            break;
        }
    }
    Ok(())
}

/// The plan of an optimised graph, not held to be exact: lowering and the passes over the plan.
///
/// # Errors
/// As [`plan_for`].
pub fn plan_of(graph: &Graph, target: &Target) -> Result<Plan> {
    plan_in(graph, target, Numerics::default())
}

/// As [`plan_of`], with the choices of `numerics`.
///
/// # Errors
/// As [`plan_for`].
pub fn plan_in(graph: &Graph, target: &Target, numerics: Numerics) -> Result<Plan> {
    let mut plan = lower(graph, target, numerics)?;
    run_plan_passes(std::slice::from_mut(&mut plan), "", cfg!(debug_assertions), &mut Times::default())?;
    Ok(plan)
}

/// Runs one pass over a plan by itself.
///
/// # Errors
/// An unknown name; a plan that breaks an invariant before or after the pass.
pub fn run_plan_pass(plan: &mut Plan, name: &str) -> Result<()> {
    let pass = plan::passes::PASSES.iter().find(|pass| pass.name == name);
    let pass = pass.ok_or_else(|| Error::Plan(vec![format!("pass: expected one over plans, found {name}")]))?;
    plan::verify(plan)?;
    (pass.run)(plan);
    plan::verify(plan).map_err(|e| after(name, e))
}

/// Says after which pass an invariant was broken.
fn after(pass: &str, error: Error) -> Error {
    match error {
        Error::Plan(faults) => Error::Plan(faults.iter().map(|fault| format!("after {pass}: {fault}")).collect()),
        other => other,
    }
}

impl Planned {
    /// The last stage: the first plan into memory, on at most `threads` threads. Its target must be a machine like this one.
    ///
    /// # Errors
    /// As [`jit::compile`]; [`Error::Plan`] if there is no plan.
    pub fn emit(&mut self, threads: usize) -> Result<Program> {
        let plan =
            self.plans.first().ok_or_else(|| Error::Plan(vec!["emit: expected a plan, found a graph".into()]))?;
        jit::compile_on(threads, plan, &mut self.times)
    }
}

/// A network compiled into memory.
#[derive(Debug)]
pub struct Compiled {
    /// The graph after the graph passes.
    pub graph: Graph,
    /// The plan, unless a graph pass was the last stage.
    pub plan: Option<Plan>,
    /// The program, if `emit` has run.
    pub program: Option<Program>,
    /// What every stage chose and declined.
    pub remarks: Vec<Remark>,
    /// Every stage that ran and its time; those of `emit` in parts.
    pub times: Times,
}

/// Runs every stage, or up to `options.graph.after`, on at most `threads` threads. The target must be a machine like this one.
///
/// # Errors
/// As [`plan_for`] and [`jit::compile`].
pub fn compile(graph: Graph, target: &Target, options: &CompileOptions, threads: usize) -> Result<Compiled> {
    let emits = options.graph.after.as_deref().is_none_or(|name| name == "emit");
    let mut planned = plan_for(graph, std::slice::from_ref(target), options)?;
    let program = if emits { Some(planned.emit(threads)?) } else { None };
    let Planned { graph, mut plans, mut remarks, times } = planned;
    let plan = plans.pop();
    remarks.extend(plan.iter().flat_map(|plan| plan.remarks.iter().cloned()));
    Ok(Compiled { graph, plan, program, remarks, times })
}

#[cfg(test)]
mod tests {
    use super::*;
    use fornax_ir::graph::parse;

    fn graph() -> Graph {
        parse(
            "graph @g(%x: f32[64]) { %a = identity %x %b = sigmoid %a %c = exp %b %y = mul %a, %c return %y as \"y\" }",
        )
        .unwrap()
    }

    fn after(name: &str) -> Compiled {
        let options = PipelineOptions { after: Some(name.into()), ..PipelineOptions::default() };
        compile(graph(), &Target::host().unwrap(), &options.into(), 1).unwrap()
    }

    #[test]
    fn every_stage_has_a_name_of_its_own_and_can_be_the_last() {
        let names: Vec<&str> = stages().map(|stage| stage.name).collect();
        for (at, stage) in stages().enumerate() {
            assert!(!names[..at].contains(&stage.name), "{}", stage.name);
            let compiled = after(stage.name);
            assert_eq!(compiled.plan.is_some(), stage.form != Form::Graph, "{}", stage.name);
            assert_eq!(compiled.program.is_some(), stage.form == Form::Emit, "{}", stage.name);
            let ran: Vec<&str> = compiled.times.iter().map(|(name, _)| name).collect();
            let expected = if stage.form == Form::Emit { at } else { at + 1 };
            assert_eq!(ran[..expected], names[..expected], "{}", stage.name);
        }
    }

    #[test]
    fn an_unknown_stage_is_named() {
        let options = PipelineOptions { after: Some("unroll".into()), ..PipelineOptions::default() };
        let error = plan_for(graph(), &[Target::host().unwrap()], &options.into()).unwrap_err().to_string();
        assert!(
            error.contains("fuse_mbconv rematerialize lower fuse_chains") && error.ends_with("found unroll"),
            "{error}"
        );
    }

    #[test]
    fn steps_know_what_of_the_model_they_compute() {
        let text = r#"graph @g(%x: f32[64]) {
          %a = exp %x  ; from "first"
          %b = neg %a  ; from "second", "third"
          return %b as "y"
        }"#;
        let target = Target::host().unwrap();
        let plan = plan_of(&parse(text).unwrap(), &target).unwrap();
        assert_eq!(plan.steps.len(), 1);
        assert_eq!(plan.steps[0].origins, ["first", "second", "third"]);
        let said: Vec<&str> = plan.remarks.iter().map(|remark| remark.stage).collect();
        assert_eq!(said, ["fuse_chains", "place"]);
    }

    #[test]
    fn only_what_has_a_place_is_emitted() {
        let mut lowered = lower(&graph(), &Target::host().unwrap(), Numerics::default()).unwrap();
        let error = jit::compile(&lowered).unwrap_err().to_string();
        assert!(error.contains("an operand has no place"), "{error}");
        lowered.steps[0].operands.pop();
        assert!(run_plan_pass(&mut lowered, "place").unwrap_err().to_string().contains("operands for"));
    }
}
