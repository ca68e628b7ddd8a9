//! Spatial mean, two projections and a gate that multiplies their source become one squeeze-and-excite.
//!
//! ```text
//! x ─▶ mean over H, W ─▶ 1x1 conv, act ─▶ 1x1 conv, gate ─┐
//! └────────────────────────────────────────────────────▶ mul ─▶ y
//! ```
//!
//! The projections may also be matrix products over `[N, C]`, with reshapes around them; the mean an average over the
//! whole map.
//!
//! Holds: but for the rounding, and the overflow, of mean, projections and gate, which are not stored any more; a zero may change its
//! sign where a missing bias becomes zeros.
//! Needs: nothing of the constants: they are moved, not changed.

use super::fold_batch_norm::per_channel;
use super::matching::{binary, conv, gemm, known, shared};
use super::{Context, Outcome, rewrite};
use crate::error::Result;
use crate::graph::{Graph, Patch, PatchValue, ValueId};
use crate::ops::literal::Literal;
use crate::ops::pool::PoolKind;
use crate::ops::reduce::ReduceKind;
use crate::ops::{Op, SqueezeExcite};
use crate::scalar::{BinaryFn, UnaryFn};
use crate::types::{Constant, DType, TensorType};

/// Runs the pass.
pub fn run(graph: Graph, cx: &mut Context) -> Result<Graph> {
    rewrite(graph, cx, fuse)
}

fn fuse(graph: &Graph, id: ValueId) -> Outcome {
    let Some((BinaryFn::Mul, a, b)) = binary(graph, id) else { return Outcome::NoMatch };
    let node = graph.producer(id);
    if node.ty.dtype != DType::F32 || node.ty.shape.rank() != 4 {
        return Outcome::NoMatch;
    }
    for (x, gate) in [(a, b), (b, a)] {
        if graph.ty(x) == graph.ty(id)
            && let Some(block) = block(graph, x, gate)
        {
            return match patch(graph, id, x, &block) {
                Ok(patch) => Outcome::Replace(patch),
                Err(obstacle) => Outcome::Declined(obstacle),
            };
        }
    }
    Outcome::NoMatch
}

/// What was recognised, from the mean to the gate.
struct Block {
    reduce: Projection,
    expand: Projection,
    gate: UnaryFn,
    /// Every intermediate value, none of which may have another user.
    inner: Vec<ValueId>,
}

/// A linear layer over channels.
struct Projection {
    id: ValueId,
    x: ValueId,
    w: ValueId,
    bias: Option<ValueId>,
    activation: Option<UnaryFn>,
    /// Whether `w` is `[in, out]`.
    transposed: bool,
}

fn block(graph: &Graph, x: ValueId, gate: ValueId) -> Option<Block> {
    let mut inner = Vec::new();
    let (n, c) = (graph.ty(x).shape[0], graph.ty(x).shape[1]);
    if graph.ty(gate).shape[..] != [n, c, 1, 1] {
        return None;
    }
    let expand = projection(graph, through_reshapes(graph, gate, n, c, &mut inner)?)?;
    let hidden = *graph.ty(expand.x).shape.get(1)?;
    let reduce = projection(graph, through_reshapes(graph, expand.x, n, hidden, &mut inner)?)?;
    let mean = through_reshapes(graph, reduce.x, n, c, &mut inner)?;
    if !is_spatial_mean(graph, mean, x) {
        return None;
    }
    Some(Block { gate: expand.activation?, reduce, expand, inner })
}

/// The value behind reshapes of a vector per image, `[n, c]` or `[n, c, 1, …]`; notes every value on the way.
fn through_reshapes(graph: &Graph, mut id: ValueId, n: usize, c: usize, inner: &mut Vec<ValueId>) -> Option<ValueId> {
    loop {
        let shape = &graph.ty(id).shape;
        if shape.rank() < 2 || shape[..2] != [n, c] || shape[2..].iter().any(|d| *d != 1) {
            return None;
        }
        inner.push(id);
        match graph.producer(id).op()? {
            Op::Reshape(_) => id = graph.operands(id.node).first().copied()?,
            _ => return Some(id),
        }
    }
}

fn projection(graph: &Graph, id: ValueId) -> Option<Projection> {
    if let Some(view) = conv(graph, id) {
        let plain = view.is_pointwise(graph) && view.residual.is_none();
        return plain.then_some(Projection {
            id,
            x: view.x,
            w: view.w,
            bias: view.bias,
            activation: view.op.activation,
            transposed: false,
        });
    }
    let view = gemm(graph, id)?;
    let plain = view.op.alpha == 1.0 && (view.op.beta == 1.0 || view.c.is_none()) && !view.op.trans_a;
    plain.then_some(Projection {
        id,
        x: view.a,
        w: view.b,
        bias: view.c,
        activation: view.op.activation,
        transposed: !view.op.trans_b,
    })
}

/// Whether `id` is the mean of each channel of `x`, whatever the axes that remain.
fn is_spatial_mean(graph: &Graph, id: ValueId, x: ValueId) -> bool {
    let Some(source) = graph.operands(id.node).first().copied() else { return false };
    let shape = &graph.ty(x).shape;
    match graph.producer(id).op() {
        Some(Op::Reduce(op)) if op.kind == ReduceKind::Mean => {
            let rank = graph.ty(source).shape.rank();
            op.axes.iter().copied().eq(2..rank) && (source == x || is_flattened(graph, source, x))
        }
        Some(Op::Pool(op)) => {
            let whole = op.kernel[..] == shape[2..] && op.pads.iter().all(|p| *p == 0);
            op.kind == PoolKind::Average && source == x && whole && op.dilations.iter().all(|d| *d == 1)
        }
        _ => false,
    }
}

/// Whether `id` is `x` with its spatial axes reshaped.
fn is_flattened(graph: &Graph, id: ValueId, x: ValueId) -> bool {
    let (from, to) = (&graph.ty(x).shape, &graph.ty(id).shape);
    let reshape =
        matches!(graph.producer(id).op(), Some(Op::Reshape(_))) && graph.operands(id.node).first() == Some(&x);
    reshape && to.rank() >= 3 && to[..2] == from[..2]
}

fn patch(graph: &Graph, id: ValueId, x: ValueId, block: &Block) -> Result<Patch, String> {
    if let Some(obstacle) = block.inner.iter().find_map(|v| shared(graph, *v)) {
        return Err(obstacle);
    }
    let name = |p: &Projection| graph.name_of(p.id).to_owned();
    let activation = block.reduce.activation.ok_or_else(|| format!("%{} has no activation", name(&block.reduce)))?;
    let mut patch = Patch::new(id, "squeeze_excite");
    let mut operands = vec![PatchValue::Old(x)];
    for projection in [&block.reduce, &block.expand] {
        let (w, bias) = parameters(graph, projection, &mut patch)?;
        operands.extend([w, bias]);
    }
    patch.op(SqueezeExcite { activation, gate: block.gate }, &operands);
    patch.part("mean", block.inner.last().map_or(&[], std::slice::from_ref));
    patch.part("reduce", &[block.reduce.id]);
    patch.part("expand", &[block.expand.id]);
    patch.part("gate", &[id]);
    Ok(patch)
}

/// Weight `[out, in, 1, 1]` and bias `[out]` of a projection.
fn parameters(graph: &Graph, projection: &Projection, patch: &mut Patch) -> Result<(PatchValue, PatchValue), String> {
    let weight = known(graph, projection.w, "weight")?;
    let name = |id: ValueId| graph.name_of(id);
    let w = if weight.ty.shape.rank() == 4 {
        PatchValue::Old(projection.w)
    } else {
        patch.constant(name(projection.w), as_pointwise(weight, projection.transposed)?)
    };
    let out = graph.ty(projection.id).shape[1];
    let bias_ty = TensorType::f32([out]);
    let bias = match projection.bias {
        None => patch.constant(format!("{}.bias", name(projection.id)), zeros(bias_ty)),
        Some(bias) => {
            let constant = known(graph, bias, "bias")?;
            if constant.ty == bias_ty {
                PatchValue::Old(bias)
            } else {
                let values = per_channel(constant, graph.ty(projection.id))
                    .ok_or_else(|| format!("the bias %{} varies along more than channels", name(bias)))?;
                let literal = Literal::new_float(bias_ty, values);
                patch.constant(name(bias), literal.to_constant().with_origins(constant.origins.clone()))
            }
        }
    };
    Ok((w, bias))
}

/// A constant of zeros.
pub(super) fn zeros(ty: TensorType) -> Constant {
    let bytes = vec![0u8; ty.bytes()];
    Constant::from_bytes(ty, bytes)
}

/// A matrix as the weight of a 1x1 convolution.
fn as_pointwise(weight: &Constant, transposed: bool) -> Result<Constant, String> {
    let literal = Literal::from_constant(weight).map_err(|e| e.to_string())?;
    let (rows, columns) = (weight.ty.shape[0], weight.ty.shape[1]);
    let literal = if transposed {
        literal.gather_elements([columns, rows, 1, 1].into(), 0.0, |i| Some(i % rows * columns + i / rows))
    } else {
        literal.reshaped([rows, columns, 1, 1].into())
    };
    Ok(literal.to_constant().with_origins(weight.origins.clone()))
}
