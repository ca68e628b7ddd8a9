//! A compiled program, and its binding to memory.
//!
//! In: steps, constants and executable memory from the compiler. Out: [`Program`], immutable and shared, whose every
//! offset and index has been checked; and `Frame`, the arena, state block, scratch and pointer tables of one session. What the
//! kernels themselves do with their pointers is the promise of whoever calls [`Program::new`].
#![allow(unsafe_code, reason = "calls generated code")]

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::ptr::null_mut;
use std::time::Instant;

use bytes::Bytes;

use crate::abi::{ALIGN, KernelFn};
use crate::arena::Block;
use crate::error::{Error, PortKind};
use crate::features::{CpuFeatures, HostProof};
use crate::pool::Pool;
use crate::port::Port;
use crate::state::StateParts;
use crate::sync::Arc;
use crate::tensor::Tensor;
use crate::timeline::Timeline;

/// Where an argument of a kernel points.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Arg {
    /// A byte offset into the arena.
    Arena(usize),
    /// A byte offset into the constants, which kernels only read.
    Constant(usize),
    /// A byte offset into the state block of the session.
    State(usize),
    /// The data of an input, which kernels only read.
    Input(usize),
    /// The data of an output.
    Output(usize),
    /// Nowhere: an operand that the kernel does not have.
    Null,
}

/// One kernel call, followed by a barrier.
#[derive(Clone, Debug)]
pub struct Step {
    /// The code.
    pub kernel: KernelFn,
    /// Size of the code, bytes.
    pub code_bytes: usize,
    /// Name of the kernel.
    pub name: String,
    /// Name of the compiled graph's node that it belongs to.
    pub node: String,
    /// Names of the model's nodes that it computes, all or a part of each; none for what only moves a result to its place.
    pub origins: Vec<String>,
    /// What its pointer table holds, in order.
    pub args: Vec<Arg>,
    /// Number of chunks, a function of the shapes alone; 0 for nothing to do.
    pub chunks: u32,
    /// Fewest chunks that a thread claims at once, at least 1.
    pub grain: u32,
    /// Floating-point operations of the whole step, two per multiply-add.
    pub flops: u64,
    /// Bytes read and written by the whole step.
    pub bytes: u64,
}

/// The packed weights of a program: one zeroed block of exact size, filled in place by the compiler, or part of a file.
pub struct ConstantPool(Constants);

enum Constants {
    Owned(Block),
    /// Begins at a multiple of [`ALIGN`], and its size is one.
    Shared(Bytes),
}

impl ConstantPool {
    /// `bytes` zero bytes, aligned to [`ALIGN`].
    pub fn zeroed(bytes: usize) -> Result<ConstantPool, Error> {
        Block::zeroed(bytes, "constants").map(|block| ConstantPool(Constants::Owned(block)))
    }

    /// `bytes` as they are, if they begin and end at multiples of [`ALIGN`].
    pub fn shared(bytes: Bytes) -> Option<ConstantPool> {
        let aligned = bytes.as_ptr().addr().is_multiple_of(ALIGN) && bytes.len().is_multiple_of(ALIGN);
        aligned.then_some(ConstantPool(Constants::Shared(bytes)))
    }

    /// Size in bytes.
    pub fn len(&self) -> usize {
        self.as_bytes().len()
    }

    /// True when there are no constants.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All bytes.
    pub fn as_bytes(&self) -> &[u8] {
        match &self.0 {
            Constants::Owned(block) => block.bytes(),
            Constants::Shared(bytes) => bytes,
        }
    }

    /// Address of the first byte. Nothing may be written through it.
    fn as_ptr(&self) -> *mut u8 {
        match &self.0 {
            Constants::Owned(block) => block.as_ptr(),
            Constants::Shared(bytes) => bytes.as_ptr().cast_mut(),
        }
    }

    /// The `len` bytes from `offset`, to fill.
    ///
    /// # Panics
    /// When they do not lie inside the pool, or the pool shares its bytes; [`ConstantPool::zeroed`] makes one that is not.
    pub fn slice_mut(&mut self, offset: usize, len: usize) -> &mut [u8] {
        match &mut self.0 {
            Constants::Owned(block) => &mut block.bytes_mut()[offset..][..len],
            Constants::Shared(_) => panic!("the constants are shared"),
        }
    }
}

impl fmt::Debug for ConstantPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ConstantPool({} bytes)", self.len())
    }
}

/// What a [`Program`] is made of.
pub struct ProgramParts {
    /// Kernel calls in order.
    pub steps: Vec<Step>,
    /// Inputs, in the order of the model.
    pub inputs: Vec<Port>,
    /// Outputs, in the order of the model.
    pub outputs: Vec<Port>,
    /// Size of the arena. It is zero when a session begins and keeps its contents between runs.
    pub arena_bytes: usize,
    /// Scratch of each worker.
    pub scratch_bytes: usize,
    /// Packed weights.
    pub constants: ConstantPool,
    /// Parameters and states.
    pub state: StateParts,
    /// Keeps the memory that the kernels' code is in.
    pub code: Box<dyn Any + Send + Sync>,
}

/// A compiled program. Share it behind an `Arc`; run it through a [`crate::Session`].
pub struct Program {
    parts: ProgramParts,
    proof: HostProof,
    /// Index of each step's first pointer in a table of the pointers of all steps.
    first: Vec<usize>,
}

impl Program {
    /// Checks every offset and index of `parts`.
    ///
    /// # Safety
    /// For as long as `code` lives, every kernel can be called, obeys [`KernelFn`] and needs no features beyond
    /// `proof`. Called for any chunks of its step, on any number of threads at once, it
    /// - reads only the arena, the state block, the constants, and the inputs and outputs among its arguments (constants, inputs and
    ///   outputs up to the next multiple of [`ALIGN`] after their end);
    /// - writes only the arena, the state block, the outputs among its arguments, and `scratch_bytes` of its scratch;
    /// - touches no byte that another chunk of the step writes.
    pub unsafe fn new(parts: ProgramParts, proof: HostProof) -> Result<Program, Error> {
        for port in parts.inputs.iter().chain(&parts.outputs) {
            if port.shape.checked_bytes(port.dtype).is_none() {
                return Err(Error::TensorTooLarge { dtype: port.dtype, shape: port.shape.clone() });
            }
        }
        parts.state.check(parts.constants.len())?;
        let mut first = Vec::with_capacity(parts.steps.len());
        let mut pointers = 0;
        for (index, step) in parts.steps.iter().enumerate() {
            check_step(&parts, index, step)?;
            first.push(pointers);
            pointers += step.args.len();
        }
        Ok(Program { parts, proof, first })
    }

    /// Inputs, in the order of the model.
    pub fn inputs(&self) -> &[Port] {
        &self.parts.inputs
    }

    /// Outputs, in the order of the model.
    pub fn outputs(&self) -> &[Port] {
        &self.parts.outputs
    }

    /// Kernel calls, in order.
    pub fn steps(&self) -> &[Step] {
        &self.parts.steps
    }

    /// Size of the arena of each session.
    pub fn arena_bytes(&self) -> usize {
        self.parts.arena_bytes
    }

    /// Scratch of each worker of a session.
    pub fn scratch_bytes(&self) -> usize {
        self.parts.scratch_bytes
    }

    /// Where the code of each kernel is, for profilers: lines `address size name`, hexadecimal, the form of `perf`'s maps of code
    /// that is in no file.
    pub fn perf_map(&self) -> String {
        let kernels = self.steps().iter().map(|step| (step.kernel as usize, (step.code_bytes, &step.name)));
        let kernels: BTreeMap<usize, (usize, &String)> = kernels.collect();
        let lines = kernels.iter().map(|(address, (bytes, name))| format!("{address:x} {bytes:x} {name}\n"));
        lines.collect()
    }

    /// Packed weights.
    pub fn constants(&self) -> &[u8] {
        self.parts.constants.as_bytes()
    }

    /// Parameters and states.
    pub fn state(&self) -> &StateParts {
        &self.parts.state
    }

    /// What the code was compiled for.
    pub fn features(&self) -> CpuFeatures {
        self.proof.features()
    }

    /// Counts, types and shapes of a run's tensors.
    fn check_tensors(&self, inputs: &[&Tensor], outputs: &[Tensor]) -> Result<(), Error> {
        let count = |kind, expected: usize, found: usize| {
            if expected == found { Ok(()) } else { Err(Error::PortCount { kind, expected, found }) }
        };
        count(PortKind::Input, self.inputs().len(), inputs.len())?;
        count(PortKind::Output, self.outputs().len(), outputs.len())?;
        self.inputs().iter().zip(inputs).try_for_each(|(port, tensor)| port.check(PortKind::Input, tensor))?;
        self.outputs().iter().zip(outputs).try_for_each(|(port, tensor)| port.check(PortKind::Output, tensor))
    }
}

impl fmt::Debug for Program {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Program")
            .field("inputs", &self.parts.inputs)
            .field("outputs", &self.parts.outputs)
            .field("steps", &self.parts.steps.len())
            .field("features", &self.features())
            .finish_non_exhaustive()
    }
}

fn check_step(parts: &ProgramParts, index: usize, step: &Step) -> Result<(), Error> {
    let bad = |field, expected: String, found| Error::BadStep {
        step: index,
        kernel: step.name.clone(),
        node: step.node.clone(),
        field,
        expected,
        found,
    };
    if step.grain == 0 {
        return Err(bad("grain", "at least 1".to_owned(), 0));
    }
    for arg in &step.args {
        match *arg {
            Arg::Arena(offset) if offset > parts.arena_bytes => {
                return Err(bad("arena offset", format!("at most {}", parts.arena_bytes), offset));
            }
            Arg::Constant(offset) if offset > parts.constants.len() => {
                return Err(bad("constant offset", format!("at most {}", parts.constants.len()), offset));
            }
            Arg::State(offset) if offset > parts.state.bytes => {
                return Err(bad("state offset", format!("at most {}", parts.state.bytes), offset));
            }
            Arg::Input(input) if input >= parts.inputs.len() => {
                return Err(bad("input", format!("below {}", parts.inputs.len()), input));
            }
            Arg::Output(output) if output >= parts.outputs.len() => {
                return Err(bad("output", format!("below {}", parts.outputs.len()), output));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The memory of one session, and the pointers of every step.
pub(crate) struct Frame {
    program: Arc<Program>,
    pool: Arc<Pool>,
    /// Kept for the pointers in `table`.
    _arena: Block,
    /// Parameters and states.
    state: Block,
    /// One part of `scratch_stride` bytes per worker.
    scratch: Block,
    scratch_stride: usize,
    /// The pointers of all steps; those of inputs and outputs are valid while a [`Bound`] lives.
    table: Vec<*mut u8>,
}

// SAFETY: the pointers lead into the frame's own blocks, into the program it holds, or to tensors borrowed for the life
// of a `Bound`; none of them belongs to a thread.
unsafe impl Send for Frame {}
// SAFETY: through `&Frame` only the table is read. Kernels write memory, but only while a `Bound` borrows the frame
// mutably.
unsafe impl Sync for Frame {}

impl Frame {
    /// Allocates everything that a run needs.
    pub fn new(program: Arc<Program>, pool: Arc<Pool>) -> Result<Frame, Error> {
        let failed = |bytes| Error::Allocation { what: "scratch", bytes };
        let scratch_bytes = program.scratch_bytes();
        // A line between two workers keeps the prefetcher of one out of the other's lines.
        let stride = scratch_bytes.checked_next_multiple_of(ALIGN).and_then(|n| n.checked_add(2 * ALIGN));
        let stride = if scratch_bytes == 0 { 0 } else { stride.ok_or_else(|| failed(scratch_bytes))? };
        let total = stride.checked_mul(pool.threads()).ok_or_else(|| failed(scratch_bytes))?;
        let arena = Block::zeroed(program.arena_bytes(), "the arena")?;
        let scratch = Block::zeroed(total, "scratch")?;
        let &StateParts { bytes, initial, .. } = program.state();
        let mut state = Block::zeroed(bytes, "the state")?;
        // `Program::new` checked that the first elements lie among the constants.
        state.bytes_mut().copy_from_slice(&program.constants()[initial..][..bytes]);
        let args = program.steps().iter().flat_map(|step| &step.args);
        let table = args
            .map(|arg| match *arg {
                // SAFETY: `Program::new` checked that the offset is at most the size of the arena.
                Arg::Arena(offset) => unsafe { arena.as_ptr().add(offset) },
                // SAFETY: `Program::new` checked that the offset is at most the size of the constants.
                Arg::Constant(offset) => unsafe { program.parts.constants.as_ptr().add(offset) },
                // SAFETY: `Program::new` checked that the offset is at most the size of the state block.
                Arg::State(offset) => unsafe { state.as_ptr().add(offset) },
                Arg::Input(_) | Arg::Output(_) | Arg::Null => null_mut(),
            })
            .collect();
        Ok(Frame { program, pool, _arena: arena, state, scratch, scratch_stride: stride, table })
    }

    pub fn program(&self) -> &Arc<Program> {
        &self.program
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
        self.state.bytes_mut()
    }

    /// Checks the tensors of a run against the program and enters their addresses.
    pub fn bind<'a>(&'a mut self, inputs: &'a [&Tensor], outputs: &'a mut [Tensor]) -> Result<Bound<'a>, Error> {
        self.program.check_tensors(inputs, outputs)?;
        let args = self.program.steps().iter().flat_map(|step| &step.args);
        for (entry, arg) in self.table.iter_mut().zip(args) {
            match *arg {
                Arg::Input(input) => *entry = inputs[input].as_ptr(),
                Arg::Output(output) => *entry = outputs[output].as_ptr(),
                Arg::Arena(_) | Arg::Constant(_) | Arg::State(_) | Arg::Null => {}
            }
        }
        Ok(Bound { frame: self, tensors: PhantomData })
    }

    /// Calls the kernel of a step for chunks `begin..end`.
    ///
    /// # Safety
    /// A [`Bound`] of this frame lives; the chunks are of this step, and no other call has them; `worker` is below the number
    /// of threads of the pool, and no other call with this number is under way.
    unsafe fn call(&self, step: usize, begin: u32, end: u32, worker: usize) {
        let kernel = self.program.steps()[step].kernel;
        let first = self.program.first[step];
        // SAFETY: `scratch` was sized for as many workers as the pool has threads.
        let scratch = unsafe { self.scratch.as_ptr().add(worker * self.scratch_stride) };
        // SAFETY: the table holds the arguments of this step, in order, to memory that the frame owns or that the
        // tensors of this run own, of the sizes that the program states; the program vouches for its kernels.
        unsafe { kernel(self.table[first..].as_ptr(), begin, end, scratch) };
    }
}

/// A frame with the tensors of one run.
pub(crate) struct Bound<'a> {
    frame: &'a mut Frame,
    tensors: PhantomData<(&'a [&'a Tensor], &'a mut [Tensor])>,
}

impl Bound<'_> {
    /// Number of steps.
    pub fn steps(&self) -> usize {
        self.frame.program.steps().len()
    }

    /// Runs one step on all threads and waits for it.
    pub fn run_step(&self, step: usize) {
        let frame: &Frame = self.frame;
        let Step { chunks, grain, .. } = frame.program.steps()[step];
        frame.pool.run(chunks, grain, &|begin, end, worker| {
            // SAFETY: this is a worker of the frame's pool in a region over the step's chunks, while `self` is borrowed.
            unsafe { frame.call(step, begin, end, worker) };
        });
    }

    /// Runs one step, like [`Bound::run_step`], and records each kernel call.
    pub fn run_step_traced(&self, step: usize, timeline: &Timeline) {
        let frame: &Frame = self.frame;
        let Step { chunks, grain, .. } = frame.program.steps()[step];
        frame.pool.run(chunks, grain, &|begin, end, worker| {
            let from = Instant::now();
            // SAFETY: as in `run_step`.
            unsafe { frame.call(step, begin, end, worker) };
            timeline.record(step, worker, from, Instant::now());
        });
    }
}
