//! Values of a nest's programs, and the instructions on them.
//!
//! A value is `f32` lanes, `f64` lanes ([`super::doubles`]), or integers: 64 bits in general registers for every type, sign- or zero-extended when
//! loaded, cut when stored, wrapped in between where a program says so; or 32-bit lanes where [`super::nest::LoopNest::vectorises`] allows.
//! `u64` has functions of its own ([`super::unsigned`]). The same function on lanes and on elements gives the same bits. Integer division by zero
//! gives 0 and never traps.

use super::registers::{choose, int_op};
use super::{doubles, unsigned};
use crate::codegen::{Cmp, Count, Element, Emitter, IntOp, R, V, VOp, math};
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::DType;

/// A value at the points that are computed together: one register for each, or a single one if all are equal. Registers are never
/// written again, so that values may share them.
#[derive(Clone, Debug)]
pub enum PointValue {
    /// `f32`: lanes of vectors, or their first lanes.
    Float(Vec<V>),
    /// `f64`: lanes of vectors, or their first lanes.
    Double(Vec<V>),
    /// Integers in 32-bit lanes.
    Lanes(Vec<V>),
    /// Integers, one per point.
    Int(Vec<R>),
    /// `u64`, one per point.
    Unsigned(Vec<R>),
}
use PointValue::{Double, Float, Int, Lanes, Unsigned};

impl PointValue {
    /// Its number of registers.
    fn len(&self) -> usize {
        match self {
            Float(v) | Double(v) | Lanes(v) => v.len(),
            Int(r) | Unsigned(r) => r.len(),
        }
    }

    /// The vector of a point, of a value in vectors.
    pub fn vector(&self, point: usize) -> V {
        match self {
            Float(v) | Double(v) | Lanes(v) => v[point % v.len()],
            Int(_) | Unsigned(_) => unreachable!("an integer where a vector is computed"),
        }
    }

    /// The integer of a point.
    pub fn int(&self, point: usize) -> R {
        match self {
            Int(r) | Unsigned(r) => r[point % r.len()],
            Float(_) | Double(_) | Lanes(_) => unreachable!("a vector where an integer is computed"),
        }
    }

    /// The same value in `points` fresh registers.
    pub fn spread(&self, e: &mut dyn Emitter, points: usize) -> Self {
        match self {
            Float(_) => Float((0..points).map(|i| copy(e, self.vector(i))).collect()),
            Double(_) => Double((0..points).map(|i| copy(e, self.vector(i))).collect()),
            Lanes(_) => Lanes((0..points).map(|i| copy(e, self.vector(i))).collect()),
            Unsigned(_) => Unsigned((0..points).map(|i| copy_int(e, self.int(i))).collect()),
            Int(_) => Int((0..points).map(|i| copy_int(e, self.int(i))).collect()),
        }
    }

    /// Assigns the registers of this value.
    pub fn assign(&self, e: &mut dyn Emitter, from: &Self) {
        match self {
            Float(to) | Double(to) | Lanes(to) => {
                to.iter().enumerate().for_each(|(i, to)| e.copy_v(*to, from.vector(i)))
            }
            Int(to) | Unsigned(to) => to.iter().enumerate().for_each(|(i, to)| e.copy(*to, from.int(i))),
        }
    }
}

fn copy(e: &mut dyn Emitter, from: V) -> V {
    let to = e.v();
    e.copy_v(to, from);
    to
}

fn copy_int(e: &mut dyn Emitter, from: R) -> R {
    let to = e.r();
    e.copy(to, from);
    to
}

/// A fresh register with these bits in every 32-bit lane.
fn bits(e: &mut dyn Emitter, bits: u32) -> V {
    e.constant(f32::from_bits(bits))
}

/// A value computed point by point from others.
fn vectors(e: &mut dyn Emitter, of: &[&PointValue], mut f: impl FnMut(&mut dyn Emitter, usize) -> V) -> Vec<V> {
    let points = of.iter().map(|x| x.len()).max().unwrap_or(1);
    (0..points).map(|i| f(e, i)).collect()
}

fn ints(e: &mut dyn Emitter, of: &[&PointValue], mut f: impl FnMut(&mut dyn Emitter, usize) -> R) -> Vec<R> {
    let points = of.iter().map(|x| x.len()).max().unwrap_or(1);
    (0..points).map(|i| f(e, i)).collect()
}

/// `a op b` in a fresh register.
fn op(e: &mut dyn Emitter, op: VOp, element: Element, a: V, b: V) -> V {
    let d = e.v();
    e.op(op, element, d, a, b);
    d
}

fn select(e: &mut dyn Emitter, element: Element, [a, b]: [V; 2], cmp: Cmp, yes: V, no: V) -> V {
    let d = e.v();
    e.select(element, d, cmp, [a, b], yes, no);
    d
}

/// Whether `a cmp b` holds for `f32` lanes: 1 or 0 in 32-bit lanes.
pub(super) fn truth(e: &mut dyn Emitter, cmp: Cmp, a: V, b: V, holds: u32) -> V {
    let (yes, no) = (bits(e, holds), bits(e, 1 - holds));
    select(e, Element::F32, [a, b], cmp, yes, no)
}

/// The integer in the first lane, 0 or more.
pub(super) fn first(e: &mut dyn Emitter, v: V) -> R {
    let r = e.r();
    e.first_bits(Element::I32, r, v);
    r
}

/// The truth of a comparison of `f32` or `f64`: lanes of a vector as lanes, an element as an integer.
fn test(e: &mut dyn Emitter, [a, b]: [&PointValue; 2], cmp: Cmp, holds: u32, wide: bool) -> PointValue {
    let truth = if let Double(_) = a { doubles::truth } else { truth };
    let lanes = vectors(e, &[a, b], |e, i| truth(e, cmp, a.vector(i), b.vector(i), holds));
    if wide { Lanes(lanes) } else { Int(lanes.into_iter().map(|v| first(e, v)).collect()) }
}

/// A function of one value; `wide`: in whole vectors.
pub(super) fn unary(e: &mut dyn Emitter, f: UnaryFn, x: &PointValue, wide: bool) -> PointValue {
    match x {
        Float(_) | Double(_) if f == UnaryFn::IsNan => test(e, [x, x], Cmp::Unordered, 1, wide),
        Float(_) => {
            let values = vectors(e, &[x], |e, i| copy(e, x.vector(i)));
            math::unary(e, f, &values);
            Float(values)
        }
        Double(_) => {
            let values = vectors(e, &[x], |e, i| copy(e, x.vector(i)));
            math::wide::unary(e, f, &values);
            Double(values)
        }
        Lanes(_) => Lanes(vectors(e, &[x], |e, i| unary_lanes(e, f, x.vector(i)))),
        Unsigned(_) => Unsigned(ints(e, &[x], |e, i| unsigned::unary(e, f, x.int(i)))),
        Int(_) => Int(ints(e, &[x], |e, i| unary_int(e, f, x.int(i)))),
    }
}

fn unary_lanes(e: &mut dyn Emitter, f: UnaryFn, x: V) -> V {
    let zero = bits(e, 0);
    let within = |e: &mut dyn Emitter, low: i32, high: i32| {
        let (low, high) = (bits(e, low as u32), bits(e, high as u32));
        let above = op(e, VOp::Max, Element::I32, x, low);
        op(e, VOp::Min, Element::I32, above, high)
    };
    match f {
        UnaryFn::Relu => op(e, VOp::Max, Element::I32, x, zero),
        UnaryFn::Clip(low, high) => within(e, low as i32, high as i32),
        UnaryFn::Sign => within(e, -1, 1),
        UnaryFn::Neg => op(e, VOp::Sub, Element::I32, zero, x),
        UnaryFn::Abs => {
            let negated = op(e, VOp::Sub, Element::I32, zero, x);
            op(e, VOp::Max, Element::I32, x, negated)
        }
        _ => {
            let one = bits(e, 1);
            select(e, Element::I32, [x, zero], Cmp::Equal, one, zero)
        }
    }
}

fn unary_int(e: &mut dyn Emitter, f: UnaryFn, x: R) -> R {
    let (zero, d) = (e.integer(0), e.r());
    match f {
        UnaryFn::Relu => e.max(d, x, zero),
        UnaryFn::Clip(low, high) => {
            let (low, high) = (e.integer(low as i64), e.integer(high as i64));
            e.max(d, x, low);
            e.min(d, d, high);
        }
        UnaryFn::Abs => {
            e.sub(d, zero, x);
            e.choose(d, Cmp::Less, x, zero, d, x);
        }
        UnaryFn::Neg => e.sub(d, zero, x),
        UnaryFn::Sign => {
            let (one, minus) = (e.integer(1), e.integer(-1));
            e.min(d, x, one);
            e.max(d, d, minus);
        }
        UnaryFn::Not => {
            let one = e.integer(1);
            e.choose(d, Cmp::Equal, x, zero, one, zero);
        }
        _ => e.copy(d, x),
    }
    d
}

/// The comparison, its operands in order or changed, after a function.
fn comparison(f: BinaryFn) -> Option<(Cmp, bool)> {
    Some(match f {
        BinaryFn::Equal => (Cmp::Equal, false),
        BinaryFn::Less => (Cmp::Less, false),
        BinaryFn::LessOrEqual => (Cmp::LessOrEqual, false),
        BinaryFn::Greater => (Cmp::Less, true),
        BinaryFn::GreaterOrEqual => (Cmp::LessOrEqual, true),
        _ => return None,
    })
}

/// A function of two values of one kind; `wide`: in whole vectors.
pub(super) fn binary(e: &mut dyn Emitter, f: BinaryFn, a: &PointValue, b: &PointValue, wide: bool) -> PointValue {
    if let (Int(_), Int(_)) = (a, b) {
        return Int(ints(e, &[a, b], |e, i| binary_int(e, f, a.int(i), b.int(i))));
    }
    if let Unsigned(_) = a {
        return binary_unsigned(e, f, a, b);
    }
    if let Lanes(_) = a {
        return Lanes(vectors(e, &[a, b], |e, i| binary_lanes(e, f, a.vector(i), b.vector(i))));
    }
    if let Some((cmp, changed)) = comparison(f) {
        return test(e, if changed { [b, a] } else { [a, b] }, cmp, 1, wide);
    }
    if let Double(_) = a {
        return binary_double(e, f, a, b);
    }
    if let BinaryFn::Pow | BinaryFn::Mod | BinaryFn::Fmod = f {
        let values = vectors(e, &[a, b], |e, i| copy(e, a.vector(i)));
        let others: Vec<V> = (0..values.len()).map(|i| b.vector(i)).collect();
        match f {
            BinaryFn::Pow => math::power(e, &values, &others),
            _ => math::remainder(e, &values, &others, f == BinaryFn::Mod),
        }
        return Float(values);
    }
    Float(vectors(e, &[a, b], |e, i| binary_float(e, f, a.vector(i), b.vector(i))))
}

/// A function of two `u64`.
fn binary_unsigned(e: &mut dyn Emitter, f: BinaryFn, a: &PointValue, b: &PointValue) -> PointValue {
    let Some((cmp, changed)) = comparison(f) else {
        return Unsigned(ints(e, &[a, b], |e, i| unsigned::binary(e, f, a.int(i), b.int(i))));
    };
    let (one, zero) = (e.integer(1), e.integer(0));
    let [a, b] = if changed { [b, a] } else { [a, b] };
    Int(ints(e, &[a, b], |e, i| unsigned::select(e, [a.int(i), b.int(i)], cmp, one, zero)))
}

/// A function of two `f64` that is no comparison.
fn binary_double(e: &mut dyn Emitter, f: BinaryFn, a: &PointValue, b: &PointValue) -> PointValue {
    if let BinaryFn::Pow | BinaryFn::Mod | BinaryFn::Fmod = f {
        let values = vectors(e, &[a, b], |e, i| copy(e, a.vector(i)));
        let others: Vec<V> = (0..values.len()).map(|i| b.vector(i)).collect();
        match f {
            BinaryFn::Pow => math::wide::power(e, &values, &others),
            _ => math::wide::remainder(e, &values, &others, f == BinaryFn::Mod),
        }
        return Double(values);
    }
    Double(vectors(e, &[a, b], |e, i| {
        let (a, b) = (a.vector(i), b.vector(i));
        match f {
            BinaryFn::Min | BinaryFn::Max => doubles::extreme(e, f == BinaryFn::Max, a, b),
            BinaryFn::Add => op(e, VOp::Add, Element::F64, a, b),
            BinaryFn::Sub => op(e, VOp::Sub, Element::F64, a, b),
            BinaryFn::Mul => op(e, VOp::Mul, Element::F64, a, b),
            BinaryFn::Div => op(e, VOp::Div, Element::F64, a, b),
            _ => {
                let (product, zero) = (op(e, VOp::Mul, Element::F64, a, b), e.constant(0.0));
                select(e, Element::F64, [a, zero], Cmp::Less, product, a)
            }
        }
    }))
}

/// A function of two `f32` vectors.
pub(super) fn binary_float(e: &mut dyn Emitter, f: BinaryFn, a: V, b: V) -> V {
    let plain = match f {
        BinaryFn::Add => VOp::Add,
        BinaryFn::Sub => VOp::Sub,
        BinaryFn::Mul => VOp::Mul,
        BinaryFn::Div => VOp::Div,
        BinaryFn::Min | BinaryFn::Max => return extreme(e, f == BinaryFn::Max, a, b),
        _ => {
            let (product, zero) = (op(e, VOp::Mul, Element::F32, a, b), e.constant(0.0));
            return select(e, Element::F32, [a, zero], Cmp::Less, product, a);
        }
    };
    op(e, plain, Element::F32, a, b)
}

/// The larger or the smaller; a NaN wins, and 0 is above -0.
fn extreme(e: &mut dyn Emitter, larger: bool, a: V, b: V) -> V {
    // Either order gives its second operand for zeros and NaN: together, bit by bit, the zero that is asked for, and for the smaller
    // one all bits of a NaN too.
    let function = if larger { VOp::Max } else { VOp::Min };
    let (one, other) = (op(e, function, Element::F32, a, b), op(e, function, Element::F32, b, a));
    if !larger {
        return op(e, VOp::Or, Element::F32, one, other);
    }
    let both = op(e, VOp::And, Element::F32, one, other);
    let sum = op(e, VOp::Add, Element::F32, a, b);
    select(e, Element::F32, [a, b], Cmp::Unordered, sum, both)
}

/// A function of 32-bit lanes: right in the low bits that are stored or wrapped.
fn binary_lanes(e: &mut dyn Emitter, f: BinaryFn, a: V, b: V) -> V {
    if let Some((cmp, changed)) = comparison(f) {
        let (one, zero) = (bits(e, 1), bits(e, 0));
        return select(e, Element::I32, if changed { [b, a] } else { [a, b] }, cmp, one, zero);
    }
    let function = match f {
        BinaryFn::Add => VOp::Add,
        BinaryFn::Sub => VOp::Sub,
        BinaryFn::Mul => VOp::Mul,
        BinaryFn::Min => VOp::Min,
        BinaryFn::And => VOp::And,
        BinaryFn::Or => VOp::Or,
        BinaryFn::Xor => VOp::Xor,
        _ => VOp::Max,
    };
    op(e, function, Element::I32, a, b)
}

fn binary_int(e: &mut dyn Emitter, f: BinaryFn, a: R, b: R) -> R {
    if let Some((cmp, changed)) = comparison(f) {
        let (one, zero) = (e.integer(1), e.integer(0));
        return choose(e, if changed { [b, a] } else { [a, b] }, cmp, one, zero);
    }
    let d = e.r();
    match f {
        BinaryFn::Add => e.add(d, a, b),
        BinaryFn::Sub => e.sub(d, a, b),
        BinaryFn::Mul => e.int_op(IntOp::Mul, d, a, b),
        BinaryFn::Min => e.min(d, a, b),
        BinaryFn::Max => e.max(d, a, b),
        BinaryFn::And => e.int_op(IntOp::And, d, a, b),
        BinaryFn::Or => e.int_op(IntOp::Or, d, a, b),
        BinaryFn::Xor => e.int_op(IntOp::Xor, d, a, b),
        BinaryFn::Div => return quotient(e, a, b),
        BinaryFn::Fmod => return remainder(e, a, b),
        BinaryFn::Mod => return modulo(e, a, b),
        BinaryFn::Pow => return power(e, a, b),
        _ => {
            let zero = e.integer(0);
            e.int_op(IntOp::Mul, d, a, b);
            e.choose(d, Cmp::Less, a, zero, d, a);
        }
    }
    d
}

/// The quotient towards zero; 0 for a divisor of 0; wraps.
fn quotient(e: &mut dyn Emitter, a: R, b: R) -> R {
    let (zero, one, minus) = (e.integer(0), e.integer(1), e.integer(-1));
    let divisor = choose(e, [b, zero], Cmp::Equal, one, b);
    e.choose(divisor, Cmp::Equal, divisor, minus, one, divisor);
    let d = int_op(e, IntOp::Div, a, divisor);
    let negated = e.r();
    e.sub(negated, zero, a);
    e.choose(d, Cmp::Equal, b, minus, negated, d);
    e.choose(d, Cmp::Equal, b, zero, zero, d);
    d
}

/// The remainder with the dividend's sign; 0 for a divisor of 0.
fn remainder(e: &mut dyn Emitter, a: R, b: R) -> R {
    let (whole, zero) = (quotient(e, a, b), e.integer(0));
    e.int_op(IntOp::Mul, whole, whole, b);
    e.sub(whole, a, whole);
    choose(e, [b, zero], Cmp::Equal, zero, whole)
}

/// The remainder with the divisor's sign; 0 for a divisor of 0.
fn modulo(e: &mut dyn Emitter, a: R, b: R) -> R {
    let (rest, zero, moved) = (remainder(e, a, b), e.integer(0), e.r());
    e.add(moved, rest, b);
    let signs = int_op(e, IntOp::Xor, rest, b);
    e.choose(moved, Cmp::Less, signs, zero, moved, rest);
    choose(e, [rest, zero], Cmp::Equal, rest, moved)
}

/// `a` to the power `b` by squaring, wrapping; 0 for negative exponents unless `a` is 1 or -1.
fn power(e: &mut dyn Emitter, a: R, b: R) -> R {
    let (zero, one, minus) = (e.integer(0), e.integer(1), e.integer(-1));
    let (base, exponent, power) = (copy_int(e, a), copy_int(e, b), copy_int(e, one));
    // No exponent has more bits than the steps that its size is given.
    let (few, many, small) = (e.integer(8), e.integer(63), e.integer(255));
    let steps = choose(e, [exponent, small], Cmp::LessOrEqual, few, many);
    e.choose(steps, Cmp::LessOrEqual, exponent, zero, zero, steps);
    e.repeat(Count::Register(steps), &mut |e| {
        let odd = int_op(e, IntOp::And, exponent, one);
        let product = int_op(e, IntOp::Mul, power, base);
        e.choose(power, Cmp::Equal, odd, zero, power, product);
        e.int_op(IntOp::Mul, base, base, base);
        e.div_imm(exponent, exponent, 2);
    });
    // A negative exponent leaves 1 in `power`: right for a base of 1, its sign for a base of -1, else 0.
    let odd = int_op(e, IntOp::And, b, one);
    let sign = choose(e, [odd, zero], Cmp::Equal, one, a);
    let unit = choose(e, [a, one], Cmp::Equal, one, zero);
    let inverse = choose(e, [a, minus], Cmp::Equal, sign, unit);
    choose(e, [b, zero], Cmp::Less, inverse, power)
}

/// `a * b + c`, rounded once (twice where the target has no FMA).
pub(super) fn multiply_add(e: &mut dyn Emitter, a: &PointValue, b: &PointValue, c: &PointValue) -> PointValue {
    if let Float(_) = a {
        return Float(vectors(e, &[a, b, c], |e, i| {
            let d = copy(e, c.vector(i));
            e.fma(d, a.vector(i), b.vector(i));
            d
        }));
    }
    let product = binary(e, BinaryFn::Mul, a, b, true);
    binary(e, BinaryFn::Add, c, &product, true)
}

/// `yes` where `condition` is not 0, else `no`.
pub(super) fn choice(e: &mut dyn Emitter, condition: &PointValue, yes: &PointValue, no: &PointValue) -> PointValue {
    let of = [condition, yes, no];
    if let Int(_) | Unsigned(_) = yes {
        let zero = e.integer(0);
        let values = ints(e, &of, |e, i| choose(e, [condition.int(i), zero], Cmp::Equal, no.int(i), yes.int(i)));
        return if let Int(_) = yes { Int(values) } else { Unsigned(values) };
    }
    if let Double(_) = yes {
        let condition = to_float(e, condition);
        return Double(vectors(e, &of, |e, i| doubles::choice(e, condition.vector(i), yes.vector(i), no.vector(i))));
    }
    let zero = e.constant(0.0);
    if let Lanes(_) = condition {
        let test = |e: &mut dyn Emitter, i: usize| {
            select(e, Element::I32, [condition.vector(i), zero], Cmp::Equal, no.vector(i), yes.vector(i))
        };
        let values = vectors(e, &of, test);
        return if let Lanes(_) = yes { Lanes(values) } else { Float(values) };
    }
    let values = vectors(e, &of, |e, i| {
        let test = e.v();
        e.first_from_int(test, condition.int(i));
        select(e, Element::F32, [test, zero], Cmp::Equal, no.vector(i), yes.vector(i))
    });
    Float(values)
}

/// An integer or an `f64` rounded to `f32`.
pub(super) fn to_float(e: &mut dyn Emitter, x: &PointValue) -> PointValue {
    Float(vectors(e, &[x], |e, i| {
        let d = e.v();
        match x {
            Int(_) => e.first_from_int(d, x.int(i)),
            Unsigned(_) => return unsigned::to_float(e, x.int(i)),
            Double(_) => return doubles::to_floats(e, x.vector(i)),
            Lanes(_) | Float(_) => e.int_to_float(d, x.vector(i)),
        }
        d
    }))
}

/// An integer rounded to `f64`, or an `f32`.
pub(super) fn to_double(e: &mut dyn Emitter, x: &PointValue) -> PointValue {
    Double(vectors(e, &[x], |e, i| match x {
        Int(_) => doubles::from_int(e, x.int(i), false),
        Unsigned(_) => doubles::from_int(e, x.int(i), true),
        Lanes(_) => doubles::from_lanes(e, x.vector(i)),
        Float(_) => doubles::from_floats(e, x.vector(i)),
        Double(_) => x.vector(i),
    }))
}

/// The vector of a point as `f32` lanes that are stored in a type of at most 32 bits: an `f64` is rounded to 16 bits once.
pub(super) fn stored(e: &mut dyn Emitter, x: &PointValue, point: usize) -> V {
    if let Double(_) = x { doubles::to_odd_floats(e, x.vector(point)) } else { x.vector(point) }
}

/// An `f32` or `f64` truncated and saturated to an integer type; to bool: whether it differs from 0.
pub(super) fn saturate(e: &mut dyn Emitter, dtype: DType, x: &PointValue, wide: bool) -> PointValue {
    if dtype == DType::Bool {
        let zero = vec![e.constant(0.0)];
        let zero = if let Double(_) = x { Double(zero) } else { Float(zero) };
        return test(e, [x, &zero], Cmp::Equal, 0, wide);
    }
    if let (Float(_), DType::U64) = (x, dtype) {
        let x = to_double(e, x);
        return saturate(e, dtype, &x, wide);
    }
    if let Double(_) = x {
        return saturate_double(e, dtype, x, wide);
    }
    if wide {
        return Lanes(vectors(e, &[x], |e, i| saturate_lanes(e, dtype, x.vector(i))));
    }
    Int(ints(e, &[x], |e, i| {
        let d = e.r();
        e.first_to_int(d, x.vector(i));
        within(e, dtype, d);
        d
    }))
}

/// As [`saturate`], of `f64` and not to bool.
fn saturate_double(e: &mut dyn Emitter, dtype: DType, x: &PointValue, wide: bool) -> PointValue {
    if wide {
        let bounds = bounds(dtype).unwrap_or((i64::from(i32::MIN), i64::from(i32::MAX)));
        return Lanes(vectors(e, &[x], |e, i| doubles::to_lanes(e, bounds, x.vector(i))));
    }
    if dtype == DType::U64 {
        return Unsigned(ints(e, &[x], |e, i| doubles::to_int(e, x.vector(i), true)));
    }
    Int(ints(e, &[x], |e, i| {
        let d = doubles::to_int(e, x.vector(i), false);
        within(e, dtype, d);
        d
    }))
}

/// `d =` an integer within the range of an integer type.
fn within(e: &mut dyn Emitter, dtype: DType, d: R) {
    if let Some((low, high)) = bounds(dtype) {
        let (low, high) = (e.integer(low), e.integer(high));
        e.max(d, d, low);
        e.min(d, d, high);
    }
}

/// Lanes truncated and saturated to an integer type of at most 32 bits.
fn saturate_lanes(e: &mut dyn Emitter, dtype: DType, x: V) -> V {
    let (low, high) = bounds(dtype).unwrap_or((i64::from(i32::MIN), i64::from(i32::MAX)));
    let (least, most, zero, d) = (e.constant(low as f32), e.constant(high as f32), e.constant(0.0), e.v());
    // Bounded first: what is out of range has no integer. Of a NaN the second operand remains: the least that is there if that is 0, else the NaN
    // stays until it becomes 0.
    if low == 0 {
        e.op(VOp::Max, Element::F32, d, x, least);
        e.op(VOp::Min, Element::F32, d, d, most);
    } else {
        e.op(VOp::Max, Element::F32, d, least, x);
        e.op(VOp::Min, Element::F32, d, most, d);
        e.select(Element::F32, d, Cmp::Unordered, [x, x], zero, d);
    }
    e.float_to_int(d, d);
    if i64::from(i32::MAX) == high {
        // The bound was rounded up, out of range.
        let largest = bits(e, i32::MAX as u32);
        e.select(Element::F32, d, Cmp::LessOrEqual, [most, x], largest, d);
    }
    d
}

/// An integer wrapped to an integer type; to bool: whether it differs from 0.
pub(super) fn wrap(e: &mut dyn Emitter, dtype: DType, x: &PointValue) -> PointValue {
    if let Lanes(_) = x {
        return Lanes(vectors(e, &[x], |e, i| wrap_lanes(e, dtype, x.vector(i))));
    }
    let values = ints(e, &[x], |e, i| {
        let (d, zero, one) = (e.r(), e.integer(0), e.integer(1));
        match dtype {
            DType::Bool => e.choose(d, Cmp::Equal, x.int(i), zero, zero, one),
            _ => e.extend(d, x.int(i), dtype),
        }
        d
    });
    if dtype == DType::U64 { Unsigned(values) } else { Int(values) }
}

/// Lanes wrapped to a narrower type; as they are for a 32-bit one.
fn wrap_lanes(e: &mut dyn Emitter, dtype: DType, x: V) -> V {
    if dtype == DType::Bool {
        let (zero, one) = (bits(e, 0), bits(e, 1));
        return select(e, Element::I32, [x, zero], Cmp::Equal, zero, one);
    }
    let width = 8 * dtype.size() as u32;
    if width == 32 {
        return x;
    }
    let mask = bits(e, (1 << width) - 1);
    let low = op(e, VOp::And, Element::I32, x, mask);
    if let DType::U8 | DType::U16 = dtype {
        return low;
    }
    let sign = bits(e, 1 << (width - 1));
    let turned = op(e, VOp::Xor, Element::I32, low, sign);
    op(e, VOp::Sub, Element::I32, turned, sign)
}

/// Range of an integer type narrower than 64 bits.
fn bounds(dtype: DType) -> Option<(i64, i64)> {
    Some(match dtype {
        DType::I8 => (i64::from(i8::MIN), i64::from(i8::MAX)),
        DType::U8 => (0, i64::from(u8::MAX)),
        DType::I16 => (i64::from(i16::MIN), i64::from(i16::MAX)),
        DType::U16 => (0, i64::from(u16::MAX)),
        DType::I32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        DType::U32 => (0, i64::from(u32::MAX)),
        _ => return None,
    })
}
