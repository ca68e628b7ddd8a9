//! A classifier as a feature extractor.
//!
//! In: the graph of a classifier. Out: the same graph up to the pooled features, the input of its last linear layer, as the one output `pooled`.

use fornax_ir::graph::{Graph, ValueId};
use fornax_ir::ops::Op;

use crate::error::{Error, Result};

/// Name of the output.
pub(crate) const POOLED: &str = "pooled";

/// Cuts the classifier off the first output of `graph`.
///
/// # Errors
/// [`Error::Usage`] if there is no linear layer on the way back from the first output.
pub(crate) fn pooled(mut graph: Graph) -> Result<Graph> {
    let first = graph.outputs().first().map(|(_, id)| *id);
    let Some(features) = first.and_then(|id| linear_input(&graph, id)) else {
        return Err(Error::usage(
            "--features pooled",
            "a network that ends in a linear layer",
            format!("{:?}", graph.name),
        ));
    };
    graph.set_outputs(vec![(POOLED.to_string(), features)]);
    graph.remove_dead();
    Ok(graph)
}

/// What the last linear layer before `id` reads.
fn linear_input(graph: &Graph, mut id: ValueId) -> Option<ValueId> {
    loop {
        let node = graph.producer(id);
        let operands = graph.operands(id.node);
        match node.op()? {
            Op::Gemm(_) | Op::MatMul(_) => return operands.first().copied(),
            // A 1x1 convolution of one pixel is a linear layer.
            Op::Conv(_) if graph.ty(operands[0]).shape[2..].iter().all(|extent| *extent == 1) => {
                return operands.first().copied();
            }
            Op::Softmax(_) | Op::Reshape(_) | Op::Identity(_) | Op::Unary(_) | Op::Cast(_) | Op::Transpose(_) => {
                id = *operands.first()?;
            }
            // A bias added by itself.
            Op::Binary(_) => id = operands.into_iter().find(|operand| graph.producer(*operand).constant().is_none())?,
            _ => return None,
        }
    }
}
