//! Expansion, spatial convolution, squeeze-and-excite, projection and residual become one inverted residual block.
//!
//! A block is recognised from its projection, a 1x1 convolution, backwards: an optional squeeze-and-excite; a
//! depthwise convolution, perhaps with a 1x1 expansion before it, or a dense one with an activation that widens its
//! input (Fused-MBConv). The residual, if any, must be the input of the block. Missing biases become zeros. Where the chain from a
//! projection back to its spatial convolution is broken in one place, the remark names the part that is missing.
//!
//! Holds: but for the rounding, and the overflow, of what is between the parts; a zero may change its sign where a missing bias becomes
//! zeros.
//! Needs: nothing of the constants: they are moved, not changed.

use super::fuse_squeeze_excite::zeros;
use super::matching::{ConvView, binary, conv, known, shared, unary};
use super::{Context, Outcome, rewrite};
use crate::error::Result;
use crate::graph::{Graph, Patch, PatchValue, ValueId};
use crate::ops::mbconv::Part;
use crate::ops::{MbConv, Op, SqueezeExcite};
use crate::scalar::BinaryFn;
use crate::types::{DType, TensorType};

/// Runs the pass.
pub fn run(graph: Graph, cx: &mut Context) -> Result<Graph> {
    rewrite(graph, cx, fuse)
}

/// The parts of a block.
struct Block<'a> {
    expand: Option<ConvView<'a>>,
    /// Why the 1x1 convolution before the spatial one is not the expansion, if there is one.
    left: Option<String>,
    spatial: ConvView<'a>,
    fused: bool,
    se: Option<(ValueId, &'a SqueezeExcite)>,
    project: ConvView<'a>,
}

impl Block<'_> {
    /// The input of the block.
    fn x(&self) -> ValueId {
        self.expand.as_ref().map_or(self.spatial.x, |expand| expand.x)
    }
}

fn fuse(graph: &Graph, id: ValueId) -> Outcome {
    let block = match block(graph, id) {
        Ok(block) => block,
        Err(missing) => return missing.map_or(Outcome::NoMatch, Outcome::Declined),
    };
    match obstacle(graph, &block) {
        Some(obstacle) => Outcome::Declined(obstacle),
        None => Outcome::Replace(patch(graph, id, &block)),
    }
}

/// The block that ends in the projection at `id`; else, if only a part of it is missing, which.
fn block(graph: &Graph, id: ValueId) -> Result<Block<'_>, Option<String>> {
    let project = conv(graph, id).filter(|p| is_1x1(graph, p)).ok_or(None)?;
    let (se, inner) = match graph.producer(project.x).op() {
        Some(Op::SqueezeExcite(op)) => (Some((project.x, op)), graph.operands(project.x.node)[0]),
        _ => (None, project.x),
    };
    let Some((spatial, fused)) = spatial(graph, inner) else {
        return Err(apart(graph, inner).or_else(|| se.and_then(|_| not_spatial(graph, inner))));
    };
    if graph.ty(id).dtype != DType::F32 {
        return Err(Some(format!("its elements are {}, not f32", graph.ty(id).dtype)));
    }
    if !project.is_pointwise(graph) {
        return Err(Some(format!("the projection %{} has a stride, padding or groups", graph.name_of(id))));
    }
    if let Some(missing) = unfit(graph, &spatial, fused) {
        return Err(Some(missing));
    }
    let starts_here = fused || project.residual == Some(spatial.x);
    let before = if starts_here { None } else { conv(graph, spatial.x).filter(|e| e.is_pointwise(graph)) };
    let (expand, left) = match before.map(|e| (obstacle_to_expansion(graph, &e), e)) {
        None => (None, None),
        Some((None, e)) => (Some(e), None),
        Some((Some(obstacle), _)) => (None, Some(obstacle)),
    };
    Ok(Block { expand, left, spatial, fused, se, project })
}

/// Whether the kernel is 1x1, whatever the stride and the groups.
fn is_1x1(graph: &Graph, part: &ConvView<'_>) -> bool {
    let shape = &graph.ty(part.w).shape;
    shape.rank() == 4 && shape[2..] == [1, 1]
}

/// The convolution at `id` if it could be the spatial one of a block, and whether it is dense.
fn spatial(graph: &Graph, id: ValueId) -> Option<(ConvView<'_>, bool)> {
    let view = conv(graph, id).filter(|s| s.op.strides.len() == 2)?;
    let weight = &graph.ty(view.w).shape;
    let channels = *graph.ty(view.x).shape.get(1)?;
    let depthwise = view.op.group == channels && channels > 1 && weight[1] == 1;
    let dense = view.op.group == 1 && weight[0] > channels && weight[2..].iter().any(|k| *k > 1);
    let single = view.op.group == channels && weight[..2] == [channels, 1];
    (depthwise || single || dense).then_some((view, !(depthwise || single)))
}

/// What a spatial convolution lacks for a block.
fn unfit(graph: &Graph, spatial: &ConvView<'_>, fused: bool) -> Option<String> {
    let name = graph.name_of(spatial.id);
    let (filters, group) = (graph.ty(spatial.w).shape[0], spatial.op.group);
    if spatial.residual.is_some() {
        Some(format!("the spatial convolution %{name} adds a residual"))
    } else if fused && spatial.op.activation.is_none() {
        // A bottleneck has none either where its exporter left the activation out; the block would not be one.
        Some(format!("the spatial convolution %{name} has no activation"))
    } else if !fused && filters != group {
        Some(format!("the depthwise convolution %{name} has {} filters for each channel", filters / group.max(1)))
    } else {
        None
    }
}

/// Why the 1x1 convolution before the spatial one stays outside of the block.
fn obstacle_to_expansion(graph: &Graph, e: &ConvView<'_>) -> Option<String> {
    let residual = || e.residual.map(|_| format!("%{} adds a residual", graph.name_of(e.id)));
    shared(graph, e.id).or_else(residual).or_else(|| parameters_known(graph, e).err())
}

/// What stands between a spatial convolution and `id`, the input of the projection, that should be part of a node by now.
fn apart(graph: &Graph, id: ValueId) -> Option<String> {
    let name = |id: ValueId| graph.name_of(id);
    if let Some((function, x)) = unary(graph, id).filter(|(f, _)| f.is_activation()) {
        let (view, _) = spatial(graph, x)?;
        let why = shared(graph, view.id).map_or_else(String::new, |why| format!(": {why}"));
        return Some(format!(
            "the activation %{} ({}) is not part of the spatial convolution %{}{why}",
            name(id),
            function.spelling().0,
            name(x)
        ));
    }
    let (_, a, b) = binary(graph, id).filter(|(f, ..)| *f == BinaryFn::Mul)?;
    let x = [a, b].into_iter().find(|v| spatial(graph, *v).is_some() || apart(graph, *v).is_some())?;
    let found = if spatial(graph, x).is_some() { x } else { return apart(graph, x) };
    Some(format!("the gate %{} of the spatial convolution %{} is not a squeeze_excite", name(id), name(found)))
}

/// Says that what a squeeze-and-excite gates is no spatial convolution.
fn not_spatial(graph: &Graph, id: ValueId) -> Option<String> {
    let node = graph.producer(id);
    Some(format!("the squeeze_excite gates %{} ({}), not a spatial convolution", node.name, node.mnemonic()))
}

/// Why a recognised block cannot become one node.
fn obstacle(graph: &Graph, block: &Block<'_>) -> Option<String> {
    let inner = [Some(block.spatial.id), block.se.map(|(id, _)| id)];
    if let Some(obstacle) = inner.into_iter().flatten().find_map(|id| shared(graph, id)) {
        return Some(obstacle);
    }
    for part in [&block.spatial, &block.project] {
        if let Err(obstacle) = parameters_known(graph, part) {
            return Some(obstacle);
        }
    }
    let op = block.project.op;
    match block.project.residual {
        Some(r) if r != block.x() => {
            Some(format!("the residual %{} is not the input %{}", graph.name_of(r), graph.name_of(block.x())))
        }
        Some(_) if op.activation.is_some() && !op.activation_first => {
            Some(format!("%{} has an activation after the residual", graph.name_of(block.project.id)))
        }
        _ => None,
    }
}

fn parameters_known(graph: &Graph, part: &ConvView<'_>) -> Result<(), String> {
    let constant = |id: ValueId, role: &str| match graph.producer(id).constant() {
        Some(_) => Ok(()),
        None => known(graph, id, role).map(drop),
    };
    constant(part.w, "weight")?;
    part.bias.map_or(Ok(()), |bias| constant(bias, "bias"))
}

fn patch(graph: &Graph, id: ValueId, block: &Block<'_>) -> Patch {
    let kind = if block.fused { "fused mbconv" } else { "mbconv" };
    let left = block.left.as_ref().map_or_else(String::new, |why| format!(" without the convolution before it: {why}"));
    let mut patch = Patch::new(id, format!("{kind}{left}"));
    let mut operands = vec![PatchValue::Old(block.x())];
    for part in block.expand.iter().chain([&block.spatial]) {
        operands.extend(parameters(graph, part, &mut patch));
    }
    if let Some((se, _)) = block.se {
        operands.extend(graph.operands(se.node).into_iter().skip(1).map(PatchValue::Old));
    }
    operands.extend(parameters(graph, &block.project, &mut patch));
    let op = MbConv {
        fused: block.fused,
        expand: block.expand.is_some(),
        expand_activation: block.expand.as_ref().and_then(|expand| expand.op.activation),
        activation: block.spatial.op.activation,
        strides: block.spatial.op.strides.clone(),
        pads: block.spatial.op.pads.clone(),
        dilations: block.spatial.op.dilations.clone(),
        se: block.se.map(|(_, se)| vec![se.activation, se.gate]),
        project_activation: block.project.op.activation,
        residual: block.project.residual.is_some(),
    };
    patch.op(op, &operands);
    let spatial = if block.fused { Part::Dense } else { Part::Depthwise };
    let expand = block.expand.as_ref().map(|expand| (Part::Expand, expand.id));
    let se = block.se.map(|(id, _)| (Part::SqueezeExcite, id));
    let parts = [expand, Some((spatial, block.spatial.id)), se, Some((Part::Project, id))];
    parts.into_iter().flatten().for_each(|(part, id)| patch.part(part.name(), &[id]));
    patch
}

/// Weight and bias of a part.
fn parameters(graph: &Graph, part: &ConvView<'_>, patch: &mut Patch) -> [PatchValue; 2] {
    let bias = match part.bias {
        Some(bias) => PatchValue::Old(bias),
        None => {
            let ty = TensorType::f32([graph.ty(part.w).shape[0]]);
            patch.constant(format!("{}.bias", graph.name_of(part.id)), zeros(ty))
        }
    };
    [PatchValue::Old(part.w), bias]
}
