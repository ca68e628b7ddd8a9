//! Moves padding by zeros over spatial axes into the convolution or pooling that reads it.
//!
//! Exporters spell TensorFlow's SAME padding, asymmetric at stride 2, as a pad before an unpadded convolution.
//!
//! Holds: exactly, but for the sign of a zero: a product by a padded zero is a zero, and padding never wins a maximum.
//! Needs: weights that are numbers, an infinity times a padded zero being NaN. Constants are checked; computed weights are taken to be.

use super::{Context, Outcome, rewrite};
use crate::error::Result;
use crate::graph::{Graph, Patch, ValueId};
use crate::ops::literal::Literal;
use crate::ops::pad::PadMode;
use crate::ops::pool::PoolKind;
use crate::ops::{Op, Pad, Pool};
use crate::types::{Constant, DType, Payload, TensorType};

/// Runs the pass.
pub fn run(graph: Graph, cx: &mut Context) -> Result<Graph> {
    rewrite(graph, cx, fold)
}

fn fold(graph: &Graph, id: ValueId) -> Outcome {
    let node = graph.producer(id);
    let mut operands = graph.operands(id.node);
    let Some(padded) = operands.first().copied() else { return Outcome::NoMatch };
    let Some(Op::Pad(pad)) = graph.producer(padded).op() else { return Outcome::NoMatch };
    let op = match node.op() {
        Some(Op::Conv(conv)) => spatial(pad, 0.0).and_then(|more| {
            let weight = operands.get(1).and_then(|w| graph.producer(*w).constant());
            if weight.is_some_and(|weight| !are_numbers(weight)) {
                return Err("meets weights that are infinite or NaN");
            }
            let mut conv = conv.clone();
            conv.pads = sum(&conv.pads, &more);
            Ok(Op::Conv(conv))
        }),
        // The least integer has no name that a float could spell.
        Some(Op::Pool(_)) if !node.ty.dtype.is_float() => Err("fills integers"),
        Some(Op::Pool(pool)) => into_pool(pad, pool),
        _ => return Outcome::NoMatch,
    };
    let op = match op {
        Ok(op) => op,
        Err(obstacle) => return Outcome::Declined(format!("the pad %{} {obstacle}", graph.name_of(padded))),
    };
    let Some(x) = graph.operands(padded.node).first().copied() else { return Outcome::NoMatch };
    operands[0] = x;
    let types: Vec<&TensorType> = operands.iter().map(|id| graph.ty(*id)).collect();
    match op.infer(&types) {
        Ok(types) if types == [graph.ty(id).clone()] => {
            let why = format!("{} with the padding of %{}", op.name(), graph.name_of(padded));
            Outcome::Replace(Patch::with_op(id, why, op, &operands))
        }
        _ => Outcome::Declined(format!("the pad %{} is wider than {} allows", graph.name_of(padded), op.name())),
    }
}

fn into_pool(pad: &Pad, pool: &Pool) -> Result<Op, &'static str> {
    let mut pool = pool.clone();
    match pool.kind {
        PoolKind::Max => pool.pads = sum(&pool.pads, &spatial(pad, f64::NEG_INFINITY)?),
        PoolKind::Average => {
            let more = spatial(pad, 0.0)?;
            // Where extents are rounded up, a window may hang over the end; what hangs over is not counted, padding is.
            if pool.ceil_mode {
                return Err("feeds a pooling that rounds extents up");
            }
            if !pool.count_include_pad && pool.pads.iter().any(|p| *p != 0) {
                return Err("counts in the average, the pooling's own padding does not");
            }
            pool.pads = sum(&pool.pads, &more);
            pool.count_include_pad = true;
        }
    }
    Ok(Op::Pool(pool))
}

/// The padding of the spatial axes, begins then ends; else why it cannot move.
fn spatial(pad: &Pad, value: f64) -> Result<Vec<usize>, &'static str> {
    let rank = pad.pads.len() / 2;
    if pad.mode != PadMode::Constant || pad.value != value {
        return Err("does not fill with the value that padding stands for");
    }
    if rank < 3 || pad.pads[..2] != [0, 0] || pad.pads[rank..rank + 2] != [0, 0] {
        return Err("pads more than spatial axes");
    }
    let spatial = pad.pads[2..rank].iter().chain(&pad.pads[rank + 2..]);
    spatial.map(|p| usize::try_from(*p).map_err(|_| "crops")).collect()
}

/// Whether every element known of `constant` is finite.
fn are_numbers(constant: &Constant) -> bool {
    match (&constant.payload, constant.ty.dtype) {
        (Payload::Random(_) | Payload::Hash(_), _) => true,
        (_, DType::F32) => constant.to_f32().is_none_or(|values| values.iter().all(|v| v.is_finite())),
        _ => Literal::from_constant(constant).is_ok_and(|literal| literal.to_f64().iter().all(|v| v.is_finite())),
    }
}

fn sum(a: &[usize], b: &[usize]) -> Vec<usize> {
    a.iter().zip(b).map(|(a, b)| a.saturating_add(*b)).collect()
}
