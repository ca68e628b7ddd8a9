//! Training graphs of whole networks on the reference evaluator, against golden losses, gradients and steps of torch in `f64`.
//!
//! A golden gradient is a summary: its norm, its sum, and its product with a seeded stream. Bounds are those of the files
//! (`accept`): what `f32` may be off by.

mod compiled;

use std::collections::BTreeMap;

use fornax_ir::graph::{Environment, Graph, evaluate_in};
use fornax_ir::ops::literal::Literal;
use fornax_ir::pipeline::{PipelineOptions, optimise};
use fornax_ir::training::{Norm, Optimiser, Setting, Training, TrainingOptions};
use fornax_ir::types::{TensorType, random_values};
use fornax_scaling::architecture::Padding;
use fornax_scaling::build::{BuildOptions, Outputs, build};
use fornax_scaling::weights::Classifier;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;

use crate::support::{Family, npy, shared};
use crate::{GOLDEN, open, small};

const CLASSES: usize = 10;
/// Seed of the stream that golden summaries are products with.
const PROBE: u64 = 99;

fn json(name: &str) -> Option<Value> {
    let path = shared(&format!("{GOLDEN}/train2/{name}.json"))?;
    Some(serde_json::from_slice(&std::fs::read(path).expect("a readable file")).expect("JSON"))
}

/// The tensors of a golden file.
fn tensors(name: &str) -> BTreeMap<String, Literal> {
    let path = shared(&format!("{GOLDEN}/train2/{name}.safetensors")).expect("what lies next to the JSON");
    let bytes = std::fs::read(path).expect("a readable file");
    let file = SafeTensors::deserialize(&bytes).expect("tensors");
    let literal = |(name, view): (String, safetensors::tensor::TensorView<'_>)| {
        let dtype =
            if view.dtype() == Dtype::F64 { fornax_ir::types::DType::F64 } else { fornax_ir::types::DType::F32 };
        let ty = TensorType::new(dtype, view.shape());
        (name, Literal::from_bytes(ty, view.data()).expect("elements"))
    };
    file.tensors().into_iter().map(literal).collect()
}

fn floats(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(items) => items.iter().flat_map(floats).collect(),
        other => other.as_f64().into_iter().collect(),
    }
}

fn f32s(shape: &[usize], values: Vec<f64>) -> Literal {
    Literal::new_float(TensorType::f32(shape), values)
}

/// The images that a golden file names.
fn images(named: &str) -> Literal {
    if let Some(path) = named.strip_prefix("golden_small ") {
        return npy(&shared(&format!("{GOLDEN}/{path}")).expect("golden images"));
    }
    if let Some(name) = named.strip_prefix("inputs.safetensors ") {
        return tensors("inputs")[name].clone();
    }
    // splitmix64 seed S, NxCxHxW
    let (seed, shape) = named.trim_start_matches("splitmix64 seed ").split_once(", ").expect("a seed and a shape");
    let shape: Vec<usize> = shape.split('x').map(|extent| extent.parse().expect("an extent")).collect();
    Literal::from_f32(shape.clone(), &random_values(seed.parse().expect("a seed"), shape.iter().product()))
}

/// A golden network for these images, or `None` if it is none of a family.
fn network(name: &str, x: &Literal) -> Option<Graph> {
    let (family, padding, eps, weights) = match name {
        "v1_tf_same" => (Family::V1, Padding::Same, 1e-3, "v1"),
        "v1_symmetric" => (Family::V1, Padding::Symmetric, 1e-5, "v1"),
        "v2_tf_same" => (Family::V2, Padding::Same, 1e-3, "v2"),
        "lite_symmetric" => (Family::Lite, Padding::Symmetric, 1e-5, "lite"),
        _ => return None,
    };
    let architecture = small(family, padding, eps);
    let state = open(&format!("{GOLDEN}/{weights}_weights_timm.safetensors")).expect("weights");
    let weights = state.bind(&architecture, state.scheme().expect("a scheme"), Classifier::File).expect("a fit");
    let (batch, side) = (x.ty.shape[0], (x.ty.shape[2], x.ty.shape[3]));
    let options = BuildOptions { batch, side, outputs: Outputs::Logits };
    Some(build(&architecture, &options, &weights).expect("a graph"))
}

/// Targets as a caller makes them: `((1 - e) t + e / K) w`, divided as torch divides.
fn targets(labels: &Value, smoothing: f64, weights: Option<&[f64]>) -> Literal {
    let ones = vec![1.0; CLASSES];
    let weight = weights.unwrap_or(&ones);
    let (rows, divisor): (Vec<f64>, f64) = match labels {
        Value::String(name) => {
            let soft = tensors("inputs")[name.as_str()].to_f64();
            let images = soft.len() / CLASSES;
            (soft, images as f64)
        }
        list => {
            let labels: Vec<usize> = floats(list).iter().map(|label| *label as usize).collect();
            let hot = labels.iter().flat_map(|label| (0..CLASSES).map(move |k| f64::from(k == *label)));
            (hot.collect(), labels.iter().map(|label| weight[*label]).sum())
        }
    };
    let smooth =
        |(i, t): (usize, f64)| ((1.0 - smoothing) * t + smoothing / CLASSES as f64) * weight[i % CLASSES] / divisor;
    let shape = [rows.len() / CLASSES, CLASSES];
    f32s(&shape, rows.into_iter().enumerate().map(smooth).collect())
}

/// Fails unless values are the golden summary within `bound`, an L2 norm of what may differ.
fn expect_summary(what: &str, found: &[f64], golden: &Value, bound: f64) {
    let stream = random_values(PROBE, found.len());
    let dot: f64 = found.iter().zip(stream).map(|(v, s)| v * f64::from(s)).sum();
    let l2 = found.iter().map(|v| v * v).sum::<f64>().sqrt();
    let sum: f64 = found.iter().sum();
    // A product with a random stream moves by as much as the norm of the difference, a sum by its size's root as much.
    let root = (found.len() as f64).sqrt();
    for (field, value, bound) in [("l2", l2, bound), ("dot", dot, 3.0 * bound), ("sum", sum, root * bound)] {
        let expected = golden[field].as_f64().expect("a number");
        // Summaries have twelve digits.
        let bound = bound + 1e-11 * expected.abs();
        assert!((value - expected).abs() <= bound, "{what}.{field}: {expected}, found {value}, bound {bound}");
    }
    for (found, expected) in found.iter().zip(floats(&golden["first"])) {
        assert!((found - expected).abs() <= bound + 1e-11 * expected.abs(), "{what}: {expected}, found {found}");
    }
}

fn l2(golden: &Value) -> f64 {
    golden["l2"].as_f64().expect("a norm")
}

/// What a case trains, and how.
struct Case<'a> {
    trained: &'a dyn Fn(&str) -> bool,
    norms: &'a dyn Fn(&str) -> Norm,
    masks: [bool; 2],
    optimiser: Optimiser,
    setting: &'a dyn Fn(&str, &TensorType) -> Setting,
    extras: [bool; 2],
}

impl Case<'_> {
    fn build(&self, graph: &Graph) -> (Training, Environment) {
        let options = TrainingOptions {
            trained: self.trained,
            norms: self.norms,
            momentum: 0.1,
            dropout: self.masks[0],
            drop_path: self.masks[1],
            optimiser: self.optimiser,
            setting: self.setting,
            clip: self.extras[0],
            ema: self.extras[1],
        };
        let mut training = Training::new(graph, &options).expect("training graphs");
        // As they are compiled: after the passes.
        for graph in [&mut training.gradients, &mut training.mapped, &mut training.update] {
            *graph = optimise(graph.clone(), &PipelineOptions::default()).expect("passes").graph;
        }
        let variables = Environment::new(&training.gradients).expect("variables");
        (training, variables)
    }
}

fn norm_of(case: &Value) -> Norm {
    if case["bn"].as_str().is_some_and(|bn| bn.starts_with("train")) { Norm::Trained } else { Norm::Fixed }
}

fn plain(_: &str, _: &TensorType) -> Setting {
    Setting { rate: 1.0, decay: 0.0 }
}

/// The gradients of one batch against a golden case; `mask` gives the input of a name.
fn check(name: &str, golden: &Value, inputs: [Literal; 2], masks: [bool; 2], mask: &dyn Fn(&str) -> Literal) {
    let [x, targets] = inputs;
    let Some(graph) = network(golden["network"].as_str().expect("a network"), &x) else { return };
    let grads = golden["grads"].as_object().expect("gradients");
    // A norm is trained as its scale is.
    let norms = |norm: &str| if grads.contains_key(&format!("{norm}.weight")) { norm_of(golden) } else { Norm::Fixed };
    let case = Case {
        trained: &|parameter| grads.contains_key(parameter),
        norms: &norms,
        masks,
        optimiser: Optimiser::Sgd { momentum: 0.0, nesterov: false },
        setting: &plain,
        extras: [false; 2],
    };
    let (training, mut variables) = case.build(&graph);
    let names = training.gradients.inputs().iter().map(|id| training.gradients.name_of(*id));
    let feed: Vec<Literal> = names
        .map(|input| match input {
            "input" => x.clone(),
            "targets" => targets.clone(),
            other => mask(
                other
                    .strip_prefix("drop_path.")
                    .map_or(other, |n| &training.blocks[n.parse::<usize>().expect("a number")]),
            ),
        })
        .collect();
    let outputs = evaluate_in(&training.gradients, &feed, &mut variables).expect("a run");
    let accept = |field: &str| golden["accept"][field].as_f64();
    let (loss, expected): (f64, _) = (outputs[0].to_f64().iter().sum(), golden["loss"].as_f64().expect("a loss"));
    let bound = accept("loss").expect("a bound");
    assert!((loss - expected).abs() <= bound * expected.abs().max(1.0), "{name}: loss {expected}, found {loss}");
    let logits = floats(&golden["logits"]);
    let largest = logits.iter().fold(0.0f64, |a, v| a.max(v.abs()));
    let far = logits.iter().zip(outputs[1].to_f64()).map(|(a, b)| (a - b).abs()).fold(0.0f64, f64::max);
    assert!(far <= accept("logits_of_max").expect("a bound") * largest, "{name}: logits {far} of {largest}");
    let found = evaluate_in(&training.mapped, &[], &mut variables).expect("gradients");
    assert_eq!(found.len(), grads.len(), "{name}");
    let (total, mean) =
        (golden["grad_l2"].as_f64().expect("a norm"), golden["mean_tensor_l2"].as_f64().expect("a norm"));
    let zeros: Vec<&str> =
        golden["zero_gradients"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for ((parameter, _), gradient) in training.mapped.outputs().iter().zip(&found) {
        let (gradient, what) = (gradient.to_f64(), format!("{name}: {parameter}"));
        if zeros.contains(&parameter.as_str()) {
            let norm = gradient.iter().map(|v| v * v).sum::<f64>().sqrt();
            assert!(norm <= accept("zero_over_grad_l2").unwrap_or(1e-6) * total, "{what}: {norm} of {total}");
            continue;
        }
        let expected = &grads[parameter];
        let bound = accept("gradient_bounded").expect("a bound") * l2(expected).max(1e-3 * mean);
        expect_summary(&what, &gradient, expected, bound);
    }
    if let (Some(after), Some(bound)) = (golden["after"].as_object(), accept("after")) {
        assert_eq!(training.running.len(), after.len(), "{name}");
        for (average, expected) in after {
            let found = variables.get(average).expect("a running average").to_f64();
            expect_summary(&format!("{name}: {average}"), &found, expected, bound * l2(expected).max(1.0));
        }
    }
}

fn no_mask(name: &str) -> Literal {
    panic!("no mask {name}")
}

/// Every case of a file, as far as its networks are of a family.
fn check_file(file: &str, each: impl Fn(&str, &Value)) {
    let Some(cases) = json(file) else { return };
    let mut ran = 0;
    for (name, golden) in cases.as_object().expect("cases") {
        if golden["grads"].is_object() && golden["network"].as_str().is_some_and(|network| network != "mobilenet_v3") {
            each(name, golden);
            ran += 1;
        }
    }
    assert!(ran > 0, "{file}: no case");
    eprintln!("{file}: {ran} cases");
}

#[test]
fn networks_have_golden_gradients() {
    for file in ["networks", "partial"] {
        check_file(file, |name, golden| {
            let smoothing = golden["smoothing"].as_f64().expect("a share");
            let inputs =
                [images(golden["input"].as_str().expect("images")), targets(&golden["labels"], smoothing, None)];
            check(name, golden, inputs, [false; 2], &no_mask);
        });
    }
}

#[test]
fn soft_targets_and_class_weights_are_golden() {
    check_file("losses", |name, golden| {
        let smoothing = golden["smoothing"].as_f64().expect("a share");
        let weights = tensors("inputs")["class_weights"].to_f64();
        let weights = golden["class_weights"].as_bool().expect("a choice").then_some(&weights[..]);
        let inputs =
            [images(golden["input"].as_str().expect("images")), targets(&golden["targets"], smoothing, weights)];
        check(name, golden, inputs, [false; 2], &no_mask);
    });
}

#[test]
fn masks_are_golden() {
    let Some(about) = json("masks").map(|file| file["about"].clone()) else { return };
    let (masks, images) = (tensors("masks"), images("inputs.safetensors batch4_64"));
    check_file("masks", |name, golden| {
        let scaled = |mask: &Literal, keep: f64| f32s(&mask.ty.shape, mask.to_f64().iter().map(|v| v / keep).collect());
        let mask = |input: &str| match input.strip_suffix(".add") {
            None => scaled(&masks["dropout"], 0.7),
            Some(block) => {
                let rate = about["path_rates"][block].as_f64().expect("a rate");
                scaled(&masks[&format!("path.{block}")], 1.0 - rate)
            }
        };
        let both = name.contains("both");
        let asked = [both || name.contains("dropout"), both || name.contains("path")];
        let smoothing = golden["smoothing"].as_f64().expect("a share");
        check(name, golden, [images.clone(), targets(&golden["labels"], smoothing, None)], asked, &mask);
    });
}

/// Recipes that run by default; `FORNAX_GOLDEN=full` runs all.
const QUICK: &[&str] = &["sgd_nesterov_fixed_bn", "rmsprop_tf_train_bn", "everything_fixed_bn"];

/// The optimiser of a golden recipe.
fn optimiser(recipe: &Value) -> Optimiser {
    let number = |field: &str| recipe[field].as_f64().unwrap_or(0.0);
    match recipe["kind"].as_str().expect("a kind") {
        "sgd" => {
            Optimiser::Sgd { momentum: number("momentum"), nesterov: recipe["nesterov"].as_bool().unwrap_or(false) }
        }
        "adamw" => {
            let betas = floats(&recipe["betas"]);
            Optimiser::AdamW { beta1: betas[0], beta2: betas[1], epsilon: number("eps") }
        }
        _ => Optimiser::RmspropTf { decay: number("decay"), momentum: number("momentum"), epsilon: number("eps") },
    }
}

/// The steps of one recipe: losses before each, norms, and everything that is left behind.
fn check_steps(name: &str, golden: &Value, x: &Literal, targets: &Literal, ramp: bool) {
    let (recipe, accept) = (&golden["recipe"], |field: &str| golden["accept"][field].as_f64());
    let graph = network(golden["network"].as_str().expect("a network"), x).expect("a family");
    let decay = recipe["weight_decay"].as_f64().unwrap_or(0.0);
    let setting = |parameter: &str, ty: &TensorType| Setting {
        rate: golden["multiplier"][parameter].as_f64().unwrap_or(1.0),
        decay: if ty.shape.rank() > 1 { decay } else { 0.0 },
    };
    let (optimiser, clip, ema) = (optimiser(recipe), recipe["clip"].as_f64(), recipe["ema"].is_array());
    let case = Case {
        trained: &|_| true,
        norms: &|_| norm_of(recipe),
        masks: [false; 2],
        optimiser,
        setting: &setting,
        extras: [clip.is_some(), ema],
    };
    let (training, mut variables) = case.build(&graph);
    let (losses, rates) = (floats(&golden["losses"]), floats(&golden["learning_rates"]));
    let norms = floats(&golden["grad_norms_before_clipping"]);
    for (t, lr) in (0i32..).zip(rates) {
        let feed = [x.clone(), targets.clone()];
        let outputs = evaluate_in(&training.gradients, &feed, &mut variables).expect("a run");
        let (loss, expected): (f64, _) = (outputs[0].to_f64().iter().sum(), losses[t as usize]);
        let bound = accept("losses").expect("a bound") * expected.abs().max(1.0);
        assert!((loss - expected).abs() <= bound, "{name}: loss {t}: {expected}, found {loss}");
        let mut feed = vec![lr];
        if let Optimiser::AdamW { beta1, beta2, .. } = optimiser {
            feed.extend([beta1, beta2].map(|beta| 1.0 / (1.0 - beta.powi(t + 1))));
        }
        feed.extend(clip);
        let kept = if ramp { (f64::from(1 + t) / f64::from(10 + t)).min(0.9) } else { 0.9 };
        feed.extend(ema.then_some(kept));
        let feed: Vec<Literal> = feed.into_iter().map(|value| f32s(&[1], vec![value])).collect();
        let outputs = evaluate_in(&training.update, &feed, &mut variables).expect("a step");
        if let Some(norm) = outputs.first() {
            // Five times what torch reaches in `f32`, as the bounds of the files are.
            let bound = 5.0 * golden["f32_reached"]["grad_norms_relative"].as_f64().expect("a share");
            let (norm, expected) = (norm.to_f64()[0], norms[t as usize]);
            assert!((norm - expected).abs() <= bound * expected, "{name}: norm {t}: {expected}, found {norm}");
        }
    }
    let zeros: Vec<&str> =
        golden["zero_gradients"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let adamw = matches!(optimiser, Optimiser::AdamW { .. });
    let check = |variable: &str, expected: &Value, field: &str| {
        let found = variables.get(variable).expect("a variable").to_f64();
        let bound = accept(field).expect("a bound") * l2(expected).max(1.0);
        expect_summary(&format!("{name}: {variable}"), &found, expected, bound);
    };
    for (parameter, expected) in golden["params"].as_object().expect("parameters") {
        // What has no gradient moves by noise under AdamW.
        if !(adamw && zeros.contains(&parameter.as_str())) {
            check(parameter, expected, "params_relative");
        }
    }
    for (average, expected) in golden["after"].as_object().into_iter().flatten() {
        check(average, expected, if average.ends_with("mean") { "running_mean" } else { "running_var" });
    }
    let kind = if ramp { "ramp" } else { "constant" };
    for (averaged, expected) in golden["ema"][kind].as_object().into_iter().flatten() {
        // A fixed norm's averages are constants.
        if averaged.contains("running") && norm_of(recipe) == Norm::Fixed {
            continue;
        }
        let noise = adamw && zeros.contains(&averaged.as_str());
        if !averaged.ends_with("running_mean") && !noise {
            check(&format!("ema.{averaged}"), expected, "ema_except_running_mean");
        }
    }
}

#[test]
fn steps_are_golden() {
    let Some(cases) = json("optimizers") else { return };
    let x = images("inputs.safetensors batch4_64");
    let targets = targets(&cases["about"]["labels"], cases["about"]["smoothing"].as_f64().expect("a share"), None);
    let full = std::env::var_os("FORNAX_GOLDEN").is_some_and(|value| value == "full");
    let mut ran = 0;
    for (name, golden) in cases.as_object().expect("cases").iter().filter(|(name, _)| *name != "about") {
        if !full && !QUICK.contains(&name.as_str()) {
            continue;
        }
        check_steps(name, golden, &x, &targets, false);
        if golden["ema"]["ramp"].is_object() {
            check_steps(name, golden, &x, &targets, true);
        }
        ran += 1;
    }
    assert_eq!(ran, if full { 16 } else { QUICK.len() });
}
