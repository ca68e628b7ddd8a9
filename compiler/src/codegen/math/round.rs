//! Rounding to integers, and signs. All exact.

use super::{free, mask};
use crate::codegen::{Cmp, Element, Emitter, V, VOp};

/// 2^23: from here on every `f32` is an integer.
const INTEGERS: f32 = 8_388_608.0;

/// The nearest integer, ties to even; keeps the sign of zero, infinities and NaN.
pub(super) fn round(e: &mut dyn Emitter, xs: &[V]) {
    let (large, sign, rest) = (e.constant(INTEGERS), e.constant(-0.0), e.constant(f32::from_bits(0x7FFF_FFFF)));
    let (magnitude, rounded, sign_bit) = (e.v(), e.v(), e.v());
    for x in xs {
        e.op(VOp::And, Element::F32, magnitude, *x, rest);
        e.op(VOp::Add, Element::F32, rounded, magnitude, large);
        e.op(VOp::Sub, Element::F32, rounded, rounded, large);
        e.op(VOp::And, Element::F32, sign_bit, *x, sign);
        e.op(VOp::Or, Element::F32, rounded, rounded, sign_bit);
        e.select(Element::F32, *x, Cmp::Less, [magnitude, large], rounded, *x);
    }
    free(e, &[large, sign, rest, magnitude, rounded, sign_bit]);
}

/// The largest integer not above `x`; keeps the sign of zero, infinities and NaN.
pub(super) fn floor(e: &mut dyn Emitter, xs: &[V]) {
    super::with_copies(e, xs, |e, ys| {
        round(e, ys);
        let (one, less) = (e.constant(1.0), e.v());
        for (x, y) in xs.iter().zip(ys) {
            e.op(VOp::Sub, Element::F32, less, *y, one);
            e.select(Element::F32, *x, Cmp::Less, [*x, *y], less, *y);
        }
        free(e, &[one, less]);
    });
}

/// The smallest integer not below `x`; keeps the sign of zero, infinities and NaN.
pub(super) fn ceil(e: &mut dyn Emitter, xs: &[V]) {
    mask(e, VOp::Xor, 0x8000_0000, xs);
    floor(e, xs);
    mask(e, VOp::Xor, 0x8000_0000, xs);
}

/// -1 or 1 with the sign of `x`; zeros and NaN stay.
pub(super) fn sign(e: &mut dyn Emitter, xs: &[V]) {
    let (zero, above, below, value) = (e.constant(0.0), e.constant(1.0), e.constant(-1.0), e.v());
    for x in xs {
        e.select(Element::F32, value, Cmp::Less, [zero, *x], above, *x);
        e.select(Element::F32, *x, Cmp::Less, [*x, zero], below, value);
    }
    free(e, &[zero, above, below, value]);
}
