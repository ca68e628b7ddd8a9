//! The exponential, and what is built from it: sigmoid, SiLU, ELU, Mish.
//!
//! `n = rint(x / ln 2)` comes from adding 1.5 * 2^23 and about the bias of an exponent, so that the sum's low bits, moved up by 23, are a
//! power of two, 0 at the lower end. The rest is a polynomial on half a unit around 0, which the power multiplies: a NaN stays one whatever
//! its bits, and too large a product is infinity. What is added is even, so that ties of products that were rounded go to even n. Where
//! gradual underflow and the largest numbers count too, 2^n multiplies in two halves.

use super::{clip, constant_op, free, fresh, pairs, polynomial, with_copies};
use crate::codegen::{Cmp, Element, Emitter, V, VOp};

/// 1.5 * 2^23: adding it rounds to an integer, which then stands in the low bits of the sum.
pub(super) const ROUND: f32 = 12_582_912.0;
/// ln 2 with its last bits cleared, and the remainder.
const LN2: (f32, f32) = (0.693_145_75, 1.428_606_8e-6);

/// 2^r for |r| <= 1/2, highest power first; relative error 1.6e-7.
const EXP2: [f32; 6] = [0.001_327_647_3, 0.009_675_541, 0.055_507_13, 0.240_221_2, 0.693_146_94, 1.000_000_1];
/// (e^r - 1 - r) / r^2 for |r| <= ln 2 / 2, highest power first.
const EXPM1: [f32; 5] = [0.001_394_645, 0.008_366_584, 0.041_666_28, 0.166_665_44, 0.5];
/// (e^-r - 1 + r) / r^2 for |r| <= ln 2 / 2, highest power first; relative error of e^-r 1.1e-7.
const EXPM1_FALLING: [f32; 4] = [-0.008_312_69, 0.041_890_19, -0.166_671_13, 0.499_992_3];

/// What holds the argument of an exponential that is one product: its values there are 0 (n = -126) and infinity (n = 128).
const RANGE: (f32, f32) = (-87.3, 89.0);
/// Bound of an argument whose 2^n is a normal number.
const BOUND: f32 = 87.0;

/// `x = 2^(x by)` for `-126.5 < x by < 129.5`: 0 up to -125.5, infinity from 128 on. `low` is what `by` lacks, if that shows.
fn exp2_bounded(e: &mut dyn Emitter, by: f32, low: Option<f32>, xs: &[V]) {
    // The power is 2^(n - 1), and the polynomial is doubled.
    let (round, by, low) = (e.constant(ROUND + 126.0), e.constant(by), low.map(|low| e.constant(low)));
    let (ns, rs) = (fresh(e, xs.len()), fresh(e, xs.len()));
    for ((x, n), r) in xs.iter().zip(&ns).zip(&rs) {
        e.copy_v(*n, round);
        e.fma(*n, *x, by);
        e.op(VOp::Sub, Element::F32, *r, round, *n);
        e.fma(*r, *x, by);
        if let Some(low) = low {
            e.fma(*r, *x, low);
        }
        e.shift_left(Element::I32, *n, *n, 23);
    }
    free(e, &[round, by]);
    low.into_iter().for_each(|low| e.free_v(low));
    let sums = polynomial(e, &rs, &EXP2.map(|c| 2.0 * c));
    for ((x, sum), n) in xs.iter().zip(&sums).zip(&ns) {
        e.op(VOp::Mul, Element::F32, *x, *sum, *n);
    }
    free(e, &ns);
    free(e, &rs);
    free(e, &sums);
}

/// Leaves `1 + exp(-alpha x)` in `ys`, which hold `x`: 1 and infinity at its ends.
fn denominator(e: &mut dyn Emitter, alpha: f32, ys: &[V]) {
    let (least, most) = (RANGE.0 / -alpha, RANGE.1 / -alpha);
    clip(e, least.min(most), least.max(most), ys);
    let by = -alpha * std::f32::consts::LOG2_E;
    let low = (f64::from(-alpha) * std::f64::consts::LOG2_E - f64::from(by)) as f32;
    exp2_bounded(e, by, rounding_shows(alpha, low / by).then_some(low), ys);
    constant_op(e, VOp::Add, 1.0, ys);
}

/// Whether the rounding of `alpha log2 e`, relative to it, shows in `x sigmoid(alpha x)` where that is above the floor of its error: an
/// argument of `-t` makes `t` times that of it, and above the floor `t` is about `ln(10 / alpha)`.
fn rounding_shows(alpha: f32, relative: f32) -> bool {
    let t = libm::logf(10.0 / alpha.abs()).max(1.0);
    (t + libm::logf(t) + 0.5) * relative.abs() > 0.6 * f32::EPSILON
}

/// `1 / (1 + exp(-x))`: 2 ulp of the larger of the result and 0.01, monotone. -inf gives 0, +inf gives 1.
pub(super) fn sigmoid(e: &mut dyn Emitter, xs: &[V]) {
    clip(e, -RANGE.1, -RANGE.0, xs);
    one_plus_exp(e, 1.0, xs);
    constant_op(e, VOp::Div, 1.0, xs);
}

/// `x / (1 + exp(-x))`: 2.5 ulp of the larger of the result and 0.1. -inf gives NaN, as the formula does, +inf gives +inf.
pub(super) fn silu(e: &mut dyn Emitter, xs: &[V]) {
    swish(e, 1.0, xs);
}

/// 2^r for |r| <= 1/2, highest power first; relative error 7.5e-5.
const SHORT_EXP2: [f32; 4] = [0.055_171_665, 0.242_611_14, 0.693_260_97, 0.999_928_06];
/// What the bits of a positive number are taken off for those of about its reciprocal, to 5.3 %.
const RECIPROCAL: u32 = 0x7EF2_B000;
/// Bound of an argument whose exponential and its reciprocal are normal numbers.
const SHORT_BOUND: f32 = 86.0;

/// `x / (1 + exp(-x))` for results that are stored as `bf16`, of multiply-adds and integers alone: relative error 2^-12.3, and
/// below -86, -inf included, a number of about -1e-36. +inf gives +inf.
///
/// The reciprocal `q` of the denominator is refined once: with `r = 1 - d q` it is `q (1 + r + r^2)`, to `r^3`.
pub(super) fn short_silu(e: &mut dyn Emitter, xs: &[V]) {
    constant_op(e, VOp::Max, -SHORT_BOUND, xs);
    with_copies(e, xs, |e, ys| {
        constant_op(e, VOp::Min, SHORT_BOUND, ys);
        let (round, by, ns) = (e.constant(ROUND), e.constant(-std::f32::consts::LOG2_E), fresh(e, ys.len()));
        for (y, n) in ys.iter().zip(&ns) {
            let r = e.v();
            e.copy_v(*n, round);
            e.fma(*n, *y, by);
            e.op(VOp::Sub, Element::F32, r, round, *n);
            e.fma(r, *y, by);
            e.copy_v(*y, r);
            e.free_v(r);
            e.shift_left(Element::I32, *n, *n, 23);
        }
        free(e, &[round, by]);
        let powers = polynomial(e, ys, &SHORT_EXP2);
        let (one, seed) = (e.constant(1.0), e.constant(f32::from_bits(RECIPROCAL)));
        for ((x, power), n) in xs.iter().zip(&powers).zip(&ns) {
            let (q, r, s) = (*n, e.v(), e.v());
            e.op(VOp::Add, Element::I32, *power, *power, *n);
            e.op(VOp::Add, Element::F32, *power, *power, one);
            e.op(VOp::Sub, Element::I32, q, seed, *power);
            e.copy_v(r, one);
            e.fnma(r, *power, q);
            e.copy_v(s, r);
            e.fma(s, r, r);
            e.op(VOp::Mul, Element::F32, q, *x, q);
            e.copy_v(*x, q);
            e.fma(*x, q, s);
            free(e, &[r, s]);
        }
        free(e, &[one, seed]);
        free(e, &powers);
        free(e, &ns);
    });
}

/// `x / (1 + exp(-alpha x))`, as [`silu`] for any alpha.
pub(super) fn swish(e: &mut dyn Emitter, alpha: f32, xs: &[V]) {
    /// Factors between its inverse and itself have logarithms and bounds that are numbers.
    const USUAL: f32 = (1u64 << 60) as f32;
    with_copies(e, xs, |e, ys| {
        let (factor, alpha) = match alpha.abs() {
            size if size < 1.0 / USUAL => (1.0 / USUAL, alpha * USUAL),
            size if size <= USUAL => (1.0, alpha),
            _ => (alpha, 1.0),
        };
        if factor != 1.0 {
            constant_op(e, VOp::Mul, factor, ys);
        }
        denominator(e, alpha, ys);
        pairs(e, VOp::Div, xs, ys);
    });
}

/// `x / (1 + exp(-2u))` with `u = sqrt(2 / pi) (x + 0.044715 x^3)`: 4 ulp of the larger of the result and 1. -inf gives NaN, as the
/// formula does, +inf gives +inf.
pub(super) fn gelu_tanh(e: &mut dyn Emitter, xs: &[V]) {
    /// Here `exp(-2u)` is infinity, and 0 beside 1.
    const ENDS: (f32, f32) = (-10.07, 10.0);
    with_copies(e, xs, |e, ys| {
        clip(e, ENDS.0, ENDS.1, ys);
        let (square, scale, cubic) = (e.v(), e.constant(0.797_884_6), e.constant(0.797_884_6 * 0.044_715));
        for y in ys {
            e.op(VOp::Mul, Element::F32, square, *y, *y);
            let factor = e.v();
            e.copy_v(factor, scale);
            e.fma(factor, square, cubic);
            e.op(VOp::Mul, Element::F32, *y, *y, factor);
            e.free_v(factor);
        }
        free(e, &[square, scale, cubic]);
        exp2_bounded(e, -2.0 * std::f32::consts::LOG2_E, None, ys);
        constant_op(e, VOp::Add, 1.0, ys);
        pairs(e, VOp::Div, xs, ys);
    });
}

/// `x tanh(ln(1 + exp x)) = x w / (w + 2)` with `w = e^x (e^x + 2)`: 4 ulp of the larger of the result and 0.1. -inf gives NaN, as the
/// formula does, +inf gives +inf.
pub(super) fn mish(e: &mut dyn Emitter, xs: &[V]) {
    with_copies(e, xs, |e, ys| {
        // Above 20 the quotient rounds to 1.
        clip(e, RANGE.0, 20.0, ys);
        exp2_bounded(e, std::f32::consts::LOG2_E, None, ys);
        let (two, w) = (e.constant(2.0), e.v());
        for (x, y) in xs.iter().zip(ys) {
            e.op(VOp::Add, Element::F32, w, *y, two);
            e.op(VOp::Mul, Element::F32, *y, *y, w);
            e.op(VOp::Add, Element::F32, w, *y, two);
            e.op(VOp::Div, Element::F32, *y, *y, w);
            e.op(VOp::Mul, Element::F32, *x, *x, *y);
        }
        free(e, &[two, w]);
    });
}

/// `e^r - 1 = r + r^2 P(r)` and the rounded quotient `n` with `bias` in the low bits, for `x` within the range of `f32` exponents.
fn reduced(e: &mut dyn Emitter, bias: f32, xs: &[V]) -> (Vec<V>, Vec<V>) {
    let (round, by, high, low, n) =
        (e.constant(ROUND + bias), e.constant(std::f32::consts::LOG2_E), e.constant(LN2.0), e.constant(LN2.1), e.v());
    let ns = fresh(e, xs.len());
    for (x, sum) in xs.iter().zip(&ns) {
        e.copy_v(*sum, round);
        e.fma(*sum, *x, by);
        e.op(VOp::Sub, Element::F32, n, *sum, round);
        e.fnma(*x, n, high);
        e.fnma(*x, n, low);
    }
    free(e, &[round, by, high, low, n]);
    let sums = polynomial(e, xs, &EXPM1);
    let (square, value) = (e.v(), e.v());
    for (x, sum) in xs.iter().zip(&sums) {
        e.op(VOp::Mul, Element::F32, square, *x, *x);
        e.copy_v(value, *x);
        e.fma(value, square, *sum);
        e.copy_v(*sum, value);
    }
    free(e, &[square, value]);
    (sums, ns)
}

/// `exp(x)`: 1 ulp, gradual underflow included. -inf gives 0, values above 88.72 give +inf.
pub fn exp(e: &mut dyn Emitter, xs: &[V]) {
    clip(e, -104.0, 89.0, xs);
    let (sums, ns) = reduced(e, 0.0, xs);
    let (bias, unit, half, scale) =
        (e.constant(f32::from_bits(256u32.wrapping_sub(ROUND.to_bits()))), e.constant(f32::from_bits(1)), e.v(), e.v());
    let (first, one) = (e.constant(f32::from_bits(u32::MAX)), e.constant(1.0));
    for ((x, sum), n) in xs.iter().zip(&sums).zip(&ns) {
        // n + 256 is positive, so that a logical shift halves it.
        e.op(VOp::Add, Element::I32, *n, *n, bias);
        e.shift_right(Element::I32, half, *n, 1);
        e.op(VOp::Sub, Element::I32, *n, *n, half);
        e.op(VOp::Add, Element::F32, *sum, *sum, one);
        for part in [half, *n] {
            e.op(VOp::Add, Element::I32, scale, part, first);
            e.shift_left(Element::I32, scale, scale, 23);
            e.op(VOp::Mul, Element::F32, *sum, *sum, scale);
        }
        e.copy_v(*x, *sum);
    }
    free(e, &[bias, unit, half, scale, first, one]);
    free(e, &sums);
    free(e, &ns);
}

/// `exp(x)` for `x <= limit`, and of `limit` above, which is 40 at most; else as [`exp`], with fewer instructions.
pub(super) fn exp_below(e: &mut dyn Emitter, limit: f32, xs: &[V]) {
    /// Lifts the power of the smallest results into the normal numbers.
    const LIFT: i32 = 64;
    clip(e, -104.0, limit, xs);
    let (sums, ns) = reduced(e, (127 + LIFT) as f32, xs);
    let (one, unlift) = (e.constant(1.0), e.constant(2f32.powi(-LIFT)));
    for ((x, sum), n) in xs.iter().zip(&sums).zip(&ns) {
        e.shift_left(Element::I32, *n, *n, 23);
        e.op(VOp::Add, Element::F32, *sum, *sum, one);
        e.op(VOp::Mul, Element::F32, *sum, *sum, *n);
        e.op(VOp::Mul, Element::F32, *x, *sum, unlift);
    }
    free(e, &[one, unlift]);
    free(e, &sums);
    free(e, &ns);
}

/// `x = 1 + exp(-times x)` for `-89 <= times x <= 88.3`, to 1.5 ulp: falls wherever `x` rises, from infinity to 1. `times` is 1 or 2.
///
/// `n ln 2` is subtracted in one part: its rest would show in the exponential only where 1 does not.
pub(super) fn one_plus_exp(e: &mut dyn Emitter, times: f32, xs: &[V]) {
    let by = -times * std::f32::consts::LOG2_E;
    let (round, by, ln2, n) =
        (e.constant(ROUND + 127.0), e.constant(by), e.constant(std::f32::consts::LN_2 / times), e.v());
    let powers = fresh(e, xs.len());
    for (x, power) in xs.iter().zip(&powers) {
        e.copy_v(*power, round);
        e.fma(*power, *x, by);
        e.op(VOp::Sub, Element::F32, n, *power, round);
        e.fma(*x, n, ln2);
        e.shift_left(Element::I32, *power, *power, 23);
    }
    free(e, &[round, by, ln2, n]);
    let scaled = [3, 2, 1, 0].map(|k| EXPM1_FALLING[3 - k] * times.powi(k as i32 + 1));
    let sums = polynomial(e, xs, &scaled);
    let (one, times, value) = (e.constant(1.0), e.constant(times), e.v());
    for ((x, sum), power) in xs.iter().zip(&sums).zip(&powers) {
        // exp(-r) = 1 - times (r / times - (r / times)^2 P)
        e.op(VOp::Mul, Element::F32, value, *x, *x);
        e.fnma(*x, value, *sum);
        e.copy_v(value, one);
        e.fnma(value, *x, times);
        e.copy_v(*x, one);
        e.fma(*x, value, *power);
    }
    free(e, &[one, times, value]);
    free(e, &sums);
    free(e, &powers);
}

/// `gamma (x > 0 ? x : alpha (exp(x / beta) - 1))`: 3 ulp. -inf gives `-alpha gamma`.
pub(super) fn elu(e: &mut dyn Emitter, alpha: f32, beta: f32, gamma: f32, xs: &[V]) {
    with_copies(e, xs, |e, ys| {
        let (beta, outer) = (e.constant(beta), e.constant(gamma));
        for y in ys {
            e.op(VOp::Div, Element::F32, *y, *y, beta);
        }
        // The exponential counts only where its argument is negative.
        clip(e, -BOUND, 0.0, ys);
        let (sums, ns) = reduced(e, 128.0, ys);
        let (two, zero, inner, scale, value) =
            (e.constant(2.0), e.constant(0.0), e.constant(0.5 * alpha * gamma), e.v(), e.v());
        for ((x, sum), n) in xs.iter().zip(&sums).zip(&ns) {
            // Twice 2^n (e^r - 1) + (2^n - 1): exact in its second term, so small arguments keep all their digits.
            e.shift_left(Element::I32, scale, *n, 23);
            e.op(VOp::Sub, Element::F32, value, scale, two);
            e.fma(value, *sum, scale);
            e.op(VOp::Mul, Element::F32, value, value, inner);
            e.op(VOp::Mul, Element::F32, scale, *x, outer);
            e.select(Element::F32, *x, Cmp::Less, [*x, zero], value, scale);
        }
        free(e, &[beta, outer, two, zero, inner, scale, value]);
        free(e, &sums);
        free(e, &ns);
    });
}
