//! Whole models: names, order, bindings, declared types, and what is refused.

mod support;

use std::collections::BTreeMap;

use fornax_ir::graph::evaluate;
use fornax_ir::inputs::{Bindings, Dim};
use fornax_ir::ops::literal::Literal;
use fornax_ir::types::{Constant, Shape};
use fornax_onnx::{Error, Limits, OnnxFile};
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::{AttributeProto, ModelProto, NodeProto, StringStringEntryProto, TensorProto};
use support::*;

fn bindings(dims: &[(&str, usize)], shapes: &[(&str, &[usize])]) -> Bindings {
    Bindings {
        dims: dims.iter().map(|(name, size)| (name.to_string(), *size)).collect(),
        shapes: shapes.iter().map(|(name, shape)| (name.to_string(), shape.to_vec())).collect(),
        ..Bindings::default()
    }
}

/// Inputs of the given dimensions, named `x0`, `x1`, …, each through its own Relu.
fn inputs(dims: &[&[&str]]) -> ModelProto {
    let names: Vec<(String, String)> = (0..dims.len()).map(|i| (format!("x{i}"), format!("y{i}"))).collect();
    let ins = names.iter().zip(dims).map(|((x, _), dims)| value(x, FLOAT, Some(dims))).collect();
    let outs = names.iter().map(|(_, y)| value(y, FLOAT, None)).collect();
    model(ins, outs, names.iter().map(|(x, y)| node("Relu", &[x], &[y])).collect())
}

fn shapes(model: &ModelProto, bindings: &Bindings) -> Result<Vec<Shape>, Error> {
    let graph = open(model)?.import(bindings)?;
    Ok(graph.inputs().iter().map(|id| graph.node(*id).ty.shape.clone()).collect())
}

#[test]
fn dimensions_bind_by_shape_then_name_then_batch() {
    let model = inputs(&[&["N", "3", "H", "H"], &["N", "H"], &["?", "4"]]);
    let found = shapes(&model, &bindings(&[("H", 8)], &[])).unwrap();
    assert_eq!(found, [[1, 3, 8, 8].into(), [1, 8].into(), Shape::from([1, 4])]);
    let found = shapes(&model, &bindings(&[("H", 8), ("batch", 5)], &[])).unwrap();
    assert_eq!(found, [[5, 3, 8, 8].into(), [5, 8].into(), Shape::from([5, 4])]);
    let found = shapes(&model, &bindings(&[("N", 2), ("H", 8), ("batch", 5)], &[])).unwrap();
    assert_eq!(found, [[2, 3, 8, 8].into(), [2, 8].into(), Shape::from([5, 4])]);
    let found = shapes(&model, &bindings(&[("H", 8)], &[("x1", &[6, 9])])).unwrap();
    assert_eq!(found, [[6, 3, 9, 9].into(), [6, 9].into(), Shape::from([1, 4])]);
}

#[test]
fn unbound_dimensions_are_listed_in_one_error() {
    let model = inputs(&[&["N", "3", "H", "?"], &["N", "W"]]);
    let message = shapes(&model, &Bindings::default()).unwrap_err().to_string();
    let expected = "unbound dimensions: H (axis 2 of input x0), axis 3 of input x0, which has no name, \
                    W (axis 1 of input x1); bind them by name or give the input's shape";
    assert_eq!(message, expected);
}

#[test]
fn bindings_that_fit_nothing_are_refused() {
    let model = inputs(&[&["2", "H"]]);
    let rows: &[(Bindings, &str)] = &[
        (
            bindings(&[("W", 1)], &[]),
            "binding W: expected one of the dimensions H, or an axis of an input such as x.2, found a name the model does not have",
        ),
        (bindings(&[("batch", 3)], &[]), "binding batch: expected the fixed axis 0 of input x0 [2,H], found 3"),
        (bindings(&[], &[("x", &[2, 2])]), "binding x: expected one of the inputs x0, found [2,2]"),
        (bindings(&[], &[("x0", &[3, 2])]), "binding x0: expected a shape that fits [2,H], found [3,2]"),
        (bindings(&[], &[("x0", &[2])]), "binding x0: expected a shape that fits [2,H], found [2]"),
        (
            bindings(&[("H", usize::MAX)], &[]),
            "x0: limit tensor_elements: allowed 4294967296, needed 18446744073709551615",
        ),
    ];
    for (bindings, expected) in rows {
        assert_eq!(shapes(&model, bindings).unwrap_err().to_string(), *expected);
    }
    let square = inputs(&[&["1", "H", "H"]]);
    let message = shapes(&square, &bindings(&[], &[("x0", &[1, 2, 3])])).unwrap_err().to_string();
    assert_eq!(message, "binding x0: expected one size for H, found [1,2,3]");
}

#[test]
fn an_input_of_a_known_value_may_be_a_shape() {
    let ins = vec![value("x", FLOAT, Some(&["2", "3"])), value("shape", INT64, Some(&["2"]))];
    let model = model(ins, vec![value("y", FLOAT, None)], vec![node("Reshape", &["x", "shape"], &["y"])]);
    assert!(refusal(&model).contains("shape: expected a value known at compile time"));
    let known =
        |name: &str, value| Bindings { values: BTreeMap::from([(name.to_string(), value)]), ..Bindings::default() };
    let file = open(&model).unwrap();
    let graph = file.import(&known("shape", Constant::from_i64([2], &[3, -1]))).unwrap();
    assert_eq!(graph.inputs().len(), 2);
    assert_eq!(graph.ty(graph.outputs()[0].1).shape, Shape::from([3, 2]));
    assert!(graph.users(graph.inputs()[1]).is_empty());
    let wrong = |name, value| file.import(&known(name, value)).map(drop).unwrap_err().to_string();
    let message = wrong("shape", Constant::from_f32([2], &[3.0, 2.0]));
    assert_eq!(message, "binding shape: expected a value of i64[2], found f32[2]");
    let message = wrong("shape", Constant::from_i64([3], &[3, 2, 1]));
    assert_eq!(message, "binding shape: expected a shape that fits [2], found [3]");
    assert!(wrong("axes", Constant::from_i64([1], &[0])).starts_with("binding axes: expected one of the inputs"));
}

#[test]
fn an_unranked_input_needs_its_shape() {
    let mut model = inputs(&[&["1"]]);
    model.graph.mut_or_insert_default().input = vec![value("x0", FLOAT, None)];
    assert!(!open(&model).unwrap().inputs()[0].ranked);
    assert!(refusal(&model).contains("all of input x0, which declares no rank"));
    assert_eq!(shapes(&model, &bindings(&[], &[("x0", &[2, 2])])).unwrap(), [Shape::from([2, 2])]);
}

#[test]
fn declarations_and_metadata_are_readable_before_import() {
    let mut model = inputs(&[&["N", "3", "-1"]]);
    let entry = StringStringEntryProto { key: "labels".into(), value: "a,b".into(), ..Default::default() };
    model.metadata_props.push(entry);
    let file = open(&model).unwrap();
    let dims = &file.inputs()[0].dims;
    assert_eq!(dims, &[Dim::Symbol("N".into()), Dim::Known(3), Dim::Unknown]);
    assert_eq!(file.outputs(), ["y0"]);
    let graph = file.import(&bindings(&[], &[("x0", &[1, 3, 2])])).unwrap();
    assert_eq!(graph.metadata, BTreeMap::from([("labels".to_string(), "a,b".to_string())]));
}

#[test]
fn values_keep_the_models_names_and_nodes_their_origins() {
    let mut relu = node("Relu", &["x"], &["h"]);
    relu.name = "/features/relu".into();
    let nodes = vec![relu, node("HardSwish", &["h"], &["y"])];
    let mut model = model(vec![value("x", FLOAT, Some(&["2"]))], vec![value("y", FLOAT, None)], nodes);
    model.graph.mut_or_insert_default().name = "a graph/β".into();
    let graph = import(&model).unwrap();
    assert_eq!(graph.name, "a_graph__");
    let names: Vec<&str> = graph.ids().map(|id| graph.node(id).name.as_str()).collect();
    assert_eq!(names, ["x", "h", "y"]);
    let origins: Vec<&[String]> = graph.ids().map(|id| graph.node(id).origins.as_slice()).collect();
    assert_eq!(origins[1..], [["/features/relu"], ["y"]]);
}

#[test]
fn nodes_may_be_in_any_order_and_dead_ones_are_left_out() {
    let nodes = vec![
        node("Sigmoid", &["b"], &["y"]),
        node("Frobnicate", &["x"], &["unused"]),
        node("Tanh", &["a"], &["b"]),
        node("Relu", &["x"], &["a"]),
    ];
    let graph = import(&model(vec![value("x", FLOAT, Some(&["2"]))], vec![value("y", FLOAT, None)], nodes)).unwrap();
    assert_eq!(mnemonics(&graph), ["relu", "tanh", "sigmoid"]);
}

#[test]
fn every_fault_of_a_graph_is_named() {
    let x = || vec![value("x", FLOAT, Some(&["2"]))];
    let graph = |outputs: &[&str], nodes| model(x(), outputs.iter().map(|o| value(o, FLOAT, None)).collect(), nodes);
    let relu = |from: &str, to: &str| node("Relu", &[from], &[to]);
    let rows: Vec<(ModelProto, &str)> = vec![
        (
            graph(&["y"], vec![relu("z", "y"), relu("y", "z")]),
            "y: inputs: expected values computed before, found a cycle",
        ),
        (
            graph(&["y"], vec![relu("x", "y"), relu("x", "y")]),
            "y: output: expected a name not yet defined, found y again",
        ),
        (graph(&["y"], vec![relu("x", "x")]), "x: output: expected a name not yet defined, found x again"),
        (
            graph(&["y"], vec![relu("w", "y")]),
            "y: input 0: expected a value that a node, an input or an initializer defines, found w, undefined",
        ),
        (graph(&[], vec![relu("x", "y")]), "graph: output: expected at least one, found none"),
        (
            graph(&["y"], vec![node("Relu", &["x", "x"], &["y"])]),
            "y: Relu: inputs: expected at most 1 (opset 17), found 2",
        ),
        (
            graph(&["y"], vec![node("Relu", &["x"], &["y", "z"])]),
            "y: Relu: outputs: expected at most 1 (opset 17), found 2",
        ),
        (
            graph(&["y"], vec![NodeProto { domain: "other".into(), ..relu("x", "y") }]),
            "y: domain: expected an imported domain (ai.onnx, local), found other",
        ),
    ];
    for (model, message) in rows {
        assert_eq!(refusal(&model), message);
    }
}

#[test]
fn all_that_is_unsupported_is_in_one_error() {
    let to = AttributeProto { name: "to".into(), i: 8, type_: AttributeType::INT.into(), ..Default::default() };
    let nodes = vec![
        node("Frobnicate", &["x"], &["a"]),
        node("Relu", &["a"], &["b"]),
        node("Frobnicate", &["b"], &["c"]),
        NodeProto { attribute: vec![to], ..node("Cast", &["x"], &["d"]) },
        node("Upsample", &["x", "x"], &["f"]),
        node("Gelu", &["c"], &["e"]),
        node("Sum", &["d", "e", "f"], &["y"]),
        node("StringNormalizer", &["y"], &["z"]),
    ];
    let x = value("x", FLOAT, Some(&["1", "1", "4", "4"]));
    let message = refusal(&model(vec![x], vec![value("z", FLOAT, None)], nodes));
    for part in [
        "Frobnicate of ai.onnx opset 17 (a, c)",
        "Gelu of ai.onnx opset 17, which has it since 20 (e)",
        "Upsample of ai.onnx opset 17, which has it no longer since 10 (f)",
        "Cast (d): to: strings",
        "StringNormalizer of ai.onnx opset 17 (z)",
    ] {
        assert!(message.contains(part), "{part} is not in: {message}");
    }
}

#[test]
fn declared_shapes_of_outputs_that_disagree_are_notes() {
    let with = |elem_type, dims: Option<&[&str]>, input: &[&str]| {
        let mut model = inputs(&[input]);
        model.graph.mut_or_insert_default().output = vec![value("y0", elem_type, dims)];
        import(&model).map(|graph| graph.notes).map_err(|e| e.to_string())
    };
    let note = |text: &str| Ok(vec![text.to_string()]);
    assert_eq!(with(FLOAT, Some(&["2", "N"]), &["2", "3"]), Ok(vec![]));
    assert_eq!(with(FLOAT, None, &["2", "3"]), Ok(vec![]));
    let found = with(FLOAT, Some(&["2", "4"]), &["2", "3"]);
    assert_eq!(found, note("output y0: declared as [2,4], computed as [2,3]"));
    // Exporters of text recognition write no axes at all.
    assert_eq!(with(FLOAT, Some(&[]), &["2", "3"]), note("output y0: declared as [], computed as [2,3]"));
    let wrong = with(INT64, Some(&["2", "3"]), &["2", "3"]).unwrap_err();
    assert_eq!(wrong, "output y0: element type: expected i64, found f32");
    // The batch of the traced example, left in the declaration of the output.
    assert_eq!(with(FLOAT, Some(&["8", "3"]), &["N", "3"]), Ok(vec![]));
}

#[test]
fn an_output_may_be_listed_twice() {
    let x = vec![value("x", FLOAT, Some(&["2"]))];
    let outputs = ["y", "y", "y_2", "y"].map(|name| value(name, FLOAT, None)).to_vec();
    let file = open(&model(x, outputs, vec![node("Relu", &["x"], &["y"]), node("Tanh", &["y"], &["y_2"])])).unwrap();
    assert_eq!(file.outputs(), ["y", "y_3", "y_2", "y_4"]);
    let graph = file.import(&Bindings::default()).unwrap();
    let outputs = graph.outputs();
    assert_eq!(outputs.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["y", "y_3", "y_2", "y_4"]);
    assert!(outputs[1].1 == outputs[0].1 && outputs[3].1 == outputs[0].1 && outputs[2].1 != outputs[0].1);
}

#[test]
fn equal_initializers_of_one_name_are_one() {
    let mut twice = model(
        vec![value("x", FLOAT, Some(&["2"]))],
        vec![value("y", FLOAT, None)],
        vec![node("Add", &["x", "w"], &["y"])],
    );
    let w = |v: f32| raw_f32("w", &[2], &[1.0, v]);
    twice.graph.mut_or_insert_default().initializer = vec![w(2.0), w(2.0)];
    assert!(import(&twice).is_ok());
    twice.graph.mut_or_insert_default().initializer = vec![w(2.0), w(3.0)];
    assert_eq!(refusal(&twice), "tensor w: name: expected a unique one, found two initializers of this name");
}

#[test]
fn initializers_of_other_types_harm_only_who_reads_them() {
    let text = |name: &str, data_type| TensorProto { name: name.into(), data_type, ..Default::default() };
    let with = |reads: &str| {
        let nodes = vec![node("Relu", &["x"], &["y"]), node("Identity", &[reads], &["z"])];
        let outputs = vec![value("y", FLOAT, None), value("z", FLOAT, None)];
        let mut model = model(vec![value("x", FLOAT, Some(&["2"]))], outputs, nodes);
        model.graph.mut_or_insert_default().initializer = vec![text("labels", 8), text("tiny", 14)];
        import(&model).map(drop)
    };
    assert_eq!(with("x"), Ok(()));
    let refused = |reads| match with(reads) {
        Err(Error::Unsupported(why)) => why,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused("labels"), ["tensor labels: elements of type STRING"]);
    assert_eq!(refused("tiny"), ["tensor tiny: elements of type a complex type"]);
}

#[test]
fn inputs_of_other_types_are_unsupported() {
    let mut text = inputs(&[&["2"]]);
    text.graph.mut_or_insert_default().input = vec![value("x0", 8, Some(&["2"]))];
    assert_eq!(open(&text).map(drop), Err(Error::Unsupported(vec!["input x0: elements of type STRING".into()])));
}

#[test]
fn of_several_imports_of_a_domain_the_last_counts() {
    let gelu = vec![node("Gelu", &["x"], &["y"])];
    let mut twice = model(vec![value("x", FLOAT, Some(&["2"]))], vec![value("y", FLOAT, None)], gelu);
    twice.opset_import = vec![opset("", 17), opset("ai.onnx", 20)];
    assert_eq!(import(&twice).unwrap().notes, ["domain ai.onnx is imported as [17, 20]; the last counts, 20"]);
    twice.opset_import = vec![opset("", 20), opset("ai.onnx", 17)];
    assert!(refusal(&twice).contains("Gelu of ai.onnx opset 17, which has it since 20"));
    twice.opset_import = vec![opset("", 20), opset("ai.onnx", 20)];
    assert!(import(&twice).unwrap().notes.is_empty());
}

#[test]
fn an_initializer_is_overridden_by_what_is_fed() {
    let ins = vec![value("x", FLOAT, Some(&["2"])), value("w", FLOAT, Some(&["N"]))];
    let nodes = vec![node("Add", &["x", "w"], &["a"]), node("Add", &["a", "b"], &["y"])];
    let mut model = model(ins, vec![value("y", FLOAT, None)], nodes);
    let tensors = vec![raw_f32("w", &[2], &[1.0, 2.0]), raw_f32("b", &[2], &[3.0, 4.0])];
    model.graph.mut_or_insert_default().initializer = tensors;
    let mut file = open(&model).unwrap();
    assert_eq!(file.defaults(), ["w"]);
    file.feed("w").unwrap();
    assert!(file.defaults().is_empty());
    assert_eq!(file.inputs().iter().map(|input| input.name.as_str()).collect::<Vec<_>>(), ["x", "w"]);
    let graph = file.import(&bindings(&[("N", 2)], &[])).unwrap();
    assert_eq!(graph.inputs().len(), 2);
    let mut file = open(&model).unwrap();
    let message = file.feed("b").unwrap_err().to_string();
    assert_eq!(message, "binding b: expected an input with an initializer (w), found none of this name");
}

#[test]
fn single_axes_are_bound_by_name_and_number() {
    let open_axes = inputs(&[&["?", "3", "?", "W"], &["W"]]);
    let of = |dims: &[(&str, usize)]| shapes(&open_axes, &bindings(dims, &[])).map_err(|e| e.to_string());
    let bound = of(&[("x0.2", 8), ("x0.3", 6)]).unwrap();
    assert_eq!(bound, [Shape::from([1, 3, 8, 6]), Shape::from([6])]);
    assert_eq!(of(&[("x0.2", 8), ("W", 6), ("x0.0", 2)]).unwrap()[0], Shape::from([2, 3, 8, 6]));
    let rows = [
        (
            &[("x0.1", 4), ("x0.2", 8), ("W", 6)][..],
            "binding x0.1: expected the fixed axis 1 of input x0 [?,3,?,W], found 4",
        ),
        (&[("x0.3", 4), ("x0.2", 8), ("W", 6)][..], "binding x0.3: expected one size for W, found 4"),
        (
            &[("x0.4", 4), ("x0.2", 8), ("W", 6)][..],
            "binding x0.4: expected one of the dimensions W, or an axis of an input such as x.2, found a name the model does not have",
        ),
    ];
    for (dims, message) in rows {
        assert_eq!(of(dims).unwrap_err(), message);
    }
}

/// A classifier's end as exporters write it for a batch of 1: pooled, reshaped with the batch in the shape, multiplied, and a token in front.
fn of_one_photo() -> ModelProto {
    let pooled = node("GlobalAveragePool", &["x"], &["p"]);
    let nodes = vec![
        pooled,
        node("Reshape", &["p", "shape"], &["r"]),
        node("Concat", &["token", "r"], &["c"]),
        node("MatMul", &["c", "w"], &["y"]),
    ];
    let axis = AttributeProto { name: "axis".into(), i: 1, type_: AttributeType::INT.into(), ..Default::default() };
    let mut model =
        model(vec![value("x", FLOAT, Some(&["1", "2", "3", "3"]))], vec![value("y", FLOAT, Some(&["1", "2"]))], nodes);
    let graph = model.graph.mut_or_insert_default();
    graph.node[2].attribute = vec![axis];
    let shape = [1i64, -1].iter().flat_map(|v| v.to_le_bytes()).collect();
    graph.initializer = vec![
        TensorProto { name: "shape".into(), dims: vec![2], data_type: INT64, raw_data: shape, ..Default::default() },
        raw_f32("token", &[1, 1], &[5.0]),
        raw_f32("w", &[3, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]),
    ];
    model
}

#[test]
fn a_batch_of_one_is_opened_again() {
    let file = open(&of_one_photo()).unwrap();
    let graph = |dims: &[(&str, usize)]| file.import(&bindings(dims, &[]));
    assert!(graph(&[]).unwrap().notes.is_empty());
    for key in ["batch", "x.0"] {
        let graph = graph(&[(key, 3)]).unwrap();
        assert_eq!(graph.notes, ["the file fixes the batch to 1; it is opened again as 3"]);
        assert_eq!(graph.ty(graph.outputs()[0].1).shape, Shape::from([3, 2]));
        // Every photo gives what it gives alone.
        let photos: Vec<f32> = (0..54).map(|i| (i * i % 17) as f32).collect();
        let whole = evaluate(&graph, &[Literal::from_f32([3, 2, 3, 3], &photos)]).unwrap()[0].to_f64();
        for (i, photo) in photos.chunks_exact(18).enumerate() {
            let one = file.import(&Bindings::default()).unwrap();
            let alone = evaluate(&one, &[Literal::from_f32([1, 2, 3, 3], photo)]).unwrap()[0].to_f64();
            assert_eq!(whole[i * 2..][..2], alone);
        }
    }
}

#[test]
fn a_batch_that_the_graph_does_not_carry_is_refused() {
    let mut model = of_one_photo();
    let graph = model.graph.mut_or_insert_default();
    graph.node.push(node("ReduceMax", &["y"], &["z"]));
    graph.output = vec![value("z", FLOAT, Some(&["1", "1"]))];
    let refused = open(&model).unwrap().import(&bindings(&[("batch", 3)], &[])).unwrap_err().to_string();
    assert_eq!(
        refused,
        "output z: axis 0: expected the batch of 3 that was asked for, of which the file fixes 1, found [1,1]"
    );
    // Another number than 1 stays fixed.
    let four = inputs(&[&["4", "2"]]);
    assert!(shapes(&four, &bindings(&[("batch", 3)], &[])).is_err());
    assert!(shapes(&four, &bindings(&[("x0.0", 3)], &[])).is_err());
}

#[test]
fn nodes_of_one_type_are_in_one_refusal() {
    let to = || AttributeProto { name: "to".into(), i: 8, type_: AttributeType::INT.into(), ..Default::default() };
    let cast = |i: usize| NodeProto { attribute: vec![to()], ..node("Cast", &["x"], &[&format!("c{i}")]) };
    let outputs = (0..10).map(|i| value(&format!("c{i}"), FLOAT, None)).collect();
    let refused = refusal(&model(vec![value("x", FLOAT, Some(&["2"]))], outputs, (0..10).map(cast).collect()));
    assert_eq!(refused, "unsupported: Cast (c0, c1, c2, c3, c4, c5, c6, c7 and 2 more): to: strings");
}

#[test]
fn an_outline_needs_no_shapes() {
    let mut model = inputs(&[&["?", "N"]]);
    model.graph.mut_or_insert_default().name = "net".into();
    let outline = open(&model).unwrap().outline();
    assert_eq!((outline.name.as_str(), outline.operators.len()), ("net", 1));
    assert_eq!(outline.outputs.len(), 1);
    assert_eq!(outline.operators["Relu"], 1);
}

#[test]
fn initializers_may_be_listed_as_inputs() {
    let nodes = vec![node("Add", &["x", "w"], &["y"])];
    let ins = |dims| vec![value("x", FLOAT, Some(&["2"])), value("w", FLOAT, Some(dims))];
    let mut old = model(ins(&["2"]), vec![value("y", FLOAT, None)], nodes);
    old.ir_version = 3;
    old.graph.mut_or_insert_default().initializer = vec![raw_f32("w", &[2], &[1.0, 2.0])];
    let file = open(&old).unwrap();
    assert_eq!(file.inputs().len(), 1);
    assert_eq!(file.import(&Bindings::default()).unwrap().inputs().len(), 1);
    old.graph.mut_or_insert_default().input = ins(&["3"]);
    assert_eq!(refusal(&old), "input w: type: expected f32[3], found an initializer of f32[2]");
}

#[test]
fn versions_are_checked() {
    let base = || inputs(&[&["2"]]);
    let rows: Vec<(ModelProto, &str)> = vec![
        (ModelProto { ir_version: 15, ..base() }, "model: ir_version: expected 1 to 14, found 15"),
        (ModelProto { ir_version: 0, ..base() }, "model: ir_version: expected 1 to 14, found none"),
        (
            ModelProto { opset_import: vec![opset("", 29)], ..base() },
            "model: opset version of domain ai.onnx: expected 1 to 28, found 29",
        ),
        (
            ModelProto { opset_import: vec![], ..base() },
            "model: opset_import: expected at least one operator set, found none",
        ),
    ];
    for (model, message) in rows {
        assert_eq!(refusal(&model), message);
    }
    assert!(import(&ModelProto { opset_import: vec![opset("ai.onnx", 13)], ..base() }).is_ok());
}

#[test]
fn limits_hold() {
    let names: Vec<String> = (0..=20).map(|i| format!("v{i}")).collect();
    let nodes = names.windows(2).map(|w| node("Relu", &[&w[0]], &[&w[1]])).collect();
    let model = model(vec![value("v0", FLOAT, Some(&["4", "4"]))], vec![value("v20", FLOAT, None)], nodes);
    let with = |change: fn(&mut Limits)| {
        let mut limits = Limits::default();
        change(&mut limits);
        let file = OnnxFile::from_bytes(bytes(&model), None, &limits)?;
        file.import(&Bindings::default()).map(|graph| graph.len())
    };
    let refused = |change| with(change).unwrap_err().to_string();
    assert_eq!(with(|l| l.tensor_elements = 16), Ok(21));
    assert_eq!(refused(|l| l.nodes = 19), "graph: limit nodes: allowed 19, needed 20");
    assert_eq!(refused(|l| l.tensor_elements = 15), "v0: limit tensor_elements: allowed 15, needed 16");
    assert_eq!(refused(|l| l.rank = 1), "v0: limit rank: allowed 1, needed 2");
    assert!(refused(|l| l.file_bytes = 10).starts_with("model: limit file_bytes: allowed 10, needed "));
}

#[test]
fn files_that_are_no_models_say_what_they_are() {
    let refused = |bytes: &'static [u8]| {
        let file = OnnxFile::from_bytes(bytes::Bytes::from_static(bytes), None, &Limits::default());
        file.map(drop).unwrap_err().to_string()
    };
    assert_eq!(refused(b""), "not an ONNX model: the file is empty");
    assert!(refused(b"version https://git-lfs.github.com/spec/v1\n").contains("Git LFS pointer"));
    assert!(refused(b"\n<!DOCTYPE html>").contains("HTML"));
    assert!(refused(&[0x3a, 0xff, 0xff, 0x7f]).contains("ModelProto.graph"));
    let missing = OnnxFile::open(std::path::Path::new("no/such.onnx"), &Limits::default()).map(drop).unwrap_err();
    assert!(matches!(&missing, Error::File { path, .. } if path.ends_with("such.onnx")), "{missing}");
}
