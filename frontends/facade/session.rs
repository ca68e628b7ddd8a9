//! A running model: tensors in, tensors out.
//!
//! In: tensors of any shapes that the model's inputs allow. Out: its outputs. Shapes that were not seen before are
//! compiled first; for those seen last, [`Session::run_into`] allocates nothing.

use std::sync::Arc;

use fornax_ir::inputs::Bindings;
use fornax_runtime::{Error as RuntimeError, Pool, PortKind, Tensor, Timeline, cut_outputs, live_outputs};

use super::compiled::Compiled;
use super::model::Model;
use crate::error::Result;

/// How many sets of shapes a session keeps memory for.
const KEPT: usize = 4;

/// How a session runs.
#[derive(Clone, Debug, Default)]
pub struct SessionOptions {
    /// Threads, the caller included; 0 is as many as the machine gives this process. Where the system refuses some, the session
    /// runs on fewer: [`Pool::threads`] of [`Session::pool`] tells.
    pub threads: usize,
    /// Bind each worker to a processor of its own, on distinct cores as far as these go, where the affinity mask has enough.
    /// The calling thread stays as it is: [`Pool::caller_cpu`] names the processor left for it.
    pub pin: bool,
    /// Shapes to compile for at once.
    pub bindings: Bindings,
}

/// A model with memory and threads of its own.
///
/// ```
/// use fornax::{DType, Model, SessionOptions, Tensor};
///
/// let model = Model::open("examples/signs.onnx")?;
/// let mut session = model.session(&SessionOptions { threads: 1, ..Default::default() })?;
/// let image = Tensor::zeros(DType::F32, [1, 3, 96, 96])?;
/// let mut outputs = session.run(&[&image])?;
/// assert_eq!(outputs[0].shape().to_string(), "[1,12]");
/// session.run_into(&[&image], &mut outputs)?; // allocates nothing
///
/// let batch = Tensor::zeros(DType::F32, [3, 3, 96, 96])?; // another shape: compiled now
/// assert_eq!(session.run(&[&batch])?[0].shape().to_string(), "[3,12]");
/// # Ok::<(), fornax::Error>(())
/// ```
#[derive(Debug)]
pub struct Session {
    model: Model,
    pool: Arc<Pool>,
    /// The sets of shapes used last, latest first.
    bound: Vec<(Arc<Compiled>, fornax_runtime::Session)>,
}

impl Model {
    /// A session on threads and memory of its own. It compiles at once if the options leave no dimension open and no value of an input decides
    /// a shape, else for the shapes and values of the first run.
    ///
    /// # Errors
    /// As [`Model::bind`]; [`crate::Error::Runtime`] if memory cannot be had.
    pub fn session(&self, options: &SessionOptions) -> Result<Session> {
        Session::new(self.clone(), options)
    }
}

impl Session {
    fn new(model: Model, options: &SessionOptions) -> Result<Self> {
        let threads = if options.threads == 0 { fornax_runtime::available_threads() } else { options.threads };
        let compiled = match model.bind_on(threads, &options.bindings) {
            Ok(compiled) => Some(compiled),
            // What is left open, or must be known of inputs, comes with the first run.
            Err(error) if error.is_unbound() || error.wants_values() => None,
            Err(error) => return Err(error),
        };
        let mut session = Self { model, pool: Arc::new(Pool::at_most(threads, options.pin)?), bound: Vec::new() };
        if let Some(compiled) = compiled {
            session.keep(compiled)?;
        }
        Ok(session)
    }

    /// The model it runs.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The threads it runs on.
    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// The program used last, if there is one.
    pub fn compiled(&self) -> Option<&Arc<Compiled>> {
        self.bound.first().map(|(compiled, _)| compiled)
    }

    /// The session of the shapes used last. It holds the model's parameters and states, which go with the session from one set of shapes
    /// to the next.
    pub fn current(&self) -> Option<&fornax_runtime::Session> {
        self.bound.first().map(|(_, session)| session)
    }

    /// The session of the shapes used last, to write parameters and states, or to restore them.
    pub fn current_mut(&mut self) -> Option<&mut fornax_runtime::Session> {
        self.bound.first_mut().map(|(_, session)| session)
    }

    /// Runs the model once on inputs in its order. Outputs with an extent that depends on data are cut to it.
    ///
    /// # Errors
    /// [`crate::Error::Runtime`] or [`crate::Error::Model`] naming the input whose type or shape does not fit; as [`Model::bind`] for
    /// shapes not seen before.
    pub fn run(&mut self, inputs: &[&Tensor]) -> Result<Vec<Tensor>> {
        let session = self.fitting(inputs)?;
        let mut outputs = session.outputs()?;
        session.run(inputs, &mut outputs)?;
        let live = live_outputs(session.program().outputs());
        Ok(if live.is_empty() { outputs } else { cut_outputs(outputs, &live)? })
    }

    /// Tensors for [`Session::run_into`], of the types and shapes of the inputs used last; none before a run, where shapes were left open.
    ///
    /// # Errors
    /// [`crate::Error::Runtime`] if memory cannot be had.
    pub fn room(&self) -> Result<Vec<Tensor>> {
        Ok(self.current().map(fornax_runtime::Session::outputs).transpose()?.unwrap_or_default())
    }

    /// Runs the model once, like [`Session::run`], into tensors of the outputs' types and shapes. They are those of [`Compiled::outputs`]: of an extent that depends
    /// on data there is room for the most, and another output says what it is ([`fornax_runtime::live_outputs`]).
    ///
    /// # Errors
    /// As [`Session::run`]; and [`crate::Error::Runtime`] if an output does not fit, when nothing is written.
    pub fn run_into(&mut self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<()> {
        Ok(self.fitting(inputs)?.run(inputs, outputs)?)
    }

    /// Runs the model once, like [`Session::run_into`], and puts the nanoseconds that each step of the program took into
    /// its entry of `times_ns`.
    ///
    /// # Errors
    /// As [`Session::run_into`]; and [`crate::Error::Runtime`] if there is not one entry per step.
    pub fn run_profiled(&mut self, inputs: &[&Tensor], outputs: &mut [Tensor], times_ns: &mut [u64]) -> Result<()> {
        Ok(self.fitting(inputs)?.run_profiled(inputs, outputs, times_ns)?)
    }

    /// Runs the model once, like [`Session::run_into`], and records when each worker was at which step.
    ///
    /// # Errors
    /// As [`Session::run_into`]; and [`crate::Error::Runtime`] if `timeline` has no room for the program's steps and the pool's
    /// threads.
    pub fn run_traced(&mut self, inputs: &[&Tensor], outputs: &mut [Tensor], timeline: &mut Timeline) -> Result<()> {
        Ok(self.fitting(inputs)?.run_traced(inputs, outputs, timeline)?)
    }

    /// The memory for the shapes of `inputs`; it becomes the one used last.
    fn fitting(&mut self, inputs: &[&Tensor]) -> Result<&mut fornax_runtime::Session> {
        match self.bound.iter().position(|(compiled, _)| compiled.fits(inputs)) {
            Some(0) => {}
            Some(at) => {
                let (front, rest) = self.bound.split_at_mut(at);
                rest[0].1.copy_state(&front[0].1)?;
                self.bound[..=at].rotate_right(1);
            }
            None => {
                let bindings = self.model.with_values(self.bindings(inputs)?, inputs)?;
                let compiled = self.model.bind_on(self.pool.threads(), &bindings)?;
                self.keep(compiled)?;
            }
        }
        Ok(&mut self.bound[0].1)
    }

    fn keep(&mut self, compiled: Arc<Compiled>) -> Result<()> {
        self.bound.truncate(KEPT - 1);
        let mut session = fornax_runtime::Session::new(Arc::clone(compiled.program()), Arc::clone(&self.pool))?;
        if let Some((_, last)) = self.bound.first() {
            session.copy_state(last)?;
        }
        self.bound.insert(0, (compiled, session));
        Ok(())
    }

    /// The shapes of `inputs` by name, after a look at their number and types.
    fn bindings(&self, inputs: &[&Tensor]) -> Result<Bindings> {
        let declared = self.model.inputs();
        if declared.len() != inputs.len() {
            let (expected, found) = (declared.len(), inputs.len());
            return Err(RuntimeError::PortCount { kind: PortKind::Input, expected, found }.into());
        }
        let mut bindings = Bindings::default();
        for (input, tensor) in declared.iter().zip(inputs) {
            if tensor.dtype() != input.dtype {
                let (kind, name) = (PortKind::Input, input.name.clone());
                let (expected, found) = (input.dtype, tensor.dtype());
                return Err(RuntimeError::PortDType { kind, name, expected, found }.into());
            }
            bindings.shapes.insert(input.name.clone(), tensor.shape().to_vec());
        }
        Ok(bindings)
    }
}
