//! The gradients of parameters, as the states sum them and `mapped` takes them back, against central differences of the loss.

use fornax_ir::graph::Graph;
use fornax_ir::ops::literal::Literal;
use fornax_ir::pipeline::{PipelineOptions, optimise};
use fornax_ir::training::Norm;

use crate::network::*;

/// Fails unless every gradient is the central difference of the network's own loss.
fn check(run: &mut Run, batch: bool, masks: &Masks, data: &[Literal; 2]) {
    let found = run.mapped();
    assert!(!found.is_empty());
    for (name, gradient) in found {
        for (i, gradient) in gradient.iter().enumerate() {
            let moved = |by: f64| {
                let mut weights = weights();
                let value = weights.get_mut(&name).unwrap();
                let mut elements = value.to_f64();
                elements[i] += by;
                *value = Literal::new_float(value.ty.clone(), elements);
                loss(&weights, batch, masks, data)
            };
            let slope = (moved(1e-5) - moved(-1e-5)) / 2e-5;
            assert!((gradient - slope).abs() < 1e-7 * slope.abs().max(1.0), "{name}[{i}]: {slope}, found {gradient}");
        }
    }
}

#[test]
fn fixed_norms_are_folded_and_taken_back() {
    let mut run = Run::new(&PLAIN);
    let data = data();
    let sum = run.gradients(&data);
    assert!((sum - loss(&weights(), false, &Masks::default(), &data)).abs() < 1e-12);
    check(&mut run, false, &Masks::default(), &data);
    assert_eq!(run.mapped().len(), 9);
    assert_eq!(run.graphs.parameters[..3], ["stem.weight", "stem.bias", "bn1.weight"]);
    let text = run.graphs.gradients.to_string();
    assert!(
        !text.contains("batch_norm") && text.contains("conv_weight_gradient") && text.contains("accumulate=true"),
        "{text}"
    );
}

#[test]
fn gradients_of_images_add_up() {
    let (mut whole, mut parts) = (Run::new(&PLAIN), Run::new(&PLAIN));
    let data = data();
    whole.gradients(&data);
    parts.graphs = training(&network(&weights(), 1, false, &Masks::default()), &PLAIN).unwrap();
    let image = |x: &Literal, n: usize| {
        let (mut shape, values) = (x.ty.shape.to_vec(), x.to_f64());
        let each = values.len() / shape[0];
        shape[0] = 1;
        Literal::new_float(fornax_ir::types::TensorType::new(x.ty.dtype, shape), values[n * each..][..each].to_vec())
    };
    for n in 0..IMAGES {
        parts.gradients(&[image(&data[0], n), image(&data[1], n)]);
    }
    for ((name, whole), (_, parts)) in whole.mapped().iter().zip(parts.mapped()) {
        assert!(whole.iter().zip(parts).all(|(a, b)| (a - b).abs() < 1e-12), "{name}");
    }
}

#[test]
fn trained_norms_follow_the_batch() {
    let mut run = Run::new(&Choice { norm: Norm::Trained, ..PLAIN });
    let data = data();
    let sum = run.gradients(&data);
    assert!((sum - loss(&weights(), true, &Masks::default(), &data)).abs() < 1e-12);
    check(&mut run, true, &Masks::default(), &data);
    assert_eq!(run.graphs.running, ["bn1.running_mean", "bn1.running_var", "bn2.running_mean", "bn2.running_var"]);
    // The first norm's operand, by hand: a convolution of stride 2, 1 over a frame of zeros.
    let (x, w, bias) = (data[0].to_f64(), weights()["stem.weight"].to_f64(), weights()["stem.bias"].to_f64());
    let mut values = Vec::new();
    for (n, i, j) in (0..IMAGES).flat_map(|n| (0..3).flat_map(move |i| (0..5).map(move |j| (n, i, j)))) {
        let mut sum = bias[1];
        for (c, p, q) in (0..2).flat_map(|c| (0..3).flat_map(move |p| (0..3).map(move |q| (c, p, q)))) {
            let (row, column) = (2 * i + p, j + q);
            if row < 6 && (1..6).contains(&column) {
                sum += x[((n * 2 + c) * 6 + row) * 5 + column - 1] * w[((2 + c) * 3 + p) * 3 + q];
            }
        }
        values.push(sum);
    }
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let variance = values.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / (count - 1.0);
    for (name, expected) in [("bn1.running_mean", mean), ("bn1.running_var", variance)] {
        let expected = 0.9 * weights()[name].to_f64()[1] + 0.1 * expected;
        assert!((run.get(name)[1] - expected).abs() < 1e-12, "{name}: {expected}, found {}", run.get(name)[1]);
    }
}

#[test]
fn masks_multiply_branches_and_features() {
    for norm in [Norm::Fixed, Norm::Trained] {
        let mut run = Run::new(&Choice { masks: true, norm, ..PLAIN });
        assert_eq!(run.graphs.blocks, ["add"]);
        let names: Vec<&str> =
            run.graphs.gradients.inputs().iter().map(|id| run.graphs.gradients.name_of(*id)).collect();
        assert_eq!(names, ["x", "targets", "dropout", "drop_path.0"]);
        let keep = |shape: &[usize], seed: u64| {
            let draws = random(shape, seed, 1.0);
            Literal::new_float(draws.ty.clone(), draws.to_f64().iter().map(|v| f64::from(*v > -0.4) / 0.7).collect())
        };
        let (dropout, path) = (keep(&[IMAGES, CHANNELS], 7), keep(&[IMAGES], 9));
        let masks = Masks { dropout: Some(dropout.clone()), drop_path: Some(path.clone()) };
        let [x, targets] = data();
        run.gradients(&[x.clone(), targets.clone(), dropout, path]);
        check(&mut run, norm == Norm::Trained, &masks, &[x, targets]);
    }
}

fn operators(graph: &Graph) -> Vec<&'static str> {
    graph.topological().unwrap().into_iter().map(|id| graph.node(id).mnemonic()).collect()
}

#[test]
fn what_is_frozen_is_inference() {
    let data = data();
    let mut run = Run::new(&Choice { trained: |name| name.starts_with("fc"), ..PLAIN });
    let ops = operators(&run.graphs.gradients);
    assert!(
        ops.contains(&"batch_norm") && !ops.contains(&"conv_transpose") && !ops.contains(&"unary_gradient"),
        "{ops:?}"
    );
    assert_eq!(ops.iter().filter(|op| **op == "parameter").count(), 2);
    run.gradients(&data);
    check(&mut run, false, &Masks::default(), &data);
    // A scale alone: the weights that are folded with it are a constant.
    let mut run = Run::new(&Choice { trained: |name| name == "bn2.weight", ..PLAIN });
    run.gradients(&data);
    check(&mut run, false, &Masks::default(), &data);
    assert!(!operators(&run.graphs.gradients).contains(&"conv_transpose"));
}

#[test]
fn passes_keep_what_is_computed() {
    for norm in [Norm::Fixed, Norm::Trained] {
        let (mut plain, mut passed) = (Run::new(&Choice { norm, ..PLAIN }), Run::new(&Choice { norm, ..PLAIN }));
        for graph in [&mut passed.graphs.gradients, &mut passed.graphs.mapped, &mut passed.graphs.update] {
            *graph = optimise(graph.clone(), &PipelineOptions::default()).unwrap().graph;
        }
        for _ in 0..2 {
            let losses = [&mut plain, &mut passed].map(|run| run.gradients(&data()));
            assert!((losses[0] - losses[1]).abs() < 1e-12, "{losses:?}");
            for (name, gradient) in plain.mapped() {
                let again = &passed.mapped()[&name];
                assert!(
                    gradient.iter().zip(again).all(|(a, b)| (a - b).abs() < 1e-12),
                    "{name}: {gradient:?} {again:?}"
                );
            }
            for run in [&mut plain, &mut passed] {
                run.update(&[0.1]);
            }
        }
    }
}
