//! Graph to plan, asking each operator.
//!
//! In: an optimised graph and a target. Out: a [`Plan`]. This file knows no operator and no kernel: it walks the graph in
//! topological order, hands each operator its operands' views, and gathers every refusal into one error. Each operator that has kernels has
//! a file of its own here, and a line in the table; every other one is computed by its parts. What several of them share (convolutions,
//! products, loop nests, weights) lies next to them.

mod context;
mod convolve;
mod decompose;
mod dense;
mod depthwise;
mod discrete;
mod fallback;
mod nests;
mod ring;
mod weights;
mod windows;

use std::collections::BTreeMap;

use fornax_runtime::VariableKind;

use crate::error::{Error, Result};
use crate::numerics::{Numerics, Precision};
use crate::plan::builder::PlanBuilder;
use crate::plan::{AxisOrder, Plan, Port, ViewId};
use crate::target::Target;
use context::{LoweredValue, Lowering, Pending};
use fornax_ir::OpError;
use fornax_ir::graph::{Graph, Kind, ValueId};
use fornax_ir::ops::Op;
use fornax_ir::types::Payload;

/// The lowering of an operator: from its operands in views and constants to kernel calls.
trait Lower {
    /// Adds the kernels that compute the operator to a plan.
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError>;
}

/// Declares the lowerings: one file and one line for each operator that has one.
macro_rules! table {
    ($($module:ident :: $op:ident;)*) => {
        $(mod $module;)*

        /// Lowers an operator: by its line of the table, else by its parts.
        fn lower_op(op: &Op, cx: &mut Lowering<'_>) -> Result<(), OpError> {
            match op {
                $(Op::$op(op) => op.lower(cx),)*
                _ => decompose::lower(op, cx),
            }
        }
    };
}

table! {
    conv::Conv;
    conv_with_slope::ConvWithSlope;
    conv_transpose::ConvTranspose;
    conv_data_gradient::ConvDataGradient;
    conv_weight_gradient::ConvWeightGradient;
    batch_norm::BatchNorm;
    batch_statistics::BatchStatistics;
    unary::Unary;
    unary_with_slope::UnaryWithSlope;
    unary_gradient::UnaryGradient;
    binary::Binary;
    select::Where;
    cast::Cast;
    reduce::Reduce;
    arg_reduce::ArgReduce;
    top_k::TopK;
    compact::Compact;
    non_max_suppression::NonMaxSuppression;
    pool::Pool;
    max_pool::MaxPool;
    max_pool_gradient::MaxPoolGradient;
    matmul::MatMul;
    gemm::Gemm;
    softmax::Softmax;
    lrn::Lrn;
    resize::Resize;
    reshape::Reshape;
    transpose::Transpose;
    concat::Concat;
    slice::Slice;
    pad::Pad;
    gather::Gather;
    gather_elements::GatherElements;
    expand::Expand;
    tile::Tile;
    identity::Identity;
    squeeze_excite::SqueezeExcite;
    mbconv::MbConv;
}

/// Lowers a graph to a plan for `target`.
///
/// # Errors
/// [`Error::Unsupported`] with every node that no kernel can compute; [`Error::Graph`] if the graph has a cycle.
pub fn lower(graph: &Graph, target: &Target, numerics: Numerics) -> Result<Plan> {
    let mut plan = PlanBuilder::new(target.clone());
    let mut values: BTreeMap<ValueId, LoweredValue> = BTreeMap::new();
    let mut refused = Vec::new();
    for id in graph.inputs() {
        let node = graph.node(*id);
        let view = plan.input(Port { name: node.name.clone(), ty: node.ty.clone() });
        values.insert((*id).into(), LoweredValue { ty: node.ty.clone(), constant: None, views: vec![view] });
    }
    variables(graph, &mut plan, &mut values, &mut refused);
    let discrete = discrete::read_discretely(graph)?;
    for id in graph.topological()? {
        let node = graph.node(id);
        match &node.kind {
            Kind::Input | Kind::Parameter(_) | Kind::State(_) => {}
            Kind::Constant(constant) => {
                let value = LoweredValue { ty: node.ty.clone(), constant: Some(constant.clone()), views: Vec::new() };
                values.insert(id.into(), value);
            }
            Kind::Op(op) => {
                let ids = graph.operands(id);
                let operands = ids.iter().filter_map(|id| values.get(id).cloned()).collect::<Vec<_>>();
                if operands.len() < ids.len() {
                    continue;
                }
                let origin = node.origins.first().unwrap_or(&node.name);
                let results = graph.values(id).map(|value| Pending {
                    name: graph.name_of(value),
                    ty: graph.ty(value).clone(),
                    used: graph.is_used(value),
                    view: None,
                });
                let (ty, results) = (node.ty.clone(), results.collect());
                let mut cx = Lowering {
                    plan: &mut plan,
                    node: &node.name,
                    origins: &node.origins,
                    parts: &node.parts,
                    current: node.origins.clone(),
                    operands,
                    ty,
                    results,
                    exact: numerics.exact,
                    narrow: numerics.precision == Precision::Bf16,
                    discrete: graph.values(id).any(|value| discrete.contains(&value)),
                };
                let outcome = lower_op(op, &mut cx);
                let Lowering { operands, results, .. } = cx;
                for (id, operand) in ids.iter().zip(operands) {
                    values.insert(*id, operand);
                }
                if let Err(error) = outcome {
                    refused.push(format!("{origin} ({}): {error}", op.name()));
                    continue;
                }
                for (value, result) in graph.values(id).zip(results) {
                    match result.view {
                        Some(view) => {
                            _ = values.insert(value, LoweredValue { ty: result.ty, constant: None, views: vec![view] });
                        }
                        None if result.used => {
                            refused.push(format!("{origin} ({}): the lowering gave no result", op.name()));
                        }
                        None => {}
                    }
                }
            }
        }
    }
    if !refused.is_empty() {
        return Err(Error::Unsupported(refused));
    }
    let mut outputs = Vec::new();
    for (name, id) in graph.outputs() {
        let Some(value) = values.get(id).cloned() else {
            return Err(Error::Plan(vec![format!("output {name}: its node has no value")]));
        };
        let ty = value.ty.clone();
        let view = leaving(&mut plan, value, (name, &graph.producer(*id).origins), "output")?;
        outputs.push((Port { name: name.clone(), ty }, view));
    }
    let mut updates = Vec::new();
    for (variable, id) in graph.updates() {
        let name = graph.name_of(*variable);
        let (Some(to), Some(value)) = (values.get(&(*variable).into()), values.get(id).cloned()) else {
            return Err(Error::Plan(vec![format!("update of {name}: its node has no value")]));
        };
        let to = to.views[0];
        updates.push((to, leaving(&mut plan, value, (name, &graph.producer(*id).origins), "update")?));
    }
    plan.finish(graph.name.clone(), outputs, &updates)
}

/// Gives every parameter and state of a graph its place in the state block.
fn variables(
    graph: &Graph,
    plan: &mut PlanBuilder,
    values: &mut BTreeMap<ValueId, LoweredValue>,
    refused: &mut Vec<String>,
) {
    for id in graph.variables() {
        let node = graph.node(*id);
        let (kind, variable) = match &node.kind {
            Kind::Parameter(variable) => (VariableKind::Parameter, variable),
            Kind::State(variable) => (VariableKind::State, variable),
            _ => continue,
        };
        if matches!(variable.initial.payload, Payload::Hash(_)) {
            refused.push(format!("{} ({}): expected known elements, found only a hash", node.name, node.mnemonic()));
        }
        let view = plan.variable(&node.name, kind, &variable.name, &variable.initial);
        values.insert((*id).into(), LoweredValue { ty: node.ty.clone(), constant: None, views: vec![view] });
    }
}

/// The row-major view of a value that leaves the graph: `what` is called `name`, and `origins` compute the value.
fn leaving(
    plan: &mut PlanBuilder,
    value: LoweredValue,
    (name, origins): (&str, &[String]),
    what: &'static str,
) -> Result<ViewId> {
    let ty = value.ty.clone();
    let current = origins.to_vec();
    let mut cx = Lowering {
        plan,
        node: name,
        origins,
        parts: &[],
        current,
        operands: vec![value],
        ty,
        results: Vec::new(),
        exact: false,
        narrow: false,
        discrete: false,
    };
    Ok(cx.operand_as(0, AxisOrder::RowMajor).map_err(|e| e.at(name, what))?)
}
