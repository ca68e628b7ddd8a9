//! Where a classifier ends: its last linear layer.
//!
//! In: the graph of a classifier. Out: the node of the layer, what it reads, and its weights and biases where they are constants. A layer
//! is a matrix product, with its bias or followed by one, or a 1x1 convolution: of one pixel, or of all pixels of a map over which its
//! results are averaged, a ReLU between the two or not (SqueezeNet).

use fornax_ir::graph::{Graph, NodeId, ValueId};
use fornax_ir::ops::pool::PoolKind;
use fornax_ir::ops::reduce::ReduceKind;
use fornax_ir::ops::{Conv, Op, Pool, Reduce};
use fornax_ir::scalar::UnaryFn;

/// The last linear layer of a network.
#[derive(Clone, Debug)]
pub(crate) struct LinearLayer {
    /// The product or convolution.
    pub node: NodeId,
    /// What it reads: the pooled features, or a map of them.
    pub features: ValueId,
    /// Whether that is a map, over whose pixels the layer's results are averaged.
    pub averaged: bool,
    /// What a ReLU reads, if there is one before the results are averaged.
    pub rectified: Option<ValueId>,
    /// The node that adds the biases, if it is another one.
    addition: Option<NodeId>,
}

/// Weights and biases of a linear layer that are constants, by the names of their nodes.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct Head {
    /// Name of the weights.
    pub weights: String,
    /// Shape of the weights.
    pub shape: Vec<usize>,
    /// Whether a row of the weights is a feature's rather than a class's.
    pub by_feature: bool,
    /// Name of the biases.
    pub biases: String,
    /// Shape of the biases.
    pub bias_shape: Vec<usize>,
    /// Number of classes.
    pub classes: usize,
    /// Number of features.
    pub features: usize,
    /// Whether scores pass a ReLU before they are averaged over a map: below zero a class neither scores nor learns.
    pub rectified: bool,
}

/// Whether a product or convolution is a linear layer: a convolution if it has one pixel.
fn is_linear(graph: &Graph, id: ValueId) -> bool {
    let is_convolution = matches!(graph.producer(id).op(), Some(Op::Conv(_)));
    let x = graph.operands(id.node)[0];
    !is_convolution || graph.ty(x).shape[2..].iter().all(|extent| *extent == 1)
}

/// Whether a convolution is a linear layer of every pixel.
fn is_pointwise(graph: &Graph, id: ValueId, conv: &Conv) -> bool {
    let plain = conv.group == 1 && !conv.residual && conv.activation.is_none();
    let window = graph.operands(id.node).get(1).map_or(&[][..], |weight| &graph.ty(*weight).shape[2..]);
    plain && conv.pads.iter().all(|pad| *pad == 0) && conv.strides.iter().chain(window).all(|extent| *extent == 1)
}

/// Whether a pool averages all pixels of a map.
fn averages_all(graph: &Graph, x: ValueId, pool: &Pool) -> bool {
    pool.kind == PoolKind::Average && pool.pads.iter().all(|pad| *pad == 0) && pool.kernel[..] == graph.ty(x).shape[2..]
}

/// Whether a reduction averages all pixels of a map.
fn reduces_all(graph: &Graph, x: ValueId, reduce: &Reduce) -> bool {
    reduce.kind == ReduceKind::Mean && reduce.axes.iter().copied().eq(2..graph.ty(x).shape.rank())
}

/// The last linear layer on the way back from the first output.
pub(crate) fn linear_layer(graph: &Graph) -> Option<LinearLayer> {
    let mut id = graph.outputs().first().map(|(_, id)| *id)?;
    let mut addition = None;
    let mut rectified = None;
    let mut mean = false;
    loop {
        let node = graph.producer(id);
        let operands = graph.operands(id.node);
        let x = *operands.first()?;
        let layer = |averaged| Some(LinearLayer { node: id.node, features: x, averaged, rectified, addition });
        match node.op()? {
            Op::Gemm(_) | Op::MatMul(_) | Op::Conv(_) if is_linear(graph, id) => return layer(false),
            Op::Conv(conv) if mean && is_pointwise(graph, id, conv) => return layer(true),
            Op::Pool(pool) if averages_all(graph, x, pool) => (id, mean) = (x, true),
            Op::Reduce(reduce) if reduces_all(graph, x, reduce) => (id, mean) = (x, true),
            // Of what is averaged, nothing but a ReLU keeps the scores linear wherever they matter.
            Op::Unary(unary) if mean => {
                (unary.function == UnaryFn::Relu).then_some(())?;
                rectified = Some(x);
                id = x;
            }
            Op::Softmax(_) | Op::Reshape(_) | Op::Identity(_) | Op::Unary(_) | Op::Cast(_) | Op::Transpose(_) => id = x,
            // A bias added by itself.
            Op::Binary(_) => {
                addition = is_addition(graph, id).then_some(id.node);
                id = operands.into_iter().find(|operand| graph.producer(*operand).constant().is_none())?;
            }
            _ => return None,
        }
    }
}

/// Whether a node adds two values.
fn is_addition(graph: &Graph, id: ValueId) -> bool {
    matches!(graph.producer(id).op(), Some(Op::Binary(op)) if op.function == fornax_ir::scalar::BinaryFn::Add)
}

/// Weights and biases of the last linear layer, if it is one whose classes can be exchanged.
pub(crate) fn head(graph: &Graph) -> Option<Head> {
    let layer = linear_layer(graph)?;
    let operands = graph.operands(layer.node);
    let constant =
        |value: ValueId| graph.producer(value).constant().map(|constant| (graph.name_of(value).to_string(), constant));
    let (weights, found) = constant(*operands.get(1)?)?;
    let shape = found.ty.shape.to_vec();
    let by_feature = match graph.node(layer.node).op()? {
        Op::Gemm(op) if op.alpha == 1.0 && op.beta == 1.0 && !op.trans_a && op.activation.is_none() => !op.trans_b,
        Op::MatMul(_) => true,
        Op::Conv(op) if op.group == 1 && !op.residual => false,
        _ => return None,
    };
    let extents: Vec<usize> = shape.iter().copied().filter(|extent| *extent != 1).collect();
    let [rows, columns] = match (extents.len(), shape.get(..2)?) {
        (0..=2, [rows, columns]) => [*rows, *columns],
        _ => return None,
    };
    let (classes, features) = if by_feature { (columns, rows) } else { (rows, columns) };
    let bias = match layer.addition {
        Some(addition) => graph.operands(addition).into_iter().find_map(constant),
        None => operands.get(2).copied().and_then(constant),
    };
    let (biases, found) = bias?;
    let bias_shape = found.ty.shape.to_vec();
    let fits = found.ty.shape.numel() == classes && graph.users(operands[1]).len() == 1;
    let rectified = layer.rectified.is_some();
    fits.then_some(Head { weights, shape, by_feature, biases, bias_shape, classes, features, rectified })
}
