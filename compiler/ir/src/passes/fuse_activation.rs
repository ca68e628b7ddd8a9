//! An activation that is the only user of a convolution or matrix product, or of a concatenation of such, becomes its
//! `activation`.
//!
//! Holds: but for the rounding, and the overflow, of the sum between the two, which is not stored any more.
//! Needs: nothing of constants.
//!
//! Activations spelled in arithmetic are named first ([`super::recognize_activation`]). Invariant: no activation that
//! could run in registers makes a pass over memory.

use super::matching::{shared, unary};
use super::{Context, Outcome, first, recognize_activation, rewrite};
use crate::error::Result;
use crate::graph::{Graph, Patch, PatchValue, ValueId};
use crate::ops::{Conv, Gemm, Op};
use crate::scalar::UnaryFn;
use crate::types::DType;

/// Runs the pass.
pub fn run(graph: Graph, cx: &mut Context) -> Result<Graph> {
    rewrite(graph, cx, |graph, id| match first(graph, id, recognize_activation::RULES) {
        Outcome::NoMatch => into_producer(graph, id),
        outcome => outcome,
    })
}

/// The operator at `id` with `function` as its activation, if it can end in one and does not yet.
fn with_activation(graph: &Graph, id: ValueId, function: UnaryFn) -> Option<Op> {
    match graph.producer(id).op()? {
        Op::Conv(op) if op.activation.is_none() => Some(Conv { activation: Some(function), ..op.clone() }.into()),
        Op::Gemm(op) if op.activation.is_none() => Some(Gemm { activation: Some(function), ..op.clone() }.into()),
        _ => None,
    }
}

/// The activation of a concatenation, all parts of which can end in it, as a concatenation of such parts.
fn into_parts(graph: &Graph, id: ValueId, concat: ValueId, function: UnaryFn) -> Option<Patch> {
    let Op::Concat(op) = graph.producer(concat).op()? else { return None };
    if shared(graph, concat).is_some() {
        return None;
    }
    let mut patch = Patch::new(id, format!("parts end in {}", function.spelling().0));
    let mut parts = Vec::new();
    for part in graph.operands(concat.node) {
        let ending = with_activation(graph, part, function).filter(|_| shared(graph, part).is_none())?;
        let operands: Vec<PatchValue> = graph.operands(part.node).into_iter().map(PatchValue::Old).collect();
        parts.push(patch.op(ending, &operands));
    }
    patch.op(op.clone(), &parts);
    Some(patch)
}

/// Moves the activation at `id` into the operator that computes its operand.
pub(super) fn into_producer(graph: &Graph, id: ValueId) -> Outcome {
    let Some((function, producer)) = unary(graph, id) else { return Outcome::NoMatch };
    if !function.is_activation() || graph.ty(id).dtype != DType::F32 {
        return Outcome::NoMatch;
    }
    if let Some(patch) = into_parts(graph, id, producer, function) {
        return Outcome::Replace(patch);
    }
    let Some(op) = with_activation(graph, producer, function) else { return Outcome::NoMatch };
    let name = function.spelling().0;
    if let Some(obstacle) = shared(graph, producer) {
        return Outcome::Declined(format!("{name}: {obstacle}"));
    }
    let why = format!("{} ends in {name}", op.name());
    Outcome::Replace(Patch::with_op(id, why, op, &graph.operands(producer.node)))
}
