//! A classifier as a feature extractor.
//!
//! In: the graph of a classifier. Out: the same graph up to the pooled features, the input of its last linear layer, as the one output `pooled`.

use fornax_ir::graph::Graph;

use super::head::linear_layer;
use crate::error::{Error, Result};

/// Name of the output.
pub(crate) const POOLED: &str = "pooled";

/// Cuts the classifier off the first output of `graph`.
///
/// # Errors
/// [`Error::Usage`] if there is no linear layer on the way back from the first output.
pub(crate) fn pooled(mut graph: Graph) -> Result<Graph> {
    let Some(layer) = linear_layer(&graph) else {
        return Err(Error::usage(
            "--features pooled",
            "a network that ends in a linear layer",
            format!("{:?}", graph.name),
        ));
    };
    graph.set_outputs(vec![(POOLED.to_string(), layer.features)]);
    graph.remove_dead();
    Ok(graph)
}
