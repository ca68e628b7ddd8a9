//! What the backward half of a graph reads of the forward half is computed again where it is read, instead of being kept until then.
//!
//! The forward half is what the outputs depend on, the backward half what only updates do. Values of the first that the second reads are
//! kept between them. Those of which dropping saves the most bytes for each operation that it takes to compute them again are dropped
//! first, until what is kept is no more than the bound ([`Context::kept_bytes`]): copies of their operators are put before their first
//! reader in the backward half. No more than two of them follow each other: what lies between is kept, so that blocks begin with what is at hand.
//!
//! Holds: always, to the bit; a copy computes the same of the same.
//! Needs: nothing of constants.

use std::collections::{BTreeMap, BTreeSet};

use super::{Context, remark};
use crate::error::Result;
use crate::graph::{Graph, Names, Node, NodeId, ValueId};
use crate::remark::Verdict;

/// Copies that may follow each other.
const CHAIN: usize = 2;
/// A value of which this many are no larger than what is dropped may be kept for it.
const SMALL: u64 = 16;
/// What is computed again saves at least one of so many parts of what is kept.
const PARTS: u64 = 512;
/// What storing a byte counts, in multiply-adds.
const STORE: u64 = 4;

/// What the backward half of a graph reads of the forward half, bytes.
///
/// # Errors
/// If the graph has a cycle.
pub fn kept_bytes(graph: &Graph) -> Result<u64> {
    Ok(Halves::of(graph)?.kept_bytes(graph))
}

/// Runs the pass.
pub fn run(mut graph: Graph, cx: &mut Context) -> Result<Graph> {
    if cx.kept_bytes == u64::MAX {
        return Ok(graph);
    }
    let halves = Halves::of(&graph)?;
    let mut kept = halves.kept_bytes(&graph);
    if kept <= cx.kept_bytes {
        return Ok(graph);
    }
    let mut again = Again { graph: &graph, halves: &halves, nodes: BTreeSet::new() };
    for drop in again.candidates() {
        if kept <= cx.kept_bytes {
            break;
        }
        if again.add(&drop) {
            kept -= drop.saves;
            let text = "is computed again where the backward half reads it".to_string();
            let mut made = remark(cx, &graph, drop.node.into(), (Verdict::Made, text));
            made.figures = vec![("bytes", drop.saves as f64), ("operations", drop.costs as f64)];
            cx.remarks.push(made);
        }
    }
    let nodes = again.nodes;
    cx.changes += nodes.len();
    copy(&mut graph, &halves, &nodes);
    Ok(graph)
}

fn bytes(graph: &Graph, value: ValueId) -> u64 {
    graph.ty(value).bytes() as u64
}

/// A graph before and after its loss.
struct Halves {
    /// Operators that the outputs depend on, in topological order.
    forward: Vec<NodeId>,
    /// Those of them that depend on an input of the graph.
    varying: BTreeSet<NodeId>,
    /// Values of varying operators that the backward half reads.
    kept: BTreeSet<ValueId>,
}

impl Halves {
    fn of(graph: &Graph) -> Result<Self> {
        let mut open: Vec<NodeId> = graph.outputs().iter().map(|(_, value)| value.node).collect();
        let mut reached = BTreeSet::new();
        while let Some(id) = open.pop() {
            if reached.insert(id) {
                open.extend(graph.operands(id).into_iter().map(|operand| operand.node));
            }
        }
        let is_op = |id: &NodeId| graph.node(*id).op().is_some();
        let forward: Vec<NodeId> =
            graph.topological()?.into_iter().filter(|id| reached.contains(id)).filter(is_op).collect();
        let mut varying: BTreeSet<NodeId> = graph.inputs().iter().copied().collect();
        for id in &forward {
            if graph.operands(*id).iter().any(|operand| varying.contains(&operand.node)) {
                varying.insert(*id);
            }
        }
        varying.retain(is_op);
        let later = |value: &ValueId| graph.users(*value).iter().any(|(user, _)| !reached.contains(user));
        let kept = varying.iter().flat_map(|id| graph.values(*id)).filter(later).collect();
        Ok(Self { forward, varying, kept })
    }

    fn kept_bytes(&self, graph: &Graph) -> u64 {
        self.kept.iter().map(|value| bytes(graph, *value)).sum()
    }
}

/// An operator that may be computed again, with those that it takes.
struct Saving {
    node: NodeId,
    /// The operator and what has to be computed again for it, in no order.
    nodes: Vec<NodeId>,
    /// Bytes that need not be kept.
    saves: u64,
    /// Multiply-adds, and stores by what they count.
    costs: u64,
}

/// What is computed again.
struct Again<'a> {
    graph: &'a Graph,
    halves: &'a Halves,
    nodes: BTreeSet<NodeId>,
}

impl Again<'_> {
    /// Every operator by which something is saved, the best first.
    fn candidates(&self) -> Vec<Saving> {
        let all = self.halves.kept_bytes(self.graph);
        let mut found: Vec<Saving> = self.halves.forward.iter().filter_map(|id| self.dropped(*id)).collect();
        found.retain(|drop| drop.saves >= all / PARTS);
        // Products of 64 bits stay within 128.
        found.sort_by(|a, b| {
            let (left, right) = (u128::from(a.saves) * u128::from(b.costs), u128::from(b.saves) * u128::from(a.costs));
            right.cmp(&left)
        });
        found
    }

    /// What it takes to compute `node` again, if the backward half reads it and more is saved than kept for it.
    fn dropped(&self, node: NodeId) -> Option<Saving> {
        let Self { graph, halves, .. } = self;
        let leaves = |id: NodeId| graph.values(id).any(|v| graph.is_output(v) || graph.is_update(v));
        let read: u64 = graph.values(node).filter(|v| halves.kept.contains(v)).map(|v| bytes(graph, v)).sum();
        let (mut saves, mut costs, mut nodes, mut open) = (read, 0u64, Vec::new(), vec![node]);
        while let Some(id) = open.pop() {
            if nodes.contains(&id) {
                continue;
            }
            nodes.push(id);
            costs = costs.saturating_add(self.costs(id));
            let own: u64 = graph.values(id).map(|value| bytes(graph, value)).sum();
            if leaves(id) || (id != node && own > read) {
                return None;
            }
            for operand in graph.operands(id) {
                if !halves.varying.contains(&operand.node) || halves.kept.contains(&operand) {
                    continue;
                }
                match bytes(graph, operand) {
                    // Small enough to be kept instead.
                    small if small.saturating_mul(SMALL) <= read => saves = saves.saturating_sub(small),
                    _ => open.push(operand.node),
                }
            }
        }
        (saves > 0 && saves > read / 2).then_some(Saving { node, nodes, saves, costs })
    }

    fn costs(&self, id: NodeId) -> u64 {
        let (graph, node) = (self.graph, self.graph.node(id));
        let operands = graph.operands(id);
        let types: Vec<_> = operands.iter().map(|operand| graph.ty(*operand)).collect();
        let stored: u64 = graph.values(id).map(|value| bytes(graph, value)).sum();
        node.op().map_or(0, |op| op.macs(&types, &node.ty)).saturating_add(stored.saturating_mul(STORE))
    }

    /// Computes the operators of `drop` again, unless too many follow each other then.
    fn add(&mut self, drop: &Saving) -> bool {
        let added: Vec<NodeId> = drop.nodes.iter().copied().filter(|id| self.nodes.insert(*id)).collect();
        let fits = drop.nodes.iter().all(|id| self.above(*id, CHAIN) + self.below(*id, CHAIN) <= CHAIN + 1);
        if !fits {
            added.iter().for_each(|id| _ = self.nodes.remove(id));
        }
        fits
    }

    /// How many kept values that are computed again follow each other down to those of `id`; no more than one beyond `most` are counted.
    fn above(&self, id: NodeId, most: usize) -> usize {
        let operands = self.graph.operands(id);
        let before = operands.iter().filter(|operand| self.nodes.contains(&operand.node));
        let longest = if most == 0 { 0 } else { before.map(|o| self.above(o.node, most - 1)).max().unwrap_or(0) };
        1 + longest
    }

    /// The same from those of `id` on.
    fn below(&self, id: NodeId, most: usize) -> usize {
        let users = self.graph.values(id).flat_map(|value| self.graph.users(value));
        let after = users.map(|(user, _)| user).filter(|user| self.nodes.contains(user));
        let longest = if most == 0 { 0 } else { after.map(|user| self.below(user, most - 1)).max().unwrap_or(0) };
        1 + longest
    }
}

/// Puts copies of `nodes` into the graph, for those who read them after the forward half.
fn copy(graph: &mut Graph, halves: &Halves, nodes: &BTreeSet<NodeId>) {
    let mut names = Names::of(graph);
    let mut copies: BTreeMap<NodeId, NodeId> = BTreeMap::new();
    let moved = |copies: &BTreeMap<NodeId, NodeId>, value: ValueId| ValueId {
        node: copies.get(&value.node).copied().unwrap_or(value.node),
        ..value
    };
    let forward: BTreeSet<NodeId> = halves.forward.iter().copied().collect();
    let mut readers: BTreeSet<NodeId> = BTreeSet::new();
    for id in halves.forward.iter().filter(|id| nodes.contains(id)) {
        let users = graph.values(*id).flat_map(|value| graph.users(value)).map(|(user, _)| user).collect::<Vec<_>>();
        readers.extend(users.into_iter().filter(|user| !forward.contains(user)));
        let mut node: Node = graph.node(*id).clone();
        node.name = names.fresh(&format!("again.{}", node.name));
        node.more.iter_mut().for_each(|result| result.name = names.fresh(&format!("again.{}", result.name)));
        let operands: Vec<ValueId> = graph.operands(*id).into_iter().map(|value| moved(&copies, value)).collect();
        let copy = graph.add_node(node, &operands);
        copies.insert(*id, copy);
    }
    for reader in readers {
        let operands: Vec<ValueId> = graph.operands(reader).into_iter().map(|value| moved(&copies, value)).collect();
        let parts = std::mem::take(&mut graph.node_mut(reader).parts);
        if let Some(op) = graph.node(reader).op().cloned() {
            graph.set_op(reader, op, &operands);
        }
        graph.node_mut(reader).parts = parts;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::{Environment, evaluate_in, parse};
    use crate::ops::literal::Literal;
    use crate::types::random_values;

    /// A chain of `layers` convolutions over maps of 256 bytes, each with its slope, and gradients of all their weights.
    fn network(layers: usize) -> Graph {
        let mut text = "graph @g(%a0: f32[1,1,8,8], %g: f32[1,1,8,8]) {\n".to_string();
        let mut add = |line: String| text.push_str(&(line + "\n"));
        for at in 1..=layers {
            add(format!("%w{at} = parameter \"w{at}\" f32[1,1,1,1] random({at})"));
            add(format!("%d{at} = state \"d{at}\" f32[1,1,1,1] [0]"));
        }
        for at in 1..=layers {
            let before = at - 1;
            add(format!("%a{at}, %s{at} = conv_with_slope %a{before}, %w{at} {{activation=silu}}"));
        }
        add(format!("%z{layers} = mul %g, %s{layers}"));
        for at in (1..=layers).rev() {
            let (before, more) = (at - 1, at > 1);
            add(format!("%n{at} = conv_weight_gradient %a{before}, %z{at}, %d{at} {{accumulate=true}}"));
            if more {
                add(format!("%z{before} = conv_data_gradient %z{at}, %w{at}, %s{before} {{factor=true}}"));
            }
        }
        add(format!("return %a{layers} as \"y\""));
        (1..=layers).for_each(|at| add(format!("update %d{at} <- %n{at}")));
        text.push('}');
        parse(&text).unwrap()
    }

    fn limited(graph: &Graph, kept_bytes: u64) -> (Graph, usize) {
        let mut cx = Context { kept_bytes, ..Context::new("rematerialize", 0) };
        let after = run(graph.clone(), &mut cx).unwrap();
        assert_eq!(cx.remarks.len(), cx.changes);
        (after, cx.changes)
    }

    fn states(graph: &Graph, layers: usize) -> Vec<Vec<f64>> {
        let inputs = [1, 2].map(|seed| Literal::from_f32([1, 1, 8, 8], &random_values(seed, 64)));
        let mut environment = Environment::new(graph).unwrap();
        let outputs = evaluate_in(graph, &inputs, &mut environment).unwrap();
        let states = (1..=layers).map(|at| environment.get(&format!("d{at}")).unwrap().to_f64());
        states.chain([outputs[0].to_f64()]).collect()
    }

    #[test]
    fn results_are_those_without_it() {
        let graph = network(7);
        let expected = states(&graph, 7);
        for kept in [0, 256, 1000, 2000, 3000, 4000] {
            let (after, _) = limited(&graph, kept);
            crate::graph::verify(&after).unwrap();
            assert_eq!(states(&after, 7), expected, "{kept}");
            assert_eq!(states(&after.renumbered().unwrap(), 7), expected, "{kept}");
        }
    }

    #[test]
    fn as_little_as_the_bound_asks_for_is_computed_again_and_every_third_is_kept() {
        // Of six layers a value and a slope each are read later, of the last one the slope.
        let graph = network(7);
        let changes = [u64::MAX, 13 * 256, 13 * 256 - 1, 11 * 256, 9 * 256, 0].map(|kept| limited(&graph, kept).1);
        assert_eq!(changes, [0, 0, 1, 1, 2, 4]);
        let (after, _) = limited(&graph, 0);
        let again: Vec<&str> = after.ids().map(|id| after.name_of(id)).filter(|n| n.starts_with("again.")).collect();
        assert_eq!(again, ["again.a1", "again.a2", "again.a4", "again.a5"]);
    }
}
