//! A concatenation of convolutions, each over its own channels of one value, becomes one grouped convolution.
//!
//! The parts are convolutions that differ in weights and biases only, have no other user, and read slices that cover the
//! channels of one value in order. Their weights and biases, which must be known, follow one another in those of the
//! grouped convolution, so slices and concatenation are gone.
//!
//! Holds: exactly; every result keeps its bits, as each group reads the channels and weights that its part read.
//! Needs: nothing of the constants.

use super::matching::{ConvView, conv, known, merged, shared};
use super::{Context, Outcome, rewrite};
use crate::error::Result;
use crate::graph::{Graph, Patch, ValueId};
use crate::ops::{Conv, Op};
use crate::types::{Constant, TensorType};

/// Runs the pass.
pub fn run(graph: Graph, cx: &mut Context) -> Result<Graph> {
    rewrite(graph, cx, fuse)
}

fn fuse(graph: &Graph, id: ValueId) -> Outcome {
    let Some((x, parts)) = parts(graph, id) else { return Outcome::NoMatch };
    match grouped(graph, id, x, &parts) {
        Ok(patch) => Outcome::Replace(patch),
        Err(obstacle) => Outcome::Declined(obstacle),
    }
}

/// The convolutions that the node at `id` concatenates, and the one value whose slices of channels they all read.
fn parts(graph: &Graph, id: ValueId) -> Option<(ValueId, Vec<ConvView<'_>>)> {
    match graph.producer(id).op()? {
        Op::Concat(op) if op.axis == 1 => {}
        _ => return None,
    }
    let parts = graph.operands(id.node).into_iter().map(|part| conv(graph, part)).collect::<Option<Vec<_>>>()?;
    let mut sources = parts.iter().map(|part| sliced(graph, part.x).map(|(x, ..)| x));
    let x = sources.next()??;
    (parts.len() > 1 && sources.all(|source| source == Some(x))).then_some((x, parts))
}

/// The operand, the first channel and the number of channels of a slice that takes neighbouring channels whole.
fn sliced(graph: &Graph, id: ValueId) -> Option<(ValueId, usize, usize)> {
    let Op::Slice(op) = graph.producer(id).op()? else { return None };
    let x = *graph.operands(id.node).first()?;
    let shape = &graph.ty(x).shape;
    let whole = |axis: usize| axis == 1 || (op.starts[axis] == 0 && op.sizes[axis] == shape[axis]);
    let steps = op.steps.iter().all(|step| *step == 1);
    (shape.rank() > 1 && steps && (0..shape.rank()).all(whole)).then(|| (x, op.starts[1], op.sizes[1]))
}

/// The convolution that takes the place of `parts`; else the obstacle.
fn grouped(graph: &Graph, id: ValueId, x: ValueId, parts: &[ConvView<'_>]) -> std::result::Result<Patch, String> {
    let first = &parts[0];
    let name = |id: ValueId| graph.name_of(id);
    let filters = |part: &ConvView<'_>| graph.ty(part.w).shape[0] / part.op.group;
    let kernel = |part: &ConvView<'_>| &graph.ty(part.w).shape[1..];
    let mut channel = 0;
    for part in parts {
        if let Some(obstacle) = shared(graph, part.id) {
            return Err(obstacle);
        }
        if part.residual.is_some() {
            return Err(format!("%{} adds a residual", name(part.id)));
        }
        let alike = Conv { group: first.op.group, ..part.op.clone() } == *first.op;
        if !alike || kernel(part) != kernel(first) || filters(part) != filters(first) {
            return Err(format!("%{} differs from %{} in more than weights", name(part.id), name(first.id)));
        }
        match sliced(graph, part.x) {
            Some((_, start, count)) if start == channel => channel += count,
            _ => return Err(format!("%{} does not begin at channel {channel} of %{}", name(part.x), name(x))),
        }
    }
    if channel != graph.ty(x).shape[1] {
        return Err(format!("the parts read {channel} channels of %{}: {}", name(x), graph.ty(x)));
    }
    let group = parts.iter().map(|part| part.op.group).sum();
    let mut patch = Patch::new(id, format!("conv of {group} groups for {} parts", parts.len()));
    let weights = joined(graph, parts.iter().map(|part| part.w), "weight")?;
    let mut operands = vec![x.into(), patch.constant(name(first.w), weights)];
    if let Some(bias) = first.bias {
        let biases = joined(graph, parts.iter().filter_map(|part| part.bias), "bias")?;
        operands.push(patch.constant(name(bias), biases));
    }
    patch.op(Conv { group, ..first.op.clone() }, &operands);
    Ok(patch)
}

/// Constants that differ in their first extent only, one after the other.
fn joined(graph: &Graph, ids: impl Iterator<Item = ValueId>, role: &str) -> std::result::Result<Constant, String> {
    let constants = ids.map(|id| known(graph, id, role)).collect::<std::result::Result<Vec<_>, _>>()?;
    let ty = &constants[0].ty;
    let mut shape = ty.shape.to_vec();
    shape[0] = constants.iter().map(|constant| constant.ty.shape[0]).sum();
    let elements: Vec<u8> = constants.iter().filter_map(|constant| constant.bytes()).flatten().collect();
    let origins = merged(constants.iter().map(|constant| &constant.origins));
    Ok(Constant::from_bytes(TensorType::new(ty.dtype, shape), elements).with_origins(origins))
}
