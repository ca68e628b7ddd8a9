//! Remainders of `f64`, exact: multiples of the divisor by powers of two are taken off, from the largest on.

use super::Doubles;
use crate::codegen::{Cmp, Count, Element, Emitter, R, V, VOp};

/// Doublings that bring a subnormal number to the exponent that its field says, and one more.
const LIFT: i64 = 54;

/// `x =` the exact remainder of the first lane of each `x` by that of `by`, with the sign of `x`, or of `by` where `floored` (then rounded once).
/// NaN for an infinite `x`, a zero `by`, and NaN. The other lanes are unspecified.
pub fn remainder(e: &mut dyn Emitter, xs: &[V], by: &[V], floored: bool) {
    for (x, by) in xs.iter().zip(by) {
        let (size, divisor) = (Doubles(e).abs(*x), Doubles(e).abs(*by));
        let rest = positive_remainder(e, size, divisor);
        let mut e = Doubles(e);
        let (zero, infinity, nan) = (e.number(0.0), e.number(f64::INFINITY), e.number(f64::NAN));
        let mut value = e.signed(rest, *x);
        value = e.select([size, infinity], Cmp::Less, value, nan);
        value = e.select([zero, divisor], Cmp::Less, value, nan);
        if floored {
            let (moved, one, minus) = (e.add(value, *by), e.number(1.0), e.number(-1.0));
            // A product of their signs: that of tiny numbers would be zero.
            let [own, other] = [value, *by].map(|v| {
                let above = e.select([zero, v], Cmp::Less, one, zero);
                e.select([v, zero], Cmp::Less, minus, above)
            });
            let signs = e.mul(own, other);
            value = e.select([signs, zero], Cmp::Less, moved, value);
        }
        e.0.copy_v(*x, value);
    }
}

/// `a` modulo `b` of first lanes that are not negative; unspecified where `a` is infinite or `b` is zero.
fn positive_remainder(e: &mut dyn Emitter, a: V, b: V) -> V {
    let (field_a, field_b) = (exponent(e, a), exponent(e, b));
    let (steps, zero) = (e.r(), e.integer(0));
    e.sub(steps, field_a, field_b);
    e.max(steps, steps, zero);
    e.add_imm(steps, steps, LIFT);
    let (rest, multiple) = (e.v(), e.v());
    e.copy_v(rest, a);
    e.copy_v(multiple, b);
    e.repeat(Count::Register(steps), &mut |e| {
        let twice = Doubles(e).add(multiple, multiple);
        e.select(Element::F64, multiple, Cmp::LessOrEqual, [twice, rest], twice, multiple);
    });
    e.repeat(Count::Register(steps), &mut |e| {
        let (less, half) = (Doubles(e).sub(rest, multiple), Doubles(e).with(VOp::Mul, 0.5, multiple));
        e.select(Element::F64, rest, Cmp::LessOrEqual, [multiple, rest], less, rest);
        e.select(Element::F64, multiple, Cmp::Less, [b, multiple], half, multiple);
    });
    rest
}

/// The exponent field of a first lane that is not negative.
fn exponent(e: &mut dyn Emitter, v: V) -> R {
    let r = e.r();
    e.first_bits(Element::F64, r, v);
    e.div_imm(r, r, 1 << 31);
    e.div_imm(r, r, 1 << 21);
    r
}
