//! Where a classifier ends: its last linear layer.
//!
//! In: the graph of a classifier. Out: the node of the layer, what it reads, and its weights and biases where they are constants. A layer
//! is a matrix product, with its bias or followed by one, or a 1x1 convolution of one pixel.

use fornax_ir::graph::{Graph, NodeId, ValueId};
use fornax_ir::ops::Op;

/// The last linear layer of a network.
#[derive(Clone, Debug)]
pub(crate) struct LinearLayer {
    /// The product or convolution.
    pub node: NodeId,
    /// What it reads: the pooled features.
    pub features: ValueId,
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
}

/// Whether a product or convolution is a linear layer: a convolution if it has one pixel.
fn is_linear(graph: &Graph, id: ValueId) -> bool {
    let is_convolution = matches!(graph.producer(id).op(), Some(Op::Conv(_)));
    let x = graph.operands(id.node)[0];
    !is_convolution || graph.ty(x).shape[2..].iter().all(|extent| *extent == 1)
}

/// The last linear layer on the way back from the first output.
pub(crate) fn linear_layer(graph: &Graph) -> Option<LinearLayer> {
    let mut id = graph.outputs().first().map(|(_, id)| *id)?;
    let mut addition = None;
    loop {
        let node = graph.producer(id);
        let operands = graph.operands(id.node);
        match node.op()? {
            Op::Gemm(_) | Op::MatMul(_) | Op::Conv(_) if is_linear(graph, id) => {
                return Some(LinearLayer { node: id.node, features: *operands.first()?, addition });
            }
            Op::Softmax(_) | Op::Reshape(_) | Op::Identity(_) | Op::Unary(_) | Op::Cast(_) | Op::Transpose(_) => {
                id = *operands.first()?;
            }
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
    fits.then_some(Head { weights, shape, by_feature, biases, bias_shape, classes, features })
}
