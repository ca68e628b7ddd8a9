//! EfficientNet-B0 ends as stem, sixteen blocks, head, mean and classifier, whoever exported it, and computes the same.

mod support;

use std::collections::BTreeMap;

use fornax_compiler::pipeline::{PipelineOptions, optimise, plan_of};
use fornax_ir::Verdict;
use fornax_ir::graph::{Graph, evaluate};
use fornax_ir::inputs::Bindings;
use fornax_ir::ops::literal::Literal;
use fornax_ir::types::{TensorType, random_values};
use fornax_onnx::{Limits, OnnxFile};
use support::efficientnet::{Exporter, Padding, b0};

const SIDE: usize = 64;

fn imported(exporter: Exporter, padding: Padding) -> Graph {
    let bytes = b0(exporter, padding, SIDE, 10).into();
    let file = OnnxFile::from_bytes(bytes, None, &Limits::default()).expect("a model");
    file.import(&Bindings::default()).expect("a graph")
}

fn operators(graph: &Graph) -> BTreeMap<&'static str, usize> {
    let mut counts = BTreeMap::new();
    for op in graph.ids().filter_map(|id| graph.node(id).op()) {
        *counts.entry(op.name()).or_default() += 1;
    }
    counts
}

fn fuses_to_blocks(exporter: Exporter, padding: Padding) {
    let before = imported(exporter, padding);
    let optimised = optimise(before.clone(), &PipelineOptions::default()).expect("passes run");
    let after = &optimised.graph;
    let expected = BTreeMap::from([("conv", 2), ("gemm", 1), ("mbconv", 16), ("reduce", 1), ("reshape", 1)]);
    let remarks: Vec<String> =
        optimised.remarks.iter().filter(|r| r.verdict == Verdict::Declined).map(ToString::to_string).collect();
    assert_eq!(operators(after), expected, "{exporter:?}, {padding:?}\n{}\n{after}", remarks.join("\n"));

    let ty = TensorType::f32([1, 3, SIDE, SIDE]);
    let pixels = random_values(5, ty.shape.numel()).into_iter().map(f64::from).collect();
    let image = [Literal::new_float(ty, pixels)];
    let expected = evaluate(&before, &image).expect("results before")[0].to_f64();
    let found = evaluate(after, &image).expect("results after")[0].to_f64();
    let largest = expected.iter().fold(0.0, |m: f64, v| m.max(v.abs()));
    assert!(largest > 0.0);
    for (e, f) in expected.iter().zip(&found) {
        assert!((e - f).abs() <= 1e-4 * largest, "{exporter:?}, {padding:?}: expected {e}, found {f}");
    }
}

#[test]
fn torch_script_exports_fuse() {
    fuses_to_blocks(Exporter::TorchScript, Padding::Symmetric);
    fuses_to_blocks(Exporter::TorchScript, Padding::Same);
}

#[test]
fn dynamo_exports_fuse() {
    fuses_to_blocks(Exporter::Dynamo, Padding::Symmetric);
    fuses_to_blocks(Exporter::Dynamo, Padding::Same);
}

/// Operators and kernels of B0, for one named target, so that a refactor leaves them untouched. Constants are left out.
#[test]
fn the_graph_and_the_plan_of_b0_stay() {
    let graph =
        optimise(imported(Exporter::Dynamo, Padding::Same), &PipelineOptions::default()).expect("passes run").graph;
    let without = |text: String, constant: fn(&str) -> bool| {
        text.lines().filter(|line| !constant(line)).collect::<Vec<_>>().join("\n")
    };
    insta::assert_snapshot!("efficientnet_b0_graph", without(graph.to_string(), |line| line.contains(" = constant ")));
    let plan = plan_of(&graph, &"x86-64-fma".parse().expect("a target")).expect("a plan");
    insta::assert_snapshot!("efficientnet_b0_plan", without(plan.to_string(), |line| line.starts_with('@')));
}
