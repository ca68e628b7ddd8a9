//! Elements below 8 bits, and 8-bit floats: to numbers and back.
//!
//! In: a value of such elements, one to a byte (`crate::narrow`), or of numbers. Out: the other. Reading is a look into a table of all codes. Writing is
//! exact arithmetic: the exponent is found by halving the range that it may have, the mantissa is rounded to the nearest, ties to even, and what
//! is beyond the largest number is what the standard says for `saturate`. Signs of NaNs are not kept.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::{Gather, Where};
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::{Constant, DType};

use crate::context::Context;
use crate::error::Result;
use crate::narrow::{Format, Narrow, Special};

use super::support::{binary, cast, unary, with_scalar};

/// Input `slot`, which `x` comes from, as numbers: integers as they are carried, floats in `f32`. Other elements are left as they are.
pub(crate) fn numbers(cx: &mut Context<'_>, slot: usize, x: ValueId) -> Result<ValueId> {
    let Some(kind) = cx.narrow(slot).filter(|kind| kind.range().is_none()) else { return Ok(x) };
    if let Some((constant, bytes)) = cx.constant(x).and_then(|constant| Some((constant, constant.bytes()?))) {
        let values: Vec<f32> = bytes.iter().map(|b| kind.number(*b)).collect();
        let shape = constant.ty.shape.clone();
        let decoded = Constant::from_f32(shape, &values).with_origins(constant.origins.clone());
        return Ok(cx.add_constant(decoded));
    }
    let table: Vec<f32> = (0..=u8::MAX).map(|b| kind.number(b)).collect();
    let table = cx.add_constant(Constant::from_f32([table.len()], &table));
    let index = cast(cx, x, DType::I32)?;
    cx.emit(Gather { axis: 0 }, &[table, index])
}

/// Numbers as elements of a type, which is the first result of the node: as its attributes `saturate` and `round_mode` say.
pub(crate) fn converted(cx: &mut Context<'_>, x: ValueId, kind: Narrow) -> Result<ValueId> {
    let saturate = cx.attrs().flag("saturate", true)?;
    cx.gives = Some(kind);
    let format = match kind {
        Narrow::Integer(bits, signed) => return wrapped(cx, x, bits, signed),
        Narrow::Float(format) => Some(format),
        Narrow::Exponent => None,
    };
    // Integers beyond 2^24 are beyond the largest number, too.
    let x = if cx.ty(x).dtype == DType::F64 { x } else { cast(cx, x, DType::F32)? };
    let code = match format {
        Some(format) => float(cx, x, format, saturate)?,
        None => exponent(cx, x, saturate)?,
    };
    cast(cx, code, DType::U8)
}

/// The lowest bits of integers, or of floats truncated to them.
fn wrapped(cx: &mut Context<'_>, x: ValueId, bits: u32, signed: bool) -> Result<ValueId> {
    let x = cast(cx, x, DType::I32)?;
    let half = if signed { f64::from(1u32 << (bits - 1)) } else { 0.0 };
    let raised = if signed { with_scalar(cx, BinaryFn::Add, x, half)? } else { x };
    let low = with_scalar(cx, BinaryFn::And, raised, f64::from((1u32 << bits) - 1))?;
    let low = if signed { with_scalar(cx, BinaryFn::Sub, low, half)? } else { low };
    cast(cx, low, Narrow::Integer(bits, signed).carrier())
}

/// `a` where a condition holds, a number elsewhere.
fn or_number(cx: &mut Context<'_>, condition: ValueId, a: ValueId, b: f64) -> Result<ValueId> {
    let b = cx.scalar_like(a, b)?;
    cx.emit(Where {}, &[condition, a, b])
}

/// A number where a condition holds, `b` elsewhere.
fn number_or(cx: &mut Context<'_>, condition: ValueId, a: f64, b: ValueId) -> Result<ValueId> {
    let a = cx.scalar_like(b, a)?;
    cx.emit(Where {}, &[condition, a, b])
}

/// `v` divided by a power of two of up to `2^(2^steps - 1)`, so that it is below 2 where one is enough, and not below 1 where it was not; and the
/// exponent times `unit`. The exponent's bits are found from the highest.
fn normalised(cx: &mut Context<'_>, mut v: ValueId, steps: u32, unit: f64) -> Result<(ValueId, ValueId)> {
    let mut base = cx.scalar_like(v, 0.0)?;
    for step in (0..steps).rev() {
        let by = 1u32 << step;
        let large = with_scalar(cx, BinaryFn::GreaterOrEqual, v, f64::from(by).exp2())?;
        let divided = with_scalar(cx, BinaryFn::Mul, v, (-f64::from(by)).exp2())?;
        v = cx.emit(Where {}, &[large, divided, v])?;
        let raised = with_scalar(cx, BinaryFn::Add, base, f64::from(by) * unit)?;
        base = cx.emit(Where {}, &[large, raised, base])?;
    }
    Ok((v, base))
}

/// The bits of the nearest floats of a format, as numbers.
fn float(cx: &mut Context<'_>, x: ValueId, format: Format, saturate: bool) -> Result<ValueId> {
    let unit = f64::from(1u32 << format.mantissa_bits);
    // In units of the smallest normal number. What is below 2 has its bits in order from 0 on, subnormal or not.
    let magnitude = unary(cx, UnaryFn::Abs, x)?;
    let scaled = with_scalar(cx, BinaryFn::Mul, magnitude, f64::from(format.bias - 1).exp2())?;
    let (fraction, base) = normalised(cx, scaled, format.exponent_bits, unit)?;
    let fraction = with_scalar(cx, BinaryFn::Mul, fraction, unit)?;
    let fraction = unary(cx, UnaryFn::Round, fraction)?;
    let code = binary(cx, BinaryFn::Add, base, fraction)?;
    let beyond = with_scalar(cx, BinaryFn::Greater, code, f64::from(format.largest()))?;
    let most = match format.special {
        Special::Finite | Special::Infinite if !saturate => format.largest() + 1,
        _ => format.largest(),
    };
    let code = number_or(cx, beyond, f64::from(most), code)?;
    let below = with_scalar(cx, BinaryFn::Less, x, 0.0)?;
    let mut negative = below;
    if format.special == Special::Unsigned {
        let nonzero = with_scalar(cx, BinaryFn::Greater, code, 0.0)?;
        negative = binary(cx, BinaryFn::And, below, nonzero)?;
    } else {
        // -0 has an inverse below 0, and infinity has none.
        let inverse = unary(cx, UnaryFn::Reciprocal, x)?;
        let inverse = with_scalar(cx, BinaryFn::Less, inverse, 0.0)?;
        negative = binary(cx, BinaryFn::Or, negative, inverse)?;
    }
    let signed = with_scalar(cx, BinaryFn::Add, code, f64::from(format.sign()))?;
    let mut code = cx.emit(Where {}, &[negative, signed, code])?;
    if format.special == Special::Unsigned && !saturate {
        code = number_or(cx, beyond, f64::from(format.nan()), code)?;
    }
    let nan = unary(cx, UnaryFn::IsNan, x)?;
    number_or(cx, nan, f64::from(format.nan()), code)
}

/// The exponents of `float8e8m0`, as numbers. Numbers below 0 are none of the type, and become NaNs.
fn exponent(cx: &mut Context<'_>, x: ValueId, saturate: bool) -> Result<ValueId> {
    const NAN: f64 = 255.0;
    const MOST: f64 = 254.0;
    // From the smallest number, or from 1, so that no factor is beyond f32.
    let large = with_scalar(cx, BinaryFn::GreaterOrEqual, x, 1.0)?;
    let raised = with_scalar(cx, BinaryFn::Mul, x, 127f64.exp2())?;
    let scaled = cx.emit(Where {}, &[large, x, raised])?;
    let (fraction, base) = normalised(cx, scaled, 7, 1.0)?;
    let from_one = with_scalar(cx, BinaryFn::Add, base, 127.0)?;
    let base = cx.emit(Where {}, &[large, from_one, base])?;
    let up = match cx.attrs().string("round_mode", "up")? {
        "up" => Some(with_scalar(cx, BinaryFn::Greater, fraction, 1.0)?),
        "nearest" => Some(with_scalar(cx, BinaryFn::GreaterOrEqual, fraction, 1.5)?),
        "down" => None,
        other => return Err(cx.error("round_mode", "up, down or nearest", other)),
    };
    let mut code = base;
    if let Some(up) = up {
        let raised = with_scalar(cx, BinaryFn::Add, base, 1.0)?;
        code = cx.emit(Where {}, &[up, raised, base])?;
    }
    let rounded = with_scalar(cx, BinaryFn::Greater, code, MOST)?;
    let beyond = with_scalar(cx, BinaryFn::GreaterOrEqual, fraction, 2.0)?;
    let beyond = binary(cx, BinaryFn::Or, rounded, beyond)?;
    code = number_or(cx, beyond, if saturate { MOST } else { NAN }, code)?;
    if !saturate {
        let below = with_scalar(cx, BinaryFn::Less, fraction, 1.0)?;
        code = number_or(cx, below, NAN, code)?;
    }
    // Neither NaNs nor what is below 0.
    let proper = with_scalar(cx, BinaryFn::GreaterOrEqual, x, 0.0)?;
    or_number(cx, proper, code, NAN)
}
