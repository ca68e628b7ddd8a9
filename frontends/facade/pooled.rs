//! A classifier as a feature extractor.
//!
//! In: the graph of a classifier. Out: the same graph up to the pooled features, the input of its last linear layer, as the one output
//! `pooled`. Where that layer is one of every pixel, whose scores are averaged, the features are averaged in their place: the sum over
//! pixels and that over channels may change places.

use fornax_ir::graph::{Graph, GraphBuilder, ValueId};
use fornax_ir::ops::Reduce;
use fornax_ir::ops::reduce::ReduceKind;

use super::head::linear_layer;
use crate::error::{Error, Result};

/// Name of the output.
pub(crate) const POOLED: &str = "pooled";

/// Cuts the classifier off the first output of `graph`.
///
/// # Errors
/// [`Error::Usage`] if there is no linear layer on the way back from the first output.
pub(crate) fn pooled(graph: Graph) -> Result<Graph> {
    let Some(layer) = linear_layer(&graph) else {
        return Err(Error::usage(
            "--features pooled",
            "a network that ends in a linear layer",
            format!("{:?}", graph.name),
        ));
    };
    match layer.averaged {
        true => reduced(graph, layer.features, 2, ReduceKind::Mean, POOLED),
        false => Ok(ending_at(graph, layer.features, POOLED)),
    }
}

/// The graph that computes one value of `graph`, reduced over the axes from `first` on, as the output `name`.
///
/// # Errors
/// [`Error::Graph`] if the value has no elements that can be reduced.
pub(super) fn reduced(graph: Graph, value: ValueId, first: usize, kind: ReduceKind, name: &str) -> Result<Graph> {
    let mut b = GraphBuilder::of(graph);
    let axes = (first..b.ty(value).shape.rank()).collect();
    let value = b.op(name, Reduce { kind, axes, keepdims: true }, &[value])?;
    b.graph_mut().set_outputs(vec![(name.to_string(), value)]);
    Ok(b.finish())
}

/// The graph up to a value, its one output.
fn ending_at(mut graph: Graph, value: ValueId, name: &str) -> Graph {
    graph.set_outputs(vec![(name.to_string(), value)]);
    graph.remove_dead();
    graph
}
