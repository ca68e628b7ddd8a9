//! Losses alone, masks, partial training, folded batch norms.

use std::collections::BTreeSet;

use fornax::ir::graph::GraphBuilder;
use fornax::ir::ops::Gemm;
use fornax::ir::training::{Norm, Optimiser};
use fornax::ir::types::Constant;
use fornax::train::step::Rates;
use serde_json::json;

use crate::full;
use crate::golden::{EXACT_LOSS, Figures, apart, arrays, farthest, folder, json, norm, number, numbers};
use crate::gradients::{Target, batch, check, choice, fail, graph, labels, left_out, targets};
use crate::networks::Network;
use crate::runs::{Array, Choice, Exact, Native, PLAIN, Run, Values};

/// A linear layer over `images` rows of features.
fn linear(images: usize, width: usize, weights: &[f32], biases: &[f32]) -> fornax::ir::graph::Graph {
    let mut b = GraphBuilder::new("linear");
    let x = b.input("input", [images, width]);
    let classes = biases.len();
    let w = b.constant("classifier.weight", Constant::from_f32([classes, width], weights));
    let bias = b.constant("classifier.bias", Constant::from_f32([classes], biases));
    let op = Gemm { trans_a: false, trans_b: true, alpha: 1.0, beta: 1.0, bias: true, ..Gemm::default() };
    let logits = b.op("logits", op, &[x, w, bias]).expect("a layer");
    b.output("logits", logits);
    b.finish()
}

/// Losses of given logits: those of a layer that leaves its operand as it is.
#[test]
fn losses_of_given_logits() {
    let Some(folder) = folder() else { return };
    let inputs = arrays(&folder, "train2/inputs.safetensors");
    let file = &json(&folder, "train2/losses.json")["logits_alone"];
    let hard = labels(&file["labels"]);
    let identity: Vec<f32> = (0..100).map(|at| f32::from(u8::from(at / 10 == at % 10))).collect();
    let mut native = Native::here(&linear(8, 10, &identity, &[0.0; 10]), &PLAIN);
    let mut wrong = Vec::new();
    for (name, case) in file["cases"].as_object().expect("cases") {
        let smoothing = if name.contains("smoothing") { 0.1 } else { 0.0 };
        let weights = name.contains("weights").then_some(&inputs["class_weights"].values[..]);
        let target = if name.contains("soft") { Target::Soft(&inputs["soft_targets_8"]) } else { Target::Hard(&hard) };
        let batch = batch(inputs["logits_8"].clone(), targets(&target, smoothing, weights));
        let mut figures = Figures::of(format!("logits alone, {name}"));
        // Five times what torch's f32 reaches in the worst case, as the README's table has it.
        figures.add("loss", (native.gradients(&batch).0 - number(&case["loss"])).abs(), 5.0 * 5e-7, "");
        let found = native.input_gradient(&batch);
        figures.add("dlogits", farthest(&found, &numbers(&case["dlogits"])), 5.0 * 3e-8, "");
        wrong.extend(figures.end());
    }
    fail(&wrong);
}

#[test]
fn masks() {
    let Some(folder) = folder() else { return };
    let (file, masks) = (json(&folder, "train2/masks.json"), arrays(&folder, "train2/masks.safetensors"));
    let images = arrays(&folder, "train2/inputs.safetensors")["batch4_64"].clone();
    let whole = graph(&Network::golden(&folder, "v1_tf_same"), &images, 4);
    let (mut wrong, mut left) = (Vec::new(), Vec::new());
    for trained in [true, false] {
        let choice = Choice { masks: true, ..choice(trained) };
        let mut compiled = None;
        for (name, case) in file.as_object().expect("cases") {
            if name == "about" || trained != (case["bn"] == "train") {
                continue;
            }
            if !full() && name != "v1_tf_same_both_fixed_bn" {
                left.push(name.clone());
                continue;
            }
            let native = compiled.get_or_insert_with(|| Native::here(&whole, &choice));
            let labels = labels(&case["labels"]);
            let targets = targets(&Target::Hard(&labels), number(&case["smoothing"]), None);
            let mut batch = batch(images.clone(), targets);
            let kept = |mask: &Array, rate: f64, used: bool| {
                let value = |keep: &f64| if used { keep / (1.0 - rate) } else { 1.0 };
                Array::new(mask.shape.clone(), mask.values.iter().map(value).collect())
            };
            let dropped = kept(&masks["dropout"], 0.3, !name.contains("path"));
            batch.insert("dropout".into(), dropped);
            let rates = file["about"]["path_rates"].as_object().expect("rates");
            assert_eq!(native.blocks().len(), rates.len(), "{:?}", native.blocks());
            for (at, (block, rate)) in rates.iter().enumerate() {
                assert!(native.blocks()[at].starts_with(block), "{:?}", native.blocks());
                let mask = kept(&masks[&format!("path.{block}")], number(rate), !name.contains("dropout"));
                batch.insert(format!("drop_path.{at}"), mask);
            }
            wrong.extend(check(name, case, native, &mut Exact::new(&whole, &choice), &batch));
        }
    }
    left_out("masks.json", &left);
    fail(&wrong);
}

fn is_top(name: &str) -> bool {
    ["blocks.6.", "conv_head", "bn2", "classifier"].iter().any(|start| name.starts_with(start))
}

#[test]
fn parts_of_a_network() {
    let Some(folder) = folder() else { return };
    let file = json(&folder, "train2/partial.json");
    let images = arrays(&folder, "train2/inputs.safetensors")["batch4_64"].clone();
    let whole = graph(&Network::golden(&folder, "v1_tf_same"), &images, 4);
    let head: &dyn Fn(&str) -> bool = &|name| name.starts_with("classifier");
    let top: &dyn Fn(&str) -> bool = &is_top;
    let follow: &dyn Fn(&str) -> Norm = &|name| if is_top(name) { Norm::Trained } else { Norm::Fixed };
    let choices = [
        ("head", Choice { trained: head, ..PLAIN }),
        ("top1", Choice { trained: top, ..PLAIN }),
        ("top1_bn_trained", Choice { trained: top, norms: follow, ..PLAIN }),
    ];
    let mut wrong = Vec::new();
    for (name, choice) in choices {
        let case = &file[format!("v1_tf_same_{name}")];
        let targets = targets(&Target::Hard(&labels(&case["labels"])), number(&case["smoothing"]), None);
        let batch = batch(images.clone(), targets);
        let mut native = Native::here(&whole, &choice);
        let mut exact = Exact::new(&whole, &choice);
        wrong.extend(check(&format!("partial {name}"), case, &mut native, &mut exact, &batch));
    }
    fail(&wrong);
}

/// The head over features that are kept.
#[test]
fn a_head_over_features() {
    let Some(folder) = folder() else { return };
    let (file, arrays_) = (json(&folder, "train2/partial.json"), arrays(&folder, "train2/partial.safetensors"));
    let weights = arrays(&folder, "v1_weights_timm.safetensors");
    let single = |name: &str| -> Vec<f32> { weights[name].values.iter().map(|value| *value as f32).collect() };
    let layer = linear(4, 320, &single("classifier.weight"), &single("classifier.bias"));
    let choice = Choice { optimiser: Optimiser::Sgd { momentum: 0.9, nesterov: false }, ..PLAIN };
    let mut native = Native::here(&layer, &choice);
    let case = &file["v1_tf_same_head"];
    let targets = targets(&Target::Hard(&labels(&case["labels"])), 0.1, None);
    let batch = batch(arrays_["pooled"].clone(), targets);
    let mut figures = Figures::of("head over features");
    let gold = numbers(&file["cached_features"]["sgd_0.001_momentum_0.9"]["losses"]);
    for (t, loss) in gold.iter().enumerate() {
        let found = native.gradients(&batch).0;
        figures.add("loss", (found - loss).abs(), number(&case["accept"]["loss"]), &format!("step {t}"));
        native.update(&Rates::new(1e-3, t as u64 + 1));
    }
    for name in ["classifier.weight", "classifier.bias"] {
        let gold = &arrays_[&format!("head.{name}")].values;
        let far = apart(gold, &native.variable(name)) / norm(gold);
        figures.add("parameters", far, number(&case["accept"]["gradient_bounded"]), name);
    }
    figures.check();
}

#[test]
fn folded_batch_norms() {
    let Some(folder) = folder() else { return };
    let (file, whole_block) =
        (json(&folder, "train2/folded.json"), arrays(&folder, "train2/folded_block_3_0.safetensors"));
    let (about, result) = (&file["about"], &file["result"]);
    let images = arrays(&folder, "train2/inputs.safetensors")["batch4_64"].clone();
    let network = Network::golden(&folder, "v1_tf_same");
    let targets = targets(&Target::Hard(&labels(&about["labels"])), number(&about["smoothing"]), None);
    let (whole, batch) = (graph(&network, &images, 4), batch(images, targets));
    let mut native = Native::here(&graph(&network, &batch["input"], 1), &PLAIN);
    let mut exact = Exact::new(&whole, &PLAIN);
    let accept = number(&result["accept"]["relative"]);
    let mut figures = Figures::of("folded");
    let (loss, found) = (exact.gradients(&batch).0, native.gradients(&batch).0);
    figures.add("exact", (loss - number(&result["loss"])).abs(), EXACT_LOSS, "loss");
    figures.add("loss", (loss - found).abs(), number(&result["accept"]["loss"]), "");
    let (mapped, of_native) = (exact.summed(), native.summed());
    figures.exact(&result["mapped_gradients"], &mapped, &BTreeSet::new());
    figures.relative("mapped", &mapped, &of_native, accept);
    // The sums themselves, of folded weights and biases.
    let (mut gold, mut exact_sums, mut native_sums) = (json!({}), Values::new(), Values::new());
    for (conv, bn) in about["convolution_to_norm"].as_object().expect("pairs") {
        let bn = bn.as_str().expect("a name");
        for part in ["weight", "bias"] {
            let (name, state) = (format!("{conv}.{part}"), format!("grad.folded.{bn}.{part}"));
            gold[&name] = result["folded_gradients"][&name].clone();
            exact_sums.insert(name.clone(), exact.variable(&state));
            native_sums.insert(name, native.variable(&state));
        }
    }
    figures.exact(&gold, &exact_sums, &BTreeSet::new());
    figures.relative("folded", &exact_sums, &native_sums, accept);
    assert!(!whole_block.is_empty());
    for (name, gold) in &whole_block {
        let own = name.strip_prefix("folded.").map(|name| &native_sums[name]);
        let own = own.unwrap_or_else(|| &of_native[name.strip_prefix("mapped.").expect("folded or mapped")]);
        figures.add("block", apart(&gold.values, own) / norm(&gold.values), accept, name);
    }
    figures.check();
}
