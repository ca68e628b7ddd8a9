//! Values: golden activations, trained networks, and the graphs that imports give.

use std::collections::BTreeMap;

use fornax_ir::graph::{Graph, evaluate};
use fornax_ir::inputs::Bindings;
use fornax_onnx::{Limits, OnnxFile};
use fornax_scaling::architecture::{Architecture, Padding};
use fornax_scaling::build::{Outputs, build};
use fornax_scaling::weights::{Classifier, Hints};

use crate::support::{Family, distance, fused, native, npy, scaled, shared};
use crate::{GOLDEN, TOLERANCE, open, options, small};

/// Every stage, the pooled features and the logits at the given sizes, by the evaluator and natively.
fn golden(folder: &str, weights: &str, architecture: &Architecture, sides: &[usize]) {
    let Some(folder) = shared(&format!("{GOLDEN}/{folder}")) else { return };
    let state = open(&format!("{GOLDEN}/{weights}")).expect("weights");
    let weights = state.bind(architecture, state.scheme().expect("a scheme"), Classifier::File).expect("a fit");
    for side in sides {
        let input = npy(&folder.join(format!("input_{side}.npy")));
        let stages = Outputs::Stages((0..architecture.stages.len()).collect());
        for outputs in [stages, Outputs::Pooled, Outputs::Logits] {
            let options = options(input.ty.shape[0], *side, outputs);
            let graph = build(architecture, &options, &weights).expect("a graph");
            let reference = evaluate(&graph, std::slice::from_ref(&input)).expect("results");
            let native = native(&graph, &input);
            for (i, (name, _)) in graph.outputs().iter().enumerate() {
                let expected = npy(&folder.join(format!("out_{side}_{name}.npy")));
                let far = [distance(&expected, &reference[i]), distance(&expected, &native[i])];
                eprintln!("{} {side} {name}: evaluator {:.1e}, native {:.1e}", folder.display(), far[0], far[1]);
                assert!(far.iter().all(|d| *d <= TOLERANCE), "{} {side} {name}: {far:?}", folder.display());
            }
        }
    }
}

#[test]
fn symmetric_v1_is_golden() {
    let architecture = small(Family::V1, Padding::Symmetric, 1e-5);
    golden("v1_symmetric", "v1_weights_timm.safetensors", &architecture, &[64, 61]);
}

#[test]
fn same_v1_is_golden() {
    let architecture = small(Family::V1, Padding::Same, 1e-3);
    golden("v1_tf_same", "v1_weights_timm.safetensors", &architecture, &[64, 61]);
}

#[test]
fn lite_is_golden() {
    let architecture = small(Family::Lite, Padding::Symmetric, 1e-5);
    golden("lite_symmetric", "lite_weights_timm.safetensors", &architecture, &[64]);
}

#[test]
fn v2_is_golden() {
    let architecture = small(Family::V2, Padding::Same, 1e-3);
    golden("v2_tf_same", "v2_weights_timm.safetensors", &architecture, &[64]);
}

/// The nodes in order with operands by number: no names, constants by type only.
fn anonymous(graph: &Graph) -> String {
    let graph = graph.renumbered().expect("an order");
    let order = graph.topological().expect("an order");
    let number: BTreeMap<_, _> = order.iter().enumerate().map(|(i, id)| (*id, i)).collect();
    let mut out = String::new();
    for id in &order {
        let node = graph.node(*id);
        let operands: Vec<usize> = graph.operands(*id).iter().map(|o| number[&o.node]).collect();
        let attributes = node.op().map(|op| op.attributes());
        out += &format!("{} = {} {attributes:?} {operands:?} : {}\n", number[id], node.mnemonic(), node.ty);
    }
    out
}

fn imported(path: &std::path::Path, shape: [usize; 4]) -> Graph {
    let file = OnnxFile::open(path, &Limits::default()).expect("a model");
    let name = file.inputs()[0].name.clone();
    let shapes = BTreeMap::from([(name, shape.to_vec())]);
    file.import(&Bindings { shapes, ..Bindings::default() }).expect("a graph")
}

/// The graph of a spec is the import's of the same network, and so are its constants.
fn equals_import(onnx: &str, weights: &str, architecture: &Architecture, shape: [usize; 4]) {
    let Some(path) = shared(onnx) else { return };
    let state = open(weights).expect("weights");
    let bound = state.bind(architecture, state.scheme().expect("a scheme"), Classifier::File).expect("a fit");
    let built = build(architecture, &options(shape[0], shape[2], Outputs::Logits), &bound).expect("a graph");
    let (built, imported) = (fused(built), fused(imported(&path, shape)));
    assert_eq!(anonymous(&built), anonymous(&imported));
    let constants = |g: &Graph| -> Vec<Vec<f32>> {
        g.ids().filter_map(|id| g.node(id).constant()).filter_map(|c| c.to_f32()).collect()
    };
    for (a, b) in constants(&built).iter().zip(&constants(&imported)) {
        let largest = a.iter().fold(0.0f32, |m, v| m.max(v.abs()));
        assert!(a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-6 * largest));
    }
}

#[test]
fn graphs_equal_imports_after_the_passes() {
    let weights = format!("{GOLDEN}/v1_weights_timm.safetensors");
    let same = small(Family::V1, Padding::Same, 1e-3);
    equals_import(&format!("{GOLDEN}/v1_tf_same/model_same_upper.onnx"), &weights, &same, [2, 3, 64, 64]);
    let symmetric = small(Family::V1, Padding::Symmetric, 1e-5);
    equals_import(&format!("{GOLDEN}/v1_symmetric/model_torch_export.onnx"), &weights, &symmetric, [2, 3, 64, 64]);
    let v2 = small(Family::V2, Padding::Same, 1e-3);
    let weights = format!("{GOLDEN}/v2_weights_timm.safetensors");
    equals_import(&format!("{GOLDEN}/v2_tf_same/model_same_upper.onnx"), &weights, &v2, [2, 3, 64, 64]);
    for (model, factors, side) in
        [("efficientnet_w0.35_d0.6_signdigits", (0.35, 0.6), 64), ("efficientnet_b0_signdigits", (1.0, 1.0), 64)]
    {
        let architecture = scaled(Family::V1, factors, 10, Padding::Symmetric, 1e-5);
        let file = |name: &str| format!("models/{model}/{name}");
        equals_import(&file("model.onnx"), &file("weights.safetensors"), &architecture, [1, 3, side, side]);
    }
}

#[test]
fn trained_networks_give_their_logits() {
    for (model, factors) in
        [("efficientnet_w0.35_d0.6_signdigits", (0.35, 0.6)), ("efficientnet_b0_signdigits", (1.0, 1.0))]
    {
        let Some(folder) = shared(&format!("models/{model}")) else { return };
        let state = open(&format!("models/{model}/weights.safetensors")).expect("weights");
        let architecture = scaled(Family::V1, factors, 10, Padding::Symmetric, 1e-5);
        let scheme = state.scheme().expect("a scheme");
        let defaults = scheme.defaults(&architecture, &Hints::beside(&folder.join("weights.safetensors")));
        assert_eq!((defaults.eps, defaults.padding, defaults.certain), (1e-5, Padding::Symmetric, true));
        let bound = state.bind(&architecture, scheme, Classifier::File).expect("a fit");
        let graph = build(&architecture, &options(20, 64, Outputs::Logits), &bound).expect("a graph");
        let found = native(&graph, &npy(&folder.join("input_batch20.npy")));
        let far = distance(&npy(&folder.join("output_batch20.npy")), &found[0]);
        eprintln!("{model}: {far:.1e}");
        assert!(far <= TOLERANCE, "{model}: {far}");
    }
}
