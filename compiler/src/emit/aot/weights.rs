//! The constants of all plans of a library, each stored once.
//!
//! In: plans of one model, for several shapes and levels. Out: a [`ConstantTable`] of distinct constants with their places after the
//! [`WeightsHead`], and the packed bytes. The places depend on shapes and packings, never on values: [`ConstantTable::layout`] is the same for
//! two models that differ in their weights only.

use std::ops::Range;

use bytes::Bytes;
use fornax_runtime::artifact::{FORMAT_VERSION, WEIGHTS_MAGIC, WeightsHead};
use fornax_runtime::{ConstantPool, Error as RuntimeError};
use xxhash_rust::{xxh3, xxh64};

use super::super::pack;
use super::step::StepSpec;
use crate::emit;
use crate::error::{Error, Result};
use crate::plan::{PackedConstant, Plan, Pool};

/// Distinct constants and where they lie.
pub struct ConstantTable<'a> {
    /// In the order of their places.
    constants: Vec<&'a PackedConstant>,
    /// Offset of each, counted from the header.
    offsets: Vec<usize>,
    /// For each plan: the constant that stands for each of its own.
    of_plan: Vec<Vec<usize>>,
    /// The plan whose parameters and states these are; they are the same in all plans.
    state: Option<&'a Plan>,
    /// Offset of what the state block begins with, after the constants.
    initial: usize,
    /// Size with the header.
    pub bytes: usize,
    /// Size of the beginning that is part of the program; see `Plan::fixed`.
    pub guarded: usize,
    /// Hash of kernels, operands and places.
    pub layout: u64,
}

impl<'a> ConstantTable<'a> {
    /// The constants of `plans`.
    pub fn new(plans: &[&'a Plan], step: Option<&StepSpec>) -> Self {
        let mut pool: Pool<&'a PackedConstant> = Pool::default();
        let mut of_plan: Vec<Vec<usize>> = Vec::with_capacity(plans.len());
        let mut fixed = Vec::new();
        for plan in plans {
            let own: Vec<usize> = plan.constants.iter().map(|constant| pool.insert(constant)).collect();
            fixed.resize(pool.constants().len(), false);
            own.iter().zip(plan.fixed()).for_each(|(at, own)| fixed[*at] |= own);
            of_plan.push(own);
        }
        let constants = pool.into_constants();
        let mut order: Vec<usize> = (0..constants.len()).collect();
        order.sort_by_key(|at| !fixed[*at]);
        let mut position = vec![0; order.len()];
        order.iter().enumerate().for_each(|(to, from)| position[*from] = to);
        of_plan.iter_mut().flatten().for_each(|at| *at = position[*at]);
        let constants: Vec<_> = order.into_iter().map(|at| constants[at]).collect();
        let (offsets, total) = pack::offsets(constants.iter().copied());
        let offsets: Vec<usize> = offsets.into_iter().map(|offset| offset + WeightsHead::SIZE).collect();
        let initial = total + WeightsHead::SIZE;
        let state = plans.first().copied().filter(|plan| !plan.variables.is_empty());
        let bytes = initial + state.map_or(0, |plan| step.map_or(plan.state_bytes(), |step| step.initial_bytes(plan)));
        let guarded = offsets.get(fixed.iter().filter(|fixed| **fixed).count()).copied().unwrap_or(initial);
        let mut table = Self { constants, offsets, of_plan, state, initial, bytes, guarded, layout: 0 };
        table.layout = table.hash_layout(plans);
        table
    }

    /// Where in the weights lies what the state block begins with, as far as these hold it; zeros follow.
    pub fn initial(&self) -> Range<usize> {
        self.initial..self.bytes
    }

    /// Offset of constant `constant` of plan number `plan`.
    pub fn offset(&self, plan: usize, constant: usize) -> usize {
        self.offsets[self.of_plan[plan][constant]]
    }

    /// The constants that stand for the model's parameter `name`, and where they lie.
    pub fn of_parameter(&self, name: &str) -> impl Iterator<Item = (&'a PackedConstant, usize)> {
        let all = self.constants.iter().copied().zip(self.offsets.iter().copied());
        all.filter(move |(constant, _)| constant.origins().iter().any(|origin| origin == name))
    }

    fn hash_layout(&self, plans: &[&Plan]) -> u64 {
        let mut text = format!("{FORMAT_VERSION} {}\n", env!("CARGO_PKG_VERSION"));
        for (constant, offset) in self.constants.iter().zip(&self.offsets) {
            text.push_str(&format!("{offset} {} {}\n", constant.bytes, constant.form()));
        }
        for (number, plan) in plans.iter().enumerate() {
            text.push_str(&format!("{} {} {}\n", plan.target, plan.arena_bytes, plan.scratch_bytes));
            for step in &plan.steps {
                text.push_str(&format!("{} {}", step.kernel.name, step.kernel.schedule));
                for operand in &step.operands {
                    text.push_str(&format!(" {:x}", super::tables::argument(plan, number, self, *operand)));
                }
                text.push('\n');
            }
        }
        if let Some(plan) = self.state {
            text.push_str(&format!("state {:x}\n", emit::state(plan, self.initial()).layout()));
        }
        xxh3::xxh3_64(text.as_bytes())
    }

    /// Zeroed memory for header and constants.
    pub fn memory(&self) -> Result<ConstantPool, RuntimeError> {
        ConstantPool::zeroed(self.bytes)
    }

    /// What is to be packed into `memory`.
    pub fn queue<'q>(&'q self, memory: &'q mut ConstantPool) -> pack::Queue<'q> {
        let constants = memory.slice_mut(WeightsHead::SIZE, self.bytes - WeightsHead::SIZE);
        pack::Queue::new(self.constants.iter().copied(), constants)
    }

    /// Writes the header before the packed constants.
    pub fn seal(&self, mut memory: ConstantPool) -> Weights {
        if let Some(plan) = self.state {
            emit::fill_state(plan, memory.slice_mut(self.initial, self.initial().len()));
        }
        sealed(memory, self.layout, self.guarded)
    }
}

/// Weights of a layout with their header before the constants, of which `guarded` bytes, the header's among them, are part of the program.
pub fn sealed(mut memory: ConstantPool, layout: u64, guarded: usize) -> Weights {
    let hash = xxh64::xxh64(&memory.as_bytes()[WeightsHead::SIZE..], 0);
    let (magic, version, bytes) = (WEIGHTS_MAGIC, FORMAT_VERSION, memory.len() as u64);
    let head = WeightsHead { magic, version, bytes, layout, hash, ..Default::default() };
    let mut header = Vec::with_capacity(WeightsHead::SIZE);
    head.write(&mut header);
    memory.slice_mut(0, WeightsHead::SIZE).copy_from_slice(&header);
    Weights { bytes: Bytes::from_owner(Memory(memory)), guarded, hash }
}

/// Refuses plans whose parameters and states differ: one state serves every binding and level of a library. What it begins with, the first
/// plan says.
///
/// # Errors
/// [`Error::Plan`] naming the first that differs.
pub fn check_state(plans: &[&Plan]) -> Result<()> {
    let Some((first, others)) = plans.split_first() else { return Ok(()) };
    for plan in others {
        let count = first.variables.len().max(plan.variables.len());
        let place = |plan: &Plan, at: usize| {
            let variable = plan.variables.get(at);
            variable.map(|v| (v.kind, v.name.clone(), v.offset, v.initial.ty.clone()))
        };
        let differs = (0..count).find(|at| place(first, *at) != place(plan, *at));
        if let Some(at) = differs {
            let text = |plan: &Plan| {
                let variable = plan.variables.get(at);
                variable.map_or("none".into(), |v| format!("{} {:?} {}", v.kind, v.name, v.initial.ty))
            };
            let message = format!("parameters and states of a library: expected {}, found {}", text(first), text(plan));
            return Err(Error::Plan(vec![message]));
        }
    }
    Ok(())
}

/// Packed weights with their header.
#[derive(Clone, Debug)]
pub struct Weights {
    /// The bytes of a weights file.
    pub bytes: Bytes,
    /// Size of the beginning that is part of the program; see `Plan::fixed`.
    pub guarded: usize,
    /// Hash of the constants.
    pub hash: u64,
}

struct Memory(ConstantPool);

impl AsRef<[u8]> for Memory {
    fn as_ref(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::plan_of;
    use crate::plan::{Contents, Operand, Placement};
    use fornax_ir::graph::parse;

    /// Whether a constant has no counterpart in the model, or a kernel computes addresses from it.
    fn is_guarded(plan: &Plan, constant: usize) -> bool {
        let reads = |operand: Operand| matches!(plan.placement(operand), Placement::Constant(id) if id.0 == constant);
        let calls = plan.steps.iter().flat_map(|step| step.kernel.arguments.iter().zip(&step.operands));
        matches!(plan.constants[constant].contents, Contents::Generated(_))
            || calls.into_iter().any(|(argument, operand)| argument.addresses && reads(*operand))
    }

    #[test]
    fn what_is_not_the_models_lies_first_and_is_guarded() {
        let text = "graph @g(%x: f32[1,16,8,8]) {\n%i = constant i64[3] [5, 0, 11]\n%w = constant f32[8,3,1,1] random(1)\n\
                    %b = constant f32[8] random(2)\n%a = gather %x, %i {axis=1}\n%c = conv %a, %w, %b {bias=true}\n\
                    %y = resize %c {mode=linear,shape=[1,8,11,13],scales=[1,1,1.375,1.625]}\nreturn %y as \"y\"\n}";
        let graph = parse(text).unwrap();
        let plans = ["x86-64", "x86-64-v4"].map(|target| plan_of(&graph, &target.parse().unwrap()).unwrap());
        let table = ConstantTable::new(&plans.each_ref(), None);
        let mut counts = [0, 0];
        for (number, plan) in plans.iter().enumerate() {
            for constant in 0..plan.constants.len() {
                let guarded = is_guarded(plan, constant);
                counts[usize::from(guarded)] += 1;
                assert_eq!(table.offset(number, constant) < table.guarded, guarded, "constant {constant}\n{plan}");
            }
        }
        assert!(counts.iter().all(|count| *count >= 4), "{counts:?}");
    }
}
