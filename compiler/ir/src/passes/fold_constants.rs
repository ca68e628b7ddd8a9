//! Evaluates operators whose operands are all constants, on the reference evaluator.
//!
//! The elements read, written and multiplied are bounded by the fold limit; what would exceed it stays for the run.
//!
//! Holds: exactly as the evaluator has it, NaN, infinities and signs of zeros included; a kernel may have rounded otherwise.
//! Needs: nothing of the constants.

use super::{Context, Outcome, rewrite};
use crate::error::Result;
use crate::graph::builder::{evaluate, work};
use crate::graph::{Graph, Patch, ValueId};
use crate::types::{Constant, Payload};

/// Runs the pass.
pub fn run(graph: Graph, cx: &mut Context) -> Result<Graph> {
    let mut left = cx.fold_limit;
    rewrite(graph, cx, |graph, id| fold(graph, id, &mut left))
}

fn fold(graph: &Graph, id: ValueId, left: &mut u64) -> Outcome {
    let node = graph.producer(id);
    let operands = graph.operands(id.node);
    let constants: Option<Vec<&Constant>> = operands.iter().map(|o| graph.producer(*o).constant()).collect();
    let (Some(op), Some(constants)) = (node.op(), constants) else { return Outcome::NoMatch };
    if constants.iter().any(|c| matches!(c.payload, Payload::Hash(_))) {
        return Outcome::Declined("an operand is known by its hash only".into());
    }
    let types: Vec<_> = node.results().map(|(_, ty)| ty.clone()).collect();
    let work = work(op, &types, &constants);
    if work > *left {
        return Outcome::Declined(format!("needs {work} elements of work, the limit leaves {left}"));
    }
    match evaluate(op, &constants) {
        Err(e) => Outcome::Declined(e.to_string()),
        Ok(constants) => {
            *left -= work;
            let mut patch = Patch::new(id, format!("constant {}", op.name()));
            // The last node replaces the value in question, so that comes last.
            let mut results: Vec<_> = graph.values(id.node).zip(constants).collect();
            results.sort_by_key(|(value, _)| *value == id);
            for (value, constant) in results {
                let constant = patch.constant(graph.name_of(value), constant);
                if value != id {
                    patch.also(value, constant);
                }
            }
            Outcome::Replace(patch)
        }
    }
}
