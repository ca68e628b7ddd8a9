//! What an import function sees: one ONNX node, its operands, and the graph under construction.
//!
//! In: the node with its attributes resolved and its operands already imported. Out: the ids of its results. Whatever
//! an import function emits has passed the operator's shape rule and the limits on rank and size.

use std::cell::Cell;

use fornax_ir::graph::ValueId;
use fornax_ir::ops::literal::{Data, Literal};
use fornax_ir::ops::{Op, only};
use fornax_ir::types::{Constant, DType, Shape, TensorType};

use crate::assembly::Assembly;
use crate::attributes::{Attributes, node_name};
use crate::domain::standard_domain;
use crate::error::{Error, Result, short, variant};
use crate::live::{Entry, Extent, Live};
use crate::narrow::Narrow;
use crate::proto::NodeProto;
use crate::tensors::TensorLoader;

/// Imports one node: one result per ONNX output, in order.
pub(crate) type ImportFn = fn(&mut Context<'_>) -> Result<Vec<ValueId>>;

/// One node being imported.
pub(crate) struct Context<'a> {
    pub(crate) node: &'a NodeProto,
    pub(crate) version: i64,
    pub(crate) inputs: Vec<Option<ValueId>>,
    /// The element types of inputs that the IR has not, which no schema is asked about.
    pub(crate) narrow: Vec<Option<Narrow>>,
    /// The element type of the first result, where the IR has it not: the import function says so.
    pub(crate) gives: Option<Narrow>,
    /// The batch, where the file fixes it to 1 and another was asked for.
    pub(crate) reopened: Option<usize>,
    /// Number of leading inputs that the import function asked for.
    pub(crate) asked: Cell<usize>,
    pub(crate) assembly: &'a mut Assembly,
    pub(crate) loader: &'a TensorLoader,
}

impl<'a> Context<'a> {
    /// The operator type.
    pub fn op_type(&self) -> &'a str {
        &self.node.op_type
    }

    /// The operator's domain, the default one as the empty name.
    pub fn domain(&self) -> &'a str {
        standard_domain(&self.node.domain)
    }

    /// The node's name, or its first output's where it has none.
    pub fn name(&self) -> &'a str {
        node_name(self.node)
    }

    /// Version of the opset of the node's domain.
    pub fn version(&self) -> i64 {
        self.version
    }

    /// The attributes.
    pub fn attrs(&self) -> Attributes<'a> {
        Attributes { node: self.node, loader: self.loader }
    }

    /// Number of inputs, without trailing absent ones.
    pub fn input_count(&self) -> usize {
        self.asked.set(usize::MAX);
        self.given()
    }

    /// Fails if the node has inputs that the import function never asked for.
    pub(crate) fn all_inputs_asked(&self) -> Result<()> {
        match self.asked.get() {
            asked if asked < self.given() => {
                Err(self.error("inputs", format!("at most {asked}"), self.given().to_string()))
            }
            _ => Ok(()),
        }
    }

    fn given(&self) -> usize {
        self.inputs.iter().rposition(Option::is_some).map_or(0, |last| last + 1)
    }

    /// Input `i`, which must be there.
    pub fn input(&self, i: usize) -> Result<ValueId> {
        self.optional(i).ok_or_else(|| self.error(format!("input {i}"), "a value", "none"))
    }

    /// Input `i`; `None` where it is absent or the empty name.
    pub fn optional(&self, i: usize) -> Option<ValueId> {
        self.asked.set(self.asked.get().max(i.saturating_add(1)));
        self.inputs.get(i).copied().flatten()
    }

    /// Number of outputs, without trailing unnamed ones.
    pub fn output_count(&self) -> usize {
        self.node.output.iter().rposition(|o| !o.is_empty()).map_or(0, |last| last + 1)
    }

    /// The element type of input `i`, where it is one of fewer than 8 bits, or of 8-bit floats.
    pub fn narrow(&self, i: usize) -> Option<Narrow> {
        self.narrow.get(i).copied().flatten()
    }

    /// Type of a value.
    pub fn ty(&self, id: ValueId) -> &TensorType {
        self.assembly.graph().ty(id)
    }

    /// Shape of a value.
    pub fn shape(&self, id: ValueId) -> &Shape {
        &self.ty(id).shape
    }

    /// The constant behind a value, if it is known.
    pub fn constant(&self, id: ValueId) -> Option<&Constant> {
        self.assembly.graph().producer(id).constant()
    }

    /// The axis of a value whose extent depends on data, if it has one.
    pub fn live(&self, id: ValueId) -> Option<Live> {
        self.assembly.live.get(&id).copied()
    }

    /// Says that the extent of an axis of a value depends on data.
    pub fn set_live(&mut self, id: ValueId, axis: usize, extent: Extent) {
        let extent = self.assembly.canonical(extent);
        self.assembly.live.insert(id, Live { axis, extent });
    }

    /// The elements of an i32 or i64 value, if each is known or an extent that depends on data.
    pub fn entries(&self, id: ValueId) -> Option<Vec<Entry>> {
        const MOST: usize = 256;
        if let Some(entries) = self.assembly.entries.get(&id) {
            return Some(entries.clone());
        }
        let small = self.shape(id).numel() <= MOST && self.constant(id).is_some();
        let known = small.then(|| self.const_ints(id, "").ok()).flatten()?;
        Some(known.into_iter().map(Entry::Known).collect())
    }

    /// The batch that was opened again, if `x` has it: a computed value of that extent along axis 0. What the file then says of
    /// axis 0 as 1 means the batch.
    pub fn reopened_batch(&self, x: ValueId) -> Option<usize> {
        self.reopened.filter(|batch| self.shape(x).first() == Some(batch) && self.constant(x).is_none())
    }

    /// Elements of an i32 or i64 value that must be known; `what` names it in errors.
    pub fn const_ints(&self, id: ValueId, what: &str) -> Result<Vec<i64>> {
        match self.known(id, what)?.data {
            Data::Int(values) if matches!(self.ty(id).dtype, DType::I32 | DType::I64) => Ok(values),
            _ => Err(self.error(what, "i32 or i64 elements", self.ty(id).dtype.name())),
        }
    }

    /// Elements of an i32 or i64 vector that must be known; `what` names it in errors.
    pub fn const_list(&self, id: ValueId, what: &str) -> Result<Vec<i64>> {
        self.expect_vector(id, what)?;
        self.const_ints(id, what)
    }

    /// The element of an i32 or i64 scalar, or vector of one element, that must be known; `what` names it in errors.
    pub fn const_int(&self, id: ValueId, what: &str) -> Result<i64> {
        self.expect_scalar(id, what)?;
        self.const_ints(id, what)?.first().copied().ok_or_else(|| self.error(what, "one element", "none"))
    }

    /// The element of a scalar, or vector of one element, that must be known, as `f64`; `what` names it in errors.
    pub fn const_f64(&self, id: ValueId, what: &str) -> Result<f64> {
        self.expect_scalar(id, what)?;
        self.const_f64s(id, what)?.first().copied().ok_or_else(|| self.error(what, "one element", "none"))
    }

    /// Elements of a vector that must be known, as `f64`; `what` names it in errors.
    pub fn const_f64_list(&self, id: ValueId, what: &str) -> Result<Vec<f64>> {
        self.expect_vector(id, what)?;
        self.const_f64s(id, what)
    }

    /// Fails unless a value has one axis.
    pub fn expect_vector(&self, id: ValueId, what: &str) -> Result<()> {
        if self.shape(id).rank() == 1 { Ok(()) } else { Err(self.error(what, "a vector", self.ty(id).to_string())) }
    }

    /// Fails unless a value is a scalar, or a vector of one element.
    pub fn expect_scalar(&self, id: ValueId, what: &str) -> Result<()> {
        match self.shape(id)[..] {
            [] | [1] => Ok(()),
            _ => Err(self.error(what, "a scalar", self.ty(id).to_string())),
        }
    }

    /// Elements of a value that must be known, as `f64`; `what` names it in errors.
    pub fn const_f64s(&self, id: ValueId, what: &str) -> Result<Vec<f64>> {
        Ok(self.known(id, what)?.to_f64())
    }

    /// Adds an operator of one result over `operands`, or the constant that it evaluates to.
    pub fn emit(&mut self, op: impl Into<Op>, operands: &[ValueId]) -> Result<ValueId> {
        let results = self.emit_all(op, operands)?;
        only(results).map_err(|e| self.error(e.field, e.expected, e.found))
    }

    /// Adds an operator over `operands`, or the constants that it evaluates to; one value for each of its results.
    pub fn emit_all(&mut self, op: impl Into<Op>, operands: &[ValueId]) -> Result<Vec<ValueId>> {
        let node = self.node;
        self.assembly.emit(op.into(), operands, node)
    }

    /// A rank-0 constant of the element type of `like`, rounded to it.
    pub fn scalar_like(&mut self, like: ValueId, v: f64) -> Result<ValueId> {
        let ty = TensorType::new(self.ty(like).dtype, []);
        let literal = match ty.dtype.is_float() {
            true => Literal::new_float(ty, vec![v]),
            false => Literal::new_int(ty, vec![v as i64]),
        };
        Ok(self.add_constant(literal.to_constant()))
    }

    /// Counts elements that the import function is about to write out; fails beyond the limit on folding.
    pub fn charge(&mut self, elements: u64) -> Result<()> {
        let name = self.name();
        self.assembly.charge(name, elements)
    }

    /// Adds a constant.
    pub fn add_constant(&mut self, c: Constant) -> ValueId {
        let name = self.name();
        self.assembly.constant(name, c)
    }

    /// An error about an operand, attribute or other field of the node.
    pub fn error(&self, field: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Error {
        Error::Node {
            node: short(self.name()),
            op: short(self.op_type()),
            field: field.into(),
            expected: expected.into(),
            found: short(&found.into()),
        }
    }

    /// The refusal of a variant of the operator.
    pub fn unsupported(&self, why: impl Into<String>) -> Error {
        Error::Unsupported(vec![variant(&short(self.op_type()), &short(self.name()), &why.into())])
    }

    fn known(&self, id: ValueId, what: &str) -> Result<Literal> {
        let computed =
            || self.unsupported(format!("{what}: expected a value known at compile time, found a computed one"));
        let constant = self.constant(id).ok_or_else(computed)?;
        Literal::from_constant(constant).map_err(|e| self.error(what, e.expected, e.found))
    }
}
