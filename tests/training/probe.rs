//! The linear probe: pooled features in native code, the minimum, and what cross-validation says.

use std::sync::Arc;

use fornax::compiler::pipeline::{CompileOptions, compile};
use fornax::runtime::{Pool, Session};
use fornax::scaling::build::Outputs;
use fornax::train::logistic::Samples;
use fornax::train::probe::{cross_validated, probe};
use fornax::{Target, Tensor};

use crate::golden::{Figures, accepted, apart, arrays, farthest, folder, json, largest, norm, number, numbers};
use crate::networks::Network;

#[test]
fn probe_is_golden() {
    let Some(folder) = folder() else { return };
    let (file, arrays) = (json(&folder, "train2/probe.json"), arrays(&folder, "train2/probe.safetensors"));
    let (case, gold) = (&file["l2_1e-3"], &arrays["pooled"]);
    let accept = |name: &str| number(&case["accept"][name]);
    let images = &arrays["input_u8"];
    let shape = [images.shape[0], images.shape[1], images.shape[2], images.shape[3]];
    let graph = Network::golden(&folder, "v1_symmetric").graph(shape, Outputs::Pooled);
    let target = Target::host().expect("a target");
    let program = compile(graph, &target, &CompileOptions::default(), 2).expect("code").program.expect("a program");
    let mut session =
        Session::new(Arc::new(program), Arc::new(Pool::at_most(2, false).expect("threads"))).expect("a session");
    let pixels: Vec<f32> = images.values.iter().map(|u| ((u - 128.0) / 64.0) as f32).collect();
    let mut outputs = session.outputs().expect("outputs");
    session.run(&[&Tensor::from_f32(shape, &pixels).expect("images")], &mut outputs).expect("features");
    let mut figures = Figures::of("probe");
    let pooled = outputs[0].to_f64_vec();
    figures.add("pooled", farthest(&pooled, &gold.values) / largest(&gold.values), accept("pooled_of_max"), "");
    let labels: Vec<usize> = arrays["labels"].values.iter().map(|label| *label as usize).collect();
    let features = outputs[0].as_f32().expect("features").to_vec();
    let samples = Samples::new(features, 320, labels, 4).expect("samples");
    let found = probe(&samples, Some(1e-3), 2).expect("a probe");
    let weights = &arrays["l2_1e-3.weight"].values;
    figures.add("weights", apart(weights, &found.layer.weights) / norm(weights), accept("weight"), "");
    let biases = numbers(&case["bias"]);
    figures.add("biases", farthest(&biases, &found.layer.biases), accept("bias_absolute"), "");
    let (loss, wrong) = samples.loss(&found.layer);
    figures.add("loss", (loss - number(&case["cross_entropy"])).abs(), accept("loss"), "");
    let objective = loss + 0.5 * 1e-3 * norm(&found.layer.weights).powi(2);
    figures.add("objective", (objective - number(&case["objective"])).abs(), accept("objective"), "");
    assert_eq!(wrong as f64, number(&case["training_wrong"]));
    let rows = file["cross_validation"]["rows"].as_array().expect("rows");
    let tried: Vec<f64> = rows.iter().map(|row| number(&row["l2"])).collect();
    for (row, held) in rows.iter().zip(cross_validated(&samples, &tried, 2)) {
        let bound = accepted(number(&row["f32_features_change_held_out_loss_by"]));
        figures.add("held out", (held.loss - number(&row["held_out_loss"])).abs(), bound, &held.l2.to_string());
        let wrong = (1.0 - held.accuracy) * samples.len() as f64;
        figures.add("wrong", (wrong - number(&row["held_out_wrong"])).abs(), 1e-6, &held.l2.to_string());
    }
    let chosen = probe(&samples, None, 2).expect("a probe").l2;
    assert_eq!(chosen, number(&file["cross_validation"]["chosen_l2"]));
    figures.check();
}
