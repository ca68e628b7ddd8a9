//! A classifier taken apart: its last layer, and everything else.
//!
//! In: the graph of a classifier. Out: the elements of the layer, and a hash of the rest by which networks are known
//! that differ in the layer only; of a compiled one, where the layer lies in the packed weights.

use std::collections::HashMap;
use std::fmt::Write;

use fornax_compiler::aot::Compiled;
use fornax_ir::graph::{Graph, NodeId};
use fornax_ir::types::Constant;
use serde::{Deserialize, Serialize};

use super::head::{Head, head};
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;

/// What a library's manifest says of its last layer, under `head`.
#[derive(Serialize, Deserialize)]
pub(crate) struct Exchangeable {
    /// Hash of everything else: operators, their attributes, and the values of all other constants.
    pub rest: String,
    pub weights: Part,
    pub biases: Part,
}

/// A constant of the layer.
#[derive(Serialize, Deserialize)]
pub(crate) struct Part {
    pub shape: Vec<usize>,
    /// Where its elements lie in the weights, and how they are packed.
    pub places: Vec<(usize, String)>,
}

/// A network's last layer and the hash of the rest of it.
pub(crate) struct Parted {
    pub head: Head,
    /// As [`Exchangeable::rest`].
    pub rest: String,
    pub weights: Constant,
    pub biases: Constant,
    /// The model's names of both.
    origins: [String; 2],
}

impl Parted {
    /// Takes a network apart; none if it does not end in a linear layer of its own.
    ///
    /// # Errors
    /// [`Error::Graph`] if the graph has circles.
    pub fn of(graph: &Graph) -> Result<Option<Self>> {
        let Some(head) = head(graph) else { return Ok(None) };
        let rest = format!("xxh3:{:016x}", rest_hash(graph, &head)?);
        let constant = |name: &String| {
            let found = graph.ids().map(|id| graph.node(id)).find(|node| node.name == *name)?;
            Some((found.constant()?.clone(), found.constant()?.origins.first().unwrap_or(name).clone()))
        };
        let parts = constant(&head.weights).zip(constant(&head.biases));
        let parted = |((weights, of_weights), (biases, of_biases))| Self {
            head,
            rest,
            weights,
            biases,
            origins: [of_weights, of_biases],
        };
        Ok(parts.map(parted))
    }

    /// What the manifest of the compiled network says; none if something else is made of the layer.
    pub fn exchangeable(&self, compiled: &Compiled<'_>) -> Option<Exchangeable> {
        let part = |constant: &Constant, origin: &str| {
            let places = compiled.places(origin, constant)?;
            let places = places.into_iter().map(|(offset, packing)| (offset, packing.to_string())).collect();
            Some(Part { shape: constant.ty.shape.to_vec(), places })
        };
        let [of_weights, of_biases] = &self.origins;
        Some(Exchangeable {
            rest: self.rest.clone(),
            weights: part(&self.weights, of_weights)?,
            biases: part(&self.biases, of_biases)?,
        })
    }
}

/// Hash of a graph without its names, and without the elements of the last layer.
fn rest_hash(graph: &Graph, head: &Head) -> Result<u64> {
    let mut numbers: HashMap<NodeId, usize> = HashMap::new();
    let mut text = String::new();
    for id in graph.topological()? {
        let node = graph.node(id);
        let Some(op) = node.op() else { continue };
        _ = write!(text, "{} {:?}", op.name(), op.attributes());
        for operand in graph.operands(id) {
            let producer = graph.producer(operand);
            _ = match (producer.constant(), numbers.get(&operand.node)) {
                (Some(own), _) if [&head.weights, &head.biases].contains(&&producer.name) => {
                    write!(text, " {}", own.ty)
                }
                (Some(own), _) => write!(text, " {} {:016x}", own.ty, own.hash()),
                (None, Some(number)) => write!(text, " %{number}.{}", operand.result),
                (None, None) => write!(text, " {} {}", producer.name, producer.ty),
            };
        }
        _ = writeln!(text, " : {}", node.ty);
        numbers.insert(id, numbers.len());
    }
    for (_, value) in graph.outputs() {
        _ = write!(text, " {:?}.{}", numbers.get(&value.node), value.result);
    }
    Ok(xxhash_rust::xxh3::xxh3_64(text.as_bytes()))
}
