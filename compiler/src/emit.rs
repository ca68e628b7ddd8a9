//! Plan to machine code: each distinct kernel is written once.
//!
//! In: a plan. Out: for every step the index of its function, and the functions' bytes, position independent and without
//! relocations, ready for a JIT or an object module.

pub mod aot;
pub mod jit;
mod pack;

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use cranelift_codegen::isa::TargetIsa;
use fornax_ir::types::TensorType;
use fornax_runtime::{Arg, Port, StateParts, Variable};

use crate::codegen::{clif, x86};
use crate::error::{Error, Result};
use crate::kernels::Kernel;
use crate::plan::{self, Operand, Placement, Plan};
use crate::target::{Arch, Backend, Target};

/// Machine code of one kernel.
#[derive(Clone, Debug)]
pub struct MachineCode {
    /// Name of the kernel.
    pub name: String,
    /// Position-independent bytes, constants included.
    pub bytes: Vec<u8>,
    /// Alignment the bytes need.
    pub align: u64,
}

/// The distinct kernels of a plan, in order of first use, and for each step the index of its kernel.
pub fn distinct_kernels(plan: &Plan) -> (Vec<&Kernel>, Vec<usize>) {
    let (kernels, mut steps) = distinct_in(&[plan]);
    (kernels, steps.swap_remove(0))
}

/// The distinct kernels of plans for one target, in order of first use, and for each step of each plan the index of its kernel.
fn distinct_in<'a>(plans: &[&'a Plan]) -> (Vec<&'a Kernel>, Vec<Vec<usize>>) {
    let mut index: HashMap<&Kernel, usize> = HashMap::new();
    let mut kernels = Vec::new();
    let mut function = |kernel: &'a Kernel| {
        *index.entry(kernel).or_insert_with(|| {
            kernels.push(kernel);
            kernels.len() - 1
        })
    };
    let of_plan = |plan: &&'a Plan| plan.steps.iter().map(|step| function(&step.kernel)).collect();
    let steps = plans.iter().map(of_plan).collect();
    (kernels, steps)
}

/// Where an operand of `plan` points; constant `k` lies at `offset(k)`.
fn argument(plan: &Plan, offset: &dyn Fn(usize) -> usize, operand: Operand) -> Arg {
    match operand {
        Operand::Constant(id) => Arg::Constant(offset(id.0)),
        // Refused before emission: what has no place, and views within ports and constants.
        Operand::View(_) => match plan.placement(operand) {
            Placement::Unplaced => Arg::Null,
            Placement::Arena(offset) => Arg::Arena(offset + plan.offset(operand)),
            Placement::Input(index) => Arg::Input(index),
            Placement::Output(index) => Arg::Output(index),
            Placement::Constant(id) => Arg::Constant(offset(id.0)),
            Placement::State(offset) => Arg::State(offset + plan.offset(operand)),
        },
    }
}

/// The parameters and states of `plan` for the runtime; what the block begins with lies at `initial` among the constants, and zeros follow.
fn state(plan: &Plan, initial: Range<usize>) -> StateParts {
    let variable = |variable: &plan::Variable| {
        let TensorType { dtype, shape } = variable.initial.ty.clone();
        let port = Port { name: variable.name.clone(), dtype, shape };
        Variable { kind: variable.kind, port, offset: variable.offset }
    };
    let (variables, bytes) = (plan.variables.iter().map(variable).collect::<Vec<_>>(), plan.state_bytes());
    if variables.is_empty() {
        return StateParts::default();
    }
    StateParts { variables, bytes, initial: initial.start, initial_bytes: initial.len() }
}

/// How much of the state block of `plan` does not begin with zeros that go on to its end.
fn initial_bytes(plan: &Plan) -> usize {
    let begins = |variable: &&plan::Variable| !variable.initial.bytes().is_some_and(|b| fornax_runtime::is_zero(&b));
    let last = plan.variables.iter().rev().find(begins);
    last.map_or(0, |variable| (variable.offset + variable.initial.ty.bytes()).next_multiple_of(fornax_runtime::ALIGN))
}

/// Writes what the parameters and states of `plan` begin with into zeroed memory: the beginning of its state block, up to where nothing but
/// zeros follows.
fn fill_state(plan: &Plan, block: &mut [u8]) {
    for variable in &plan.variables {
        // Pages that stay untouched take no memory: half of what training begins with is zero.
        if let Some(bytes) = variable.initial.bytes().filter(|bytes| !fornax_runtime::is_zero(bytes)) {
            block[variable.offset..][..bytes.len()].copy_from_slice(&bytes);
        }
    }
}

/// Compiles kernels, on as many threads as the host offers (at most 8). The bytes do not depend on the number of threads.
pub fn compile(kernels: &[&Kernel], target: &Target) -> Result<Vec<MachineCode>> {
    compile_beside(kernels, target, fornax_runtime::available_threads(), &|| {})
}

/// Runs `help` on `helpers` threads, or as many as the system gives, and `own` on this one; returns when all are done.
fn with_helpers(helpers: usize, help: &(dyn Fn() + Sync), own: impl FnOnce()) {
    std::thread::scope(|scope| {
        // Once refused, a thread is not asked for again: what it would have done is left to the others.
        let started = |_: usize| std::thread::Builder::new().spawn_scoped(scope, help).is_ok();
        (0..helpers).all(started);
        own();
    });
}

/// [`compile`] on at most `threads` threads. Each of them but the caller's does its part of `beside` before it compiles, the
/// caller's afterwards.
fn compile_beside(
    kernels: &[&Kernel],
    target: &Target,
    threads: usize,
    beside: &(dyn Fn() + Sync),
) -> Result<Vec<MachineCode>> {
    let isa = clif::isa(target)?;
    let threads = threads.clamp(1, 8).min(kernels.len().max(2));
    let next = AtomicUsize::new(0);
    let done: Mutex<Vec<(usize, Result<MachineCode>)>> = Mutex::new(Vec::with_capacity(kernels.len()));
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(kernel) = kernels.get(at) else { break };
            let code = compile_one(kernel, target, &*isa);
            if let Ok(mut done) = done.lock() {
                done.push((at, code));
            }
        }
    };
    let help = || {
        beside();
        work();
    };
    with_helpers(threads - 1, &help, || {
        work();
        beside();
    });
    let mut done = done.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, code)| code).collect()
}

/// The instructions of a kernel for an x86-64 target, one a line.
///
/// # Errors
/// [`Error::Codegen`] if the code generator refuses the kernel, or the target is of another architecture.
pub fn disassembly(kernel: &Kernel, target: &Target) -> Result<String> {
    if target.arch() != Arch::X86_64 {
        let message = format!("the disassembler reads x86-64, not {target}");
        return Err(Error::Codegen { function: kernel.name.clone(), message });
    }
    let code = compile_one(kernel, target, &*clif::isa(target)?)?;
    Ok(x86::disassemble(&code.bytes))
}

/// A kernel in Cranelift's form, before registers are allocated.
///
/// # Errors
/// [`Error::Codegen`] if Cranelift was built without the target's architecture.
pub fn clif(kernel: &Kernel, target: &Target) -> Result<String> {
    clif::text(target, &kernel.name, |e| kernel.emit(e))
}

/// The back end of the level writes the kernel.
fn compile_one(kernel: &Kernel, target: &Target, isa: &dyn TargetIsa) -> Result<MachineCode> {
    if target.level.backend == Backend::X86 {
        let bytes = x86::compile(target, &kernel.name, |e| kernel.emit(e))?;
        return Ok(MachineCode { name: kernel.name.clone(), bytes, align: x86::ALIGN as u64 });
    }
    let fail = |message: String| Error::Codegen { function: kernel.name.clone(), message };
    let function = clif::build(isa, &kernel.name, |e| kernel.emit(e))?;
    let compiled = clif::compile(isa, function).map_err(|e| fail(e.to_string()))?;
    if let Some(reloc) = compiled.buffer.relocs().first() {
        return Err(fail(format!("relocation {:?}: a kernel must be self-contained", reloc.kind)));
    }
    let align = u64::from(compiled.buffer.alignment).max(16);
    Ok(MachineCode { name: kernel.name.clone(), bytes: compiled.code_buffer().to_vec(), align })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn displacements_beyond_their_field_are_refused() {
        use crate::codegen::REACH;
        let code = |target: &str, offset: i64| {
            let body = |e: &mut dyn crate::codegen::Emitter| {
                let (p, v) = (e.pointer(0), e.v());
                e.load(v, p.at(offset), 1);
                e.store(v, p.at(0), 1);
            };
            let target: Target = target.parse().unwrap();
            match target.level.backend {
                Backend::X86 => x86::compile(&target, "far", body).map(|_| ()),
                _ => clif::build(&*clif::isa(&target).unwrap(), "far", body).map(|_| ()),
            }
        };
        for target in ["x86-64", "x86-64-v3", "aarch64"] {
            assert!(code(target, REACH as i64).is_ok() && code(target, -(REACH as i64)).is_ok());
            for far in [REACH as i64 + 1, 1 << 31, 1 << 32, -1 << 31, i64::MAX] {
                let error = code(target, far).unwrap_err();
                let expected = |error: &Error| match error {
                    Error::Graph(fornax_ir::Error::Limit { what, needed, .. }) => {
                        what.ends_with("in far") && *needed == far.unsigned_abs()
                    }
                    _ => false,
                };
                assert!(expected(&error), "{target}: {error}");
            }
        }
    }

    #[test]
    fn helpers_and_the_caller_each_do_their_part() {
        for helpers in [0, 1, 3] {
            let (helped, own) = (AtomicUsize::new(0), AtomicUsize::new(0));
            with_helpers(helpers, &|| _ = helped.fetch_add(1, Ordering::Relaxed), || {
                _ = own.fetch_add(1, Ordering::Relaxed)
            });
            assert_eq!((helped.into_inner(), own.into_inner()), (helpers, 1));
        }
    }
}
