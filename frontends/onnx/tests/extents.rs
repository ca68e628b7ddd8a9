//! Extents that depend on data through several operators: which carry them, and what is refused.

mod support;

use fornax_ir::graph::evaluate;
use fornax_ir::ops::literal::Literal;
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::{AttributeProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use support::*;

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i, type_: AttributeType::INT.into(), ..Default::default() }
}

fn with(node: NodeProto, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto { attribute, ..node }
}

fn integers(name: &str, values: &[i64]) -> TensorProto {
    let raw_data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    TensorProto { name: name.into(), dims: vec![values.len() as i64], data_type: INT64, raw_data, ..Default::default() }
}

/// A model over `s`, `f32[6]`, and `b`, `f32[6,2]`, that has the positive elements of `s` as `s1` and their rows of `b` as `b1`, the negative ones as `s2`
/// and `b2`.
fn model_with(output: &str, nodes: Vec<NodeProto>) -> ModelProto {
    let mut all = Vec::new();
    for (i, sign) in [("1", "Greater"), ("2", "Less")] {
        let name = |text: &str| format!("{text}{i}");
        let (mask, list, rows) = (name("m"), name("n"), name("i"));
        all.extend([
            node(sign, &["s", "zero"], &[&mask]),
            node("NonZero", &[&mask], &[&list]),
            node("Transpose", &[&list], &[&rows]),
            node("GatherND", &["s", &rows], &[&name("s")]),
            node("GatherND", &["b", &rows], &[&name("b")]),
        ]);
    }
    all.extend(nodes);
    let inputs = vec![value("s", FLOAT, Some(&["6"])), value("b", FLOAT, Some(&["6", "2"]))];
    let output = ValueInfoProto { name: output.into(), ..Default::default() };
    let mut model = model(inputs, vec![output], all);
    model.graph.mut_or_insert_default().initializer =
        vec![raw_f32("zero", &[], &[0.0]), integers("two", &[2]), integers("one", &[1]), integers("last", &[-1])];
    model
}

/// The output for these elements of `s`, and `b` of 0, 1, …, 11; and its count.
fn run(model: &ModelProto, s: &[f32; 6]) -> (Vec<f64>, usize) {
    let b: Vec<f32> = (0..12).map(|v| v as f32).collect();
    let found = evaluate(&import(model).unwrap(), &[Literal::from_f32([6], s), Literal::from_f32([6, 2], &b)]).unwrap();
    (found[0].to_f64(), found[1].to_f64()[0] as usize)
}

/// As the end of a detector: the best of each class, all classes in a row, and something computed from both ways that led there.
#[test]
fn what_is_chosen_together_goes_together() {
    let mut nodes = Vec::new();
    for i in ["1", "2"] {
        let name = |text: &str| format!("{text}{i}");
        nodes.extend([
            node("Shape", &[&name("s")], &[&name("extent")]),
            node("Concat", &["two", &name("extent")], &[&name("both")]),
            node("ReduceMin", &[&name("both")], &[&name("k")]),
            node("TopK", &[&name("s"), &name("k")], &[&name("best"), &name("at")]),
            node("Gather", &[&name("b"), &name("at")], &[&name("rows")]),
            node("Shape", &[&name("best")], &[&name("label_shape")]),
            node("ConstantOfShape", &[&name("label_shape")], &[&name("labels")]),
        ]);
        let at = nodes.len();
        nodes[at - 6].attribute = vec![int("axis", 0)];
    }
    nodes.extend([
        with(node("Concat", &["rows1", "rows2"], &["rows"]), vec![int("axis", 0)]),
        with(node("Concat", &["labels1", "labels2"], &["labels"]), vec![int("axis", 0)]),
        node("Unsqueeze", &["labels", "one"], &["columns"]),
        node("Add", &["rows", "columns"], &["y"]),
    ]);
    let model = model_with("y", nodes);
    let (y, count) = run(&model, &[0.5, -1.0, 2.0, 1.0, 0.0, -2.0]);
    assert_eq!((count, &y[..8]), (4, &[4.0, 5.0, 6.0, 7.0, 2.0, 3.0, 10.0, 11.0][..]));
    let (y, count) = run(&model, &[-0.5, -1.0, -2.0, 1.0, 0.0, -2.0]);
    assert_eq!((count, &y[..6]), (3, &[6.0, 7.0, 0.0, 1.0, 2.0, 3.0][..]));
    assert_eq!(run(&model, &[0.0; 6]).1, 0);
}

#[test]
fn negative_ends_and_indices_count_from_the_true_end() {
    let model = model_with("y", vec![node("Slice", &["s1", "one", "last"], &["y"])]);
    let (y, count) = run(&model, &[5.0, 0.0, 6.0, 7.0, 0.0, 8.0]);
    assert_eq!((count, &y[..2]), (2, &[6.0, 7.0][..]));
    assert_eq!(run(&model, &[5.0, 0.0, 0.0, 0.0, 0.0, 0.0]).1, 0);
    let graph = import(&model_with("y", vec![node("Gather", &["s1", "last"], &["y"])])).unwrap();
    let operands = [Literal::from_f32([6], &[5.0, 0.0, 6.0, 0.0, 0.0, 0.0]), Literal::from_f32([6, 2], &[0.0; 12])];
    assert_eq!(evaluate(&graph, &operands).unwrap()[0].to_f64(), [6.0]);
}

#[test]
fn what_cannot_carry_an_extent_says_so() {
    let axis = |i| vec![int("axis", i)];
    for (node, why) in [
        (with(node("Softmax", &["s1"], &["y"]), axis(0)), "summed over"),
        (node("Add", &["s1", "s"], &["y"]), "meets a fixed one"),
        (node("Add", &["s1", "s2"], &["y"]), "differs from that of another operand"),
        (node("Squeeze", &["b1"], &["y"]), "no axes are listed"),
        (node("CumSum", &["s1", "zero_axis"], &["y"]), "does not carry"),
        (node("Reshape", &["b1", "shape"], &["y"]), "does not keep"),
        (node("MatMul", &["s1", "b1"], &["y"]), "rows or columns"),
        (node("GlobalAveragePool", &["b1"], &["y"]), "does not carry"),
    ] {
        let op = node.op_type.clone();
        let mut model = model_with("y", vec![node]);
        let held = &mut model.graph.mut_or_insert_default().initializer;
        held.push(TensorProto { dims: Vec::new(), ..integers("zero_axis", &[0]) });
        held.push(integers("shape", &[6, 2]));
        let message = refusal(&model);
        assert!(message.contains(&op) && message.contains("depends on data") && message.contains(why), "{message}");
    }
}
