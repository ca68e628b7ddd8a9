//! `init`: which level, whose weights.

use std::mem::offset_of;

use fornax_runtime::artifact::{ARENA_MAGIC, ArenaHead, FORMAT_VERSION, Head, Status, WEIGHTS_MAGIC, WeightsHead};

use super::{EntryOptions, Symbol, levels, refuse, tables};
use crate::codegen::clif::routine::{Routine, Val};
use crate::target::Arch;

/// Code of `arch_prctl` that asks for the permission to use a part of the registers.
const ARCH_REQ_XCOMP_PERM: u64 = 0x1023;
/// The data of tile registers among these parts.
const TILE_DATA: u64 = 18;

/// `int init(void *arena, size_t n, const void *weights, size_t weights_n, uint32_t level)`.
pub fn init<'r, 'f>(f: &'r Routine<'f>, p: [Val<'r, 'f>; 5], shape: EntryOptions<'_>) -> Val<'r, 'f> {
    let embedded = shape.embedded;
    let [arena, n, weights, weights_n, level] = p;
    let tables = tables(f);
    refuse(f, arena.is(0u64), Status::Null);
    refuse(f, (arena & 63u64).is_not(0u64), Status::ArenaAlign);
    refuse(f, n.below(tables.u32(offset_of!(Head, front_bytes))), Status::ArenaSize);
    let index = choose(f, tables, level.low(), shape);
    let found = f.var(weights);
    if embedded {
        f.when(weights.is(0u64), || found.set(f.address(Symbol::Weights as u32)));
    } else {
        refuse(f, weights.is(0u64), Status::WeightsMissing);
    }
    let weights = found.get();
    // Those of the library itself were written with it.
    let own = if embedded { p[2].is(0u64) } else { f.int(0) };
    f.when(own.is(0u64), || check(f, tables, weights, weights_n));
    arena.set_u64(offset_of!(ArenaHead, magic), tables.u64(offset_of!(Head, layout)) ^ ARENA_MAGIC);
    arena.set_u64(offset_of!(ArenaHead, weights), weights);
    arena.set_u32(offset_of!(ArenaHead, level), index);
    arena.set_u32(offset_of!(ArenaHead, failed), 0u64);
    f.int(Status::Ok as u64)
}

/// Index of the level to use: the one asked for, or the last that the processor runs.
fn choose<'r, 'f>(f: &'r Routine<'f>, tables: Val<'r, 'f>, asked: Val<'r, 'f>, shape: EntryOptions<'_>) -> Val<'r, 'f> {
    let none = u64::from(u32::MAX);
    let (able, named, best) = (f.call(Symbol::Levels as u32, []), f.var(none), f.var(none));
    let able = if shape.tiles { permitted(f, able, asked, shape.arch) } else { able };
    let levels = tables + tables.u32(offset_of!(Head, levels_at));
    f.repeat(tables.u32(offset_of!(Head, levels)), |i| {
        let level = (levels + i * 4usize).u32(0);
        let runs = ((able >> level) & 1u64).is_not(0u64);
        best.set(f.select(runs & (asked.is(0u64) | asked.is(level)), i, best.get()));
        named.set(f.select(asked.is(level), i, named.get()));
    });
    refuse(f, asked.is_not(0u64) & named.get().is(none), Status::Level);
    refuse(f, best.get().is(none), Status::Cpu);
    best.get()
}

/// Those of the levels `able` that the process may use. It asks for the permission to use tile registers where the processor has them and
/// the caller has not asked for a level without.
fn permitted<'r, 'f>(f: &'r Routine<'f>, able: Val<'r, 'f>, asked: Val<'r, 'f>, arch: Arch) -> Val<'r, 'f> {
    let (tiles, left) = (levels::to_ask_for(arch), f.var(able));
    // No level has a number of 64 or more; of such a one nothing is asked, as `choose` refuses it.
    let wanted = asked.is(0u64) | (((f.int(tiles) >> (asked & 63u64)) & 1u64).is_not(0u64) & asked.below(64u64));
    f.when(wanted & (able & tiles).is_not(0u64), || {
        let refused = f.call(Symbol::ArchPrctl as u32, [f.int(ARCH_REQ_XCOMP_PERM), f.int(TILE_DATA)]);
        left.set(f.select(refused.is(0u64), able, able & !tiles));
    });
    left.get()
}

/// Refuses weights that are not whole or not this network's.
fn check<'r, 'f>(f: &'r Routine<'f>, tables: Val<'r, 'f>, weights: Val<'r, 'f>, n: Val<'r, 'f>) {
    refuse(f, (weights & 63u64).is_not(0u64), Status::WeightsFormat);
    refuse(f, n.is_not(tables.u64(offset_of!(Head, weights_bytes))), Status::WeightsFormat);
    refuse(f, weights.u64(offset_of!(WeightsHead, magic)).is_not(WEIGHTS_MAGIC), Status::WeightsFormat);
    refuse(f, weights.u32(offset_of!(WeightsHead, version)).is_not(u64::from(FORMAT_VERSION)), Status::WeightsFormat);
    refuse(f, weights.u64(offset_of!(WeightsHead, bytes)).is_not(n), Status::WeightsFormat);
    let (early, late) = (weights.u32(offset_of!(WeightsHead, reserved)), offset_of!(WeightsHead, reserved_a));
    let reserved = [late, late + 8, late + 16].into_iter().fold(early, |bits, at| bits | weights.u64(at));
    refuse(f, reserved.is_not(0u64), Status::WeightsFormat);
    let layout = tables.u64(offset_of!(Head, layout));
    refuse(f, weights.u64(offset_of!(WeightsHead, layout)).is_not(layout), Status::WeightsLayout);
    let hash = f.call(Symbol::Hash as u32, [weights + WeightsHead::SIZE, n - WeightsHead::SIZE]);
    refuse(f, weights.u64(offset_of!(WeightsHead, hash)).is_not(hash), Status::WeightsHash);
}

const PRIME: [u64; 5] =
    [0x9e37_79b1_85eb_ca87, 0xc2b2_ae3d_27d4_eb4f, 0x1656_67b1_9e37_79f9, 0x85eb_ca77_c2b2_ae63, 0x27d4_eb2f_1656_67c5];

/// `u64 hash(const void *bytes, size_t n)`: XXH64 of its specification, seed 0, of a number of bytes that is a multiple of 8.
pub fn hash<'r, 'f>(f: &'r Routine<'f>, [bytes, n]: [Val<'r, 'f>; 2]) -> Val<'r, 'f> {
    let round = |sum: Val<'r, 'f>, input: Val<'r, 'f>| (sum + input * PRIME[1]).rotl(31) * PRIME[0];
    let first = [PRIME[0].wrapping_add(PRIME[1]), PRIME[1], 0, 0u64.wrapping_sub(PRIME[0])];
    let lanes = first.map(|lane| f.var(lane));
    let stripes = n >> 5u64;
    f.repeat(stripes, |i| {
        let stripe = bytes + (i << 5u64);
        for (k, lane) in lanes.into_iter().enumerate() {
            lane.set(round(lane.get(), stripe.u64(8 * k)));
        }
    });
    let [a, b, c, d] = lanes.map(|lane| lane.get());
    let merged = [a, b, c, d].into_iter().fold(a.rotl(1) + b.rotl(7) + c.rotl(12) + d.rotl(18), |sum, lane| {
        (sum ^ round(f.int(0), lane)) * PRIME[0] + PRIME[3]
    });
    let sum = f.var(f.select(stripes.is(0u64), PRIME[4], merged) + n);
    let rest = bytes + (stripes << 5u64);
    f.repeat((n & 31u64) >> 3u64, |i| {
        let word = round(f.int(0), (rest + i * 8usize).u64(0));
        sum.set((sum.get() ^ word).rotl(27) * PRIME[0] + PRIME[3]);
    });
    let sum = sum.get();
    let sum = (sum ^ (sum >> 33u64)) * PRIME[1];
    let sum = (sum ^ (sum >> 29u64)) * PRIME[2];
    sum ^ (sum >> 32u64)
}
