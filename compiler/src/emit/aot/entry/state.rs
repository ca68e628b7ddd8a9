//! The functions of a library whose network has parameters or states.
//!
//! In: a block of the caller's, which these functions fill, save, restore, read and write, and a run changes. A state begins with a
//! [`StateHead`] that tells whose it is; it holds no address, so it may be moved. One block serves every binding, one run at a time.

use std::mem::offset_of;

use fornax_runtime::artifact::{
    ARENA_MAGIC, ArenaHead, Head, STATE_MAGIC, STATE_VERSION, StateHead, StateTable, Status, StepTable, Variable,
};

use super::{Symbol, refuse, step_table, tables};
use crate::codegen::clif::routine::{Routine, Val};

/// Address of the [`StateTable`].
fn table<'r, 'f>(f: &'r Routine<'f>) -> Val<'r, 'f> {
    tables(f) + Head::SIZE
}

/// `size_t state_bytes(void)`.
pub fn bytes<'r, 'f>(f: &'r Routine<'f>) -> Val<'r, 'f> {
    table(f).u64(offset_of!(StateTable, bytes)) + StateHead::SIZE
}

/// Refuses a block that is absent, misplaced or too small.
fn check_block<'r, 'f>(f: &'r Routine<'f>, state: Val<'r, 'f>, n: Val<'r, 'f>) {
    refuse(f, state.is(0u64), Status::Null);
    refuse(f, (state & 63u64).is_not(0u64), Status::StateFormat);
    refuse(f, n.below(bytes(f)), Status::StateSize);
}

/// Refuses a header that is not that of this network's states.
fn check_head<'r, 'f>(f: &'r Routine<'f>, head: Val<'r, 'f>) {
    let layout = table(f).u64(offset_of!(StateTable, layout));
    let wrong = head.u64(offset_of!(StateHead, magic)).is_not(STATE_MAGIC)
        | head.u32(offset_of!(StateHead, version)).is_not(u64::from(STATE_VERSION))
        | head.u64(offset_of!(StateHead, bytes)).is_not(bytes(f))
        | head.u64(offset_of!(StateHead, layout)).is_not(layout);
    refuse(f, wrong, Status::StateFormat);
}

/// Refuses a state that was not filled, restored or moved whole.
pub fn check<'r, 'f>(f: &'r Routine<'f>, state: Val<'r, 'f>, n: Val<'r, 'f>) {
    check_block(f, state, n);
    check_head(f, state);
}

fn write_head<'r, 'f>(f: &'r Routine<'f>, head: Val<'r, 'f>, hash: Val<'r, 'f>) {
    (0..StateHead::SIZE / 8).for_each(|word| head.set_u64(8 * word, 0u64));
    head.set_u64(offset_of!(StateHead, magic), STATE_MAGIC);
    head.set_u32(offset_of!(StateHead, version), u64::from(STATE_VERSION));
    head.set_u64(offset_of!(StateHead, bytes), bytes(f));
    head.set_u64(offset_of!(StateHead, layout), table(f).u64(offset_of!(StateTable, layout)));
    head.set_u64(offset_of!(StateHead, hash), hash);
}

/// `int state_init(void *state, size_t n, const void *arena)`: the first elements, from the weights of an initialised arena.
/// In the library of a training step the weights hold the beginning, and the rest is zero.
pub fn init<'r, 'f>(f: &'r Routine<'f>, [state, n, arena]: [Val<'r, 'f>; 3], step: bool) -> Val<'r, 'f> {
    check_block(f, state, n);
    refuse(f, arena.is(0u64), Status::Null);
    refuse(f, (arena & 63u64).is_not(0u64), Status::ArenaAlign);
    let magic = tables(f).u64(offset_of!(Head, layout)) ^ ARENA_MAGIC;
    refuse(f, arena.u64(offset_of!(ArenaHead, magic)).is_not(magic), Status::ArenaInit);
    let table = table(f);
    let first = arena.u64(offset_of!(ArenaHead, weights)) + table.u64(offset_of!(StateTable, initial));
    let all = table.u64(offset_of!(StateTable, bytes));
    let held = if step { step_table(f).u64(offset_of!(StepTable, initial_bytes)) } else { all };
    f.call(Symbol::Copy as u32, [state + StateHead::SIZE, first, held]);
    if step {
        let rest = state + StateHead::SIZE + held;
        f.repeat((all - held) >> 3u64, |i| (rest + i * 8usize).set_u64(0, 0u64));
    }
    write_head(f, state, f.int(0));
    f.int(Status::Ok as u64)
}

/// `int state_save(const void *state, size_t n, void *saved, size_t saved_n)`: with a hash, to any address.
pub fn save<'r, 'f>(f: &'r Routine<'f>, [state, n, saved, saved_n]: [Val<'r, 'f>; 4]) -> Val<'r, 'f> {
    check(f, state, n);
    refuse(f, saved.is(0u64), Status::Null);
    refuse(f, saved_n.is_not(bytes(f)), Status::StateSize);
    let (variables, size) = (state + StateHead::SIZE, table(f).u64(offset_of!(StateTable, bytes)));
    f.call(Symbol::Copy as u32, [saved + StateHead::SIZE, variables, size]);
    write_head(f, saved, f.call(Symbol::Hash as u32, [variables, size]));
    f.int(Status::Ok as u64)
}

/// `int state_load(void *state, size_t n, const void *saved, size_t saved_n)`: the state stays as it is if the saved one is refused.
pub fn load<'r, 'f>(f: &'r Routine<'f>, [state, n, saved, saved_n]: [Val<'r, 'f>; 4]) -> Val<'r, 'f> {
    check_block(f, state, n);
    refuse(f, saved.is(0u64), Status::Null);
    refuse(f, saved_n.is_not(bytes(f)), Status::StateSize);
    check_head(f, saved);
    let (early, late) = (saved.u32(offset_of!(StateHead, reserved)), offset_of!(StateHead, reserved_a));
    let reserved = [late, late + 8, late + 16].into_iter().fold(early, |bits, at| bits | saved.u64(at));
    refuse(f, reserved.is_not(0u64), Status::StateFormat);
    let (variables, size) = (saved + StateHead::SIZE, table(f).u64(offset_of!(StateTable, bytes)));
    let hash = f.call(Symbol::Hash as u32, [variables, size]);
    refuse(f, saved.u64(offset_of!(StateHead, hash)).is_not(hash), Status::StateFormat);
    f.call(Symbol::Copy as u32, [state + StateHead::SIZE, variables, size]);
    write_head(f, state, f.int(0));
    f.int(Status::Ok as u64)
}

/// `int parameter_get(const void *state, size_t n, const char *name, void *data, size_t bytes)`, and with `inwards` its inverse
/// `int parameter_set(void *state, size_t n, const char *name, const void *data, size_t bytes)`.
pub fn access<'r, 'f>(f: &'r Routine<'f>, p: [Val<'r, 'f>; 5], inwards: bool) -> Val<'r, 'f> {
    let [state, n, name, data, size] = p;
    check(f, state, n);
    refuse(f, name.is(0u64), Status::Null);
    let variable = f.call(Symbol::StateFind as u32, [name]);
    refuse(f, variable.is(0u64), Status::StateName);
    refuse(f, size.is_not(variable.u64(offset_of!(Variable, bytes))), Status::TensorBytes);
    refuse(f, data.is(0u64) & size.is_not(0u64), Status::Null);
    let held = state + StateHead::SIZE + variable.u64(offset_of!(Variable, offset));
    let (to, from) = if inwards { (held, data) } else { (data, held) };
    f.call(Symbol::Copy as u32, [to, from, size]);
    f.int(Status::Ok as u64)
}

/// `const Variable *find(const char *name)`: null if no variable has the name. Of the name, nothing after its zero is read.
pub fn find<'r, 'f>(f: &'r Routine<'f>, name: Val<'r, 'f>) -> Val<'r, 'f> {
    let (tables, table, found) = (tables(f), table(f), f.var(0u64));
    let text = tables + tables.u32(offset_of!(Head, text_at));
    let variables = tables + table.u32(offset_of!(StateTable, variables_at));
    f.repeat(table.u32(offset_of!(StateTable, variables)), |i| {
        let variable = variables + i * Variable::SIZE;
        let known = text + variable.u32(offset_of!(Variable, name));
        let (length, same) = (known.u32(0), f.var(1u64));
        f.repeat(length, |k| {
            f.when(same.get(), || {
                let letter = (name + k).u8(0);
                same.set(letter.is((known + k).u8(4)) & letter.is_not(0u64));
            });
        });
        f.when(same.get(), || same.set((name + length).u8(0).is(0u64)));
        found.set(f.select(same.get(), variable, found.get()));
    });
    found.get()
}
