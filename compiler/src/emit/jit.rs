//! Executable memory from a plan, handed to the runtime as a program.
//!
//! In: a plan for the host. Out: a [`Program`] whose code lies in one reserved range, writable while it is filled and executable
//! afterwards, never both, and freed when the program drops. Packed constants are written straight into the program's memory.
#![allow(unsafe_code, reason = "generated code is called, and its memory is freed")]

use std::sync::Mutex;

use cranelift_jit::{ArenaMemoryProvider, JITBuilder, JITModule};
use cranelift_module::{Linkage, Module, default_libcall_names};
use fornax_runtime::{ConstantPool, CpuFeatures, HostProof, KernelFn, Port, Program, ProgramParts, Step};

use super::{MachineCode, pack};
use crate::codegen::clif;
use crate::error::{Error, Result, RuntimeError};
use crate::kernels::Kernel;
use crate::plan::{Plan, verify_placed};
use crate::target::Target;
use crate::times::Times;

/// Address space reserved for code. Nothing is committed before it is used; PC-relative calls reach all of it.
const RESERVED: usize = 256 << 20;

/// The module that owns executable memory.
struct Executable(Option<JITModule>);

impl Drop for Executable {
    fn drop(&mut self) {
        if let Some(module) = self.0.take() {
            // SAFETY: the program that owns this value is dropping, so none of its functions runs or can be called again.
            unsafe { module.free_memory() };
        }
    }
}

/// Compiles a plan for the host into a program.
///
/// # Errors
/// [`Error::Codegen`] if the code generator refuses a kernel, [`Error::Runtime`] if the host lacks the target's features or memory.
pub fn compile(plan: &Plan) -> Result<Program> {
    compile_on(fornax_runtime::available_threads(), plan, &mut Times::default())
}

/// [`compile`] on at most `threads` threads, with the time of each stage added to `times`. The program does not depend on
/// the number of threads.
///
/// # Errors
/// As [`compile`].
pub fn compile_on(threads: usize, plan: &Plan, times: &mut Times) -> Result<Program> {
    let proof = CpuFeatures::prove(plan.target.level.features).map_err(runtime)?;
    let (kernels, functions) = super::distinct_kernels(plan);
    let (offsets, total) = pack::offsets(&plan.constants);
    let mut constants = ConstantPool::zeroed(total + plan.state_bytes()).map_err(runtime)?;
    super::fill_state(plan, constants.slice_mut(total, plan.state_bytes()));
    let queue = pack::Queue::new(&plan.constants, constants.slice_mut(0, total));
    let code = match threads {
        0 | 1 => {
            times.stage("pack", || queue.work());
            times.stage("codegen", || super::compile_beside(&kernels, &plan.target, 1, &|| {}))?
        }
        _ => times
            .stage("codegen and pack", || super::compile_beside(&kernels, &plan.target, threads, &|| queue.work()))?,
    };
    drop(queue);
    let (module, entries) = times.stage("install", || install(&plan.target, &code))?;
    let functions: Vec<Function> =
        functions.into_iter().map(|at| Function { kernel: entries[at], bytes: code[at].bytes.len() }).collect();
    program(plan, proof, &functions, module, Data { constants, offset: &|id| offsets[id], initial: total })
}

/// What a program reads and does not compute.
pub(super) struct Data<'a> {
    /// Constants, and what the state block begins with.
    pub constants: ConstantPool,
    /// Where constant `k` of the plan lies among them.
    pub offset: &'a dyn Fn(usize) -> usize,
    /// Where the beginning of the state block lies among them.
    pub initial: usize,
}

/// A program from kernels that lie somewhere in `code`: those of step `k` at the offset `placed[k].0`, with `placed[k].1` bytes.
///
/// # Errors
/// As [`compile`].
pub(super) fn program_of(plan: &Plan, code: MachineCode, placed: &[(usize, usize)], data: Data<'_>) -> Result<Program> {
    let proof = CpuFeatures::prove(plan.target.level.features).map_err(runtime)?;
    let end = code.bytes.len();
    if placed.iter().any(|(at, bytes)| at.checked_add(*bytes).is_none_or(|to| to > end)) {
        return Err(Error::Codegen { function: code.name, message: "a kernel lies outside the code".into() });
    }
    // A network without steps has no code to install.
    let code = if placed.is_empty() { &[][..] } else { &[code] };
    let (module, entries) = install(&plan.target, code)?;
    let functions = entries.first().map_or_else(Vec::new, |first| {
        let first = *first as *const u8;
        let function = |(at, bytes): &(usize, usize)| Function {
            // SAFETY: a kernel begins there, in the code that `first` leads to, and it has the kernel ABI's signature.
            kernel: unsafe { std::mem::transmute::<*const u8, KernelFn>(first.add(*at)) },
            bytes: *bytes,
        };
        placed.iter().map(function).collect()
    });
    program(plan, proof, &functions, module, data)
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
    module: Executable,
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
        inputs: plan.inputs.iter().map(port).collect(),
        outputs: plan.outputs.iter().map(port).collect(),
        arena_bytes: plan.arena_bytes,
        scratch_bytes: plan.scratch_bytes,
        constants,
        state: super::state(plan, initial),
        code: Box::new(Mutex::new(module)),
    };
    verify_placed(plan)?;
    // SAFETY: every kernel follows the ABI, and each operand has just been checked to be at least as large as the
    // extent its kernel declares; the executable memory lives in `code`.
    unsafe { Program::new(parts, proof) }.map_err(runtime)
}

fn runtime(error: impl std::fmt::Display) -> Error {
    Error::Runtime(RuntimeError(error.to_string()))
}

/// Places code in fresh memory and makes it executable.
fn install(target: &Target, code: &[MachineCode]) -> Result<(Executable, Vec<KernelFn>)> {
    let fail = |name: &str, message: String| Error::Codegen { function: name.into(), message };
    let mut builder = JITBuilder::with_isa(clif::isa(target)?, default_libcall_names());
    let arena = ArenaMemoryProvider::new_with_size(RESERVED).map_err(|e| fail("memory", e.to_string()))?;
    builder.memory_provider(Box::new(arena));
    let mut module = Executable(Some(JITModule::new(builder)));
    let Some(inner) = module.0.as_mut() else { return Err(fail("module", "not there".into())) };
    let signature = inner.make_signature();
    let mut ids = Vec::with_capacity(code.len());
    for (i, code) in code.iter().enumerate() {
        let error = |e: cranelift_module::ModuleError| fail(&code.name, e.to_string());
        let id = inner.declare_function(&format!("k{i}_{}", code.name), Linkage::Local, &signature).map_err(error)?;
        inner.define_function_bytes(id, code.align, &code.bytes, &[]).map_err(error)?;
        ids.push(id);
    }
    inner.finalize_definitions().map_err(|e| fail("memory", e.to_string()))?;
    let entries = ids
        .into_iter()
        .map(|id| {
            let address = inner.get_finalized_function(id);
            // SAFETY: the address is that of a finished function which `clif::build` gave the kernel ABI's signature.
            unsafe { std::mem::transmute::<*const u8, KernelFn>(address) }
        })
        .collect();
    Ok((module, entries))
}

/// Compiles one kernel and runs it over all its chunks, `per_call` at a time, on one buffer per argument. For tests of kernels.
///
/// # Errors
/// As [`compile`]; and [`Error::Plan`] if a buffer is smaller than the kernel's argument.
pub fn run_kernel(kernel: &Kernel, target: &Target, buffers: &mut [Vec<u8>], per_call: u32) -> Result<()> {
    let _proof = CpuFeatures::prove(target.level.features).map_err(runtime)?;
    let fits = buffers.len() == kernel.arguments.len()
        && kernel.arguments.iter().zip(buffers.iter()).all(|(argument, buffer)| buffer.len() >= argument.bytes);
    if !fits {
        return Err(Error::Plan(vec![format!("{}: a buffer is smaller than its argument", kernel.name)]));
    }
    let code = super::compile(&[kernel], target)?;
    let (_module, entries) = install(target, &code)?;
    let mut pointers: Vec<*mut u8> = buffers.iter_mut().map(|b| b.as_mut_ptr()).collect();
    let mut scratch = vec![0u128; kernel.scratch.div_ceil(16) + 1];
    let _environment = fornax_runtime::float_environment();
    let mut begin = 0;
    while begin < kernel.chunks {
        let end = kernel.chunks.min(begin.saturating_add(per_call.max(1)));
        // SAFETY: the function follows the kernel ABI; each buffer was checked against the extent the kernel declares, and
        // the module that owns the code outlives the call.
        unsafe { entries[0](pointers.as_mut_ptr(), begin, end, scratch.as_mut_ptr().cast()) };
        begin = end;
    }
    Ok(())
}
