//! Masks of training: dropout before the classifier, and the branches of residual blocks.

use std::collections::{BTreeMap, BTreeSet};

use crate::error::{OpError, Result};
use crate::graph::{Graph, GraphBuilder, NodeId, ValueId};
use crate::ops::reduce::ReduceKind;
use crate::ops::{Binary, Op, Reshape};
use crate::scalar::BinaryFn;
use crate::types::TensorType;

/// Multiplies the operand of the layer that makes `logits` by a new input `dropout` of its type.
///
/// # Errors
/// If no layer is found.
pub fn dropout(b: &mut GraphBuilder, logits: ValueId) -> Result<()> {
    let mut at = logits;
    loop {
        let node = b.graph().node(at.node);
        let operands = b.graph().operands(at.node);
        let next = match node.op() {
            Some(Op::Gemm(_) | Op::MatMul(_) | Op::Conv(_)) => {
                let op = node.op().cloned();
                let (x, ty) = (operands[0], b.ty(operands[0]).clone());
                let mask = b.input_of("dropout", ty);
                let dropped = b.op_from("dropped", Binary { function: BinaryFn::Mul }, &[x, mask], Vec::new())?;
                let mut operands = operands;
                operands[0] = dropped;
                if let Some(op) = op {
                    b.graph_mut().set_op(at.node, op, &operands);
                }
                return Ok(());
            }
            // What may come after the layer: its bias, an activation, a pool over positions, another shape.
            Some(Op::Reshape(_) | Op::Identity(_) | Op::Unary(_) | Op::Pool(_) | Op::Binary(_)) => {
                operands.iter().copied().find(|value| b.graph().producer(*value).op().is_some())
            }
            Some(Op::Reduce(reduce)) if reduce.kind == ReduceKind::Mean => operands.first().copied(),
            _ => None,
        };
        at = next.ok_or_else(|| {
            OpError::new("dropout", "a linear layer that makes the logits", node.mnemonic())
                .at(&node.name, "classifier")
        })?;
    }
}

/// Multiplies the branch of every residual block by a new input `drop_path.N`, one element for each image; returns the names of the
/// blocks' sums.
pub fn drop_path(b: &mut GraphBuilder) -> Result<Vec<String>> {
    let mut blocks = Vec::new();
    for (sum, slot) in residuals(b.graph())? {
        let (name, operands) = (b.graph().node(sum).name.clone(), b.graph().operands(sum));
        let ty = b.ty(operands[slot]).clone();
        let (rank, images) = (ty.shape.rank(), ty.shape[0]);
        let mask = b.input_of(&format!("drop_path.{}", blocks.len()), TensorType::new(ty.dtype, [images]));
        let shape = [images].into_iter().chain((1..rank).map(|_| 1)).collect();
        let mask = b.op_from(&format!("{name}.mask"), Reshape { shape }, &[mask], Vec::new())?;
        let multiply = Binary { function: BinaryFn::Mul };
        let branch = b.op_from(&format!("{name}.branch"), multiply, &[operands[slot], mask], Vec::new())?;
        let mut operands = operands;
        operands[slot] = branch;
        b.graph_mut().set_op(sum, Binary { function: BinaryFn::Add }.into(), &operands);
        blocks.push(name);
    }
    Ok(blocks)
}

/// Sums of a branch and what it began with, in topological order, and the slot of the branch: the operand that depends on the other.
fn residuals(graph: &Graph) -> Result<Vec<(NodeId, usize)>> {
    let mut depth: BTreeMap<NodeId, usize> = BTreeMap::new();
    let mut found = Vec::new();
    for id in graph.topological()? {
        let operands = graph.operands(id);
        let deepest = operands.iter().filter_map(|value| depth.get(&value.node)).max().map_or(0, |depth| depth + 1);
        depth.insert(id, deepest);
        let Some(Op::Binary(Binary { function: BinaryFn::Add })) = graph.node(id).op() else { continue };
        let [a, c] = operands[..] else { continue };
        if graph.ty(a) != graph.ty(c) || graph.ty(a).shape.rank() < 2 {
            continue;
        }
        let (deep, shallow, slot) = if depth[&a.node] > depth[&c.node] { (a, c, 0) } else { (c, a, 1) };
        if graph.producer(shallow).constant().is_none() && depends(graph, deep, shallow, &depth) {
            found.push((id, slot));
        }
    }
    Ok(found)
}

/// Whether `value` is computed from `source`.
fn depends(graph: &Graph, value: ValueId, source: ValueId, depth: &BTreeMap<NodeId, usize>) -> bool {
    let (mut open, mut seen) = (vec![value], BTreeSet::new());
    while let Some(value) = open.pop() {
        if value == source {
            return true;
        }
        if depth[&value.node] > depth[&source.node] && seen.insert(value.node) {
            open.extend(graph.operands(value.node));
        }
    }
    false
}
