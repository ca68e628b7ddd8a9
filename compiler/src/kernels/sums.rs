//! Sums of many terms, in blocks: their error grows with the size of a block and not with the number of terms.
//!
//! A sum of up to [`SHORT`] terms takes them up in order. A longer one is a sum of blocks of [`BLOCK`] terms, each from 0, which is itself in
//! blocks if there are more than [`BLOCK`]. The order follows from the number of terms alone, so that every machine computes the same bits.
//! Relative to the sum of the magnitudes of its terms, a sum is right within 1e-4: each level of blocks adds `BLOCK * 2^-24`.

use crate::codegen::{Count, Element, Emitter, V, VOp};

/// Terms that are added one after the other.
const SHORT: usize = 1024;
/// Terms of a block of a longer sum, and blocks of one of these.
const BLOCK: usize = 256;

/// Adds terms to sums.
pub(super) type Step<'a> = &'a mut dyn FnMut(&mut dyn Emitter, &[V]);

/// Runs `step` `count` times, which adds `terms` terms to each of the sums that it is given, and goes on to the next terms.
pub(super) fn sum(e: &mut dyn Emitter, count: usize, terms: usize, sums: &[V], step: Step<'_>) {
    match count.saturating_mul(terms) <= SHORT || sums.is_empty() {
        true => e.repeat(Count::Times(count as u32), &mut |e| step(e, sums)),
        false => in_blocks(e, count, terms, sums, step),
    }
}

/// As [`sum`], in as few blocks of a power of [`BLOCK`] terms as are at most [`BLOCK`].
fn in_blocks(e: &mut dyn Emitter, count: usize, terms: usize, sums: &[V], step: Step<'_>) {
    let mut size = (BLOCK / terms.max(1)).max(1);
    while count.div_ceil(size) > BLOCK {
        size *= BLOCK;
    }
    e.repeat(Count::Times((count / size) as u32), &mut |e| block(e, size, terms, sums, step));
    if !count.is_multiple_of(size) {
        block(e, count % size, terms, sums, step);
    }
}

/// A block of `count` steps.
fn block(e: &mut dyn Emitter, count: usize, terms: usize, sums: &[V], step: Step<'_>) {
    let parts: Vec<V> = sums.iter().map(|_| e.constant(0.0)).collect();
    match count.saturating_mul(terms) <= BLOCK || count == 1 {
        true => e.repeat(Count::Times(count as u32), &mut |e| step(e, &parts)),
        false => in_blocks(e, count, terms, &parts, step),
    }
    for (sum, part) in sums.iter().zip(parts) {
        e.op(VOp::Add, Element::F32, *sum, *sum, part);
        e.free_v(part);
    }
}
