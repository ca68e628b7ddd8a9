//! Executable memory from a plan, handed to the runtime as a program.
//!
//! In: a plan for the host. Out: a [`Program`] whose code lies in one range of pages, writable while it is filled and executable
//! afterwards, never both, and freed when the program drops. Packed constants are written straight into the program's memory.
//! A system may refuse executable memory ([`Error::ExecutableMemory`]); compiling ahead of time needs none.
#![allow(unsafe_code, reason = "generated code is vouched for")]

use std::io;
use std::ops::Range;

#[cfg(test)]
use fornax_runtime::FloatMode;
use fornax_runtime::{ConstantPool, CpuFeatures, HostProof, KernelFn, Port, Program, ProgramParts, Step};

use memmap2::{Mmap, MmapMut};
use wasmtime_internal_jit_icache_coherence::{clear_cache, pipeline_flush_mt};

use super::{MachineCode, pack};
use crate::error::{Error, Result, RuntimeError};
#[cfg(test)]
use crate::kernels::Kernel;
use crate::plan::{Plan, verify_placed};
#[cfg(test)]
use crate::target::Target;
use crate::times::Times;

/// Code in memory, executable and read-only; nothing if there is no code.
struct Executable(Option<Mmap>);

impl Executable {
    /// Copies `code` into fresh pages, one piece after the other, each where its alignment asks for it, and makes them executable.
    /// Returns the offset of each piece too.
    fn new(code: &[MachineCode]) -> io::Result<(Self, Vec<usize>)> {
        let mut total = 0usize;
        let place = |code: &MachineCode| {
            let at = total.next_multiple_of(code.align.max(1) as usize);
            total = at + code.bytes.len();
            at
        };
        let offsets: Vec<usize> = code.iter().map(place).collect();
        if total == 0 {
            return Ok((Self(None), offsets));
        }
        let mut memory = MmapMut::map_anon(total)?;
        for (code, at) in code.iter().zip(&offsets) {
            memory[*at..][..code.bytes.len()].copy_from_slice(&code.bytes);
        }
        let memory = memory.make_exec()?;
        // SAFETY: the range is that of the map.
        unsafe { clear_cache(memory.as_ptr().cast(), memory.len()) }?;
        pipeline_flush_mt()?;
        Ok((Self(Some(memory)), offsets))
    }

    /// The kernel whose code of `bytes` bytes begins at `at`, if that lies inside. It can be called while `self` lives.
    fn kernel(&self, at: usize, bytes: usize) -> Option<KernelFn> {
        let code = self.0.as_ref()?.get(at..at.checked_add(bytes)?).filter(|code| !code.is_empty())?;
        // SAFETY: the address is that of mapped code, and so not null. Calling it is unsafe: who does so answers for the code
        // there and for `self` being alive.
        Some(unsafe { std::mem::transmute::<*const u8, KernelFn>(code.as_ptr()) })
    }
}

/// Compiles a plan for the host into a program.
///
/// # Errors
/// [`Error::Codegen`] if the code generator refuses a kernel, [`Error::Runtime`] if the host lacks the target's features or memory,
/// [`Error::ExecutableMemory`] if it runs no code that a process has written; [`Error::Plan`] if the plan is not one that may be emitted
/// (`plan::verify_placed`).
pub fn compile(plan: &Plan) -> Result<Program> {
    compile_on(fornax_runtime::available_threads(), plan, &mut Times::default())
}

/// [`compile`] on at most `threads` threads, with the time of each stage added to `times`. The program does not depend on
/// the number of threads.
///
/// # Errors
/// As [`compile`].
pub fn compile_on(threads: usize, plan: &Plan, times: &mut Times) -> Result<Program> {
    verify_placed(plan)?;
    let target = plan.code_target();
    let proof = CpuFeatures::prove(target.level.features).map_err(runtime)?;
    let (kernels, functions) = super::distinct_kernels(plan);
    let (offsets, total) = pack::offsets(&plan.constants);
    let initial = total..total + super::initial_bytes(plan);
    let mut constants = ConstantPool::zeroed(initial.end).map_err(runtime)?;
    super::fill_state(plan, constants.slice_mut(total, initial.len()));
    let queue = pack::Queue::new(&plan.constants, constants.slice_mut(0, total));
    let code = match threads {
        0 | 1 => {
            times.stage("pack", || queue.work());
            times.stage("codegen", || super::compile_beside(&kernels, &target, 1, &|| {}))?
        }
        _ => times.stage("codegen and pack", || super::compile_beside(&kernels, &target, threads, &|| queue.work()))?,
    };
    drop(queue);
    let (executable, entries) = times.stage("install", || install(&code))?;
    let functions: Vec<Function> =
        functions.into_iter().map(|at| Function { kernel: entries[at], bytes: code[at].bytes.len() }).collect();
    program(plan, proof, &functions, executable, Data { constants, offset: &|id| offsets[id], initial })
}

/// What a program reads and does not compute.
pub(super) struct Data<'a> {
    /// Constants, and what the state block begins with.
    pub constants: ConstantPool,
    /// Where constant `k` of the plan lies among them.
    pub offset: &'a dyn Fn(usize) -> usize,
    /// Where the beginning of the state block lies among them.
    pub initial: Range<usize>,
}

/// A program from kernels that lie somewhere in `code`: those of step `k` at the offset `placed[k].0`, with `placed[k].1` bytes.
///
/// # Errors
/// As [`compile`].
pub(super) fn program_of(plan: &Plan, code: MachineCode, placed: &[(usize, usize)], data: Data<'_>) -> Result<Program> {
    let proof = CpuFeatures::prove(plan.code_target().level.features).map_err(runtime)?;
    let outside = || Error::Codegen { function: code.name.clone(), message: "a kernel lies outside the code".into() };
    let (executable, offsets) = Executable::new(std::slice::from_ref(&code)).map_err(refused)?;
    let function = |(at, bytes): &(usize, usize)| {
        let at = offsets.first().and_then(|first| first.checked_add(*at));
        let kernel = at.and_then(|at| executable.kernel(at, *bytes)).ok_or_else(outside)?;
        Ok(Function { kernel, bytes: *bytes })
    };
    let functions = placed.iter().map(function).collect::<Result<Vec<Function>>>()?;
    program(plan, proof, &functions, executable, data)
}

/// The code of a step.
#[derive(Clone, Copy)]
struct Function {
    kernel: KernelFn,
    bytes: usize,
}

fn program(
    plan: &Plan,
    proof: HostProof,
    functions: &[Function],
    executable: Executable,
    Data { constants, offset, initial }: Data<'_>,
) -> Result<Program> {
    let steps = plan.steps.iter().zip(functions).map(|(step, function)| Step {
        kernel: function.kernel,
        code_bytes: function.bytes,
        name: step.kernel.name.clone(),
        node: step.node.clone(),
        origins: step.origins.clone(),
        args: step.operands.iter().map(|operand| super::argument(plan, offset, *operand)).collect(),
        chunks: step.kernel.chunks,
        grain: step.grain(&plan.target),
        flops: step.kernel.flops,
        bytes: step.kernel.bytes,
    });
    let port =
        |port: &crate::plan::Port| Port { name: port.name.clone(), dtype: port.ty.dtype, shape: port.ty.shape.clone() };
    let parts = ProgramParts {
        steps: steps.collect(),
        prologue: plan.prologue,
        inputs: plan.inputs.iter().map(port).collect(),
        outputs: plan.outputs.iter().map(port).collect(),
        arena_bytes: plan.arena_bytes,
        scratch_bytes: plan.scratch_bytes,
        constants,
        state: super::state(plan, initial),
        float_mode: plan.float_mode(),
        code: Box::new(executable),
    };
    verify_placed(plan)?;
    // SAFETY: every kernel was generated from its spec, follows the ABI and touches no more than that declares. It has just been checked
    // that arguments and scratch are those of the specs, that every operand and the arena, port, state or constant it lies in
    // are at least as large, and that what is only read is not written: also of plans that someone has changed. What a spec computes
    // and what tables of positions hold is the compiler's own; `verify_placed` says so to those who write them by
    // hand. The executable memory lives in `code`.
    unsafe { Program::new(parts, proof) }.map_err(runtime)
}

fn runtime(error: impl std::fmt::Display) -> Error {
    Error::Runtime(RuntimeError(error.to_string()))
}

fn refused(source: io::Error) -> Error {
    Error::ExecutableMemory(source.to_string())
}

/// Places code in fresh memory and makes it executable.
fn install(code: &[MachineCode]) -> Result<(Executable, Vec<KernelFn>)> {
    let (executable, offsets) = Executable::new(code).map_err(refused)?;
    let entry = |(code, at): (&MachineCode, usize)| {
        let kernel = executable.kernel(at, code.bytes.len());
        kernel.ok_or_else(|| Error::Codegen { function: code.name.clone(), message: "the kernel has no code".into() })
    };
    let entries = code.iter().zip(offsets).map(entry).collect::<Result<Vec<KernelFn>>>()?;
    Ok((executable, entries))
}

/// Compiles one kernel and runs it over all its chunks, `per_call` at a time, on one buffer per argument. For tests of kernels: who
/// makes a spec by hand answers for it.
///
/// # Errors
/// As [`compile`]; and [`Error::Plan`] if a buffer is smaller than the kernel's argument.
#[cfg(test)]
pub(crate) fn run_kernel(kernel: &Kernel, target: &Target, buffers: &mut [Vec<u8>], per_call: u32) -> Result<()> {
    let target = &target.needed(kernel.float_mode());
    let _proof = CpuFeatures::prove(target.level.features).map_err(runtime)?;
    let fits = buffers.len() == kernel.arguments.len()
        && kernel.arguments.iter().zip(buffers.iter()).all(|(argument, buffer)| buffer.len() >= argument.bytes);
    if !fits {
        return Err(Error::Plan(vec![format!("{}: a buffer is smaller than its argument", kernel.name)]));
    }
    let code = super::compile(&[kernel], target)?;
    run_code(&code, buffers, kernel.scratch, kernel.float_mode(), (kernel.chunks, per_call))
}

/// Runs what the back end of x86-64 makes of `body`, which keeps to the buffers and the scratch as it does on the interpreter, over `chunks`.
///
/// # Errors
/// As [`run_kernel`].
#[cfg(test)]
pub(crate) fn run_body(
    target: &Target,
    buffers: &mut [Vec<u8>],
    scratch: usize,
    (mode, chunks): (FloatMode, u32),
    body: impl FnOnce(&mut dyn crate::codegen::Emitter),
) -> Result<()> {
    use crate::codegen::x86;
    let _proof = CpuFeatures::prove(target.level.features).map_err(runtime)?;
    let code =
        MachineCode { name: "body".into(), bytes: x86::compile(target, "body", body)?, align: x86::ALIGN as u64 };
    run_code(&[code], buffers, scratch, mode, (chunks, u32::MAX))
}

/// Calls code that has been checked against its buffers, for so many chunks, of which so many at once.
#[cfg(test)]
fn run_code(
    code: &[MachineCode],
    buffers: &mut [Vec<u8>],
    scratch: usize,
    mode: FloatMode,
    (chunks, per_call): (u32, u32),
) -> Result<()> {
    let (_executable, entries) = install(code)?;
    let mut pointers: Vec<*mut u8> = buffers.iter_mut().map(|b| b.as_mut_ptr()).collect();
    let mut scratch = vec![0u128; scratch.div_ceil(16) + 1];
    let _environment = fornax_runtime::float_environment(mode);
    let mut begin = 0;
    while begin < chunks {
        let end = chunks.min(begin.saturating_add(per_call.max(1)));
        // SAFETY: the function follows the kernel ABI; each buffer was checked against the extent the kernel declares, or by the interpreter
        // that ran the same body on buffers of that size, and the memory of the code outlives the call.
        unsafe { entries[0](pointers.as_mut_ptr(), begin, end, scratch.as_mut_ptr().cast()) };
        begin = end;
    }
    Ok(())
}
