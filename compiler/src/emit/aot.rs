//! Ahead of time: plans to a library that runs anywhere.
//!
//! ```text
//! plans, one per binding and level ─▶ weights::ConstantTable ─▶ Compiled ─▶ tables ─┐
//!                                  └▶ kernels, each once ─────────┘        entry ───┴▶ ObjectImage ─▶ elf (.so), object (.o, .a), header (.h)
//! ```
//!
//! In: plans of one model. Out: bytes that depend on the plans and nothing else: not on the machine, the day or the folder.
//! Everything in an [`ObjectImage`] is position independent; what refers to something else does so by distance.

mod archive;
mod elf;
mod entry;
mod header;
mod machine;
mod object_file;
mod relink;
mod selftest;
mod step;
mod tables;
mod weights;

use std::collections::HashMap;

use fornax_ir::types::Constant;
use fornax_runtime::FloatMode;
use fornax_runtime::artifact::{FORMAT_VERSION, FORMAT_WITH_STATE, FORMAT_WITH_STEP};
use fornax_runtime::packing::Packing;

use super::{compile_beside, distinct_in, with_helpers};
use crate::error::{Error, Result, RuntimeError};
use crate::plan::{Contents, PackedConstant, Plan, verify_placed};
use crate::target::{Arch, Target};
use crate::times::Times;
pub use archive::write_archive;
pub use elf::{SharedLibrary, write_shared_library};
pub use header::write_header;
pub use object_file::write_object;
pub use relink::{Relinked, relink};
use selftest::Selftest;
pub use step::{Mask, Rate, StepSpec};
pub use tables::Memory;
use weights::ConstantTable;
pub use weights::Weights;

/// Where a kernel lies among the kernels.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct CodeRange {
    /// Offset of its first byte.
    offset: usize,
    bytes: usize,
}

/// The name of a kernel, for debuggers and profilers.
#[derive(Clone, PartialEq, Eq, Debug)]
struct Name {
    /// Kernel and level.
    text: String,
    placed: CodeRange,
}

/// All kernels of a library.
#[derive(Default)]
struct Kernels {
    bytes: Vec<u8>,
    names: Vec<Name>,
    known: HashMap<Vec<u8>, CodeRange>,
}

impl Kernels {
    /// Adds code, unless the same bytes are there.
    fn add(&mut self, code: super::MachineCode, level: &str) -> CodeRange {
        if let Some(placed) = self.known.get(&code.bytes) {
            return *placed;
        }
        self.bytes.resize(self.bytes.len().next_multiple_of(code.align as usize), 0);
        let placed = CodeRange { offset: self.bytes.len(), bytes: code.bytes.len() };
        self.bytes.extend_from_slice(&code.bytes);
        self.names.push(Name { text: format!("{}.{level}", code.name), placed });
        self.known.insert(code.bytes, placed);
        placed
    }
}

/// The plans of a library, one list of levels for each binding, without levels that add nothing: where no binding needs what a level has and
/// the one below has not, its plans are those of the level below, and left out if the library holds that one anyway.
pub fn distinct_levels(mut plans: Vec<Vec<Plan>>) -> Vec<Vec<Plan>> {
    let levels = plans.iter().map(Vec::len).min().unwrap_or(0);
    for level in (0..levels).rev() {
        let targets: Vec<Target> = plans.iter().map(|binding| binding[level].code_target()).collect();
        if targets.iter().zip(&plans).any(|(target, binding)| *target == binding[level].target) {
            continue;
        }
        let held = level > 0 && plans.iter().zip(&targets).all(|(binding, to)| binding[level - 1].target == *to);
        for (binding, target) in plans.iter_mut().zip(targets) {
            match held {
                true => drop(binding.remove(level)),
                false => binding[level].target = target,
            }
        }
    }
    plans
}

/// What a library is made of.
#[derive(Clone, Copy)]
pub struct Network<'a> {
    /// One list of levels for each binding.
    pub plans: &'a [Vec<Plan>],
    /// What the bindings are, if they are the parts of a training step.
    pub step: Option<&'a StepSpec>,
}

impl<'a, T: AsRef<[Vec<Plan>]> + ?Sized> From<&'a T> for Network<'a> {
    fn from(plans: &'a T) -> Self {
        Self { plans: plans.as_ref(), step: None }
    }
}

impl<'a> Network<'a> {
    /// Whether its networks have parameters or states.
    fn is_stateful(&self) -> bool {
        self.plans.iter().flatten().any(|plan| !plan.variables.is_empty())
    }

    /// Version of the format: the first, unless there are parameters or states.
    pub fn format_version(&self) -> u32 {
        match (self.step, self.is_stateful()) {
            (Some(_), _) => FORMAT_WITH_STEP,
            (None, true) => FORMAT_WITH_STATE,
            (None, false) => FORMAT_VERSION,
        }
    }

    /// Every plan, after a look at what a library can hold.
    fn checked(self) -> Result<Vec<&'a Plan>> {
        let all: Vec<&'a Plan> = self.plans.iter().flatten().collect();
        tables::check_limits(&all)?;
        weights::check_state(&all)?;
        self.step.map_or(Ok(()), |step| step.check(self.plans))?;
        check_float_mode(&all)?;
        Ok(all)
    }
}

/// Refuses plans of which some flush subnormals and others keep them: the entry functions set one mode for all.
///
/// # Errors
/// [`Error::Plan`].
fn check_float_mode(plans: &[&Plan]) -> Result<()> {
    let modes = plans.iter().map(|plan| plan.float_mode());
    let [kept, flushed] = [FloatMode::Ieee, FloatMode::Flush].map(|mode| modes.clone().filter(|m| *m == mode).count());
    if kept > 0 && flushed > 0 {
        let what =
            format!("a library: expected one precision of all plans, found {flushed} with bf16 of {}", plans.len());
        return Err(Error::Plan(vec![what]));
    }
    Ok(())
}

/// Code and weights, before they are put into a file.
pub struct Compiled<'a> {
    network: Network<'a>,
    table: ConstantTable<'a>,
    kernels: Kernels,
    placed: Vec<Vec<CodeRange>>,
    weights: Weights,
    selftest: Option<Selftest>,
    notes: Vec<String>,
}

/// Compiles a network on at most `threads` threads. Stages are added to `times`. `reference` is the first
/// binding for this machine, which computes the values of the self test if it runs none of the levels.
///
/// # Errors
/// [`Error::Codegen`] if the code generator refuses a kernel, [`Error::Runtime`] if memory cannot be had, [`Error::Plan`] if the
/// plans' parameters and states differ, [`fornax_ir::Error::Limit`] if they have more inputs and outputs than a library can name.
pub fn compile<'a>(
    network: impl Into<Network<'a>>,
    reference: Option<&Plan>,
    threads: usize,
    times: &mut Times,
) -> Result<Compiled<'a>> {
    let network = network.into();
    let all = network.checked()?;
    all.iter().try_for_each(|plan| verify_placed(plan))?;
    let table = times.stage("table", || ConstantTable::new(&all, network.step));
    let mut memory = table.memory().map_err(runtime)?;
    let queue = table.queue(&mut memory);
    let levels = network.plans.first().map_or(0, Vec::len);
    let (mut kernels, mut placed) = (Kernels::default(), vec![Vec::new(); all.len()]);
    for level in 0..levels {
        let numbers: Vec<usize> = (level..all.len()).step_by(levels).collect();
        let of_level: Vec<&Plan> = numbers.iter().map(|number| all[*number]).collect();
        let target = &of_level[0].code_target();
        let (distinct, functions) = distinct_in(&of_level);
        // Packing goes on while the first are compiled.
        let code =
            times.stage(format!("code {target}"), || compile_beside(&distinct, target, threads, &|| queue.work()))?;
        let own: Vec<CodeRange> = code.into_iter().map(|code| kernels.add(code, &target.to_string())).collect();
        for (number, functions) in numbers.into_iter().zip(functions) {
            placed[number] = functions.into_iter().map(|function| own[function]).collect();
        }
    }
    drop(queue);
    let weights = times.stage("hash", || table.seal(memory));
    let mut compiled = Compiled { network, table, kernels, placed, weights, selftest: None, notes: Vec::new() };
    match times.stage("selftest", || selftest::measure(&compiled, reference, threads)) {
        // The library runs from its file, where such a system lets it.
        Err(Error::ExecutableMemory(system)) => {
            compiled
                .notes
                .push(format!("the self test holds no results: the system refuses executable memory ({system})"));
        }
        measured => compiled.selftest = measured?,
    }
    Ok(compiled)
}

/// Packs the weights of a network, which need not be compiled.
///
/// # Errors
/// [`Error::Runtime`] if memory cannot be had, [`Error::Plan`] if the plans' parameters and states differ.
pub fn pack<'a>(network: impl Into<Network<'a>>, threads: usize) -> Result<Weights> {
    let network = network.into();
    let table = ConstantTable::new(&network.checked()?, network.step);
    let mut memory = table.memory().map_err(runtime)?;
    let queue = table.queue(&mut memory);
    with_helpers(threads.clamp(1, 8) - 1, &|| queue.work(), || queue.work());
    drop(queue);
    Ok(table.seal(memory))
}

fn runtime(error: impl std::fmt::Display) -> Error {
    Error::Runtime(RuntimeError(error.to_string()))
}

impl Compiled<'_> {
    /// The packed weights: the bytes of a weights file.
    pub fn weights(&self) -> &Weights {
        &self.weights
    }

    /// Where the elements of the constant `like`, which stands for the model's parameter `name`, lie in the weights, and how they are packed;
    /// none if anything else is made of them.
    pub fn places(&self, name: &str, like: &Constant) -> Option<Vec<(usize, Packing)>> {
        let place = |(constant, offset): (&PackedConstant, usize)| match &constant.contents {
            Contents::Packed(source, packing) if source.origins == [name] && source.hash() == like.hash() => {
                Some((offset, packing.clone()))
            }
            _ => None,
        };
        let places: Option<Vec<_>> = self.table.of_parameter(name).map(place).collect();
        places.filter(|places| !places.is_empty())
    }

    /// What was left out and why, a line each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Bytes of all kernels.
    pub fn kernel_bytes(&self) -> usize {
        self.kernels.bytes.len()
    }

    /// Number of kernels.
    pub fn kernels(&self) -> usize {
        self.kernels.names.len()
    }

    /// Everything that goes into a file, its symbols beginning with `prefix` and `_`.
    ///
    /// # Errors
    /// [`Error::Codegen`] or [`fornax_ir::Error::Limit`]: as for kernels.
    pub fn image(&self, prefix: &str, signature: &str, embed: bool) -> Result<ObjectImage> {
        let Some(first) = self.network.plans.first().and_then(|levels| levels.first()) else {
            return Err(Error::Plan(vec!["a library without plans".into()]));
        };
        let contents = tables::TableSpec {
            network: self.network,
            placed: &self.placed,
            table: &self.table,
            weights_hash: self.weights.hash,
            selftest: self.selftest.as_ref(),
            signature,
        };
        let arch = first.target.arch();
        let state = !first.variables.is_empty();
        let step = self.network.step;
        let shape = entry::EntryOptions {
            arch,
            embedded: embed,
            simple: header::simple(first),
            state,
            step,
            float_mode: first.float_mode(),
            tiles: self.network.plans.iter().flatten().any(|plan| plan.target.vectors().tiles),
        };
        Ok(ObjectImage {
            arch,
            format: self.network.format_version(),
            prefix: prefix.to_string(),
            kernels: self.kernels.bytes.clone(),
            names: self.kernels.names.clone(),
            functions: entry::functions(shape)?,
            tables: contents.bytes()?,
            weights: embed.then(|| self.weights.clone()),
            weights_hash: self.weights.hash,
        })
    }
}

/// The parts of a library, ready for any kind of file.
pub struct ObjectImage {
    arch: Arch,
    /// Version of the format of note and tables.
    format: u32,
    /// Beginning of every symbol, without the underscore.
    prefix: String,
    /// The first at a multiple of 64.
    kernels: Vec<u8>,
    /// Of the kernels.
    names: Vec<Name>,
    functions: Vec<entry::Function>,
    tables: Vec<u8>,
    /// None if they go into a file of their own.
    weights: Option<Weights>,
    /// Of the constants.
    weights_hash: u64,
}

impl ObjectImage {
    /// The symbol that a function has in a file.
    fn symbol(&self, function: &entry::Function) -> String {
        format!("{}_{}", self.prefix, function.name)
    }
}
