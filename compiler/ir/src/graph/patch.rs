//! A replacement: new nodes over existing values, and the value that the last of them replaces.
//!
//! In: what a rewrite wants. Out, by [`Patch::apply`], the only place that changes a graph on behalf of a rewrite:
//! the nodes are in the graph, every use of the replaced value has moved over, what became dead is gone. The type of
//! the value stays the same; the new value takes the name of the old one, and every new operator the origins of all
//! that it stands for. New nodes must not read the replaced value.

use std::collections::HashSet;

use super::names::Names;
use super::nodes::{Graph, Kind, Node, NodeId, Part};
use crate::error::{Error, Result};
use crate::ops::Op;
use crate::types::{Constant, TensorType};

/// An operand of a new node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Value {
    /// A value of the graph.
    Old(NodeId),
    /// The value of a node of the patch, by its position.
    New(usize),
}

impl From<NodeId> for Value {
    fn from(id: NodeId) -> Self {
        Self::Old(id)
    }
}

#[derive(Clone, Debug)]
enum New {
    Constant(String, Constant),
    Op(Op, Vec<Value>, Vec<(String, Vec<NodeId>)>),
}

/// A replacement for one value of a graph.
#[derive(Clone, Debug)]
pub struct Patch {
    replaced: NodeId,
    why: String,
    nodes: Vec<New>,
    result: Option<Value>,
}

impl Patch {
    /// An empty patch that will replace the value of `replaced`; `why` says in a few words what the new value is.
    pub fn new(replaced: NodeId, why: impl Into<String>) -> Self {
        Self { replaced, why: why.into(), nodes: Vec::new(), result: None }
    }

    /// A patch that makes every use of `replaced` use `existing`.
    pub fn redirect(replaced: NodeId, existing: NodeId, why: impl Into<String>) -> Self {
        Self { result: Some(Value::Old(existing)), ..Self::new(replaced, why) }
    }

    /// A patch of one operator.
    pub fn with_op(replaced: NodeId, why: impl Into<String>, op: impl Into<Op>, operands: &[NodeId]) -> Self {
        let mut patch = Self::new(replaced, why);
        let operands: Vec<Value> = operands.iter().map(|id| Value::Old(*id)).collect();
        patch.op(op, &operands);
        patch
    }

    /// Adds a constant, named after `base`.
    pub fn constant(&mut self, base: impl Into<String>, constant: Constant) -> Value {
        self.push(New::Constant(base.into(), constant))
    }

    /// Adds an operator.
    pub fn op(&mut self, op: impl Into<Op>, operands: &[Value]) -> Value {
        self.push(New::Op(op.into(), operands.to_vec(), Vec::new()))
    }

    /// Notes that `nodes` become the part `name` of the operator added last; their own parts become `name.part`.
    pub fn part(&mut self, name: &str, nodes: &[NodeId]) {
        if let Some(New::Op(_, _, parts)) = self.nodes.last_mut() {
            parts.push((name.into(), nodes.to_vec()));
        }
    }

    fn push(&mut self, node: New) -> Value {
        self.nodes.push(node);
        Value::New(self.nodes.len() - 1)
    }

    /// What the patch is for.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// Puts the patch into the graph and returns the new value. `names` are the names of the graph, before and after.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the patch has no result, an operator refuses its operands, or the type of the value
    /// would change.
    pub fn apply(self, graph: &mut Graph, names: &mut Names) -> Result<NodeId> {
        let old = graph.node(self.replaced).clone();
        let fault = |message: String| Error::Invalid(vec![format!("{}: {}: {message}", old.name, self.why)]);
        let mut added: Vec<(NodeId, Option<String>)> = Vec::with_capacity(self.nodes.len());
        for new in self.nodes {
            match new {
                New::Constant(base, constant) => added.push((graph.add_constant("", constant), Some(base))),
                New::Op(op, operands, parts) => {
                    let operands = resolve(&operands, &added).ok_or_else(|| fault("an operand is not there".into()))?;
                    let types: Vec<&TensorType> = operands.iter().map(|id| &graph.node(*id).ty).collect();
                    let ty = op.infer(&types).map_err(|e| fault(format!("{}: {e}", op.name())))?;
                    let node = Node {
                        kind: Kind::Op(op),
                        ty,
                        name: String::new(),
                        origins: Vec::new(),
                        parts: parts_of(graph, &parts),
                    };
                    added.push((graph.add_node(node, &operands), None));
                }
            }
        }
        let result = match self.result {
            Some(value) => resolve(&[value], &added).and_then(|ids| ids.first().copied()),
            None => added.last().map(|(id, _)| *id),
        };
        let result = result.ok_or_else(|| fault("the patch has no result".into()))?;
        let ty = &graph.node(result).ty;
        if *ty != old.ty {
            return Err(fault(format!("type: expected {}, found {ty}", old.ty)));
        }
        graph.replace_uses(self.replaced, result);
        let origins = remove_dead_from(graph, names, self.replaced);
        if added.iter().any(|(id, _)| *id == result) {
            graph.node_mut(result).name = names.fresh(&old.name);
        }
        for (id, base) in added {
            if !graph.contains(id) {
                continue;
            }
            let node = graph.node_mut(id);
            if id != result {
                node.name = names.fresh(base.as_ref().unwrap_or(&old.name));
            }
            if node.op().is_some() {
                node.origins.clone_from(&origins);
            }
        }
        Ok(result)
    }
}

fn resolve(values: &[Value], added: &[(NodeId, Option<String>)]) -> Option<Vec<NodeId>> {
    let id = |value: &Value| match value {
        Value::Old(id) => Some(*id),
        Value::New(i) => added.get(*i).map(|(id, _)| *id),
    };
    values.iter().map(id).collect()
}

/// The origins of each part, and of the parts of its nodes.
fn parts_of(graph: &Graph, parts: &[(String, Vec<NodeId>)]) -> Vec<Part> {
    let mut out = Vec::new();
    for (name, nodes) in parts {
        let nodes = || nodes.iter().filter(|id| graph.contains(**id)).map(|id| graph.node(*id));
        out.push((name.clone(), nodes().flat_map(|node| node.origins.clone()).collect()));
        let inner = nodes().flat_map(|node| &node.parts);
        out.extend(inner.map(|(inner, origins)| (format!("{name}.{inner}"), origins.clone())));
    }
    out.retain(|(_, origins): &Part| !origins.is_empty());
    out
}

/// Removes `id` if nothing uses it, then what only it used; returns the origins of the operators that went, producers
/// first.
fn remove_dead_from(graph: &mut Graph, names: &mut Names, id: NodeId) -> Vec<String> {
    let mut stack = vec![id];
    let mut gone = Vec::new();
    while let Some(id) = stack.pop() {
        if !graph.contains(id) || !graph.users(id).is_empty() || graph.is_output(id) || graph.inputs().contains(&id) {
            continue;
        }
        stack.extend(graph.operands(id));
        let node = graph.node(id);
        names.release(&node.name);
        gone.push(node.origins.clone());
        graph.remove(id);
    }
    let mut seen = HashSet::new();
    gone.into_iter().rev().flatten().filter(|origin| seen.insert(origin.clone())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::parse;
    use crate::ops::Unary;
    use crate::scalar::UnaryFn;

    fn find(graph: &Graph, name: &str) -> Result<NodeId> {
        let found = graph.ids().find(|id| graph.node(*id).name == name);
        found.ok_or_else(|| Error::Invalid(vec![format!("{name}: not there")]))
    }

    const CHAIN: &str = r#"graph @g(%x: f32[2]) {
      %a = neg %x  ; from "a"
      %b = abs %a  ; from "b"
      %c = exp %b  ; from "c", "a"
      return %c as "y", %a as "z"
    }"#;

    #[test]
    fn the_new_value_takes_the_name_and_the_origins_of_what_went() -> Result<()> {
        let mut graph = parse(CHAIN)?;
        let (a, c) = (find(&graph, "a")?, find(&graph, "c")?);
        let mut names = Names::of(&graph);
        Patch::with_op(c, "sin", Unary { function: UnaryFn::Sin }, &[a]).apply(&mut graph, &mut names)?;
        let expected = r#"graph @g(%x: f32[2]) {
          %a = neg %x  ; from "a"
          %c = sin %a  ; from "b", "c", "a"
          return %c as "y", %a as "z"
        }"#;
        assert!(graph.same_as(&parse(expected)?), "{graph}");
        assert_eq!(names.fresh("b"), "b");
        Ok(())
    }

    #[test]
    fn a_patch_may_not_change_the_type() -> Result<()> {
        let mut graph = parse(CHAIN)?;
        let c = find(&graph, "c")?;
        let mut names = Names::of(&graph);
        let mut patch = Patch::new(c, "shorter");
        patch.constant("k", Constant::from_f32([1], &[0.0]));
        let error = patch.apply(&mut graph, &mut names).map_err(|e| e.to_string());
        assert_eq!(error.err().as_deref(), Some("invalid graph: c: shorter: type: expected f32[2], found f32[1]"));
        Ok(())
    }

    #[test]
    fn a_patch_has_a_result() -> Result<()> {
        let mut graph = parse(CHAIN)?;
        let c = find(&graph, "c")?;
        let error = Patch::new(c, "nothing").apply(&mut graph, &mut Names::default()).map_err(|e| e.to_string());
        assert_eq!(error.err().as_deref(), Some("invalid graph: c: nothing: the patch has no result"));
        Ok(())
    }
}
