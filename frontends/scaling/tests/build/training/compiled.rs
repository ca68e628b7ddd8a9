//! Training graphs as programs over one state block, and those of imported networks.

use std::sync::Arc;

use fornax_compiler::pipeline::plan_of;
use fornax_compiler::{Target, jit};
use fornax_ir::graph::{Graph, evaluate_in};
use fornax_ir::inputs::Bindings;
use fornax_ir::ops::literal::Literal;
use fornax_ir::training::{Norm, Optimiser};
use fornax_ir::types::random_values;
use fornax_onnx::{Limits, OnnxFile};
use fornax_runtime::{Pool, Session, Tensor};
use fornax_scaling::architecture::Padding;
use fornax_scaling::build::{BuildOptions, Outputs, build};
use fornax_scaling::weights::random::Random;

use super::{Case, f32s, plain};
use crate::small;
use crate::support::{Family, shared};

/// A program that keeps its variables from run to run.
fn session(graph: &Graph) -> Session {
    let plan = plan_of(graph, &Target::host().expect("a target")).unwrap_or_else(|e| panic!("{e}"));
    let program = Arc::new(jit::compile(&plan).expect("a program"));
    Session::new(program, Arc::new(Pool::new(2, false).expect("threads"))).expect("a session")
}

/// Runs a session that takes over the variables of another.
fn run(session: &mut Session, state: &[u8], inputs: &[Literal]) -> (Vec<Vec<f64>>, Vec<u8>) {
    session.restore_state(state).expect("the same layout");
    let tensor = |x: &Literal| Tensor::from_bytes(x.ty.dtype, x.ty.shape.clone(), &x.to_bytes()).expect("a tensor");
    let inputs: Vec<Tensor> = inputs.iter().map(tensor).collect();
    let mut outputs = session.outputs().expect("outputs");
    session.run(&inputs.iter().collect::<Vec<_>>(), &mut outputs).expect("a run");
    let floats = |y: &Tensor| y.bytes().as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect();
    (outputs.iter().map(floats).collect(), session.save_state())
}

/// Fails unless two runs of the same graph agree, each output within a share of its size or, where it is zero but for rounding, of the others'.
fn expect_close(what: &str, share: f64, expected: &[Literal], found: &[Vec<f64>]) {
    assert_eq!(expected.len(), found.len(), "{what}");
    let size = |output: &Literal| output.to_f64().iter().fold(0.0f64, |m, v| m.max(v.abs()));
    let all = expected.iter().map(size).fold(0.0f64, f64::max);
    for (i, (expected, found)) in expected.iter().zip(found).enumerate() {
        let largest = size(expected).max(1e-3 * all);
        let far = expected.to_f64().iter().zip(found).fold(0.0f64, |m, (a, b)| m.max((a - b).abs()));
        assert!(far <= share * largest, "{what}, output {i}: {far} of {largest}");
    }
}

/// The three graphs compiled, over one state block, against the evaluator.
#[test]
fn training_graphs_are_compiled() {
    let architecture = small(Family::V1, Padding::Same, 1e-3);
    let options = BuildOptions { batch: 2, side: (33, 32), outputs: Outputs::Logits };
    let graph = build(&architecture, &options, &Random { seed: 7 }).expect("a graph");
    let adamw = Optimiser::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-3 };
    // AdamW would make steps of what trained norms leave of gradients that are zero.
    let rmsprop = Optimiser::RmspropTf { decay: 0.9, momentum: 0.9, epsilon: 1e-3 };
    // The last maps have four values in a channel, whose statistics carry roundings far.
    for (norm, optimiser, share) in [(Norm::Fixed, adamw, 1e-3), (Norm::Trained, rmsprop, 1e-2)] {
        let case = Case {
            trained: &|_| true,
            norms: &|_| norm,
            masks: [true; 2],
            optimiser,
            setting: &plain,
            extras: [true; 2],
        };
        let (training, mut variables) = case.build(&graph);
        let [mut gradients, mut mapped, mut update] =
            [&training.gradients, &training.mapped, &training.update].map(session);
        let mut state = gradients.save_state();
        let images = training.gradients.inputs().iter().zip(1u64..).map(|(id, seed)| {
            let ty = training.gradients.ty(*id);
            let values = random_values(seed, ty.shape.numel()).iter().map(|v| f64::from(v.abs())).collect();
            f32s(&ty.shape, values)
        });
        let images: Vec<Literal> = images.collect();
        for t in 1..3 {
            let mut both = |session: &mut Session, graph: &Graph, inputs: &[Literal], what: &str| {
                let expected = evaluate_in(graph, inputs, &mut variables).expect("a run");
                let (found, after) = run(session, &state, inputs);
                state = after;
                expect_close(&format!("{norm:?} {what} {t}"), share, &expected, &found);
            };
            both(&mut gradients, &training.gradients, &images, "gradients");
            both(&mut mapped, &training.mapped, &[], "mapped");
            let mut rates = vec![1e-3, 1.0, 0.9];
            if optimiser == adamw {
                rates.splice(1..1, [0.9f64, 0.999].map(|beta| 1.0 / (1.0 - beta.powi(t))));
            }
            let rates: Vec<Literal> = rates.into_iter().map(|value| f32s(&[1], vec![value])).collect();
            both(&mut update, &training.update, &rates, "update");
        }
    }
}

/// Networks as they are imported, of which nothing but the graph is known.
#[test]
fn imported_networks_have_training_graphs() {
    let case = Case {
        trained: &|_| true,
        norms: &|_| Norm::Fixed,
        masks: [true; 2],
        optimiser: Optimiser::Sgd { momentum: 0.9, nesterov: false },
        setting: &plain,
        extras: [false; 2],
    };
    for (model, parameters, blocks) in [
        ("mobilenet_v1_0.25_imagenet", 83, 0),
        ("mobilenet_v2_1.0_imagenet_float", 106, 10),
        ("squeezenet1.1_imagenet", 52, 0),
        ("efficientnet_w0.35_d0.6_signdigits", 174, 6),
    ] {
        let Some(path) = shared(&format!("models/{model}/model.onnx")) else { return };
        let file = OnnxFile::open(&path, &Limits::default()).expect("a model");
        let graph = file.import(&Bindings::default()).expect("a graph");
        let (training, _) = case.build(&graph);
        assert_eq!((training.parameters.len(), training.blocks.len()), (parameters, blocks), "{model}");
        assert_eq!(training.mapped.outputs().len(), parameters, "{model}");
    }
}
