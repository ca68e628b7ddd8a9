//! ONNX models through the `onnx-protobuf` crate, which knows nothing of our reader.

use std::collections::BTreeMap;

use fornax_ir::types::random_values;
use onnx_protobuf::{
    AttributeProto, GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, TensorShapeProto,
    TypeProto, ValueInfoProto, attribute_proto, tensor_proto, tensor_shape_proto, type_proto,
};
use xxhash_rust::xxh3::xxh3_64;

/// The model of `bytes` with every batch norm and every bias drawn anew, each from its name: as after training, none is 0 or 1.
pub fn with_shifts(bytes: &[u8]) -> Vec<u8> {
    let mut model = ModelProto::parse_from_bytes(bytes).expect("a model");
    let graph = model.graph.as_mut().expect("a graph");
    let mut draws: BTreeMap<String, (f32, f32)> = BTreeMap::new();
    for node in &graph.node {
        // Middle and spread of inputs 1 and up; weights stay.
        let parts: &[Option<(f32, f32)>] = match node.op_type.as_str() {
            "BatchNormalization" => &[Some((1.0, 0.2)), Some((0.0, 0.1)), Some((0.0, 0.1)), Some((1.0, 0.5))],
            "Conv" | "Gemm" => &[None, Some((0.0, 0.1))],
            _ => &[],
        };
        draws.extend(node.input.iter().skip(1).zip(parts).filter_map(|(name, draw)| Some((name.clone(), (*draw)?))));
    }
    for tensor in &mut graph.initializer {
        if let Some((middle, spread)) = draws.get(&tensor.name) {
            let count = tensor.dims.iter().product::<i64>() as usize;
            assert_eq!(tensor.raw_data.len(), 4 * count, "{}: f32 elements as raw data", tensor.name);
            let values = random_values(xxh3_64(tensor.name.as_bytes()), count);
            tensor.raw_data = values.iter().flat_map(|v| (middle + spread * v).to_le_bytes()).collect();
        }
    }
    model.write_to_bytes().expect("a model that serialises")
}

/// A model under construction.
pub struct Writer {
    graph: GraphProto,
    opset: i64,
}

/// A dimension that is neither fixed nor named.
pub const UNNAMED: i64 = i64::MIN;

/// An attribute value.
pub enum Value<'a> {
    Int(i64),
    Ints(&'a [i64]),
    Float(f32),
    Text(&'a str),
}

impl Writer {
    pub fn new(name: &str, opset: i64) -> Self {
        let mut graph = GraphProto::new();
        graph.name = name.into();
        Self { graph, opset }
    }

    fn value_info(name: &str, dims: &[i64]) -> ValueInfoProto {
        let mut shape = TensorShapeProto::new();
        for dim in dims {
            let mut d = tensor_shape_proto::Dimension::new();
            if *dim == UNNAMED {
                // Neither an extent nor a name.
            } else if *dim < 0 {
                d.set_dim_param(format!("dim{}", -dim));
            } else {
                d.set_dim_value(*dim);
            }
            shape.dim.push(d);
        }
        let mut tensor = type_proto::Tensor::new();
        tensor.elem_type = tensor_proto::DataType::FLOAT as i32;
        tensor.shape = Some(shape).into();
        let mut ty = TypeProto::new();
        ty.set_tensor_type(tensor);
        let mut info = ValueInfoProto::new();
        info.name = name.into();
        info.type_ = Some(ty).into();
        info
    }

    /// Declares an `f32` input; a negative extent is symbolic, and [`UNNAMED`] open without a name.
    pub fn input(&mut self, name: &str, dims: &[i64]) {
        self.graph.input.push(Self::value_info(name, dims));
    }

    /// Declares an `f32` input without a shape.
    pub fn input_of_any_rank(&mut self, name: &str) {
        let mut info = Self::value_info(name, &[]);
        info.type_.as_mut().expect("a type").mut_tensor_type().shape = None.into();
        self.graph.input.push(info);
    }

    /// Declares an `i64` input.
    pub fn input_of_integers(&mut self, name: &str, dims: &[i64]) {
        let mut info = Self::value_info(name, dims);
        info.type_.as_mut().expect("a type").mut_tensor_type().elem_type = tensor_proto::DataType::INT64 as i32;
        self.graph.input.push(info);
    }

    /// Declares an `f32` output.
    pub fn output(&mut self, name: &str, dims: &[i64]) {
        self.graph.output.push(Self::value_info(name, dims));
    }

    /// An `f32` initializer in `raw_data`.
    pub fn weight(&mut self, name: &str, dims: &[i64], values: &[f32]) {
        let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensor(name, dims, tensor_proto::DataType::FLOAT, raw);
    }

    /// An `i64` initializer in `raw_data`.
    pub fn integers(&mut self, name: &str, values: &[i64]) {
        let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        self.tensor(name, &[values.len() as i64], tensor_proto::DataType::INT64, raw);
    }

    fn tensor(&mut self, name: &str, dims: &[i64], kind: tensor_proto::DataType, raw: Vec<u8>) {
        let mut tensor = TensorProto::new();
        tensor.name = name.into();
        tensor.dims = dims.to_vec();
        tensor.data_type = kind as i32;
        tensor.raw_data = raw;
        self.graph.initializer.push(tensor);
    }

    /// Adds a node with one result; returns the result's name.
    pub fn node(&mut self, op: &str, inputs: &[&str], output: &str, attributes: &[(&str, Value<'_>)]) -> String {
        let mut node = NodeProto::new();
        node.op_type = op.into();
        node.name = format!("/{output}/{op}");
        node.input = inputs.iter().map(|s| s.to_string()).collect();
        node.output = vec![output.into()];
        for (name, value) in attributes {
            let mut attribute = AttributeProto::new();
            attribute.name = (*name).into();
            let kind = match value {
                Value::Int(v) => {
                    attribute.i = *v;
                    attribute_proto::AttributeType::INT
                }
                Value::Ints(v) => {
                    attribute.ints = v.to_vec();
                    attribute_proto::AttributeType::INTS
                }
                Value::Float(v) => {
                    attribute.f = *v;
                    attribute_proto::AttributeType::FLOAT
                }
                Value::Text(v) => {
                    attribute.s = v.as_bytes().to_vec();
                    attribute_proto::AttributeType::STRING
                }
            };
            attribute.type_ = kind.into();
            node.attribute.push(attribute);
        }
        self.graph.node.push(node);
        output.into()
    }

    /// The bytes of the model file.
    pub fn finish(self) -> Vec<u8> {
        let mut model = ModelProto::new();
        model.ir_version = 8;
        model.producer_name = "fornax-tests".into();
        let mut opset = OperatorSetIdProto::new();
        opset.domain = String::new();
        opset.version = self.opset;
        model.opset_import.push(opset);
        model.graph = Some(self.graph).into();
        model.write_to_bytes().expect("a model that serialises")
    }
}
