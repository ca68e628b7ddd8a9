//! A small network in `f64` whose weights are given by name, its loss, and its training graphs.

use std::collections::BTreeMap;

use fornax_ir::graph::{Environment, Graph, GraphBuilder, ValueId, evaluate, evaluate_in};
use fornax_ir::ops::literal::Literal;
use fornax_ir::ops::reduce::ReduceKind;
use fornax_ir::ops::{BatchNorm, BatchStatistics, Binary, Conv, Gemm, Reduce, Reshape, Softmax, Unary};
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::training::{Norm, Optimiser, Setting, Training, TrainingOptions};
use fornax_ir::types::{DType, TensorType, random_values};

pub type Weights = BTreeMap<String, Literal>;

/// Images in a batch, channels, classes.
pub const IMAGES: usize = 3;
pub const CHANNELS: usize = 4;
pub const CLASSES: usize = 3;
pub const EPSILON: f32 = 0.01;

/// An `f64` literal of random elements.
pub fn random(shape: &[usize], seed: u64, scale: f64) -> Literal {
    let ty = TensorType::new(DType::F64, shape);
    let values = random_values(seed, ty.shape.numel()).iter().map(|v| f64::from(*v) * scale).collect();
    Literal::new_float(ty, values)
}

/// Elements that are above zero.
fn positive(shape: &[usize], seed: u64) -> Literal {
    let v = random(shape, seed, 1.0);
    Literal::new_float(v.ty.clone(), v.to_f64().iter().map(|v| v * v + 0.3).collect())
}

/// The weights that the network begins with.
pub fn weights() -> Weights {
    let mut weights = Weights::new();
    let mut add = |name: &str, value: Literal| _ = weights.insert(name.into(), value);
    add("stem.weight", random(&[CHANNELS, 2, 3, 3], 1, 0.6));
    add("stem.bias", random(&[CHANNELS], 2, 0.5));
    add("block.weight", random(&[CHANNELS, 1, 3, 3], 3, 0.8));
    add("fc.weight", random(&[CLASSES, CHANNELS], 4, 1.0));
    add("fc.bias", random(&[CLASSES], 5, 0.5));
    for (i, norm) in (0..).zip(["bn1", "bn2"]) {
        add(&format!("{norm}.weight"), random(&[CHANNELS], 10 + i, 1.0));
        add(&format!("{norm}.bias"), random(&[CHANNELS], 20 + i, 0.5));
        add(&format!("{norm}.running_mean"), random(&[CHANNELS], 30 + i, 0.5));
        add(&format!("{norm}.running_var"), positive(&[CHANNELS], 40 + i));
    }
    weights
}

/// What multiplies values of the network in training.
#[derive(Clone, Default)]
pub struct Masks {
    pub dropout: Option<Literal>,
    pub drop_path: Option<Literal>,
}

/// The network of `weights`, for `images` images: convolution with bias, batch norm, SiLU, a depthwise block with a shortcut, a mean, a
/// linear layer. With `batch` its norms take the statistics of the batch.
pub fn network(weights: &Weights, images: usize, batch: bool, masks: &Masks) -> Graph {
    let mut b = GraphBuilder::new("net").with_fold_limit(0);
    let x = b.input_of("x", TensorType::new(DType::F64, [images, 2, 6, 5]));
    let op = |b: &mut GraphBuilder, name: &str, op: fornax_ir::ops::Op, x: &[ValueId], constants: &[&str]| {
        let mut operands = x.to_vec();
        operands.extend(constants.iter().map(|name| b.constant(name, weights[*name].to_constant())));
        b.op(name, op, &operands).unwrap()
    };
    let norm = |b: &mut GraphBuilder, name: &str, x: ValueId| {
        let mut operands = vec![x];
        let parts = ["weight", "bias", "running_mean", "running_var"];
        operands.extend(parts.iter().map(|part| {
            let name = format!("{name}.{part}");
            b.constant(&name, weights[&name].to_constant())
        }));
        if batch {
            let statistics = b.ops_from(&["mean", "variance"], BatchStatistics {}, &[x], Vec::new()).unwrap();
            operands[3..].copy_from_slice(&statistics);
        }
        b.op(name, BatchNorm { epsilon: EPSILON }, &operands).unwrap()
    };
    let masked = |b: &mut GraphBuilder, x: ValueId, mask: &Option<Literal>, shape: &[usize]| match mask {
        None => x,
        Some(mask) => {
            let mask = b.constant("mask", mask.clone().reshaped(shape.into()).to_constant());
            b.op("masked", Binary { function: BinaryFn::Mul }, &[x, mask]).unwrap()
        }
    };
    let stem = Conv { strides: vec![2, 1], pads: vec![0, 1, 1, 1], bias: true, ..Conv::default() };
    let x = op(&mut b, "stem", stem.into(), &[x], &["stem.weight", "stem.bias"]);
    let x = norm(&mut b, "bn1", x);
    let x = op(&mut b, "act", Unary { function: UnaryFn::Silu }.into(), &[x], &[]);
    let block = Conv { pads: vec![1; 4], group: CHANNELS, ..Conv::default() };
    let y = op(&mut b, "block", block.into(), &[x], &["block.weight"]);
    let y = norm(&mut b, "bn2", y);
    let y = masked(&mut b, y, &masks.drop_path, &[images, 1, 1, 1]);
    let x = op(&mut b, "add", Binary { function: BinaryFn::Add }.into(), &[y, x], &[]);
    let mean = Reduce { kind: ReduceKind::Mean, axes: vec![2, 3], keepdims: true };
    let x = op(&mut b, "pool", mean.into(), &[x], &[]);
    let x = op(&mut b, "flat", Reshape { shape: vec![images, CHANNELS] }.into(), &[x], &[]);
    let x = masked(&mut b, x, &masks.dropout, &[images, CHANNELS]);
    let dense = Gemm { trans_b: true, bias: true, ..Gemm::default() };
    let x = op(&mut b, "fc", dense.into(), &[x], &["fc.weight", "fc.bias"]);
    let x = op(&mut b, "softmax", Softmax { axis: 1, log: false }.into(), &[x], &[]);
    b.output("y", x);
    b.finish()
}

/// The images, and targets that are neither hard nor sum to one.
pub fn data() -> [Literal; 2] {
    let targets = random(&[IMAGES, CLASSES], 51, 0.4);
    let targets = Literal::new_float(targets.ty.clone(), targets.to_f64().iter().map(|v| v.abs()).collect());
    [random(&[IMAGES, 2, 6, 5], 50, 1.0), targets]
}

/// Minus the sum of targets times the logarithms of probabilities.
pub fn loss(weights: &Weights, batch: bool, masks: &Masks, [x, targets]: &[Literal; 2]) -> f64 {
    let found = evaluate(&network(weights, IMAGES, batch, masks), std::slice::from_ref(x)).unwrap();
    found[0].to_f64().iter().zip(targets.to_f64()).map(|(p, t)| -t * p.ln()).sum()
}

/// What the tests train.
pub struct Choice {
    pub trained: fn(&str) -> bool,
    pub norm: Norm,
    pub optimiser: Optimiser,
    pub masks: bool,
    pub extras: bool,
}

pub const PLAIN: Choice = Choice {
    trained: |_| true,
    norm: Norm::Fixed,
    optimiser: Optimiser::Sgd { momentum: 0.0, nesterov: false },
    masks: false,
    extras: false,
};

pub fn setting(name: &str, ty: &TensorType) -> Setting {
    let decay = if ty.shape.rank() > 1 { 0.05 } else { 0.0 };
    Setting { rate: if name.starts_with("stem") { 0.5 } else { 1.0 }, decay }
}

pub fn training(graph: &Graph, choice: &Choice) -> fornax_ir::Result<Training> {
    Training::new(
        graph,
        &TrainingOptions {
            trained: &choice.trained,
            norms: &|_| choice.norm,
            momentum: 0.1,
            dropout: choice.masks,
            drop_path: choice.masks,
            optimiser: choice.optimiser,
            setting: &setting,
            clip: choice.extras,
            ema: choice.extras,
        },
    )
}

/// Training graphs and their variables.
pub struct Run {
    pub graphs: Training,
    pub variables: Environment,
}

impl Run {
    pub fn new(choice: &Choice) -> Self {
        let graphs = training(&network(&weights(), IMAGES, false, &Masks::default()), choice).unwrap();
        [&graphs.gradients, &graphs.mapped, &graphs.update, &graphs.predict]
            .into_iter()
            .for_each(|graph| fornax_ir::graph::verify(graph).unwrap_or_else(|e| panic!("{e}\n{graph}")));
        let variables = Environment::new(&graphs.gradients).unwrap();
        Self { graphs, variables }
    }

    /// The loss of a batch, whose gradients are added to the states.
    pub fn gradients(&mut self, inputs: &[Literal]) -> f64 {
        evaluate_in(&self.graphs.gradients, inputs, &mut self.variables).unwrap()[0].to_f64().iter().sum()
    }

    /// The gradients of the parameters.
    pub fn mapped(&mut self) -> BTreeMap<String, Vec<f64>> {
        let found = evaluate_in(&self.graphs.mapped, &[], &mut self.variables).unwrap();
        self.graphs
            .mapped
            .outputs()
            .iter()
            .map(|(name, _)| name.clone())
            .zip(found.iter().map(Literal::to_f64))
            .collect()
    }

    /// A step; the outputs of its graph.
    pub fn update(&mut self, rates: &[f64]) -> Vec<f64> {
        let one = |value: &f64| Literal::new_float(TensorType::new(DType::F64, [1]), vec![*value]);
        let rates: Vec<Literal> = rates.iter().map(one).collect();
        evaluate_in(&self.graphs.update, &rates, &mut self.variables)
            .unwrap()
            .iter()
            .flat_map(Literal::to_f64)
            .collect()
    }

    /// The elements of a variable.
    pub fn get(&self, name: &str) -> Vec<f64> {
        self.variables.get(name).unwrap_or_else(|| panic!("no variable {name}")).to_f64()
    }
}
