//! Reverse-mode differentiation: operators that compute the gradients of a value are added to the graph that computes it.
//!
//! In: a graph under construction, a value of it (the loss) and the values it is differentiated with respect to. Out: for each of
//! those the value that is the gradient of the sum of the loss's elements. Invariants: the backward half reaches no further down than
//! the lowest value that is asked for; gradients of a value with several users are added in a fixed order, that of its last user
//! first; the values of the forward half stay, and keep their names.
//!
//! An operator that stands for several (a convolution that ends in SiLU, a whole MBConv block) is taken apart where the gradient goes
//! through it ([`Operation::unfused`](crate::ops::Operation::unfused)), because the backward half reads what lies between.

use std::collections::{BTreeSet, HashMap};

use crate::error::{Error, OpError, Result};
use crate::graph::{GraphBuilder, NodeId, ValueId};
use crate::ops::gradient::{Gradient, GradientContext, Operand, Term};
use crate::ops::{Binary, Expand, Op};
use crate::scalar::BinaryFn;
use crate::types::{Constant, TensorType};

/// Adds to `graph` the gradients of the sum of the elements of `loss` with respect to each value of `wrt`, named `grad.` and the
/// value's name; `None`: the loss does not depend on it.
///
/// # Errors
/// [`Error::NotDifferentiable`] with every operator on the way that has no gradient rule.
pub fn differentiate(graph: &mut GraphBuilder, loss: ValueId, wrt: &[ValueId]) -> Result<Vec<Option<ValueId>>> {
    take_apart(graph, &[loss], wrt)?;
    let mut backward = Backward::new(graph);
    let seed = backward.ones(loss)?;
    backward.run(&[(loss, seed)], wrt)
}

/// As [`differentiate`] of a loss of which the gradients with respect to some values are known: `known` has those values, and for each a
/// value of the same type that is its gradient.
///
/// # Errors
/// As [`differentiate`]; a gradient of another type than its value.
pub fn pull_back(
    graph: &mut GraphBuilder,
    known: &[(ValueId, ValueId)],
    wrt: &[ValueId],
) -> Result<Vec<Option<ValueId>>> {
    for (value, gradient) in known {
        let (expected, found) = (graph.ty(*value), graph.ty(*gradient));
        if expected != found {
            let error = OpError::new("gradient", expected.to_string(), found.to_string());
            return Err(error.at(graph.graph().name_of(*value), "value"));
        }
    }
    take_apart(graph, &known.iter().map(|(value, _)| *value).collect::<Vec<_>>(), wrt)?;
    Backward::new(graph).run(known, wrt)
}

/// The way from some values down to what is asked for.
struct Path {
    /// Values that depend on those that are asked for, themselves included.
    needs: BTreeSet<ValueId>,
    /// Operators between them and the first, each after its operands.
    nodes: Vec<NodeId>,
}

impl Path {
    fn new(builder: &GraphBuilder, from: &[ValueId], wrt: &[ValueId]) -> Result<Self> {
        let graph = builder.graph();
        let is_float = |value: &ValueId| graph.ty(*value).dtype.is_float();
        let mut needs: BTreeSet<ValueId> = wrt.iter().copied().filter(is_float).collect();
        let order = graph.topological()?;
        for id in &order {
            if graph.operands(*id).iter().any(|operand| needs.contains(operand)) {
                needs.extend(graph.values(*id).filter(is_float));
            }
        }
        let (mut live, mut open) = (BTreeSet::new(), from.to_vec());
        while let Some(value) = open.pop() {
            if needs.contains(&value) && live.insert(value.node) {
                open.extend(graph.operands(value.node));
            }
        }
        let between = |id: &NodeId| {
            let depends = graph.operands(*id).iter().any(|operand| needs.contains(operand));
            live.contains(id) && depends && graph.node(*id).op().is_some()
        };
        Ok(Self { nodes: order.into_iter().filter(between).collect(), needs })
    }
}

/// Puts operators that have gradient rules in place of those on the way that stand for several.
fn take_apart(graph: &mut GraphBuilder, from: &[ValueId], wrt: &[ValueId]) -> Result<()> {
    loop {
        let mut changed = false;
        for id in Path::new(graph, from, wrt)?.nodes {
            let (name, op) = described(graph, id)?;
            let at = |e: OpError| e.at(&name, op.name());
            let operands = graph.graph().operands(id);
            let types: Vec<&TensorType> = operands.iter().map(|operand| graph.ty(*operand)).collect();
            let Some(parts) = op.unfused(&types).map_err(at)? else { continue };
            let origins = graph.graph().node(id).origins.clone();
            let mut values = operands;
            let Some((last, before)) = parts.steps.split_last() else { continue };
            for step in before {
                let inputs: Vec<ValueId> = step.operands.iter().map(|number| values[*number]).collect();
                let base = format!("{name}.{}", step.op.name());
                values.extend(graph.ops_from(&[&base], step.op.clone(), &inputs, origins.clone())?);
            }
            let inputs: Vec<ValueId> = last.operands.iter().map(|number| values[*number]).collect();
            graph.graph_mut().set_op(id, last.op.clone(), &inputs);
            changed = true;
        }
        if !changed {
            return Ok(());
        }
    }
}

/// The name and the operator of a node that is one.
fn described(graph: &GraphBuilder, id: NodeId) -> Result<(String, Op)> {
    let node = graph.graph().node(id);
    let none = || OpError::new("kind", "an operator", node.mnemonic()).at(&node.name, node.mnemonic());
    Ok((node.name.clone(), node.op().ok_or_else(none)?.clone()))
}

/// Fails with every operator on the way that has no gradient rule for what is asked of it.
fn refuse(graph: &GraphBuilder, path: &Path) -> Result<()> {
    let mut refused = Vec::new();
    for id in &path.nodes {
        let (name, op) = described(graph, *id)?;
        if let Err(e) = rule(graph, *id, &op, path, |value| path.needs.contains(&value)) {
            refused.push(format!("{name}: {}: {}: expected {}, found {}", op.name(), e.field, e.expected, e.found));
        }
    }
    if refused.is_empty() { Ok(()) } else { Err(Error::NotDifferentiable(refused)) }
}

/// What the gradient rule of an operator makes of the gradients of those results for which there `is` one.
fn rule(
    builder: &GraphBuilder,
    id: NodeId,
    op: &Op,
    path: &Path,
    is: impl Fn(ValueId) -> bool,
) -> Result<Gradient, OpError> {
    let (graph, operands) = (builder.graph(), builder.graph().operands(id));
    let operands: Vec<Operand<'_>> = operands
        .iter()
        .map(|value| Operand {
            ty: graph.ty(*value),
            known: graph.producer(*value).constant(),
            wanted: path.needs.contains(value),
        })
        .collect();
    let results: Vec<(&TensorType, bool)> = graph.values(id).map(|value| (graph.ty(value), is(value))).collect();
    let mut cx = GradientContext::new(&operands, &results);
    op.gradient(&mut cx)?;
    Ok(cx.finish())
}

/// The backward half under construction.
struct Backward<'a> {
    graph: &'a mut GraphBuilder,
    /// Of each value the gradients that its users have made so far.
    sums: HashMap<ValueId, Vec<ValueId>>,
    /// Constants that are there already.
    constants: HashMap<(TensorType, u64), ValueId>,
    /// Nodes of the backward half, and whether they have the name of a gradient.
    added: HashMap<NodeId, bool>,
}

impl<'a> Backward<'a> {
    fn new(graph: &'a mut GraphBuilder) -> Self {
        Self { graph, sums: HashMap::new(), constants: HashMap::new(), added: HashMap::new() }
    }

    fn constant(&mut self, constant: &Constant) -> ValueId {
        let key = (constant.ty.clone(), constant.hash());
        if let Some(known) = self.constants.get(&key)
            && self.graph.known(*known) == Some(constant)
        {
            return *known;
        }
        let added = self.graph.constant("grad.constant", constant.clone());
        self.constants.insert(key, added);
        added
    }

    /// The gradient of the sum of the elements of `loss`.
    fn ones(&mut self, loss: ValueId) -> Result<ValueId> {
        let ty = self.graph.ty(loss).clone();
        let one = crate::ops::literal::Literal::new_float(TensorType::new(ty.dtype, []), vec![1.0]);
        let one = self.constant(&one.to_constant());
        if ty.shape.rank() == 0 {
            Ok(one)
        } else {
            self.op("grad.ones", Expand { shape: ty.shape.to_vec() }.into(), &[one], &[])
        }
    }

    fn op(&mut self, base: &str, op: Op, operands: &[ValueId], origins: &[String]) -> Result<ValueId> {
        let value = self.graph.op_from(base, op, operands, origins.to_vec())?;
        self.added.entry(value.node).or_insert(false);
        Ok(value)
    }

    /// Goes from the values of which gradients are known down to those that are asked for.
    fn run(mut self, known: &[(ValueId, ValueId)], wrt: &[ValueId]) -> Result<Vec<Option<ValueId>>> {
        let path = Path::new(self.graph, &known.iter().map(|(value, _)| *value).collect::<Vec<_>>(), wrt)?;
        refuse(self.graph, &path)?;
        for (value, gradient) in known.iter().filter(|(value, _)| path.needs.contains(value)) {
            self.sums.entry(*value).or_default().push(*gradient);
        }
        for id in path.nodes.iter().rev() {
            self.node(*id, &path)?;
        }
        wrt.iter().map(|value| self.total(*value)).collect()
    }

    /// The gradient of a value: the sum of what its users have made, under the value's name.
    fn total(&mut self, value: ValueId) -> Result<Option<ValueId>> {
        let parts = self.sums.remove(&value).unwrap_or_default();
        let Some((first, rest)) = parts.split_first() else { return Ok(None) };
        let name = format!("grad.{}", self.graph.graph().name_of(value));
        let origins = self.graph.graph().producer(value).origins.clone();
        let mut sum = *first;
        for part in rest {
            sum =
                self.op(&format!("{name}.sum"), Binary { function: BinaryFn::Add }.into(), &[sum, *part], &origins)?;
        }
        if let Some(named @ false) = self.added.get_mut(&sum.node).filter(|_| sum.result == 0) {
            *named = true;
            self.graph.rename(sum, &name);
        }
        self.sums.insert(value, vec![sum]);
        Ok(Some(sum))
    }

    /// Adds the gradients of the operands of a node to what there is of them.
    fn node(&mut self, id: NodeId, path: &Path) -> Result<()> {
        let mut values = self.graph.graph().operands(id);
        let operands = values.clone();
        values.extend(self.graph.graph().values(id));
        let results: Vec<ValueId> = self.graph.graph().values(id).collect();
        let mut upstream = BTreeSet::new();
        for result in &results {
            if let Some(total) = self.total(*result)? {
                values.push(total);
                upstream.insert(*result);
            }
        }
        if upstream.is_empty() {
            return Ok(());
        }
        let (name, op) = described(self.graph, id)?;
        let gradient = rule(self.graph, id, &op, path, |value| upstream.contains(&value));
        let gradient = gradient.map_err(|e| e.at(&name, op.name()))?;
        let origins = self.graph.graph().node(id).origins.clone();
        for term in gradient.terms {
            match term {
                Term::Constant(constant) => values.push(self.constant(&constant)),
                Term::Op(op, inputs, _) => {
                    let inputs: Vec<ValueId> = inputs.iter().map(|value| values[value.number()]).collect();
                    let base = format!("grad.{name}.{}", op.name());
                    let results = self.graph.ops_from(&[&base], op, &inputs, origins.clone())?;
                    results.iter().for_each(|value| _ = self.added.entry(value.node).or_insert(false));
                    values.extend(results);
                }
            }
        }
        for (operand, gradient) in operands.iter().zip(gradient.gradients) {
            if let Some(gradient) = gradient.filter(|_| path.needs.contains(operand)) {
                self.sums.entry(*operand).or_default().push(values[gradient.number()]);
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
