//! The safe interface: a program with memory and threads of its own.
//!
//! In: tensors of exactly the program's types and shapes. Out: the same bytes every time, whatever the number of
//! threads. Everything is allocated in [`Session::new`], nothing in [`Session::run`].

use std::fmt;
use std::path::Path;
use std::time::Instant;

use crate::cpu::available_threads;
use crate::error::Error;
use crate::frame::Frame;
use crate::library::Library;
use crate::pool::Pool;
use crate::program::Program;
use crate::sync::Arc;
use crate::tensor::Tensor;
use crate::timeline::Timeline;

/// One arena and one state block, one run of one program at a time. Sessions of one program may run side by side, each on a thread of its own.
pub struct Session {
    pub(crate) frame: Frame,
}

impl Session {
    /// Allocates the arena, the state block with the first elements of parameters and states, and a scratch block for each thread of `pool`.
    pub fn new(program: Arc<Program>, pool: Arc<Pool>) -> Result<Session, Error> {
        Session::of(vec![program], pool)
    }

    /// A session of several programs with the same parameters and states, which all of them read and write: the steps of an
    /// optimiser and the network that it trains, say. The first program says what the variables begin with.
    ///
    /// # Errors
    /// [`Error::NoProgram`]; [`Error::State`] if the variables of the programs differ; the system's refusal of memory.
    pub fn of(programs: Vec<Arc<Program>>, pool: Arc<Pool>) -> Result<Session, Error> {
        Ok(Session { frame: Frame::new(programs, pool)? })
    }

    /// Opens the compiled library at `path` and takes its first binding, at the best level of this processor, on a pool of
    /// [`available_threads`], or as many of them as the system gives. For other choices see [`Library`].
    ///
    /// The file is native code and runs as it is: like any shared library it must come from whom one trusts, and nobody may
    /// change it in place while it is in use. [`Library`] says what is checked and what is not.
    ///
    /// # Errors
    /// As [`Library::open`] and [`Library::program`], and the system's refusal of memory.
    pub fn open(path: impl AsRef<Path>) -> Result<Session, Error> {
        let program = Library::open(path)?.program(0, 0)?;
        Session::new(Arc::new(program), Arc::new(Pool::at_most(available_threads(), false)?))
    }

    /// Adds a program of the same parameters and states; its position. It has an arena of its own only where that of the others is too
    /// small for it.
    ///
    /// # Errors
    /// [`Error::State`] if its variables are others; the system's refusal of memory.
    pub fn add_program(&mut self, program: Arc<Program>) -> Result<usize, Error> {
        self.frame.add(program)
    }

    /// Gives the memory of the arena back to the system; the next run takes it again, and computes anew what depends on parameters alone.
    pub fn release_arena(&mut self) {
        self.frame.release_arena();
    }

    /// The program that [`Session::run`] runs: the first.
    pub fn program(&self) -> &Arc<Program> {
        self.frame.program(0)
    }

    /// Number of programs.
    pub fn programs(&self) -> usize {
        self.frame.programs()
    }

    /// The threads it runs on.
    pub fn pool(&self) -> &Arc<Pool> {
        self.frame.pool()
    }

    /// New output tensors of the program's types and shapes.
    pub fn outputs(&self) -> Result<Vec<Tensor>, Error> {
        self.program().outputs().iter().map(|port| Tensor::zeros(port.dtype, port.shape.clone())).collect()
    }

    /// Runs the program once, into `outputs`. A tensor of the wrong type or shape is an error, and nothing is written.
    pub fn run(&mut self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<(), Error> {
        self.run_program(0, inputs, outputs)
    }

    /// Runs program `at` of [`Session::of`] once, like [`Session::run`].
    ///
    /// # Errors
    /// As there; [`Error::ProgramIndex`] if there are fewer.
    pub fn run_program(&mut self, at: usize, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<(), Error> {
        let bound = self.frame.bind(at, inputs, outputs)?;
        let _float = bound.float_environment();
        for step in bound.steps() {
            bound.run_step(step);
        }
        bound.finish();
        Ok(())
    }

    /// Runs the program once, like [`Session::run`], and puts the nanoseconds that each step took, barrier included,
    /// into its entry of `times_ns`; 0 for one that did not have to run.
    pub fn run_profiled(
        &mut self,
        inputs: &[&Tensor],
        outputs: &mut [Tensor],
        times_ns: &mut [u64],
    ) -> Result<(), Error> {
        self.run_program_profiled(0, inputs, outputs, times_ns)
    }

    /// Runs program `at` of [`Session::of`], like [`Session::run_profiled`].
    ///
    /// # Errors
    /// As there; [`Error::ProgramIndex`] if there are fewer programs.
    pub fn run_program_profiled(
        &mut self,
        at: usize,
        inputs: &[&Tensor],
        outputs: &mut [Tensor],
        times_ns: &mut [u64],
    ) -> Result<(), Error> {
        if at >= self.programs() {
            return Err(Error::ProgramIndex { expected: self.programs(), found: at });
        }
        let expected = self.frame.program(at).steps().len();
        if times_ns.len() != expected {
            return Err(Error::TimesLength { expected, found: times_ns.len() });
        }
        let bound = self.frame.bind(at, inputs, outputs)?;
        let _float = bound.float_environment();
        times_ns.fill(0);
        let mut begun = Instant::now();
        for step in bound.steps() {
            bound.run_step(step);
            let ended = Instant::now();
            times_ns[step] = u64::try_from((ended - begun).as_nanos()).unwrap_or(u64::MAX);
            begun = ended;
        }
        bound.finish();
        Ok(())
    }

    /// Runs the program once, like [`Session::run`], and records when each worker was at which step. The clock is read
    /// around every kernel call, so that a step of many small calls takes longer than untraced.
    pub fn run_traced(
        &mut self,
        inputs: &[&Tensor],
        outputs: &mut [Tensor],
        timeline: &mut Timeline,
    ) -> Result<(), Error> {
        let (expected_steps, expected_threads) = (self.program().steps().len(), self.pool().threads());
        let (steps, threads) = (timeline.steps(), timeline.threads());
        if (steps, threads) != (expected_steps, expected_threads) {
            return Err(Error::TimelineSize { expected_steps, expected_threads, steps, threads });
        }
        let bound = self.frame.bind(0, inputs, outputs)?;
        let _float = bound.float_environment();
        timeline.begin();
        for step in bound.steps() {
            bound.run_step_traced(step, timeline);
        }
        bound.finish();
        timeline.end();
        Ok(())
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("program", self.program()).field("pool", self.pool()).finish()
    }
}
