//! Graph to plan, asking each operator.
//!
//! In: an optimised graph and a target. Out: a [`Plan`]. The pass itself knows no operator and no kernel: it walks the graph in
//! topological order, hands each operator its operands' slots, and gathers every refusal into one error.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::ir::{Graph, Kind, NodeId};
use crate::plan::builder::Builder;
use crate::plan::lowering::{Lowering, Value};
use crate::plan::{Layout, Plan, Port};
use crate::target::Target;

/// Lowers a graph to a plan for `target`.
///
/// # Errors
/// [`Error::Unsupported`] with every node that no kernel can compute; [`Error::Invalid`] if the graph has a cycle.
pub fn lower(graph: &Graph, target: &Target) -> Result<Plan> {
    let mut plan = Builder::new(target.clone());
    let mut values: BTreeMap<NodeId, Value> = BTreeMap::new();
    let mut refused = Vec::new();
    for id in graph.inputs() {
        let node = graph.node(*id);
        let slot = plan.input(Port { name: node.name.clone(), ty: node.ty.clone() });
        values.insert(*id, Value { ty: node.ty.clone(), constant: None, slots: vec![slot] });
    }
    for id in graph.topological()? {
        let node = graph.node(id);
        let value = match &node.kind {
            Kind::Input => continue,
            Kind::Constant(constant) => {
                Value { ty: node.ty.clone(), constant: Some(constant.clone()), slots: Vec::new() }
            }
            Kind::Op(op) => {
                let ids = graph.operands(id);
                let operands = ids.iter().filter_map(|id| values.get(id).cloned()).collect::<Vec<_>>();
                if operands.len() < ids.len() {
                    continue;
                }
                let origin = node.origins.first().unwrap_or(&node.name);
                let mut cx =
                    Lowering { plan: &mut plan, node: &node.name, operands, ty: node.ty.clone(), result: None };
                let outcome = op.lower(&mut cx);
                let Lowering { operands, result, .. } = cx;
                for (id, operand) in ids.iter().zip(operands) {
                    values.insert(*id, operand);
                }
                match (outcome, result) {
                    (Err(error), _) => {
                        refused.push(format!("{origin} ({}): {error}", op.name()));
                        continue;
                    }
                    (Ok(()), None) => {
                        refused.push(format!("{origin} ({}): the lowering gave no result", op.name()));
                        continue;
                    }
                    (Ok(()), Some(slot)) => Value { ty: node.ty.clone(), constant: None, slots: vec![slot] },
                }
            }
        };
        values.insert(id, value);
    }
    if !refused.is_empty() {
        return Err(Error::Unsupported(refused));
    }
    let mut outputs = Vec::new();
    for (name, id) in graph.outputs() {
        let Some(value) = values.get(id).cloned() else {
            return Err(Error::Invalid(vec![format!("output {name}: its node has no value")]));
        };
        let ty = value.ty.clone();
        let mut cx = Lowering { plan: &mut plan, node: name, operands: vec![value], ty: ty.clone(), result: None };
        let slot = cx.operand_as(0, Layout::RowMajor).map_err(|e| e.at(name, "output"))?;
        outputs.push((Port { name: name.clone(), ty }, slot));
    }
    plan.finish(graph.name.clone(), outputs)
}
