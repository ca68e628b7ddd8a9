//! The memory of one session, and the way from there into generated code.
//!
//! In: programs of the same parameters and states, and a pool. Out: a [`Frame`]: one state block that all of them read and write, one
//! arena for one of them at a time, scratch for each worker, and the pointers of every step; [`Frame::bind`] adds the tensors of a run, and
//! then the steps can be called. Invariant: what a program's prologue has left in the arena is there and that of the variables as they
//! are, or the program is marked stale and computes it anew.
#![allow(unsafe_code, reason = "calls generated code")]

use std::marker::PhantomData;
use std::ptr::null_mut;
use std::time::Instant;

use crate::abi::ALIGN;
use crate::arena::{Block, copy_to_zeroed};
use crate::cpu::{FloatGuard, float_environment};
use crate::error::Error;
use crate::pool::Pool;
use crate::program::{Arg, Program, Step};
use crate::state::StateParts;
use crate::sync::Arc;
use crate::tensor::Tensor;
use crate::timeline::Timeline;

/// The memory of one session, and the pointers of every step.
pub(crate) struct Frame {
    pool: Arc<Pool>,
    /// Parameters and states.
    state: Block,
    scratch: Scratch,
    /// As large as what the most demanding of the first programs needs.
    arena: Arc<Block>,
    /// One or more.
    programs: Vec<Bindings>,
}

/// Memory for what a kernel keeps within a call.
struct Scratch {
    /// A part of `stride` bytes for each worker.
    block: Block,
    stride: usize,
    /// Size that programs may ask for.
    each: usize,
}

impl Scratch {
    /// `each` bytes for each of `threads` workers.
    fn new(each: usize, threads: usize) -> Result<Self, Error> {
        let failed = || Error::Allocation { what: "scratch", bytes: each };
        // A line between two workers keeps the prefetcher of one out of the other's lines.
        let stride = each.checked_next_multiple_of(ALIGN).and_then(|n| n.checked_add(2 * ALIGN));
        let stride = if each == 0 { 0 } else { stride.ok_or_else(failed)? };
        let block = Block::zeroed(stride.checked_mul(threads).ok_or_else(failed)?, "scratch")?;
        Ok(Self { block, stride, each })
    }
}

/// A program and its arguments.
struct Bindings {
    program: Arc<Program>,
    /// Where the pointers in `table` lead.
    arena: Arc<Block>,
    /// The pointers of all steps; those of inputs and outputs are valid while a [`Bound`] lives.
    table: Vec<*mut u8>,
    /// Whether a variable or the arena may have been written since the prologue ran.
    stale: bool,
}

// SAFETY: the pointers lead into the frame's own blocks, into the programs it holds, or to tensors borrowed for the life
// of a `Bound`; none of them belongs to a thread.
unsafe impl Send for Frame {}
// SAFETY: through `&Frame` only the tables are read. Kernels write memory, but only while a `Bound` borrows the frame
// mutably.
unsafe impl Sync for Frame {}

impl Frame {
    /// Allocates everything that runs of `programs` need, of which there is at least one. The state block begins with what the first
    /// program says.
    pub fn new(programs: Vec<Arc<Program>>, pool: Arc<Pool>) -> Result<Frame, Error> {
        let first = programs.first().ok_or(Error::NoProgram)?;
        let &StateParts { bytes, initial, initial_bytes, .. } = first.state();
        let mut state = Block::zeroed(bytes, "the state")?;
        // `Program::new` checked that the first elements lie among the constants.
        copy_to_zeroed(&first.constants()[initial..][..initial_bytes], &mut state.bytes_mut()[..initial_bytes]);
        programs.iter().try_for_each(|other| other.state().expect_same(first.state()))?;
        let most = |bytes: fn(&Program) -> usize| programs.iter().map(|program| bytes(program)).max().unwrap_or(0);
        let scratch = Scratch::new(most(Program::scratch_bytes), pool.threads())?;
        let arena = Arc::new(Block::zeroed(most(Program::arena_bytes), "the arena")?);
        let bindings = programs.into_iter().map(|program| Bindings::new(program, &state, &arena));
        let programs = bindings.collect();
        Ok(Frame { pool, state, scratch, arena, programs })
    }

    /// Adds a program of the same parameters and states; its position. It has an arena of its own where that of the others is too small.
    pub fn add(&mut self, program: Arc<Program>) -> Result<usize, Error> {
        program.state().expect_same(self.program(0).state())?;
        if program.scratch_bytes() > self.scratch.each {
            self.scratch = Scratch::new(program.scratch_bytes(), self.pool.threads())?;
        }
        let arena = match program.arena_bytes() {
            bytes if bytes > self.arena.len() => Arc::new(Block::zeroed(bytes, "the arena")?),
            _ => Arc::clone(&self.arena),
        };
        self.programs.push(Bindings::new(program, &self.state, &arena));
        Ok(self.programs.len() - 1)
    }

    /// Gives the pages of the arenas back to the system: they are zero again, and every program is stale.
    pub fn release_arena(&mut self) {
        for bindings in &mut self.programs {
            bindings.stale = true;
            // SAFETY: only kernels read and write the arena, and they run while a `Bound` borrows the frame mutably.
            unsafe { bindings.arena.release() };
        }
    }

    /// A program of the frame.
    ///
    /// # Panics
    /// If it has fewer.
    pub fn program(&self, at: usize) -> &Arc<Program> {
        &self.programs[at].program
    }

    /// Number of programs.
    pub fn programs(&self) -> usize {
        self.programs.len()
    }

    pub fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// The state block.
    pub fn state(&self) -> &[u8] {
        self.state.bytes()
    }

    /// The state block, between two runs.
    pub fn state_mut(&mut self) -> &mut [u8] {
        self.programs.iter_mut().for_each(|program| program.stale = true);
        self.state.bytes_mut()
    }

    /// Checks the tensors of a run against program `at` and enters their addresses. The other programs are stale then.
    pub fn bind<'a>(
        &'a mut self,
        at: usize,
        inputs: &'a [&Tensor],
        outputs: &'a mut [Tensor],
    ) -> Result<Bound<'a>, Error> {
        let found = self.programs.len();
        let bindings = self.programs.get_mut(at).ok_or(Error::ProgramIndex { expected: found, found: at })?;
        bindings.enter(inputs, outputs)?;
        let first_step = if bindings.stale { 0 } else { bindings.program.prologue() };
        let others = self.programs.iter_mut().enumerate().filter(|(other, _)| *other != at);
        others.for_each(|(_, other)| other.stale = true);
        Ok(Bound { frame: self, at, first_step, tensors: PhantomData })
    }

    /// Calls the kernel of a step of program `at` for chunks `begin..end`.
    ///
    /// # Safety
    /// A [`Bound`] of this frame and program lives; the chunks are of this step, and no other call has them; `worker` is below the number
    /// of threads of the pool, and no other call with this number is under way.
    unsafe fn call(&self, at: usize, step: usize, begin: u32, end: u32, worker: usize) {
        let Bindings { program, table, .. } = &self.programs[at];
        let kernel = program.steps()[step].kernel;
        let first = program.first_argument(step);
        // SAFETY: `scratch` was sized for as many workers as the pool has threads, with what the most demanding program asks for.
        let scratch = unsafe { self.scratch.block.as_ptr().add(worker * self.scratch.stride) };
        // SAFETY: the table holds the arguments of this step, in order, to memory that the frame owns or that the
        // tensors of this run own, of the sizes that the program states; the program vouches for its kernels.
        unsafe { kernel(table[first..].as_ptr(), begin, end, scratch) };
    }
}

impl Bindings {
    /// The pointers of a program into `arena`, which is at least of the size that it states, to its constants and to `state`, which is of
    /// the size that it states.
    fn new(program: Arc<Program>, state: &Block, arena: &Arc<Block>) -> Self {
        let args = program.steps().iter().flat_map(|step| &step.args);
        let table = args
            .map(|arg| match *arg {
                // SAFETY: `Program::new` checked that the offset is at most the size of the program's arena, and `arena` is as large.
                Arg::Arena(offset) => unsafe { arena.as_ptr().add(offset) },
                // SAFETY: `Program::new` checked that the offset is at most the size of the constants.
                Arg::Constant(offset) => unsafe { program.constants_ptr().add(offset) },
                // SAFETY: `Program::new` checked that the offset is at most the size of the program's state block, and
                // `StateParts::expect_same` that `state` is of that size.
                Arg::State(offset) => unsafe { state.as_ptr().add(offset) },
                Arg::Input(_) | Arg::Output(_) | Arg::Null => null_mut(),
            })
            .collect();
        Self { program, arena: Arc::clone(arena), table, stale: true }
    }

    /// Checks the tensors of a run and enters their addresses.
    fn enter(&mut self, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<(), Error> {
        self.program.check_tensors(inputs, outputs)?;
        let args = self.program.steps().iter().flat_map(|step| &step.args);
        for (entry, arg) in self.table.iter_mut().zip(args) {
            match *arg {
                Arg::Input(input) => *entry = inputs[input].as_ptr(),
                Arg::Output(output) => *entry = outputs[output].as_ptr(),
                Arg::Arena(_) | Arg::Constant(_) | Arg::State(_) | Arg::Null => {}
            }
        }
        Ok(())
    }
}

/// A frame with the tensors of one run.
pub(crate) struct Bound<'a> {
    frame: &'a mut Frame,
    at: usize,
    first_step: usize,
    tensors: PhantomData<(&'a [&'a Tensor], &'a mut [Tensor])>,
}

impl Bound<'_> {
    /// The steps to run: all, or those after the prologue.
    pub fn steps(&self) -> std::ops::Range<usize> {
        self.first_step..self.program().steps().len()
    }

    /// Puts this thread into the mode that the steps need.
    pub fn float_environment(&self) -> FloatGuard {
        float_environment(self.program().float_mode())
    }

    fn program(&self) -> &Program {
        &self.frame.programs[self.at].program
    }

    /// Notes that all of [`Bound::steps`] have run.
    pub fn finish(self) {
        self.frame.programs[self.at].stale = false;
    }

    /// Runs one step on all threads and waits for it.
    pub fn run_step(&self, step: usize) {
        let (frame, at): (&Frame, usize) = (self.frame, self.at);
        let Step { chunks, grain, .. } = self.program().steps()[step];
        frame.pool.run_in(self.program().float_mode(), chunks, grain, &|begin, end, worker| {
            // SAFETY: this is a worker of the frame's pool in a region over the step's chunks, while `self` is borrowed.
            unsafe { frame.call(at, step, begin, end, worker) };
        });
    }

    /// Runs one step, like [`Bound::run_step`], and records each kernel call.
    pub fn run_step_traced(&self, step: usize, timeline: &Timeline) {
        let (frame, at): (&Frame, usize) = (self.frame, self.at);
        let Step { chunks, grain, .. } = self.program().steps()[step];
        frame.pool.run_in(self.program().float_mode(), chunks, grain, &|begin, end, worker| {
            let from = Instant::now();
            // SAFETY: as in `run_step`.
            unsafe { frame.call(at, step, begin, end, worker) };
            timeline.record(step, worker, from, Instant::now());
        });
    }
}
