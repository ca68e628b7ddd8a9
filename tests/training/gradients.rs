//! One step's loss, logits, gradients and running statistics: whole networks, losses, masks, partial training, folded batch norms.

use std::collections::BTreeSet;
use std::path::Path;

use fornax::ir::graph::Graph;
use fornax::ir::training::Norm;
use fornax::ir::types::random_values;
use fornax::scaling::build::Outputs;
use serde_json::Value;

use crate::golden::{
    EXACT_LOSS, Figures, accepted, apart, arrays, farthest, folder, json, largest, norm, number, numbers, strings,
};
use crate::networks::Network;
use crate::runs::{Array, Batch, Choice, Exact, Native, PLAIN, Run, Values};
use crate::{full, say};

/// Cross-entropy's weights of every class, as the golden files' README has them.
pub fn targets(labels: &Target<'_>, smoothing: f64, weights: Option<&[f64]>) -> Array {
    let weight = |class: usize| weights.map_or(1.0, |weights| weights[class]);
    match labels {
        Target::Hard(labels) => {
            let (mut values, classes) = (Vec::new(), 10);
            let total: f64 = labels.iter().map(|label| weight(*label)).sum();
            for label in *labels {
                let own = |k: usize| if k == *label { (1.0 - smoothing) * weight(k) } else { 0.0 };
                values.extend((0..classes).map(|k| (own(k) + smoothing / classes as f64 * weight(k)) / total));
            }
            Array::new([labels.len(), classes], values)
        }
        Target::Soft(soft) => {
            let (images, classes) = (soft.shape[0], soft.shape[1]);
            let value = |(at, t): (usize, &f64)| {
                ((1.0 - smoothing) * t + smoothing / classes as f64) * weight(at % classes) / images as f64
            };
            Array::new(soft.shape.clone(), soft.values.iter().enumerate().map(value).collect())
        }
    }
}

/// What images show.
pub enum Target<'a> {
    Hard(&'a [usize]),
    Soft(&'a Array),
}

pub fn labels(case: &Value) -> Vec<usize> {
    numbers(case).into_iter().map(|label| label as usize).collect()
}

/// The images that a case names.
fn images(folder: &Path, name: &str) -> Array {
    let stream = |seed, shape: [usize; 4]| {
        let values = random_values(seed, shape.iter().product());
        Array::new(shape, values.into_iter().map(f64::from).collect())
    };
    match name.split_once(' ') {
        Some(("golden_small", file)) => arrays(folder, file)["input"].clone(),
        Some(("inputs.safetensors", tensor)) => arrays(folder, "train2/inputs.safetensors")[tensor].clone(),
        Some(("splitmix64", "seed 107, 2x3x48x48")) => stream(107, [2, 3, 48, 48]),
        Some(("splitmix64", "seed 54, 4x3x64x64")) => stream(54, [4, 3, 64, 64]),
        _ => panic!("{name}"),
    }
}

pub fn batch(input: Array, targets: Array) -> Batch {
    Batch::from([("input".into(), input), ("targets".into(), targets)])
}

/// The graph of a network for `count` of the images.
pub fn graph(network: &Network, images: &Array, count: usize) -> Graph {
    network.graph([count, images.shape[1], images.shape[2], images.shape[3]], Outputs::Logits)
}

pub fn variables(run: &dyn Run, names: &[String]) -> Values {
    names.iter().map(|name| (name.clone(), run.variable(name))).collect()
}

/// A step of the evaluator: loss, logits, gradients, running statistics.
struct Step {
    loss: f64,
    logits: Vec<f64>,
    gradients: Values,
    after: Values,
}

impl Step {
    fn of(run: &mut dyn Run, batch: &Batch) -> Self {
        let (loss, logits) = run.gradients(batch);
        let (gradients, after) = (run.summed(), variables(run, &run.names().1));
        Self { loss, logits, gradients, after }
    }

    /// Against the golden values.
    fn exact(&self, figures: &mut Figures, case: &Value) {
        let zero = strings(&case["zero_gradients"]);
        figures.add("exact", (self.loss - number(&case["loss"])).abs(), EXACT_LOSS, "loss");
        let logits = numbers(&case["logits"]);
        figures.add("exact", farthest(&self.logits, &logits) / largest(&logits), EXACT_LOSS, "logits");
        figures.exact(&case["grads"], &self.gradients, &zero);
        if case["after"].is_object() {
            figures.exact(&case["after"], &self.after, &BTreeSet::new());
        }
    }

    /// Native code against the evaluator.
    fn native(&self, figures: &mut Figures, case: &Value, native: &Self) {
        let accept = &case["accept"];
        figures.add("loss", (self.loss - native.loss).abs(), number(&accept["loss"]), "");
        let far = farthest(&self.logits, &native.logits) / largest(&self.logits);
        figures.add("logits", far, number(&accept["logits_of_max"]), "");
        figures.gradients(case, &self.gradients, &native.gradients);
        if !self.after.is_empty() {
            figures.relative("after", &self.after, &native.after, number(&accept["after"]));
        }
    }
}

/// Holds a case to its golden values; `each` are the images of a call.
pub fn check(name: &str, case: &Value, native: &mut Native, exact: &mut Exact, batch: &Batch) -> Vec<String> {
    let mut figures = Figures::of(name);
    let saved = native.step().save_state();
    let found = Step::of(exact, batch);
    found.exact(&mut figures, case);
    found.native(&mut figures, case, &Step::of(native, batch));
    native.step().restore_state(&saved).expect("the state");
    if case["input_gradient"].is_object() && batch["input"].shape[0] == native.step().images() {
        let (exact, native) = (exact.input_gradient(batch), native.input_gradient(batch));
        let gold = serde_json::json!({ "input": case["input_gradient"] });
        figures.exact(&gold, &Values::from([("input".into(), exact.clone())]), &BTreeSet::new());
        let accept = accepted(number(&case["f32_reached"]["input"]));
        figures.add("input", apart(&exact, &native) / norm(&exact), accept, "");
    }
    figures.end()
}

/// What is trained of a case with this kind of batch norm, everything else being usual.
pub fn choice(trained: bool) -> Choice<'static> {
    if trained { Choice { norms: &|_| Norm::Trained, ..PLAIN } } else { PLAIN }
}

/// Says which cases of a file were left out.
pub fn left_out(file: &str, left: &[String]) {
    if !left.is_empty() {
        say(&format!("SHORT: {} of {file} were not checked; FORNAX_TRAINING=full does", left.join(", ")));
    }
}

pub fn fail(wrong: &[String]) {
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The networks that are checked by default: one of each family, uneven pads, both kinds of batch norm.
const SHORT: &[&str] = &[
    "v1_tf_same_57x45_train_bn",
    "v1_tf_same_57x45_fixed_bn",
    "v2_tf_same_64_fixed_bn",
    "lite_symmetric_48_train_bn",
    "mobilenet_v3_64_fixed_bn",
];

#[test]
fn networks() {
    let Some(folder) = folder() else { return };
    let (mut wrong, mut left) = (Vec::new(), Vec::new());
    for (name, case) in json(&folder, "train2/networks.json").as_object().expect("cases") {
        if name == "format" {
            continue;
        }
        if !full() && !SHORT.contains(&name.as_str()) {
            left.push(name.clone());
            continue;
        }
        let network = Network::golden(&folder, case["network"].as_str().expect("a name"));
        let images = images(&folder, case["input"].as_str().expect("a name"));
        let targets = targets(&Target::Hard(&labels(&case["labels"])), number(&case["smoothing"]), None);
        let (count, choice) = (images.shape[0], choice(case["bn"] == "train"));
        let whole = graph(&network, &images, count);
        let batch = batch(images, targets);
        let mut native = Native::here(&whole, &choice);
        wrong.extend(check(name, case, &mut native, &mut Exact::new(&whole, &choice), &batch));
        if case["bn"] == "fixed" && full() {
            let mut single = Native::here(&graph(&network, &batch["input"], 1), &choice);
            let name = format!("{name}, one by one");
            wrong.extend(check(&name, case, &mut single, &mut Exact::new(&whole, &choice), &batch));
            let [whole, single] = [&mut native, &mut single].map(|run| (run.gradients(&batch), run.summed()).1);
            assert!(whole == single, "{name}: other bits than all at once");
        }
    }
    left_out("networks.json", &left);
    fail(&wrong);
}

/// The case whose gradients are there whole, without the evaluator between.
#[test]
fn whole_gradients() {
    let Some(folder) = folder() else { return };
    let network = Network::golden(&folder, "v1_tf_same");
    let images = arrays(&folder, "v1_tf_same/input_64.npy")["input"].clone();
    let whole = graph(&network, &images, 2);
    let batch = batch(images, targets(&Target::Hard(&[3, 7]), 0.1, None));
    let found = Step::of(&mut Native::here(&whole, &choice(true)), &batch);
    let gold = arrays(&folder, "train2/grads_v1_tf_same_64_train_bn.safetensors");
    let of = |prefix: &str| -> Values {
        let named = gold.iter().filter_map(|(name, array)| Some((name.strip_prefix(prefix)?, array)));
        named.map(|(name, array)| (name.to_owned(), array.values.clone())).collect()
    };
    let case = &json(&folder, "train2/networks.json")["v1_tf_same_64_train_bn"];
    let mut figures = Figures::of("grads_v1_tf_same_64_train_bn");
    figures.gradients(case, &of("grad."), &found.gradients);
    figures.relative("after", &of("after."), &found.after, number(&case["accept"]["after"]));
    figures.check();
}

#[test]
fn losses() {
    let Some(folder) = folder() else { return };
    let inputs = arrays(&folder, "train2/inputs.safetensors");
    let (weights, images) = (&inputs["class_weights"].values, &inputs["batch4_64"]);
    let file = json(&folder, "train2/losses.json");
    let network = Network::golden(&folder, "v1_tf_same");
    let (mut wrong, mut left) = (Vec::new(), Vec::new());
    for trained in [true, false] {
        let mut compiled = None;
        for (name, case) in file.as_object().expect("cases") {
            if name == "logits_alone" || trained != (case["bn"] == "train") {
                continue;
            }
            if !full() && name != "v1_tf_same_soft_weights_fixed_bn" {
                left.push(name.clone());
                continue;
            }
            let whole = graph(&network, images, 4);
            let native = compiled.get_or_insert_with(|| Native::here(&whole, &choice(trained)));
            let own = case["class_weights"].as_bool().expect("a choice").then_some(&weights[..]);
            let (hard, smoothing) = (labels_of(&case["targets"]), number(&case["smoothing"]));
            let target = if hard.is_empty() { Target::Soft(&inputs["soft_targets_4"]) } else { Target::Hard(&hard) };
            let batch = batch(images.clone(), targets(&target, smoothing, own));
            let mut exact = Exact::new(&whole, &choice(trained));
            wrong.extend(check(name, case, native, &mut exact, &batch));
        }
    }
    left_out("losses.json", &left);
    fail(&wrong);
}

/// Labels, none if the targets are soft.
fn labels_of(value: &Value) -> Vec<usize> {
    if value.is_array() { labels(value) } else { Vec::new() }
}
