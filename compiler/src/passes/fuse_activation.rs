//! An activation that is the only user of a convolution or matrix product becomes its `then`.
//!
//! Activations spelled in arithmetic are named first ([`super::name_activation`]). Invariant: no activation that could run in registers makes a pass
//! over memory.

use super::matching::{shared, unary};
use super::{Context, Outcome, first, name_activation, rewrite};
use crate::error::Result;
use crate::ir::{Graph, NodeId, Patch};
use crate::ops::{Conv, Gemm, Op};
use crate::types::DType;

/// Runs the pass.
pub fn run(graph: Graph, cx: &mut Context) -> Result<Graph> {
    rewrite(graph, cx, |graph, id| match first(graph, id, name_activation::RULES) {
        Outcome::NoMatch => into_producer(graph, id),
        outcome => outcome,
    })
}

/// Moves the activation at `id` into the operator that computes its operand.
pub(super) fn into_producer(graph: &Graph, id: NodeId) -> Outcome {
    let Some((function, producer)) = unary(graph, id) else { return Outcome::NoMatch };
    if !function.is_activation() || graph.node(id).ty.dtype != DType::F32 {
        return Outcome::NoMatch;
    }
    let op: Op = match graph.node(producer).op() {
        Some(Op::Conv(op)) if op.then.is_none() => Conv { then: Some(function), ..op.clone() }.into(),
        Some(Op::Gemm(op)) if op.then.is_none() => Gemm { then: Some(function), ..op.clone() }.into(),
        _ => return Outcome::NoMatch,
    };
    let name = function.spelling().0;
    if let Some(obstacle) = shared(graph, producer) {
        return Outcome::Declined(format!("{name}: {obstacle}"));
    }
    let why = format!("{} ends in {name}", op.name());
    Outcome::Replace(Patch::with_op(id, why, op, &graph.operands(producer)))
}
