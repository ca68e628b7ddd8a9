//! The invariants of a graph, one rule and one message each:
//!
//! 1. no node is part of a cycle;
//! 2. the operands of a node fill the slots 0, 1, 2, … once each;
//! 3. inputs, constants and variables have no operands;
//! 4. the graph's inputs are nodes of kind input, each listed once, and no other node is of that kind;
//! 5. no two values share a name, and no name is empty;
//! 6. an operator has the results that its shape rule says of its operands, of those types, and operands name results that there are;
//! 7. the type of a constant or variable is its payload's, and the payload has as many bytes as the type says; random elements are `f32`;
//! 8. outputs name nodes of the graph, and no two outputs share a name;
//! 9. variables are listed once each, and no two share a name, which is neither empty nor holds a zero byte;
//! 10. an update gives a variable, not updated twice, a value of its type;
//! 11. inputs, constants and variables have addressable sizes; results have them by their shape rules.
//!
//! All breaches are gathered into one error; each names its node.

use std::collections::HashSet;

use super::nodes::{Graph, Kind, Node, NodeId, ValueId};
use crate::error::{Error, Result};
use crate::ops::Op;
use crate::ops::shapes::expect_addressable;
use crate::types::{Constant, DType, Payload, TensorType};

/// Checks every rule.
///
/// # Errors
/// [`Error::Invalid`] with one message per breach.
pub fn verify(graph: &Graph) -> Result<()> {
    let mut faults = Vec::new();
    if let Err(Error::Invalid(messages)) = graph.topological() {
        faults.extend(messages);
    }
    let mut names = HashSet::new();
    for id in graph.ids() {
        let node = graph.node(id);
        let mut fault = |message: String| faults.push(format!("{}: {message}", node.name));
        for (i, (name, _)) in node.results().enumerate() {
            if name.is_empty() {
                fault("the name is empty".into());
            } else if !names.insert(name) {
                fault(match i {
                    0 => "another node has this name".into(),
                    _ => format!("%{name}: another value has this name"),
                });
            }
        }
        let slots = graph.operand_slots(id);
        if let Some((i, (slot, _))) = slots.iter().enumerate().find(|(i, (slot, _))| i != slot) {
            fault(format!("operand slots: expected {i}, found {slot}"));
        }
        let message = match &node.kind {
            _ if let Some((_, value)) = slots.iter().find(|(_, value)| !exists(graph, *value)) => Some(format!(
                "operand: expected one of {} results, found number {}",
                results(graph, *value),
                value.result
            )),
            Kind::Op(op) => check_op(graph, id, op),
            _ if !slots.is_empty() => Some(format!("{}: expected no operands, found {}", node.mnemonic(), slots.len())),
            Kind::Input if graph.inputs().contains(&id) => None,
            Kind::Input => Some("input: expected to be listed among the inputs of the graph".into()),
            Kind::Constant(constant) => check_constant(&node.ty, constant, "constant"),
            Kind::Parameter(variable) | Kind::State(variable) => {
                let listed = graph.variables().contains(&id);
                let unlisted = || format!("{}: expected to be listed among the variables", node.mnemonic());
                check_constant(&node.ty, &variable.initial, node.mnemonic()).or((!listed).then(unlisted))
            }
        };
        message.into_iter().for_each(fault);
    }
    check_ports(graph, &mut faults);
    check_variables(graph, &mut faults);
    faults.extend(oversized(graph));
    if faults.is_empty() { Ok(()) } else { Err(Error::Invalid(faults)) }
}

/// Checks rule 11 alone, without which nothing can be computed of a graph.
pub(crate) fn verify_sizes(graph: &Graph) -> Result<()> {
    let faults = oversized(graph);
    if faults.is_empty() { Ok(()) } else { Err(Error::Invalid(faults)) }
}

/// The breaches of rule 11.
fn oversized(graph: &Graph) -> Vec<String> {
    let nodes = graph.ids().map(|id| graph.node(id)).filter(|node| node.op().is_none());
    let fault = |node: &Node| {
        let error = expect_addressable("type", &node.ty).err()?;
        Some(format!("{}: {}: {error}", node.name, node.mnemonic()))
    };
    nodes.filter_map(fault).collect()
}

/// Whether a value is a result of a node of the graph.
fn exists(graph: &Graph, value: ValueId) -> bool {
    graph.contains(value.node) && value.result < results(graph, value)
}

/// Number of results of a value's node.
fn results(graph: &Graph, value: ValueId) -> usize {
    graph.producer(value).results().count()
}

fn check_op(graph: &Graph, id: NodeId, op: &Op) -> Option<String> {
    let operands = graph.operands(id);
    let types: Vec<&TensorType> = operands.iter().map(|o| graph.ty(*o)).collect();
    let found: Vec<&TensorType> = graph.node(id).results().map(|(_, ty)| ty).collect();
    match op.infer(&types) {
        Err(e) => Some(format!("{}: {e}", op.name())),
        Ok(inferred) if inferred.len() != found.len() => {
            Some(format!("{}: results: expected {}, found {}", op.name(), inferred.len(), found.len()))
        }
        Ok(inferred) => {
            let (inferred, ty) = inferred.iter().zip(found).find(|(inferred, ty)| inferred != ty)?;
            Some(format!("{}: type: expected {inferred}, found {ty}", op.name()))
        }
    }
}

fn check_constant(ty: &TensorType, constant: &Constant, what: &str) -> Option<String> {
    if *ty != constant.ty {
        return Some(format!("{what}: type: expected {}, found {ty}", constant.ty));
    }
    match &constant.payload {
        Payload::Bytes(bytes) if bytes.len() != ty.bytes() => {
            Some(format!("{what}: payload of {ty}: expected {} bytes, found {}", ty.bytes(), bytes.len()))
        }
        Payload::Random(_) if ty.dtype != DType::F32 => {
            Some(format!("{what}: random elements: expected f32, found {}", ty.dtype))
        }
        _ => None,
    }
}

fn check_ports(graph: &Graph, faults: &mut Vec<String>) {
    let mut seen = HashSet::new();
    for id in graph.inputs() {
        if !graph.contains(*id) {
            faults.push(format!("input {}: expected a node of the graph, found none", id.index()));
            continue;
        }
        let node = graph.node(*id);
        if node.kind != Kind::Input {
            faults.push(format!("{}: expected an input, found {}", node.name, node.mnemonic()));
        }
        if !seen.insert(*id) {
            faults.push(format!("{}: listed twice among the inputs", node.name));
        }
    }
    let mut names = HashSet::new();
    for (name, value) in graph.outputs() {
        if !exists(graph, *value) {
            faults.push(format!("output {name}: expected a node of the graph, found none"));
        }
        if !names.insert(name) {
            faults.push(format!("output {name}: another output has this name"));
        }
    }
}

fn check_variables(graph: &Graph, faults: &mut Vec<String>) {
    let mut names = HashSet::new();
    for (at, id) in graph.variables().iter().enumerate() {
        let Some(variable) = graph.contains(*id).then(|| graph.node(*id)).and_then(|node| node.variable()) else {
            faults.push(format!("variable {}: expected a parameter or a state of the graph", id.index()));
            continue;
        };
        let node = &graph.node(*id).name;
        if graph.variables()[..at].contains(id) {
            faults.push(format!("{node}: listed twice among the variables"));
        } else if !names.insert(&variable.name) {
            faults.push(format!("{node}: another variable is called {:?}", variable.name));
        }
        if variable.name.is_empty() || variable.name.contains('\0') {
            faults.push(format!("{node}: name: expected text without zero bytes, found {:?}", variable.name));
        }
    }
    let mut updated = HashSet::new();
    for (variable, value) in graph.updates() {
        let known = |id: &NodeId| graph.contains(*id).then(|| graph.node(*id));
        let Some(to) = known(variable).filter(|node| node.variable().is_some()) else {
            let found = known(variable).map_or("none".into(), |node| format!("{} %{}", node.mnemonic(), node.name));
            faults.push(format!("update: expected a parameter or a state, found {found}"));
            continue;
        };
        if !updated.insert(variable) {
            faults.push(format!("{}: updated twice", to.name));
        }
        match known(&value.node).and_then(|node| node.results().nth(value.result)) {
            None => faults.push(format!("{}: update: expected a value of the graph, found none", to.name)),
            Some((_, ty)) if *ty != to.ty => {
                faults.push(format!("{}: update: expected {}, found {ty}", to.name, to.ty));
            }
            Some(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Node;
    use crate::ops::Identity;

    fn chain() -> (Graph, NodeId, NodeId, NodeId) {
        let mut g = Graph::new("g");
        let ty = TensorType::f32([2]);
        let x = g.add_input("x", ty.clone());
        let identity = |name: &str| Node::new(Kind::Op(Identity {}.into()), TensorType::f32([2]), name, Vec::new());
        let a = g.add_node(identity("a"), &[x.into()]);
        let b = g.add_node(identity("b"), &[a.into()]);
        (g, x, a, b)
    }

    fn faults(graph: &Graph) -> String {
        match verify(graph) {
            Err(Error::Invalid(faults)) => faults.join("\n"),
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn a_cycle_is_found_and_named() {
        let (mut g, x, _, b) = chain();
        g.replace_uses(x, b);
        assert!(faults(&g).contains("a: part of a cycle"), "{}", faults(&g));
    }

    #[test]
    fn outputs_must_exist() {
        let (mut g, _, _, b) = chain();
        g.add_output("y", b);
        g.remove(b);
        assert!(faults(&g).contains("output y: expected a node of the graph"), "{}", faults(&g));
    }

    #[test]
    fn results_are_those_of_the_shape_rule() -> Result<()> {
        let text = "graph @g(%x: f32[3]) { %a, %b = split %x {sizes=[1, 2]} : f32[1], f32[1] return %b as \"b\" }";
        let mut g = crate::graph::parse(text)?;
        assert!(faults(&g).contains("a: split: type: expected f32[2], found f32[1]"), "{}", faults(&g));
        let split = g.outputs()[0].1.node;
        g.rename(ValueId { node: split, result: 1 }, "a");
        assert!(faults(&g).contains("a: %a: another value has this name"), "{}", faults(&g));
        g.node_mut(split).more.clear();
        assert!(faults(&g).contains("a: split: results: expected 2, found 1"), "{}", faults(&g));
        assert!(faults(&g).contains("output b: expected a node of the graph, found none"), "{}", faults(&g));
        Ok(())
    }

    #[test]
    fn names_are_unique() {
        let (mut g, _, a, b) = chain();
        g.add_output("y", b);
        g.node_mut(a).name = "b".into();
        assert!(faults(&g).contains("b: another node has this name"), "{}", faults(&g));
    }

    #[test]
    fn variables_and_updates() -> Result<()> {
        let text = r#"graph @g(%x: f32[2]) {
          %a = parameter "w" f32[2] [1, 2]
          %b = state "w" f32[2] [1, 2]
          %c = state "" f32[1] [1]
          %y = neg %x
          return %y as "y"
          update %a <- %y
          update %a <- %x
          update %c <- %y
          update %x <- %y
        }"#;
        let expected = "b: another variable is called \"w\"\n\
                        c: name: expected text without zero bytes, found \"\"\n\
                        a: updated twice\n\
                        c: update: expected f32[1], found f32[2]\n\
                        update: expected a parameter or a state, found input %x";
        assert_eq!(faults(&super::super::parse(text)?), expected);
        Ok(())
    }

    #[test]
    fn what_enters_has_an_addressable_size() {
        let (mut g, _, _, b) = chain();
        g.add_output("y", b);
        let ty = TensorType::f32([1 << 40, 0, 1 << 40]);
        g.add_input("i", ty.clone());
        g.add_constant("k", Constant::new(ty, Payload::Hash(1)));
        let expected = "i: input: type: expected an addressable size, found f32[1099511627776,0,1099511627776]\n\
                        k: constant: type: expected an addressable size, found f32[1099511627776,0,1099511627776]";
        assert_eq!(faults(&g), expected);
        assert!(matches!(super::verify_sizes(&g), Err(Error::Invalid(faults)) if faults.len() == 2));
    }

    #[test]
    fn a_payload_is_as_long_as_its_type() {
        let (mut g, _, _, b) = chain();
        g.add_output("y", b);
        g.add_constant("k", Constant::from_bytes(TensorType::f32([2]), vec![0u8; 7]));
        assert!(faults(&g).contains("k: constant: payload of f32[2]: expected 8 bytes, found 7"), "{}", faults(&g));
    }
}
