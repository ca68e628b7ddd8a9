//! A graph built anew with its types, constants and operators edited.

use std::collections::HashMap;

use fornax_ir::graph::{Graph, GraphBuilder, Kind, ValueId};
use fornax_ir::ops::literal::Literal;
use fornax_ir::ops::{Cast, Op};
use fornax_ir::types::{Constant, DType, TensorType};

/// What changes.
pub trait Edit {
    /// What takes the place of an input, by its number, if it becomes a constant.
    fn input(&mut self, _number: usize) -> Option<Constant> {
        None
    }
    /// The type of an input.
    fn ty(&mut self, ty: &TensorType) -> TensorType {
        ty.clone()
    }
    /// A constant, or the first elements of a variable.
    fn constant(&mut self, constant: &Constant) -> Constant {
        constant.clone()
    }
    /// An operator.
    fn op(&mut self, op: &Op) -> Op {
        op.clone()
    }
}

/// The edited graph; `None` where an operator does not take what its operands have become.
pub fn rebuilt(graph: &Graph, edit: &mut dyn Edit) -> Option<Graph> {
    let mut b = GraphBuilder::new(graph.name.clone()).with_fold_limit(0);
    let mut values: HashMap<ValueId, ValueId> = HashMap::new();
    // Inputs and variables first and in their order, which is that of the interface.
    for (number, id) in graph.inputs().iter().enumerate() {
        let name = graph.name_of(*id);
        let value = match edit.input(number) {
            Some(constant) => b.constant(name, constant),
            None => b.input_of(name, edit.ty(graph.ty(*id))),
        };
        values.insert((*id).into(), value);
    }
    for id in graph.variables() {
        let node = graph.node(*id);
        let variable = node.variable()?;
        let initial = edit.constant(&variable.initial);
        let value = match node.kind {
            Kind::State(_) => b.state(&node.name, variable.name.clone(), initial),
            _ => b.parameter(&node.name, variable.name.clone(), initial),
        };
        values.insert((*id).into(), value);
    }
    for id in graph.topological().ok()? {
        let node = graph.node(id);
        match &node.kind {
            Kind::Constant(constant) => {
                let value = b.constant(&node.name, edit.constant(constant));
                values.insert(id.into(), value);
            }
            Kind::Op(op) => {
                let operands: Option<Vec<ValueId>> =
                    graph.operands(id).iter().map(|operand| values.get(operand).copied()).collect();
                let names: Vec<&str> = node.results().map(|(name, _)| name).collect();
                let results = b.ops_from(&names, edit.op(op), &operands?, Vec::new()).ok()?;
                values.extend(graph.values(id).zip(results));
            }
            _ => {}
        }
    }
    for (variable, value) in graph.updates() {
        b.update(*values.get(&(*variable).into())?, *values.get(value)?);
    }
    for (name, value) in graph.outputs() {
        b.output(name.clone(), *values.get(value)?);
    }
    Some(b.finish())
}

/// `f32` becomes `f64`, so that no step over- or underflows and none but the constants is rounded.
pub struct Widen;

impl Edit for Widen {
    fn ty(&mut self, ty: &TensorType) -> TensorType {
        let dtype = if ty.dtype == DType::F32 { DType::F64 } else { ty.dtype };
        TensorType::new(dtype, ty.shape.clone())
    }

    fn constant(&mut self, constant: &Constant) -> Constant {
        widened(&Literal::from_constant(constant).expect("known elements")).to_constant()
    }

    fn op(&mut self, op: &Op) -> Op {
        match op {
            Op::Cast(Cast { to: DType::F32 }) => Cast { to: DType::F64 }.into(),
            op => op.clone(),
        }
    }
}

/// An `f32` literal as `f64`.
pub fn widened(literal: &Literal) -> Literal {
    match literal.ty.dtype {
        DType::F32 => Literal::new_float(Widen.ty(&literal.ty), literal.to_f64()),
        _ => literal.clone(),
    }
}
