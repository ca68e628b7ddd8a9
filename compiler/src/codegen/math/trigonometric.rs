//! Sine and cosine, computed in `f64`.

use super::double::{ROUND, apply, bits, constant, demote, polynomial, promoted};
use super::{free, fresh};
use crate::codegen::{Cmp, Element, Emitter, V, VOp};

/// pi / 2 in three parts: 25 bits, 25 bits, the rest. A multiple of up to 28 bits of the first two is exact.
const HALF_PI: [f64; 3] = [1.570_796_310_901_641_8, 1.589_325_471_229_585_7e-8, 6.123_233_995_736_766e-17];

/// Largest argument that the three parts of pi / 2 reduce.
const LIMIT: f32 = 268_435_456.0;

/// `sin(x + quarters pi / 2)`: 1 ulp for |x| <= 2^28; NaN beyond, for infinities and for NaN.
pub(super) fn sine(e: &mut dyn Emitter, quarters: u64, xs: &[V]) {
    let rests = promoted(e, xs);
    let turns = fresh(e, rests.len());
    let (round, over_half_pi, offset, whole, part) =
        (constant(e, ROUND), constant(e, std::f64::consts::FRAC_2_PI), bits(e, quarters), e.v(), e.v());
    for (r, turn) in rests.iter().zip(&turns) {
        e.op(VOp::Mul, Element::F64, *turn, *r, over_half_pi);
        e.op(VOp::Add, Element::F64, *turn, *turn, round);
        e.op(VOp::Sub, Element::F64, whole, *turn, round);
        for term in HALF_PI {
            e.splat_64(part, term.to_bits());
            e.op(VOp::Mul, Element::F64, part, whole, part);
            e.op(VOp::Sub, Element::F64, *r, *r, part);
        }
        e.op(VOp::Add, Element::I64, *turn, *turn, offset);
    }
    free(e, &[round, over_half_pi, offset, whole, part]);
    quadrant(e, &rests, &turns);
    free(e, &turns);
    let (size, limit, nan, rest) =
        (e.v(), e.constant(LIMIT), e.constant(f32::NAN), e.constant(f32::from_bits(0x7FFF_FFFF)));
    let values = fresh(e, xs.len());
    demote(e, &values, rests);
    for (x, value) in xs.iter().zip(&values) {
        e.op(VOp::And, Element::F32, size, *x, rest);
        e.select(Element::F32, *x, Cmp::LessOrEqual, [size, limit], *value, nan);
    }
    free(e, &[size, limit, nan, rest]);
    free(e, &values);
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
