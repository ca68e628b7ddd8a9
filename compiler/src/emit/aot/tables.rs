//! The tables of a library: bindings, levels, plans, steps, arguments, ports, text.
//!
//! In: the plans, where their kernels lie, the signature. Out: the bytes of [`fornax_runtime::artifact`], which hold no addresses,
//! only offsets.

use std::collections::HashMap;
use std::ops::Range;

use fornax_runtime::artifact::{
    ArenaHead, BASE_ARENA, BASE_NULL, BASE_PORTS, BASE_SHIFT, BASE_WEIGHTS, Binding, Call, Head, MAX_PORTS, Port,
    Sample, StateHead, StateTable, Status, Step, TABLES_MAGIC, Variable,
};
use fornax_runtime::{ALIGN, Arg, FloatMode, artifact};

use super::weights::ConstantTable;
use super::{CodeRange, Network, Selftest};
use crate::emit;
use crate::error::Result;
use crate::plan::{Operand, Plan};
use crate::target::Arch;

/// Bytes between the scratch of two workers, beyond the scratch: keeps the prefetcher of one out of the other's lines.
const GAP: usize = 2 * ALIGN;

/// The largest memory whose offsets an argument can hold.
const OFFSETS: u64 = 1 << BASE_SHIFT;

/// An argument of plans that [`check_limits`] has let pass, as the tables hold it.
pub fn argument(plan: &Plan, number: usize, table: &ConstantTable<'_>, operand: Operand) -> u64 {
    let based = |base: u64, offset: usize| {
        debug_assert!(base >> (u64::BITS - BASE_SHIFT) == 0 && (offset as u64) <= OFFSETS, "check_limits has run");
        base << BASE_SHIFT | offset as u64
    };
    match emit::argument(plan, &|constant| table.offset(number, constant), operand) {
        Arg::Arena(offset) => based(BASE_ARENA, offset),
        Arg::Constant(offset) => based(BASE_WEIGHTS, offset),
        Arg::Input(index) => based(BASE_PORTS + index as u64, 0),
        Arg::Output(index) => based(BASE_PORTS + (plan.inputs.len() + index) as u64, 0),
        Arg::State(offset) => based(BASE_PORTS + (plan.inputs.len() + plan.outputs.len()) as u64, offset),
        Arg::Null => based(BASE_NULL, 0),
    }
}

/// Refuses plans with more tensors than arguments have bases for, or with memory beyond their offsets.
///
/// # Errors
/// [`fornax_ir::Error::Limit`] naming the quantity.
pub fn check_limits(plans: &[&Plan]) -> Result<()> {
    let within = |what: &str, limit: u64, needed: u64| match needed > limit {
        true => Err(fornax_ir::Error::Limit { what: what.into(), limit, needed, hint: None }.into()),
        false => Ok(()),
    };
    for plan in plans {
        let ports = plan.inputs.len() + plan.outputs.len() + usize::from(!plan.variables.is_empty());
        within("inputs and outputs of a library", MAX_PORTS, ports as u64)?;
        within("bytes of the arena of a library", OFFSETS, plan.arena_bytes as u64)?;
        within("bytes of the state of a library", OFFSETS, plan.state_bytes() as u64)?;
    }
    let constants: u64 = plans.iter().map(|plan| plan.constant_bytes() as u64).fold(0, u64::saturating_add);
    within("bytes of the weights of a library", OFFSETS, constants)
}

/// Sizes of one binding's memory, the same on every level.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Of [`ArenaHead`], bases and pointers.
    pub front: usize,
    /// Of the copies of tensors whose size is no multiple of 64.
    pub staging: usize,
    /// Without scratch.
    pub fixed: usize,
    /// Scratch of a thread.
    pub stride: usize,
}

impl Memory {
    /// The memory of each binding; `plans` holds one list of levels per binding.
    pub fn of(plans: &[Vec<Plan>]) -> Vec<Self> {
        let all = || plans.iter().flatten();
        let bases = |plan: &Plan| plan.inputs.len() + plan.outputs.len() + usize::from(!plan.variables.is_empty());
        let ports = all().map(bases).max().unwrap_or(0);
        let pointers = all().flat_map(|plan| &plan.steps).map(|step| step.operands.len()).max().unwrap_or(0);
        let words = |count: usize| (count * 8).next_multiple_of(ALIGN);
        let front = ArenaHead::SIZE.next_multiple_of(ALIGN) + words(BASE_PORTS as usize + ports) + words(pointers);
        let binding = |levels: &Vec<Plan>| {
            let most = |of: fn(&Plan) -> usize| levels.iter().map(of).max().unwrap_or(0);
            let scratch = most(|plan| plan.scratch_bytes);
            let stride = if scratch == 0 { 0 } else { scratch.next_multiple_of(ALIGN) + GAP };
            let staging = levels.first().map_or(0, |plan| {
                let ports = plan.inputs.iter().chain(&plan.outputs);
                ports.map(|port| staged(port.ty.bytes())).sum()
            });
            let arena = most(|plan| plan.arena_bytes).next_multiple_of(ALIGN);
            Self { front, staging, fixed: front + staging + arena, stride }
        };
        plans.iter().map(binding).collect()
    }

    /// What `arena_bytes` returns.
    pub fn arena_bytes(&self, threads: usize) -> usize {
        self.fixed + self.stride * threads
    }
}

/// Bytes in the staging area for a tensor.
fn staged(bytes: usize) -> usize {
    if bytes.is_multiple_of(ALIGN) { 0 } else { bytes.next_multiple_of(ALIGN) }
}

/// What the tables say.
pub struct TableSpec<'a> {
    pub network: Network<'a>,
    /// Where the kernel of each step of each plan lies.
    pub placed: &'a [Vec<CodeRange>],
    pub table: &'a ConstantTable<'a>,
    /// Hash of the constants.
    pub weights_hash: u64,
    /// Results of the first binding on synthetic inputs.
    pub selftest: Option<&'a Selftest>,
    /// JSON.
    pub signature: &'a str,
}

impl TableSpec<'_> {
    /// The bytes of the tables.
    ///
    /// # Errors
    /// [`Error::Limit`] if a part is larger than the tables can say.
    pub fn bytes(&self) -> Result<Vec<u8>> {
        let Network { plans, step } = self.network;
        let mut writer = Writer::default();
        let memory = Memory::of(plans);
        for (binding, levels) in plans.iter().enumerate() {
            writer.binding(&memory[binding], levels);
        }
        for (number, plan) in plans.iter().flatten().enumerate() {
            writer.plan(plan, number, self.table, &self.placed[number]);
        }
        let first = plans.iter().flatten().next();
        let mut head = Head {
            magic: TABLES_MAGIC,
            version: self.network.format_version(),
            arch: first.map_or(Arch::HOST, |plan| plan.target.arch()).number(),
            weights_bytes: self.table.bytes as u64,
            layout: self.table.layout,
            weights_hash: self.weights_hash,
            selftest_bytes: memory.first().map_or(0, |memory| self.selftest_bytes(memory)) as u64,
            bindings: plans.len() as u32,
            front_bytes: memory.first().map_or(0, |memory| memory.front) as u32,
            ..Head::default()
        };
        if let Some(selftest) = self.selftest {
            head.selftest = 1;
            head.selftest_hash = selftest.hash;
            head.samples_len = selftest.samples.len() as u32;
            selftest.samples.iter().for_each(|sample| sample.write(&mut writer.samples));
        }
        let levels = plans.first().map_or(&[][..], Vec::as_slice);
        head.levels = levels.len() as u32;
        levels.iter().for_each(|plan| writer.levels.extend(plan.target.level.number.to_le_bytes()));
        if let Some(plan) = levels.first().filter(|plan| !plan.variables.is_empty()) {
            let initial = self.table.initial();
            let step = step.map(|step| step.records(plan, plans, initial.len(), Head::SIZE + StateTable::SIZE));
            writer.state(plan, initial, &step.unwrap_or_default());
        }
        writer.join(head, self.signature)
    }

    /// Bytes that `selftest` needs: an arena, addresses and sizes of the tensors, a call, the tensors, a state.
    fn selftest_bytes(&self, memory: &Memory) -> usize {
        let Some(plan) = self.network.plans.first().and_then(|levels| levels.first()) else { return 0 };
        let ports = || plan.inputs.iter().chain(&plan.outputs);
        let tensors: usize = ports().map(|port| port.ty.bytes().next_multiple_of(ALIGN)).sum();
        let state = if plan.variables.is_empty() { 0 } else { StateHead::SIZE + plan.state_bytes() };
        memory.arena_bytes(1) + (16 * ports().count() + size_of::<Call>()).next_multiple_of(ALIGN) + tensors + state
    }
}

/// The arrays as they grow.
#[derive(Default)]
struct Writer {
    bindings: Vec<u8>,
    levels: Vec<u8>,
    plans: Vec<u8>,
    steps: Vec<u8>,
    args: Vec<u8>,
    ports: Vec<u8>,
    dims: Vec<u8>,
    samples: Vec<u8>,
    /// The [`StateTable`], what there is of a step, and the variables.
    state: Vec<u8>,
    text: Vec<u8>,
    texts: HashMap<String, u32>,
}

impl Writer {
    fn binding(&mut self, memory: &Memory, levels: &[Plan]) {
        let Some(plan) = levels.first() else { return };
        let binding = Binding {
            fixed_bytes: memory.fixed as u64,
            scratch_stride: memory.stride as u64,
            staging_bytes: memory.staging as u64,
            first_port: (self.ports.len() / Port::SIZE) as u32,
            inputs: plan.inputs.len() as u32,
            outputs: plan.outputs.len() as u32,
            flush: u32::from(plan.float_mode() == FloatMode::Flush),
        };
        binding.write(&mut self.bindings);
        let mut staging = 0;
        for port in plan.inputs.iter().chain(&plan.outputs) {
            let bytes = port.ty.bytes();
            let record = Port {
                bytes: bytes as u64,
                staging: staging as u64,
                name: self.text(&port.name),
                dtype: port.ty.dtype.number(),
                rank: port.ty.shape.len() as u32,
                first_dim: (self.dims.len() / 8) as u32,
            };
            record.write(&mut self.ports);
            port.ty.shape.iter().for_each(|extent| self.dims.extend((*extent as u64).to_le_bytes()));
            staging += staged(bytes);
        }
    }

    fn plan(&mut self, plan: &Plan, number: usize, table: &ConstantTable<'_>, placed: &[CodeRange]) {
        let record = artifact::Plan {
            arena_bytes: plan.arena_bytes as u64,
            scratch_bytes: plan.scratch_bytes as u64,
            first_step: (self.steps.len() / Step::SIZE) as u32,
            steps: plan.steps.len() as u32,
        };
        record.write(&mut self.plans);
        for (step, placed) in plan.steps.iter().zip(placed) {
            let record = Step {
                flops: step.kernel.flops,
                bytes: step.kernel.bytes,
                kernel: placed.offset as u32,
                kernel_bytes: placed.bytes as u32,
                first_arg: (self.args.len() / 8) as u32,
                args: step.operands.len() as u32,
                chunks: step.kernel.chunks,
                grain: step.grain(&plan.target),
                name: self.text(&step.kernel.name),
                node: self.text(&artifact::node_text(&step.node, &step.origins)),
            };
            record.write(&mut self.steps);
            for operand in &step.operands {
                self.args.extend(argument(plan, number, table, *operand).to_le_bytes());
            }
        }
    }

    /// The parameters and states of a plan, which are those of all plans; `initial` is where they begin in the weights, and `step` the
    /// records of a training step.
    fn state(&mut self, plan: &Plan, initial: Range<usize>, step: &[u8]) {
        let parts = emit::state(plan, initial);
        let table = StateTable {
            layout: parts.layout(),
            bytes: parts.bytes as u64,
            initial: parts.initial as u64,
            variables_at: (Head::SIZE + StateTable::SIZE + step.len()) as u32,
            variables: parts.variables.len() as u32,
        };
        table.write(&mut self.state);
        self.state.extend(step);
        for (variable, planned) in parts.variables.iter().zip(&plan.variables) {
            let port = &variable.port;
            let record = Variable {
                bytes: planned.initial.ty.bytes() as u64,
                offset: variable.offset as u64,
                name: self.text(&port.name),
                dtype: port.dtype.number(),
                rank: port.shape.len() as u32,
                first_dim: (self.dims.len() / 8) as u32,
                kind: variable.kind as u32,
                reserved: 0,
            };
            record.write(&mut self.state);
            port.shape.iter().for_each(|extent| self.dims.extend((*extent as u64).to_le_bytes()));
        }
    }

    fn text(&mut self, text: &str) -> u32 {
        if let Some(at) = self.texts.get(text) {
            return *at;
        }
        let at = self.text.len() as u32;
        self.text.extend((text.len() as u32).to_le_bytes());
        self.text.extend(text.as_bytes());
        self.texts.insert(text.to_string(), at);
        at
    }

    /// Puts the arrays after the head.
    fn join(self, mut head: Head, signature: &str) -> Result<Vec<u8>> {
        (head.steps, head.args) = ((self.steps.len() / Step::SIZE) as u32, (self.args.len() / 8) as u32);
        (head.ports, head.dims) = ((self.ports.len() / Port::SIZE) as u32, (self.dims.len() / 8) as u32);
        head.text_bytes = self.text.len() as u32;
        let mut body = Vec::new();
        let mut place = |bytes: &[u8]| place(&mut body, bytes);
        // The table of the state stands right after the head.
        place(&self.state);
        head.bindings_at = place(&self.bindings);
        head.levels_at = place(&self.levels);
        head.plans_at = place(&self.plans);
        head.steps_at = place(&self.steps);
        head.args_at = place(&self.args);
        head.ports_at = place(&self.ports);
        head.dims_at = place(&self.dims);
        head.samples = place(&self.samples);
        head.text_at = place(&self.text);
        signed(head, body, signature)
    }
}

/// Appends bytes to the body, which stays at a multiple of 8; their offset from the head.
fn place(body: &mut Vec<u8>, bytes: &[u8]) -> u32 {
    let at = Head::SIZE + body.len();
    body.extend_from_slice(bytes);
    body.resize(body.len().next_multiple_of(8), 0);
    at as u32
}

/// The tables of this head and body, which ends in the text, with what comes after that: signature and messages.
///
/// # Errors
/// [`Error::Limit`] if they are larger than code can reach.
pub fn signed(mut head: Head, mut body: Vec<u8>, signature: &str) -> Result<Vec<u8>> {
    head.signature_bytes = signature.len() as u32;
    head.signature_at = place(&mut body, &[signature.as_bytes(), &[0]].concat());
    let mut messages = Vec::new();
    for text in Status::of_format(head.version).iter().map(|(.., message)| *message).chain(["unknown code"]) {
        messages.push(place(&mut body, &[text.as_bytes(), &[0]].concat()));
    }
    head.messages_at = place(&mut body, &messages.iter().flat_map(|at| at.to_le_bytes()).collect::<Vec<u8>>());
    let needed = (Head::SIZE + body.len()) as u64;
    // Code reaches them by a signed distance of 32 bits.
    let limit = i32::MAX as u64;
    if needed > limit {
        let what = "bytes of the tables of a library".into();
        return Err(fornax_ir::Error::Limit { what, limit, needed, hint: None }.into());
    }
    let mut bytes = Vec::with_capacity(needed as usize);
    head.write(&mut bytes);
    bytes.extend(body);
    Ok(bytes)
}

const _: () = assert!(Sample::SIZE.is_multiple_of(8) && Step::SIZE.is_multiple_of(8) && Port::SIZE.is_multiple_of(8));

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Error;
    use crate::plan::Port as PlanPort;
    use crate::target::Target;
    use fornax_ir::graph::parse;
    use fornax_ir::types::TensorType;

    fn plan(inputs: usize) -> Plan {
        let graph = parse("graph @g(%x: f32[4]) { %y = sqrt %x return %y as \"y\" }").unwrap();
        let mut plan = crate::pipeline::plan_of(&graph, &Target::host().unwrap()).unwrap();
        let port = |at: usize| PlanPort { name: format!("x{at}"), ty: TensorType::f32([4]) };
        plan.inputs.extend((1..inputs).map(port));
        plan
    }

    #[test]
    fn as_many_ports_as_bases_are_compiled_and_more_refused() {
        let most = MAX_PORTS as usize - 1;
        assert!(check_limits(&[&plan(most)]).is_ok());
        let refused = |result: Result<()>| match result {
            Err(Error::Graph(fornax_ir::Error::Limit { what, limit: 65_533, needed: 65_534, .. })) => {
                assert!(what.contains("inputs and outputs"));
            }
            other => panic!("{other:?}"),
        };
        refused(check_limits(&[&plan(1), &plan(most + 1)]));
        let plans = [vec![plan(most + 1)]];
        refused(super::super::compile(&plans, None, 1, &mut crate::times::Times::default()).map(|_| ()));
        refused(super::super::pack(&plans, 1).map(|_| ()));
        let arena = Plan { arena_bytes: (1 << 48) + 1, ..plan(1) };
        assert!(check_limits(&[&arena]).unwrap_err().to_string().contains("arena"));
    }

    #[test]
    fn threads_have_the_largest_scratch_of_a_level_and_two_lines_between() {
        let level = |scratch_bytes: usize| Plan { scratch_bytes, ..plan(1) };
        let memory = Memory::of(&[vec![level(0), level(100), level(64)], vec![level(64)], vec![level(0)]]);
        let a_thread = |memory: &Memory| memory.arena_bytes(3) - memory.arena_bytes(2);
        assert_eq!(memory.iter().map(a_thread).collect::<Vec<_>>(), [128 + 128, 64 + 128, 0]);
        assert_eq!(memory[0].arena_bytes(0), memory[2].arena_bytes(0), "scratch is all that differs");
    }
}
