//! Loops, branches of computed conditions, sequences and optionals: what they compute, and what is refused.

mod support;

use fornax_ir::graph::evaluate;
use fornax_ir::ops::literal::Literal;
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::{AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, ValueInfoProto};
use support::*;

fn named(name: &str) -> ValueInfoProto {
    ValueInfoProto { name: name.into(), ..Default::default() }
}

fn int(name: &str, i: i64) -> AttributeProto {
    AttributeProto { name: name.into(), i, type_: AttributeType::INT.into(), ..Default::default() }
}

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { name: name.into(), ints: ints.to_vec(), type_: AttributeType::INTS.into(), ..Default::default() }
}

fn with(node: NodeProto, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto { attribute, ..node }
}

/// A body as an attribute.
fn body(inputs: &[&str], outputs: &[&str], nodes: Vec<NodeProto>) -> AttributeProto {
    let graph = GraphProto {
        name: "body".into(),
        input: inputs.iter().map(|name| named(name)).collect(),
        output: outputs.iter().map(|name| named(name)).collect(),
        node: nodes,
        ..Default::default()
    };
    AttributeProto {
        name: "body".into(),
        g: Some(graph).into(),
        type_: AttributeType::GRAPH.into(),
        ..Default::default()
    }
}

fn number(name: &str, data_type: i32, value: i64) -> TensorProto {
    let raw_data = if data_type == 9 { vec![value as u8] } else { value.to_le_bytes().to_vec() };
    TensorProto { name: name.into(), data_type, raw_data, ..Default::default() }
}

/// A model over `x`, `f32[3,2]` unless `shape` says otherwise.
fn over_x(outputs: &[&str], nodes: Vec<NodeProto>, held: Vec<TensorProto>) -> ModelProto {
    let outputs = outputs.iter().map(|name| named(name)).collect();
    let mut model = model(vec![value("x", FLOAT, Some(&["3", "2"]))], outputs, nodes);
    model.graph.mut_or_insert_default().initializer = held;
    model
}

/// The outputs for `x` of 0, 1, …, 5.
#[track_caller]
fn run(model: &ModelProto) -> Vec<Vec<f64>> {
    let graph = import(model).unwrap();
    let x = Literal::from_f32([3, 2], &[0.0, 1.0, 2.0, 3.0, 4.0, 5.0]);
    evaluate(&graph, &[x]).unwrap().iter().map(Literal::to_f64).collect()
}

#[test]
fn a_loop_of_known_trips_is_its_body_so_many_times() {
    let nodes = |keep: &str| {
        vec![
            node("Identity", &[keep], &["again"]),
            node("Add", &["sum", "x"], &["more"]),
            node("Cast", &["i"], &["trip"]),
        ]
    };
    let looped = |keep: &str, operands: &[&str], held: Vec<TensorProto>| {
        let mut nodes = nodes(keep);
        nodes[2].attribute = vec![int("to", 1)];
        let body = body(&["i", "on", "sum"], &["again", "more", "trip"], nodes);
        over_x(&["total", "trips"], vec![with(node("Loop", operands, &["total", "trips"]), vec![body])], held)
    };
    let held = || vec![number("three", INT64, 3), number("yes", 9, 1), number("no", 9, 0)];
    let found = run(&looped("on", &["three", "yes", "x"], held()));
    assert_eq!(found, [vec![0.0, 4.0, 8.0, 12.0, 16.0, 20.0], vec![0.0, 1.0, 2.0]]);
    // It ends when its condition does, which is known here.
    let found = run(&looped("no", &["three", "yes", "x"], held()));
    assert_eq!(found, [vec![0.0, 2.0, 4.0, 6.0, 8.0, 10.0], vec![0.0]]);
    // Without end it stops at the limit on nodes.
    assert!(refusal(&looped("on", &["", "yes", "x"], held())).contains("limit nodes"));
}

/// A loop that adds `x` as long as the largest element is below a bound, with `per_trip` results of every trip.
fn below_a_bound(bound: f32, first: &str, trips: &str, per_trip: &[&str]) -> ModelProto {
    let nodes = vec![
        with(node("ReduceMax", &["sum"], &["most"]), vec![int("keepdims", 0)]),
        node("Less", &["most", "bound"], &["again"]),
        node("Add", &["sum", "x"], &["more"]),
        node("Identity", &["most"], &["seen"]),
    ];
    let body = body(&["i", "on", "sum"], &[&["again", "more"], per_trip].concat(), nodes);
    let outputs = [&["total"][..], if per_trip.is_empty() { &[] } else { &["all"] }].concat();
    let looped = with(node("Loop", &[trips, first, "x"], &outputs), vec![body]);
    let begins = node("Less", &["zero", "top"], &["computed"]);
    let top = with(node("ReduceMax", &["x"], &["top"]), vec![int("keepdims", 0)]);
    let held = vec![
        number("yes", 9, 1),
        number("nine", INT64, 9),
        number("many", INT64, i64::MAX),
        raw_f32("bound", &[], &[bound]),
        raw_f32("zero", &[], &[if bound < 0.0 { 1e9 } else { 0.0 }]),
    ];
    over_x(&outputs, vec![top, begins, looped], held)
}

#[test]
fn a_loop_of_a_computed_condition_goes_on_as_long_as_it_holds() {
    // The largest element is 5, 10, 15 before the first trips; a trip that finds it beyond the bound is the last.
    for (bound, first, sums) in [
        (12.0, "yes", 4.0),
        (12.0, "computed", 4.0),
        (5.0, "yes", 2.0),
        (1e9, "yes", 10.0),
        (-1.0, "yes", 2.0),
        (-1.0, "computed", 1.0),
    ] {
        let found = run(&below_a_bound(bound, first, "nine", &[]));
        let expected: Vec<f64> = (0..6).map(|i| f64::from(i) * sums).collect();
        assert_eq!(found, [expected], "bound {bound}, first {first}");
    }
    for trips in ["", "many"] {
        assert_eq!(
            refusal(&below_a_bound(12.0, "yes", trips, &[])),
            "unsupported: Loop (total): the condition is computed and bounds no trips: expected at most 4096 by M, found none"
        );
    }
    let message = refusal(&below_a_bound(12.0, "yes", "nine", &["seen"]));
    assert_eq!(message, "unsupported: Loop (total): what every trip leaves, where the condition is computed");
}

#[test]
fn branches_of_a_computed_condition_agree_in_shape() {
    let attribute = |name: &str, op: &str, inputs: &[&str]| {
        let made = with(node(op, inputs, &["out"]), if op == "ReduceSum" { vec![int("keepdims", 0)] } else { vec![] });
        AttributeProto { name: name.into(), ..body(&[], &["out"], vec![made]) }
    };
    let branches = vec![attribute("then_branch", "Neg", &["x"]), attribute("else_branch", "ReduceSum", &["x"])];
    let nodes = vec![
        node("ReduceMax", &["x"], &["most"]),
        with(node("Cast", &["most"], &["test"]), vec![int("to", 9)]),
        with(node("If", &["test"], &["y"]), branches),
    ];
    let message = refusal(&over_x(&["y"], nodes, vec![]));
    assert_eq!(message, "unsupported: If (y): branches of a computed condition: f32[3,2] and f32[]");
}

#[test]
fn a_scan_takes_slices_and_leaves_slices() {
    let nodes = vec![node("Add", &["sum", "slice"], &["more"]), node("Neg", &["more"], &["shown"])];
    let body = body(&["sum", "slice"], &["more", "shown"], nodes);
    let scan = |attributes: Vec<AttributeProto>| {
        let attributes = [vec![body.clone(), int("num_scan_inputs", 1)], attributes].concat();
        over_x(
            &["last", "all"],
            vec![with(node("Scan", &["zero", "x"], &["last", "all"]), attributes)],
            vec![raw_f32("zero", &[2], &[0.0, 0.0])],
        )
    };
    assert_eq!(run(&scan(vec![])), [vec![6.0, 9.0], vec![0.0, -1.0, -2.0, -4.0, -6.0, -9.0]]);
    let reversed = scan(vec![ints("scan_input_directions", &[1]), ints("scan_output_axes", &[1])]);
    assert_eq!(run(&reversed), [vec![6.0, 9.0], vec![-4.0, -6.0, -6.0, -5.0, -8.0, -9.0]]);
}

#[test]
fn a_scan_of_opset_8_takes_a_batch_of_sequences() {
    let body = body(
        &["sum", "slice"],
        &["more", "shown"],
        vec![node("Add", &["sum", "slice"], &["more"]), node("Neg", &["more"], &["shown"])],
    );
    let scan = |lengths: &str, attributes: Vec<AttributeProto>| {
        let attributes = [vec![body.clone(), int("num_scan_inputs", 1)], attributes].concat();
        let node = with(node("Scan", &[lengths, "zero", "x"], &["last", "all"]), attributes);
        let lengths = |name: &str, of: [i64; 3]| {
            let raw_data = of.iter().flat_map(|length| length.to_le_bytes()).collect();
            TensorProto { name: name.into(), data_type: INT64, dims: vec![3], raw_data, ..Default::default() }
        };
        let held = vec![raw_f32("zero", &[3], &[0.0; 3]), lengths("whole", [2; 3]), lengths("part", [2, 1, 2])];
        let mut model = over_x(&["last", "all"], vec![node], held);
        model.opset_import = vec![opset("", 8)];
        model
    };
    let forward = [vec![1.0, 5.0, 9.0], vec![0.0, -1.0, -2.0, -5.0, -4.0, -9.0]];
    assert_eq!(run(&scan("", vec![])), forward);
    assert_eq!(run(&scan("whole", vec![])), forward);
    let reversed = scan("", vec![ints("directions", &[1])]);
    assert_eq!(run(&reversed), [vec![1.0, 5.0, 9.0], vec![-1.0, -1.0, -3.0, -5.0, -5.0, -9.0]]);
    assert!(refusal(&scan("part", vec![])).contains("sequence_lens other than the length of all sequences"));
}

#[test]
fn sequences_vanish() {
    let nodes = vec![
        node("SplitToSequence", &["x"], &["rows"]),
        node("SequenceAt", &["rows", "last"], &["row"]),
        node("SequenceInsert", &["rows", "row", "zero"], &["more"]),
        node("SequenceErase", &["more"], &["some"]),
        with(node("ConcatFromSequence", &["some"], &["all"]), vec![int("axis", 0)]),
        node("SequenceLength", &["more"], &["count"]),
        with(node("Cast", &["count"], &["n"]), vec![int("to", 1)]),
    ];
    let held = || vec![number("last", INT64, -1), number("zero", INT64, 0)];
    let found = run(&over_x(&["all", "n"], nodes, held()));
    assert_eq!(found, [vec![4.0, 5.0, 0.0, 1.0, 2.0, 3.0], vec![4.0]]);
    let built = vec![
        node("SequenceConstruct", &["x", "x"], &["s"]),
        with(node("ConcatFromSequence", &["s"], &["y"]), vec![int("axis", -1), int("new_axis", 1)]),
    ];
    assert_eq!(run(&over_x(&["y"], built, vec![]))[0][..4], [0.0, 0.0, 1.0, 1.0]);
    let beyond = vec![node("SequenceConstruct", &["x"], &["s"]), node("SequenceAt", &["s", "two"], &["y"])];
    let message = refusal(&over_x(&["y"], beyond, vec![number("two", INT64, 2)]));
    assert_eq!(message, "y: SequenceAt: position: expected a position in a sequence of 1, found 2");
    let shown = refusal(&over_x(&["s"], vec![node("SequenceConstruct", &["x"], &["s"])], vec![]));
    assert_eq!(shown, "unsupported: output s: a sequence");
    let read = vec![node("SequenceConstruct", &["x"], &["s"]), node("Relu", &["s"], &["y"])];
    assert_eq!(refusal(&over_x(&["y"], read, vec![])), "unsupported: Relu (y): a sequence as an operand");
}

#[test]
fn optionals_are_what_they_hold() {
    let nodes = vec![
        node("Optional", &["x"], &["o"]),
        node("OptionalGetElement", &["o"], &["y"]),
        node("OptionalHasElement", &["o"], &["there"]),
        with(node("Cast", &["there"], &["t"]), vec![int("to", 1)]),
    ];
    let found = run(&over_x(&["y", "t"], nodes, vec![]));
    assert_eq!(found, [vec![0.0, 1.0, 2.0, 3.0, 4.0, 5.0], vec![1.0]]);
}

/// `FlexAttention` of two query heads over one of keys and values, of length 2 and size 1; its graphs may read `mask` and `two`.
fn flex(attributes: Vec<AttributeProto>) -> ModelProto {
    let node = node("FlexAttention", &["q", "kv", "kv"], &["y"]);
    let node = NodeProto { domain: "ai.onnx.preview".into(), ..with(node, attributes) };
    let inputs = vec![value("q", FLOAT, Some(&["1", "2", "1", "1"])), value("kv", FLOAT, Some(&["1", "1", "2", "1"]))];
    let mut model = model(inputs, vec![named("y")], vec![node]);
    model.opset_import.push(opset("ai.onnx.preview", 1));
    let held = vec![raw_f32("mask", &[2], &[0.0, f32::NEG_INFINITY]), raw_f32("two", &[], &[2.0])];
    model.graph.mut_or_insert_default().initializer = held;
    model
}

#[test]
fn attention_passes_through_the_graphs_of_its_node() {
    let run = |attributes: Vec<AttributeProto>| {
        let graph = import(&flex(attributes)).unwrap();
        // The first head sees both keys alike; of the second one a score is larger by ln 3 times the scale.
        let q = Literal::from_f32([1, 2, 1, 1], &[0.0, 3f32.ln()]);
        let kv = Literal::from_f32([1, 1, 2, 1], &[1.0, 2.0]);
        evaluate(&graph, &[q, kv]).unwrap()[0].to_f64()
    };
    let about = |found: Vec<f64>, expected: [f64; 2]| {
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}, expected {expected:?}");
    };
    let graph =
        |name: &str, node: NodeProto| AttributeProto { name: name.into(), ..body(&["in"], &["out"], vec![node]) };
    about(run(vec![]), [1.5, 1.75]);
    about(run(vec![float("scale", 2.0)]), [1.5, 1.9]);
    let masked = || graph("score_mod", node("Add", &["in", "mask"], &["out"]));
    about(run(vec![masked()]), [1.0, 1.0]);
    let doubled = || graph("prob_mod", node("Mul", &["in", "two"], &["out"]));
    about(run(vec![doubled()]), [3.0, 3.5]);
    about(run(vec![masked(), doubled()]), [2.0, 2.0]);
    let half = graph("score_mod", with(node("Cast", &["in"], &["out"]), vec![int("to", 10)]));
    assert!(refusal(&flex(vec![half])).contains("score_mod: expected a result of f32[1,2,1,2], found f16[1,2,1,2]"));
    let unknown = graph("score_mod", node("Nowhere", &["in", "mask"], &["out"]));
    assert!(refusal(&flex(vec![unknown])).contains("Nowhere"));
}
