//! The passes, in order, and the driver that runs them.
//!
//! In: a graph as a frontend built it. Out: the graph that lowering reads, and the remarks of every pass. The driver
//! verifies, times and keeps snapshots between passes; a pass only rewrites.

use std::time::{Duration, Instant};

use crate::error::{Error, Result};
use crate::graph::Graph;
use crate::graph::{verify, verify_sizes};
pub use crate::passes::rematerialize::kept_bytes;
use crate::passes::{
    Context, fold_batch_norm, fold_constants, fold_pad, fold_quantised, fuse_activation, fuse_data_gradient, fuse_gate,
    fuse_gemm, fuse_grouped_conv, fuse_mbconv, fuse_residual, fuse_slope, fuse_squeeze_excite, recognize_activation,
    rematerialize, remove_identity,
};
use crate::remark::Remark;

/// A pass: a graph in, a graph that computes the same out.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// Its name: the file, the argument of `--after`, the folder of its tests.
    pub name: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    /// The pass itself.
    pub(crate) run: fn(Graph, &mut Context) -> Result<Graph>,
}

/// Every pass, in the order in which they run.
pub const PASSES: &[Pass] = &[
    // First, so that no later pattern has to look through nodes without effect.
    Pass {
        name: "remove_identity",
        about: "drop nodes that change nothing or feed nothing",
        run: remove_identity::run,
    },
    // Before fold_constants, which would dequantise weights.
    Pass {
        name: "fold_quantised",
        about: "products of dequantised operands become those of integers",
        run: fold_quantised::run,
    },
    // Before all that asks for constant weights: exporters leave transposes and reshapes of them.
    Pass { name: "fold_constants", about: "evaluate what does not depend on inputs", run: fold_constants::run },
    // Before fold_batch_norm, which would take the scalars of a spelled activation into the weights before it.
    Pass {
        name: "recognize_activation",
        about: "name activations spelled in arithmetic",
        run: recognize_activation::run,
    },
    Pass { name: "fold_pad", about: "move zero padding into convolutions and pooling", run: fold_pad::run },
    // Before fold_batch_norm, which scales gemm but not matmul.
    Pass { name: "fuse_gemm", about: "matrix product and bias become gemm", run: fuse_gemm::run },
    // Before fuse_activation: a convolution that ends in an activation cannot be scaled.
    Pass { name: "fold_batch_norm", about: "fold scales and shifts into weights", run: fold_batch_norm::run },
    Pass {
        name: "fuse_activation",
        about: "end convolutions and products in their activation",
        run: fuse_activation::run,
    },
    // After fold_batch_norm and fuse_activation, which go into the parts; before fuse_residual, which finds the whole.
    Pass {
        name: "fuse_grouped_conv",
        about: "convolutions of slices, concatenated, become one of groups",
        run: fuse_grouped_conv::run,
    },
    // After fuse_activation, which decides whether the activation comes before the addition.
    Pass { name: "fuse_residual", about: "add residuals inside convolutions", run: fuse_residual::run },
    // After fuse_activation, which takes activations that no gradient passes, and fuse_residual: sums come before activations.
    Pass { name: "fuse_slope", about: "keep slopes of activations in place of their arguments", run: fuse_slope::run },
    // After fuse_slope, which makes gradients of activations products.
    Pass {
        name: "fuse_data_gradient",
        about: "end data gradients of convolutions in what passes them on",
        run: fuse_data_gradient::run,
    },
    Pass {
        name: "fuse_gate",
        about: "gate the sums of weight gradients in place of what they are sums of",
        run: fuse_gate::run,
    },
    // After fuse_activation: it looks for projections that end in activation and gate.
    Pass {
        name: "fuse_squeeze_excite",
        about: "mean, projections and gate become one node",
        run: fuse_squeeze_excite::run,
    },
    // After all others but the next: it is made of all of the above.
    Pass { name: "fuse_mbconv", about: "inverted residual blocks become one node", run: fuse_mbconv::run },
    // Last: what is kept and what it costs to compute it again is that of the final operators.
    Pass {
        name: "rematerialize",
        about: "compute again what the backward half would keep too much of",
        run: rematerialize::run,
    },
];

/// How to optimise.
#[derive(Clone, Debug)]
pub struct PipelineOptions {
    /// Bound on constant folding: elements read, written and multiplied.
    pub fold_limit: u64,
    /// Bound on what the backward half of a training graph keeps of the forward half, in bytes; see `rematerialize`.
    pub kept_bytes: u64,
    /// Verify the graph between passes; builds with debug assertions always do.
    pub verify: bool,
    /// Stop after the pass of this name.
    pub after: Option<String>,
    /// Keep the graph after every pass.
    pub snapshots: bool,
}

impl Default for PipelineOptions {
    fn default() -> Self {
        Self { fold_limit: 1 << 26, kept_bytes: u64::MAX, verify: false, after: None, snapshots: false }
    }
}

/// What one pass did.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The pass.
    pub pass: &'static str,
    /// How long it took, without verification.
    pub time: Duration,
    /// How many changes it made.
    pub changes: usize,
    /// The graph after it, where the options ask for it.
    pub graph: Option<Graph>,
}

/// The result of [`optimise`].
#[derive(Clone, Debug)]
pub struct Optimised {
    /// The graph after the last pass.
    pub graph: Graph,
    /// Choices and refusals of every pass, in order.
    pub remarks: Vec<Remark>,
    /// One entry per pass that ran.
    pub snapshots: Vec<Snapshot>,
}

/// Runs the passes.
///
/// # Errors
/// A graph that breaks an invariant before or after a pass, a limit, or an unknown name in `options.after`.
pub fn optimise(mut graph: Graph, options: &PipelineOptions) -> Result<Optimised> {
    let check = options.verify || cfg!(debug_assertions);
    let passes = selected(options.after.as_deref())?;
    if check {
        verify(&graph)?;
    } else {
        verify_sizes(&graph)?;
    }
    let (mut remarks, mut snapshots) = (Vec::new(), Vec::new());
    for pass in passes {
        let mut cx = Context { kept_bytes: options.kept_bytes, ..Context::new(pass.name, options.fold_limit) };
        let start = Instant::now();
        graph = step(pass, graph, &mut cx)?;
        let time = start.elapsed();
        if check {
            verify(&graph).map_err(|e| after(pass.name, e))?;
        }
        // A later pass that runs an earlier one's rule again says nothing new where it is refused again.
        cx.remarks.retain(|remark| !remarks.iter().any(|said| remark.repeats(said)));
        remarks.append(&mut cx.remarks);
        let kept = options.snapshots.then(|| graph.clone());
        snapshots.push(Snapshot { pass: pass.name, time, changes: cx.changes, graph: kept });
    }
    Ok(Optimised { graph, remarks, snapshots })
}

/// Runs one pass by itself; `limit` is the bound on what it folds, or lets a graph keep.
///
/// # Errors
/// As [`optimise`].
pub fn run_pass(graph: Graph, name: &str, limit: u64) -> Result<(Graph, Vec<Remark>)> {
    let pass = selected(Some(name))?.last().copied().ok_or_else(|| unknown(name))?;
    let mut cx = Context { kept_bytes: limit, ..Context::new(pass.name, limit) };
    let graph = step(&pass, graph, &mut cx)?;
    verify(&graph).map_err(|e| after(pass.name, e))?;
    Ok((graph, cx.remarks))
}

/// One pass; where it changed something, ids are put back in reading order, which later stages keep.
fn step(pass: &Pass, graph: Graph, cx: &mut Context) -> Result<Graph> {
    let graph = (pass.run)(graph, cx)?;
    if cx.changes > 0 { graph.renumbered() } else { Ok(graph) }
}

/// The passes up to and including `last`.
fn selected(last: Option<&str>) -> Result<&'static [Pass]> {
    let Some(name) = last else { return Ok(PASSES) };
    match PASSES.iter().position(|pass| pass.name == name) {
        Some(i) => Ok(&PASSES[..=i]),
        None => Err(unknown(name)),
    }
}

fn unknown(name: &str) -> Error {
    let known: Vec<&str> = PASSES.iter().map(|pass| pass.name).collect();
    Error::Invalid(vec![format!("pass: expected one of {}, found {name}", known.join(" "))])
}

/// Says after which pass an invariant was broken.
fn after(pass: &str, error: Error) -> Error {
    match error {
        Error::Invalid(faults) => Error::Invalid(faults.iter().map(|f| format!("after {pass}: {f}")).collect()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::parse;

    fn graph() -> Result<Graph> {
        parse("graph @g(%x: f32[2]) { %a = identity %x %b = sigmoid %a %y = mul %a, %b return %y as \"y\" }")
    }

    #[test]
    fn the_pipeline_stops_after_a_named_pass() -> Result<()> {
        let options =
            PipelineOptions { after: Some("remove_identity".into()), snapshots: true, ..PipelineOptions::default() };
        let optimised = optimise(graph()?, &options)?;
        assert_eq!(optimised.graph.len(), 3);
        assert_eq!(
            optimised.snapshots.iter().map(|s| (s.pass, s.changes)).collect::<Vec<_>>(),
            [("remove_identity", 1)]
        );
        assert!(optimised.snapshots.iter().all(|s| s.graph.as_ref().is_some_and(|g| g.same_as(&optimised.graph))));
        assert_eq!(optimise(graph()?, &PipelineOptions::default())?.graph.len(), 2);
        Ok(())
    }

    #[test]
    fn an_unknown_pass_is_named() -> Result<()> {
        let options = PipelineOptions { after: Some("fold".into()), ..PipelineOptions::default() };
        let error = optimise(graph()?, &options).map(drop).map_err(|e| e.to_string());
        assert!(error.is_err_and(|e| e.contains("remove_identity") && e.ends_with("found fold")));
        Ok(())
    }

    #[test]
    fn an_invalid_graph_is_refused() -> Result<()> {
        let graph = parse("graph @g(%x: f32[2]) { %y = neg %x : f32[3] return %y as \"y\" }")?;
        let options = PipelineOptions { verify: true, ..PipelineOptions::default() };
        assert!(matches!(optimise(graph, &options), Err(Error::Invalid(_))));
        Ok(())
    }
}
