//! What a training step drops of its images, in its library.
//!
//! In: seed, epoch and images of a [`StepCall`], and [`Mask`]s. Out: the factors that `gradients` takes as inputs. Invariant: they are those of
//! `fornax::train::masks`. Each image has a sequence of random numbers for each purpose: its place is the XXH3 hash of purpose, epoch and
//! image with the seed, and its numbers are SplitMix64's from there (Steele, Lea, Flood 2014).

use std::mem::offset_of;

use fornax_runtime::artifact::StepCall;

use super::Symbol;
use crate::codegen::clif::routine::{Routine, Val};
use crate::emit::aot::Mask;

/// Writes the factors of `images` images, the first of which has this number in the call, one input after the other.
pub fn write<'r, 'f>(
    f: &'r Routine<'f>,
    step: Val<'r, 'f>,
    (first, images): (Val<'r, 'f>, usize),
    masks: &[Mask],
    to: Val<'r, 'f>,
) {
    let (seed, epoch, keys) = (
        step.u64(offset_of!(StepCall, seed)),
        step.u64(offset_of!(StepCall, epoch)),
        step.u64(offset_of!(StepCall, keys)),
    );
    f.repeat(images, |at| {
        let number = first + at;
        let key = f.var(number);
        f.when(keys.is_not(0u64), || key.set((keys + number * 8usize).u64(0)));
        let mut begin = to;
        // Those of one purpose stand side by side, and share a sequence.
        for group in masks.chunk_by(|a, b| a.purpose == b.purpose) {
            let sequence = f.call(Symbol::Sequence as u32, [seed, f.int(group[0].purpose), epoch, key.get()]);
            for mask in group {
                let own = begin + at * (4 * mask.count);
                let drawn = sequence + INCREMENT.wrapping_mul(mask.first);
                let [below, kept] = [mask.threshold(), u64::from(mask.kept().to_bits())].map(|word| f.int(word));
                f.call(Symbol::Factors as u32, [drawn, own, f.int(mask.count as u64), below, kept]);
                begin = begin + 4 * mask.count * images;
            }
        }
    });
}

/// What a number of SplitMix64 is further than the one before.
const INCREMENT: u64 = 0x9e37_79b9_7f4a_7c15;

/// `void factors(u64 sequence, float *to, size_t n, u64 below, u32 kept)`: 0 where a number of 53 bits is below, else kept.
pub fn factors<'r, 'f>(f: &'r Routine<'f>, p: [Val<'r, 'f>; 5]) -> Val<'r, 'f> {
    let [sequence, to, n, below, kept] = p;
    f.repeat(n, |at| {
        let z = sequence + (at + 1u64) * INCREMENT;
        let z = (z ^ (z >> 30u64)) * 0xbf58_476d_1ce4_e5b9_u64;
        let z = (z ^ (z >> 27u64)) * 0x94d0_49bb_1331_11eb_u64;
        let unit = (z ^ (z >> 31u64)) >> 11u64;
        (to + at * 4usize).set_u32(0, f.select(unit.below(below), 0u64, kept));
    });
    f.int(0)
}

/// `u64 sequence(u64 seed, u64 purpose, u64 epoch, u64 image)`: XXH3's hash, of 64 bits, of three words with a seed.
pub fn sequence<'r, 'f>(f: &'r Routine<'f>, p: [Val<'r, 'f>; 4]) -> Val<'r, 'f> {
    const SECRET: [u64; 4] =
        [0xbe4b_a423_396c_feb8, 0x1cad_21f7_2c81_017c, 0xdb97_9083_e96d_d4de, 0x1f67_b3b7_a4a4_4072];
    let [seed, purpose, epoch, image] = p;
    let mix = |[a, b]: [Val<'r, 'f>; 2], [s, t]: [u64; 2]| {
        let (low, high) = (a ^ (seed + s), b ^ (f.int(t) - seed));
        (low * high) ^ low.high_of_product(high)
    };
    let bytes = 24u64;
    let sum = mix([purpose, epoch], [SECRET[0], SECRET[1]]) + mix([epoch, image], [SECRET[2], SECRET[3]]);
    let sum = sum + bytes.wrapping_mul(0x9e37_79b1_85eb_ca87);
    let sum = (sum ^ (sum >> 37u64)) * 0x1656_6791_9e37_79f9_u64;
    sum ^ (sum >> 32u64)
}
