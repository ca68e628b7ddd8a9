//! Graphs built from architectures: against golden activations, against ONNX imports, and their weights from files and seeds.

mod support;

use std::collections::BTreeMap;

use bytes::Bytes;
use fornax_compiler::ir::{Graph, evaluate};
use fornax_compiler::types::TensorType;
use fornax_onnx::{Bindings, Limits, OnnxFile};
use fornax_scaling::architecture::{Architecture, Padding};
use fornax_scaling::build::{BuildOptions, Outputs, build};
use fornax_scaling::parameters::parameters;
use fornax_scaling::random::Random;
use fornax_scaling::weights::{Bound, Classifier, Error, Hints, Scheme, StateDict, Weights};
use support::{Family, distance, fused, native, npy, scaled, shared};

const GOLDEN: &str = "reference/golden_small";
const TOLERANCE: f64 = 1e-4;

fn small(family: Family, padding: Padding, eps: f64) -> Architecture {
    scaled(family, (0.25, 0.35), 10, padding, eps)
}

fn open(path: &str) -> Option<StateDict> {
    Some(StateDict::open(&shared(path)?, u64::MAX).expect("a state dict"))
}

fn options(batch: usize, side: usize, outputs: Outputs) -> BuildOptions {
    BuildOptions { batch, side: (side, side), outputs }
}

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
        let operands: Vec<usize> = graph.operands(*id).iter().map(|o| number[o]).collect();
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

/// A safetensors file of the given tensors.
fn file(tensors: &BTreeMap<String, (safetensors::Dtype, Vec<usize>, Vec<u8>)>) -> Bytes {
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        (name.clone(), safetensors::tensor::TensorView::new(*dtype, shape.clone(), bytes).expect("a tensor"))
    });
    safetensors::serialize(views, None).expect("a file").into()
}

/// The tensors of an architecture as `scheme` stores them.
fn stored(
    architecture: &Architecture,
    weights: &dyn Weights,
    scheme: Scheme,
) -> BTreeMap<String, (safetensors::Dtype, Vec<usize>, Vec<u8>)> {
    let mut out = BTreeMap::new();
    for parameter in parameters(architecture) {
        let name = scheme.names(architecture, &parameter).first().cloned().expect("a name");
        let bytes = weights.constant(&parameter).expect("a constant").bytes().expect("elements").to_vec();
        out.insert(name, (safetensors::Dtype::F32, scheme.stored_shape(&parameter), bytes));
    }
    out
}

/// Row-major elements of four bytes, axes permuted.
fn transposed(bytes: &[u8], shape: &[usize], axes: &[usize]) -> Vec<u8> {
    let literal = fornax_compiler::ops::literal::Literal::from_bytes(TensorType::f32(shape), bytes).expect("elements");
    let op = fornax_compiler::ops::Transpose { perm: axes.to_vec() };
    fornax_compiler::ops::Op::from(op).evaluate(&[&literal]).expect("a transpose").to_bytes()
}

/// The V1 weights renamed by the reference's own table, row by row.
fn renamed(column: &str) -> Option<Bytes> {
    let table = std::fs::read(shared(&format!("{GOLDEN}/rename_v1.json"))?).expect("a table");
    let table: serde_json::Value = serde_json::from_slice(&table).expect("a table");
    let weights = std::fs::read(shared(&format!("{GOLDEN}/v1_weights_timm.safetensors"))?).expect("weights");
    let weights = safetensors::SafeTensors::deserialize(&weights).expect("weights");
    let mut out = BTreeMap::new();
    for row in table["rows"].as_array().expect("rows") {
        let Some(name) = row[column].as_str() else { continue };
        let timm = row["timm"].as_str().expect("a name");
        let Ok(tensor) = weights.tensor(timm) else { continue };
        let (mut shape, mut bytes) = (tensor.shape().to_vec(), tensor.data().to_vec());
        let axes: &[usize] = match shape.len() {
            4 if timm.contains("conv_dw") => &[2, 3, 0, 1],
            4 => &[2, 3, 1, 0],
            2 => &[1, 0],
            _ => &[],
        };
        if column == "keras" && !axes.is_empty() {
            bytes = transposed(&bytes, &shape, axes);
            shape = axes.iter().map(|axis| shape[*axis]).collect();
        }
        out.insert(name.to_string(), (tensor.dtype(), shape, bytes));
    }
    Some(file(&out))
}

#[test]
fn every_scheme_gives_the_same_constants() {
    let architecture = small(Family::V1, Padding::Same, 1e-3);
    let Some(timm) = renamed("timm") else { return };
    let bind = |bytes: Bytes, scheme: Scheme| -> Bound {
        let state = StateDict::from_bytes("renamed", bytes).expect("a state dict");
        assert_eq!(state.scheme().expect("a scheme"), scheme);
        state.bind(&architecture, scheme, Classifier::File).expect("a fit")
    };
    let expected = bind(timm, Scheme::Timm);
    for (column, scheme) in [
        ("torchvision", Scheme::Torchvision),
        ("efficientnet_pytorch", Scheme::EfficientNetPytorch),
        ("huggingface", Scheme::Transformers),
        ("keras", Scheme::Keras),
    ] {
        let found = bind(renamed(column).expect("weights"), scheme);
        for parameter in parameters(&architecture) {
            let constant = |weights: &Bound| weights.constant(&parameter).expect("a constant");
            assert_eq!(constant(&expected), constant(&found), "{column}: {}", parameter.name);
        }
    }
}

/// Names that are proven for V1 hold for what V1 lacks as far as they are consistent.
#[test]
fn names_are_unique_and_found_again() {
    for (family, schemes) in [
        (Family::V1, &Scheme::ALL[..]),
        (Family::Lite, &[Scheme::Timm]),
        (Family::V2, &[Scheme::Timm, Scheme::Torchvision, Scheme::Keras]),
    ] {
        let architecture = small(family, Padding::Same, 1e-3);
        for scheme in schemes {
            let tensors = stored(&architecture, &Random { seed: 3 }, *scheme);
            assert_eq!(tensors.len(), parameters(&architecture).len(), "{}", scheme.name());
            let state = StateDict::from_bytes("stored", file(&tensors)).expect("a state dict");
            assert_eq!(state.scheme().expect("a scheme"), *scheme);
            state.bind(&architecture, *scheme, Classifier::File).expect("a fit");
        }
    }
}

#[test]
fn wrappers_and_half_precision_are_taken_off() {
    let architecture = small(Family::V1, Padding::Same, 1e-3);
    let random = Random { seed: 3 };
    let halves = stored(&architecture, &random, Scheme::Timm).into_iter().map(|(name, (_, shape, bytes))| {
        let floats = bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b));
        let bytes = floats.flat_map(|v| half::bf16::from_f32(v).to_le_bytes()).collect();
        (format!("module.model.{name}"), (safetensors::Dtype::BF16, shape, bytes))
    });
    let state = StateDict::from_bytes("halves", file(&halves.collect())).expect("a state dict");
    let bound = state.bind(&architecture, state.scheme().expect("a scheme"), Classifier::File).expect("a fit");
    let stem = &parameters(&architecture)[0];
    let constant = bound.constant(stem).expect("a constant");
    assert_eq!(constant.origins, ["module.model.conv_stem.weight"]);
    for (found, exact) in constant.to_f32().expect("floats").iter().zip(random.values(stem)) {
        assert_eq!(*found, half::bf16::from_f32(exact).to_f32());
    }
}

#[test]
fn tensors_that_do_not_fit_are_listed_together() {
    let architecture = small(Family::V1, Padding::Same, 1e-3);
    let mut tensors = stored(&architecture, &Random { seed: 3 }, Scheme::Timm);
    tensors.remove("blocks.1.0.conv_dw.weight");
    tensors.insert("blocks.9.0.conv_dw.weight".into(), (safetensors::Dtype::F32, vec![1], vec![0; 4]));
    tensors.insert("bn1.num_batches_tracked".into(), (safetensors::Dtype::I64, vec![], vec![0; 8]));
    tensors.insert("bn1.weight".into(), (safetensors::Dtype::F32, vec![4], vec![0; 16]));
    tensors.insert("bn1.bias".into(), (safetensors::Dtype::I64, vec![8], vec![0; 64]));
    tensors.insert("bn2.running_var".into(), (safetensors::Dtype::F32, vec![320], f32::NAN.to_le_bytes().repeat(320)));
    let state = StateDict::from_bytes("w.safetensors", file(&tensors)).expect("a state dict");
    let error = state.bind(&architecture, Scheme::Timm, Classifier::File).expect_err("faults");
    let expected = [
        "w.safetensors: 5 tensors do not fit test_0.25_0.35 in timm naming:",
        "  misshapen: bn1.weight: expected [8], found [4]",
        "  type: bn1.bias: expected F32, F16, BF16 or F64, found I64",
        "  missing: blocks.1.0.conv_dw.weight [48, 1, 3, 3]",
        "  variance: bn2.running_var: expected finite values from 0 on, found NaN",
        "  unexpected: blocks.9.0.conv_dw.weight [1]",
    ];
    assert_eq!(error.to_string(), expected.join("\n"));
    let wrong = state.bind(&architecture, Scheme::Torchvision, Classifier::File).expect_err("faults").to_string();
    assert_eq!(wrong.lines().count(), 22);
    assert!(wrong.lines().last().is_some_and(|line| line.starts_with("  and ") && line.ends_with(" more")), "{wrong}");
}

#[test]
fn a_classifier_of_other_classes_is_made_anew() {
    let trained = small(Family::V1, Padding::Same, 1e-3);
    let tensors = stored(&trained, &Random { seed: 3 }, Scheme::Timm);
    let state = StateDict::from_bytes("w", file(&tensors)).expect("a state dict");
    let wanted = Architecture { classes: 4, ..trained };
    let error = state.bind(&wanted, Scheme::Timm, Classifier::File).expect_err("faults").to_string();
    assert!(
        error.contains("classifier.weight: expected [4, 320], found [10, 320] (the classifier can be made anew"),
        "{error}"
    );
    let bound = state.bind(&wanted, Scheme::Timm, Classifier::Seeded(9)).expect("a fit");
    let graph = build(&wanted, &options(1, 32, Outputs::Logits), &bound).expect("a graph");
    assert_eq!(graph.node(graph.outputs()[0].1).ty, TensorType::f32([1, 4]));
    let unused = state.bind(&wanted, Scheme::Timm, Classifier::Unused).expect("a fit");
    build(&wanted, &options(1, 32, Outputs::Pooled), &unused).expect("a graph");
    assert!(build(&wanted, &options(1, 32, Outputs::Logits), &unused).is_err());
}

#[test]
fn files_without_a_scheme_and_malformed_files_are_refused() {
    let tensors = BTreeMap::from([("layer.weight".to_string(), (safetensors::Dtype::F32, vec![1], vec![0; 4]))]);
    let state = StateDict::from_bytes("w", file(&tensors)).expect("a state dict");
    assert!(matches!(state.scheme(), Err(Error::Scheme { .. })));
    for bytes in [&b""[..], b"12345678", &[255; 64], &file(&tensors)[..60]] {
        let error = StateDict::from_bytes("w", Bytes::copy_from_slice(bytes));
        assert!(matches!(error, Err(Error::NotSafetensors { .. })), "{bytes:?}");
    }
}

#[test]
fn random_weights_are_the_same_everywhere() {
    let architecture = scaled(Family::V1, (1.0, 1.0), 1000, Padding::Same, 1e-3);
    let random = Random { seed: 1 };
    let list = parameters(&architecture);
    let find = |name: &str| list.iter().find(|p| p.name == name).expect("a parameter");
    let stem = random.values(find("conv_stem.weight"));
    assert_eq!(stem, random.values(find("conv_stem.weight")));
    assert_ne!(stem, Random { seed: 2 }.values(find("conv_stem.weight")));
    assert_eq!(stem[..3].iter().map(|v| v.to_bits()).collect::<Vec<_>>(), [3_192_030_314, 1_024_579_863, 987_711_002]);
    let deviation = |name: &str| {
        let values = random.values(find(name));
        (values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
    };
    for (name, expected) in [
        ("conv_head.weight", (2.0f64 / 1280.0).sqrt()),
        ("blocks.5.2.conv_dw.weight", (2.0f64 / 25.0).sqrt()),
        ("classifier.weight", (1.0f64 / 3000.0).sqrt()),
    ] {
        assert!((deviation(name) / expected - 1.0).abs() < 0.02, "{name}: {} {expected}", deviation(name));
    }
    assert!(random.values(find("classifier.bias")).iter().all(|v| *v == 0.0));
    assert!(random.values(find("bn1.running_var")).iter().all(|v| *v == 1.0));
}

#[test]
fn b0_ends_as_twenty_one_nodes() {
    let architecture = scaled(Family::V1, (1.0, 1.0), 1000, Padding::Same, 1e-3);
    let count: usize =
        parameters(&architecture).iter().filter(|p| !p.name.contains("running")).map(|p| p.numel()).sum();
    assert_eq!((count, parameters(&architecture).len()), (5_288_548, 311));
    let graph = build(&architecture, &BuildOptions::of(&architecture), &Random { seed: 1 }).expect("a graph");
    let after = fused(graph);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    after.ids().filter_map(|id| after.node(id).op()).for_each(|op| *counts.entry(op.name()).or_default() += 1);
    assert_eq!(counts, BTreeMap::from([("conv", 2), ("gemm", 1), ("mbconv", 16), ("reduce", 1), ("reshape", 1)]));
}

#[test]
fn outputs_are_chosen_by_reduction() {
    let architecture = scaled(Family::V1, (0.25, 0.35), 10, Padding::Same, 1e-3);
    let named = |outputs| -> Result<Vec<String>, String> {
        let graph = build(&architecture, &options(1, 64, outputs), &Random { seed: 1 }).map_err(|e| e.to_string())?;
        Ok(graph.outputs().iter().map(|(name, id)| format!("{name} {}", graph.node(*id).ty.shape[2])).collect())
    };
    let all = named(Outputs::Reductions(vec![2, 4, 8, 16, 32])).expect("outputs");
    assert_eq!(all, ["stage0 32", "stage1 16", "stage2 8", "stage4 4", "stage6 2"]);
    let error = |outputs| named(outputs).expect_err("a refusal");
    let choices = "reductions: expected one or more of [2, 4, 8, 16, 32], each once, found";
    assert_eq!(error(Outputs::Reductions(vec![3])), format!("{choices} 3"));
    assert_eq!(error(Outputs::Reductions(vec![4, 4])), format!("{choices} 4 twice"));
    assert_eq!(
        error(Outputs::Stages(vec![])),
        "stages: expected one or more of [0, 1, 2, 3, 4, 5, 6], each once, found none"
    );
    let empty = BuildOptions { batch: 0, ..BuildOptions::of(&architecture) };
    let error = build(&architecture, &empty, &Random { seed: 1 }).expect_err("a refusal");
    assert_eq!(error.to_string(), "batch: expected 1 or more, found 0");
}
