//! The plan of a gradients graph within a bound on memory.
//!
//! In: the graph, and how much memory its variables and its arena may take. Out: its plan: as it is if that fits, else one that computes
//! again what the backward half reads, about as little of it as makes it fit (the pass `rematerialize`). What is computed again changes no bit.

use fornax_compiler::Target;
use fornax_compiler::pipeline::{CompileOptions, Planned, kept_bytes, plan_for, plan_of, run_pass};
use fornax_ir::graph::Graph;

use crate::error::{Error, Result};

/// Times what is missing that is kept less, one after the other; the last time nothing is kept that need not be.
const TRIED: [f64; 5] = [1.2, 1.6, 2.4, 4.0, f64::INFINITY];

/// How much memory a step may take.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct StepBound {
    /// Of parameters, states and what is kept within a call together, bytes.
    pub bytes: u64,
    /// What share of a call's multiply-adds may be computed again for that.
    pub recompute: f64,
    /// Bytes up to which the step is taken as it is if that is not enough; at least [`Self::bytes`] to have a meaning.
    pub as_it_is: u64,
}

impl StepBound {
    /// None.
    pub const NONE: Self = Self { bytes: u64::MAX, recompute: 0.0, as_it_is: u64::MAX };
}

/// The plan of `graph`.
///
/// # Errors
/// [`Error::Limit`] with the least that was found to be possible; [`Error::Compiler`] as for any plan.
pub(super) fn planned(graph: Graph, target: &Target, options: &CompileOptions, bound: StepBound) -> Result<Planned> {
    let variables: u64 = graph.variables().iter().map(|id| graph.ty(*id).bytes() as u64).sum();
    let mut whole = plan_for(graph, std::slice::from_ref(target), options)?;
    let needed = |planned: &Planned| -> u64 {
        let arenas = planned.plans.iter().map(|plan| plan.arena_bytes as u64);
        variables + arenas.sum::<u64>()
    };
    let all = needed(&whole);
    if all <= bound.bytes {
        return Ok(whole);
    }
    let mut least = all;
    if bound.recompute > 0.0 {
        let (kept, operations) = (kept_bytes(&whole.graph)?, operations(&whole.graph));
        for times in TRIED {
            let less = (all - bound.bytes) as f64 * times;
            let (graph, remarks) = run_pass(whole.graph.clone(), "rematerialize", kept.saturating_sub(less as u64))?;
            let figures = remarks.iter().flat_map(|remark| &remark.figures);
            let again: f64 = figures.filter(|(name, _)| *name == "operations").map(|(_, value)| value).sum();
            if again > bound.recompute * operations {
                break;
            }
            let plan = whole.times.stage("rematerialize", || plan_of(&graph, target))?;
            let found = Planned { graph, plans: vec![plan], remarks, times: std::mem::take(&mut whole.times) };
            least = least.min(needed(&found));
            if needed(&found) <= bound.bytes {
                return Ok(found);
            }
            whole.times = found.times;
        }
    }
    match all <= bound.as_it_is {
        true => Ok(whole),
        false => Err(Error::Limit { what: "bytes of a training step", limit: bound.bytes, needed: least }),
    }
}

/// Multiply-adds of a graph.
fn operations(graph: &Graph) -> f64 {
    let of_node = |id| {
        let operands = graph.operands(id);
        let types: Vec<_> = operands.iter().map(|operand| graph.ty(*operand)).collect();
        graph.node(id).op().map_or(0, |op| op.macs(&types, graph.ty(id)))
    };
    graph.ids().map(|id| of_node(id) as f64).sum()
}
