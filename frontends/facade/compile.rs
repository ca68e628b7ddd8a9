//! From a graph to a program: passes, lowering, code, and what is counted on the way.
//!
//! In: a graph, and [`Options`]. Out: an optimised graph, a plan, a [`Compiled`] program.

use std::sync::Arc;
use std::time::Instant;

use fornax_compiler::pipeline::{self, CompileOptions, Optimised, PipelineOptions, Planned, Precision};
use fornax_compiler::{Target, Times, distinct_kernels};
use fornax_ir::graph::Graph;

use super::compiled::Compiled;
use super::options::Options;
use super::stats::{Counts, Stats, scores};
use crate::error::{Error, Result};

/// This machine.
pub(crate) fn host() -> Result<Target> {
    Target::host().map_err(|found| Error::usage("architecture", "x86_64 or aarch64", found))
}

/// The machine asked for, or this one, on a level that this process may use for the precision asked for.
pub(crate) fn target(options: &Options) -> Result<Target> {
    match (&options.target, options.precision) {
        (Some(target), _) => Ok(target.clone()),
        (None, Precision::F32) => host(),
        (None, Precision::Bf16) => host().map(Target::usable),
    }
}

/// The graph after the graph passes, or after the one named `after`.
pub(crate) fn optimise(graph: Graph, after: Option<&str>, options: &Options) -> Result<Optimised> {
    Ok(pipeline::optimise(graph, &stages(after, options))?)
}

fn stages(after: Option<&str>, options: &Options) -> PipelineOptions {
    PipelineOptions { verify: options.verify, after: after.map(str::to_string), ..Default::default() }
}

fn options_for(after: Option<&str>, options: &Options) -> CompileOptions {
    CompileOptions { graph: stages(after, options), exact: options.exact, precision: options.precision }
}

/// Graph and plans after every stage before emission, or after the one named `after`.
///
/// # Errors
/// [`Error::Compiler`]; [`Error::Limit`] if the arena of a plan is too large.
pub(crate) fn planned(graph: Graph, targets: &[Target], after: Option<&str>, options: &Options) -> Result<Planned> {
    planned_with(graph, targets, &options_for(after, options), options)
}

/// [`planned`] with options of the stages' own, and the bounds of `options`.
pub(crate) fn planned_with(
    graph: Graph,
    targets: &[Target],
    compile: &CompileOptions,
    options: &Options,
) -> Result<Planned> {
    let planned = pipeline::plan_for(graph, targets, compile)?;
    planned.plans.iter().try_for_each(|plan| check_arena(plan.arena_bytes, options))?;
    Ok(planned)
}

/// Refuses an arena beyond the bound.
pub(crate) fn check_arena(bytes: usize, options: &Options) -> Result<()> {
    match (options.arena_bytes, bytes as u64) {
        (limit, needed) if needed > limit => Err(Error::Limit { what: "arena bytes", limit, needed }),
        _ => Ok(()),
    }
}

/// What a graph amounts to.
pub(crate) fn stats(graph: Graph, target: &Target, options: &Options) -> Result<Stats> {
    let counts = Counts::of(&graph)?;
    let planned = planned(graph, std::slice::from_ref(target), None, options)?;
    Ok(Stats::new(&counts, &planned.graph, &planned.plans[0]))
}

/// Compiles a graph into memory on at most `threads` threads; `release` gives back what reading the model's file has mapped.
///
/// # Errors
/// [`Error::Usage`] if `target` is not a machine like this one; [`Error::Compiler`], [`Error::Limit`].
pub(crate) fn compile(
    graph: Graph,
    target: &Target,
    options: &Options,
    threads: usize,
    release: impl Fn(),
    (begun, mut times): (Instant, Times),
) -> Result<Compiled> {
    let host = host()?;
    if !target.runs_here() {
        let found = target.to_string();
        return Err(Error::usage("target", format!("one that this machine ({host}) can run"), found));
    }
    let counts = times.stage("count", || Counts::of(&graph))?;
    let mut planned = planned(graph, std::slice::from_ref(target), None, options)?;
    // What decoding has touched: packing reads the file from its beginning and gives it back as it goes.
    times.stage("release", &release);
    let program = planned.emit(threads)?;
    release();
    let Planned { mut graph, plans, times: stages, .. } = planned;
    times.extend(&stages);
    let (scores, stats) = times.stage("summary", || (scores(&graph), Stats::new(&counts, &graph, &plans[0])));
    let kernels = distinct_kernels(&plans[0]).0.len();
    let (program, notes, time) = (Arc::new(program), std::mem::take(&mut graph.notes), begun.elapsed());
    Ok(Compiled { program, scores, kernels, stats, notes, values: Vec::new(), times, time })
}
