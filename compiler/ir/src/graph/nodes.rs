//! The graph: nodes with one or several results, and ordered operands. The only file that names petgraph.
//!
//! A node is a graph input, a variable, a constant or an operator. A value is one result of a node. An edge runs from producer to
//! consumer and carries the result and the operand slot, so a producer may fill several slots of one consumer. Node ids stay valid across removals. Iteration is in
//! topological order with ties broken by id, so printing and lowering are deterministic.

use std::collections::BTreeMap;

use petgraph::Direction;
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::EdgeRef;

use crate::error::{Error, Result};
use crate::ops::Op;
use crate::types::{Constant, TensorType};

/// Names a node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NodeId(NodeIndex<u32>);

/// Names a value: a result of a node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ValueId {
    /// The node that produces it.
    pub node: NodeId,
    /// Which of the node's results it is; 0 for the only one.
    pub result: usize,
}

/// The first result of the node.
impl From<NodeId> for ValueId {
    fn from(node: NodeId) -> Self {
        Self { node, result: 0 }
    }
}

impl NodeId {
    /// The number behind the id; unique in its graph, not dense.
    pub fn index(self) -> usize {
        self.0.index()
    }
}

/// A parameter or a state: the name by which hosts address it, and the elements it begins with.
#[derive(Clone, PartialEq, Debug)]
pub struct Variable {
    /// Unique among the variables of the graph.
    pub name: String,
    /// What it holds before it is first written; its type is the variable's.
    pub initial: Constant,
}

impl Variable {
    /// A variable called `name` that begins with the elements of `initial`.
    pub fn new(name: impl Into<String>, initial: Constant) -> Self {
        Self { name: name.into(), initial }
    }
}

/// What a node is.
#[derive(Clone, PartialEq, Debug)]
pub enum Kind {
    /// A graph input.
    Input,
    /// A value known at compile time.
    Constant(Constant),
    /// A parameter of the model: it may be written between runs.
    Parameter(Variable),
    /// A value that lives across runs without being a parameter: an optimiser's moments, running statistics.
    State(Variable),
    /// An operator over operands.
    Op(Op),
}

/// A result of a node after the first.
#[derive(Clone, PartialEq, Debug)]
pub struct Further {
    /// Unique name of the value.
    pub name: String,
    /// Type of the value.
    pub ty: TensorType,
}

/// A node: what it is, the types and names of its results, and where it came from.
#[derive(Clone, PartialEq, Debug)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Type of its first result.
    pub ty: TensorType,
    /// Unique name of its first result, usually the model file's; messages name the node by it.
    pub name: String,
    /// Its other results; only operators have any.
    pub more: Vec<Further>,
    /// Names of the model file's nodes that this one computes, in order; more than one after a fusion.
    pub origins: Vec<String>,
    /// Which of them the parts of an operator that stands for several compute, where a pass has noted it.
    pub parts: Vec<Part>,
}

/// The name of a part of an operator, and the names of the model file's nodes that it computes.
pub type Part = (String, Vec<String>);

impl Node {
    /// A node of one result.
    pub fn new(kind: Kind, ty: TensorType, name: impl Into<String>, origins: Vec<String>) -> Self {
        Self { kind, ty, name: name.into(), more: Vec::new(), origins, parts: Vec::new() }
    }

    /// An operator whose results have the types and names given, of which there are as many; at least one.
    pub fn of_op(op: Op, types: Vec<TensorType>, names: Vec<String>, origins: Vec<String>) -> Option<Self> {
        let mut results = types.into_iter().zip(names).map(|(ty, name)| Further { name, ty });
        let Further { name, ty } = results.next()?;
        Some(Self { kind: Kind::Op(op), ty, name, more: results.collect(), origins, parts: Vec::new() })
    }

    /// Names and types of its results, in order.
    pub fn results(&self) -> impl Iterator<Item = (&str, &TensorType)> {
        let more = self.more.iter().map(|result| (result.name.as_str(), &result.ty));
        std::iter::once((self.name.as_str(), &self.ty)).chain(more)
    }

    /// The operator, if it is one.
    pub fn op(&self) -> Option<&Op> {
        match &self.kind {
            Kind::Op(op) => Some(op),
            _ => None,
        }
    }

    /// The constant, if it is one.
    pub fn constant(&self) -> Option<&Constant> {
        match &self.kind {
            Kind::Constant(constant) => Some(constant),
            _ => None,
        }
    }

    /// The variable, if it is a parameter or a state.
    pub fn variable(&self) -> Option<&Variable> {
        match &self.kind {
            Kind::Parameter(variable) | Kind::State(variable) => Some(variable),
            _ => None,
        }
    }

    /// Mnemonic of the operator, or `input`, `constant`, `parameter` or `state`.
    pub fn mnemonic(&self) -> &'static str {
        match &self.kind {
            Kind::Input => "input",
            Kind::Constant(_) => "constant",
            Kind::Parameter(_) => "parameter",
            Kind::State(_) => "state",
            Kind::Op(op) => op.name(),
        }
    }
}

/// From which result of the producer an edge goes into which operand slot of the consumer.
#[derive(Clone, Copy, Debug)]
struct Edge {
    result: usize,
    slot: usize,
}

/// A network: inputs, variables and their updates, nodes, named outputs, and the model's metadata.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Name of the network.
    pub name: String,
    /// Key-value metadata of the model file (preprocessing, labels); not part of the text form.
    pub metadata: BTreeMap<String, String>,
    /// What whoever made it noticed about the model, a line each; not part of the text form.
    pub notes: Vec<String>,
    nodes: StableDiGraph<Node, Edge, u32>,
    inputs: Vec<NodeId>,
    outputs: Vec<(String, ValueId)>,
    pub(super) variables: Vec<NodeId>,
    pub(super) updates: Vec<(NodeId, ValueId)>,
}

impl Graph {
    /// An empty graph.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Adds a graph input.
    pub fn add_input(&mut self, name: impl Into<String>, ty: TensorType) -> NodeId {
        let id = self.add_node(Node::new(Kind::Input, ty, name, Vec::new()), &[]);
        self.inputs.push(id);
        id
    }

    /// Adds a constant.
    pub fn add_constant(&mut self, name: impl Into<String>, constant: Constant) -> NodeId {
        let ty = constant.ty.clone();
        self.add_node(Node::new(Kind::Constant(constant), ty, name, Vec::new()), &[])
    }

    /// Adds a node as it is.
    pub fn add_node(&mut self, node: Node, operands: &[ValueId]) -> NodeId {
        let id = self.nodes.add_node(node);
        for (slot, operand) in operands.iter().enumerate() {
            self.nodes.add_edge(operand.node.0, id, Edge { result: operand.result, slot });
        }
        NodeId(id)
    }

    /// Names a value as the next graph output. A value may be several outputs.
    pub fn add_output(&mut self, name: impl Into<String>, value: impl Into<ValueId>) {
        self.outputs.push((name.into(), value.into()));
    }

    /// Replaces the graph outputs.
    pub fn set_outputs(&mut self, outputs: Vec<(String, ValueId)>) {
        self.outputs = outputs;
    }

    /// Graph inputs, in order.
    pub fn inputs(&self) -> &[NodeId] {
        &self.inputs
    }

    /// Graph outputs, in order.
    pub fn outputs(&self) -> &[(String, ValueId)] {
        &self.outputs
    }

    /// The node behind an id.
    ///
    /// # Panics
    /// If the id is of a removed node or of another graph.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0]
    }

    /// The node behind an id, for change.
    ///
    /// # Panics
    /// If the id is of a removed node or of another graph.
    pub fn node_mut(&mut self, id: NodeId) -> &mut Node {
        &mut self.nodes[id.0]
    }

    /// The node that produces a value.
    ///
    /// # Panics
    /// If the node was removed or is of another graph.
    pub fn producer(&self, value: ValueId) -> &Node {
        self.node(value.node)
    }

    /// Type of a value; of a node, the type of its first result.
    ///
    /// # Panics
    /// If there is no such value.
    pub fn ty(&self, value: impl Into<ValueId>) -> &TensorType {
        let (node, result) = self.result(value.into());
        result.map_or(&node.ty, |more| &more.ty)
    }

    /// Name of a value; of a node, the name of its first result.
    ///
    /// # Panics
    /// If there is no such value.
    pub fn name_of(&self, value: impl Into<ValueId>) -> &str {
        let (node, result) = self.result(value.into());
        result.map_or(&node.name, |more| &more.name)
    }

    /// Gives a value another name.
    ///
    /// # Panics
    /// If there is no such value.
    pub fn rename(&mut self, value: impl Into<ValueId>, name: impl Into<String>) {
        let ValueId { node, result } = value.into();
        let node = self.node_mut(node);
        match result.checked_sub(1) {
            None => node.name = name.into(),
            Some(i) => node.more[i].name = name.into(),
        }
    }

    /// The producer of a value, and the result if it is not the first.
    fn result(&self, value: ValueId) -> (&Node, Option<&Further>) {
        let node = self.node(value.node);
        (node, value.result.checked_sub(1).map(|i| &node.more[i]))
    }

    /// The results of a node, in order.
    pub fn values(&self, id: NodeId) -> impl Iterator<Item = ValueId> + use<> {
        (0..=self.node(id).more.len()).map(move |result| ValueId { node: id, result })
    }

    /// Whether the id still names a node.
    pub fn contains(&self, id: NodeId) -> bool {
        self.nodes.contains_node(id.0)
    }

    /// Number of nodes of all kinds.
    pub fn len(&self) -> usize {
        self.nodes.node_count()
    }

    /// Whether there are no nodes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Operands of a node, by slot.
    pub fn operands(&self, id: NodeId) -> Vec<ValueId> {
        self.operand_slots(id).into_iter().map(|(_, value)| value).collect()
    }

    /// Operand slots as stored, for the verifier: `(slot, value)` in ascending order.
    pub fn operand_slots(&self, id: NodeId) -> Vec<(usize, ValueId)> {
        let incoming = self.nodes.edges_directed(id.0, Direction::Incoming);
        let mut slots: Vec<(usize, ValueId)> = incoming
            .map(|e| (e.weight().slot, ValueId { node: NodeId(e.source()), result: e.weight().result }))
            .collect();
        slots.sort_unstable();
        slots
    }

    /// Consumers of a value as `(consumer, slot)`, ascending.
    pub fn users(&self, value: impl Into<ValueId>) -> Vec<(NodeId, usize)> {
        let value = value.into();
        let outgoing = self.nodes.edges_directed(value.node.0, Direction::Outgoing);
        let mut users: Vec<(NodeId, usize)> = outgoing
            .filter(|e| e.weight().result == value.result)
            .map(|e| (NodeId(e.target()), e.weight().slot))
            .collect();
        users.sort_unstable();
        users
    }

    /// Whether a value leaves the graph: as an output, or as what replaces a variable after the run.
    pub fn is_output(&self, value: impl Into<ValueId>) -> bool {
        let value = value.into();
        self.outputs.iter().any(|(_, output)| *output == value) || self.is_update(value)
    }

    /// Whether anything reads a value: a consumer, a graph output or an update.
    pub fn is_used(&self, value: impl Into<ValueId>) -> bool {
        let value = value.into();
        self.is_output(value) || !self.users(value).is_empty()
    }

    /// The only consumer of a value that is not a graph output.
    pub fn single_user(&self, value: impl Into<ValueId>) -> Option<NodeId> {
        let value = value.into();
        match self.users(value)[..] {
            [(user, _)] if !self.is_output(value) => Some(user),
            _ => None,
        }
    }

    /// Makes a node another operator over other operands; its results stay, and with them their names, types and users.
    ///
    /// # Panics
    /// If the id is of a removed node or of another graph.
    pub fn set_op(&mut self, id: NodeId, op: Op, operands: &[ValueId]) {
        let incoming: Vec<_> = self.nodes.edges_directed(id.0, Direction::Incoming).map(|edge| edge.id()).collect();
        incoming.into_iter().for_each(|edge| _ = self.nodes.remove_edge(edge));
        let node = &mut self.nodes[id.0];
        (node.kind, node.parts) = (Kind::Op(op), Vec::new());
        for (slot, operand) in operands.iter().enumerate() {
            self.nodes.add_edge(operand.node.0, id.0, Edge { result: operand.result, slot });
        }
    }

    /// Makes every consumer of `old`, and every output and update it is, use `new` instead.
    pub fn replace_uses(&mut self, old: impl Into<ValueId>, new: impl Into<ValueId>) {
        let (old, new) = (old.into(), new.into());
        let outgoing = self.nodes.edges_directed(old.node.0, Direction::Outgoing);
        let edges: Vec<_> = outgoing
            .filter(|e| e.weight().result == old.result && e.target() != new.node.0)
            .map(|e| (e.id(), e.target(), e.weight().slot))
            .collect();
        for (edge, target, slot) in edges {
            self.nodes.remove_edge(edge);
            self.nodes.add_edge(new.node.0, target, Edge { result: new.result, slot });
        }
        let updates = self.updates.iter_mut().map(|(_, value)| value);
        for value in self.outputs.iter_mut().map(|(_, value)| value).chain(updates) {
            if *value == old {
                *value = new;
            }
        }
    }

    /// Removes a node and the edges around it. Inputs and variables stay.
    pub fn remove(&mut self, id: NodeId) {
        if !self.inputs.contains(&id) && !self.variables.contains(&id) {
            self.nodes.remove_node(id.0);
        }
    }

    /// Removes every node of which no output and no update depends on any result, except inputs and variables; returns how many went.
    pub fn remove_dead(&mut self) -> usize {
        let outputs = self.outputs.iter().map(|(_, value)| value.node);
        let mut live: Vec<NodeId> = outputs.chain(self.updates.iter().map(|(_, value)| value.node)).collect();
        let mut seen: std::collections::BTreeSet<NodeId> = live.iter().copied().collect();
        while let Some(id) = live.pop() {
            for ValueId { node, .. } in self.operands(id) {
                if seen.insert(node) {
                    live.push(node);
                }
            }
        }
        seen.extend(self.inputs.iter().chain(&self.variables));
        let before = self.nodes.node_count();
        self.nodes.retain_nodes(|_, id| seen.contains(&NodeId(id)));
        before - self.nodes.node_count()
    }

    /// Every node after its operands; among those ready, the lowest id first.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the graph has a cycle.
    pub fn topological(&self) -> Result<Vec<NodeId>> {
        let mut waiting: BTreeMap<NodeId, usize> = BTreeMap::new();
        let mut ready = std::collections::BTreeSet::new();
        for id in self.nodes.node_indices() {
            match self.nodes.edges_directed(id, Direction::Incoming).count() {
                0 => _ = ready.insert(NodeId(id)),
                n => _ = waiting.insert(NodeId(id), n),
            }
        }
        let mut order = Vec::with_capacity(self.len());
        while let Some(id) = ready.pop_first() {
            order.push(id);
            for edge in self.nodes.edges_directed(id.0, Direction::Outgoing) {
                let user = NodeId(edge.target());
                if let Some(n) = waiting.get_mut(&user) {
                    *n -= 1;
                    if *n == 0 {
                        waiting.remove(&user);
                        ready.insert(user);
                    }
                }
            }
        }
        match waiting.first_key_value() {
            None => Ok(order),
            Some((id, _)) => Err(Error::Invalid(vec![format!("{}: part of a cycle", self.node(*id).name)])),
        }
    }

    /// The same graph with ids in reading order: inputs and variables first, then every node after its operands and right
    /// before its first user, from the first output on, updates last. What none of them depends on is left out.
    ///
    /// # Errors
    /// [`Error::Invalid`] if the graph has a cycle.
    pub fn renumbered(&self) -> Result<Self> {
        fn moved(ids: &BTreeMap<NodeId, NodeId>, value: ValueId) -> Option<ValueId> {
            Some(ValueId { node: *ids.get(&value.node)?, ..value })
        }
        self.topological()?;
        let (metadata, notes) = (self.metadata.clone(), self.notes.clone());
        let mut out = Self { name: self.name.clone(), metadata, notes, ..Self::default() };
        let mut ids: BTreeMap<NodeId, NodeId> = BTreeMap::new();
        for id in &self.inputs {
            let node = self.node(*id);
            ids.insert(*id, out.add_input(node.name.clone(), node.ty.clone()));
        }
        for id in &self.variables {
            let copy = out.add_node(self.node(*id).clone(), &[]);
            out.variables.push(copy);
            ids.insert(*id, copy);
        }
        let updates = self.updates.iter().map(|(_, value)| value);
        for output in self.outputs.iter().map(|(_, value)| value).chain(updates) {
            let mut stack = vec![output.node];
            while let Some(id) = stack.last().copied() {
                let operands = self.operands(id);
                let waiting = stack.len();
                if !ids.contains_key(&id) {
                    stack.extend(operands.iter().rev().map(|o| o.node).filter(|o| !ids.contains_key(o)));
                }
                if stack.len() == waiting {
                    stack.pop();
                    let operands: Vec<ValueId> = operands.iter().filter_map(|o| moved(&ids, *o)).collect();
                    ids.entry(id).or_insert_with(|| out.add_node(self.node(id).clone(), &operands));
                }
            }
        }
        let outputs = self.outputs.iter().filter_map(|(name, value)| Some((name.clone(), moved(&ids, *value)?)));
        out.outputs = outputs.collect();
        let updates = self.updates.iter().filter_map(|(to, value)| Some((*ids.get(to)?, moved(&ids, *value)?)));
        out.updates = updates.collect();
        Ok(out)
    }

    /// Ids of every node, ascending.
    pub fn ids(&self) -> impl Iterator<Item = NodeId> + '_ {
        self.nodes.node_indices().map(NodeId)
    }

    /// Whether both graphs say the same: name, inputs, outputs, variables and updates in order, and by name the same nodes with the same
    /// operands, types and origins. Ids and the order of independent nodes may differ; metadata is not compared.
    pub fn same_as(&self, other: &Self) -> bool {
        fn by_name(graph: &Graph) -> BTreeMap<&str, (&Node, Vec<&str>)> {
            let operands = |id| graph.operands(id).into_iter().map(|value| graph.name_of(value)).collect();
            graph.ids().map(|id| (graph.name_of(id), (graph.node(id), operands(id)))).collect()
        }
        fn ports(graph: &Graph) -> [Vec<(&str, &str)>; 3] {
            let inputs = graph.inputs.iter().chain(&graph.variables);
            [
                inputs.map(|id| (graph.name_of(*id), "")).collect(),
                graph.outputs.iter().map(|(n, value)| (n.as_str(), graph.name_of(*value))).collect(),
                graph.updates.iter().map(|(to, value)| (graph.name_of(*to), graph.name_of(*value))).collect(),
            ]
        }
        fn parameters(node: &Node) -> Option<&[String]> {
            node.constant().or(node.variable().map(|v| &v.initial)).map(|c| c.origins.as_slice())
        }
        let (a, b) = (by_name(self), by_name(other));
        self.name == other.name
            && self.len() == other.len()
            && ports(self) == ports(other)
            && a.len() == b.len()
            && a.iter().zip(&b).all(|(a, b)| a == b && parameters(a.1.0) == parameters(b.1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_lives_as_long_as_one_of_its_results() -> Result<()> {
        let text = r#"graph @g(%x: f32[3]) {
          %a, %b = split %x {sizes=[1, 2]}
          %dead = neg %a
          %c = neg %b
          return %c as "c"
        }"#;
        let mut graph = crate::graph::parse(text)?;
        assert_eq!(graph.remove_dead(), 1);
        let split = graph.producer(graph.operands(graph.outputs()[0].1.node)[0]);
        assert_eq!(split.results().map(|(name, _)| name).collect::<Vec<_>>(), ["a", "b"]);
        let values: Vec<ValueId> = graph.ids().flat_map(|id| graph.values(id)).collect();
        let used: Vec<&str> =
            values.iter().filter(|value| graph.is_used(**value)).map(|value| graph.name_of(*value)).collect();
        assert_eq!(used, ["x", "b", "c"]);
        assert!(graph.renumbered()?.same_as(&graph));
        Ok(())
    }

    #[test]
    fn reading_order_puts_nodes_before_their_first_user() -> Result<()> {
        let text = r#"graph @g(%x: f32[2]) {
          %late = constant f32[2] [1, 2]
          %dead = neg %x
          %a = neg %x
          %b = abs %x
          %c = add %b, %late
          %d = add %a, %c
          %e = add %d, %a
          return %e as "e", %b as "b"
        }"#;
        let graph = crate::graph::parse(text)?;
        let renumbered = graph.renumbered()?;
        let order: Vec<&str> = renumbered.ids().map(|id| renumbered.node(id).name.as_str()).collect();
        assert_eq!(order, ["x", "a", "b", "late", "c", "d", "e"]);
        assert_eq!(renumbered.topological()?, renumbered.ids().collect::<Vec<_>>());
        let mut graph = graph;
        graph.remove_dead();
        assert!(graph.same_as(&renumbered));
        Ok(())
    }
}
