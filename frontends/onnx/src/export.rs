//! A graph as an ONNX file.
//!
//! In: a graph of operators that ONNX has (before the fusing passes, batch norms folded or not). Out: the bytes of a model of
//! opset 18, or 19 where the graph needs it, whose import gives the graph again: values keep their names, parameters theirs. An activation that ONNX spells in
//! arithmetic comes back as that arithmetic. Parameters and states are written as what they begin with; there is no word for an
//! update of one.

mod attributes;
mod integers;
mod operators;
mod rest;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use bytes::Bytes;
use fornax_ir::graph::{Graph, NodeId, ValueId};
use fornax_ir::ops::Op;
use fornax_ir::ops::literal::Literal;
use fornax_ir::ops::pad::PadMode;
use fornax_ir::ops::pool::PoolKind;
use fornax_ir::types::{Constant, DType, TensorType};
use prost::Message;

use crate::error::{Error, Result};
use crate::limits::Limits;
use crate::proto::{
    DimensionProto, DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetId, StringStringEntry, TensorProto,
    TensorShapeProto, TensorTypeProto, TypeProto, ValueInfoProto,
};
use crate::schema;
use crate::tensors::type_code;

/// Version of the operator set, and of the file format that goes with it.
const OPSET: (i64, i64) = (18, 8);
/// The same for graphs that it has no words for.
const LATER_OPSET: (i64, i64) = (19, 9);
/// Name of the open first dimension.
const BATCH: &str = "batch";

/// How a graph is written.
#[derive(Clone, Debug, Default)]
pub struct ExportOptions {
    /// Leave the first dimension of every input open, under the name `batch`. The graph must have been built for batch 1
    /// and compute every image by itself.
    pub open_batch: bool,
    /// Key-value metadata; the graph's own are not written.
    pub metadata: BTreeMap<String, String>,
}

/// The bytes of a model file.
///
/// # Errors
/// [`Error::Unsupported`] listing every operator that ONNX lacks, or has not for its element type, and every update of a variable, [`Error::Model`] if an output's value cannot have its name.
pub fn export(graph: &Graph, options: &ExportOptions) -> Result<Bytes> {
    let mut writer = Writer::new(graph, options)?;
    let updated = |(variable, _): &(NodeId, ValueId)| format!("{} (update)", graph.node(*variable).name);
    let mut missing: Vec<String> = graph.updates().iter().map(updated).collect();
    for id in graph.topological()? {
        let node = graph.node(id);
        if let Some(constant) = node.constant() {
            writer.constant(id, constant)?;
        } else if let Some(variable) = node.variable() {
            writer.constant(id, &variable.initial)?;
        } else if let Some(op) = node.op() {
            let before = writer.out.node.len();
            let written = operators::write(&mut writer, id, op).map_err(str::to_string);
            if let Err(reason) = written.and_then(|()| writer.check(before)) {
                missing.push(format!("{} ({}): {reason}", node.name, op.name()));
            }
        }
    }
    if !missing.is_empty() {
        return Err(Error::Unsupported(missing));
    }
    let model = ModelProto {
        ir_version: Some(writer.opset.1),
        opset_import: vec![OperatorSetId { domain: String::new(), version: writer.opset.0 }],
        producer_name: "fornax".into(),
        graph: Some(writer.finish()),
        metadata_props: options
            .metadata
            .iter()
            .map(|(key, value)| StringStringEntry { key: key.clone(), value: value.clone() })
            .collect(),
        functions: Vec::new(),
    };
    // Protocol buffers end at 2 GiB.
    Limits::check("the model", "exported bytes", i32::MAX as u64, model.encoded_len() as u64)?;
    Ok(model.encode_to_vec().into())
}

/// The file as it grows.
struct Writer<'a> {
    graph: &'a Graph,
    open_batch: bool,
    /// Versions of the operator set and of the file format.
    opset: (i64, i64),
    out: GraphProto,
    /// Names of values; an output's value has the output's.
    names: BTreeMap<ValueId, String>,
    /// All names so far.
    taken: BTreeSet<String>,
    /// Element types of the values and constants by their names in the file.
    types: BTreeMap<String, DType>,
}

/// Whether opset 18 has no word for a node: dilations of an average, and padding that wraps.
fn is_later(op: &Op) -> bool {
    match op {
        Op::Pool(pool) => pool.kind == PoolKind::Average && pool.dilations.iter().any(|dilation| *dilation != 1),
        Op::Pad(pad) => pad.mode == PadMode::Wrap,
        _ => false,
    }
}

/// A name that nothing else has: `base`, or with a number after it.
fn fresh(taken: &mut BTreeSet<String>, base: &str) -> String {
    let numbered = (1..).map(|number| format!("{base}_{number}"));
    let name = std::iter::once(base.to_string()).chain(numbered).find(|name| !taken.contains(name)).unwrap_or_default();
    taken.insert(name.clone());
    name
}

impl<'a> Writer<'a> {
    fn new(graph: &'a Graph, options: &ExportOptions) -> Result<Self> {
        // Outputs have the names they are declared with; whatever else has one of them gets another.
        let mut taken: BTreeSet<String> = graph.outputs().iter().map(|(name, _)| name.clone()).collect();
        let mut names = BTreeMap::new();
        for (name, id) in graph.outputs() {
            let computed = graph.producer(*id).op().is_some();
            if computed && graph.outputs().iter().filter(|(_, other)| other == id).count() == 1 {
                names.insert(*id, name.clone());
            }
        }
        for value in graph.inputs().iter().copied().chain(graph.ids()).flat_map(|id| graph.values(id)) {
            names.entry(value).or_insert_with(|| fresh(&mut taken, graph.name_of(value)));
        }
        let later = graph.ids().filter_map(|id| graph.node(id).op()).any(is_later);
        let types = names.iter().map(|(id, name)| (name.clone(), graph.ty(*id).dtype)).collect();
        let mut writer = Self {
            graph,
            open_batch: options.open_batch,
            opset: if later { LATER_OPSET } else { OPSET },
            out: GraphProto::default(),
            names,
            taken,
            types,
        };
        writer.out.name = graph.name.clone();
        for id in graph.inputs() {
            let info = writer.value_info(&writer.name(*id), graph.ty(*id));
            writer.out.input.push(info);
        }
        Ok(writer)
    }

    fn finish(mut self) -> GraphProto {
        let graph = self.graph;
        for (name, id) in graph.outputs() {
            if self.names[id] != *name {
                // Inputs, constants and values of several outputs keep their names.
                let value = self.names[id].clone();
                self.node("Identity", &[value], name, Vec::new());
            }
            let info = self.value_info(name, graph.ty(*id));
            self.out.output.push(info);
        }
        self.remove_unused();
        self.out
    }

    /// Leaves out nodes whose results nothing reads: of what several operators are written as one, and their constants.
    fn remove_unused(&mut self) {
        let mut read: HashSet<String> = self.out.output.iter().map(|info| info.name.clone()).collect();
        let mut kept = Vec::with_capacity(self.out.node.len());
        for node in std::mem::take(&mut self.out.node).into_iter().rev() {
            if node.output.iter().any(|name| read.contains(name)) {
                read.extend(node.input.iter().cloned());
                kept.push(node);
            }
        }
        kept.reverse();
        self.out.node = kept;
        self.out.initializer.retain(|tensor| read.contains(&tensor.name));
    }

    /// Fails unless the operator set has the nodes from the one number `first` on.
    fn check(&self, first: usize) -> Result<(), String> {
        let types = |name: &str| self.types.get(name).copied();
        let mut faults = self.out.node[first..].iter().filter_map(|node| schema::fault(node, self.opset.0, types));
        faults.next().map_or(Ok(()), Err)
    }

    /// Type of a value.
    fn ty(&self, id: ValueId) -> &'a TensorType {
        self.graph.ty(id)
    }

    /// Names of the operands of a node.
    fn operands(&self, id: NodeId) -> Vec<String> {
        self.graph.operands(id).iter().map(|operand| self.names[operand].clone()).collect()
    }

    fn name(&self, id: impl Into<ValueId>) -> String {
        self.names[&id.into()].clone()
    }

    /// A name for something that belongs to node `id`.
    fn inner_name(&mut self, id: NodeId, what: &str) -> String {
        let base = format!("{}/{what}", self.name(id));
        fresh(&mut self.taken, &base)
    }

    /// Adds a node with one result.
    fn node(&mut self, op_type: &str, inputs: &[String], output: &str, attribute: Vec<crate::proto::AttributeProto>) {
        self.results(op_type, inputs, vec![output.to_string()], attribute);
    }

    /// Adds a node with the results of node `id`.
    fn node_of(&mut self, id: NodeId, op_type: &str, inputs: &[String], attribute: Vec<crate::proto::AttributeProto>) {
        let output = self.graph.values(id).map(|value| self.name(value)).collect();
        self.results(op_type, inputs, output, attribute);
    }

    fn results(
        &mut self,
        op_type: &str,
        inputs: &[String],
        output: Vec<String>,
        attribute: Vec<crate::proto::AttributeProto>,
    ) {
        self.out.node.push(NodeProto {
            input: inputs.to_vec(),
            name: format!("{}/{op_type}", output[0]),
            output,
            op_type: op_type.to_string(),
            attribute,
            domain: String::new(),
            overload: String::new(),
        });
    }

    /// Adds a constant of the graph under its name.
    fn constant(&mut self, id: NodeId, constant: &Constant) -> Result<()> {
        let name = self.name(id);
        let bytes = constant
            .bytes()
            .ok_or_else(|| Error::model(format!("constant {name}"), "elements", "known ones", "a hash of elements"))?;
        self.initializer(&name, constant.ty.dtype, &constant.ty.shape, bytes);
        Ok(())
    }

    fn initializer(&mut self, name: &str, dtype: DType, shape: &[usize], bytes: Bytes) {
        self.types.insert(name.to_string(), dtype);
        self.out.initializer.push(TensorProto {
            dims: shape.iter().map(|extent| *extent as i64).collect(),
            data_type: type_code(dtype),
            name: name.to_string(),
            raw_data: Some(bytes),
            ..TensorProto::default()
        });
    }

    /// A list of integers as an operand of node `id`.
    fn integers(&mut self, id: NodeId, what: &str, values: &[i64]) -> String {
        let name = self.inner_name(id, what);
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(&name, DType::I64, &[values.len()], bytes.into());
        name
    }

    /// A list of numbers as an operand of node `id`.
    fn floats(&mut self, id: NodeId, what: &str, values: &[f32]) -> String {
        let name = self.inner_name(id, what);
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.initializer(&name, DType::F32, &[values.len()], bytes.into());
        name
    }

    /// A scalar of an element type as an operand of node `id`.
    fn scalar(&mut self, id: NodeId, what: &str, dtype: DType, value: f64) -> String {
        let name = self.inner_name(id, what);
        let ty = TensorType::new(dtype, []);
        let literal = match dtype.is_float() {
            true => Literal::new_float(ty, vec![value]),
            false => Literal::new_int(ty, vec![value as i64]),
        };
        self.initializer(&name, dtype, &[], literal.to_bytes().into());
        name
    }

    fn value_info(&self, name: &str, ty: &TensorType) -> ValueInfoProto {
        let dim = |(axis, extent): (usize, &usize)| DimensionProto {
            value: Some(match axis {
                0 if self.open_batch => DimensionValue::Symbol(BATCH.to_string()),
                _ => DimensionValue::Extent(*extent as i64),
            }),
        };
        let shape = TensorShapeProto { dim: ty.shape.iter().enumerate().map(dim).collect() };
        let tensor = TensorTypeProto { elem_type: type_code(ty.dtype), shape: Some(shape) };
        ValueInfoProto { name: name.to_string(), r#type: Some(TypeProto { tensor_type: Some(tensor) }) }
    }
}
