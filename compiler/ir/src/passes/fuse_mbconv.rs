//! Expansion, spatial convolution, squeeze-and-excite, projection and residual become one inverted residual block.
//!
//! A block is recognised from its projection, a 1x1 convolution, backwards: an optional squeeze-and-excite; a
//! depthwise convolution, perhaps with a 1x1 expansion before it, or a dense one with an activation that widens its
//! input (Fused-MBConv). The residual, if any, must be the input of the block. Missing biases become zeros.

use super::fuse_squeeze_excite::zeros;
use super::matching::{ConvView, conv, known, shared};
use super::{Context, Outcome, rewrite};
use crate::error::Result;
use crate::graph::{Graph, NodeId, Patch, Value};
use crate::ops::{MbConv, Op, SqueezeExcite};
use crate::types::{DType, TensorType};

/// Runs the pass.
pub fn run(graph: Graph, cx: &mut Context) -> Result<Graph> {
    rewrite(graph, cx, fuse)
}

/// The parts of a block.
struct Block<'a> {
    expand: Option<ConvView<'a>>,
    spatial: ConvView<'a>,
    fused: bool,
    se: Option<(NodeId, &'a SqueezeExcite)>,
    project: ConvView<'a>,
}

impl Block<'_> {
    /// The input of the block.
    fn x(&self) -> NodeId {
        self.expand.as_ref().map_or(self.spatial.x, |expand| expand.x)
    }
}

fn fuse(graph: &Graph, id: NodeId) -> Outcome {
    let Some(block) = block(graph, id) else { return Outcome::NoMatch };
    match obstacle(graph, &block) {
        Some(obstacle) => Outcome::Declined(obstacle),
        None => Outcome::Replace(patch(graph, id, &block)),
    }
}

fn block(graph: &Graph, id: NodeId) -> Option<Block<'_>> {
    let project = conv(graph, id).filter(|p| p.is_pointwise(graph))?;
    if graph.node(id).ty.dtype != DType::F32 {
        return None;
    }
    let (se, inner) = match graph.node(project.x).op()? {
        Op::SqueezeExcite(op) => (Some((project.x, op)), *graph.operands(project.x).first()?),
        _ => (None, project.x),
    };
    let spatial = conv(graph, inner).filter(|s| s.residual.is_none() && s.op.strides.len() == 2)?;
    let weight = &graph.node(spatial.w).ty.shape;
    let channels = *graph.node(spatial.x).ty.shape.get(1)?;
    let depthwise = spatial.op.group == channels && weight[..2] == [channels, 1];
    let widens = spatial.op.group == 1 && spatial.op.then.is_some() && weight[0] > channels;
    let dense = widens && weight[2..].iter().any(|k| *k > 1);
    if !depthwise && !dense {
        return None;
    }
    let expansion = |e: &ConvView<'_>| {
        e.is_pointwise(graph)
            && e.residual.is_none()
            && shared(graph, e.id).is_none()
            && parameters_known(graph, e).is_ok()
    };
    let starts_here = !depthwise || project.residual == Some(spatial.x);
    let expand = if starts_here { None } else { conv(graph, spatial.x).filter(expansion) };
    Some(Block { expand, spatial, fused: !depthwise, se, project })
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
            Some(format!("the residual %{} is not the input %{}", graph.node(r).name, graph.node(block.x()).name))
        }
        Some(_) if op.then.is_some() && !op.then_first => {
            Some(format!("%{} has an activation after the residual", graph.node(block.project.id).name))
        }
        _ => None,
    }
}

fn parameters_known(graph: &Graph, part: &ConvView<'_>) -> Result<(), String> {
    let constant = |id: NodeId, role: &str| match graph.node(id).constant() {
        Some(_) => Ok(()),
        None => known(graph, id, role).map(drop),
    };
    constant(part.w, "weight")?;
    part.bias.map_or(Ok(()), |bias| constant(bias, "bias"))
}

fn patch(graph: &Graph, id: NodeId, block: &Block<'_>) -> Patch {
    let mut patch = Patch::new(id, if block.fused { "fused mbconv" } else { "mbconv" });
    let mut operands = vec![Value::Old(block.x())];
    for part in block.expand.iter().chain([&block.spatial]) {
        operands.extend(parameters(graph, part, &mut patch));
    }
    if let Some((se, _)) = block.se {
        operands.extend(graph.operands(se).into_iter().skip(1).map(Value::Old));
    }
    operands.extend(parameters(graph, &block.project, &mut patch));
    let op = MbConv {
        fused: block.fused,
        expand: block.expand.is_some(),
        expand_act: block.expand.as_ref().and_then(|expand| expand.op.then),
        act: block.spatial.op.then,
        strides: block.spatial.op.strides.clone(),
        pads: block.spatial.op.pads.clone(),
        dilations: block.spatial.op.dilations.clone(),
        se: block.se.map(|(_, se)| vec![se.act, se.gate]),
        project_act: block.project.op.then,
        residual: block.project.residual.is_some(),
    };
    patch.op(op, &operands);
    patch
}

/// Weight and bias of a part.
fn parameters(graph: &Graph, part: &ConvView<'_>, patch: &mut Patch) -> [Value; 2] {
    let bias = match part.bias {
        Some(bias) => Value::Old(bias),
        None => {
            let ty = TensorType::f32([graph.node(part.w).ty.shape[0]]);
            patch.constant(format!("{}.bias", graph.node(part.id).name), zeros(ty))
        }
    };
    [Value::Old(part.w), bias]
}
