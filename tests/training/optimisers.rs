//! Some steps of every optimiser, with clipping, averages, schedules and rates by layer; and the older goldens of `train`.

use std::collections::BTreeSet;
use std::path::Path;

use fornax::ir::training::{Norm, Optimiser, Setting};
use fornax::ir::types::TensorType;
use fornax::train::schedule::{Schedule, Shape};
use fornax::train::step::Rates;
use serde_json::{Value, json};

use crate::full;
use crate::golden::{
    EXACT_LOSS, Figures, apart, arrays, farthest, folder, json as file, largest, norm, number, numbers, strings,
};
use crate::gradients::{Target, batch, fail, graph, labels, left_out, targets, variables};
use crate::networks::Network;
use crate::runs::{Batch, Choice, Exact, Native, PLAIN, Run, Values};

fn optimiser(recipe: &Value) -> Optimiser {
    let get = |name: &str| number(&recipe[name]);
    match recipe["kind"].as_str().expect("a kind") {
        "sgd" => Optimiser::Sgd { momentum: get("momentum"), nesterov: recipe["nesterov"].as_bool().unwrap_or(false) },
        "adamw" => {
            let betas = numbers(&recipe["betas"]);
            Optimiser::AdamW { beta1: betas[0], beta2: betas[1], epsilon: get("eps") }
        }
        "rmsprop_tf" => Optimiser::RmspropTf { decay: get("decay"), momentum: get("momentum"), epsilon: get("eps") },
        other => panic!("{other}"),
    }
}

/// What some steps leave behind.
struct Trail {
    losses: Vec<f64>,
    norms: Vec<f64>,
    start: Values,
    first: Values,
    parameters: Values,
    running: Values,
    averages: Values,
}

/// The share of an average that step `t` keeps.
fn kept(form: Option<&str>, t: usize) -> f64 {
    match form {
        Some("ramp") => 0.9f64.min((1.0 + t as f64) / (10.0 + t as f64)),
        _ => 0.9,
    }
}

impl Trail {
    /// Steps at `rates`; `clip` is infinite where nothing is clipped.
    fn of(run: &mut dyn Run, batch: &Batch, rates: &[f64], clip: f64, form: Option<&str>) -> Self {
        let (names, running) = run.names();
        let start = variables(run, &names);
        let (mut losses, mut norms, mut first) = (Vec::new(), Vec::new(), Values::new());
        for (t, lr) in rates.iter().enumerate() {
            losses.push(run.gradients(batch).0);
            let summed: Vec<f64> = run.summed().values().map(|values| norm(values)).collect();
            let told = run.update(&Rates { clip, ema: kept(form, t), ..Rates::new(*lr, t as u64 + 1) });
            norms.push(told.unwrap_or(norm(&summed)));
            if t == 0 {
                first = variables(run, &names);
            }
        }
        let parameters = variables(run, &names);
        let all = names.iter().chain(&running).filter(|_| form.is_some());
        let averages = all.map(|name| (name.clone(), run.variable(&format!("ema.{name}")))).collect();
        Self { losses, norms, start, first, parameters, running: variables(run, &running), averages }
    }

    /// Against the golden values.
    fn exact(&self, figures: &mut Figures, case: &Value, form: Option<&str>) {
        for (t, gold) in numbers(&case["losses"]).into_iter().enumerate() {
            figures.add("exact", (self.losses[t] - gold).abs(), 1e-6, &format!("loss {t}"));
        }
        for (t, gold) in numbers(&case["grad_norms_before_clipping"]).into_iter().enumerate() {
            figures.add("exact", (self.norms[t] / gold - 1.0).abs(), 1e-6, &format!("norm {t}"));
        }
        figures.exact(&case["params"], &self.parameters, &BTreeSet::new());
        let named = case["params_after_first_step"].as_object().expect("summaries");
        let first = named.keys().map(|name| (name.clone(), self.first[name].clone())).collect();
        figures.exact(&case["params_after_first_step"], &first, &BTreeSet::new());
        if case["after"].is_object() {
            figures.exact(&case["after"], &self.running, &BTreeSet::new());
        }
        if let Some(form) = form {
            // Statistics that stay are not averaged here.
            let mut gold = json!({});
            self.averages.keys().for_each(|name| gold[name] = case["ema"][form][name].clone());
            figures.exact(&gold, &self.averages, &BTreeSet::new());
        }
    }

    /// Native code against the evaluator.
    fn native(&self, figures: &mut Figures, case: &Value, native: &Self, rates: f64) {
        let (accept, zero) = (&case["accept"], strings(&case["zero_gradients"]));
        let adamw = case["recipe"]["kind"] == "adamw";
        figures.add("losses", farthest(&self.losses, &native.losses), number(&accept["losses"]), "");
        for (name, gold) in &self.parameters {
            let (found, start) = (&native.parameters[name], &self.start[name]);
            if zero.contains(name) {
                let moved = farthest(found, start);
                let bound = if adamw { 1.1 * rates } else { number(&accept["zero_ones_absolute_max"]) };
                figures.add("zero", if adamw { moved } else { farthest(found, gold) }, bound, name);
                continue;
            }
            let far = apart(gold, found);
            figures.add("parameters", far / norm(gold), number(&accept["params_relative"]), name);
            figures.add("moves", far / apart(gold, start), number(&accept["move_relative_worst"]), name);
        }
        for (name, gold) in &self.running {
            // Means follow the noise of the zero gradients under AdamW.
            let field = if name.ends_with("var") { "running_var" } else { "running_mean" };
            if field == "running_var" || !adamw {
                let far = apart(gold, &native.running[name]) / norm(gold);
                figures.add("running", far, number(&accept[field]), name);
            }
        }
        let averages = self.averages.iter().filter(|(name, _)| !zero.contains(*name) && !name.contains("running_mean"));
        for (name, gold) in averages {
            let far = apart(gold, &native.averages[name]) / norm(gold);
            figures.add("averages", far, number(&accept["ema_except_running_mean"]), name);
        }
    }
}

fn case(network: &Network, batch: &Batch, name: &str, case: &Value) -> Vec<String> {
    let recipe = &case["recipe"];
    let (clip, averaged) = (recipe["clip"].as_f64(), recipe["ema"].is_array());
    let setting = |name: &str, ty: &TensorType| Setting {
        rate: case["multiplier"].get(name).map_or(1.0, number),
        decay: if ty.shape.rank() > 1 { number(&recipe["weight_decay"]) } else { 0.0 },
    };
    let norms: &dyn Fn(&str) -> Norm = if recipe["bn"] == "train" { &|_| Norm::Trained } else { &|_| Norm::Fixed };
    let (optimiser, setting) = (optimiser(recipe), &setting);
    let choice = Choice { norms, optimiser, setting, clip: clip.is_some(), ema: averaged, ..PLAIN };
    let (rates, lr) = (numbers(&case["learning_rates"]), number(&recipe["lr"]));
    let shape = if recipe["schedule"] == true { Shape::Cosine } else { Shape::Constant };
    let schedule = Schedule { shape, peak: lr, warmup: if recipe["schedule"] == true { 2 } else { 0 }, steps: 8 };
    let own: Vec<f64> = (0..rates.len()).map(|t| schedule.rate(t)).collect();
    let whole = graph(network, &batch["input"], 4);
    let mut native = Native::here(&whole, &choice);
    let saved = native.step().save_state();
    let forms: Vec<Option<&str>> = match recipe["ema"].as_array() {
        Some(forms) => forms.iter().map(Value::as_str).collect(),
        None => vec![None],
    };
    let mut wrong = Vec::new();
    for form in forms {
        let mut figures = Figures::of(form.map_or(name.to_owned(), |form| format!("{name}, {form}")));
        figures.add("exact", farthest(&own, &rates), 1e-12, "rates");
        native.step().restore_state(&saved).expect("the state");
        let clip = clip.unwrap_or(f64::INFINITY);
        let exact = Trail::of(&mut Exact::new(&whole, &choice), batch, &rates, clip, form);
        exact.exact(&mut figures, case, form);
        let native = Trail::of(&mut native, batch, &rates, clip, form);
        exact.native(&mut figures, case, &native, rates.iter().sum());
        wrong.extend(figures.end());
    }
    wrong
}

#[test]
fn optimisers() {
    let Some(folder) = folder() else { return };
    let cases = file(&folder, "train2/optimizers.json");
    let network = Network::golden(&folder, "v1_symmetric");
    let images = arrays(&folder, "train2/inputs.safetensors")["batch4_64"].clone();
    let targets =
        targets(&Target::Hard(&labels(&cases["about"]["labels"])), number(&cases["about"]["smoothing"]), None);
    let batch = batch(images, targets);
    let (mut wrong, mut left) = (Vec::new(), Vec::new());
    for (name, one) in cases.as_object().expect("cases").iter().filter(|(name, _)| *name != "about") {
        if !full() && name != "everything_fixed_bn" {
            left.push(name.clone());
            continue;
        }
        wrong.extend(case(&network, &batch, name, one));
    }
    left_out("optimizers.json", &left);
    fail(&wrong);
}

/// The input and the targets of the older goldens, and their graph.
fn older(folder: &Path) -> (fornax::ir::graph::Graph, Batch) {
    let images = arrays(folder, "v1_symmetric/input_64.npy")["input"].clone();
    let whole = graph(&Network::golden(folder, "v1_symmetric"), &images, 2);
    (whole, batch(images, targets(&Target::Hard(&[3, 7]), 0.1, None)))
}

/// Gradients of `train`: within 1e-4 of each tensor's norm, or of a thousandth of the mean norm.
#[test]
fn older_gradients() {
    let Some(folder) = folder() else { return };
    let golden = file(&folder, "train/train_golden.json");
    let (whole, batch) = older(&folder);
    let whole_tensors = arrays(&folder, "train/grads_train_bn.safetensors");
    let mut figures = Figures::of("train: train_bn");
    let mut native = Native::here(&whole, &Choice { norms: &|_| Norm::Trained, ..PLAIN });
    let loss = native.gradients(&batch).0;
    figures.add("loss", (loss - number(&golden["train_bn"]["loss"])).abs(), 1e-4, "");
    let summed = native.summed();
    let gold = |prefix: &str, name: &str| &whole_tensors[&format!("{prefix}.{name}")].values;
    let norms: Vec<f64> = summed.keys().map(|name| norm(gold("grad", name))).collect();
    let (total, mean) = (norm(&norms), norms.iter().sum::<f64>() / norms.len() as f64);
    let mut zero = 0;
    for (name, found) in &summed {
        let gold = gold("grad", name);
        if norm(gold) <= 1e-11 * total {
            zero += 1;
            figures.add("zero", norm(found) / total, 1e-6, name);
        } else {
            figures.add("gradient", apart(gold, found), 1e-4 * norm(gold).max(1e-3 * mean), name);
        }
    }
    assert_eq!((summed.len(), zero), (135, 10));
    for (name, found) in variables(&native, &native.names().1) {
        let gold = gold("after", &name);
        figures.add("after", farthest(gold, &found) / largest(gold), 1e-6, &name);
    }
    figures.check();
    let (case, mut figures) = (&golden["frozen_bn"], Figures::of("train: frozen_bn"));
    let (mut native, mut exact) = (Native::here(&whole, &PLAIN), Exact::new(&whole, &PLAIN));
    let (loss, exact_loss) = (native.gradients(&batch).0, exact.gradients(&batch).0);
    figures.add("loss", (loss - number(&case["loss"])).abs(), 1e-4, "");
    figures.add("exact", (exact_loss - number(&case["loss"])).abs(), EXACT_LOSS, "loss");
    let (native, exact) = (native.summed(), exact.summed());
    figures.exact(&case["per_tensor"], &exact, &BTreeSet::new());
    let mean = exact.values().map(|values| norm(values)).sum::<f64>() / exact.len() as f64;
    for (name, gold) in &exact {
        figures.add("gradient", apart(gold, &native[name]), 1e-4 * norm(gold).max(1e-3 * mean), name);
    }
    figures.check();
}

/// Optimisers of `train`: losses and parameters within 1e-4; under AdamW without those whose gradient is zero, and without [`faint`]
/// elements.
#[test]
fn older_optimisers() {
    let Some(folder) = folder() else { return };
    let golden = file(&folder, "train/train_golden.json");
    let (whole, batch) = older(&folder);
    let (mut wrong, mut left) = (Vec::new(), Vec::new());
    let zero = strings(&file(&folder, "train2/networks.json")["v1_symmetric_64_batch4_train_bn"]["zero_gradients"]);
    for (name, optimiser, lr, decay) in [
        ("sgd_momentum", Optimiser::Sgd { momentum: 0.9, nesterov: false }, 1e-2, 1e-5),
        ("sgd_nesterov", Optimiser::Sgd { momentum: 0.9, nesterov: true }, 1e-2, 1e-5),
        ("adamw", Optimiser::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }, 1e-3, 1e-2),
        ("rmsprop_tf", Optimiser::RmspropTf { decay: 0.9, momentum: 0.9, epsilon: 1e-3 }, 1e-3, 1e-5),
    ] {
        if !full() && name != "sgd_momentum" {
            left.push(name.to_owned());
            continue;
        }
        let case = &golden[format!("optim_{name}")];
        let setting = |_: &str, ty: &TensorType| {
            let decay = if ty.shape.rank() > 1 { decay } else { 0.0 };
            Setting { rate: 1.0, decay }
        };
        let choice = Choice { norms: &|_| Norm::Trained, optimiser, setting: &setting, ..PLAIN };
        let steps = |run: &mut dyn Run| Trail::of(run, &batch, &[lr; 3], f64::INFINITY, None);
        let (exact, native) = (steps(&mut Exact::new(&whole, &choice)), steps(&mut Native::here(&whole, &choice)));
        let mut figures = Figures::of(format!("train: {name}"));
        let gold = numbers(&case["losses"]);
        figures.add("exact", farthest(&exact.losses, &gold), 1e-6, "losses");
        figures.add("losses", farthest(&native.losses, &gold), 1e-4, "");
        let kept: Values = exact.parameters.iter().filter(|(name, _)| !zero.contains(*name)).map(owned).collect();
        let mut summaries = json!({});
        kept.keys().for_each(|name| summaries[name] = case["per_tensor"][name].clone());
        figures.exact(&summaries, &kept, &BTreeSet::new());
        if name == "adamw" {
            let mut first = Exact::new(&whole, &choice);
            first.gradients(&batch);
            let mut counts = (0, 0);
            for (name, gradient) in first.summed().iter().filter(|(name, _)| kept.contains_key(*name)) {
                let faint = faint(gradient);
                let strong = |values: &[f64]| -> Vec<f64> {
                    values.iter().zip(&faint).filter(|(_, faint)| !**faint).map(|(value, _)| *value).collect()
                };
                let (gold, found) = (strong(&kept[name]), strong(&native.parameters[name]));
                counts = (counts.0 + gold.len(), counts.1 + faint.len());
                figures.add("parameters", apart(&gold, &found) / norm(&gold), 1e-4, name);
            }
            assert!(counts.0 * 100 >= counts.1 * 95, "{} of {} elements are compared", counts.0, counts.1);
        } else {
            figures.relative("parameters", &exact.parameters, &native.parameters, 1e-4);
        }
        wrong.extend(figures.end());
    }
    left_out("train_golden.json", &left);
    fail(&wrong);
}

/// Elements whose gradient is less than a thousandth of a tensor's usual one. AdamW's first steps move an element by the whole rate
/// whatever its gradient, so that one near zero may go the other way in `f32`.
fn faint(gradient: &[f64]) -> Vec<bool> {
    let least = 1e-3 * norm(gradient) / (gradient.len() as f64).sqrt();
    gradient.iter().map(|value| value.abs() < least).collect()
}

fn owned((name, values): (&String, &Vec<f64>)) -> (String, Vec<f64>) {
    (name.clone(), values.clone())
}
