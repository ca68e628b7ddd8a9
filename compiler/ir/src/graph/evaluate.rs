//! Runs a graph on the reference evaluator, node by node: the oracle of tests and of `verify`.
//!
//! In: literals for the inputs, and the variables in an [`Environment`]. Out: the outputs, and the variables as they are after
//! the run.

use std::collections::{BTreeMap, HashMap};

use super::nodes::{Graph, Kind, NodeId, ValueId};
use crate::error::{Error, OpError, Result};
use crate::ops::literal::Literal;
use crate::types::TensorType;

/// What the variables of a graph hold between two runs.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Environment {
    values: BTreeMap<String, Literal>,
}

impl Environment {
    /// The variables of `graph` with their first elements.
    ///
    /// # Errors
    /// A variable of which only the hash is known.
    pub fn new(graph: &Graph) -> Result<Self> {
        let mut values = BTreeMap::new();
        for id in graph.variables() {
            let node = graph.node(*id);
            if let Some(variable) = node.variable() {
                let at = |e: OpError| e.at(&node.name, node.mnemonic());
                values.insert(variable.name.clone(), Literal::from_constant(&variable.initial).map_err(at)?);
            }
        }
        Ok(Self { values })
    }

    /// What the variable called `name` holds.
    pub fn get(&self, name: &str) -> Option<&Literal> {
        self.values.get(name)
    }

    /// Writes the variable called `name`.
    ///
    /// # Errors
    /// If there is none, or it is of another type.
    pub fn set(&mut self, name: &str, value: Literal) -> Result<()> {
        let held = self.values.get_mut(name);
        let held = held.ok_or_else(|| OpError::new("variable", "one of the graph", name).at(name, "variable"))?;
        if held.ty != value.ty {
            return Err(OpError::new("type", held.ty.to_string(), value.ty.to_string()).at(name, "variable"));
        }
        *held = value;
        Ok(())
    }
}

/// The outputs of a graph, in order, for `inputs` in the order of its inputs. Its variables hold their first elements.
///
/// # Errors
/// An input that is missing or of another type, a constant or variable of which only the hash is known, or an operator's own
/// refusal.
pub fn evaluate(graph: &Graph, inputs: &[Literal]) -> Result<Vec<Literal>> {
    evaluate_in(graph, inputs, &mut Environment::new(graph)?)
}

/// [`evaluate`] with the variables that `environment` holds; afterwards it holds what the graph's updates make of them.
///
/// # Errors
/// As [`evaluate`]; and a variable that `environment` lacks.
pub fn evaluate_in(graph: &Graph, inputs: &[Literal], environment: &mut Environment) -> Result<Vec<Literal>> {
    if inputs.len() != graph.inputs().len() {
        let (expected, found) = (graph.inputs().len().to_string(), inputs.len().to_string());
        return Err(OpError::new("number of inputs", expected, found).at(&graph.name, "graph"));
    }
    let mut values: HashMap<ValueId, Literal> = HashMap::new();
    let uses = |value| (value, graph.users(value).len() + usize::from(graph.is_output(value)));
    let mut uses: HashMap<ValueId, usize> = graph.ids().flat_map(|id| graph.values(id)).map(uses).collect();
    for id in graph.topological()? {
        let node = graph.node(id);
        let results = match &node.kind {
            Kind::Input => vec![input(graph, id, inputs)?],
            Kind::Constant(constant) => {
                vec![Literal::from_constant(constant).map_err(|e| e.at(&node.name, "constant"))?]
            }
            Kind::Parameter(variable) | Kind::State(variable) => {
                let held = environment.get(&variable.name).cloned();
                let missing = || OpError::new("variable", format!("a value of {:?}", variable.name), "none");
                vec![held.ok_or_else(|| missing().at(&node.name, node.mnemonic()))?]
            }
            Kind::Op(op) => {
                let operands = graph.operands(id);
                let literals: Vec<&Literal> = operands.iter().filter_map(|o| values.get(o)).collect();
                let types: Vec<&TensorType> = literals.iter().map(|l| &l.ty).collect();
                let at = |e: OpError| e.at(&node.name, op.name());
                op.infer(&types).map_err(at)?;
                let results = op.evaluate(&literals).map_err(at)?;
                for operand in operands {
                    release(operand, &mut uses, &mut values);
                }
                results
            }
        };
        let count = (1 + node.more.len(), results.len());
        if count.0 != count.1 {
            let error = OpError::new("number of results", count.0.to_string(), count.1.to_string());
            return Err(error.at(&node.name, node.mnemonic()));
        }
        for (value, literal) in graph.values(id).zip(results) {
            let ty = graph.ty(value);
            if literal.ty != *ty {
                let error = OpError::new("type", ty.to_string(), literal.ty.to_string());
                return Err(error.at(graph.name_of(value), node.mnemonic()));
            }
            values.insert(value, literal);
        }
    }
    let missing = || Error::Invalid(vec![format!("{}: an output is not a node of the graph", graph.name)]);
    let value = |value| values.get(value).cloned().ok_or_else(missing);
    for (variable, new) in graph.updates() {
        if let Some(variable) = graph.node(*variable).variable() {
            environment.set(&variable.name, value(new)?)?;
        }
    }
    graph.outputs().iter().map(|(_, id)| value(id)).collect()
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
fn release(value: ValueId, uses: &mut HashMap<ValueId, usize>, values: &mut HashMap<ValueId, Literal>) {
    if let Some(n) = uses.get_mut(&value) {
        *n = n.saturating_sub(1);
        if *n == 0 {
            values.remove(&value);
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
    fn every_result_of_a_node_is_a_value() -> Result<()> {
        let text = r#"graph @g(%x: f32[3]) {
          %a, %b = split %x {sizes=[1, 2]}
          %c = add %a, %b
          return %c as "c", %b as "b"
        }"#;
        assert_eq!(run(text, &[literal(&[1.0, 2.0, 3.0])])?, [vec![3.0, 4.0], vec![2.0, 3.0]]);
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
    fn variables_live_from_run_to_run() -> Result<()> {
        let text = r#"graph @g(%x: f32[2]) {
          %w = parameter "w" f32[2] [1, 2]
          %a = state "a" f32[2] [0, 0]
          %b = state "b" f32[2] [7, 7]
          %sum = add %a, %x
          %y = mul %sum, %w
          return %y as "y", %a as "before"
          update %a <- %sum
          update %b <- %a
        }"#;
        let graph = parse(text)?;
        let mut environment = Environment::new(&graph)?;
        let mut run = |w: Option<&[f64]>| -> Result<Vec<Vec<f64>>> {
            if let Some(w) = w {
                environment.set("w", literal(w))?;
            }
            let outputs = evaluate_in(&graph, &[literal(&[1.0, 10.0])], &mut environment)?;
            let states = ["a", "b"].iter().filter_map(|name| environment.get(name));
            Ok(outputs.iter().chain(states).map(Literal::to_f64).collect())
        };
        assert_eq!(run(None)?, [vec![1.0, 20.0], vec![0.0, 0.0], vec![1.0, 10.0], vec![0.0, 0.0]]);
        assert_eq!(run(Some(&[3.0, 3.0]))?, [vec![6.0, 60.0], vec![1.0, 10.0], vec![2.0, 20.0], vec![1.0, 10.0]]);
        assert!(environment.set("w", literal(&[1.0])).is_err() && environment.set("c", literal(&[1.0])).is_err());
        Ok(())
    }

    #[test]
    fn constants_known_by_hash_are_refused() {
        let text = "graph @g() { %k = constant f32[17] hash(0x1) return %k as \"k\" }";
        assert!(run(text, &[]).is_err_and(|e| e.to_string().contains("only a hash")));
    }
}
