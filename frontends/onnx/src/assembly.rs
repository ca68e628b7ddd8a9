//! The graph under construction: unique names, limits, and evaluation of whatever is already constant.
//!
//! In: operators over values already added. Out: their ids. A node whose operands are all constants becomes a constant at
//! once if it is cheap and looks like shape arithmetic (integers, booleans, or at most [`SMALL`] elements), so that
//! arithmetic on shapes is gone when import ends.

use std::collections::HashMap;

use fornax_compiler::ir::{Graph, NodeId};
use fornax_compiler::ops::Op;
use fornax_compiler::ops::literal::Literal;
use fornax_compiler::types::{Constant, TensorType};

use crate::attributes::node_name;
use crate::error::{Error, Result, short};
use crate::limits::Limits;
use crate::proto::NodeProto;

/// Elements up to which floating-point results are evaluated during import.
const SMALL: usize = 1024;

/// The graph under construction.
pub(crate) struct Assembly {
    pub graph: Graph,
    limits: Limits,
    names: HashMap<String, u64>,
    folded: u64,
}

impl Assembly {
    /// An empty graph; `reserved` are names that [`Self::fresh`] must not give out.
    pub fn new(name: &str, limits: Limits, reserved: impl IntoIterator<Item = String>) -> Self {
        let names = reserved.into_iter().map(|name| (name, 1)).collect();
        Self { graph: Graph::new(name), limits, names, folded: 0 }
    }

    /// A name that no other node has: `base`, or `base` with a number.
    pub fn fresh(&mut self, base: &str) -> String {
        let Some(mut number) = self.names.get(base).copied() else {
            self.names.insert(base.to_string(), 1);
            return base.to_string();
        };
        let name = loop {
            let name = format!("{base}.{number}");
            number += 1;
            if !self.names.contains_key(&name) {
                break name;
            }
        };
        self.names.insert(name.clone(), 1);
        self.names.insert(base.to_string(), number);
        name
    }

    /// Adds a constant under a name made from `base`.
    pub fn constant(&mut self, base: &str, constant: Constant) -> NodeId {
        let name = self.fresh(base);
        self.graph.add_constant(name, constant)
    }

    /// Adds `op`, or the constant that it evaluates to.
    pub fn emit(&mut self, op: Op, operands: &[NodeId], node: &NodeProto) -> Result<NodeId> {
        let origin = node_name(node);
        let at = |e: fornax_compiler::OpError| Error::Node {
            node: short(origin),
            op: short(&node.op_type),
            field: e.field,
            expected: e.expected,
            found: e.found,
        };
        let types: Vec<&TensorType> = operands.iter().map(|id| &self.graph.node(*id).ty).collect();
        let ty = op.infer(&types).map_err(at)?;
        self.limits.check_shape(origin, &ty.shape)?;
        Limits::check(origin, "nodes", self.limits.nodes, self.graph.len() as u64 + 1)?;
        if let Some(constant) = self.fold(&op, operands, &ty) {
            return Ok(self.constant(origin, constant));
        }
        let name = self.fresh(origin);
        let node = fornax_compiler::ir::Node {
            kind: fornax_compiler::ir::Kind::Op(op),
            ty,
            name,
            origins: vec![origin.to_string()],
        };
        Ok(self.graph.add_node(node, operands))
    }

    /// The value of `op` if all of its operands are known and evaluating it is cheap.
    fn fold(&mut self, op: &Op, operands: &[NodeId], ty: &TensorType) -> Option<Constant> {
        if ty.dtype.is_float() && ty.shape.numel() > SMALL {
            return None;
        }
        let constants: Vec<&Constant> =
            operands.iter().map(|id| self.graph.node(*id).constant()).collect::<Option<_>>()?;
        let work =
            constants.iter().map(|c| c.ty.shape.numel() as u64).fold(ty.shape.numel() as u64, u64::saturating_add);
        let total = self.folded.saturating_add(work);
        if total > self.limits.fold_elements {
            return None;
        }
        let literals: Vec<Literal> =
            constants.iter().map(|c| Literal::from_constant(c)).collect::<Result<_, _>>().ok()?;
        let value = op.evaluate(&literals.iter().collect::<Vec<_>>()).ok()?;
        let mut origins: Vec<String> = Vec::new();
        for origin in constants.iter().flat_map(|c| &c.origins) {
            if !origins.contains(origin) {
                origins.push(origin.clone());
            }
        }
        self.folded = total;
        Some(value.to_constant().with_origins(origins))
    }
}
