//! A model of one node, written by the `onnx-protobuf` crate, imported and run on the reference evaluator.

use std::sync::Arc;

use fornax_compiler::pipeline::{self, PipelineOptions};
use fornax_compiler::{Target, jit};
use fornax_ir::graph::{Graph, evaluate};
use fornax_ir::inputs::Bindings;
use fornax_ir::ops::literal::Literal;
use fornax_ir::types::{DType, TensorType};
use fornax_onnx::{Limits, OnnxFile};
use fornax_runtime::{Pool, Session, Tensor};
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
use onnx_protobuf::{
    AttributeProto, GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, TensorProto, ValueInfoProto,
    type_proto,
};

/// A node under construction.
pub struct Node {
    node: NodeProto,
    version: i64,
    inputs: Vec<ValueInfoProto>,
    values: Vec<Literal>,
    initializers: Vec<TensorProto>,
}

impl Node {
    /// A node of the default domain at an opset version, with one output.
    pub fn new(op_type: &str, version: i64) -> Self {
        let node = NodeProto {
            op_type: op_type.into(),
            name: "node".into(),
            output: vec!["out0".into()],
            ..Default::default()
        };
        Self { node, version, inputs: Vec::new(), values: Vec::new(), initializers: Vec::new() }
    }

    /// The node in another domain, of version 1.
    pub fn domain(self, domain: &str) -> Self {
        self.domain_at(domain, 1)
    }

    /// The node in another domain, at a version of it.
    pub fn domain_at(mut self, domain: &str, version: i64) -> Self {
        (self.node.domain, self.version) = (domain.into(), version);
        self
    }

    /// Adds an input that is computed when the model runs.
    pub fn input(self, value: Literal) -> Self {
        let elem_type = code(value.ty.dtype);
        self.input_as(elem_type, value)
    }

    /// Adds an input that is computed when the model runs, declared with ONNX's number of a type that `value` carries.
    pub fn input_as(mut self, elem_type: i32, value: Literal) -> Self {
        let name = format!("in{}", self.node.input.len());
        let mut tensor = type_proto::Tensor { elem_type, ..Default::default() };
        let shape = tensor.shape.mut_or_insert_default();
        shape.dim = value.ty.shape.iter().map(|d| extent(*d as i64)).collect();
        let mut info = ValueInfoProto { name: name.clone(), ..Default::default() };
        info.type_.mut_or_insert_default().value = Some(type_proto::Value::TensorType(tensor));
        self.inputs.push(info);
        self.values.push(value);
        self.node.input.push(name);
        self
    }

    /// Adds an input that the file holds.
    pub fn constant(mut self, value: Literal) -> Self {
        let name = format!("in{}", self.node.input.len());
        self.initializers.push(TensorProto { name: name.clone(), ..tensor(&value) });
        self.node.input.push(name);
        self
    }

    /// Adds an input that the file holds, of ONNX's number of a type.
    pub fn constant_as(mut self, data_type: i32, dims: &[i64], raw: &[u8]) -> Self {
        let name = format!("in{}", self.node.input.len());
        let (dims, raw_data) = (dims.to_vec(), raw.to_vec());
        self.initializers.push(TensorProto { name: name.clone(), data_type, dims, raw_data, ..Default::default() });
        self.node.input.push(name);
        self
    }

    /// Adds an absent input.
    pub fn absent(mut self) -> Self {
        self.node.input.push(String::new());
        self
    }

    /// Asks for `count` outputs.
    pub fn outputs(mut self, count: usize) -> Self {
        self.node.output = (0..count).map(|i| format!("out{i}")).collect();
        self
    }

    /// Adds an integer attribute.
    pub fn int(self, name: &str, i: i64) -> Self {
        self.attribute(AttributeProto { name: name.into(), i, type_: AttributeType::INT.into(), ..Default::default() })
    }

    /// Adds a float attribute.
    pub fn float(self, name: &str, f: f32) -> Self {
        self.attribute(AttributeProto {
            name: name.into(),
            f,
            type_: AttributeType::FLOAT.into(),
            ..Default::default()
        })
    }

    /// Adds an attribute of integers.
    pub fn ints(self, name: &str, ints: &[i64]) -> Self {
        let (ints, type_) = (ints.to_vec(), AttributeType::INTS.into());
        self.attribute(AttributeProto { name: name.into(), ints, type_, ..Default::default() })
    }

    /// Adds an attribute of floats.
    pub fn floats(self, name: &str, floats: &[f32]) -> Self {
        let (floats, type_) = (floats.to_vec(), AttributeType::FLOATS.into());
        self.attribute(AttributeProto { name: name.into(), floats, type_, ..Default::default() })
    }

    /// Adds a string attribute.
    pub fn string(self, name: &str, text: &str) -> Self {
        let (s, type_) = (text.as_bytes().to_vec(), AttributeType::STRING.into());
        self.attribute(AttributeProto { name: name.into(), s, type_, ..Default::default() })
    }

    /// Adds an attribute of strings.
    pub fn strings(self, name: &str, texts: &[&str]) -> Self {
        let (strings, type_) = (texts.iter().map(|s| s.as_bytes().to_vec()).collect(), AttributeType::STRINGS.into());
        self.attribute(AttributeProto { name: name.into(), strings, type_, ..Default::default() })
    }

    /// Adds a tensor attribute.
    pub fn tensor(self, name: &str, value: Literal) -> Self {
        let (t, type_) = (Some(tensor(&value)).into(), AttributeType::TENSOR.into());
        self.attribute(AttributeProto { name: name.into(), t, type_, ..Default::default() })
    }

    fn attribute(mut self, attribute: AttributeProto) -> Self {
        self.node.attribute.push(attribute);
        self
    }

    /// Imports the model and evaluates it: its outputs, or the importer's message.
    pub fn run(self) -> Result<Vec<Literal>, String> {
        let (graph, values) = self.imported()?;
        Ok(evaluate(&graph, &values).expect("an imported graph evaluates"))
    }

    /// Imports the model, evaluates it and runs it in native code, which must give the same, NaNs and last bits apart: the outputs.
    pub fn run_natively(self) -> Result<Vec<Literal>, String> {
        let (graph, values) = self.imported()?;
        let expected = evaluate(&graph, &values).expect("an imported graph evaluates");
        let found = native(&graph, &values)?;
        for (found, expected) in found.iter().zip(&expected) {
            assert_eq!(found.ty, expected.ty);
            for (i, (a, b)) in found.to_f64().into_iter().zip(expected.to_f64()).enumerate() {
                let near = a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 1e-6 * b.abs().max(1.0);
                assert!(near, "element {i} is {a} in native code, {b} as evaluated");
            }
        }
        Ok(found)
    }

    fn imported(self) -> Result<(Graph, Vec<Literal>), String> {
        let output = |name: &String| ValueInfoProto { name: name.clone(), ..Default::default() };
        let own = OperatorSetIdProto { version: self.version, domain: self.node.domain.clone(), ..Default::default() };
        let opsets = match self.node.domain.is_empty() {
            true => vec![OperatorSetIdProto { version: self.version, ..Default::default() }],
            false => vec![OperatorSetIdProto { version: 17, ..Default::default() }, own],
        };
        let graph = GraphProto {
            name: "test".into(),
            input: self.inputs,
            output: self.node.output.iter().map(output).collect(),
            initializer: self.initializers,
            node: vec![self.node],
            ..Default::default()
        };
        let model = ModelProto { ir_version: 8, opset_import: opsets, graph: Some(graph).into(), ..Default::default() };
        let bytes = model.write_to_bytes().expect("models of the tests can be written");
        let file = OnnxFile::from_bytes(bytes.into(), None, &Limits::default()).map_err(|e| e.to_string())?;
        let graph = file.import(&Bindings::default()).map_err(|e| e.to_string())?;
        Ok((graph, self.values))
    }

    /// The only output, which must be `expected`.
    #[track_caller]
    pub fn gives(self, expected: Literal) {
        self.gives_all(&[expected]);
    }

    /// The outputs, which must be `expected`.
    #[track_caller]
    pub fn gives_all(self, expected: &[Literal]) {
        assert_eq!(self.run().as_deref(), Ok(expected));
    }

    /// The only output, which must be `f32` elements within 1e-6 of `expected`.
    #[track_caller]
    pub fn gives_about(self, dims: &[usize], expected: &[f32]) {
        let outputs = self.run().unwrap();
        assert_eq!(outputs[0].ty, TensorType::f32(dims));
        for (found, expected) in outputs[0].to_f64().iter().zip(expected) {
            assert!((found - f64::from(*expected)).abs() < 1e-6, "{:?}", outputs[0]);
        }
    }

    /// The import must fail with a message that contains `part`.
    #[track_caller]
    pub fn refused(self, part: &str) {
        let message = self.run().expect_err("the node is to be refused");
        assert!(message.contains(part), "{message}");
    }
}

/// Compiles a graph for the host and runs it.
fn native(graph: &Graph, inputs: &[Literal]) -> Result<Vec<Literal>, String> {
    let target = Target::host()?;
    let optimised = pipeline::optimise(graph.clone(), &PipelineOptions::default()).map_err(|e| e.to_string())?;
    let plan = pipeline::plan_of(&optimised.graph, &target).map_err(|e| e.to_string())?;
    let program = jit::compile(&plan).map_err(|e| e.to_string())?;
    let run = || {
        let mut session = Session::new(Arc::new(program), Arc::new(Pool::new(1, false)?))?;
        let tensor = |x: &Literal| Tensor::from_bytes(x.ty.dtype, x.ty.shape.clone(), &x.to_bytes());
        let tensors = inputs.iter().map(tensor).collect::<Result<Vec<_>, _>>()?;
        let mut outputs = session.outputs()?;
        session.run(&tensors.iter().collect::<Vec<_>>(), &mut outputs)?;
        Ok::<_, fornax_runtime::Error>(outputs)
    };
    let outputs = run().map_err(|e| e.to_string())?;
    let literal = |t: &Tensor| Literal::from_bytes(TensorType::new(t.dtype(), t.shape().clone()), t.bytes());
    outputs.iter().map(literal).collect::<Result<_, _>>().map_err(|e| e.to_string())
}

fn extent(d: i64) -> Dimension {
    Dimension { value: Some(dimension::Value::DimValue(d)), ..Default::default() }
}

fn tensor(value: &Literal) -> TensorProto {
    TensorProto {
        dims: value.ty.shape.iter().map(|d| *d as i64).collect(),
        data_type: code(value.ty.dtype),
        raw_data: value.to_bytes(),
        ..Default::default()
    }
}

/// ONNX's code of an element type.
pub fn code(dtype: DType) -> i32 {
    match dtype {
        DType::F32 => 1,
        DType::U8 => 2,
        DType::I8 => 3,
        DType::U16 => 4,
        DType::I16 => 5,
        DType::I32 => 6,
        DType::I64 => 7,
        DType::Bool => 9,
        DType::F16 => 10,
        DType::F64 => 11,
        DType::U32 => 12,
        DType::U64 => 13,
        DType::BF16 => 16,
    }
}

/// An `f32` value.
pub fn f32s(dims: &[usize], values: &[f32]) -> Literal {
    Literal::from_f32(dims, values)
}

/// A value of an integer type or bool.
pub fn of(dtype: DType, dims: &[usize], values: &[i64]) -> Literal {
    Literal::new_int(TensorType::new(dtype, dims), values.to_vec())
}

/// An `i64` vector.
pub fn i64s(values: &[i64]) -> Literal {
    of(DType::I64, &[values.len()], values)
}

/// An `i64` scalar.
pub fn index(value: i64) -> Literal {
    of(DType::I64, &[], &[value])
}

/// 0, 1, 2, … as `f32`.
pub fn iota(dims: &[usize]) -> Literal {
    let count: usize = dims.iter().product();
    f32s(dims, &(0..count).map(|i| i as f32).collect::<Vec<_>>())
}
