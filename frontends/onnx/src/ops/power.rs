//! Pow, and roots of integers in integers.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::Where;
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::DType;

use crate::context::Context;
use crate::error::Result;

use super::elementwise::operands;
use super::support::{binary, cast, int_constant, integer_range, unary, with_scalar};

/// `Pow`; the exponent may be of another type, the result is of the base's.
pub(crate) fn pow(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (a, b) = operands(cx)?;
    let (base, exponent) = (cx.ty(a).dtype, cx.ty(b).dtype);
    if base == exponent {
        return Ok(vec![binary(cx, BinaryFn::Pow, a, b)?]);
    }
    if base.is_float() && !exponent.is_float() && !are_exact(cx, b, base) {
        return Ok(vec![integer_power(cx, a, b)?]);
    }
    if base.is_float() || !exponent.is_float() {
        let b = cast(cx, b, base)?;
        return Ok(vec![binary(cx, BinaryFn::Pow, a, b)?]);
    }
    if let Some(halves) = halves(cx, b, base)? {
        return Ok(vec![half_power(cx, a, b, &halves)?]);
    }
    // An integer to a fractional power, cut to an integer: f64 holds every step.
    let (wide_a, wide_b) = (cast(cx, a, DType::F64)?, cast(cx, b, DType::F64)?);
    let power = binary(cx, BinaryFn::Pow, wide_a, wide_b)?;
    Ok(vec![cast(cx, power, base)?])
}

/// Whether every element that the integers `b` can have is one of `float` too, which says whether it is odd.
fn are_exact(cx: &Context<'_>, b: ValueId, float: DType) -> bool {
    let bits = match float {
        DType::F64 => 53,
        DType::F32 => 24,
        DType::F16 => 11,
        _ => 8,
    };
    let most = f64::from(bits).exp2();
    let of_type = integer_range(cx.ty(b).dtype).is_some_and(|(least, largest)| -least <= most && largest <= most);
    of_type || cx.const_f64s(b, "Y").is_ok_and(|values| values.iter().all(|v| v.abs() <= most))
}

/// `a` to the power of integers whose last bit rounding to `a`'s type loses: the power of the magnitude, with the sign of an odd power.
fn integer_power(cx: &mut Context<'_>, a: ValueId, b: ValueId) -> Result<ValueId> {
    let rounded = cast(cx, b, cx.ty(a).dtype)?;
    let magnitude = unary(cx, UnaryFn::Abs, a)?;
    let power = binary(cx, BinaryFn::Pow, magnitude, rounded)?;
    let remainder = with_scalar(cx, BinaryFn::Mod, b, 2.0)?;
    let odd = with_scalar(cx, BinaryFn::Equal, remainder, 1.0)?;
    // The reciprocal has the sign of a zero.
    let reciprocal = unary(cx, UnaryFn::Reciprocal, a)?;
    let (below, under) = (with_scalar(cx, BinaryFn::Less, a, 0.0)?, with_scalar(cx, BinaryFn::Less, reciprocal, 0.0)?);
    let negative = binary(cx, BinaryFn::Or, below, under)?;
    let flips = binary(cx, BinaryFn::And, odd, negative)?;
    let opposite = unary(cx, UnaryFn::Neg, power)?;
    cx.emit(Where {}, &[flips, opposite, power])
}

/// Twice the exponents, if they are known multiples of one half whose powers [`half_power`] has.
fn halves(cx: &Context<'_>, exponent: ValueId, base: DType) -> Result<Option<Vec<i64>>> {
    if cx.constant(exponent).is_none() {
        return Ok(None);
    }
    let twice: Vec<f64> = cx.const_f64s(exponent, "Y")?.into_iter().map(|e| 2.0 * e).collect();
    let whole = |twice: &f64| twice.fract() == 0.0 && twice.abs() <= 126.0;
    // The root of a power of an i64 may fit where the power does not.
    let odd = |twice: &f64| twice % 2.0 != 0.0 && base == DType::I64 && twice.abs() > 1.0;
    let all = twice.iter().all(whole) && !twice.iter().any(odd);
    Ok(all.then(|| twice.into_iter().map(|twice| twice as i64).collect()))
}

/// `a` to powers in steps of one half, cut to integers: integer powers, and roots of integer powers.
fn half_power(cx: &mut Context<'_>, a: ValueId, exponent: ValueId, halves: &[i64]) -> Result<ValueId> {
    let (base, shape) = (cx.ty(a).dtype, cx.shape(exponent).to_vec());
    let of = |cx: &mut Context<'_>, dtype, f: &dyn Fn(i64) -> i64| {
        let values: Vec<i64> = halves.iter().map(|twice| f(*twice)).collect();
        int_constant(cx, dtype, shape.clone(), &values)
    };
    let whole = of(cx, base, &|twice| twice.div_euclid(2));
    let power = binary(cx, BinaryFn::Pow, a, whole)?;
    if halves.iter().all(|twice| twice % 2 == 0) {
        return Ok(power);
    }
    // Of a negative base there is no root: 0, as of every base but 1 with a negative exponent.
    let wide = cast(cx, a, DType::I64)?;
    let wide = with_scalar(cx, BinaryFn::Max, wide, 0.0)?;
    let twice = of(cx, DType::I64, &|twice| twice);
    let raised = binary(cx, BinaryFn::Pow, wide, twice)?;
    let root = root(cx, raised)?;
    let root = cast(cx, root, base)?;
    let odd = of(cx, DType::Bool, &|twice| twice.rem_euclid(2));
    cx.emit(Where {}, &[odd, root, power])
}

/// The largest integers whose squares are at most `x`, which is `i64`; 0 for negative ones.
pub(crate) fn root(cx: &mut Context<'_>, x: ValueId) -> Result<ValueId> {
    let x = with_scalar(cx, BinaryFn::Max, x, 0.0)?;
    let near = cast(cx, x, DType::F32)?;
    let near = unary(cx, UnaryFn::Sqrt, near)?;
    let near = cast(cx, near, DType::I64)?;
    let near = with_scalar(cx, BinaryFn::Max, near, 1.0)?;
    // A step of Newton's method from a relative error of 2^-23 ends at the root or one above it.
    let other = binary(cx, BinaryFn::Div, x, near)?;
    let sum = binary(cx, BinaryFn::Add, near, other)?;
    let mean = with_scalar(cx, BinaryFn::Div, sum, 2.0)?;
    let mean = with_scalar(cx, BinaryFn::Max, mean, 1.0)?;
    let other = binary(cx, BinaryFn::Div, x, mean)?;
    let above = binary(cx, BinaryFn::Greater, mean, other)?;
    let above = cast(cx, above, DType::I64)?;
    binary(cx, BinaryFn::Sub, mean, above)
}
