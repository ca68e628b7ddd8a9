//! Checks on the names of a graph or function body, and the order to import its nodes in.
//!
//! In: nodes in file order and the names defined around them. Out: the indices of the nodes that the outputs depend on,
//! every node after the producers of its operands, file order where that allows. Established: every value has one
//! definition, every name that is read has one, and there is no cycle.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet};

use crate::attributes::node_name;
use crate::error::{Error, Result, short};
use crate::proto::{GraphProto, NodeProto};

/// A list of nodes and the names around it.
pub(crate) struct Body<'a> {
    /// `graph`, or the name of a function, for messages.
    pub place: &'a str,
    /// The nodes, in file order.
    pub nodes: &'a [NodeProto],
    /// Names defined by inputs and initializers, and those visible from around.
    pub defined: &'a dyn Fn(&str) -> bool,
    /// Names that no node may define again.
    pub reserved: &'a HashSet<&'a str>,
    /// Names of the results.
    pub outputs: &'a [&'a str],
}

/// Indices of the nodes that the outputs need, in an order that can be imported.
pub(crate) fn order(body: &Body<'_>) -> Result<Vec<usize>> {
    let producers = producers(body)?;
    let mut operands: Vec<Vec<usize>> = Vec::with_capacity(body.nodes.len());
    for node in body.nodes {
        operands.push(node_operands(body, node, &producers)?);
    }
    let sorted = sort(body, &operands)?;
    let mut live = vec![false; body.nodes.len()];
    for output in body.outputs {
        match producers.get(output) {
            Some(node) => live[*node] = true,
            None if !output.is_empty() && (body.defined)(output) => {}
            None => return Err(undefined(body.place, "output", output)),
        }
    }
    for node in sorted.iter().rev() {
        if live[*node] {
            operands[*node].iter().for_each(|o| live[*o] = true);
        }
    }
    Ok(sorted.into_iter().filter(|node| live[*node]).collect())
}

/// Which node defines each value.
fn producers<'a>(body: &Body<'a>) -> Result<HashMap<&'a str, usize>> {
    let mut producers = HashMap::new();
    for (index, node) in body.nodes.iter().enumerate() {
        for output in node.output.iter().filter(|o| !o.is_empty()) {
            let twice = body.reserved.contains(output.as_str()) || producers.insert(output.as_str(), index).is_some();
            if twice {
                let found = format!("{} again", short(output));
                return Err(Error::model(short(node_name(node)), "output", "a name not yet defined", found));
            }
        }
        let mut names = HashSet::new();
        if let Some(twice) = node.attribute.iter().find(|a| !names.insert(a.name.as_str())) {
            let found = format!("{} twice", short(&twice.name));
            return Err(Error::model(short(node_name(node)), "attribute", "unique names", found));
        }
    }
    Ok(producers)
}

/// The nodes that a node reads from, those of its nested graphs included.
fn node_operands(body: &Body<'_>, node: &NodeProto, producers: &HashMap<&str, usize>) -> Result<Vec<usize>> {
    let mut operands = Vec::new();
    for (i, input) in node.input.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
        match producers.get(input.as_str()) {
            Some(producer) => operands.push(*producer),
            None if (body.defined)(input) => {}
            None => return Err(undefined(&short(node_name(node)), &format!("input {i}"), input)),
        }
    }
    let mut captured = Vec::new();
    node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)).for_each(|g| names_read(g, &mut captured));
    operands.extend(captured.into_iter().filter_map(|name| producers.get(name)));
    operands.sort_unstable();
    operands.dedup();
    Ok(operands)
}

/// Every name that a nested graph reads; prost bounds how deep graphs nest.
pub(crate) fn names_read<'a>(graph: &'a GraphProto, names: &mut Vec<&'a str>) {
    names.extend(graph.output.iter().map(|o| o.name.as_str()));
    for node in &graph.node {
        names.extend(node.input.iter().map(String::as_str));
        node.attribute.iter().flat_map(|a| a.g.iter().chain(&a.graphs)).for_each(|g| names_read(g, names));
    }
}

/// Kahn's algorithm; among the nodes that are ready, the first in the file goes first.
fn sort(body: &Body<'_>, operands: &[Vec<usize>]) -> Result<Vec<usize>> {
    let mut users: Vec<Vec<usize>> = vec![Vec::new(); operands.len()];
    let mut waiting: Vec<usize> = operands.iter().map(Vec::len).collect();
    for (node, operands) in operands.iter().enumerate() {
        operands.iter().for_each(|o| users[*o].push(node));
    }
    let mut ready: BinaryHeap<Reverse<usize>> = (0..operands.len()).filter(|n| waiting[*n] == 0).map(Reverse).collect();
    let mut sorted = Vec::with_capacity(operands.len());
    while let Some(Reverse(node)) = ready.pop() {
        sorted.push(node);
        for user in &users[node] {
            waiting[*user] -= 1;
            if waiting[*user] == 0 {
                ready.push(Reverse(*user));
            }
        }
    }
    match waiting.iter().position(|n| *n > 0) {
        None => Ok(sorted),
        Some(node) => {
            let node = &body.nodes[node];
            Err(Error::model(short(node_name(node)), "inputs", "values computed before", "a cycle"))
        }
    }
}

fn undefined(place: &str, field: &str, name: &str) -> Error {
    let expected = "a value that a node, an input or an initializer defines";
    let found = if name.is_empty() { "no name".into() } else { format!("{}, undefined", short(name)) };
    Error::model(place, field, expected, found)
}
