//! A matrix product of rank 2 by a constant becomes a general matrix product, and a constant row added to one its bias.
//!
//! Holds: but for the rounding, and the overflow, of the product before the bias; infinities and NaN of either come out as before.
//! Needs: nothing of the constants.

use super::matching::{binary, gemm, known, shared};
use super::{Context, Outcome, Rewrite, first, rewrite};
use crate::error::Result;
use crate::graph::{Graph, Patch, ValueId};
use crate::ops::{Gemm, Op};
use crate::scalar::BinaryFn;

const RULES: &[Rewrite] = &[product, bias];

/// Runs the pass.
pub fn run(graph: Graph, cx: &mut Context) -> Result<Graph> {
    rewrite(graph, cx, |graph, id| first(graph, id, RULES))
}

fn product(graph: &Graph, id: ValueId) -> Outcome {
    let (Some(Op::MatMul(_)), [a, b]) = (graph.producer(id).op(), &graph.operands(id.node)[..]) else {
        return Outcome::NoMatch;
    };
    let rank = |id: ValueId| graph.ty(id).shape.rank();
    if rank(*a) != 2 || rank(*b) != 2 || !graph.ty(id).dtype.is_float() || graph.producer(*b).constant().is_none() {
        return Outcome::NoMatch;
    }
    Outcome::Replace(Patch::with_op(id, "gemm", Gemm::default(), &[*a, *b]))
}

fn bias(graph: &Graph, id: ValueId) -> Outcome {
    let Some((BinaryFn::Add, a, b)) = binary(graph, id) else { return Outcome::NoMatch };
    let (product, c) = if gemm(graph, a).is_some() { (a, b) } else { (b, a) };
    let Some(view) = gemm(graph, product) else { return Outcome::NoMatch };
    if view.op.bias || view.op.activation.is_some() || graph.ty(product) != graph.ty(id) {
        return Outcome::NoMatch;
    }
    if let Err(obstacle) = known(graph, c, "addend") {
        return Outcome::Declined(obstacle);
    }
    if let Some(obstacle) = shared(graph, product) {
        return Outcome::Declined(obstacle);
    }
    let op = Gemm { bias: true, beta: 1.0, ..view.op.clone() };
    Outcome::Replace(Patch::with_op(id, "gemm with bias", op, &[view.a, view.b, c]))
}
