//! The addition after a convolution becomes its residual operand, and the activation after the addition its `activation`.
//!
//! A convolution that already ends in an activation adds the residual after it (`activation_first`). Where both addends are
//! convolutions the one without an activation takes the other, or the later one in topological order, when its
//! residual is there already.
//!
//! Holds: but for the rounding, and the overflow, of the sums in between, which are not stored any more.
//! Needs: nothing of constants.

use super::fuse_activation::into_producer;
use super::matching::{binary, conv, shared};
use super::{Context, Outcome, Rewrite, first, rewrite};
use crate::error::Result;
use crate::graph::{Graph, Patch, ValueId};
use crate::ops::Conv;
use crate::scalar::BinaryFn;
use crate::types::DType;

const RULES: &[Rewrite] = &[addition, into_producer];

/// Runs the pass.
pub fn run(graph: Graph, cx: &mut Context) -> Result<Graph> {
    rewrite(graph, cx, |graph, id| first(graph, id, RULES))
}

fn addition(graph: &Graph, id: ValueId) -> Outcome {
    let Some((BinaryFn::Add, a, b)) = binary(graph, id) else { return Outcome::NoMatch };
    let candidates: Vec<ValueId> = [a, b].into_iter().filter(|v| conv(graph, *v).is_some()).collect();
    let constant = [a, b].into_iter().any(|v| graph.producer(v).constant().is_some());
    if candidates.is_empty() || constant || graph.ty(id).dtype != DType::F32 {
        return Outcome::NoMatch;
    }
    let (a_ty, b_ty) = (graph.ty(a), graph.ty(b));
    if a_ty != b_ty {
        return Outcome::Declined(format!("the addends {a_ty} and {b_ty} broadcast"));
    }
    let usable = candidates.iter().map(|v| usable(graph, *v).map(|()| *v));
    let (usable, obstacles): (Vec<_>, Vec<_>) = usable.partition(Result::is_ok);
    let usable: Vec<ValueId> = usable.into_iter().flatten().collect();
    match (choose(graph, &usable), obstacles.into_iter().find_map(Result::err)) {
        (Some(chosen), _) => fuse(graph, id, chosen, if chosen == a { b } else { a }),
        (None, Some(obstacle)) => Outcome::Declined(obstacle),
        (None, None) => Outcome::NoMatch,
    }
}

/// Whether the convolution at `id` can take a residual; else the obstacle.
fn usable(graph: &Graph, id: ValueId) -> Result<(), String> {
    if let Some(obstacle) = shared(graph, id) {
        return Err(obstacle);
    }
    match conv(graph, id) {
        Some(view) if view.residual.is_none() => Ok(()),
        _ => Err(format!("%{} adds a residual already", graph.name_of(id))),
    }
}

/// The candidate without an activation, or the later one.
fn choose(graph: &Graph, candidates: &[ValueId]) -> Option<ValueId> {
    let [a, b] = candidates else { return candidates.first().copied() };
    let plain = |id: ValueId| conv(graph, id).is_some_and(|view| view.op.activation.is_none());
    if plain(*a) != plain(*b) {
        return Some(if plain(*a) { *a } else { *b });
    }
    let order = graph.topological().ok()?;
    order.into_iter().rev().find_map(|id| [a, b].into_iter().find(|v| v.node == id)).copied()
}

fn fuse(graph: &Graph, id: ValueId, chosen: ValueId, residual: ValueId) -> Outcome {
    let Some(view) = conv(graph, chosen) else { return Outcome::NoMatch };
    let op = Conv { residual: true, activation_first: view.op.activation.is_some(), ..view.op.clone() };
    let mut operands = graph.operands(chosen.node);
    operands.push(residual);
    let why = format!("conv adds %{}", graph.name_of(residual));
    Outcome::Replace(Patch::with_op(id, why, op, &operands))
}
