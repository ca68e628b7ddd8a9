//! Functions of `f32` lanes that are computed in `f64`: power, remainders, softsign, CELU; and what they share with sine and cosine.
//!
//! They multiply and add without FMA, so that every target computes the same bits; the result is rounded to `f32` once. An `f32` vector
//! becomes two of `f64`, its lower and its upper half, which are computed side by side.

use super::{free, fresh, mask, round, with_copies};
use crate::codegen::{Cmp, Count, Element, Emitter, V, VOp};

/// 1.5 * 2^52: adding it rounds to an integer, which then stands in the low bits of the sum.
pub(super) const ROUND: f64 = 6_755_399_441_055_744.0;
/// 2^52: from here on every `f64` is an integer.
const INTEGERS: f64 = 4_503_599_627_370_496.0;
/// The exponent field of 1.
const ONE: u64 = 1023 << 52;
/// Steps after which no remainder is left: the quotient of two `f32` is below 2^278, and each takes 24 bits off it.
const STEPS: u32 = 13;

/// A fresh register with `value` in every `f64` lane.
pub(super) fn constant(e: &mut dyn Emitter, value: f64) -> V {
    bits(e, value.to_bits())
}

/// A fresh register with these bits in every 64-bit lane.
pub(super) fn bits(e: &mut dyn Emitter, bits: u64) -> V {
    let v = e.v();
    e.splat_64(v, bits);
    v
}

/// `d = d op x`, for `f64` lanes.
pub(super) fn apply(e: &mut dyn Emitter, op: VOp, ds: &[V], xs: &[V]) {
    for (d, x) in ds.iter().zip(xs.iter().cycle()) {
        e.op(op, Element::F64, *d, *d, *x);
    }
}

/// The halves of each vector, lower ones first.
pub(super) fn promoted(e: &mut dyn Emitter, xs: &[V]) -> Vec<V> {
    let halves = fresh(e, 2 * xs.len());
    for (i, half) in halves.iter().enumerate() {
        e.promote(*half, xs[i / 2], i % 2 == 1);
    }
    halves
}

/// Rounds halves to `f32` vectors.
pub(super) fn demote(e: &mut dyn Emitter, xs: &[V], halves: Vec<V>) {
    for (x, pair) in xs.iter().zip(halves.chunks(2)) {
        e.demote(*x, pair[0], pair[1]);
    }
    free(e, &halves);
}

/// The polynomial with `coefficients`, highest power first, by Horner's rule, in fresh registers.
pub(super) fn polynomial(e: &mut dyn Emitter, xs: &[V], coefficients: &[f64]) -> Vec<V> {
    let sums = fresh(e, xs.len());
    for (k, coefficient) in coefficients.iter().enumerate() {
        let c = constant(e, *coefficient);
        if k == 0 {
            sums.iter().for_each(|sum| e.copy_v(*sum, c));
        } else {
            apply(e, VOp::Mul, &sums, xs);
            apply(e, VOp::Add, &sums, &[c]);
        }
        e.free_v(c);
    }
    sums
}

/// Copies in fresh registers.
fn copies(e: &mut dyn Emitter, xs: &[V]) -> Vec<V> {
    let ys = fresh(e, xs.len());
    ys.iter().zip(xs).for_each(|(y, x)| e.copy_v(*y, *x));
    ys
}

/// `log2(x)` of numbers that came from `f32`, `x >= 0`, to about 2^-48; -infinity for 0, infinity and NaN for themselves.
fn log2(e: &mut dyn Emitter, xs: &[V]) {
    // The exponent, plus 1023, such that the mantissa lies in [sqrt(1/2), sqrt(2)).
    let from_root = bits(e, ONE.wrapping_sub(std::f64::consts::FRAC_1_SQRT_2.to_bits()));
    let (one_bits, integer, bias) = (bits(e, ONE), constant(e, INTEGERS), constant(e, INTEGERS + 1023.0));
    let (exponents, mantissas, below) = (fresh(e, xs.len()), fresh(e, xs.len()), fresh(e, xs.len()));
    let one = constant(e, 1.0);
    for i in 0..xs.len() {
        let (exponent, mantissa) = (exponents[i], mantissas[i]);
        e.op(VOp::Add, Element::I64, exponent, xs[i], from_root);
        e.shift_right(Element::I64, exponent, exponent, 52);
        e.shift_left(Element::I64, mantissa, exponent, 52);
        e.op(VOp::Sub, Element::I64, mantissa, xs[i], mantissa);
        e.op(VOp::Add, Element::I64, mantissa, mantissa, one_bits);
        e.op(VOp::Or, Element::I64, exponent, exponent, integer);
        e.op(VOp::Sub, Element::F64, exponent, exponent, bias);
        e.op(VOp::Add, Element::F64, below[i], mantissa, one);
        e.op(VOp::Sub, Element::F64, mantissa, mantissa, one);
    }
    apply(e, VOp::Div, &mantissas, &below);
    let squares = copies(e, &mantissas);
    apply(e, VOp::Mul, &squares, &mantissas);
    let series: Vec<f64> = (0..11).rev().map(|k| 2.0 / f64::from(2 * k + 1) * std::f64::consts::LOG2_E).collect();
    let series = polynomial(e, &squares, &series);
    apply(e, VOp::Mul, &series, &mantissas);
    apply(e, VOp::Add, &exponents, &series);
    let (zero, infinity, nothing) = (constant(e, 0.0), constant(e, f64::INFINITY), constant(e, f64::NEG_INFINITY));
    for (x, value) in xs.iter().zip(&exponents) {
        e.select(Element::F64, *value, Cmp::Less, [*x, infinity], *value, *x);
        e.select(Element::F64, *x, Cmp::Equal, [*x, zero], nothing, *value);
    }
    free(e, &[from_root, one_bits, integer, bias, one, zero, infinity, nothing]);
    [exponents, mantissas, below, squares, series].iter().for_each(|vs| free(e, vs));
}

/// `2^t` of numbers in `[-1000, 1000]`, to about 2^-48; NaN for NaN.
fn exp2(e: &mut dyn Emitter, ts: &[V]) {
    let (magic, one) = (constant(e, ROUND), bits(e, ONE));
    let (scales, whole) = (fresh(e, ts.len()), e.v());
    for (t, scale) in ts.iter().zip(&scales) {
        e.op(VOp::Add, Element::F64, *scale, *t, magic);
        e.op(VOp::Sub, Element::F64, whole, *scale, magic);
        e.op(VOp::Sub, Element::F64, *t, *t, whole);
        e.shift_left(Element::I64, *scale, *scale, 52);
        e.op(VOp::Add, Element::I64, *scale, *scale, one);
    }
    let mut series = vec![1.0];
    for k in 1..14 {
        series.insert(0, series[0] * std::f64::consts::LN_2 / f64::from(k));
    }
    let values = polynomial(e, ts, &series);
    for ((t, value), scale) in ts.iter().zip(&values).zip(&scales) {
        e.op(VOp::Mul, Element::F64, *t, *value, *scale);
    }
    free(e, &[magic, one, whole]);
    free(e, &scales);
    free(e, &values);
}

/// `x = x` to the power `y`, within 1 ulp; special values as C's `pow`.
pub fn power(e: &mut dyn Emitter, xs: &[V], ys: &[V]) {
    with_copies(e, xs, |e, sizes| {
        mask(e, VOp::And, 0x7FFF_FFFF, sizes);
        let (ts, exponents) = (promoted(e, sizes), promoted(e, ys));
        log2(e, &ts);
        let (zero, least, most, t) = (constant(e, 0.0), constant(e, -200.0), constant(e, 200.0), e.v());
        for (log, y) in ts.iter().zip(&exponents) {
            // 1 to any power and any base to the power 0 are 1, also where the product is NaN.
            e.op(VOp::Mul, Element::F64, t, *y, *log);
            e.select(Element::F64, t, Cmp::Equal, [*log, zero], zero, t);
            e.select(Element::F64, t, Cmp::Equal, [*y, zero], zero, t);
            e.op(VOp::Max, Element::F64, t, least, t);
            e.op(VOp::Min, Element::F64, *log, most, t);
        }
        free(e, &[zero, least, most, t]);
        free(e, &exponents);
        exp2(e, &ts);
        demote(e, sizes, ts);
        special_powers(e, xs, ys, sizes);
    });
}

/// `x =` the power whose magnitude is known, for every sign and special value of base and exponent.
fn special_powers(e: &mut dyn Emitter, xs: &[V], ys: &[V], magnitudes: &[V]) {
    for ((x, y), power) in xs.iter().zip(ys).zip(magnitudes) {
        let (whole, half, floor, value) = (e.v(), e.v(), e.v(), e.v());
        let (zero, one, nan, lowest) =
            (e.constant(0.0), e.constant(1.0), e.constant(f32::NAN), e.constant(f32::NEG_INFINITY));
        let (by, sign) = (e.constant(0.5), e.constant(-0.0));
        e.copy_v(whole, *y);
        round::floor(e, &[whole]);
        e.op(VOp::Mul, Element::F32, half, *y, by);
        e.copy_v(floor, half);
        round::floor(e, &[floor]);
        // A negative base (or -0) to an odd whole power changes the sign, to a broken one it has no value.
        e.op(VOp::And, Element::F32, value, *x, sign);
        e.select(Element::F32, value, Cmp::Equal, [whole, *y], value, zero);
        e.select(Element::F32, value, Cmp::Equal, [floor, half], zero, value);
        e.op(VOp::Xor, Element::F32, value, value, *power);
        e.select(Element::F32, half, Cmp::Equal, [whole, *y], value, nan);
        e.select(Element::F32, half, Cmp::Less, [*x, zero], half, value);
        e.select(Element::F32, value, Cmp::Less, [lowest, *x], half, value);
        // A NaN exponent stays one unless the base is 1.
        e.select(Element::F32, half, Cmp::Equal, [*x, one], value, nan);
        e.select(Element::F32, *x, Cmp::Unordered, [*y, *y], half, value);
        free(e, &[whole, half, floor, value, zero, one, nan, lowest, by, sign]);
    }
}

/// `a =` the exact remainder of `a` by `b`, with the sign of `a`, or of `b` where `floored` (then rounded once).
/// NaN for an infinite `a`, a zero `b`, and NaN.
pub fn remainder(e: &mut dyn Emitter, xs: &[V], by: &[V], floored: bool) {
    let (values, divisors) = (promoted(e, xs), promoted(e, by));
    let (rests, sizes) = (copies(e, &values), copies(e, &divisors));
    let magnitude = bits(e, u64::MAX >> 1);
    for half in rests.iter().chain(&sizes) {
        e.op(VOp::And, Element::I64, *half, *half, magnitude);
    }
    let dividends = copies(e, &rests);
    positive_remainder(e, &rests, &sizes);
    let (sign, zero, infinity, nan, other) =
        (bits(e, 1 << 63), constant(e, 0.0), constant(e, f64::INFINITY), constant(e, f64::NAN), e.v());
    for i in 0..values.len() {
        let value = values[i];
        e.op(VOp::And, Element::I64, value, value, sign);
        e.op(VOp::Or, Element::I64, value, value, rests[i]);
        e.select(Element::F64, value, Cmp::Less, [dividends[i], infinity], value, nan);
        e.select(Element::F64, value, Cmp::Less, [zero, sizes[i]], value, nan);
        if floored {
            e.op(VOp::Add, Element::F64, rests[i], value, divisors[i]);
            e.op(VOp::Mul, Element::F64, other, value, divisors[i]);
            e.select(Element::F64, value, Cmp::Less, [other, zero], rests[i], value);
        }
    }
    free(e, &[magnitude, sign, zero, infinity, nan, other]);
    [divisors, rests, sizes, dividends].iter().for_each(|vs| free(e, vs));
    demote(e, xs, values);
}

/// `a` modulo `b` for `a, b >= 0`: subtracts multiples of `b` with quotients cut to 25 bits, so that every step is exact. Where `a` is
/// infinite or `b` is zero the result is unspecified.
fn positive_remainder(e: &mut dyn Emitter, rests: &[V], by: &[V]) {
    e.repeat(Count::Times(STEPS), &mut |e| {
        let (integers, one, high) = (constant(e, INTEGERS), constant(e, 1.0), bits(e, !((1 << 28) - 1)));
        let (quotient, whole, below) = (e.v(), e.v(), e.v());
        for (rest, by) in rests.iter().zip(by) {
            e.op(VOp::Div, Element::F64, quotient, *rest, *by);
            e.op(VOp::Add, Element::F64, whole, quotient, integers);
            e.op(VOp::Sub, Element::F64, whole, whole, integers);
            e.op(VOp::Sub, Element::F64, below, whole, one);
            e.select(Element::F64, whole, Cmp::Less, [quotient, whole], below, whole);
            e.select(Element::F64, whole, Cmp::Less, [quotient, integers], whole, quotient);
            e.op(VOp::And, Element::I64, whole, whole, high);
            e.op(VOp::Mul, Element::F64, whole, whole, *by);
            e.op(VOp::Sub, Element::F64, whole, *rest, whole);
            e.select(Element::F64, *rest, Cmp::LessOrEqual, [*by, *rest], whole, *rest);
        }
        free(e, &[integers, one, high, quotient, whole, below]);
    });
}

/// `x / (1 + |x|)`: rounded correctly but for two roundings in 2^29, odd, monotone; infinities give NaN, as the formula does.
pub(super) fn softsign(e: &mut dyn Emitter, xs: &[V]) {
    let halves = promoted(e, xs);
    let (one, magnitude, below) = (constant(e, 1.0), bits(e, u64::MAX >> 1), e.v());
    for half in &halves {
        e.op(VOp::And, Element::I64, below, *half, magnitude);
        e.op(VOp::Add, Element::F64, below, below, one);
        e.op(VOp::Div, Element::F64, *half, *half, below);
    }
    free(e, &[one, magnitude, below]);
    demote(e, xs, halves);
}

/// `max(0, x) + min(0, alpha (exp(x / alpha) - 1))` for any alpha, within 1 ulp; infinities, zeros and NaN of `x` and alpha as the formula.
pub(super) fn celu(e: &mut dyn Emitter, alpha: f32, xs: &[V]) {
    /// Up to here `y + y^2 / 2` is `exp(y) - 1` within 2^-26.
    const SMALL: f64 = 1.0 / 4096.0;
    let values = promoted(e, xs);
    let (over_alpha, log2e) = (constant(e, 1.0 / f64::from(alpha)), constant(e, std::f64::consts::LOG2_E));
    let ys = copies(e, &values);
    apply(e, VOp::Mul, &ys, &[over_alpha]);
    let powers = copies(e, &ys);
    apply(e, VOp::Mul, &powers, &[log2e]);
    let (least, most) = (constant(e, -1000.0), constant(e, 1000.0));
    for power in &powers {
        e.op(VOp::Max, Element::F64, *power, least, *power);
        e.op(VOp::Min, Element::F64, *power, most, *power);
    }
    free(e, &[over_alpha, log2e, least, most]);
    exp2(e, &powers);
    let (one, half, small, infinity) =
        (constant(e, 1.0), constant(e, 0.5), constant(e, SMALL), constant(e, f64::INFINITY));
    let (zero, alpha, magnitude, other) =
        (constant(e, 0.0), constant(e, f64::from(alpha)), bits(e, u64::MAX >> 1), e.v());
    for ((x, y), power) in values.iter().zip(&ys).zip(&powers) {
        e.op(VOp::Sub, Element::F64, *power, *power, one);
        e.select(Element::F64, *power, Cmp::Equal, [*y, infinity], *y, *power);
        e.op(VOp::Mul, Element::F64, other, *y, half);
        e.op(VOp::Mul, Element::F64, other, other, *y);
        e.op(VOp::Add, Element::F64, other, other, *y);
        e.op(VOp::And, Element::I64, *y, *y, magnitude);
        e.select(Element::F64, *power, Cmp::Less, [*y, small], other, *power);
        e.op(VOp::Mul, Element::F64, *power, *power, alpha);
        e.op(VOp::Min, Element::F64, *power, zero, *power);
        e.op(VOp::Max, Element::F64, *x, zero, *x);
        e.op(VOp::Add, Element::F64, *x, *x, *power);
    }
    free(e, &[one, half, small, infinity, zero, alpha, magnitude, other]);
    [ys, powers].iter().for_each(|vs| free(e, vs));
    demote(e, xs, values);
}
