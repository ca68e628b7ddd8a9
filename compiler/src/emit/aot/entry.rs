//! The functions that a compiled library exports, and those they call.
//!
//! In: an architecture, and whether weights are embedded. Out: position-independent code that reads the tables of
//! [`fornax_runtime::artifact`]; it is the same for every network of a [`EntryOptions`]. The functions keep no state but the caller's arena and state block, check
//! everything the caller gives before they touch a tensor, and return a [`Status`].

mod init;
mod levels;
mod masks;
mod run;
mod selftest;
mod state;
mod step;

use std::mem::offset_of;

use fornax_runtime::FloatMode;
use fornax_runtime::artifact::{
    Binding, FORMAT_VERSION, FORMAT_WITH_STATE, FORMAT_WITH_STEP, Head, StateTable, Status,
};

use super::{StepSpec, machine};
use crate::codegen::clif;
use crate::codegen::clif::routine::{Reference, Routine, Val, assemble};
use crate::error::Result;
use crate::target::{Arch, Target};

/// A part of a library that code refers to. Its number is the symbol of a [`Reference`].
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Symbol {
    /// The first kernel.
    Kernels,
    Tables,
    /// The embedded weights.
    Weights,
    /// Bytes of an arena.
    ArenaBytes,
    /// Prepares an arena.
    Init,
    Run,
    /// Runs a network of one input and one output.
    RunSimple,
    /// Compares a run with the compiler's.
    Selftest,
    /// Bytes that this needs.
    SelftestBytes,
    Signature,
    /// The text of a code.
    Strerror,
    /// Chunks of a step in the floating-point state they need.
    Region,
    /// One chunk on a host's worker.
    Worker,
    /// Checks inputs or outputs and enters their addresses.
    Bind,
    Copy,
    /// Copies what cannot be read or written in place.
    Stage,
    /// The levels that the processor runs.
    Levels,
    /// XXH64.
    Hash,
    /// One element more in a selftest's hash.
    Mix,
    /// Makes up an input of a selftest.
    Fill,
    Cpuid,
    Xgetbv,
    /// Asks the operating system for a permission.
    ArchPrctl,
    /// Sets the floating-point state.
    FloatEnter,
    /// Puts it back.
    FloatLeave,
    /// Runs a network that has a state.
    RunWithState,
    /// Bytes of a state.
    StateBytes,
    /// Fills a state.
    StateInit,
    /// Saves a state.
    StateSave,
    /// Restores a state.
    StateLoad,
    /// Reads a parameter or state.
    ParameterGet,
    /// Writes one.
    ParameterSet,
    /// Finds one by its name.
    StateFind,
    /// A run that may leave out the prologue.
    Execute,
    /// Bytes of an arena for every part of a step.
    StepArenaBytes,
    /// Logits of images.
    Predict,
    /// Gradients of images.
    Gradients,
    /// Moves the parameters.
    Update,
    /// Both.
    TrainingStep,
    /// Writes the trained parameters as a file.
    Export,
    /// Where a sequence of random numbers begins.
    Sequence,
    /// Factors for what is dropped.
    Factors,
}

/// A function of a library.
#[derive(Clone, Debug)]
pub struct Function {
    pub symbol: Symbol,
    /// Its name after the library's prefix.
    pub name: &'static str,
    /// Whether programs see it.
    pub exported: bool,
    /// Machine code.
    pub bytes: Vec<u8>,
    /// What it refers to.
    pub references: Vec<Reference>,
}

/// Alignment of every function.
pub const ALIGN: usize = 16;

/// What the functions depend on.
#[derive(Clone, Copy, Debug)]
pub struct EntryOptions<'a> {
    pub arch: Arch,
    /// Whether the library holds weights.
    pub embedded: bool,
    /// Whether it has one f32 input and one f32 output.
    pub simple: bool,
    /// Whether it has parameters or states.
    pub state: bool,
    /// What it is, if it holds a training step.
    pub step: Option<&'a StepSpec>,
    /// What becomes of subnormal numbers in its kernels.
    pub float_mode: FloatMode,
    /// Whether it holds code for tile registers, which the operating system has to be asked for.
    pub tiles: bool,
}

/// Writes the body of a function over its parameters.
type Write<'a> = dyn for<'r, 'f> Fn(&'r Routine<'f>, &[Val<'r, 'f>]) -> Val<'r, 'f> + 'a;

/// Compiles all functions.
///
/// # Errors
/// [`crate::Error::Codegen`] if Cranelift refuses one: a bug of ours.
pub fn functions(shape: EntryOptions<'_>) -> Result<Vec<Function>> {
    let EntryOptions { arch, state, step, .. } = shape;
    let format = match (step, state) {
        (Some(_), _) => FORMAT_WITH_STEP,
        (None, true) => FORMAT_WITH_STATE,
        (None, false) => FORMAT_VERSION,
    };
    let x86 = arch == Arch::X86_64;
    // They run on the baseline of the architecture.
    let isa = clif::isa(&Target::multi(arch).swap_remove(0))?;
    let code: &[(Symbol, &'static str, bool, usize, &Write<'_>)] = &[
        (Symbol::ArenaBytes, "arena_bytes", true, 2, &|f, p| arena_bytes(f, [p[0], p[1]])),
        (Symbol::Init, "init", true, 5, &|f, p| init::init(f, [p[0], p[1], p[2], p[3], p[4]], shape)),
        (Symbol::Run, "run", true, 1, &|f, p| match state {
            true => f.int(Status::StateMissing as u64),
            false => run::run(f, p[0], None, None),
        }),
        (Symbol::RunSimple, "run_simple", true, 3, &|f, p| run::run_simple(f, [p[0], p[1], p[2]])),
        (Symbol::Selftest, "selftest", true, 2, &|f, p| selftest::selftest(f, [p[0], p[1]], shape)),
        (Symbol::SelftestBytes, "selftest_bytes", true, 0, &|f, _| tables(f).u64(offset_of!(Head, selftest_bytes))),
        (Symbol::Signature, "signature", true, 0, &|f, _| signature(f)),
        (Symbol::Strerror, "strerror", true, 1, &|f, p| strerror(f, p[0], format)),
        (Symbol::Region, "region", false, 5, &|f, p| run::region(f, [p[0], p[1], p[2], p[3], p[4]])),
        (Symbol::Worker, "worker", false, 3, &|f, p| run::worker(f, [p[0], p[1], p[2]])),
        (Symbol::Bind, "bind", false, 6, &|f, p| run::bind(f, [p[0], p[1], p[2], p[3], p[4], p[5]])),
        (Symbol::Copy, "copy", false, 3, &|f, p| run::copy(f, [p[0], p[1], p[2]])),
        (Symbol::Stage, "stage", false, 5, &|f, p| run::stage(f, [p[0], p[1], p[2], p[3], p[4]])),
        (Symbol::Levels, "levels", false, 0, &|f, _| levels::levels(f, arch, shape.tiles)),
        (Symbol::Hash, "hash", false, 2, &|f, p| init::hash(f, [p[0], p[1]])),
        (Symbol::Mix, "mix", false, 4, &|f, p| selftest::mix(f, [p[0], p[1], p[2], p[3]])),
        (Symbol::Fill, "fill", false, 4, &|f, p| selftest::fill(f, [p[0], p[1], p[2], p[3]])),
    ];
    let of_state: &[(Symbol, &'static str, bool, usize, &Write<'_>)] = &[
        (Symbol::RunWithState, "run_with_state", true, 3, &|f, p| match step {
            Some(_) => f.call(Symbol::Execute as u32, [p[0], p[1], p[2], f.int(0)]),
            None => run::run(f, p[0], Some([p[1], p[2]]), None),
        }),
        (Symbol::StateBytes, "state_bytes", true, 0, &|f, _| state::bytes(f)),
        (Symbol::StateInit, "state_init", true, 3, &|f, p| state::init(f, [p[0], p[1], p[2]], step.is_some())),
        (Symbol::StateSave, "state_save", true, 4, &|f, p| state::save(f, [p[0], p[1], p[2], p[3]])),
        (Symbol::StateLoad, "state_load", true, 4, &|f, p| state::load(f, [p[0], p[1], p[2], p[3]])),
        (Symbol::ParameterGet, "parameter_get", true, 5, &|f, p| {
            state::access(f, [p[0], p[1], p[2], p[3], p[4]], false)
        }),
        (Symbol::ParameterSet, "parameter_set", true, 5, &|f, p| {
            state::access(f, [p[0], p[1], p[2], p[3], p[4]], true)
        }),
        (Symbol::StateFind, "state_find", false, 1, &|f, p| state::find(f, p[0])),
    ];
    let mut functions = Vec::new();
    let mut add = |symbol, name, exported, params, write: &Write<'_>| {
        let assembled = assemble(&*isa, name, params, write)?;
        let (bytes, references) = (assembled.bytes, assembled.references);
        functions.push(Function { symbol, name, exported, bytes, references });
        Ok(())
    };
    for (symbol, name, exported, params, write) in code.iter().chain(of_state.iter().filter(|_| state)) {
        if *symbol != Symbol::RunSimple || (shape.simple && !state) {
            add(*symbol, name, *exported, *params, write)?;
        }
    }
    step.map_or(Ok(()), |step| of_step(step, &mut add))?;
    let mut machine = vec![
        (Symbol::FloatEnter, "float_enter", machine::float_enter(arch, shape.float_mode)),
        (Symbol::FloatLeave, "float_leave", machine::float_leave(arch)),
    ];
    if x86 {
        machine.extend([(Symbol::Cpuid, "cpuid", machine::CPUID), (Symbol::Xgetbv, "xgetbv", machine::XGETBV)]);
        machine.extend(shape.tiles.then_some((Symbol::ArchPrctl, "arch_prctl", machine::ARCH_PRCTL)));
    }
    let machine = machine.into_iter().map(|(symbol, name, bytes)| Function {
        symbol,
        name,
        exported: false,
        bytes: bytes.to_vec(),
        references: Vec::new(),
    });
    functions.extend(machine);
    Ok(functions)
}

/// Adds a function: its symbol, name, whether programs see it, number of parameters, body.
type Add<'a> = dyn FnMut(Symbol, &'static str, bool, usize, &Write<'_>) -> Result<()> + 'a;

/// The functions of a training step.
fn of_step(spec: &StepSpec, add: &mut Add<'_>) -> Result<()> {
    add(Symbol::StepArenaBytes, "step_arena_bytes", true, 1, &|f, p| step::arena_bytes(f, p[0], spec))?;
    add(Symbol::Predict, "predict", true, 1, &|f, p| step::predict(f, p[0]))?;
    add(Symbol::Gradients, "gradients", true, 1, &|f, p| step::gradients(f, p[0], spec))?;
    add(Symbol::Update, "update", true, 1, &|f, p| step::update(f, p[0], spec))?;
    add(Symbol::TrainingStep, "step", true, 1, &|f, p| step::step(f, p[0]))?;
    add(Symbol::Export, "export", true, 4, &|f, p| step::export(f, [p[0], p[1], p[2], p[3]]))?;
    if !spec.masks.is_empty() {
        add(Symbol::Sequence, "sequence", false, 4, &|f, p| masks::sequence(f, [p[0], p[1], p[2], p[3]]))?;
        add(Symbol::Factors, "factors", false, 5, &|f, p| masks::factors(f, [p[0], p[1], p[2], p[3], p[4]]))?;
    }
    add(Symbol::Execute, "execute", false, 4, &|f, p| run::run(f, p[0], Some([p[1], p[2]]), Some(p[3])))
}

/// Returns `error` where `condition` holds.
fn refuse<'f>(f: &Routine<'f>, condition: Val<'_, 'f>, error: Status) {
    f.return_if(condition, error as u64);
}

/// Address of the tables.
fn tables<'r, 'f>(f: &'r Routine<'f>) -> Val<'r, 'f> {
    f.address(Symbol::Tables as u32)
}

/// Address of the [`fornax_runtime::artifact::StepTable`], in the library of a training step.
fn step_table<'r, 'f>(f: &'r Routine<'f>) -> Val<'r, 'f> {
    tables(f) + (Head::SIZE + StateTable::SIZE)
}

/// Address of the record number `index` of an array whose offset stands in the head.
fn record<'r, 'f>(tables: Val<'r, 'f>, array: usize, index: Val<'r, 'f>, size: usize) -> Val<'r, 'f> {
    tables + tables.u32(array) + index * size
}

/// Bytes of an arena for a binding's record and a number of threads.
fn needed<'r, 'f>(binding: Val<'r, 'f>, threads: Val<'r, 'f>) -> Val<'r, 'f> {
    binding.u64(offset_of!(Binding, fixed_bytes)) + binding.u64(offset_of!(Binding, scratch_stride)) * threads
}

/// `size_t arena_bytes(uint32_t binding, uint32_t threads)`: 0 if there is no such binding.
fn arena_bytes<'r, 'f>(f: &'r Routine<'f>, [binding, threads]: [Val<'r, 'f>; 2]) -> Val<'r, 'f> {
    let (binding, threads, tables) = (binding.low(), threads.low(), tables(f));
    let absent = binding.below(tables.u32(offset_of!(Head, bindings))).is(0u64);
    f.return_if(absent, 0u64);
    let binding = record(tables, offset_of!(Head, bindings_at), binding, Binding::SIZE);
    needed(binding, f.select(threads.is(0u64), 1u64, threads))
}

/// `const char *signature(void)`.
fn signature<'r, 'f>(f: &'r Routine<'f>) -> Val<'r, 'f> {
    let tables = tables(f);
    tables + tables.u32(offset_of!(Head, signature_at))
}

/// `const char *strerror(int code)`: the message after the last one is for those it does not know.
fn strerror<'r, 'f>(f: &'r Routine<'f>, number: Val<'r, 'f>, format: u32) -> Val<'r, 'f> {
    let (number, tables, count) = (number.low(), tables(f), Status::of_format(format).len());
    let number = f.select(number.below(count), number, count);
    let message = tables + tables.u32(offset_of!(Head, messages_at)) + number * 4usize;
    tables + message.u32(0)
}
