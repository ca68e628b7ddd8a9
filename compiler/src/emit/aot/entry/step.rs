//! The functions of a library that holds a training step.
//!
//! In: a [`StepCall`] with images, and a state. Out: runs of the library's three bindings, one after the other: as many of `predict` or `gradients`
//! as the images take, one of `update`. What a run's prologue leaves in the arena depends on the state alone, and on nothing in it that the run
//! changes; so within a call it runs once, and no call trusts the arena of another.

use std::mem::offset_of;

use fornax_runtime::ABI_VERSION;
use fornax_runtime::artifact::{
    Binding, Call, Head, Port, STEP_BINDINGS, STEP_GRADIENTS, STEP_PREDICT, STEP_UPDATE, StateHead, StateTable, Status,
    StepCall, StepTable, Variable,
};

use super::{Symbol, masks, needed, record, refuse, run, state, step_table, tables};
use crate::codegen::clif::routine::{Routine, Val};
use crate::emit::aot::{Rate, StepSpec};

/// The record of a binding.
fn binding<'r, 'f>(f: &'r Routine<'f>, number: Val<'r, 'f>) -> Val<'r, 'f> {
    record(tables(f), offset_of!(Head, bindings_at), number, Binding::SIZE)
}

/// `size_t step_arena_bytes(uint32_t threads)`: what the most demanding part needs, and after it room for the factors of what is dropped.
pub fn arena_bytes<'r, 'f>(f: &'r Routine<'f>, threads: Val<'r, 'f>, spec: &StepSpec) -> Val<'r, 'f> {
    let threads = threads.low();
    let (threads, most) = (f.select(threads.is(0u64), 1u64, threads), f.var(0u64));
    f.repeat(STEP_BINDINGS.len(), |number| {
        let own = needed(binding(f, number), threads);
        most.set(f.select(most.get().below(own), own, most.get()));
    });
    most.get() + spec.mask_bytes()
}

/// Refuses a description that is absent or of another version.
fn check<'r, 'f>(f: &'r Routine<'f>, step: Val<'r, 'f>) {
    refuse(f, step.is(0u64), Status::Null);
    refuse(f, step.u32(offset_of!(StepCall, size)).is_not(size_of::<StepCall>()), Status::Abi);
    refuse(f, step.u32(offset_of!(StepCall, abi)).is_not(u64::from(ABI_VERSION)), Status::Abi);
}

/// `int predict(const fornax_step *)`.
pub fn predict<'r, 'f>(f: &'r Routine<'f>, step: Val<'r, 'f>) -> Val<'r, 'f> {
    check(f, step);
    let sides = [[offset_of!(StepCall, input)].as_slice(), &[offset_of!(StepCall, logits)]];
    over_images(f, step, STEP_PREDICT, sides, None)
}

/// `int gradients(const fornax_step *)`.
pub fn gradients<'r, 'f>(f: &'r Routine<'f>, step: Val<'r, 'f>, spec: &StepSpec) -> Val<'r, 'f> {
    check(f, step);
    let inputs = [offset_of!(StepCall, input), offset_of!(StepCall, targets)];
    let outputs = [offset_of!(StepCall, loss), offset_of!(StepCall, logits)];
    over_images(f, step, STEP_GRADIENTS, [&inputs, &outputs], Some(spec))
}

/// Runs binding `number` for all images. Inputs and outputs lie where these fields of the call say, the factors of what is dropped at the end of
/// the arena.
fn over_images<'r, 'f>(
    f: &'r Routine<'f>,
    step: Val<'r, 'f>,
    number: usize,
    sides: [&[usize]; 2],
    spec: Option<&StepSpec>,
) -> Val<'r, 'f> {
    let (each, images) = (step_table(f).u32(offset_of!(StepTable, images)), step.u32(offset_of!(StepCall, images)));
    let runs = f.divide(images, each);
    refuse(f, images.is(0u64) | (runs * each).is_not(images), Status::Step);
    let binding = binding(f, f.int(number as u64));
    let dropped = spec.map_or(&[][..], |spec| &spec.masks);
    let counts = [sides[0].len() + dropped.len(), sides[1].len()];
    // Of each side addresses, then sizes.
    let lists = counts.map(|count| f.stack(16 * count as u32));
    let mut port = ports(f, binding);
    for (side, count) in counts.into_iter().enumerate() {
        for slot in 0..count {
            if let Some(field) = sides[side].get(slot) {
                let address = step.u64(*field);
                refuse(f, address.is(0u64), Status::Null);
                lists[side].set_u64(8 * slot, address);
            }
            lists[side].set_u64(8 * (count + slot), port.u64(offset_of!(Port, bytes)));
            port = port + Port::SIZE;
        }
    }
    let call = f.stack(size_of::<Call>() as u32);
    let described = [0, 1].map(|side| (f.int(counts[side] as u64), lists[side], lists[side] + 8 * counts[side]));
    describe(f, call, step, f.int(number as u64), described);
    let held = spec.filter(|_| !dropped.is_empty()).map(|spec| {
        let held = reserve(f, call, binding, spec);
        let mut own = held;
        for (slot, mask) in dropped.iter().enumerate() {
            lists[0].set_u64(8 * (sides[0].len() + slot), own);
            own = own + 4 * mask.count * spec.images;
        }
        (held, spec.images)
    });
    let (state, n) = (step.u64(offset_of!(StepCall, state)), step.u64(offset_of!(StepCall, state_bytes)));
    f.repeat(runs, |at| {
        if let Some((held, images)) = held {
            masks::write(f, step, (at * images, images), dropped, held);
        }
        let code = f.call(Symbol::Execute as u32, [call, state, n, at]).low();
        f.return_if(code.is_not(Status::Ok as u64), code);
        for ((list, count), fields) in lists.into_iter().zip(counts).zip(sides) {
            for slot in 0..fields.len() {
                list.set_u64(8 * slot, list.u64(8 * slot) + list.u64(8 * (count + slot)));
            }
        }
    });
    f.int(Status::Ok as u64)
}

/// Takes the last bytes of the arena for the factors of what is dropped: their address.
fn reserve<'r, 'f>(f: &'r Routine<'f>, call: Val<'r, 'f>, binding: Val<'r, 'f>, spec: &StepSpec) -> Val<'r, 'f> {
    let (arena, bytes) = (call.u64(offset_of!(Call, arena)), call.u64(offset_of!(Call, arena_bytes)));
    let own = spec.mask_bytes();
    refuse(f, bytes.below(own), Status::ArenaSize);
    call.set_u64(offset_of!(Call, arena_bytes), (bytes - own) & !63u64);
    // Nothing is written into an arena that is none.
    run::check_arena(f, tables(f), call, binding, arena);
    arena + ((bytes - own) & !63u64)
}

/// Address of the ports of a binding.
fn ports<'r, 'f>(f: &'r Routine<'f>, binding: Val<'r, 'f>) -> Val<'r, 'f> {
    record(tables(f), offset_of!(Head, ports_at), binding.u32(offset_of!(Binding, first_port)), Port::SIZE)
}

/// Writes a `fornax_call` of a binding, on the threads of the step.
fn describe<'r, 'f>(
    f: &'r Routine<'f>,
    call: Val<'r, 'f>,
    step: Val<'r, 'f>,
    number: Val<'r, 'f>,
    sides: [run::Tensors<'r, 'f>; 2],
) {
    let arena = step.u64(offset_of!(StepCall, arena));
    run::describe(f, call, sides, (arena, step.u64(offset_of!(StepCall, arena_bytes))));
    call.set_u32(offset_of!(Call, binding), number);
    call.set_u64(offset_of!(Call, threads), step.u64(offset_of!(StepCall, threads)));
}

/// `int update(const fornax_step *)`.
pub fn update<'r, 'f>(f: &'r Routine<'f>, step: Val<'r, 'f>, spec: &StepSpec) -> Val<'r, 'f> {
    check(f, step);
    check_rate(f, step);
    let count = spec.rates.len();
    let (values, lists) = (f.stack(4 * count.max(1) as u32), f.stack(16 * count.max(1) as u32));
    let number = step.u32(offset_of!(StepCall, number));
    let float = f.call(Symbol::FloatEnter as u32, []);
    for (at, rate) in spec.rates.iter().enumerate() {
        let value = match rate {
            Rate::Learning => step.u32(offset_of!(StepCall, rate)),
            Rate::Correction(beta) => correction(f, *beta, number),
            Rate::Clip(norm) => f.int(norm.to_bits().into()),
            Rate::Average(most) => average(f, *most, number),
        };
        values.set_u32(4 * at, value);
        lists.set_u64(8 * at, values + 4 * at);
        lists.set_u64(8 * (count + at), 4u64);
    }
    f.call(Symbol::FloatLeave as u32, [float]);
    let call = f.stack(size_of::<Call>() as u32);
    let none = f.int(0);
    let inputs = (f.int(count as u64), lists, lists + 8 * count);
    let outputs = if spec.clips() { norm(f, step) } else { (none, none, none) };
    describe(f, call, step, f.int(STEP_UPDATE as u64), [inputs, outputs]);
    let (state, n) = (step.u64(offset_of!(StepCall, state)), step.u64(offset_of!(StepCall, state_bytes)));
    f.call(Symbol::Execute as u32, [call, state, n, none])
}

/// Where the norm of the gradients goes: to the caller, or nowhere.
fn norm<'r, 'f>(f: &'r Routine<'f>, step: Val<'r, 'f>) -> run::Tensors<'r, 'f> {
    let (unwanted, list, wanted) = (f.stack(16), f.stack(16), step.u64(offset_of!(StepCall, norm)));
    list.set_u64(0, f.select(wanted.is(0u64), unwanted, wanted));
    list.set_u64(8, 4u64);
    (f.int(1), list, list + 8u64)
}

/// Refuses an update that has no number, or a learning rate that is none.
fn check_rate<'r, 'f>(f: &'r Routine<'f>, step: Val<'r, 'f>) {
    const INFINITE: u64 = 0x7f80_0000;
    let infinite = (step.u32(offset_of!(StepCall, rate)) & INFINITE).is(INFINITE);
    refuse(f, infinite | step.u32(offset_of!(StepCall, number)).is(0u64), Status::Step);
}

/// The f32 nearest to [`fornax_ir::training::correction`], which multiplies the same numbers in the same order.
fn correction<'r, 'f>(f: &'r Routine<'f>, beta: f64, number: Val<'r, 'f>) -> Val<'r, 'f> {
    let one = f.int(1f64.to_bits());
    let (power, square) = (f.var(one), f.var(beta.to_bits()));
    f.repeat(u32::BITS as usize, |bit| {
        let with = power.get().times_f64(square.get());
        power.set(f.select(((number >> bit) & 1u64).is_not(0u64), with, power.get()));
        square.set(square.get().times_f64(square.get()));
    });
    one.over_f64(one.minus_f64(power.get())).f64_to_f32()
}

/// The f32 nearest to `most`, or to `(1 + number) / (10 + number)` if that is less. Both are from 0 to below 1, and ordered as their bits.
fn average<'r, 'f>(f: &'r Routine<'f>, most: f64, number: Val<'r, 'f>) -> Val<'r, 'f> {
    let early = (number + 1u64).to_f64().over_f64((number + 10u64).to_f64());
    f.select(early.below(most.to_bits()), early, most.to_bits()).f64_to_f32()
}

/// `int step(const fornax_step *)`: nothing is done if the update would be refused for its numbers.
pub fn step<'r, 'f>(f: &'r Routine<'f>, step: Val<'r, 'f>) -> Val<'r, 'f> {
    check(f, step);
    check_rate(f, step);
    let code = f.call(Symbol::Gradients as u32, [step]).low();
    f.return_if(code.is_not(Status::Ok as u64), code);
    f.call(Symbol::Update as u32, [step])
}

/// `int export(const void *state, size_t n, void *file, size_t bytes)`.
pub fn export<'r, 'f>(f: &'r Routine<'f>, [from, n, file, bytes]: [Val<'r, 'f>; 4]) -> Val<'r, 'f> {
    let (tables, table) = (tables(f), step_table(f));
    state::check(f, from, n);
    refuse(f, file.is(0u64), Status::Null);
    refuse(f, bytes.is_not(table.u64(offset_of!(StepTable, export_bytes))), Status::StateSize);
    let head = table.u32(offset_of!(StepTable, export_head_bytes));
    f.call(Symbol::Copy as u32, [file, tables + table.u32(offset_of!(StepTable, export_head_at)), head]);
    let numbers = tables + table.u32(offset_of!(StepTable, exported_at));
    let variables = tables + (tables + Head::SIZE).u32(offset_of!(StateTable, variables_at));
    let to = f.var(file + head);
    f.repeat(table.u32(offset_of!(StepTable, exported)), |i| {
        let variable = variables + (numbers + i * 4usize).u32(0) * Variable::SIZE;
        let size = variable.u64(offset_of!(Variable, bytes));
        let held = from + StateHead::SIZE + variable.u64(offset_of!(Variable, offset));
        f.call(Symbol::Copy as u32, [to.get(), held, size]);
        to.set(to.get() + size);
    });
    f.int(Status::Ok as u64)
}
