//! Element-wise functions of two or more values, with broadcasting, and Cast.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::Where;
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::DType;

use crate::context::Context;
use crate::error::Result;

use super::support::{axis, binary, cast, dtype, integer_range, reshape, unary, with_scalar};

/// Import of a function of two operands.
macro_rules! plain {
    ($($name:ident = $function:ident),* $(,)?) => {$(
        #[doc = concat!("`", stringify!($function), "`, element by element with broadcasting.")]
        pub(crate) fn $name(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
            let (a, b) = operands(cx)?;
            Ok(vec![binary(cx, BinaryFn::$function, a, b)?])
        }
    )*};
}
plain! {
    add = Add, sub = Sub, mul = Mul, div = Div, and = And, or = Or, xor = Xor, equal = Equal, less = Less,
    less_or_equal = LessOrEqual, greater = Greater, greater_or_equal = GreaterOrEqual,
}

/// The two operands. Before version 7, `broadcast` and `axis` say how the second one is aligned with the first.
fn operands(cx: &mut Context<'_>) -> Result<(ValueId, ValueId)> {
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    if cx.version() >= 7 {
        return Ok((a, b));
    }
    let aligned = legacy_operand(cx, a, b)?;
    Ok((a, aligned))
}

/// The second operand of a function from before version 7, shaped so that NumPy broadcasting aligns it.
fn legacy_operand(cx: &mut Context<'_>, a: ValueId, b: ValueId) -> Result<ValueId> {
    let (a_shape, b_shape) = (cx.shape(a).clone(), cx.shape(b).clone());
    if cx.attrs().int("broadcast", 0)? == 0 {
        if a_shape != b_shape {
            return Err(cx.error("B", format!("shape {a_shape}, as A, without broadcast"), b_shape.to_string()));
        }
        return Ok(b);
    }
    let (rank, given) = (a_shape.rank(), b_shape.rank());
    if given > rank {
        return Err(cx.error("B", format!("rank {rank} or less"), b_shape.to_string()));
    }
    let start = match cx.attrs().int("axis", i64::MIN)? {
        i64::MIN => rank - given,
        value => axis(cx, "axis", value, rank)?,
    };
    if start + given > rank {
        return Err(cx.error("axis", format!("{given} axes of {a_shape}"), start.to_string()));
    }
    let mut shape = b_shape.to_vec();
    shape.resize(rank - start, 1);
    reshape(cx, b, shape)
}

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

/// `Mod`: the remainder has the divisor's sign, or the dividend's where `fmod` is set.
pub(crate) fn modulo(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let fmod = match cx.attrs().int("fmod", 0)? {
        0 => false,
        1 => true,
        other => return Err(cx.error("fmod", "0 or 1", other.to_string())),
    };
    if fmod || !cx.ty(a).dtype.is_float() {
        return Ok(vec![binary(cx, if fmod { BinaryFn::Fmod } else { BinaryFn::Mod }, a, b)?]);
    }
    if cx.version() < 28 {
        return Err(cx.error("fmod", "1 for floating-point elements", "0"));
    }
    // From the truncated remainder, so that infinite divisors come out as ONNX says.
    let remainder = binary(cx, BinaryFn::Fmod, a, b)?;
    let raised = binary(cx, BinaryFn::Add, remainder, b)?;
    let negative = with_scalar(cx, BinaryFn::Less, remainder, 0.0)?;
    let positive = with_scalar(cx, BinaryFn::Greater, remainder, 0.0)?;
    let below = with_scalar(cx, BinaryFn::Less, b, 0.0)?;
    let above = with_scalar(cx, BinaryFn::Greater, b, 0.0)?;
    let fall = binary(cx, BinaryFn::And, positive, below)?;
    let rise = binary(cx, BinaryFn::And, negative, above)?;
    let differ = binary(cx, BinaryFn::Or, fall, rise)?;
    Ok(vec![cx.emit(Where {}, &[differ, raised, remainder])?])
}

/// Import of a function of any number of operands.
macro_rules! variadic {
    ($($name:ident = $function:ident),* $(,)?) => {$(
        #[doc = concat!("`", stringify!($function), "` of one or more operands, with broadcasting.")]
        pub(crate) fn $name(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
            Ok(vec![chain(cx, BinaryFn::$function)?])
        }
    )*};
}
variadic! { min = Min, max = Max, sum = Add }

/// Folds the operands from the left. Before version 8 their shapes must agree.
fn chain(cx: &mut Context<'_>, function: BinaryFn) -> Result<ValueId> {
    let mut y = cx.input(0)?;
    for slot in 1..cx.input_count() {
        let x = cx.input(slot)?;
        if cx.version() < 8 && cx.shape(x) != cx.shape(y) {
            return Err(cx.error(format!("input {slot}"), cx.ty(y).to_string(), cx.ty(x).to_string()));
        }
        y = binary(cx, function, y, x)?;
    }
    Ok(y)
}

/// `Mean` of one or more operands, with broadcasting.
pub(crate) fn mean(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let sum = chain(cx, BinaryFn::Add)?;
    let count = cx.input_count();
    Ok(vec![if count == 1 { sum } else { with_scalar(cx, BinaryFn::Div, sum, count as f64)? }])
}

/// `BitwiseNot`: exclusive or with all ones.
pub(crate) fn bitwise_not(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let ones = super::support::int_constant(cx, cx.ty(x).dtype, Vec::new(), &[-1]);
    Ok(vec![binary(cx, BinaryFn::Xor, x, ones)?])
}

/// `Where`.
pub(crate) fn select(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (condition, a, b) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    Ok(vec![cx.emit(Where {}, &[condition, a, b])?])
}

/// `Cast`, since version 6: the type is a number.
pub(crate) fn cast_to(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let to = dtype(cx, "to", cx.attrs().require_int("to")?)?;
    Ok(vec![cast(cx, x, to)?])
}

/// `CastLike`: to the type of the second operand.
pub(crate) fn cast_like(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (x, like) = (cx.input(0)?, cx.input(1)?);
    let to = cx.ty(like).dtype;
    Ok(vec![cast(cx, x, to)?])
}
