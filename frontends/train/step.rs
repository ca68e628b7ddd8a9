//! A training step in the caller's hands: gradients, then an update.
//!
//! In: a graph and what is trained of it. Out: a [`Step`]: [`Step::gradients`] adds the gradients of some images to sums,
//! [`Step::update`] moves the parameters along them and clears the sums, [`Step::predict`] says what the network makes of images by now. All are
//! compiled programs over one block of parameters and states, which can be saved and put back as bytes, and over one arena. Invariant: bits
//! depend on the images, their order and the options, not on threads or on how the images of a batch are dealt to calls.

use std::collections::BTreeMap;
use std::sync::Arc;

use fornax_compiler::pipeline::{CompileOptions, PipelineOptions, Planned, plan_for};
use fornax_compiler::{Target, Times};
use fornax_ir::graph::Graph;
use fornax_ir::training::{Optimiser, Training, TrainingOptions, correction};
use fornax_ir::types::{Constant, TensorType};
use fornax_runtime::{Pool, Program, Session, Tensor};

use super::fitting;
pub use super::fitting::StepBound;
use crate::error::{Error, Result};

/// Position of the programs in the session.
const GRADIENTS: usize = 0;
const UPDATE: usize = 1;

/// Bound on constant folding in training graphs, which have constants of a channel each to fold.
const FOLD_LIMIT: u64 = 1 << 18;

/// Gradients, their sums, and the update of a network's parameters.
pub struct Step {
    session: Session,
    programs: [Arc<Program>; 2],
    mapped: Later,
    predict: Later,
    target: Target,
    optimiser: Optimiser,
    parameters: Vec<String>,
    running: Vec<String>,
    /// Residual blocks whose branches can be dropped.
    blocks: usize,
    /// Outputs of the gradients program.
    outputs: Vec<Tensor>,
    /// Outputs of the update program.
    norms: Vec<Tensor>,
    times: Times,
}

/// A program that is compiled when it is first asked for.
enum Later {
    Graph(Box<Graph>),
    /// The program, its position in the session, and its outputs.
    Compiled(Arc<Program>, usize, Vec<Tensor>),
}

/// What a step of the optimiser takes besides gradients.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rates {
    /// The learning rate.
    pub lr: f64,
    /// The number of the step, from 1.
    pub step: u64,
    /// The norm to which gradients are clipped, where that was asked for.
    pub clip: f64,
    /// The share of the old average in averages of the parameters, where those were asked for.
    pub ema: f64,
}

impl Rates {
    /// Step `step`, from 1, at a rate.
    pub fn new(lr: f64, step: u64) -> Self {
        Self { lr, step, clip: f64::INFINITY, ema: 0.0 }
    }
}

impl Step {
    /// Compiles the step of `graph` for this machine, to run on `pool`.
    ///
    /// # Errors
    /// As [`Training::new`]; [`Error::Compiler`] and [`Error::Runtime`] as for any program.
    pub fn new(graph: &Graph, options: &TrainingOptions<'_>, target: &Target, pool: Arc<Pool>) -> Result<Self> {
        Self::within(graph, options, target, pool, StepBound::NONE)
    }

    /// [`Step::new`] within a bound on memory, which changes no bit.
    ///
    /// # Errors
    /// As there; [`Error::Limit`] with the least that was found to be possible.
    pub fn within(
        graph: &Graph,
        options: &TrainingOptions<'_>,
        target: &Target,
        pool: Arc<Pool>,
        bound: StepBound,
    ) -> Result<Self> {
        let mut times = Times::default();
        let mut training = times.stage("differentiate", || Training::new(graph, options))?;
        // Written into the session, and kept nowhere else.
        let initials = training.take_initials();
        let Training { gradients, mapped, update, predict, parameters, running, blocks } = training;
        let mut emit = |mut planned: Planned| -> Result<Arc<Program>> {
            let program = planned.emit(pool.threads())?;
            times.extend(&planned.times);
            Ok(Arc::new(program.settled()))
        };
        let compile = options_of_graphs();
        let gradients = emit(fitting::planned(gradients, target, &compile, bound)?)?;
        let update = emit(plan_for(update, std::slice::from_ref(target), &compile)?)?;
        let programs = [gradients, update];
        let mut session = Session::of(programs.to_vec(), pool)?;
        for (name, initial) in initials {
            let unknown = || Error::input("graph", format!("known elements of {name}"), "only a hash");
            session.set_parameter_bytes(&name, &initial.bytes().ok_or_else(unknown)?)?;
        }
        let (outputs, norms) = (outputs_of(&programs[GRADIENTS])?, outputs_of(&programs[UPDATE])?);
        let (optimiser, blocks, target) = (options.optimiser, blocks.len(), target.clone());
        let [mapped, predict] = [mapped, predict].map(|graph| Later::Graph(Box::new(graph)));
        // Graphs and plans took as much as the step needs from now on.
        fornax_runtime::return_free_memory();
        Ok(Self {
            session,
            programs,
            mapped,
            predict,
            target,
            optimiser,
            parameters,
            running,
            blocks,
            outputs,
            norms,
            times,
        })
    }

    /// Images that a call of [`Step::gradients`] takes.
    pub fn images(&self) -> usize {
        self.programs[GRADIENTS].inputs()[0].shape.first().copied().unwrap_or(1)
    }

    /// Inputs of [`Step::gradients`]: the network's own; `targets [m, classes]`, a weight for each class of each image, divided by
    /// whatever the mean is to be taken over; `dropout [m, …]` and `drop_path.N [m]`, factors, if they were asked for.
    pub fn inputs(&self) -> &[fornax_runtime::Port] {
        self.programs[GRADIENTS].inputs()
    }

    /// Number of residual blocks whose branches can be dropped, of which block `N` has the input `drop_path.N`.
    pub fn blocks(&self) -> usize {
        self.blocks
    }

    /// Names of the parameters that are trained.
    pub fn parameters(&self) -> &[String] {
        &self.parameters
    }

    /// Names of the running averages that follow the batches.
    pub fn running(&self) -> &[String] {
        &self.running
    }

    /// How long the parts of its making took.
    pub fn times(&self) -> &Times {
        &self.times
    }

    /// The program that computes gradients.
    pub fn program(&self) -> &Arc<Program> {
        &self.programs[GRADIENTS]
    }

    /// Adds the gradients of some images to the sums; the loss of each image, and the logits.
    ///
    /// # Errors
    /// [`Error::Runtime`] naming the input that does not fit.
    pub fn gradients(&mut self, inputs: &[&Tensor]) -> Result<(&[f32], &[f32])> {
        self.session.run_program(GRADIENTS, inputs, &mut self.outputs)?;
        let values = |at: usize| self.outputs.get(at).and_then(Tensor::as_f32).unwrap_or_default();
        Ok((values(0), values(1)))
    }

    /// [`Step::gradients`], with the nanoseconds that each step of its program took.
    ///
    /// # Errors
    /// As there.
    pub fn gradients_profiled(&mut self, inputs: &[&Tensor], times_ns: &mut [u64]) -> Result<()> {
        Ok(self.session.run_program_profiled(GRADIENTS, inputs, &mut self.outputs, times_ns)?)
    }

    /// Moves the parameters along the sums of the gradients, and clears the sums. The norm of the gradients before they were clipped, where
    /// that was asked for.
    ///
    /// # Errors
    /// [`Error::Runtime`] if the program cannot run.
    pub fn update(&mut self, rates: &Rates) -> Result<Option<f32>> {
        let inputs = self.programs[UPDATE].inputs().iter().map(|port| self.rate(&port.name, rates));
        let tensors = inputs.map(|value| Tensor::from_f32([1], &[value as f32])).collect::<Result<Vec<_>, _>>()?;
        let tensors: Vec<&Tensor> = tensors.iter().collect();
        self.session.run_program(UPDATE, &tensors, &mut self.norms)?;
        Ok(self.norms.first().and_then(Tensor::as_f32).and_then(|values| values.first().copied()))
    }

    fn rate(&self, name: &str, rates: &Rates) -> f64 {
        match (name, self.optimiser) {
            ("lr", _) => rates.lr,
            ("clip", _) => rates.clip.min(f64::from(f32::MAX)),
            ("ema", _) => rates.ema,
            ("correction1", Optimiser::AdamW { beta1, .. }) => correction(beta1, rates.step),
            ("correction2", Optimiser::AdamW { beta2, .. }) => correction(beta2, rates.step),
            _ => 0.0,
        }
    }

    /// The gradient of each parameter as the sums have it now, under the parameter's name. The first call compiles its program.
    ///
    /// # Errors
    /// [`Error::Compiler`] and [`Error::Runtime`] as for any program.
    pub fn summed(&mut self) -> Result<BTreeMap<String, Tensor>> {
        let (program, outputs) = run_later(&mut self.mapped, &mut self.session, &self.target, &[])?;
        Ok(program.outputs().iter().map(|port| port.name.clone()).zip(outputs.iter().cloned()).collect())
    }

    /// The logits of as many images as [`Step::gradients`] takes, without masks, batch norms by their running averages; all by the
    /// averages over the steps where those are kept. The first call compiles its program.
    ///
    /// # Errors
    /// [`Error::Runtime`] naming the input that does not fit; [`Error::Compiler`] as for any program.
    pub fn predict(&mut self, images: &Tensor) -> Result<&[f32]> {
        let (_, outputs) = run_later(&mut self.predict, &mut self.session, &self.target, &[images])?;
        Ok(outputs.first().and_then(Tensor::as_f32).unwrap_or_default())
    }

    /// What a parameter or state holds.
    ///
    /// # Errors
    /// [`Error::Runtime`] if there is none of this name.
    pub fn variable(&self, name: &str) -> Result<Tensor> {
        Ok(self.session.parameter(name)?)
    }

    /// Trained parameters, and running averages that follow the batches, as constants under their names; with `average`, their averages
    /// over the steps.
    ///
    /// # Errors
    /// [`Error::Runtime`] if averages were not asked for.
    pub fn constants(&self, average: bool) -> Result<BTreeMap<String, Constant>> {
        let names = self.parameters.iter().chain(&self.running);
        let constant = |name: &String| -> Result<(String, Constant)> {
            let tensor = self.variable(&if average { averaged(name) } else { name.clone() })?;
            let ty = TensorType::new(tensor.dtype(), tensor.shape().clone());
            Ok((name.clone(), Constant::from_bytes(ty, tensor.bytes().to_vec())))
        };
        names.map(constant).collect()
    }

    /// All parameters and states as bytes.
    pub fn save_state(&self) -> Vec<u8> {
        self.session.save_state()
    }

    /// The two parts of [`Step::save_state`], one after the other, without a copy of what the step holds.
    pub fn state_parts(&self) -> (Vec<u8>, &[u8]) {
        self.session.state_parts()
    }

    /// Gives the memory that is only needed within a call back to the system until the next one.
    pub fn release_arena(&mut self) {
        self.session.release_arena();
        fornax_runtime::return_free_memory();
    }

    /// Puts back what [`Step::save_state`] gave.
    ///
    /// # Errors
    /// [`Error::Runtime`] if the bytes are of another step, or damaged.
    pub fn restore_state(&mut self, saved: &[u8]) -> Result<()> {
        Ok(self.session.restore_state(saved)?)
    }
}

/// The name of the state that holds the average of a parameter.
pub(super) fn averaged(name: &str) -> String {
    format!("ema.{name}")
}

/// Runs a program that may not have been compiled yet; the program and its outputs.
fn run_later<'a>(
    later: &'a mut Later,
    session: &mut Session,
    target: &Target,
    inputs: &[&Tensor],
) -> Result<(&'a Program, &'a [Tensor])> {
    if let Later::Graph(graph) = later {
        // Compiling takes memory of its own.
        session.release_arena();
        let compiled = |graph: Graph| -> Result<Program> {
            let mut planned = plan_for(graph, std::slice::from_ref(target), &options_of_graphs())?;
            Ok(planned.emit(session.pool().threads())?)
        };
        let program = Arc::new(compiled(Graph::clone(graph))?.settled());
        let (at, outputs) = (session.add_program(Arc::clone(&program))?, outputs_of(&program)?);
        *later = Later::Compiled(program, at, outputs);
        fornax_runtime::return_free_memory();
    }
    match later {
        Later::Compiled(program, at, outputs) => {
            session.run_program(*at, inputs, outputs)?;
            Ok((program, outputs))
        }
        Later::Graph(_) => Err(Error::usage("stage", "a program", "a graph")),
    }
}

/// Tensors for the outputs of a program.
fn outputs_of(program: &Program) -> Result<Vec<Tensor>> {
    let outputs = program.outputs().iter().map(|port| Tensor::zeros(port.dtype, port.shape.clone()));
    Ok(outputs.collect::<Result<_, _>>()?)
}

/// Zeros as large as the parameters are written, not kept as constants.
pub(super) fn options_of_graphs() -> CompileOptions {
    PipelineOptions { fold_limit: FOLD_LIMIT, ..PipelineOptions::default() }.into()
}

impl std::fmt::Debug for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Step").field("parameters", &self.parameters.len()).field("inputs", &self.inputs()).finish()
    }
}
