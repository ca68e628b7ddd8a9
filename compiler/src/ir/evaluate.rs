//! Runs a graph on the reference evaluator, node by node: the oracle of tests and of `verify`.

use std::collections::HashMap;

use super::graph::{Graph, Kind, NodeId};
use crate::error::{Error, OpError, Result};
use crate::ops::literal::Literal;
use crate::types::TensorType;

/// The outputs of a graph, in order, for `inputs` in the order of its inputs.
///
/// # Errors
/// An input that is missing or of another type, a constant of which only the hash is known, or an operator's own refusal.
pub fn evaluate(graph: &Graph, inputs: &[Literal]) -> Result<Vec<Literal>> {
    if inputs.len() != graph.inputs().len() {
        let (expected, found) = (graph.inputs().len().to_string(), inputs.len().to_string());
        return Err(OpError::new("number of inputs", expected, found).at(&graph.name, "graph"));
    }
    let mut values: HashMap<NodeId, Literal> = HashMap::new();
    let mut uses: HashMap<NodeId, usize> =
        graph.ids().map(|id| (id, graph.users(id).len() + usize::from(graph.is_output(id)))).collect();
    for id in graph.topological()? {
        let node = graph.node(id);
        let value = match &node.kind {
            Kind::Input => input(graph, id, inputs)?,
            Kind::Constant(constant) => Literal::from_constant(constant).map_err(|e| e.at(&node.name, "constant"))?,
            Kind::Op(op) => {
                let operands = graph.operands(id);
                let literals: Vec<&Literal> = operands.iter().filter_map(|o| values.get(o)).collect();
                let types: Vec<&TensorType> = literals.iter().map(|l| &l.ty).collect();
                let at = |e: OpError| e.at(&node.name, op.name());
                op.infer(&types).map_err(at)?;
                let value = op.evaluate(&literals).map_err(at)?;
                for operand in operands {
                    release(operand, &mut uses, &mut values);
                }
                value
            }
        };
        if value.ty != node.ty {
            return Err(OpError::new("type", node.ty.to_string(), value.ty.to_string()).at(&node.name, node.mnemonic()));
        }
        values.insert(id, value);
    }
    let missing = || Error::Invalid(vec![format!("{}: an output is not a node of the graph", graph.name)]);
    graph.outputs().iter().map(|(_, id)| values.get(id).cloned().ok_or_else(missing)).collect()
}

fn input(graph: &Graph, id: NodeId, inputs: &[Literal]) -> Result<Literal> {
    let node = graph.node(id);
    let literal = graph.inputs().iter().position(|i| *i == id).and_then(|i| inputs.get(i));
    let literal = literal.ok_or_else(|| OpError::new("input", "a value", "none").at(&node.name, "input"))?;
    if literal.ty != node.ty {
        return Err(OpError::new("input", node.ty.to_string(), literal.ty.to_string()).at(&node.name, "input"));
    }
    Ok(literal.clone())
}

/// Counts one use down and drops the value after its last.
fn release(id: NodeId, uses: &mut HashMap<NodeId, usize>, values: &mut HashMap<NodeId, Literal>) {
    if let Some(n) = uses.get_mut(&id) {
        *n = n.saturating_sub(1);
        if *n == 0 {
            values.remove(&id);
        }
    }
}
