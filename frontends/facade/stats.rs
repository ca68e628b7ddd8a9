//! What a model amounts to: parameters and operations as imported, nodes and memory as compiled.

use std::collections::BTreeMap;

use fornax_compiler::Plan;
use fornax_ir::graph::{Graph, NodeId};
use fornax_ir::ops::Op;
use serde::{Deserialize, Serialize};

use crate::classify::Scores;
use crate::error::Result;

/// What is counted before the passes.
pub(crate) struct Counts {
    params: u64,
    macs: u64,
}

impl Counts {
    pub fn of(graph: &Graph) -> Result<Self> {
        let (mut params, mut macs) = (0u64, 0u64);
        for id in graph.topological()? {
            let node = graph.node(id);
            if let Some(constant) = node.constant() {
                if constant.ty.dtype.is_float() && !is_statistic(graph, id) {
                    params += constant.ty.shape.numel() as u64;
                }
            } else if let Some(op) = node.op() {
                let operands = graph.operands(id);
                let types: Vec<_> = operands.iter().map(|operand| graph.ty(*operand)).collect();
                macs += op.macs(&types, &node.ty);
            }
        }
        Ok(Self { params, macs })
    }
}

/// Whether a constant is nothing but running means and variances of batch norms.
fn is_statistic(graph: &Graph, id: NodeId) -> bool {
    let users = graph.users(id);
    let statistic =
        |(user, slot): &(NodeId, usize)| *slot >= 3 && matches!(graph.node(*user).op(), Some(Op::BatchNorm(_)));
    !users.is_empty() && users.iter().all(statistic)
}

/// Size and work of a compiled model.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Stats {
    /// Elements of float constants at import, without the running statistics of batch norms.
    pub params: u64,
    /// Multiply-accumulates of convolutions and linear layers.
    pub macs: u64,
    /// Operators after the passes.
    pub nodes: usize,
    /// The same by mnemonic.
    pub ops: BTreeMap<String, usize>,
    /// Memory of one session for intermediate values.
    pub arena_bytes: usize,
    /// Memory of the packed weights.
    pub weights_bytes: usize,
}

impl Stats {
    pub(crate) fn new(counts: &Counts, optimised: &Graph, plan: &Plan) -> Self {
        let ops = operators(optimised);
        Self {
            params: counts.params,
            macs: counts.macs,
            nodes: ops.values().sum(),
            ops,
            arena_bytes: plan.arena_bytes,
            weights_bytes: plan.constant_bytes(),
        }
    }
}

/// Operators of a graph by mnemonic.
fn operators(graph: &Graph) -> BTreeMap<String, usize> {
    let mut ops = BTreeMap::new();
    for op in graph.ids().filter_map(|id| graph.node(id).op()) {
        *ops.entry(op.name().to_string()).or_insert(0) += 1;
    }
    ops
}

/// What the first output is, from the operator it ends in; shape changes are looked through.
pub(crate) fn scores(graph: &Graph) -> Scores {
    let mut at = graph.outputs().first().map(|(_, id)| *id);
    while let Some(id) = at {
        match graph.producer(id).op() {
            Some(Op::Softmax(softmax)) if softmax.log => return Scores::LogProbabilities,
            Some(Op::Softmax(_)) => return Scores::Probabilities,
            Some(Op::Reshape(_) | Op::Identity(_)) => at = graph.operands(id.node).first().copied(),
            _ => break,
        }
    }
    Scores::Logits
}
