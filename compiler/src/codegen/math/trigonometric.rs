//! Sine and cosine, computed in `f64`.

use super::double::{ROUND, apply, bits, constant, demote, polynomial, promoted};
use super::{free, fresh};
use crate::codegen::{Cmp, Element, Emitter, R, V, VOp};

/// pi / 2 in three parts: 25 bits, 25 bits, the rest. A multiple of up to 28 bits of the first two is exact.
const HALF_PI: [f64; 3] = [1.570_796_310_901_641_8, 1.589_325_471_229_585_7e-8, 6.123_233_995_736_766e-17];

/// 2 / pi, 24 bits in each part, the first one below the point.
const TWO_OVER_PI: [u32; 8] = [0xA2_F983, 0x6E_4E44, 0x15_29FC, 0x27_57D1, 0xF5_34DD, 0xC0_DB62, 0x95_993C, 0x43_9041];

/// Largest argument that the three parts of pi / 2 reduce.
const LIMIT: f32 = 268_435_456.0;

/// `sin(x + quarters pi / 2)`: 1 ulp; NaN for infinities and for NaN.
pub(super) fn sine(e: &mut dyn Emitter, quarters: u64, xs: &[V]) {
    let rests = promoted(e, xs);
    let turns = fresh(e, rests.len());
    let (round, over_half_pi, whole, part) =
        (constant(e, ROUND), constant(e, std::f64::consts::FRAC_2_PI), e.v(), e.v());
    for (r, turn) in rests.iter().zip(&turns) {
        e.op(VOp::Mul, Element::F64, *turn, *r, over_half_pi);
        e.op(VOp::Add, Element::F64, *turn, *turn, round);
        e.op(VOp::Sub, Element::F64, whole, *turn, round);
        for term in HALF_PI {
            e.splat_64(part, term.to_bits());
            e.op(VOp::Mul, Element::F64, part, whole, part);
            e.op(VOp::Sub, Element::F64, *r, *r, part);
        }
    }
    free(e, &[round, over_half_pi, whole, part]);
    let (limit, largest) = (e.integer(i64::from(LIMIT.to_bits())), largest(e, xs));
    e.if_less(limit, largest, &mut |e| reduce_far(e, xs, &rests, &turns));
    e.free_r(limit);
    e.free_r(largest);
    let offset = bits(e, quarters);
    turns.iter().for_each(|turn| e.op(VOp::Add, Element::I64, *turn, *turn, offset));
    e.free_v(offset);
    quadrant(e, &rests, &turns);
    free(e, &turns);
    let (size, most, nan, rest) =
        (e.v(), e.constant(f32::MAX), e.constant(f32::NAN), e.constant(f32::from_bits(0x7FFF_FFFF)));
    let values = fresh(e, xs.len());
    demote(e, &values, rests);
    for (x, value) in xs.iter().zip(&values) {
        e.op(VOp::And, Element::F32, size, *x, rest);
        e.select(Element::F32, *x, Cmp::LessOrEqual, [size, most], *value, nan);
    }
    free(e, &[size, most, nan, rest]);
    free(e, &values);
}

/// The bits of the largest magnitude in any lane of `xs`.
fn largest(e: &mut dyn Emitter, xs: &[V]) -> R {
    let (all, size, magnitude, bits) = (e.constant(0.0), e.v(), e.constant(f32::from_bits(0x7FFF_FFFF)), e.r());
    for x in xs {
        e.op(VOp::And, Element::I32, size, *x, magnitude);
        e.op(VOp::Max, Element::I32, all, all, size);
    }
    let mut by = e.lanes(Element::I32) / 2;
    while by > 0 {
        e.upper(size, all, by);
        e.op(VOp::Max, Element::I32, all, all, size);
        by /= 2;
    }
    e.first_bits(Element::I32, bits, all);
    free(e, &[all, size, magnitude]);
    bits
}

/// Rest and quarter turns of the lanes beyond [`LIMIT`], from the fraction of `x 2 / pi`; the others keep theirs.
fn reduce_far(e: &mut dyn Emitter, xs: &[V], rests: &[V], turns: &[V]) {
    let (x, rest, turn, size) = (e.v(), e.v(), e.v(), e.v());
    let (limit, magnitude) = (constant(e, f64::from(LIMIT)), bits(e, u64::MAX >> 1));
    for i in 0..rests.len() {
        e.promote(x, xs[i / 2], i % 2 == 1);
        fraction(e, x, rest, turn);
        e.op(VOp::And, Element::I64, size, x, magnitude);
        e.select(Element::F64, rests[i], Cmp::Less, [limit, size], rest, rests[i]);
        e.select(Element::F64, turns[i], Cmp::Less, [limit, size], turn, turns[i]);
    }
    free(e, &[x, rest, turn, size, limit, magnitude]);
}

/// `x = turn pi / 2 + rest` by [`TWO_OVER_PI`]: each product is exact, each of its fractions too, and what their sum rounds is kept apart.
fn fraction(e: &mut dyn Emitter, x: V, rest: V, turn: V) {
    /// From here on a product is a multiple of four.
    const WHOLE: f64 = (1u64 << 50) as f64;
    let (round, whole, magnitude, zero) =
        (constant(e, ROUND), constant(e, WHOLE), bits(e, u64::MAX >> 1), constant(e, 0.0));
    let (product, part, sum, low) = (e.v(), e.v(), e.v(), constant(e, 0.0));
    e.copy_v(rest, zero);
    e.copy_v(turn, zero);
    let take = |e: &mut dyn Emitter, value: V, integer: V| {
        e.op(VOp::Add, Element::F64, integer, value, round);
        e.op(VOp::Add, Element::I64, turn, turn, integer);
        e.op(VOp::Sub, Element::F64, integer, integer, round);
        e.op(VOp::Sub, Element::F64, value, value, integer);
    };
    for (i, digits) in TWO_OVER_PI.iter().enumerate() {
        let factor = f64::from(*digits) * 2f64.powi(-24 * (i as i32 + 1));
        e.splat_64(part, factor.to_bits());
        e.op(VOp::Mul, Element::F64, product, x, part);
        e.op(VOp::And, Element::I64, part, product, magnitude);
        e.select(Element::F64, product, Cmp::Less, [part, whole], product, zero);
        take(e, product, part);
        // sum = rest + product, and what it lacks.
        e.op(VOp::Add, Element::F64, sum, rest, product);
        e.op(VOp::Sub, Element::F64, part, sum, rest);
        e.op(VOp::Sub, Element::F64, product, product, part);
        e.op(VOp::Sub, Element::F64, part, sum, part);
        e.op(VOp::Sub, Element::F64, rest, rest, part);
        e.op(VOp::Add, Element::F64, product, product, rest);
        e.op(VOp::Add, Element::F64, low, low, product);
        e.copy_v(rest, sum);
    }
    take(e, rest, part);
    e.op(VOp::Add, Element::F64, rest, rest, low);
    e.splat_64(part, std::f64::consts::FRAC_PI_2.to_bits());
    e.op(VOp::Mul, Element::F64, rest, rest, part);
    free(e, &[round, whole, magnitude, zero, product, part, sum, low]);
}

/// `r = sin(r + turn pi / 2)` for |r| <= pi / 4; the low bits of `turn` count.
fn quadrant(e: &mut dyn Emitter, rests: &[V], turns: &[V]) {
    let squares = fresh(e, rests.len());
    for (square, r) in squares.iter().zip(rests) {
        e.op(VOp::Mul, Element::F64, *square, *r, *r);
    }
    let even = polynomial(e, &squares, &series(0));
    let odd = polynomial(e, &squares, &series(1));
    apply(e, VOp::Mul, &odd, rests);
    let (one, zero, sign, bit) = (constant(e, 1.0), constant(e, 0.0), bits(e, 1 << 63), e.v());
    for (i, turn) in turns.iter().enumerate() {
        // Odd quarters take the cosine; the upper two turn the sign. The bit becomes the sign of a number that is never zero.
        e.shift_left(Element::I64, bit, *turn, 63);
        e.op(VOp::Or, Element::I64, bit, bit, one);
        e.select(Element::F64, odd[i], Cmp::Less, [bit, zero], even[i], odd[i]);
        e.shift_left(Element::I64, bit, *turn, 62);
        e.op(VOp::And, Element::I64, bit, bit, sign);
        e.op(VOp::Xor, Element::I64, rests[i], odd[i], bit);
    }
    free(e, &[one, zero, sign, bit]);
    [squares, even, odd].iter().for_each(|vs| free(e, vs));
}

/// Eight terms of the series of cosine (from the term of power 0) or of sine divided by its argument (1), highest power first.
fn series(first: u32) -> Vec<f64> {
    let term = |k: u32| {
        let over_factorial = (first + 1..=first + 2 * k).fold(1.0, |p, n| p / f64::from(n));
        if k.is_multiple_of(2) { over_factorial } else { -over_factorial }
    };
    (0..8).rev().map(term).collect()
}
