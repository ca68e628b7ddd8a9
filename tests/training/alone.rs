//! Training of a tiny network without any golden file: bits, sums over images, what is learnt, what stays.

use std::path::PathBuf;
use std::sync::Arc;

use fornax::ir::graph::{Graph, Kind, evaluate};
use fornax::ir::inputs::Bindings;
use fornax::ir::ops::literal::Literal;
use fornax::ir::training::{Norm, Optimiser, Setting};
use fornax::ir::types::random_values;
use fornax::runtime::Pool;
use fornax::scaling::build::Outputs;
use fornax::scaling::spec::Spec;
use fornax::train::dataset::{Dataset, DatasetOptions};
use fornax::train::finetune::{FinetuneOptions, Flow, finetune};
use fornax::train::photos::{BadImages, Photos};
use fornax::train::recipe::Recipe;
use fornax::train::scope::Scope;
use fornax::train::step::{Rates, Step, StepBound};
use fornax::{Error, Model, Options, Target, Tensor};
use xxhash_rust::xxh3::xxh3_64;

use crate::networks::Network;
use crate::runs::{Choice, PLAIN};
use crate::{say, support};

/// SAME padding, squeeze-and-excite, a dense and two depthwise blocks, one of them with a shortcut.
const TINY: &str = "
padding = 'same'
eps = 0.001
squeeze_excite = { ratio = 0.25 }
stem = { filters = 8 }
head = { filters = 24 }
preprocessing = { crop = 1.0, mean = [0.5, 0.5, 0.5], std = [0.25, 0.25, 0.25] }
stages = [
  { filters = 8 },
  { filters = 12, kernel = 5, stride = 2, expansion = 3, repeats = 2 },
  { block = 'fused_mbconv', filters = 16, stride = 2, expansion = 2 },
]
";
/// Seed of its weights.
const SEED: u64 = 11;
/// Odd sides, so that pads are uneven.
const SIDES: [usize; 2] = [25, 22];
/// Features that the classifier reads, blocks with a shortcut, classes.
const FEATURES: usize = 24;
const SHORTCUTS: usize = 2;
const CLASSES: usize = 10;

/// Parameters after twenty steps with fixed batch norms, whether calls are of one image or of four.
const FIXED: u64 = 0xfb95_0e7d_9fbd_eb5e;
/// The same with trained batch norms and running averages, of calls of four images.
const TRAINED: u64 = 0xcaa1_53c2_7d83_e980;
/// The demo's parameters after twenty steps, whether calls are of one image or of four.
const SIGNS: u64 = 0x14e3_878a_fb88_37f6;

const ADAMW: Optimiser = Optimiser::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };

/// The network for calls of `images` images.
fn tiny(images: usize) -> Graph {
    Network::seeded(TINY, SEED).graph([images, 3, SIDES[0], SIDES[1]], Outputs::Logits)
}

fn step(graph: &Graph, choice: &Choice<'_>, target: &Target, threads: usize) -> Step {
    let pool = Arc::new(Pool::new(threads, false).expect("threads"));
    Step::new(graph, &choice.options(), target, pool).expect("a step")
}

/// For this machine, on two threads.
fn here(graph: &Graph, choice: &Choice<'_>) -> Step {
    step(graph, choice, &Target::host().expect("a target"), 2)
}

/// Elements of images `from..from + count` of an input, which are the same however images are dealt to calls.
fn elements(name: &str, each: usize, from: usize, count: usize, batch: usize) -> Vec<f32> {
    let of_image = |image: usize| -> Vec<f32> {
        let image_seed = image as u64;
        match name {
            "targets" => {
                let target = |class: usize| f32::from(u8::from(class == image % each)) * 0.9 + 0.1 / each as f32;
                (0..each).map(|class| target(class) / batch as f32).collect()
            }
            "dropout" => {
                random_values(200 + image_seed, each).iter().map(|v| if *v < -0.5 { 0.0 } else { 1.25 }).collect()
            }
            path if path.starts_with("drop_path.") => {
                random_values(300 + image_seed, each).iter().map(|v| if *v < -0.8 { 0.0 } else { 1.125 }).collect()
            }
            _ => random_values(100 + image_seed, each),
        }
    };
    (from..from + count).flat_map(of_image).collect()
}

/// Adds the gradients of images `from..from + count` of a batch of `batch`; the sum of their losses.
fn add(step: &mut Step, from: usize, count: usize, batch: usize) -> f64 {
    let each = step.images();
    assert_eq!(count % each, 0);
    let mut total = 0.0;
    for first in (from..from + count).step_by(each) {
        let tensor = |port: &fornax::Port| {
            let elements = elements(&port.name, port.shape.numel() / each, first, each, batch);
            Tensor::from_f32(port.shape.clone(), &elements).expect("a tensor")
        };
        let tensors: Vec<Tensor> = step.inputs().iter().map(tensor).collect();
        let (losses, _) = step.gradients(&tensors.iter().collect::<Vec<_>>()).expect("gradients");
        total += losses.iter().copied().map(f64::from).sum::<f64>();
    }
    total
}

/// Steps `from..to`, from 0, of batches of four images out of eight.
fn train(step: &mut Step, from: u64, to: u64) {
    for t in from..to {
        add(step, 4 * (t % 2) as usize, 4, 4);
        step.update(&Rates { clip: 1.0, ema: 0.9, ..Rates::new(3e-3, t + 1) }).expect("a step");
    }
}

/// All that a training has: masks, clipping, averages, weight decay.
fn everything(norm: Norm) -> Choice<'static> {
    let norms: &dyn Fn(&str) -> Norm = if norm == Norm::Fixed { &|_| Norm::Fixed } else { &|_| Norm::Trained };
    Choice {
        norms,
        masks: true,
        optimiser: ADAMW,
        setting: &|_, ty| Setting { rate: 1.0, decay: if ty.shape.rank() > 1 { 0.05 } else { 0.0 } },
        clip: true,
        ema: true,
        ..PLAIN
    }
}

/// Bits of all parameters and running averages; with `averaged`, of their averages over the steps too.
fn hash(step: &Step, averaged: bool) -> u64 {
    let forms = if averaged { &[false, true][..] } else { &[false] };
    let constants = forms.iter().flat_map(|averaged| step.constants(*averaged).expect("constants"));
    xxh3_64(&constants.flat_map(|(_, constant)| constant.bytes().expect("elements").to_vec()).collect::<Vec<u8>>())
}

/// Targets with FMA that this machine runs; the others are named.
fn targets() -> Vec<Target> {
    for target in Target::all().filter(|target| target.fma() && !target.runs_here()) {
        say(&format!("NOT RUN: {target} ({}): this machine cannot", target.level.about));
    }
    Target::runnable().into_iter().filter(Target::fma).collect()
}

/// Every target and thread count that does not have the `expected` bits after twenty steps.
fn differing(what: &str, graph: &Graph, choice: &Choice<'_>, expected: u64) -> Vec<String> {
    let mut wrong = Vec::new();
    for target in targets() {
        for threads in [1, 2, 3] {
            let mut step = step(graph, choice, &target, threads);
            train(&mut step, 0, 20);
            let found = hash(&step, choice.ema);
            if found != expected {
                wrong.push(format!(
                    "{what} for {target} on {threads} threads: {found:#018x}, expected {expected:#018x}"
                ));
            }
        }
    }
    wrong
}

#[test]
fn twenty_steps_have_the_committed_bits() {
    let mut wrong = differing("fixed norms", &tiny(1), &everything(Norm::Fixed), FIXED);
    wrong.extend(differing("fixed norms by calls of four", &tiny(4), &everything(Norm::Fixed), FIXED));
    wrong.extend(differing("trained norms", &tiny(4), &everything(Norm::Trained), TRAINED));
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn twenty_steps_of_the_demo_have_the_committed_bits() {
    let model = Model::open(support::examples().join("signs.onnx")).expect("the demo");
    let choice = Choice { masks: false, ema: false, ..everything(Norm::Fixed) };
    for images in [1, 4] {
        let mut bindings = Bindings::default();
        bindings.shapes.insert(model.inputs()[0].name.clone(), vec![images, 3, 96, 96]);
        let graph = model.graph(&bindings).expect("a graph");
        let wrong = differing(&format!("the demo by calls of {images}"), &graph, &choice, SIGNS);
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}

/// Values that are computed again instead of kept are the same, and as many images as there are take less memory.
#[test]
fn bounds_on_memory_change_no_bit() {
    let (target, choice) = (Target::host().expect("a target"), everything(Norm::Fixed));
    for images in [1, 4] {
        let graph = tiny(images);
        let within = |bytes: u64, recompute: f64, as_it_is: u64| {
            let pool = Arc::new(Pool::new(2, false).expect("threads"));
            Step::within(&graph, &choice.options(), &target, pool, StepBound { bytes, recompute, as_it_is })
        };
        let needed = |recompute: f64| match within(1, recompute, 0) {
            Err(Error::Limit { limit: 1, needed, .. }) => needed,
            other => panic!("{other:?}"),
        };
        let (all, least) = (needed(0.0), needed(f64::INFINITY));
        assert!(least < all, "{least} {all}");
        let arena = |step: &Step| step.program().arena_bytes();
        let whole = arena(&here(&graph, &choice));
        assert_eq!(arena(&within(1, f64::INFINITY, all).expect("a step as it is")), whole);
        assert_eq!(arena(&within(all, f64::INFINITY, 0).expect("a step that fits")), whole);
        assert!(matches!(within(all - 1, 0.0, all - 1), Err(Error::Limit { .. })));
        for bytes in [least, least + (all - least) / 2] {
            let mut step = within(bytes, f64::INFINITY, 0).expect("a step");
            assert!(arena(&step) < whole, "{bytes}");
            train(&mut step, 0, 20);
            assert_eq!(hash(&step, true), FIXED, "calls of {images} in {bytes} bytes of {all}");
        }
    }
}

/// What a step predicts is what the network of its parameters says, or of their averages.
#[test]
fn predictions_are_those_of_the_network() {
    for (norm, images, ema) in [(Norm::Fixed, 1, false), (Norm::Fixed, 2, true), (Norm::Trained, 4, true)] {
        let mut graph = tiny(images);
        let mut step = here(&graph, &Choice { ema, ..everything(norm) });
        train(&mut step, 0, 3);
        let shape = step.inputs()[0].shape.clone();
        let values = random_values(7, shape.numel());
        let before = step.save_state();
        let found =
            step.predict(&Tensor::from_f32(shape.clone(), &values).expect("a tensor")).expect("logits").to_vec();
        assert!(step.save_state() == before, "a prediction changes nothing");
        for (name, constant) in step.constants(ema).expect("constants") {
            let id = graph.ids().find(|id| graph.name_of(*id) == name).expect("a constant of the network");
            graph.node_mut(id).kind = Kind::Constant(constant);
        }
        let expected = evaluate(&graph, &[Literal::from_f32(shape.to_vec(), &values)]).expect("logits")[0].to_f64();
        let apart = expected.iter().zip(&found).map(|(a, b)| (a - f64::from(*b)).abs());
        let largest = expected.iter().fold(0.0, |most: f64, value| most.max(value.abs()));
        let apart = apart.fold(0.0, f64::max);
        assert!(found.len() == images * CLASSES && apart <= 1e-5 * largest, "{norm:?}, {ema}: {apart} of {largest}");
        // The next step goes on from where it was.
        train(&mut step, 3, 5);
        let mut other = here(&tiny(images), &Choice { ema, ..everything(norm) });
        train(&mut other, 0, 5);
        assert!(step.save_state() == other.save_state());
    }
}

/// The network is what the tests here take it for.
#[test]
fn the_tiny_network_has_its_inputs() {
    let step = here(&tiny(1), &everything(Norm::Fixed));
    let shapes: Vec<(&str, Vec<usize>)> = step.inputs().iter().map(|port| (&*port.name, port.shape.to_vec())).collect();
    assert_eq!(step.blocks(), SHORTCUTS);
    assert_eq!(shapes[0], ("input", vec![1, 3, SIDES[0], SIDES[1]]));
    assert!(
        shapes.contains(&("dropout", vec![1, FEATURES])) && shapes.contains(&("targets", vec![1, CLASSES])),
        "{shapes:?}"
    );
}

/// What a step has summed up.
fn sums(step: &mut Step) -> Vec<(String, Vec<u8>)> {
    step.summed().expect("gradients").into_iter().map(|(name, tensor)| (name, tensor.bytes().to_vec())).collect()
}

#[test]
fn sums_do_not_depend_on_how_images_are_dealt() {
    let (graph, choice) = (tiny(1), everything(Norm::Fixed));
    let target = Target::host().expect("a target");
    let mut whole = step(&graph, &choice, &target, 1);
    add(&mut whole, 0, 16, 16);
    let expected = sums(&mut whole);
    // Images go to one of two workers in turn, which hand the sums over.
    let mut workers = [1, 3].map(|threads| step(&graph, &choice, &target, threads));
    for image in 0..16 {
        let saved = workers[(image + 1) % 2].save_state();
        let worker = &mut workers[image % 2];
        worker.restore_state(&saved).expect("the state");
        add(worker, image, 1, 16);
    }
    assert!(sums(&mut workers[1]) == expected, "sums that are handed over differ");
    // Calls of several images add them in the same order.
    for images in [2, 4, 16] {
        let mut several = step(&tiny(images), &choice, &target, 2);
        add(&mut several, 0, 16, 16);
        let found = sums(&mut several);
        let differ: Vec<&String> =
            expected.iter().zip(&found).filter(|(a, b)| a != b).map(|((name, _), _)| name).collect();
        assert!(differ.is_empty(), "calls of {images}: {differ:?}");
    }
}

#[test]
fn eight_images_are_learnt_by_heart() {
    for (norm, images) in [(Norm::Fixed, 1), (Norm::Trained, 8)] {
        let norms: &dyn Fn(&str) -> Norm = if norm == Norm::Fixed { &|_| Norm::Fixed } else { &|_| Norm::Trained };
        let mut step = here(&tiny(images), &Choice { norms, optimiser: ADAMW, ..PLAIN });
        let labels = |port: &fornax::Port, from: usize| -> Tensor {
            let each = port.shape.numel() / images;
            let mut values = elements(&port.name, each, from, images, 1);
            if port.name == "targets" {
                // Without smoothing.
                values.iter_mut().for_each(|value| *value = if *value > 0.5 { 0.125 } else { 0.0 });
            }
            Tensor::from_f32(port.shape.clone(), &values).expect("a tensor")
        };
        let mut losses = Vec::new();
        for t in 1..=200 {
            let mut loss = 0.0;
            for from in (0..8).step_by(images) {
                let tensors: Vec<Tensor> = step.inputs().iter().map(|port| labels(port, from)).collect();
                let (found, _) = step.gradients(&tensors.iter().collect::<Vec<_>>()).expect("gradients");
                loss += found.iter().copied().map(f64::from).sum::<f64>();
            }
            losses.push(loss);
            step.update(&Rates::new(3e-3, t)).expect("a step");
        }
        let (first, last) = (losses[0], losses[199]);
        say(&format!("overfit, {norm:?}: loss {first:.3}, after 200 steps {last:.5}"));
        assert!(first > 1.0 && last < 0.05, "{norm:?}: {first}, {last}");
    }
}

#[test]
fn a_saved_state_goes_on_to_the_same_bits() {
    for (norm, images) in [(Norm::Fixed, 1), (Norm::Trained, 4)] {
        let (graph, choice) = (tiny(images), everything(norm));
        let (mut unbroken, mut first, mut second) =
            (here(&graph, &choice), here(&graph, &choice), here(&graph, &choice));
        train(&mut unbroken, 0, 8);
        train(&mut first, 0, 5);
        let saved = first.save_state();
        assert_ne!(hash(&first, true), hash(&unbroken, true));
        second.restore_state(&saved).expect("the state");
        train(&mut second, 5, 8);
        assert!(second.save_state() == unbroken.save_state(), "{norm:?}: a state that was put back goes another way");
        // Bytes of another layout are refused, and change nothing.
        assert!(second.restore_state(&saved[..saved.len() - 1]).is_err());
        assert_eq!(hash(&second, true), hash(&unbroken, true));
    }
}

/// A run of the whole loop over photos: what is outside its scope keeps every bit, what is inside moves.
#[test]
fn what_is_frozen_keeps_its_bits() {
    let spec = Spec::parse(&format!("resolution = 32\nclasses = 5\n{TINY}"), "tiny").expect("a spec");
    let mut options = Options::default();
    options.scaled.seed = SEED;
    let model = Model::from_spec(&spec, PathBuf::from("tiny"), &options).expect("a model");
    let dataset = Dataset::open(support::examples().join("transfer"), &DatasetOptions::default()).expect("photos");
    let preprocess = model.preprocess().expect("settings").expect("how photos become inputs");
    let load = |photos: &[fornax::train::dataset::Photo]| {
        Photos::load(photos.to_vec(), &preprocess, BadImages::Refuse, 1 << 24, 2).expect("photos")
    };
    let (train, val) = (load(&dataset.training), load(&dataset.validation));
    let mut bindings = Bindings::default();
    bindings.shapes.insert("input".into(), vec![1, 3, 32, 32]);
    let before = model.graph(&bindings).expect("a graph");
    for (scope, trained) in
        [(Scope::Top(1), &["blocks.2.", "conv_head", "bn2", "classifier"][..]), (Scope::Head, &["classifier"])]
    {
        let options = FinetuneOptions { epochs: 1, threads: 2, ..FinetuneOptions::default() };
        let options = FinetuneOptions { recipe: Recipe { scope, ..options.recipe }, ..options };
        let told = &mut |_: fornax::train::finetune::Event<'_>| Flow::Continue;
        let done = finetune(&model, (&train, &val), &dataset.classes, &options, None, told).expect("a run");
        let after = done.model.graph(&bindings).expect("a graph");
        let (mut moved, mut kept) = (0, 0);
        for id in before.ids().filter(|id| before.node(*id).constant().is_some()) {
            let name = before.name_of(id);
            let own = after.ids().find(|other| after.name_of(*other) == name).expect("the same names");
            let bits =
                |graph: &Graph, id| graph.node(id).constant().and_then(|constant| Some(constant.bytes()?.to_vec()));
            let same = bits(&before, id).expect("elements") == bits(&after, own).expect("elements");
            let inside = trained.iter().any(|start| name.starts_with(start)) && !name.contains("running");
            assert_eq!(same, !inside, "{scope:?}: {name}");
            if same { kept += 1 } else { moved += 1 }
        }
        assert!(moved >= 2 && kept > 20, "{scope:?}: {moved} moved, {kept} stayed");
    }
}
