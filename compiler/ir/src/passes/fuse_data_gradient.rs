//! What takes the gradient of a convolution's operand further down becomes part of the convolution that computes it: the sum with
//! the gradient of a shortcut, the product with a slope, the derivative of an activation at its value.
//!
//! Holds: always; every step rounds as it did.
//! Needs: nothing of constants.

use super::matching::{binary, shared};
use super::{Context, Outcome, Rewrite, first, rewrite};
use crate::error::Result;
use crate::graph::{Graph, Patch, ValueId};
use crate::ops::{ConvDataGradient, Op};
use crate::scalar::BinaryFn;
use crate::types::DType;

const RULES: &[Rewrite] = &[product, derivative, addition];

/// Runs the pass.
pub fn run(graph: Graph, cx: &mut Context) -> Result<Graph> {
    rewrite(graph, cx, |graph, id| first(graph, id, RULES))
}

/// The gradient of a convolution's operand at `id`, if it can vanish into its consumer.
fn data_gradient(graph: &Graph, id: ValueId) -> Option<ConvDataGradient> {
    let op = match graph.producer(id).op()? {
        Op::ConvTranspose(op) if !op.bias => ConvDataGradient::of(op),
        Op::ConvDataGradient(op) => op.clone(),
        _ => return None,
    };
    let ends = op.function.is_some();
    (!ends && graph.ty(id).dtype == DType::F32 && shared(graph, id).is_none()).then_some(op)
}

/// The patch that puts `op`, of the operands of `dx` and one more, in the place of `id`.
fn fuse(graph: &Graph, id: ValueId, op: ConvDataGradient, (dx, other): (ValueId, ValueId), why: &str) -> Outcome {
    let mut operands = graph.operands(dx.node);
    operands.push(other);
    Outcome::Replace(Patch::with_op(id, format!("the data gradient {why} %{}", graph.name_of(other)), op, &operands))
}

/// The operands of a binary node of `function` in both orders, if they have the result's type and the second is computed.
fn operands(graph: &Graph, id: ValueId, function: BinaryFn) -> Vec<(ValueId, ValueId)> {
    let Some((found, a, b)) = binary(graph, id) else { return Vec::new() };
    let alike = found == function && graph.ty(a) == graph.ty(id) && graph.ty(b) == graph.ty(id);
    let pairs = if alike { vec![(a, b), (b, a)] } else { Vec::new() };
    pairs.into_iter().filter(|(_, other)| graph.producer(*other).op().is_some()).collect()
}

fn product(graph: &Graph, id: ValueId) -> Outcome {
    for (dx, factor) in operands(graph, id, BinaryFn::Mul) {
        if let Some(op) = data_gradient(graph, dx).filter(|op| !op.factor) {
            return fuse(graph, id, ConvDataGradient { factor: true, ..op }, (dx, factor), "is multiplied by");
        }
    }
    Outcome::NoMatch
}

fn derivative(graph: &Graph, id: ValueId) -> Outcome {
    let Some(Op::UnaryGradient(gradient)) = graph.producer(id).op() else { return Outcome::NoMatch };
    let [dx, at] = graph.operands(id.node)[..] else { return Outcome::NoMatch };
    // What has to compute an exponential for it would rather have computed it with the value.
    let cheap = gradient.function.derivative_is_of_value();
    match data_gradient(graph, dx).filter(|_| cheap) {
        Some(op) => {
            let function = Some(gradient.function);
            fuse(graph, id, ConvDataGradient { function, ..op }, (dx, at), "passes the activation")
        }
        None => Outcome::NoMatch,
    }
}

fn addition(graph: &Graph, id: ValueId) -> Outcome {
    for (dx, residual) in operands(graph, id, BinaryFn::Add) {
        if let Some(op) = data_gradient(graph, dx).filter(|op| !op.residual && !op.factor) {
            return fuse(graph, id, ConvDataGradient { residual: true, ..op }, (dx, residual), "adds");
        }
    }
    Outcome::NoMatch
}
