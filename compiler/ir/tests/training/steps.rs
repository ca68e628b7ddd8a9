//! Steps of every optimiser against their formulas, written out over the gradients of the parameters.

use std::collections::BTreeMap;

use fornax_ir::graph::{Graph, Node, evaluate, evaluate_in};
use fornax_ir::training::{Norm, Optimiser};

use crate::network::*;

type Values = BTreeMap<String, Vec<f64>>;

/// A parameter's elements, gradients and two states, with the rates of the step `t` from 1.
struct Element {
    w: f64,
    g: f64,
    s: [f64; 2],
    lr: f64,
    decay: f64,
    t: i32,
}

/// One element of one parameter after a step, and its states.
fn expected(optimiser: Optimiser, Element { w, g, s: [s0, s1], lr, decay, t }: Element) -> (f64, [f64; 2]) {
    match optimiser {
        Optimiser::Sgd { momentum, nesterov } => {
            let g = g + decay * w;
            let v = if momentum == 0.0 { g } else { momentum * s0 + g };
            (w - lr * if nesterov { g + momentum * v } else { v }, [v, 0.0])
        }
        Optimiser::AdamW { beta1, beta2, epsilon } => {
            let (m, v) = (beta1 * s0 + (1.0 - beta1) * g, beta2 * s1 + (1.0 - beta2) * g * g);
            let (mean, spread) = (m / (1.0 - beta1.powi(t)), v / (1.0 - beta2.powi(t)));
            (w * (1.0 - lr * decay) - lr * mean / (spread.sqrt() + epsilon), [m, v])
        }
        Optimiser::RmspropTf { decay: kept, momentum, epsilon } => {
            let g = g + decay * w;
            let s = s0 + (1.0 - kept) * (g * g - s0);
            let u = momentum * s1 + lr * g / (s + epsilon).sqrt();
            (w - u, [s, u])
        }
        Optimiser::Lion { beta1, beta2 } => {
            let along = (beta1 * s0 + (1.0 - beta1) * g).signum();
            (w * (1.0 - lr * decay) - lr * along, [beta2 * s0 + (1.0 - beta2) * g, 0.0])
        }
    }
}

/// Three steps with clipping and averages, each held to the formulas.
fn check(optimiser: Optimiser, norm: Norm) {
    let mut run = Run::new(&Choice { optimiser, norm, extras: true, ..PLAIN });
    let (data, clip) = (data(), 0.7);
    let begin = |value: f64| run.graphs.parameters.iter().map(|p| (p.clone(), vec![value; run.get(p).len()])).collect();
    let initial = |i: usize| optimiser.states().get(i).map_or(0.0, |(_, value)| *value);
    let mut states: [Values; 2] = [begin(initial(0)), begin(initial(1))];
    let averaged: Vec<String> = run.graphs.parameters.iter().chain(&run.graphs.running).cloned().collect();
    let mut averages: Values = averaged.iter().map(|name| (name.clone(), run.get(name))).collect();
    for (t, lr) in (1..).zip([0.1, 0.05, 0.02]) {
        run.gradients(&data);
        let gradients = run.mapped();
        let norm = gradients.values().flatten().map(|g| g * g).sum::<f64>().sqrt();
        let factor = (clip / (norm + 1e-6)).min(1.0);
        let before: Values = run.graphs.parameters.iter().map(|name| (name.clone(), run.get(name))).collect();
        let mut rates = vec![lr];
        if let Optimiser::AdamW { beta1, beta2, .. } = optimiser {
            rates.extend([1.0 / (1.0 - beta1.powi(t)), 1.0 / (1.0 - beta2.powi(t))]);
        }
        rates.extend([clip, 0.9]);
        let outputs = run.update(&rates);
        assert!((outputs[0] - norm).abs() < 1e-12 * norm, "{outputs:?}: {norm}");
        for (name, before) in &before {
            let set = setting(name, &run.variables.get(name).unwrap().ty);
            let after = run.get(name);
            for (i, w) in before.iter().enumerate() {
                let (g, s) = (gradients[name][i] * factor, [states[0][name][i], states[1][name][i]]);
                let element = Element { w: *w, g, s, lr: lr * set.rate, decay: set.decay, t };
                let (expected, next) = expected(optimiser, element);
                // Lion goes by the sign, and a bias before a trained norm has a gradient that is zero but for rounding.
                let signless = matches!(optimiser, Optimiser::Lion { .. }) && g.abs() < 1e-12;
                assert!(
                    (after[i] - expected).abs() < 1e-12 || signless,
                    "{optimiser:?} {name}[{i}]: {expected}, found {}",
                    after[i]
                );
                for (states, next) in states.iter_mut().zip(next) {
                    states.get_mut(name).unwrap()[i] = next;
                }
            }
        }
        for name in &averaged {
            let (average, now) = (averages.get_mut(name).unwrap(), run.get(name));
            average.iter_mut().zip(now).for_each(|(e, w)| *e = 0.9 * *e + (1.0 - 0.9) * w);
            let found = run.get(&format!("ema.{name}"));
            assert!(average.iter().zip(found).all(|(e, found)| (e - found).abs() < 1e-13), "{name}");
        }
        assert!(run.mapped().values().flatten().all(|g| *g == 0.0), "gradients are zeroed");
    }
}

#[test]
fn optimisers_follow_their_formulas() {
    for norm in [Norm::Fixed, Norm::Trained] {
        check(Optimiser::Sgd { momentum: 0.0, nesterov: false }, norm);
        check(Optimiser::Sgd { momentum: 0.9, nesterov: false }, norm);
        check(Optimiser::Sgd { momentum: 0.9, nesterov: true }, norm);
        check(Optimiser::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }, norm);
        check(Optimiser::RmspropTf { decay: 0.9, momentum: 0.9, epsilon: 1e-3 }, norm);
        check(Optimiser::Lion { beta1: 0.9, beta2: 0.99 }, norm);
    }
}

/// After a step the folded weights are those of the new parameters.
#[test]
fn what_is_folded_follows_the_parameters() {
    let mut run = Run::new(&PLAIN);
    let data = data();
    let first = run.gradients(&data);
    run.update(&[0.1]);
    let second = run.gradients(&data);
    let mut moved = weights();
    for (name, value) in &mut moved {
        if let Some(now) = run.variables.get(name) {
            *value = now.clone();
        }
    }
    assert!((second - loss(&moved, false, &Masks::default(), &data)).abs() < 1e-12);
    assert!(second < first, "{first} {second}");
}

#[test]
fn all_graphs_have_the_same_variables() {
    let optimiser = Optimiser::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    for norm in [Norm::Fixed, Norm::Trained] {
        let run = Run::new(&Choice { optimiser, norm, extras: true, masks: true, ..PLAIN });
        let [first, rest @ ..] = [&run.graphs.gradients, &run.graphs.mapped, &run.graphs.update].map(|graph| {
            let nodes = graph.variables().iter().map(|id| graph.node(*id));
            let place =
                |node: &Node| (node.mnemonic(), node.variable().map(|v| (v.name.clone(), v.initial.ty.clone())));
            nodes.map(place).collect::<Vec<_>>()
        });
        assert!(rest.iter().all(|variables| *variables == first));
        let inputs: Vec<&str> = run.graphs.update.inputs().iter().map(|id| run.graphs.update.name_of(*id)).collect();
        assert_eq!(inputs, ["lr", "correction1", "correction2", "clip", "ema"]);
    }
}

/// What the network of the parameters and running averages as they are now says, or of their averages over the steps, in `predict` and
/// written out.
#[test]
fn predictions_follow_what_is_trained() {
    for (norm, extras) in [Norm::Fixed, Norm::Trained].into_iter().flat_map(|norm| [(norm, false), (norm, true)]) {
        let mut run = Run::new(&Choice { norm, extras, ..PLAIN });
        let names = |graph: &Graph| -> Vec<String> {
            graph.variables().iter().filter_map(|id| Some(graph.node(*id).variable()?.name.clone())).collect()
        };
        assert_eq!(names(&run.graphs.predict), names(&run.graphs.gradients), "{norm:?}");
        let [x, targets] = data();
        run.gradients(&[x.clone(), targets]);
        run.update(if extras { &[0.1, 1e6, 0.5] } else { &[0.1] });
        let mut after = weights();
        for (name, value) in &mut after {
            let name = if extras { format!("ema.{name}") } else { name.clone() };
            *value = run.variables.get(&name).cloned().unwrap_or_else(|| value.clone());
        }
        let network = network(&after, IMAGES, false, &Masks::default());
        let expected = evaluate(&network, std::slice::from_ref(&x)).unwrap()[0].to_f64();
        let before = run.get("fc.weight");
        let logits = evaluate_in(&run.graphs.predict, &[x], &mut run.variables).unwrap()[0].to_f64();
        for (expected, logits) in expected.chunks(CLASSES).zip(logits.chunks(CLASSES)) {
            let sum: f64 = logits.iter().map(|logit| logit.exp()).sum();
            let apart = expected.iter().zip(logits).map(|(p, logit)| (p - logit.exp() / sum).abs());
            assert!(apart.fold(0.0, f64::max) < 1e-12, "{norm:?} {extras}: {expected:?}, {logits:?}");
        }
        assert_eq!(run.get("fc.weight"), before, "predictions change nothing");
    }
    let masked = Run::new(&Choice { masks: true, ..PLAIN });
    assert_eq!(masked.graphs.predict.inputs().len(), 1, "no masks");
}
