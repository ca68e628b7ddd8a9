//! Removes operators that change nothing: identities, reshapes, transposes, casts, pads, slices, … to the type and
//! order that is there, all but the last of a chain of reshapes, pairs of transposes, and nodes that no output
//! depends on.
//!
//! Invariant: no identity remains, and no node is dead.
//!
//! Holds: exactly, but for the sign of a zero behind a sum over no axes.
//! Needs: nothing of the constants.

use super::{Context, Outcome, Rewrite, first, rewrite};
use crate::error::Result;
use crate::graph::{Graph, Patch, ValueId};
use crate::ops::reduce::ReduceKind;
use crate::ops::resize::CoordinateMode;
use crate::ops::{Op, Reshape, Resize, Slice, Transpose};
use crate::types::Shape;

const RULES: &[Rewrite] = &[no_effect, chain_of_reshapes, chain_of_transposes];

/// Runs the pass.
pub fn run(graph: Graph, cx: &mut Context) -> Result<Graph> {
    let mut graph = rewrite(graph, cx, |graph, id| first(graph, id, RULES))?;
    cx.changes += graph.remove_dead();
    Ok(graph)
}

fn no_effect(graph: &Graph, id: ValueId) -> Outcome {
    let (Some(op), Some(x)) = (graph.producer(id).op(), graph.operands(id.node).first().copied()) else {
        return Outcome::NoMatch;
    };
    let shape = &graph.ty(x).shape;
    let changes_nothing = graph.ty(x) == graph.ty(id)
        && match op {
            Op::Identity(_) | Op::Reshape(_) | Op::Cast(_) | Op::Expand(_) => true,
            Op::Transpose(op) => op.perm.iter().copied().eq(0..op.perm.len()),
            Op::Pad(op) => op.pads.iter().all(|p| *p == 0),
            Op::Slice(op) => is_whole(op, shape),
            Op::Tile(op) => op.repeats.iter().all(|r| *r == 1),
            Op::Concat(_) => graph.operands(id.node).len() == 1,
            Op::Resize(op) => is_unit_resize(op),
            Op::Reduce(op) => {
                use ReduceKind::{Max, Mean, Min, Prod, Sum};
                op.axes.is_empty() && matches!(op.kind, Sum | Mean | Max | Min | Prod)
            }
            _ => false,
        };
    if !changes_nothing {
        return Outcome::NoMatch;
    }
    Outcome::Replace(Patch::redirect(id, x, format!("{} without effect", op.name())))
}

fn is_whole(op: &Slice, shape: &Shape) -> bool {
    op.starts.iter().all(|s| *s == 0) && op.steps.iter().all(|s| *s == 1) && op.sizes[..] == shape[..]
}

/// Whether every sample lands on itself; not so for the two coordinate rules that shift or crop.
fn is_unit_resize(op: &Resize) -> bool {
    !matches!(op.coordinates, CoordinateMode::TfHalfPixelForNn | CoordinateMode::TfCropAndResize)
        && op.scales.iter().all(|s| *s == 1.0)
}

fn chain_of_reshapes(graph: &Graph, id: ValueId) -> Outcome {
    let reshape = |id: ValueId| match graph.producer(id).op()? {
        Op::Reshape(_) => graph.operands(id.node).first().copied(),
        _ => None,
    };
    let Some(x) = reshape(id).and_then(reshape) else { return Outcome::NoMatch };
    let shape = graph.ty(id).shape.to_vec();
    Outcome::Replace(Patch::with_op(id, "the last of a chain of reshapes", Reshape { shape }, &[x]))
}

fn chain_of_transposes(graph: &Graph, id: ValueId) -> Outcome {
    let transpose = |id: ValueId| match graph.producer(id).op()? {
        Op::Transpose(op) => Some((&op.perm, *graph.operands(id.node).first()?)),
        _ => None,
    };
    let Some((outer, y)) = transpose(id) else { return Outcome::NoMatch };
    let Some((inner, x)) = transpose(y) else { return Outcome::NoMatch };
    let perm: Option<Vec<usize>> = outer.iter().map(|axis| inner.get(*axis).copied()).collect();
    let Some(perm) = perm else { return Outcome::NoMatch };
    Outcome::Replace(Patch::with_op(id, "one transpose for two", Transpose { perm }, &[x]))
}
