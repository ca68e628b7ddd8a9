//! Hyperbolic tangent and error function, and the GELU that is made of it.
//!
//! Near zero they are `x + x t(x^2)`, whose last rounding takes up the errors of the small second term. Beyond they are `1 - d`, where
//! every operation of `d` is monotone, so that `1 - d` is: it rises to 1, and never beyond. The sign of `x` is put on the result.

use super::exp::one_plus_exp;
use super::{constant_op, free, mask, pairs, polynomial, with_copies};
use crate::codegen::{Cmp, Element, Emitter, V, VOp};

/// tanh(x) = x + x s T(s) with s = x^2 for |x| <= 0.6, highest power first; relative error 8.4e-8.
const TANH: [f32; 4] = [0.015_613_2, -0.052_212_23, 0.133_131_27, -0.333_325_98];
/// Square from which on tanh is 1 - 2 / (1 + exp(2 |x|)).
const TANH_NEAR: f32 = 0.5625 * 0.5625;

/// erf(x) = x + x T(x^2) for |x| <= 0.94, highest power first; relative error 4e-8.
const ERF: [f32; 6] = [-0.000_612_754_84, 0.005_020_265_5, -0.026_785_644, 0.112_823_79, -0.376_125_57, 0.128_379_17];
/// erf(x) = 1 - P(|x|)^-16 for 0.7 <= |x|, highest power first; relative error 4e-8. Every coefficient is positive.
const ERF_FAR: [f32; 7] =
    [7.921_258e-5, 1.085_255e-5, 9.321_968_5e-4, 8.095_427e-3, 4.324_415_3e-2, 7.011_473e-2, 1.000_070_6];
/// Square from which on the error function is computed from [`ERF_FAR`].
const ERF_NEAR: f32 = 0.9375 * 0.9375;

/// erfc(|x| / sqrt 2) / 2 = P(|x|)^-16, highest power first; its product with x is right within 4.5e-8.
const HALF_ERFC: [f32; 8] = [
    9.847_248e-7,
    -3.601_703_6e-6,
    8.429_108e-5,
    -1.889_689_5e-5,
    3.475_867_2e-3,
    2.205_310_6e-2,
    5.207_984_5e-2,
    1.044_273_5,
];

/// `x = x + x t` where its square is below `limit`, else 1 less what `rests` hold, with the sign of `x`. `t` is computed from the squares.
fn joined(e: &mut dyn Emitter, limit: f32, rests: &[V], xs: &[V], t: impl FnOnce(&mut dyn Emitter, &[V]) -> Vec<V>) {
    let one = e.constant(1.0);
    rests.iter().for_each(|rest| e.op(VOp::Sub, Element::F32, *rest, one, *rest));
    e.free_v(one);
    with_copies(e, xs, |e, squares| {
        pairs(e, VOp::Mul, squares, xs);
        let ts = t(e, squares);
        let (limit, sign, near) = (e.constant(limit), e.constant(-0.0), e.v());
        for (i, x) in xs.iter().enumerate() {
            e.copy_v(near, *x);
            e.fma(near, *x, ts[i]);
            e.select(Element::F32, near, Cmp::Less, [squares[i], limit], near, rests[i]);
            e.op(VOp::And, Element::F32, *x, *x, sign);
            e.op(VOp::Or, Element::F32, *x, *x, near);
        }
        free(e, &[limit, sign, near]);
        free(e, &ts);
    });
}

/// `tanh(x)`: 2 ulp, odd, monotone; infinities give 1 and -1.
pub(super) fn tanh(e: &mut dyn Emitter, xs: &[V]) {
    with_copies(e, xs, |e, rests| {
        mask(e, VOp::Or, 0x8000_0000, rests);
        constant_op(e, VOp::Max, -44.4, rests);
        one_plus_exp(e, 2.0, rests);
        constant_op(e, VOp::Div, 2.0, rests);
        joined(e, TANH_NEAR, rests, xs, |e, squares| {
            let ts = polynomial(e, squares, &TANH);
            pairs(e, VOp::Mul, &ts, squares);
            ts
        });
    });
}

/// `x = P(x)^-16`: 0 at infinity.
fn inverse_power(e: &mut dyn Emitter, coefficients: &[f32], xs: &[V]) {
    let values = polynomial(e, xs, coefficients);
    for _ in 0..4 {
        pairs(e, VOp::Mul, &values, &values);
    }
    let one = e.constant(1.0);
    for (x, value) in xs.iter().zip(&values) {
        e.op(VOp::Div, Element::F32, *x, one, *value);
    }
    e.free_v(one);
    free(e, &values);
}

/// `erf(x)`: 3.5 ulp, odd, monotone; infinities give 1 and -1.
pub(super) fn erf(e: &mut dyn Emitter, xs: &[V]) {
    with_copies(e, xs, |e, rests| {
        mask(e, VOp::And, 0x7FFF_FFFF, rests);
        inverse_power(e, &ERF_FAR, rests);
        joined(e, ERF_NEAR, rests, xs, |e, squares| polynomial(e, squares, &ERF));
    });
}

/// `x (1 + erf(x / sqrt 2)) / 2`: 3 ulp of the larger of the result and 1, and of the right sign. -inf gives NaN, as the formula does,
/// +inf gives +inf.
pub(super) fn gelu(e: &mut dyn Emitter, xs: &[V]) {
    with_copies(e, xs, |e, shares| {
        mask(e, VOp::And, 0x7FFF_FFFF, shares);
        inverse_power(e, &HALF_ERFC, shares);
        let (one, zero, rest) = (e.constant(1.0), e.constant(0.0), e.v());
        for (x, share) in xs.iter().zip(shares) {
            e.op(VOp::Sub, Element::F32, rest, one, *share);
            e.select(Element::F32, *share, Cmp::Less, [*x, zero], *share, rest);
            e.op(VOp::Mul, Element::F32, *x, *x, *share);
        }
        free(e, &[one, zero, rest]);
    });
}
