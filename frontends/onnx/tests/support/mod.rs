//! Models written by the `onnx-protobuf` crate, another implementation of the format.
#![allow(dead_code, reason = "every test crate uses its own part")]

use bytes::Bytes;
use fornax_ir::graph::Graph;
use fornax_ir::inputs::Bindings;
use fornax_onnx::{Error, Limits, OnnxFile};
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
use onnx_protobuf::{
    AttributeProto, FunctionProto, GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, TensorProto,
    ValueInfoProto, type_proto,
};

/// ONNX's codes of element types.
pub const FLOAT: i32 = 1;
pub const INT64: i32 = 7;

/// A value of `elem_type`; a dimension is an extent, a name, or `?`. `None` leaves the shape out.
pub fn value(name: &str, elem_type: i32, dims: Option<&[&str]>) -> ValueInfoProto {
    let mut tensor = type_proto::Tensor { elem_type, ..Default::default() };
    if let Some(dims) = dims {
        let shape = tensor.shape.mut_or_insert_default();
        for dim in dims {
            let value = match dim.parse::<i64>() {
                Ok(extent) => Some(dimension::Value::DimValue(extent)),
                Err(_) if *dim == "?" => None,
                Err(_) => Some(dimension::Value::DimParam(dim.to_string())),
            };
            shape.dim.push(Dimension { value, ..Default::default() });
        }
    }
    let mut info = ValueInfoProto { name: name.into(), ..Default::default() };
    info.type_.mut_or_insert_default().value = Some(type_proto::Value::TensorType(tensor));
    info
}

/// A node.
pub fn node(op_type: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto {
        op_type: op_type.into(),
        input: inputs.iter().map(|s| s.to_string()).collect(),
        output: outputs.iter().map(|s| s.to_string()).collect(),
        ..Default::default()
    }
}

/// An `f32` tensor in `raw_data`.
pub fn raw_f32(name: &str, dims: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        name: name.into(),
        dims: dims.to_vec(),
        data_type: FLOAT,
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..Default::default()
    }
}

/// An attribute that is a number.
pub fn float(name: &str, f: f32) -> AttributeProto {
    AttributeProto { name: name.into(), f, type_: AttributeType::FLOAT.into(), ..Default::default() }
}

/// An attribute that refers to one of the function's.
pub fn reference(name: &str, of: &str) -> AttributeProto {
    let type_ = AttributeType::FLOAT.into();
    AttributeProto { name: name.into(), ref_attr_name: of.into(), type_, ..Default::default() }
}

/// An opset import.
pub fn opset(domain: &str, version: i64) -> OperatorSetIdProto {
    OperatorSetIdProto { domain: domain.into(), version, ..Default::default() }
}

/// A function of domain `local` over opset 17.
pub fn function(name: &str, inputs: &[&str], outputs: &[&str], nodes: Vec<NodeProto>) -> FunctionProto {
    FunctionProto {
        name: name.into(),
        domain: "local".into(),
        input: inputs.iter().map(|s| s.to_string()).collect(),
        output: outputs.iter().map(|s| s.to_string()).collect(),
        node: nodes,
        opset_import: vec![opset("", 17), opset("local", 1)],
        ..Default::default()
    }
}

/// A call of a function of domain `local`.
pub fn call(name: &str, inputs: &[&str], outputs: &[&str]) -> NodeProto {
    NodeProto { domain: "local".into(), ..node(name, inputs, outputs) }
}

/// A model of opset 17 with the domain `local`.
pub fn model(inputs: Vec<ValueInfoProto>, outputs: Vec<ValueInfoProto>, nodes: Vec<NodeProto>) -> ModelProto {
    let graph = GraphProto { name: "test".into(), input: inputs, output: outputs, node: nodes, ..Default::default() };
    ModelProto {
        ir_version: 8,
        opset_import: vec![opset("", 17), opset("local", 1)],
        graph: Some(graph).into(),
        ..Default::default()
    }
}

/// The model as bytes of a file.
pub fn bytes(model: &ModelProto) -> Bytes {
    model.write_to_bytes().expect("models of the tests can be written").into()
}

/// Opens a model without a folder, under default limits.
pub fn open(model: &ModelProto) -> Result<OnnxFile, Error> {
    OnnxFile::from_bytes(bytes(model), None, &Limits::default())
}

/// Opens and imports a model without bindings.
pub fn import(model: &ModelProto) -> Result<Graph, Error> {
    open(model)?.import(&Bindings::default())
}

/// What is wrong with a model that must be refused.
pub fn refusal(model: &ModelProto) -> String {
    import(model).expect_err("the model is to be refused").to_string()
}

/// Mnemonics of the graph's nodes in order, inputs and constants left out.
pub fn mnemonics(graph: &Graph) -> Vec<&'static str> {
    let order = graph.topological().expect("an imported graph has no cycle");
    order.into_iter().filter_map(|id| graph.node(id).op()).map(|op| op.name()).collect()
}
