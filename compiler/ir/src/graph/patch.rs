//! A replacement: new nodes over existing values, and the value that the last of them replaces.
//!
//! In: what a rewrite wants. Out, by [`Patch::apply`], the only place that changes a graph on behalf of a rewrite:
//! the nodes are in the graph, every use of a replaced value has moved over, what became dead is gone. The type of
//! a value stays the same; the new value takes the name of the old one, and every new operator the origins of all
//! that it stands for. New nodes must not read a replaced value. Several results of one node, or several nodes, are
//! replaced at once with [`Patch::also`].

use std::collections::HashSet;

use super::names::Names;
use super::nodes::{Graph, Node, NodeId, Part, ValueId};
use crate::error::{Error, Result};
use crate::ops::Op;
use crate::types::{Constant, TensorType};

/// An operand of a new node.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PatchValue {
    /// A value of the graph.
    Old(ValueId),
    /// A result of a node of the patch.
    New {
        /// Position of the node.
        node: usize,
        /// Which of its results.
        result: usize,
    },
}

impl From<ValueId> for PatchValue {
    fn from(value: ValueId) -> Self {
        Self::Old(value)
    }
}

#[derive(Clone, Debug)]
enum New {
    Constant(String, Constant),
    Op(Op, Vec<PatchValue>, Vec<(String, Vec<ValueId>)>),
}

/// A replacement for one value of a graph, or for several.
#[derive(Clone, Debug)]
pub struct Patch {
    replaced: ValueId,
    why: String,
    nodes: Vec<New>,
    result: Option<PatchValue>,
    also: Vec<(ValueId, PatchValue)>,
}

impl Patch {
    /// An empty patch that will replace the value `replaced`; `why` says in a few words what the new value is.
    pub fn new(replaced: ValueId, why: impl Into<String>) -> Self {
        Self { replaced, why: why.into(), nodes: Vec::new(), result: None, also: Vec::new() }
    }

    /// A patch that makes every use of `replaced` use `existing`.
    pub fn redirect(replaced: ValueId, existing: ValueId, why: impl Into<String>) -> Self {
        Self { result: Some(PatchValue::Old(existing)), ..Self::new(replaced, why) }
    }

    /// A patch of one operator.
    pub fn with_op(replaced: ValueId, why: impl Into<String>, op: impl Into<Op>, operands: &[ValueId]) -> Self {
        let mut patch = Self::new(replaced, why);
        let operands: Vec<PatchValue> = operands.iter().map(|value| PatchValue::Old(*value)).collect();
        patch.op(op, &operands);
        patch
    }

    /// Adds a constant, named after `base`.
    pub fn constant(&mut self, base: impl Into<String>, constant: Constant) -> PatchValue {
        self.push(New::Constant(base.into(), constant))
    }

    /// Adds an operator; the value is its first result.
    pub fn op(&mut self, op: impl Into<Op>, operands: &[PatchValue]) -> PatchValue {
        self.push(New::Op(op.into(), operands.to_vec(), Vec::new()))
    }

    /// Notes that the producers of `values` become the part `name` of the operator added last; their own parts become `name.part`.
    pub fn part(&mut self, name: &str, values: &[ValueId]) {
        if let Some(New::Op(_, _, parts)) = self.nodes.last_mut() {
            parts.push((name.into(), values.to_vec()));
        }
    }

    /// Replaces another value too. The patch's own value is replaced by the last node's first result all the same.
    pub fn also(&mut self, replaced: ValueId, value: PatchValue) {
        self.also.push((replaced, value));
    }

    fn push(&mut self, node: New) -> PatchValue {
        self.nodes.push(node);
        PatchValue::New { node: self.nodes.len() - 1, result: 0 }
    }

    /// What the patch is for.
    pub fn why(&self) -> &str {
        &self.why
    }

    /// Puts the patch into the graph and returns the new value. `names` are the names of the graph, before and after.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the patch has no result, an operator refuses its operands, or the type of a value
    /// would change.
    pub fn apply(self, graph: &mut Graph, names: &mut Names) -> Result<ValueId> {
        let (replaced, why) = (self.replaced, self.why);
        let name = graph.name_of(replaced).to_owned();
        let fault = |message: String| Error::Invalid(vec![format!("{name}: {why}: {message}")]);
        let mut added: Vec<(NodeId, Option<String>)> = Vec::with_capacity(self.nodes.len());
        for new in self.nodes {
            match new {
                New::Constant(base, constant) => added.push((graph.add_constant("", constant), Some(base))),
                New::Op(op, operands, parts) => {
                    let id = add_op(graph, op, &operands, &added).map_err(&fault)?;
                    graph.node_mut(id).parts = parts_of(graph, &parts);
                    added.push((id, None));
                }
            }
        }
        let last = added.len().checked_sub(1).map(|node| PatchValue::New { node, result: 0 });
        let result = self.result.or(last).ok_or_else(|| fault("the patch has no result".into()))?;
        let mut pairs = Vec::with_capacity(1 + self.also.len());
        for (old, new) in std::iter::once((replaced, result)).chain(self.also) {
            let new = resolve(graph, new, &added).ok_or_else(|| fault("a result is not there".into()))?;
            let (expected, found) = (graph.ty(old), graph.ty(new));
            if expected != found {
                return Err(fault(format!("type: expected {expected}, found {found}")));
            }
            pairs.push((old, new));
        }
        let wanted: Vec<(ValueId, String)> =
            pairs.iter().map(|(old, new)| (*new, graph.name_of(*old).to_owned())).collect();
        for (old, new) in &pairs {
            graph.replace_uses(*old, *new);
        }
        let old: Vec<NodeId> = pairs.iter().map(|(old, _)| old.node).collect();
        let origins = remove_dead_from(graph, names, old);
        name_results(graph, names, &added, &wanted);
        for (id, _) in &added {
            if graph.contains(*id) && graph.node(*id).op().is_some() {
                graph.node_mut(*id).origins.clone_from(&origins);
            }
        }
        Ok(pairs[0].1)
    }
}

/// Adds an operator whose results have no names yet.
fn add_op(
    graph: &mut Graph,
    op: Op,
    operands: &[PatchValue],
    added: &[(NodeId, Option<String>)],
) -> Result<NodeId, String> {
    let operands: Option<Vec<ValueId>> = operands.iter().map(|value| resolve(graph, *value, added)).collect();
    let operands = operands.ok_or("an operand is not there")?;
    let inputs: Vec<&TensorType> = operands.iter().map(|value| graph.ty(*value)).collect();
    let types = op.infer(&inputs).map_err(|e| format!("{}: {e}", op.name()))?;
    let names = vec![String::new(); types.len()];
    let node = Node::of_op(op, types, names, Vec::new()).ok_or("an operator without results")?;
    Ok(graph.add_node(node, &operands))
}

/// The origins of each part, and of the parts of its nodes.
fn parts_of(graph: &Graph, parts: &[(String, Vec<ValueId>)]) -> Vec<Part> {
    let mut out = Vec::new();
    for (name, values) in parts {
        let nodes = || values.iter().filter(|v| graph.contains(v.node)).map(|v| graph.producer(*v));
        out.push((name.clone(), nodes().flat_map(|node| node.origins.clone()).collect()));
        let inner = nodes().flat_map(|node| &node.parts);
        out.extend(inner.map(|(inner, origins)| (format!("{name}.{inner}"), origins.clone())));
    }
    out.retain(|(_, origins): &Part| !origins.is_empty());
    out
}

fn resolve(graph: &Graph, value: PatchValue, added: &[(NodeId, Option<String>)]) -> Option<ValueId> {
    match value {
        PatchValue::Old(value) => Some(value),
        PatchValue::New { node, result } => added.get(node).and_then(|(id, _)| graph.values(*id).nth(result)),
    }
}

/// Names what was added: replacements after what they replace, `wanted`; constants after their base, all else after the first replacement.
fn name_results(
    graph: &mut Graph,
    names: &mut Names,
    added: &[(NodeId, Option<String>)],
    wanted: &[(ValueId, String)],
) {
    let is_new = |value: &ValueId| added.iter().any(|(id, _)| *id == value.node);
    for (value, name) in wanted.iter().filter(|(value, _)| is_new(value)) {
        if graph.name_of(*value).is_empty() {
            graph.rename(*value, names.fresh(name));
        }
    }
    for (id, base) in added.iter().filter(|(id, _)| graph.contains(*id)).collect::<Vec<_>>() {
        for value in graph.values(*id).filter(|value| graph.name_of(*value).is_empty()).collect::<Vec<_>>() {
            graph.rename(value, names.fresh(base.as_ref().unwrap_or(&wanted[0].1)));
        }
    }
}

/// Removes the nodes `stack` of which nothing uses any result, then what only they used; returns the origins of the
/// operators that went, producers first.
fn remove_dead_from(graph: &mut Graph, names: &mut Names, mut stack: Vec<NodeId>) -> Vec<String> {
    let mut gone = Vec::new();
    while let Some(id) = stack.pop() {
        if !graph.contains(id) || graph.values(id).any(|value| graph.is_used(value)) || graph.inputs().contains(&id) {
            continue;
        }
        stack.extend(graph.operands(id).into_iter().map(|value| value.node));
        let node = graph.node(id);
        node.results().for_each(|(name, _)| names.release(name));
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
    use crate::ops::{Slice, Split, Unary};
    use crate::scalar::UnaryFn;

    fn find(graph: &Graph, name: &str) -> Result<ValueId> {
        let found = graph.ids().flat_map(|id| graph.values(id)).find(|value| graph.name_of(*value) == name);
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
    fn results_are_replaced_one_by_one_or_all_at_once() -> Result<()> {
        let text = r#"graph @g(%x: f32[4]) {
          %y = neg %x  ; from "neg"
          %a, %b = split %y {sizes=[2, 2]}  ; from "split"
          %c = add %a, %b
          return %c as "c", %b as "b"
        }"#;
        let mut graph = parse(text)?;
        let (x, a, b) = (find(&graph, "x")?, find(&graph, "a")?, find(&graph, "b")?);
        let mut names = Names::of(&graph);
        let slice = Slice { starts: vec![0], sizes: vec![2], ..Slice::default() };
        let mut one = graph.clone();
        Patch::with_op(a, "slice", slice, &[x]).apply(&mut one, &mut names.clone())?;
        let expected = r#"graph @g(%x: f32[4]) {
          %y = neg %x  ; from "neg"
          %a, %b = split %y {sizes=[2, 2]}  ; from "split"
          %a_1 = slice %x {starts=[0], sizes=[2]}
          %c = add %a_1, %b
          return %c as "c", %b as "b"
        }"#;
        assert!(one.same_as(&parse(expected)?), "{one}");
        let mut patch = Patch::new(a, "split of the input");
        patch.op(Split { axis: 0, sizes: vec![2, 2] }, &[x.into()]);
        patch.also(b, PatchValue::New { node: 0, result: 1 });
        patch.apply(&mut graph, &mut names)?;
        let expected = r#"graph @g(%x: f32[4]) {
          %a, %b = split %x {sizes=[2, 2]}  ; from "neg", "split"
          %c = add %a, %b
          return %c as "c", %b as "b"
        }"#;
        assert!(graph.same_as(&parse(expected)?), "{graph}");
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
