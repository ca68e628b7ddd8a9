//! The natural logarithm, and softplus.

use super::exp::exp_below;
use super::{free, fresh, polynomial, with_copies};
use crate::codegen::{Cmp, Element, Emitter, V, VOp};

/// (ln(1 + f) - f + f^2 / 2) / f^3 for f between sqrt(1/2) - 1 and sqrt(2) - 1, highest power first.
const LOG1P: [f32; 8] =
    [-0.076_345, 0.127_615_78, -0.131_601_83, 0.142_017_57, -0.166_233_57, 0.200_012_27, -0.250_008_2, 0.333_333_3];
/// ln 2 with its last bits cleared, and the remainder.
const LN2: (f32, f32) = (0.693_145_75, 1.428_606_8e-6);
/// Bits of sqrt(1/2).
const HALF_ROOT: u32 = 0x3F35_04F3;

/// `f = ln(1 + f) + n ln 2` for small `f`; `ns` are integers.
fn sum(e: &mut dyn Emitter, fs: &[V], ns: &[V]) {
    let sums = polynomial(e, fs, &LOG1P);
    let (square, value, half) = (e.v(), e.v(), e.constant(0.5));
    let (high, low) = (e.constant(LN2.0), e.constant(LN2.1));
    for ((f, p), n) in fs.iter().zip(&sums).zip(ns) {
        e.op(VOp::Mul, Element::F32, square, *f, *f);
        // Small terms first: f^3 P, then n ln2's remainder, -f^2 / 2, f, n ln 2.
        e.op(VOp::Mul, Element::F32, value, *f, *p);
        e.op(VOp::Mul, Element::F32, value, value, square);
        e.fma(value, *n, low);
        e.fnma(value, square, half);
        e.op(VOp::Add, Element::F32, *f, *f, value);
        e.fma(*f, *n, high);
    }
    free(e, &[square, value, half, high, low]);
    free(e, &sums);
}

/// `ln(x)`: 1.5 ulp, subnormal numbers included. 0 gives -inf, negative numbers NaN, +inf itself.
pub(super) fn log(e: &mut dyn Emitter, xs: &[V]) {
    with_copies(e, xs, |e, fs| {
        let ns = fresh(e, xs.len());
        split(e, true, fs, &ns);
        sum(e, fs, &ns);
        free(e, &ns);
        let (zero, infinity, nan) = (e.constant(0.0), e.constant(f32::INFINITY), e.constant(f32::NAN));
        let lowest = e.constant(f32::NEG_INFINITY);
        for (x, f) in xs.iter().zip(fs) {
            e.select(Element::F32, *f, Cmp::Equal, [*x, zero], lowest, *f);
            e.select(Element::F32, *f, Cmp::Equal, [*x, infinity], *x, *f);
            e.select(Element::F32, *f, Cmp::Unordered, [*x, *x], *x, *f);
            e.select(Element::F32, *x, Cmp::Less, [*x, zero], nan, *f);
        }
        free(e, &[zero, infinity, nan, lowest]);
    });
}

/// Splits positive `x` into `2^n (1 + f)`: `f` takes the place of `x`. Subnormal numbers are lifted first, if there may be any.
fn split(e: &mut dyn Emitter, subnormal: bool, xs: &[V], ns: &[V]) {
    let (bias, root, fraction, one) = (
        e.constant(f32::from_bits(0x3F80_0000 - HALF_ROOT)),
        e.constant(f32::from_bits(HALF_ROOT)),
        e.constant(f32::from_bits(0x007F_FFFF)),
        e.constant(1.0),
    );
    let (tiny, lift, shift) = (e.constant(f32::MIN_POSITIVE), e.constant(8_388_608.0), e.constant(127.0 + 23.0));
    let (none, lifted, offset) = (e.constant(127.0), e.v(), e.constant(127.0));
    for (x, n) in xs.iter().zip(ns) {
        if subnormal {
            e.op(VOp::Mul, Element::F32, lifted, *x, lift);
            e.select(Element::F32, offset, Cmp::Less, [*x, tiny], shift, none);
            e.select(Element::F32, *x, Cmp::Less, [*x, tiny], lifted, *x);
        }
        e.op(VOp::Add, Element::I32, *x, *x, bias);
        e.shift_right(Element::I32, *n, *x, 23);
        e.int_to_float(*n, *n);
        e.op(VOp::Sub, Element::F32, *n, *n, offset);
        e.op(VOp::And, Element::I32, *x, *x, fraction);
        e.op(VOp::Add, Element::I32, *x, *x, root);
        e.op(VOp::Sub, Element::F32, *x, *x, one);
    }
    free(e, &[bias, root, fraction, one, tiny, lift, shift, none, lifted, offset]);
}

/// `ln(1 + exp(x))`, or `x` where that is larger: 2.5 ulp, monotone. -inf gives 0, +inf itself.
pub(super) fn softplus(e: &mut dyn Emitter, xs: &[V]) {
    /// From here on the result is `x`.
    const LIMIT: f32 = 30.0;
    with_copies(e, xs, |e, us| {
        exp_below(e, LIMIT, us);
        let (fs, ns) = (fresh(e, xs.len()), fresh(e, xs.len()));
        let (one, zero) = (e.constant(1.0), e.constant(0.0));
        fs.iter().zip(us).for_each(|(f, u)| e.op(VOp::Add, Element::F32, *f, *u, one));
        split(e, false, &fs, &ns);
        for ((f, n), u) in fs.iter().zip(&ns).zip(us) {
            // Where nothing is taken off the sum, its rounding would show.
            e.select(Element::F32, *u, Cmp::Equal, [*n, zero], *u, *f);
        }
        free(e, &[one, zero]);
        free(e, &fs);
        sum(e, us, &ns);
        free(e, &ns);
        for (x, value) in xs.iter().zip(us) {
            e.op(VOp::Max, Element::F32, *x, *value, *x);
        }
    });
}
