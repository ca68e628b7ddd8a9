//! The gradient of the weights behind a gate reads what the gate multiplied, and the gate: what was gated, a map of its own, need not be
//! kept for the backward half. What it reads instead is kept for the gradient of the gate.
//!
//! Holds: but for the rounding of the products, which are those of sums over pixels and not of pixels.
//! Needs: nothing of constants.

use super::matching::binary;
use super::{Context, Outcome, rewrite};
use crate::error::Result;
use crate::graph::{Graph, Patch, ValueId};
use crate::ops::{ConvWeightGradient, Op};
use crate::scalar::BinaryFn;
use crate::types::DType;

/// Runs the pass.
pub fn run(graph: Graph, cx: &mut Context) -> Result<Graph> {
    rewrite(graph, cx, gradient)
}

/// The gradient of weights at `id`, if the operand of their convolution is gated.
fn gradient(graph: &Graph, id: ValueId) -> Outcome {
    let Some(Op::ConvWeightGradient(op)) = graph.producer(id).op() else { return Outcome::NoMatch };
    let mut operands = graph.operands(id.node);
    let Some((BinaryFn::Mul, a, b)) = binary(graph, operands[0]) else { return Outcome::NoMatch };
    if op.gate || op.group > 1 || graph.ty(id).dtype != DType::F32 {
        return Outcome::NoMatch;
    }
    let shape = &graph.ty(operands[0]).shape;
    let channels = |v: ValueId| {
        let own = &graph.ty(v).shape;
        own.rank() == shape.rank() && own[..2] == shape[..2] && own[2..].iter().all(|extent| *extent == 1)
    };
    let whole = |v: ValueId| graph.ty(v).shape == *shape && graph.producer(v).op().is_some();
    let pair = [(a, b), (b, a)].into_iter().find(|(x, gate)| whole(*x) && channels(*gate) && !channels(*x));
    let Some((x, gate)) = pair else { return Outcome::NoMatch };
    operands[0] = x;
    operands.insert(2, gate);
    let why = format!("the gradient of weights takes the gate %{}", graph.name_of(gate));
    Outcome::Replace(Patch::with_op(id, why, ConvWeightGradient { gate: true, ..op.clone() }, &operands))
}
