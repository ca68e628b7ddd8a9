//! Networks from ONNX files: they train, and their gradients are PyTorch's.

use std::path::PathBuf;
use std::sync::Arc;

use fornax::ir::graph::Graph;
use fornax::ir::inputs::Bindings;
use fornax::ir::training::Optimiser;
use fornax::ir::types::random_values;
use fornax::runtime::Pool;
use fornax::train::dataset::{Dataset, DatasetOptions, Photo};
use fornax::train::finetune::{Event, FinetuneOptions, Flow, finetune};
use fornax::train::metrics::Evaluation;
use fornax::train::photos::{BadImages, Photos};
use fornax::train::recipe::Recipe;
use fornax::train::scope::Scope;
use fornax::train::step::{Rates, Step};
use fornax::{
    ChannelOrder, Crop, DType, Interpolation, Layout, Model, Options, Preprocess, Resampler, Resize, Target, Tensor,
    tensors,
};

use crate::runs::{Choice, PLAIN};
use crate::support::onnx::{Value, Writer};
use crate::support::resnet::resnet18;
use crate::{say, support};

/// Far above what rounding does to a gradient, far below what a wrong rule does.
const NEAR: f64 = 1e-4;

fn graph(model: &Model, shape: &[usize]) -> Graph {
    let mut bindings = Bindings::default();
    bindings.shapes.insert(model.inputs()[0].name.clone(), shape.to_vec());
    model.graph(&bindings).expect("a graph")
}

fn step(graph: &Graph, choice: &Choice<'_>) -> Step {
    let pool = Arc::new(Pool::at_most(2, false).expect("threads"));
    Step::new(graph, &choice.options(), &Target::host().expect("a target"), pool).expect("a step")
}

/// Losses of some updates on the same two images of classes 1 and 4.
fn losses(model: &Model, shape: &[usize]) -> Vec<f64> {
    let optimiser = Optimiser::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
    let mut step = step(&graph(model, shape), &Choice { optimiser, ..PLAIN });
    let inputs: Vec<Vec<Tensor>> = (0..2)
        .map(|image| {
            let tensor = |port: &fornax::Port| {
                let elements = port.shape.numel();
                let values = match port.name.as_str() {
                    "targets" => (0..elements).map(|k| if k == 1 + 3 * image { 0.5 } else { 0.0 }).collect(),
                    _ => random_values(40 + image as u64, elements),
                };
                Tensor::from_f32(port.shape.clone(), &values).expect("a tensor")
            };
            step.inputs().iter().map(tensor).collect()
        })
        .collect();
    let mut losses = Vec::new();
    for number in 1..=6 {
        let mut loss = 0.0;
        for image in &inputs {
            let (own, _) = step.gradients(&image.iter().collect::<Vec<_>>()).expect("gradients");
            loss += f64::from(own[0]);
        }
        losses.push(loss);
        step.update(&Rates::new(3e-4, number)).expect("an update");
    }
    losses
}

fn expect_falling(name: &str, losses: &[f64]) {
    say(&format!("{name}: losses {losses:.3?}"));
    let (first, last) = (losses[0], losses[losses.len() - 1]);
    assert!(last.is_finite() && last < 0.5 * first, "{name}: {losses:?}");
}

#[test]
fn resnet_18_learns() {
    let model = Model::from_bytes(resnet18(64, 10), &Options::default()).expect("a model");
    expect_falling("ResNet-18", &losses(&model, &[1, 3, 64, 64]));
}

#[test]
fn networks_of_others_learn() {
    let Some(models) = support::shared("models") else { return };
    for name in ["squeezenet1.1_imagenet", "mobilenet_v2_1.0_imagenet_float"] {
        let model = Model::open(models.join(name).join("model.onnx")).expect("a model");
        expect_falling(name, &losses(&model, &[1, 3, 224, 224]));
    }
}

/// `python tests/training/torch_gradients.py FOLDER`, then `FORNAX_TORCH=FOLDER cargo test --test training torch`.
#[test]
fn gradients_are_those_of_torch() {
    let Some(folder) = std::env::var_os("FORNAX_TORCH").map(PathBuf::from) else {
        say("NOT RUN: gradients of torch; tests/training/torch_gradients.py writes them into the folder FORNAX_TORCH");
        return;
    };
    let golden = tensors::load(folder.join("step.safetensors")).expect("golden tensors");
    let find = |name: &str| golden.iter().find(|one| one.name.as_deref() == Some(name)).map(|one| &one.tensor);
    let (input, targets) = (find("input").expect("input"), find("targets").expect("targets"));
    let model = Model::open(folder.join("model.onnx")).expect("a model");
    let mut step = step(&graph(&model, input.shape()), &PLAIN);
    step.gradients(&[input, targets]).expect("gradients");
    let (mut worst, mut wrong, found) = ((0.0, String::new()), Vec::new(), step.summed().expect("gradients"));
    for name in step.parameters() {
        let expected = find(&format!("grad.{name}")).unwrap_or_else(|| panic!("no gradient of {name}")).to_f64_vec();
        let found = found[name].to_f64_vec();
        let norm = |values: &mut dyn Iterator<Item = f64>| values.map(|value| value * value).sum::<f64>().sqrt();
        let apart = norm(&mut expected.iter().zip(&found).map(|(a, b)| a - b)) / norm(&mut expected.iter().copied());
        if apart > worst.0 {
            worst = (apart, name.clone());
        }
        if apart.is_nan() || apart > NEAR {
            wrong.push(format!("{name}: {apart:e}"));
        }
    }
    say(&format!("{} gradients, farthest from torch {:.1e} of its norm: {}", found.len(), worst.0, worst.1));
    assert!(wrong.is_empty() && !found.is_empty(), "{wrong:?}");
}

/// A network of the form of SqueezeNet: its classifier is a convolution, whose scores are averaged over a map of 4x4, behind a ReLU or not.
fn squeezed(rectified: bool) -> Model {
    let mut net = Writer::new("squeezed", 17);
    let weight = |net: &mut Writer, name: &str, dims: &[i64], scale: f32, seed: u64| {
        let values = random_values(seed, dims.iter().product::<i64>() as usize);
        net.weight(name, dims, &values.iter().map(|value| scale * value).collect::<Vec<_>>());
    };
    net.input("input", &[1, 3, 32, 32]);
    weight(&mut net, "stem.weight", &[24, 3, 8, 8], 0.2, 1);
    weight(&mut net, "stem.bias", &[24], 0.1, 2);
    weight(&mut net, "head.weight", &[9, 24, 1, 1], 0.4, 3);
    weight(&mut net, "head.bias", &[9], 0.1, 4);
    net.integers("shape", &[1, 9]);
    let strides = [("strides", Value::Ints(&[8, 8]))];
    let x = net.node("Conv", &["input", "stem.weight", "stem.bias"], "stem", &strides);
    let x = net.node("Relu", &[&x], "stem.relu", &[]);
    let mut x = net.node("Conv", &[&x, "head.weight", "head.bias"], "scores", &[]);
    if rectified {
        x = net.node("Relu", &[&x], "scores.relu", &[]);
    }
    let x = net.node("AveragePool", &[&x], "mean", &[("kernel_shape", Value::Ints(&[4, 4]))]);
    net.node("Reshape", &[&x, "shape"], "logits", &[]);
    net.output("logits", &[1, 9]);
    Model::from_bytes(net.finish(), &Options::default()).expect("a model")
}

/// What a network says of the demo's validation after its last layer has been made anew, and after two epochs of all layers.
fn trained(model: &Model) -> [Evaluation; 2] {
    let dataset = Dataset::open(support::examples().join("transfer"), &DatasetOptions::default()).expect("photos");
    let preprocess = Preprocess {
        channel_order: ChannelOrder::Rgb,
        resize: Resize::Exact(32, 32),
        interpolation: Interpolation::Bilinear,
        resampler: Resampler::Pillow,
        crop: Crop::None,
        scale: 1.0 / 255.0,
        mean: vec![0.5; 3],
        std: vec![0.25; 3],
        layout: Layout::Nchw,
        dtype: DType::F32,
    };
    let load = |photos: &[Photo]| Photos::load(photos.to_vec(), &preprocess, BadImages::Refuse, 1 << 24, 2).unwrap();
    let (train, val) = (load(&dataset.training), load(&dataset.validation));
    [(Scope::Head, 1), (Scope::All, 2)].map(|(scope, epochs)| {
        let options = FinetuneOptions { epochs, threads: 2, ..FinetuneOptions::default() };
        let options = FinetuneOptions { recipe: Recipe { scope, ..options.recipe }, ..options };
        let told = &mut |_: Event<'_>| Flow::Continue;
        let done = finetune(model, (&train, &val), &dataset.classes, &options, None, told).expect("a run");
        assert_eq!(done.model.labels().expect("labels").map(|labels| labels.len()), Some(dataset.classes.len()));
        done.evaluation
    })
}

#[test]
fn a_convolution_under_an_average_is_a_last_layer() {
    let ([open, open_all], [rectified, rectified_all]) = (trained(&squeezed(false)), trained(&squeezed(true)));
    say(&format!("linear {:.3}, rectified {:.3}; trained {:.3}", open.loss(), rectified.loss(), rectified_all.loss()));
    // The ReLU lets through what the linear layer says.
    assert!((open.loss() - rectified.loss()).abs() < 1e-4 && open.accuracy(1) == rectified.accuracy(1));
    // Where it lets nothing through, all five classes are alike.
    assert!(open.loss() < 5f64.ln() - 0.01, "{}", open.loss());
    assert!([open_all, rectified_all].iter().all(|said| said.loss() != rectified.loss() && said.loss().is_finite()));
}
