//! `u64` in general registers, whose own order is that of `i64`.

use super::registers::{choose, int_op};
use crate::codegen::{Cmp, Count, Element, Emitter, IntOp, R, V, VOp};
use fornax_ir::scalar::{BinaryFn, UnaryFn};

/// An integer whose signed order is the unsigned one of `x`.
fn ordered(e: &mut dyn Emitter, x: R) -> R {
    let top = e.integer(i64::MIN);
    int_op(e, IntOp::Xor, x, top)
}

/// `(a cmp b) ? yes : no`
pub(super) fn select(e: &mut dyn Emitter, [a, b]: [R; 2], cmp: Cmp, yes: R, no: R) -> R {
    let of = [a, b].map(|x| ordered(e, x));
    choose(e, of, cmp, yes, no)
}

/// A function of one element, one of those that integers have.
pub(super) fn unary(e: &mut dyn Emitter, f: UnaryFn, x: R) -> R {
    let (zero, one) = (e.integer(0), e.integer(1));
    match f {
        UnaryFn::Clip(low, high) => {
            let least = e.integer(low as u64 as i64);
            let above = select(e, [x, least], Cmp::Less, least, x);
            // A bound below 0 is below every element: what remains of it is its bits.
            let most = e.integer(if high < 0.0 { high as i128 as i64 } else { high as u64 as i64 });
            if high <= -1.0 { most } else { select(e, [most, above], Cmp::Less, most, above) }
        }
        UnaryFn::Sign => choose(e, [x, zero], Cmp::Equal, zero, one),
        UnaryFn::Not => choose(e, [x, zero], Cmp::Equal, one, zero),
        UnaryFn::Neg => {
            let d = e.r();
            e.sub(d, zero, x);
            d
        }
        _ => x,
    }
}

/// A function of two elements that is no comparison.
pub(super) fn binary(e: &mut dyn Emitter, f: BinaryFn, a: R, b: R) -> R {
    match f {
        BinaryFn::Add | BinaryFn::Sub => {
            let d = e.r();
            if f == BinaryFn::Add {
                e.add(d, a, b)
            } else {
                e.sub(d, a, b)
            }
            d
        }
        BinaryFn::Mul => int_op(e, IntOp::Mul, a, b),
        BinaryFn::And => int_op(e, IntOp::And, a, b),
        BinaryFn::Or => int_op(e, IntOp::Or, a, b),
        BinaryFn::Xor => int_op(e, IntOp::Xor, a, b),
        BinaryFn::Min => select(e, [a, b], Cmp::Less, a, b),
        BinaryFn::Max => select(e, [a, b], Cmp::Less, b, a),
        BinaryFn::Div => quotient(e, a, b),
        BinaryFn::Mod | BinaryFn::Fmod => remainder(e, a, b),
        BinaryFn::Pow => power(e, a, b),
        // No element is below 0.
        _ => a,
    }
}

/// The quotient; 0 for a divisor of 0.
fn quotient(e: &mut dyn Emitter, a: R, b: R) -> R {
    let (zero, one) = (e.integer(0), e.integer(1));
    let divisor = choose(e, [b, zero], Cmp::Equal, one, b);
    let d = int_op(e, IntOp::DivUnsigned, a, divisor);
    choose(e, [b, zero], Cmp::Equal, zero, d)
}

/// The remainder; 0 for a divisor of 0.
fn remainder(e: &mut dyn Emitter, a: R, b: R) -> R {
    let (whole, zero) = (quotient(e, a, b), e.integer(0));
    let product = int_op(e, IntOp::Mul, whole, b);
    e.sub(product, a, product);
    choose(e, [b, zero], Cmp::Equal, zero, product)
}

/// `a` to the power `b` by squaring, wrapping.
fn power(e: &mut dyn Emitter, a: R, b: R) -> R {
    let (zero, one) = (e.integer(0), e.integer(1));
    let (base, exponent, power) = (e.r(), e.r(), e.integer(1));
    e.copy(base, a);
    e.copy(exponent, b);
    // No exponent has more bits than the steps that its size is given.
    let (few, many, small) = (e.integer(8), e.integer(64), e.integer(255));
    let steps = select(e, [b, small], Cmp::LessOrEqual, few, many);
    e.repeat(Count::Register(steps), &mut |e| {
        let odd = int_op(e, IntOp::And, exponent, one);
        let product = int_op(e, IntOp::Mul, power, base);
        e.choose(power, Cmp::Equal, odd, zero, power, product);
        e.int_op(IntOp::Mul, base, base, base);
        e.div_imm(exponent, exponent, 2);
    });
    power
}

/// An element rounded to `f32`, in the first lane. A large one is halved first, with a last bit that says whether anything is lost.
pub(super) fn to_float(e: &mut dyn Emitter, x: R) -> V {
    let (zero, one, half) = (e.integer(0), e.integer(1), e.r());
    e.div_imm(half, x, 2);
    let last = int_op(e, IntOp::And, x, one);
    e.int_op(IntOp::Or, half, half, last);
    let large = choose(e, [x, zero], Cmp::Less, one, zero);
    let counted = choose(e, [x, zero], Cmp::Less, half, x);
    let (value, twice, condition, none) = (e.v(), e.v(), e.v(), e.constant(0.0));
    e.first_from_int(value, counted);
    e.op(VOp::Add, Element::F32, twice, value, value);
    e.first_from_int(condition, large);
    e.select(Element::F32, value, Cmp::Equal, [condition, none], value, twice);
    value
}
