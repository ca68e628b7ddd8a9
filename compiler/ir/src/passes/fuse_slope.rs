//! An activation after a convolution whose derivative is taken later: both come from the convolution, `conv_with_slope`.
//!
//! What the convolution adds up then has no other user: neither it nor the activation makes a pass over memory, the exponential is
//! computed once for value and slope, and the gradient is a product.
//!
//! Holds: but for the last place of the activation, and the rounding and overflow of the sums before it, which are not stored any more.
//! Needs: nothing of constants.

use super::matching::{conv, unary_of};
use super::{Context, Outcome, rewrite};
use crate::error::Result;
use crate::graph::{Graph, Patch, PatchValue, ValueId};
use crate::ops::{Binary, Conv, ConvWithSlope, Op};
use crate::scalar::{BinaryFn, UnaryFn};
use crate::types::DType;

/// Runs the pass.
pub fn run(graph: Graph, cx: &mut Context) -> Result<Graph> {
    rewrite(graph, cx, gradient)
}

/// The gradient of an activation, at the sums of a convolution.
fn gradient(graph: &Graph, id: ValueId) -> Outcome {
    let Some(Op::UnaryGradient(op)) = graph.producer(id).op() else { return Outcome::NoMatch };
    let (function, operands) = (op.function, graph.operands(id.node));
    let [dy, z] = operands[..] else { return Outcome::NoMatch };
    let plain = conv(graph, z).filter(|view| view.op.activation.is_none());
    let (Some(view), Some(_), DType::F32) = (plain, function.with_slope(), graph.ty(z).dtype) else {
        return Outcome::NoMatch;
    };
    let name = function.spelling().0;
    let Some(value) = activation(graph, z, id, function) else {
        return Outcome::Declined(format!("{name}: %{} has other users", graph.name_of(z)));
    };
    let mut patch = Patch::new(id, format!("conv gives the slope of {name}"));
    let conv = Conv { activation: Some(function), activation_first: false, ..view.op.clone() };
    let operands: Vec<PatchValue> = graph.operands(z.node).into_iter().map(PatchValue::from).collect();
    let y = patch.op(ConvWithSlope { conv }, &operands);
    patch.also(value, y);
    patch.op(Binary { function: BinaryFn::Mul }, &[dy.into(), PatchValue::New { node: 0, result: 1 }]);
    Outcome::Replace(patch)
}

/// The activation of `z`, if it and the gradient at `id` are all that reads `z`.
fn activation(graph: &Graph, z: ValueId, id: ValueId, function: UnaryFn) -> Option<ValueId> {
    let users = graph.users(z);
    let other = users.iter().map(|(user, _)| ValueId::from(*user)).find(|user| user.node != id.node)?;
    (users.len() == 2 && !graph.is_output(z) && unary_of(graph, other, function) == Some(z)).then_some(other)
}
