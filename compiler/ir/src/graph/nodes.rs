//! The graph: nodes with one result each, and ordered operands. The only file that names petgraph.
//!
//! A node is a graph input, a variable, a constant or an operator. An edge runs from producer to consumer and carries the operand
//! slot, so a producer may fill several slots of one consumer. Node ids stay valid across removals. Iteration is in
//! topological order with ties broken by id, so printing and lowering are deterministic.

use std::collections::BTreeMap;

use petgraph::Direction;
use petgraph::stable_graph::{NodeIndex, StableDiGraph};
use petgraph::visit::EdgeRef;

use crate::error::{Error, Result};
use crate::ops::Op;
use crate::types::{Constant, TensorType};

/// Names a node, and the value it produces.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NodeId(NodeIndex<u32>);

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

/// A node: what it is, the type of its value, its name, and where it came from.
#[derive(Clone, PartialEq, Debug)]
pub struct Node {
    /// What it is.
    pub kind: Kind,
    /// Type of its value.
    pub ty: TensorType,
    /// Unique name, usually the model file's name of the value.
    pub name: String,
    /// Names of the model file's nodes that this one computes, in order; more than one after a fusion.
    pub origins: Vec<String>,
    /// Which of them the parts of an operator that stands for several compute, where a pass has noted it.
    pub parts: Vec<Part>,
}

/// The name of a part of an operator, and the names of the model file's nodes that it computes.
pub type Part = (String, Vec<String>);

impl Node {
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

/// A network: inputs, variables and their updates, nodes, named outputs, and the model's metadata.
#[derive(Clone, Debug, Default)]
pub struct Graph {
    /// Name of the network.
    pub name: String,
    /// Key-value metadata of the model file (preprocessing, labels); not part of the text form.
    pub metadata: BTreeMap<String, String>,
    nodes: StableDiGraph<Node, usize, u32>,
    inputs: Vec<NodeId>,
    outputs: Vec<(String, NodeId)>,
    pub(super) variables: Vec<NodeId>,
    pub(super) updates: Vec<(NodeId, NodeId)>,
}

impl Graph {
    /// An empty graph.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// Adds a graph input.
    pub fn add_input(&mut self, name: impl Into<String>, ty: TensorType) -> NodeId {
        let id = self
            .add_node(Node { kind: Kind::Input, ty, name: name.into(), origins: Vec::new(), parts: Vec::new() }, &[]);
        self.inputs.push(id);
        id
    }

    /// Adds a constant.
    pub fn add_constant(&mut self, name: impl Into<String>, constant: Constant) -> NodeId {
        let ty = constant.ty.clone();
        self.add_node(
            Node { kind: Kind::Constant(constant), ty, name: name.into(), origins: Vec::new(), parts: Vec::new() },
            &[],
        )
    }

    /// Adds an operator over `operands`; its type comes from the operator's shape rule.
    pub fn add_op(
        &mut self,
        name: impl Into<String>,
        op: impl Into<Op>,
        operands: &[NodeId],
        origins: Vec<String>,
    ) -> Result<NodeId> {
        let (op, name) = (op.into(), name.into());
        let types: Vec<&TensorType> = operands.iter().map(|id| &self.node(*id).ty).collect();
        let ty = op.infer(&types).map_err(|e| e.at(origins.first().unwrap_or(&name), op.name()))?;
        Ok(self.add_node(Node { kind: Kind::Op(op), ty, name, origins, parts: Vec::new() }, operands))
    }

    /// Adds a node as it is.
    pub fn add_node(&mut self, node: Node, operands: &[NodeId]) -> NodeId {
        let id = self.nodes.add_node(node);
        for (slot, operand) in operands.iter().enumerate() {
            self.nodes.add_edge(operand.0, id, slot);
        }
        NodeId(id)
    }

    /// Names a value as the next graph output. A value may be several outputs.
    pub fn add_output(&mut self, name: impl Into<String>, value: NodeId) {
        self.outputs.push((name.into(), value));
    }

    /// Replaces the graph outputs.
    pub fn set_outputs(&mut self, outputs: Vec<(String, NodeId)>) {
        self.outputs = outputs;
    }

    /// Graph inputs, in order.
    pub fn inputs(&self) -> &[NodeId] {
        &self.inputs
    }

    /// Graph outputs, in order.
    pub fn outputs(&self) -> &[(String, NodeId)] {
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
    pub fn operands(&self, id: NodeId) -> Vec<NodeId> {
        let mut slots: Vec<(usize, NodeId)> =
            self.nodes.edges_directed(id.0, Direction::Incoming).map(|e| (*e.weight(), NodeId(e.source()))).collect();
        slots.sort_unstable();
        slots.into_iter().map(|(_, id)| id).collect()
    }

    /// Operand slots as stored, for the verifier: `(slot, producer)` in ascending order.
    pub fn operand_slots(&self, id: NodeId) -> Vec<(usize, NodeId)> {
        let mut slots: Vec<(usize, NodeId)> =
            self.nodes.edges_directed(id.0, Direction::Incoming).map(|e| (*e.weight(), NodeId(e.source()))).collect();
        slots.sort_unstable();
        slots
    }

    /// Consumers of a value as `(consumer, slot)`, ascending.
    pub fn users(&self, id: NodeId) -> Vec<(NodeId, usize)> {
        let mut users: Vec<(NodeId, usize)> =
            self.nodes.edges_directed(id.0, Direction::Outgoing).map(|e| (NodeId(e.target()), *e.weight())).collect();
        users.sort_unstable();
        users
    }

    /// Whether a value leaves the graph: as an output, or as what replaces a variable after the run.
    pub fn is_output(&self, id: NodeId) -> bool {
        self.outputs.iter().any(|(_, value)| *value == id) || self.is_update(id)
    }

    /// The only consumer of a value that is not a graph output.
    pub fn single_user(&self, id: NodeId) -> Option<NodeId> {
        match self.users(id)[..] {
            [(user, _)] if !self.is_output(id) => Some(user),
            _ => None,
        }
    }

    /// Makes every consumer of `old`, and every output and update it is, use `new` instead.
    pub fn replace_uses(&mut self, old: NodeId, new: NodeId) {
        let edges: Vec<_> =
            self.nodes.edges_directed(old.0, Direction::Outgoing).map(|e| (e.id(), e.target(), *e.weight())).collect();
        for (edge, target, slot) in edges {
            if target == new.0 {
                continue;
            }
            self.nodes.remove_edge(edge);
            self.nodes.add_edge(new.0, target, slot);
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

    /// Removes every node that no output and no update depends on, except inputs and variables; returns how many went.
    pub fn remove_dead(&mut self) -> usize {
        let outputs = self.outputs.iter().map(|(_, id)| *id);
        let mut live: Vec<NodeId> = outputs.chain(self.updates.iter().map(|(_, id)| *id)).collect();
        let mut seen: std::collections::BTreeSet<NodeId> = live.iter().copied().collect();
        while let Some(id) = live.pop() {
            for operand in self.operands(id) {
                if seen.insert(operand) {
                    live.push(operand);
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
        self.topological()?;
        let mut out = Self { name: self.name.clone(), metadata: self.metadata.clone(), ..Self::default() };
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
            let mut stack = vec![*output];
            while let Some(id) = stack.last().copied() {
                let operands = self.operands(id);
                let waiting = stack.len();
                if !ids.contains_key(&id) {
                    stack.extend(operands.iter().rev().filter(|o| !ids.contains_key(o)));
                }
                if stack.len() == waiting {
                    stack.pop();
                    let operands: Vec<NodeId> = operands.iter().filter_map(|o| ids.get(o).copied()).collect();
                    ids.entry(id).or_insert_with(|| out.add_node(self.node(id).clone(), &operands));
                }
            }
        }
        out.outputs = self.outputs.iter().filter_map(|(name, id)| Some((name.clone(), *ids.get(id)?))).collect();
        out.updates = self.updates.iter().filter_map(|(to, id)| Some((*ids.get(to)?, *ids.get(id)?))).collect();
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
            let name = |id: NodeId| graph.node(id).name.as_str();
            graph
                .ids()
                .map(|id| (name(id), (graph.node(id), graph.operands(id).into_iter().map(name).collect())))
                .collect()
        }
        fn ports(graph: &Graph) -> [Vec<(&str, &str)>; 3] {
            let name = |id: &NodeId| graph.node(*id).name.as_str();
            let inputs = graph.inputs.iter().chain(&graph.variables);
            [
                inputs.map(|id| (name(id), "")).collect(),
                graph.outputs.iter().map(|(n, id)| (n.as_str(), name(id))).collect(),
                graph.updates.iter().map(|(to, id)| (name(to), name(id))).collect(),
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
