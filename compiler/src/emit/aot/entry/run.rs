//! `run`: checks a call, enters addresses, goes through the steps.

use std::mem::offset_of;

use fornax_runtime::ABI_VERSION;
use fornax_runtime::artifact::{
    ARENA_MAGIC, ArenaHead, BASE_ARENA, BASE_NULL, BASE_PORTS, BASE_SHIFT, BASE_WEIGHTS, Binding, Call, Head, Plan,
    Port, StateHead, Status, Step, StepTable, Threads,
};

use super::{Symbol, needed, record, refuse, step_table, tables};
use crate::codegen::clif::routine::{Routine, Val};

/// `int run(const fornax_call *call)`, or `int run_with_state(const fornax_call *call, void *state, size_t n)`, or in a library of a training step
/// that with the parameter `continued`: whether the arena holds what the prologue of the same run has left there.
pub fn run<'r, 'f>(
    f: &'r Routine<'f>,
    call: Val<'r, 'f>,
    state: Option<[Val<'r, 'f>; 2]>,
    continued: Option<Val<'r, 'f>>,
) -> Val<'r, 'f> {
    let tables = tables(f);
    refuse(f, call.is(0u64), Status::Null);
    refuse(f, call.u32(offset_of!(Call, size)).is_not(size_of::<Call>()), Status::Abi);
    refuse(f, call.u32(offset_of!(Call, abi)).is_not(u64::from(ABI_VERSION)), Status::Abi);
    let index = call.u32(offset_of!(Call, binding));
    refuse(f, index.below(tables.u32(offset_of!(Head, bindings))).is(0u64), Status::Binding);
    let binding = record(tables, offset_of!(Head, bindings_at), index, Binding::SIZE);
    let arena = call.u64(offset_of!(Call, arena));
    check_arena(f, tables, call, binding, arena);
    let front = arena + tables.u32(offset_of!(Head, front_bytes));
    let bases = arena + ArenaHead::SIZE;
    let sides = Sides::new(tables, call, binding);
    let counts = [offset_of!(Call, n_inputs), offset_of!(Call, n_outputs)];
    for (side, count) in counts.into_iter().enumerate() {
        refuse(f, call.u32(count).is_not(sides.0[side][1]), Status::TensorCount);
    }
    sides.check(f, bases, front);
    if let Some([state, n]) = state {
        super::state::check(f, state, n);
        let after = sides.bases(bases, 1) + sides.0[1][1] * 8usize;
        after.set_u64(0, state + StateHead::SIZE);
    }
    sides.stage(f, bases, 0);
    let number = plan_number(tables, index, arena);
    let plan = record(tables, offset_of!(Head, plans_at), number, Plan::SIZE);
    let left_out = continued.map(|continued| f.select(continued.is(0u64), 0u64, prologue(f, number)));
    let own = front + binding.u64(offset_of!(Binding, staging_bytes));
    bases.set_u64(8 * BASE_NULL as usize, 0u64);
    bases.set_u64(8 * BASE_ARENA as usize, own);
    bases.set_u64(8 * BASE_WEIGHTS as usize, arena.u64(offset_of!(ArenaHead, weights)));
    arena.set_u32(offset_of!(ArenaHead, failed), 0u64);
    arena.set_u64(offset_of!(ArenaHead, scratch), own + plan.u64(offset_of!(Plan, arena_bytes)));
    arena.set_u64(offset_of!(ArenaHead, stride), binding.u64(offset_of!(Binding, scratch_stride)));
    steps(f, tables, (plan, left_out), arena, call.u64(offset_of!(Call, threads)));
    sides.stage(f, bases, 1);
    f.int(Status::Ok as u64)
}

/// Refuses an arena that this call cannot use, and writes the number of workers into one that it can.
pub fn check_arena<'r, 'f>(
    f: &'r Routine<'f>,
    tables: Val<'r, 'f>,
    call: Val<'r, 'f>,
    binding: Val<'r, 'f>,
    arena: Val<'r, 'f>,
) {
    refuse(f, arena.is(0u64), Status::Null);
    refuse(f, (arena & 63u64).is_not(0u64), Status::ArenaAlign);
    let (threads, workers) = (call.u64(offset_of!(Call, threads)), f.var(1u64));
    f.when(threads.is_not(0u64), || {
        refuse(f, threads.u32(offset_of!(Threads, size)).is_not(size_of::<Threads>()), Status::Abi);
        workers.set(threads.u32(offset_of!(Threads, count)));
        let idle = threads.u64(offset_of!(Threads, parallel_for)).is(0u64);
        refuse(f, workers.get().is(0u64) | idle, Status::Threads);
    });
    let given = call.u64(offset_of!(Call, arena_bytes));
    refuse(f, given.below(needed(binding, workers.get())), Status::ArenaSize);
    let magic = tables.u64(offset_of!(Head, layout)) ^ ARENA_MAGIC;
    refuse(f, arena.u64(offset_of!(ArenaHead, magic)).is_not(magic), Status::ArenaInit);
    let level = arena.u32(offset_of!(ArenaHead, level));
    refuse(f, level.below(tables.u32(offset_of!(Head, levels))).is(0u64), Status::ArenaInit);
    arena.set_u64(offset_of!(ArenaHead, workers), workers.get());
}

/// The number of the plan of a binding on the level of the arena.
fn plan_number<'r, 'f>(tables: Val<'r, 'f>, binding: Val<'r, 'f>, arena: Val<'r, 'f>) -> Val<'r, 'f> {
    let levels = tables.u32(offset_of!(Head, levels));
    binding * levels + arena.u32(offset_of!(ArenaHead, level))
}

/// Length of the prologue of the plan of this number, in the library of a training step.
fn prologue<'r, 'f>(f: &'r Routine<'f>, plan: Val<'r, 'f>) -> Val<'r, 'f> {
    (tables(f) + step_table(f).u32(offset_of!(StepTable, prologues_at)) + plan * 4usize).u32(0)
}

/// The inputs and the outputs of a call: ports, how many, addresses, sizes.
struct Sides<'r, 'f>([[Val<'r, 'f>; 4]; 2]);

impl<'r, 'f> Sides<'r, 'f> {
    fn new(tables: Val<'r, 'f>, call: Val<'r, 'f>, binding: Val<'r, 'f>) -> Self {
        let inputs = binding.u32(offset_of!(Binding, inputs));
        let outputs = binding.u32(offset_of!(Binding, outputs));
        let first = binding.u32(offset_of!(Binding, first_port));
        let ports = record(tables, offset_of!(Head, ports_at), first, Port::SIZE);
        let of_inputs = [call.u64(offset_of!(Call, inputs)), call.u64(offset_of!(Call, input_bytes))];
        let of_outputs = [call.u64(offset_of!(Call, outputs)), call.u64(offset_of!(Call, output_bytes))];
        let second = ports + inputs * Port::SIZE;
        Self([[ports, inputs, of_inputs[0], of_inputs[1]], [second, outputs, of_outputs[0], of_outputs[1]]])
    }

    /// Address of the first base of a side.
    fn bases(&self, bases: Val<'r, 'f>, side: usize) -> Val<'r, 'f> {
        let ports = bases + 8 * BASE_PORTS;
        if side == 0 { ports } else { ports + self.0[0][1] * 8usize }
    }

    /// Checks counts, addresses and sizes, and enters the addresses.
    fn check(&self, f: &'r Routine<'f>, bases: Val<'r, 'f>, front: Val<'r, 'f>) {
        for (side, [ports, count, addresses, sizes]) in self.0.into_iter().enumerate() {
            let to = self.bases(bases, side);
            let result = f.call(Symbol::Bind as u32, [ports, count, addresses, sizes, to, front]);
            f.return_if(result.low().is_not(Status::Ok as u64), result);
        }
    }

    /// Copies the inputs into the arena (side 0), or the outputs out of it (side 1), where they are not used in place.
    fn stage(&self, f: &'r Routine<'f>, bases: Val<'r, 'f>, side: usize) {
        let [ports, count, addresses, _] = self.0[side];
        f.call(Symbol::Stage as u32, [ports, count, addresses, self.bases(bases, side), f.int(side as u64)]);
    }
}

/// `u64 bind(ports, count, addresses, sizes, bases, front)`: a kernel may read up to the next multiple of 64 bytes after the end of a
/// tensor, so one of another size is used through a copy.
pub fn bind<'r, 'f>(f: &'r Routine<'f>, p: [Val<'r, 'f>; 6]) -> Val<'r, 'f> {
    let [ports, count, addresses, sizes, bases, front] = p;
    refuse(f, count.is_not(0u64) & (addresses.is(0u64) | sizes.is(0u64)), Status::Null);
    f.repeat(count, |i| {
        let port = ports + i * Port::SIZE;
        let bytes = port.u64(offset_of!(Port, bytes));
        refuse(f, (sizes + i * 8usize).u64(0).is_not(bytes), Status::TensorBytes);
        let address = (addresses + i * 8usize).u64(0);
        refuse(f, address.is(0u64) & bytes.is_not(0u64), Status::Null);
        let copy = front + port.u64(offset_of!(Port, staging));
        (bases + i * 8usize).set_u64(0, f.select((bytes & 63u64).is(0u64), address, copy));
    });
    f.int(Status::Ok as u64)
}

/// `void stage(ports, count, addresses, bases, outwards)`.
pub fn stage<'r, 'f>(f: &'r Routine<'f>, p: [Val<'r, 'f>; 5]) -> Val<'r, 'f> {
    let [ports, count, addresses, bases, outwards] = p;
    f.repeat(count, |i| {
        let bytes = (ports + i * Port::SIZE).u64(offset_of!(Port, bytes));
        let host = (addresses + i * 8usize).u64(0);
        let copy = (bases + i * 8usize).u64(0);
        let out = outwards.is_not(0u64);
        f.when((bytes & 63u64).is_not(0u64), || {
            f.call(Symbol::Copy as u32, [f.select(out, host, copy), f.select(out, copy, host), bytes]);
        });
    });
    f.int(0)
}

/// `void copy(void *to, const void *from, size_t n)`.
pub fn copy<'r, 'f>(f: &'r Routine<'f>, [to, from, n]: [Val<'r, 'f>; 3]) -> Val<'r, 'f> {
    f.repeat(n >> 3u64, |i| (to + i * 8usize).set_u64(0, (from + i * 8usize).u64(0)));
    let done = n & !7u64;
    f.repeat(n & 7u64, |i| (to + done + i).set_u8(0, (from + done + i).u8(0)));
    f.int(0)
}

/// Calls the kernels of a plan, but for so many of its first steps as are left out, on the host's threads if it has any.
fn steps<'r, 'f>(
    f: &'r Routine<'f>,
    tables: Val<'r, 'f>,
    (plan, left_out): (Val<'r, 'f>, Option<Val<'r, 'f>>),
    arena: Val<'r, 'f>,
    threads: Val<'r, 'f>,
) {
    let kernels = f.address(Symbol::Kernels as u32);
    let bases = arena + ArenaHead::SIZE;
    let front = arena + tables.u32(offset_of!(Head, front_bytes));
    let first = plan.u32(offset_of!(Plan, first_step));
    let first = left_out.map_or(first, |left_out| first + left_out);
    let first = record(tables, offset_of!(Head, steps_at), first, Step::SIZE);
    let count = plan.u32(offset_of!(Plan, steps));
    f.repeat(left_out.map_or(count, |left_out| count - left_out), |i| {
        let step = first + i * Step::SIZE;
        let count = step.u32(offset_of!(Step, args));
        let args = record(tables, offset_of!(Head, args_at), step.u32(offset_of!(Step, first_arg)), 8);
        // The pointers end where the front does.
        let pointers = front - ((count * 8usize + 63u64) & !63u64);
        f.repeat(count, |k| {
            let arg = (args + k * 8usize).u64(0);
            let base = (bases + (arg >> u64::from(BASE_SHIFT)) * 8usize).u64(0);
            (pointers + k * 8usize).set_u64(0, base + (arg & ((1u64 << BASE_SHIFT) - 1)));
        });
        let kernel = kernels + step.u32(offset_of!(Step, kernel));
        let chunks = step.u32(offset_of!(Step, chunks));
        let grain = step.u32(offset_of!(Step, grain));
        let alone = threads.is(0u64) | grain.below(chunks).is(0u64);
        f.when(alone, || {
            let scratch = arena.u64(offset_of!(ArenaHead, scratch));
            f.call(Symbol::Region as u32, [kernel, pointers, f.int(0), chunks, scratch]);
        });
        f.when(alone.is(0u64), || {
            arena.set_u64(offset_of!(ArenaHead, kernel), kernel);
            arena.set_u64(offset_of!(ArenaHead, pointers), pointers);
            let parallel_for = threads.u64(offset_of!(Threads, parallel_for));
            let (this, body) = (threads.u64(offset_of!(Threads, this)), f.address(Symbol::Worker as u32));
            arena.set_u64(offset_of!(ArenaHead, chunks), chunks);
            arena.set_u64(offset_of!(ArenaHead, grain), grain);
            // What the host sees as chunks are units of `grain` chunks; no step has as many as 2^32 / grain.
            let units = f.divide(chunks + grain - 1u64, grain);
            f.call_at(parallel_for, [this, units, body, arena]);
            refuse(f, arena.u32(offset_of!(ArenaHead, failed)).is_not(0u64), Status::Threads);
        });
    });
}

/// `void region(kernel, pointers, begin, end, scratch)`.
pub fn region<'r, 'f>(f: &'r Routine<'f>, p: [Val<'r, 'f>; 5]) -> Val<'r, 'f> {
    let [kernel, pointers, begin, end, scratch] = p;
    let state = f.call(Symbol::FloatEnter as u32, []);
    f.call_at(kernel, [pointers, begin, end, scratch]);
    f.call(Symbol::FloatLeave as u32, [state])
}

/// `void worker(void *arena, uint32_t unit, uint32_t worker)`: what a host's `parallel_for` calls.
pub fn worker<'r, 'f>(f: &'r Routine<'f>, [arena, unit, worker]: [Val<'r, 'f>; 3]) -> Val<'r, 'f> {
    let (grain, chunks) = (arena.u64(offset_of!(ArenaHead, grain)), arena.u64(offset_of!(ArenaHead, chunks)));
    let (begin, worker) = (unit.low() * grain, worker.low());
    let known = worker.below(arena.u64(offset_of!(ArenaHead, workers)));
    let foreign = (known & begin.below(chunks)).is(0u64);
    f.when(foreign, || arena.set_u32(offset_of!(ArenaHead, failed), 1u64));
    f.return_if(foreign, 0u64);
    let scratch = arena.u64(offset_of!(ArenaHead, scratch)) + worker * arena.u64(offset_of!(ArenaHead, stride));
    let (kernel, pointers) = (arena.u64(offset_of!(ArenaHead, kernel)), arena.u64(offset_of!(ArenaHead, pointers)));
    let end = begin + grain;
    let end = f.select(end.below(chunks), end, chunks);
    f.call(Symbol::Region as u32, [kernel, pointers, begin, end, scratch])
}

/// `int run_simple(const float *input, float *output, void *arena)`: binding 0, on this thread; the arena's size is the caller's word.
pub fn run_simple<'r, 'f>(f: &'r Routine<'f>, [input, output, arena]: [Val<'r, 'f>; 3]) -> Val<'r, 'f> {
    let tables = tables(f);
    let binding = record(tables, offset_of!(Head, bindings_at), f.int(0), Binding::SIZE);
    let ports = record(tables, offset_of!(Head, ports_at), f.int(0), Port::SIZE);
    let (call, lists) = (f.stack(size_of::<Call>() as u32), f.stack(32));
    lists.set_u64(0, input);
    lists.set_u64(8, output);
    lists.set_u64(16, ports.u64(offset_of!(Port, bytes)));
    lists.set_u64(24, ports.u64(Port::SIZE + offset_of!(Port, bytes)));
    let bytes = needed(binding, f.int(1));
    describe(f, call, [(f.int(1), lists, lists + 16u64), (f.int(1), lists + 8u64, lists + 24u64)], (arena, bytes));
    f.call(Symbol::Run as u32, [call])
}

/// Number, addresses and sizes of inputs or outputs.
pub type Tensors<'r, 'f> = (Val<'r, 'f>, Val<'r, 'f>, Val<'r, 'f>);

/// Writes a `fornax_call` of binding 0 on the calling thread.
pub fn describe<'r, 'f>(
    f: &'r Routine<'f>,
    call: Val<'r, 'f>,
    [inputs, outputs]: [Tensors<'r, 'f>; 2],
    (arena, arena_bytes): (Val<'r, 'f>, Val<'r, 'f>),
) {
    call.set_u32(offset_of!(Call, size), size_of::<Call>());
    call.set_u32(offset_of!(Call, abi), u64::from(ABI_VERSION));
    call.set_u32(offset_of!(Call, binding), f.int(0));
    call.set_u32(offset_of!(Call, n_inputs), inputs.0);
    call.set_u32(offset_of!(Call, n_outputs), outputs.0);
    call.set_u64(offset_of!(Call, inputs), inputs.1);
    call.set_u64(offset_of!(Call, input_bytes), inputs.2);
    call.set_u64(offset_of!(Call, outputs), outputs.1);
    call.set_u64(offset_of!(Call, output_bytes), outputs.2);
    call.set_u64(offset_of!(Call, arena), arena);
    call.set_u64(offset_of!(Call, arena_bytes), arena_bytes);
    call.set_u64(offset_of!(Call, threads), 0u64);
}
