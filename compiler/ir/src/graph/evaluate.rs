//! Runs a graph on the reference evaluator, node by node: the oracle of tests and of `verify`.

use std::collections::HashMap;

use super::nodes::{Graph, Kind, NodeId};
use crate::error::{Error, OpError, Result};
use crate::ops::literal::Literal;
use crate::types::TensorType;

/// The outputs of a graph, in order, for `inputs` in the order of its inputs.
///
/// # Errors
/// An input that is missing or of another type, a constant of which only the hash is known, or an operator's own
/// refusal.
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::parse;

    fn run(text: &str, inputs: &[Literal]) -> Result<Vec<Vec<f64>>> {
        Ok(evaluate(&parse(text)?, inputs)?.iter().map(Literal::to_f64).collect())
    }

    fn literal(values: &[f64]) -> Literal {
        Literal::new_float(TensorType::f32([values.len()]), values.to_vec())
    }

    #[test]
    fn values_reach_every_user_and_output() -> Result<()> {
        let text = r#"graph @g(%x: f32[2]) {
          %k = constant f32[] [10]
          %a = mul %x, %x
          %b = add %a, %k
          return %b as "b", %a as "a", %x as "x", %a as "again"
        }"#;
        let found = run(text, &[literal(&[1.0, 2.0])])?;
        assert_eq!(found, [vec![11.0, 14.0], vec![1.0, 4.0], vec![1.0, 2.0], vec![1.0, 4.0]]);
        Ok(())
    }

    #[test]
    fn inputs_are_checked() {
        let text = "graph @g(%x: f32[2]) { return %x as \"x\" }";
        let message = |inputs: &[Literal]| run(text, inputs).map_err(|e| e.to_string()).err().unwrap_or_default();
        assert_eq!(message(&[]), "g: graph: number of inputs: expected 1, found 0");
        assert_eq!(message(&[literal(&[1.0])]), "x: input: input: expected f32[2], found f32[1]");
    }

    #[test]
    fn constants_known_by_hash_are_refused() {
        let text = "graph @g() { %k = constant f32[17] hash(0x1) return %k as \"k\" }";
        assert!(run(text, &[]).is_err_and(|e| e.to_string().contains("only a hash")));
    }
}
