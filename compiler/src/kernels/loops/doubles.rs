//! `f64` in lanes of 64 bits, beside values of 32 bits in the lower half of a vector: comparisons and conversions.
//!
//! Where an integer takes a general register, the element is in the first lane. All are exact or round once.

use crate::codegen::math::wide::Doubles;
use crate::codegen::{Cmp, Element, Emitter, R, V, VOp};

/// 2^52, whose last place is 1; 2^84, whose last place is 2^32.
const LOW: f64 = 4_503_599_627_370_496.0;
const HIGH: f64 = 19_342_813_113_834_066_795_298_816.0;

/// `f32` lanes of the lower half.
pub(super) fn from_floats(e: &mut dyn Emitter, x: V) -> V {
    let d = e.v();
    e.promote(d, x, false);
    d
}

/// Rounded to `f32`, in the lower half.
pub(super) fn to_floats(e: &mut dyn Emitter, x: V) -> V {
    let d = e.v();
    e.demote(d, x, x);
    d
}

/// Rounded to `f32` such that rounding the result to 16 bits is rounding `x`: an inexact one to the neighbour whose last bit is set.
pub(super) fn to_odd_floats(e: &mut dyn Emitter, x: V) -> V {
    let nearest = to_floats(e, x);
    let back = from_floats(e, nearest);
    let mut d = Doubles(e);
    let (size, found) = (d.abs(x), d.abs(back));
    let (zero, one, minus) = (d.number(0.0), d.number(1.0), d.number(-1.0));
    let moved = d.select([found, size], Cmp::Less, one, zero);
    let moved = d.select([size, found], Cmp::Less, minus, moved);
    let moved = to_small_ints(e, moved);
    let (odd, none) = (e.v(), e.constant(0.0));
    e.shift_left(Element::I32, odd, nearest, 31);
    e.select(Element::I32, moved, Cmp::Equal, [odd, none], moved, none);
    e.op(VOp::Add, Element::I32, moved, moved, nearest);
    moved
}

/// Integers of up to 24 bits to 32-bit lanes.
fn to_small_ints(e: &mut dyn Emitter, x: V) -> V {
    let d = to_floats(e, x);
    e.float_to_int(d, d);
    d
}

/// Lanes of `i32`: their upper and lower halves are each exact in `f32`.
pub(super) fn from_lanes(e: &mut dyn Emitter, x: V) -> V {
    let (sign, high, low) = (e.constant(f32::from_bits(1 << 31)), e.v(), e.v());
    e.op(VOp::Xor, Element::I32, high, x, sign);
    e.shift_right(Element::I32, high, high, 16);
    e.shift_left(Element::I32, low, x, 16);
    e.shift_right(Element::I32, low, low, 16);
    let [high, low] = [high, low].map(|half| {
        e.int_to_float(half, half);
        from_floats(e, half)
    });
    let mut d = Doubles(e);
    let high = d.with(VOp::Add, -32768.0, high);
    let high = d.with(VOp::Mul, 65536.0, high);
    d.add(high, low)
}

/// Truncated and saturated to an integer type of at most 32 bits, in 32-bit lanes of the lower half; 0 for a NaN.
pub(super) fn to_lanes(e: &mut dyn Emitter, (low, high): (i64, i64), x: V) -> V {
    let mut d = Doubles(e);
    let bounded = d.with(VOp::Max, low as f64, x);
    let bounded = d.with(VOp::Min, high as f64, bounded);
    let zero = d.number(0.0);
    let bounded = d.select([x, x], Cmp::Unordered, zero, bounded);
    let whole = d.truncate(bounded);
    let upper = d.with(VOp::Mul, 1.0 / 65536.0, whole);
    let upper = d.floor(upper);
    let shifted = d.with(VOp::Mul, 65536.0, upper);
    let lower = d.sub(whole, shifted);
    let [upper, lower] = [upper, lower].map(|half| to_small_ints(e, half));
    e.shift_left(Element::I32, upper, upper, 16);
    e.op(VOp::Or, Element::I32, upper, upper, lower);
    upper
}

/// Whether `a cmp b` holds, as `holds` or the other of 1 and 0: in 32-bit lanes of the lower half.
pub(super) fn truth(e: &mut dyn Emitter, cmp: Cmp, a: V, b: V, holds: u32) -> V {
    let mut d = Doubles(e);
    let (yes, no) = (d.number(holds.into()), d.number((1 - holds).into()));
    let chosen = d.select([a, b], cmp, yes, no);
    to_small_ints(e, chosen)
}

/// `yes` where the `f32` of the lower half is not 0, else `no`.
pub(super) fn choice(e: &mut dyn Emitter, condition: V, yes: V, no: V) -> V {
    let condition = from_floats(e, condition);
    let mut d = Doubles(e);
    let zero = d.number(0.0);
    d.select([condition, zero], Cmp::Equal, no, yes)
}

/// The larger or the smaller; a NaN wins, and 0 is above -0.
pub(super) fn extreme(e: &mut dyn Emitter, larger: bool, a: V, b: V) -> V {
    let function = if larger { VOp::Max } else { VOp::Min };
    let mut d = Doubles(e);
    let (one, other) = (d.op(function, a, b), d.op(function, b, a));
    if !larger {
        return d.op(VOp::Or, one, other);
    }
    let (both, sum) = (d.op(VOp::And, one, other), d.add(a, b));
    d.select([a, b], Cmp::Unordered, sum, both)
}

/// An integer, of the order of `u64` if it is `unsigned`: the sum of its halves, each exact, rounds it once.
pub(super) fn from_int(e: &mut dyn Emitter, x: R, unsigned: bool) -> V {
    let bits = e.v();
    e.splat_int(Element::I64, bits, x);
    let mut d = Doubles(e);
    // Of a signed one the upper half counts from -2^31.
    let sign = d.bits(if unsigned { 0 } else { 1 << 63 });
    let turned = d.int(VOp::Xor, bits, sign);
    let (high, low) = (d.right(turned, 32), d.mask(bits, u64::from(u32::MAX)));
    let (high_one, low_one) = (d.number(HIGH), d.number(LOW));
    let (high, low) = (d.int(VOp::Or, high, high_one), d.int(VOp::Or, low, low_one));
    let offset = d.number(HIGH + LOW + if unsigned { 0.0 } else { 2f64.powi(63) });
    let high = d.sub(high, offset);
    d.add(high, low)
}

/// Truncated and saturated to 64 bits, of `u64` if it is `unsigned`; 0 for a NaN.
pub(super) fn to_int(e: &mut dyn Emitter, x: V, unsigned: bool) -> R {
    let (least, most) = if unsigned { (0, u64::MAX) } else { (i64::MIN as u64, i64::MAX as u64) };
    let bottom = if unsigned { 0.0 } else { i64::MIN as f64 };
    let end = if unsigned { 2f64.powi(64) } else { 2f64.powi(63) };
    let mut d = Doubles(e);
    let (low, high, zero) = (d.number(bottom), d.number(end), d.number(0.0));
    let inside = d.select([x, high], Cmp::Less, x, zero);
    let inside = d.select([low, inside], Cmp::Less, inside, zero);
    let whole = d.truncate(inside);
    let upper = d.with(VOp::Mul, 2f64.powi(-32), whole);
    let upper = d.floor(upper);
    let shifted = d.with(VOp::Mul, 2f64.powi(32), upper);
    let lower = d.sub(whole, shifted);
    // The low bits of a sum with 2^52 and a half more are those of the integer.
    let [upper, lower] = [upper, lower].map(|half| d.with(VOp::Add, 1.5 * LOW, half));
    let upper = d.left(upper, 32);
    let lower = d.mask(lower, u64::from(u32::MAX));
    let bits = d.int(VOp::Or, upper, lower);
    let (least, most) = (d.bits(least), d.bits(most));
    let bits = d.select([high, x], Cmp::LessOrEqual, most, bits);
    let bits = d.select([x, low], Cmp::LessOrEqual, least, bits);
    let r = e.r();
    e.first_bits(Element::I64, r, bits);
    r
}
