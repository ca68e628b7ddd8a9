//! `selftest`: the network on synthetic inputs, against what the compiler computed.

use std::mem::offset_of;

use fornax_runtime::DType;
use fornax_runtime::artifact::{ARENA_MAGIC, ArenaHead, Binding, Call, Head, Port, Sample, Status, WeightsHead};

use super::{EntryOptions, Symbol, needed, record, refuse, run, tables};
use crate::codegen::clif::routine::{Routine, Val};
use crate::target::Arch;

/// Golden ratio of 64 bits.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// `int selftest(void *arena, size_t n)`: the arena is initialised and has room for the tensors after it.
pub fn selftest<'r, 'f>(f: &'r Routine<'f>, [arena, n]: [Val<'r, 'f>; 2], shape: EntryOptions<'_>) -> Val<'r, 'f> {
    let tables = tables(f);
    check(f, tables, arena, n);
    let binding = record(tables, offset_of!(Head, bindings_at), f.int(0), Binding::SIZE);
    let first = binding.u32(offset_of!(Binding, first_port));
    let ports = record(tables, offset_of!(Head, ports_at), first, Port::SIZE);
    let inputs = binding.u32(offset_of!(Binding, inputs));
    let outputs = binding.u32(offset_of!(Binding, outputs));
    let (count, bytes) = (inputs + outputs, needed(binding, f.int(1)));
    let addresses = arena + bytes;
    let sizes = addresses + count * 8usize;
    let call = sizes + count * 8usize;
    let next = f.var((call + size_of::<Call>() + 63u64) & !63u64);
    let index = f.var(0u64);
    f.repeat(count, |i| {
        let port = ports + i * Port::SIZE;
        let (size, address) = (port.u64(offset_of!(Port, bytes)), next.get());
        (addresses + i * 8usize).set_u64(0, address);
        (sizes + i * 8usize).set_u64(0, size);
        let dtype = port.u32(offset_of!(Port, dtype));
        f.when(i.below(inputs), || index.set(f.call(Symbol::Fill as u32, [dtype, address, size, index.get()])));
        next.set((address + size + 63u64) & !63u64);
    });
    let of_outputs = (outputs, addresses + inputs * 8usize, sizes + inputs * 8usize);
    run::describe(f, call, [(inputs, addresses, sizes), of_outputs], (arena, bytes));
    let result = if shape.state {
        let (state, n) = (next.get(), super::state::bytes(f));
        let filled = f.call(Symbol::StateInit as u32, [state, n, arena]).low();
        f.return_if(filled.is_not(Status::Ok as u64), filled);
        f.call(Symbol::RunWithState as u32, [call, state, n]).low()
    } else {
        f.call(Symbol::Run as u32, [call]).low()
    };
    f.return_if(result.is_not(Status::Ok as u64), result);
    if shape.arch == Arch::X86_64 {
        // Level 1 multiplies and adds: its results are close to those of the others.
        let levels = tables + tables.u32(offset_of!(Head, levels_at));
        let level = (levels + arena.u32(offset_of!(ArenaHead, level)) * 4usize).u32(0);
        f.return_if(level.is(1u64), samples(f, tables, of_outputs.1));
    }
    let hash = f.var(0u64);
    f.repeat(outputs, |i| {
        let dtype = (ports + (inputs + i) * Port::SIZE).u32(offset_of!(Port, dtype));
        let (address, size) = ((of_outputs.1 + i * 8usize).u64(0), (of_outputs.2 + i * 8usize).u64(0));
        hash.set(f.call(Symbol::Mix as u32, [dtype, address, size, hash.get()]));
    });
    refuse(f, hash.get().is_not(tables.u64(offset_of!(Head, selftest_hash))), Status::Selftest);
    f.int(Status::Ok as u64)
}

fn check<'r, 'f>(f: &'r Routine<'f>, tables: Val<'r, 'f>, arena: Val<'r, 'f>, n: Val<'r, 'f>) {
    refuse(f, arena.is(0u64), Status::Null);
    refuse(f, (arena & 63u64).is_not(0u64), Status::ArenaAlign);
    refuse(f, n.below(tables.u64(offset_of!(Head, selftest_bytes))), Status::ArenaSize);
    let magic = tables.u64(offset_of!(Head, layout)) ^ ARENA_MAGIC;
    refuse(f, arena.u64(offset_of!(ArenaHead, magic)).is_not(magic), Status::ArenaInit);
    let weights = arena.u64(offset_of!(ArenaHead, weights)).u64(offset_of!(WeightsHead, hash));
    let unknown = tables.u32(offset_of!(Head, selftest)).is(0u64);
    refuse(f, unknown | weights.is_not(tables.u64(offset_of!(Head, weights_hash))), Status::SelftestUnknown);
}

/// Compares the outputs with the samples in the file.
fn samples<'r, 'f>(f: &'r Routine<'f>, tables: Val<'r, 'f>, outputs: Val<'r, 'f>) -> Val<'r, 'f> {
    let count = tables.u32(offset_of!(Head, samples_len));
    // Outputs without f32 are compared by their hash only.
    let result = f.var(f.select(count.is(0u64), Status::SelftestUnknown as u64, Status::Ok as u64));
    f.repeat(count, |i| {
        let sample = record(tables, offset_of!(Head, samples), i, Sample::SIZE);
        let output = (outputs + sample.u32(offset_of!(Sample, output)) * 8usize).u64(0);
        let value = (output + sample.u64(offset_of!(Sample, offset))).u32(0);
        let (expected, tolerance) = (sample.u32(offset_of!(Sample, value)), sample.u32(offset_of!(Sample, tolerance)));
        let near = value.near_f32(expected, tolerance);
        result.set(f.select(near, result.get(), Status::Selftest as u64));
    });
    result.get()
}

/// `u64 fill(dtype, void *to, size_t bytes, u64 index)`: writes an input whose first element is number `index`, and returns the number
/// of the next input's. See [`fornax_runtime::artifact::selftest_bits`]; elements that are no f32 are 0 or 1.
pub fn fill<'r, 'f>(f: &'r Routine<'f>, p: [Val<'r, 'f>; 4]) -> Val<'r, 'f> {
    let [dtype, to, bytes, index] = p;
    f.repeat(bytes, |i| (to + i).set_u8(0, 0u64));
    // A hexadecimal digit for each type.
    let sizes = DType::ALL.iter().rev().fold(0, |word, dtype| word << 4 | dtype.size() as u64);
    let size = (f.int(sizes) >> (dtype << 2u64)) & 15u64;
    let log2 = f.select(size.below(4u64), size >> 1u64, (size >> 3u64) + 2u64);
    let elements = bytes >> log2;
    let float = dtype.is(u64::from(DType::F32.number()));
    f.repeat(elements, |i| {
        let z = (index + i + 1u64) * GOLDEN;
        let z = (z ^ (z >> 30u64)) * 0xbf58_476d_1ce4_e5b9_u64;
        let z = (z ^ (z >> 27u64)) * 0x94d0_49bb_1331_11eb_u64;
        let z = z ^ (z >> 31u64);
        let at = to + i * size;
        f.when(float, || at.set_u32(0, ((z >> 40u64) - (1u64 << 23)).to_f32().times_f32(1.0 / (1 << 23) as f32)));
        f.when(float.is(0u64), || at.set_u8(0, z & 1u64));
    });
    index + elements
}

/// `u64 mix(dtype, const void *bytes, size_t n, u64 hash)`: see [`fornax_runtime::artifact::mix`].
pub fn mix<'r, 'f>(f: &'r Routine<'f>, p: [Val<'r, 'f>; 4]) -> Val<'r, 'f> {
    let [dtype, bytes, n, first] = p;
    let hash = f.var(first);
    let mix = |element: Val<'r, 'f>| hash.set(((hash.get() ^ element) * GOLDEN).rotl(29));
    let float = dtype.is(u64::from(DType::F32.number()));
    f.repeat(f.select(float, n >> 2u64, 0u64), |i| {
        let element = (bytes + i * 4usize).u32(0);
        let number = (element & 0x7fff_ffff_u64).below(0x7f80_0001_u64);
        mix(f.select(number, element, 0x7fc0_0000_u64));
    });
    f.repeat(f.select(float, 0u64, n), |i| mix((bytes + i).u8(0)));
    hash.get()
}
