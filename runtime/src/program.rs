//! A compiled program.
//!
//! In: steps, constants and executable memory from the compiler. Out: [`Program`], immutable and shared, whose every
//! offset and index has been checked. What the kernels themselves do with their pointers is the promise of whoever calls
//! [`Program::new`]; [`crate::frame`] binds a program to memory.
#![allow(unsafe_code, reason = "takes the word of whoever generated the code")]

use std::any::Any;
use std::collections::BTreeMap;
use std::fmt;

use bytes::Bytes;

use crate::abi::{ALIGN, KernelFn};
use crate::arena::Block;
use crate::cpu::FloatMode;
use crate::error::{Error, PortKind};
use crate::features::{CpuFeatures, HostProof};
use crate::map::PrivateMap;
use crate::port::Port;
use crate::state::StateParts;
use crate::tensor::Tensor;

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
    /// The same, and written by nobody else.
    Private(PrivateMap),
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

    /// The pages of a file, if they begin and end at multiples of [`ALIGN`].
    pub(crate) fn private(map: PrivateMap) -> Option<ConstantPool> {
        let bytes = map.bytes();
        let aligned = bytes.as_ptr().addr().is_multiple_of(ALIGN) && bytes.len().is_multiple_of(ALIGN);
        aligned.then_some(ConstantPool(Constants::Private(map)))
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
            Constants::Private(map) => map.bytes(),
        }
    }

    /// Address of the first byte. Nothing may be written through it.
    fn as_ptr(&self) -> *mut u8 {
        match &self.0 {
            Constants::Owned(block) => block.as_ptr(),
            Constants::Shared(bytes) => bytes.as_ptr().cast_mut(),
            Constants::Private(map) => map.bytes().as_ptr().cast_mut(),
        }
    }

    /// The `len` bytes from `offset`, to fill.
    ///
    /// # Panics
    /// When they do not lie inside the pool, or the pool shares its bytes; [`ConstantPool::zeroed`] makes one that is not.
    pub fn slice_mut(&mut self, offset: usize, len: usize) -> &mut [u8] {
        match &mut self.0 {
            Constants::Owned(block) => &mut block.bytes_mut()[offset..][..len],
            Constants::Private(map) => &mut map.bytes_mut()[offset..][..len],
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
    /// How many of the first steps depend on constants, parameters and states alone, none of which the program writes, and leave what
    /// they compute in the arena, where no later step writes: they run again only after something else has written a variable, or
    /// another program of the session has run.
    pub prologue: usize,
    /// Inputs, in the order of the model.
    pub inputs: Vec<Port>,
    /// Outputs, in the order of the model.
    pub outputs: Vec<Port>,
    /// Size of the arena. It is zero when a session begins and keeps its contents from one run to the next of the same program.
    pub arena_bytes: usize,
    /// Scratch of each worker.
    pub scratch_bytes: usize,
    /// Packed weights.
    pub constants: ConstantPool,
    /// Parameters and states.
    pub state: StateParts,
    /// What becomes of subnormal numbers in all of the steps.
    pub float_mode: FloatMode,
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
        if parts.prologue > parts.steps.len() {
            return Err(Error::Prologue { expected: parts.steps.len(), found: parts.prologue });
        }
        for (index, step) in parts.steps.iter().enumerate() {
            check_step(&parts, index, step)?;
            first.push(pointers);
            pointers += step.args.len();
        }
        Ok(Program { parts, proof, first })
    }

    /// The program with its names in memory of their own. They were made among what its compilation took, a few on every page; what is freed of
    /// these pages can be given back to the system then.
    pub fn settled(mut self) -> Program {
        // A thread has a heap of its own. Where the system gives none, names stay where they are.
        std::thread::scope(|scope| {
            let parts = &mut self.parts;
            let work = || {
                for step in &mut parts.steps {
                    (step.name, step.node) = (step.name.clone(), step.node.clone());
                    (step.origins, step.args) = (step.origins.clone(), step.args.clone());
                }
                let variables = parts.state.variables.iter_mut().map(|variable| &mut variable.port);
                variables.chain(&mut parts.inputs).chain(&mut parts.outputs).for_each(|port| *port = port.clone());
            };
            let _ = std::thread::Builder::new().spawn_scoped(scope, work);
        });
        self
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

    /// How many of the first steps run only where a variable has been written since they last ran.
    pub fn prologue(&self) -> usize {
        self.parts.prologue
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

    /// What becomes of subnormal numbers while it runs.
    pub fn float_mode(&self) -> FloatMode {
        self.parts.float_mode
    }

    /// The arguments of a step begin here in a table of the arguments of all steps.
    pub(crate) fn first_argument(&self, step: usize) -> usize {
        self.first[step]
    }

    /// Address of the constants' first byte. Nothing may be written through it.
    pub(crate) fn constants_ptr(&self) -> *mut u8 {
        self.parts.constants.as_ptr()
    }

    /// What the code was compiled for.
    pub fn features(&self) -> CpuFeatures {
        self.proof.features()
    }

    /// Counts, types and shapes of a run's tensors.
    pub(crate) fn check_tensors(&self, inputs: &[&Tensor], outputs: &[Tensor]) -> Result<(), Error> {
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
            Arg::Input(port) | Arg::Output(port) if index < parts.prologue => {
                return Err(bad("prologue", "no input and no output".to_owned(), port));
            }
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
