//! Model-local functions and branches, inlined.

mod support;

use fornax_ir::graph::evaluate;
use fornax_ir::inputs::Bindings;
use fornax_ir::ops::Unary;
use fornax_ir::ops::literal::Literal;
use fornax_ir::scalar::UnaryFn;
use fornax_ir::types::{DType, TensorType};
use fornax_onnx::{Limits, OnnxFile};
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::{AttributeProto, FunctionProto, GraphProto, ModelProto, NodeProto, TensorProto};
use support::*;

/// A model that passes `x` through `nodes` to `y`.
fn with(functions: Vec<FunctionProto>, nodes: Vec<NodeProto>) -> ModelProto {
    let x = value("x", FLOAT, Some(&["2"]));
    ModelProto { functions, ..model(vec![x], vec![value("y", FLOAT, None)], nodes) }
}

fn with_attributes(mut node: NodeProto, attributes: Vec<AttributeProto>) -> NodeProto {
    node.attribute = attributes;
    node
}

#[test]
fn names_inside_a_call_are_its_own() {
    let square =
        || function("Square", &["a"], &["b"], vec![node("Relu", &["a"], &["t"]), node("Mul", &["t", "t"], &["b"])]);
    // The main graph uses the names of the body too.
    let nodes = vec![call("Square", &["x"], &["t"]), call("Square", &["t"], &["a"]), node("Add", &["t", "a"], &["y"])];
    let graph = import(&with(vec![square()], nodes)).unwrap();
    assert_eq!(mnemonics(&graph), ["relu", "mul", "relu", "mul", "add"]);
    let mut names: Vec<&str> = graph.ids().map(|id| graph.node(id).name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["a", "a/t", "t", "t/t", "x", "y"]);
    let inner = graph.ids().find(|id| graph.node(*id).name == "t/t").unwrap();
    assert_eq!(graph.node(inner).origins, ["t/t"]);
}

#[test]
fn attributes_come_from_the_call_or_the_default() {
    let body = with_attributes(node("LeakyRelu", &["a"], &["b"]), vec![reference("alpha", "slope")]);
    let leaky = |default: Option<f32>| FunctionProto {
        attribute_proto: default.map(|v| float("slope", v)).into_iter().collect(),
        ..function("Leaky", &["a"], &["b"], vec![body.clone()])
    };
    let slope = |default, given: Option<f32>| {
        let attributes = given.map(|v| float("slope", v)).into_iter().collect();
        let nodes = vec![with_attributes(call("Leaky", &["x"], &["y"]), attributes)];
        let graph = import(&with(vec![leaky(default)], nodes)).unwrap();
        let op = graph.producer(graph.outputs()[0].1).op().unwrap().clone();
        match op {
            fornax_ir::ops::Op::Unary(Unary { function: UnaryFn::LeakyRelu(alpha) }) => alpha,
            other => panic!("a leaky_relu was expected, not {other:?}"),
        }
    };
    assert_eq!(slope(Some(0.25), Some(0.5)), 0.5);
    assert_eq!(slope(Some(0.25), None), 0.25);
    // Neither: the operator's own default.
    assert_eq!(slope(None, None), 0.01);
}

#[test]
fn a_reference_outside_a_function_is_refused() {
    let leaky = with_attributes(node("LeakyRelu", &["x"], &["y"]), vec![reference("alpha", "slope")]);
    let message = refusal(&with(vec![], vec![leaky]));
    assert_eq!(message, "y: attribute: expected a value, found a reference outside a function");
}

#[test]
fn a_body_uses_its_own_opsets() {
    // HardSwish exists since 14: the function imports 17, the model 13.
    let hard = function("Hard", &["a"], &["b"], vec![node("HardSwish", &["a"], &["b"])]);
    let old =
        |nodes| ModelProto { opset_import: vec![opset("", 13), opset("local", 1)], ..with(vec![hard.clone()], nodes) };
    assert_eq!(mnemonics(&import(&old(vec![call("Hard", &["x"], &["y"])])).unwrap()), ["hard_swish"]);
    assert!(refusal(&old(vec![node("HardSwish", &["x"], &["y"])])).contains("which has it since 14"));
}

#[test]
fn optional_inputs_and_several_outputs_pass_through() {
    let nodes = vec![node("Clip", &["a", "lo"], &["b"]), node("Neg", &["a"], &["c"])];
    let clip = function("ClipNeg", &["a", "lo"], &["b", "c"], nodes);
    let nodes = vec![call("ClipNeg", &["x"], &["p", "q"]), node("Add", &["p", "q"], &["y"])];
    assert!(import(&with(vec![clip.clone()], nodes)).is_ok());
    let message = refusal(&with(vec![clip], vec![call("ClipNeg", &["x", "x", "x"], &["y"])]));
    assert_eq!(
        message,
        "function ClipNeg: call y: expected at most 2 inputs and 2 outputs, found 3 inputs and 1 outputs"
    );
}

#[test]
fn recursion_is_refused_and_exponential_calls_are_limited() {
    let f = function("F", &["a"], &["b"], vec![call("G", &["a"], &["b"])]);
    let g = function("G", &["a"], &["b"], vec![call("F", &["a"], &["b"])]);
    let message = refusal(&with(vec![f, g], vec![call("F", &["x"], &["y"])]));
    assert_eq!(message, "function F: body: expected no recursion, found the call y/b/b");
    let double = |i: usize| {
        let next = format!("F{}", i + 1);
        let body = match i {
            30 => vec![node("Relu", &["a"], &["b"])],
            _ => vec![call(&next, &["a"], &["t"]), call(&next, &["t"], &["b"])],
        };
        function(&format!("F{i}"), &["a"], &["b"], body)
    };
    let model = with((0..=30).map(double).collect(), vec![call("F0", &["x"], &["y"])]);
    let mut limits = Limits::default();
    limits.nodes = 1000;
    let file = OnnxFile::from_bytes(bytes(&model), None, &limits).unwrap();
    let message = file.import(&Bindings::default()).unwrap_err().to_string();
    assert!(message.ends_with("limit nodes: allowed 1000, needed 1001"), "{message}");
    let chain =
        |i: usize| function(&format!("F{i}"), &["a"], &["b"], vec![call(&format!("F{}", i + 1), &["a"], &["b"])]);
    let message = refusal(&with((0..40).map(chain).collect(), vec![call("F0", &["x"], &["y"])]));
    assert_eq!(message, "function F32: limit depth: allowed 32, needed 33");
}

#[test]
fn faults_inside_a_body_name_the_function() {
    let twice = function("F", &["a"], &["b"], vec![node("Relu", &["z"], &["b"])]);
    let message = refusal(&with(vec![twice.clone()], vec![call("F", &["x"], &["y"])]));
    assert_eq!(
        message,
        "b: input 0: expected a value that a node, an input or an initializer defines, found z, undefined"
    );
    let message = refusal(&with(vec![twice.clone(), twice], vec![call("F", &["x"], &["y"])]));
    assert_eq!(message, "model: function: expected unique names, found F twice");
}

fn branch(name: &str, op_type: &str, tensor: Option<TensorProto>) -> AttributeProto {
    let output = format!("{name}_out");
    let graph = GraphProto {
        name: name.into(),
        node: vec![match &tensor {
            None => node(op_type, &["x"], &[&output]),
            Some(t) => node(op_type, &["x", &t.name], &[&output]),
        }],
        output: vec![value(&output, FLOAT, None)],
        initializer: tensor.into_iter().collect(),
        ..Default::default()
    };
    AttributeProto {
        name: name.into(),
        g: Some(graph).into(),
        type_: AttributeType::GRAPH.into(),
        ..Default::default()
    }
}

#[test]
fn a_constant_condition_takes_its_branch() {
    let conditional = |condition: &str| {
        let one = raw_f32("one", &[], &[1.0]);
        let branches = vec![branch("then_branch", "Relu", None), branch("else_branch", "Add", Some(one))];
        let node = with_attributes(node("If", &[condition], &["y"]), branches);
        let mut model = with(vec![], vec![node]);
        let graph = model.graph.mut_or_insert_default();
        for (name, bit) in [("yes", 1), ("no", 0)] {
            let tensor = TensorProto { name: name.into(), data_type: 9, raw_data: vec![bit], ..Default::default() };
            graph.initializer.push(tensor);
        }
        graph.input.push(value("open", 9, Some(&[])));
        model
    };
    assert_eq!(mnemonics(&import(&conditional("yes")).unwrap()), ["relu"]);
    assert_eq!(mnemonics(&import(&conditional("no")).unwrap()), ["add"]);
    // A computed condition chooses between the results of both.
    let graph = import(&conditional("open")).unwrap();
    assert_eq!(mnemonics(&graph), ["relu", "add", "where"]);
    let x = Literal::from_f32([2], &[-3.0, 2.0]);
    for (open, expected) in [(1, [0.0, 2.0]), (0, [-2.0, 3.0])] {
        let open = Literal::new_int(TensorType::new(DType::Bool, []), vec![open]);
        assert_eq!(evaluate(&graph, &[x.clone(), open]).unwrap()[0].to_f64(), expected);
    }
}
