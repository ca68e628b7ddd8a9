//! Training of a network twice over: in native code through [`Step`], and exactly, in `f64` by the reference evaluator.
//!
//! In: a graph, what is trained, named inputs of a whole batch. Out: losses, logits, gradients and variables as `f64`.

use std::collections::BTreeMap;
use std::sync::Arc;

use fornax::compiler::pipeline::{CompileOptions, compile};
use fornax::ir::differentiate;
use fornax::ir::graph::{Environment, Graph, GraphBuilder, evaluate_in};
use fornax::ir::ops::literal::Literal;
use fornax::ir::training::{Norm, Optimiser, Setting, Training, TrainingOptions};
use fornax::ir::types::{DType, TensorType};
use fornax::runtime::{Pool, Session};
use fornax::train::step::{Rates, Step};
use fornax::{Target, Tensor};

use crate::networks::widened;

/// Elements and their shape.
#[derive(Clone)]
pub struct Array {
    pub shape: Vec<usize>,
    pub values: Vec<f64>,
}

impl Array {
    pub fn new(shape: impl Into<Vec<usize>>, values: Vec<f64>) -> Self {
        let array = Self { shape: shape.into(), values };
        assert_eq!(array.shape.iter().product::<usize>(), array.values.len());
        array
    }

    /// Images `from..from + count`.
    fn images(&self, from: usize, count: usize) -> Self {
        let each = self.values.len() / self.shape[0];
        let shape = std::iter::once(count).chain(self.shape[1..].iter().copied());
        Self::new(shape.collect::<Vec<_>>(), self.values[from * each..][..count * each].to_vec())
    }

    fn tensor(&self) -> Tensor {
        let values: Vec<f32> = self.values.iter().map(|value| *value as f32).collect();
        Tensor::from_f32(self.shape.clone(), &values).expect("a tensor")
    }

    fn literal(&self) -> Literal {
        Literal::new_float(TensorType::new(DType::F64, self.shape.clone()), self.values.clone())
    }
}

/// Inputs of a batch by name.
pub type Batch = BTreeMap<String, Array>;
/// Values of tensors by name.
pub type Values = BTreeMap<String, Vec<f64>>;

/// What is trained, and how.
pub struct Choice<'a> {
    pub trained: &'a dyn Fn(&str) -> bool,
    pub norms: &'a dyn Fn(&str) -> Norm,
    pub masks: bool,
    pub optimiser: Optimiser,
    pub setting: &'a dyn Fn(&str, &TensorType) -> Setting,
    pub clip: bool,
    pub ema: bool,
}

/// Everything is trained, plainly.
pub const PLAIN: Choice<'static> = Choice {
    trained: &|_| true,
    norms: &|_| Norm::Fixed,
    masks: false,
    optimiser: Optimiser::Sgd { momentum: 0.0, nesterov: false },
    setting: &|_, _| Setting { rate: 1.0, decay: 0.0 },
    clip: false,
    ema: false,
};

impl Choice<'_> {
    pub fn options(&self) -> TrainingOptions<'_> {
        TrainingOptions {
            trained: self.trained,
            norms: self.norms,
            momentum: 0.1,
            dropout: self.masks,
            drop_path: self.masks,
            optimiser: self.optimiser,
            setting: self.setting,
            clip: self.clip,
            ema: self.ema,
        }
    }
}

/// A training under way.
pub trait Run {
    /// Adds the gradients of a batch to the sums; the sum of the losses, and the logits.
    fn gradients(&mut self, batch: &Batch) -> (f64, Vec<f64>);
    /// The sums, by parameter.
    fn summed(&mut self) -> Values;
    /// A step; the norm of the gradients if they are clipped.
    fn update(&mut self, rates: &Rates) -> Option<f64>;
    /// What a parameter or state holds.
    fn variable(&self, name: &str) -> Vec<f64>;
    /// Names of what is trained, and of running averages.
    fn names(&self) -> (Vec<String>, Vec<String>);
    /// The gradient of the input for a batch that is one call.
    fn input_gradient(&mut self, batch: &Batch) -> Vec<f64>;
}

/// The gradients graph of a training, its result the gradient of the input.
fn of_input(training: &Training) -> Graph {
    let mut b = GraphBuilder::of(training.gradients.clone());
    let (loss, input) = (b.graph().outputs()[0].1, b.graph().inputs()[0].into());
    let gradient = differentiate(&mut b, loss, &[input]).expect("a gradient")[0].expect("a gradient of the input");
    b.graph_mut().set_outputs(vec![("gradient".into(), gradient)]);
    b.finish()
}

/// Native code.
pub struct Native {
    step: Step,
    training: Training,
    target: Target,
    pool: Arc<Pool>,
}

impl Native {
    pub fn new(graph: &Graph, choice: &Choice<'_>, target: &Target, threads: usize) -> Self {
        let pool = Arc::new(Pool::at_most(threads, false).expect("threads"));
        let step = Step::new(graph, &choice.options(), target, Arc::clone(&pool)).expect("a step");
        let training = Training::new(graph, &choice.options()).expect("training graphs");
        Self { step, training, target: target.clone(), pool }
    }

    /// For this machine.
    pub fn here(graph: &Graph, choice: &Choice<'_>) -> Self {
        Self::new(graph, choice, &Target::host().expect("a target"), 2)
    }

    pub fn step(&mut self) -> &mut Step {
        &mut self.step
    }

    pub fn blocks(&self) -> &[String] {
        &self.training.blocks
    }
}

impl Run for Native {
    fn gradients(&mut self, batch: &Batch) -> (f64, Vec<f64>) {
        let names: Vec<String> = self.step.inputs().iter().map(|port| port.name.clone()).collect();
        let (each, all) = (self.step.images(), batch["input"].shape[0]);
        assert_eq!(all % each, 0);
        let (mut total, mut all_logits) = (0.0, Vec::new());
        for from in (0..all).step_by(each) {
            let tensors: Vec<Tensor> = names.iter().map(|name| batch[name].images(from, each).tensor()).collect();
            let (loss, logits) = self.step.gradients(&tensors.iter().collect::<Vec<_>>()).expect("gradients");
            total += loss.iter().copied().map(f64::from).sum::<f64>();
            all_logits.extend(logits.iter().copied().map(f64::from));
        }
        (total, all_logits)
    }

    fn summed(&mut self) -> Values {
        let found = self.step.summed().expect("gradients");
        found.into_iter().map(|(name, tensor)| (name, tensor.to_f64_vec())).collect()
    }

    fn update(&mut self, rates: &Rates) -> Option<f64> {
        self.step.update(rates).expect("a step").map(f64::from)
    }

    fn variable(&self, name: &str) -> Vec<f64> {
        self.step.variable(name).expect("a variable").to_f64_vec()
    }

    fn names(&self) -> (Vec<String>, Vec<String>) {
        (self.training.parameters.clone(), self.training.running.clone())
    }

    fn input_gradient(&mut self, batch: &Batch) -> Vec<f64> {
        let compiled = compile(of_input(&self.training), &self.target, &CompileOptions::default(), 2).expect("code");
        let program = Arc::new(compiled.program.expect("a program"));
        let tensors: Vec<Tensor> = program.inputs().iter().map(|port| batch[&port.name].tensor()).collect();
        let mut session = Session::new(program, Arc::clone(&self.pool)).expect("a session");
        let mut outputs = session.outputs().expect("outputs");
        session.run(&tensors.iter().collect::<Vec<_>>(), &mut outputs).expect("a gradient");
        outputs[0].to_f64_vec()
    }
}

/// The reference evaluator, in `f64`.
pub struct Exact {
    training: Training,
    environment: Environment,
    optimiser: Optimiser,
}

impl Exact {
    pub fn new(graph: &Graph, choice: &Choice<'_>) -> Self {
        let training = Training::new(&widened(graph), &choice.options()).expect("training graphs");
        let environment = Environment::new(&training.gradients).expect("variables");
        Self { training, environment, optimiser: choice.optimiser }
    }

    fn literals(graph: &Graph, batch: &Batch) -> Vec<Literal> {
        graph.inputs().iter().map(|id| batch[graph.name_of(*id)].literal()).collect()
    }
}

impl Run for Exact {
    fn gradients(&mut self, batch: &Batch) -> (f64, Vec<f64>) {
        let graph = &self.training.gradients;
        let found = evaluate_in(graph, &Self::literals(graph, batch), &mut self.environment).expect("gradients");
        (found[0].to_f64().iter().sum(), found[1].to_f64())
    }

    fn summed(&mut self) -> Values {
        let graph = &self.training.mapped;
        let found = evaluate_in(graph, &[], &mut self.environment).expect("gradients");
        graph.outputs().iter().zip(found).map(|((name, _), value)| (name.clone(), value.to_f64())).collect()
    }

    fn update(&mut self, rates: &Rates) -> Option<f64> {
        let graph = &self.training.update;
        let correction = |beta: f64| 1.0 / (1.0 - beta.powf(rates.step as f64));
        let rate = |name: &str| match (name, self.optimiser) {
            ("lr", _) => rates.lr,
            ("clip", _) => rates.clip,
            ("ema", _) => rates.ema,
            ("correction1", Optimiser::AdamW { beta1, .. }) => correction(beta1),
            ("correction2", Optimiser::AdamW { beta2, .. }) => correction(beta2),
            _ => unreachable!("no input of a step is called {name}"),
        };
        let ports = graph.inputs().iter().map(|id| graph.name_of(*id));
        let inputs: Vec<Literal> = ports.map(|name| Array::new([1], vec![rate(name)]).literal()).collect();
        let found = evaluate_in(graph, &inputs, &mut self.environment).expect("a step");
        found.first().map(|norm| norm.to_f64()[0])
    }

    fn variable(&self, name: &str) -> Vec<f64> {
        self.environment.get(name).expect("a variable").to_f64()
    }

    fn names(&self) -> (Vec<String>, Vec<String>) {
        (self.training.parameters.clone(), self.training.running.clone())
    }

    fn input_gradient(&mut self, batch: &Batch) -> Vec<f64> {
        let graph = of_input(&self.training);
        let mut environment = Environment::new(&graph).expect("variables");
        evaluate_in(&graph, &Self::literals(&graph, batch), &mut environment).expect("a gradient")[0].to_f64()
    }
}
