//! Trigonometric and hyperbolic functions that are not functions of the IR: Tan, the inverse ones, Sinh, Cosh and theirs.
//!
//! Each is made of functions of the IR, so that it is accurate where those are: a few units in the last place of `f32` over the whole
//! domain, with infinities and NaNs as in C.

use std::f64::consts::{FRAC_PI_2, FRAC_PI_4, LN_2, PI};

use fornax_ir::graph::ValueId;
use fornax_ir::ops::Where;
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::DType;

use crate::context::Context;
use crate::error::Result;

use super::support::{binary, cast, unary, with_scalar};

/// `atan(z) / z` over `z^2` from 0 to `tan(pi / 8)^2`: a least-squares fit, of relative error 1.8e-8.
const ARC_TANGENT: &[f64] = &[
    0.079_867_323_454_130_78,
    -0.138_520_872_357_868_25,
    0.199_744_703_173_712_23,
    -0.333_327_991_975_567_1,
    0.999_999_981_995_657,
];

/// `asin(z) / z` over `z^2` from 0 to 1/4: a least-squares fit, of relative error 4.4e-9.
const ARC_SINE: &[f64] = &[
    0.042_635_573_339_803_3,
    0.023_858_218_459_745_256,
    0.045_550_172_912_684_25,
    0.074_944_348_927_190_7,
    0.166_667_901_041_143_12,
    0.999_999_995_584_979_8,
];

/// Import of a function computed in `f32` or `f64`.
macro_rules! functions {
    ($($name:ident = $function:ident $about:literal),* $(,)?) => {$(
        #[doc = concat!("`", $about, "`.")]
        pub(crate) fn $name(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
            let x = cx.input(0)?;
            let given = cx.ty(x).dtype;
            let wide = if given == DType::F64 { given } else { DType::F32 };
            let x = cast(cx, x, wide)?;
            let y = $function(cx, x)?;
            Ok(vec![cast(cx, y, given)?])
        }
    )*};
}
functions! {
    tan = tangent "Tan", asin = arc_sine "Asin", acos = arc_cosine "Acos", atan = arc_tangent "Atan", sinh = sine_h "Sinh",
    cosh = cosine_h "Cosh", asinh = area_sine_h "Asinh", acosh = area_cosine_h "Acosh", atanh = area_tangent_h "Atanh",
}

/// A polynomial by falling powers.
fn polynomial(cx: &mut Context<'_>, x: ValueId, coefficients: &[f64]) -> Result<ValueId> {
    let mut value = cx.scalar_like(x, coefficients[0])?;
    for coefficient in &coefficients[1..] {
        value = binary(cx, BinaryFn::Mul, value, x)?;
        value = with_scalar(cx, BinaryFn::Add, value, *coefficient)?;
    }
    Ok(value)
}

/// The larger or the smaller side of a test.
fn choose(cx: &mut Context<'_>, test: ValueId, yes: ValueId, no: ValueId) -> Result<ValueId> {
    cx.emit(Where {}, &[test, yes, no])
}

/// `y` with the sign of `x`, for odd functions of a magnitude; zeros keep theirs.
fn signed(cx: &mut Context<'_>, x: ValueId, y: ValueId) -> Result<ValueId> {
    let below = with_scalar(cx, BinaryFn::Less, x, 0.0)?;
    let opposite = unary(cx, UnaryFn::Neg, y)?;
    let y = choose(cx, below, opposite, y)?;
    let zero = with_scalar(cx, BinaryFn::Equal, x, 0.0)?;
    choose(cx, zero, x, y)
}

/// `1 - x`, or another number less `x`.
fn less_from(cx: &mut Context<'_>, number: f64, x: ValueId) -> Result<ValueId> {
    let number = cx.scalar_like(x, number)?;
    binary(cx, BinaryFn::Sub, number, x)
}

fn tangent(cx: &mut Context<'_>, x: ValueId) -> Result<ValueId> {
    let (sine, cosine) = (unary(cx, UnaryFn::Sin, x)?, unary(cx, UnaryFn::Cos, x)?);
    binary(cx, BinaryFn::Div, sine, cosine)
}

/// By `pi / 2 - atan(1 / x)` above 1, and `pi / 4 + atan((x - 1) / (x + 1))` above `tan(pi / 8)`.
fn arc_tangent(cx: &mut Context<'_>, x: ValueId) -> Result<ValueId> {
    let size = unary(cx, UnaryFn::Abs, x)?;
    let steep = with_scalar(cx, BinaryFn::Greater, size, 1.0)?;
    let inverse = unary(cx, UnaryFn::Reciprocal, size)?;
    let z = choose(cx, steep, inverse, size)?;
    let upper = with_scalar(cx, BinaryFn::Greater, z, std::f64::consts::SQRT_2 - 1.0)?;
    let (below, above) = (with_scalar(cx, BinaryFn::Sub, z, 1.0)?, with_scalar(cx, BinaryFn::Add, z, 1.0)?);
    let turned = binary(cx, BinaryFn::Div, below, above)?;
    let w = choose(cx, upper, turned, z)?;
    let square = binary(cx, BinaryFn::Mul, w, w)?;
    let ratio = polynomial(cx, square, ARC_TANGENT)?;
    let angle = binary(cx, BinaryFn::Mul, w, ratio)?;
    let more = with_scalar(cx, BinaryFn::Add, angle, FRAC_PI_4)?;
    let angle = choose(cx, upper, more, angle)?;
    let rest = less_from(cx, FRAC_PI_2, angle)?;
    let angle = choose(cx, steep, rest, angle)?;
    signed(cx, x, angle)
}

/// `asin` of a magnitude: the fit up to 1/2, `pi / 2 - 2 asin(sqrt((1 - x) / 2))` above; and whether it is above, with the inner value.
fn arc_sine_parts(cx: &mut Context<'_>, size: ValueId) -> Result<[ValueId; 2]> {
    let large = with_scalar(cx, BinaryFn::Greater, size, 0.5)?;
    let rest = less_from(cx, 1.0, size)?;
    let half = with_scalar(cx, BinaryFn::Mul, rest, 0.5)?;
    let root = unary(cx, UnaryFn::Sqrt, half)?;
    let z = choose(cx, large, root, size)?;
    let square = binary(cx, BinaryFn::Mul, z, z)?;
    let ratio = polynomial(cx, square, ARC_SINE)?;
    Ok([large, binary(cx, BinaryFn::Mul, z, ratio)?])
}

fn arc_sine(cx: &mut Context<'_>, x: ValueId) -> Result<ValueId> {
    let size = unary(cx, UnaryFn::Abs, x)?;
    let [large, inner] = arc_sine_parts(cx, size)?;
    let twice = with_scalar(cx, BinaryFn::Mul, inner, 2.0)?;
    let outer = less_from(cx, FRAC_PI_2, twice)?;
    let angle = choose(cx, large, outer, inner)?;
    signed(cx, x, angle)
}

fn arc_cosine(cx: &mut Context<'_>, x: ValueId) -> Result<ValueId> {
    let size = unary(cx, UnaryFn::Abs, x)?;
    let [large, inner] = arc_sine_parts(cx, size)?;
    let twice = with_scalar(cx, BinaryFn::Mul, inner, 2.0)?;
    let (near, far) = (less_from(cx, FRAC_PI_2, inner)?, with_scalar(cx, BinaryFn::Add, inner, FRAC_PI_2)?);
    let opposite = less_from(cx, PI, twice)?;
    let below = with_scalar(cx, BinaryFn::Less, x, 0.0)?;
    let outer = choose(cx, below, opposite, twice)?;
    let middle = choose(cx, below, far, near)?;
    choose(cx, large, outer, middle)
}

/// `ln(1 + x)`: `ln(y) x / (y - 1)` for `y = 1 + x`, in which the rounding of `y` cancels; `x` itself where `y` is 1, and infinity stays.
fn log_1p(cx: &mut Context<'_>, x: ValueId) -> Result<ValueId> {
    let y = with_scalar(cx, BinaryFn::Add, x, 1.0)?;
    let log = unary(cx, UnaryFn::Log, y)?;
    let step = with_scalar(cx, BinaryFn::Sub, y, 1.0)?;
    let ratio = binary(cx, BinaryFn::Div, x, step)?;
    let value = binary(cx, BinaryFn::Mul, log, ratio)?;
    let one = with_scalar(cx, BinaryFn::Equal, y, 1.0)?;
    let infinite = with_scalar(cx, BinaryFn::Equal, y, f64::INFINITY)?;
    let value = choose(cx, infinite, y, value)?;
    choose(cx, one, x, value)
}

/// `exp(x) - 1`: `(y - 1) x / ln(y)` for `y = exp(x)`, in the same way.
fn exp_m1(cx: &mut Context<'_>, x: ValueId) -> Result<ValueId> {
    let y = unary(cx, UnaryFn::Exp, x)?;
    let step = with_scalar(cx, BinaryFn::Sub, y, 1.0)?;
    let log = unary(cx, UnaryFn::Log, y)?;
    let ratio = binary(cx, BinaryFn::Div, x, log)?;
    let value = binary(cx, BinaryFn::Mul, step, ratio)?;
    let one = with_scalar(cx, BinaryFn::Equal, y, 1.0)?;
    choose(cx, one, x, value)
}

/// `exp(x / 2)`, which is finite where the functions are, and whether `x` is so large that the other half does not count.
fn half_exp(cx: &mut Context<'_>, size: ValueId) -> Result<[ValueId; 2]> {
    let half = with_scalar(cx, BinaryFn::Mul, size, 0.5)?;
    let root = unary(cx, UnaryFn::Exp, half)?;
    Ok([with_scalar(cx, BinaryFn::Greater, size, 20.0)?, root])
}

fn sine_h(cx: &mut Context<'_>, x: ValueId) -> Result<ValueId> {
    let size = unary(cx, UnaryFn::Abs, x)?;
    let [large, root] = half_exp(cx, size)?;
    let half = with_scalar(cx, BinaryFn::Mul, root, 0.5)?;
    let far = binary(cx, BinaryFn::Mul, half, root)?;
    // (e + e / (e + 1)) / 2 with e = exp(|x|) - 1.
    let e = exp_m1(cx, size)?;
    let whole = with_scalar(cx, BinaryFn::Add, e, 1.0)?;
    let part = binary(cx, BinaryFn::Div, e, whole)?;
    let sum = binary(cx, BinaryFn::Add, e, part)?;
    let near = with_scalar(cx, BinaryFn::Mul, sum, 0.5)?;
    let value = choose(cx, large, far, near)?;
    signed(cx, x, value)
}

fn cosine_h(cx: &mut Context<'_>, x: ValueId) -> Result<ValueId> {
    let size = unary(cx, UnaryFn::Abs, x)?;
    let [_, root] = half_exp(cx, size)?;
    let half = with_scalar(cx, BinaryFn::Mul, root, 0.5)?;
    let rising = binary(cx, BinaryFn::Mul, half, root)?;
    let inverse = unary(cx, UnaryFn::Reciprocal, root)?;
    let half = with_scalar(cx, BinaryFn::Mul, inverse, 0.5)?;
    let falling = binary(cx, BinaryFn::Mul, half, inverse)?;
    binary(cx, BinaryFn::Add, rising, falling)
}

/// `ln(2 x)` where `x^2` may overflow, else `near`.
fn or_log_of_twice(cx: &mut Context<'_>, x: ValueId, near: ValueId) -> Result<ValueId> {
    let log = unary(cx, UnaryFn::Log, x)?;
    let far = with_scalar(cx, BinaryFn::Add, log, LN_2)?;
    let large = with_scalar(cx, BinaryFn::Greater, x, 1e9)?;
    choose(cx, large, far, near)
}

/// `ln(1 + t + t^2 / (1 + sqrt(1 + t^2)))` with `t = |x|`.
fn area_sine_h(cx: &mut Context<'_>, x: ValueId) -> Result<ValueId> {
    let size = unary(cx, UnaryFn::Abs, x)?;
    let square = binary(cx, BinaryFn::Mul, size, size)?;
    let more = with_scalar(cx, BinaryFn::Add, square, 1.0)?;
    let root = unary(cx, UnaryFn::Sqrt, more)?;
    let root = with_scalar(cx, BinaryFn::Add, root, 1.0)?;
    let part = binary(cx, BinaryFn::Div, square, root)?;
    let sum = binary(cx, BinaryFn::Add, size, part)?;
    let near = log_1p(cx, sum)?;
    let value = or_log_of_twice(cx, size, near)?;
    signed(cx, x, value)
}

/// `ln(1 + t + sqrt(t (x + 1)))` with `t = x - 1`.
fn area_cosine_h(cx: &mut Context<'_>, x: ValueId) -> Result<ValueId> {
    let t = with_scalar(cx, BinaryFn::Sub, x, 1.0)?;
    let more = with_scalar(cx, BinaryFn::Add, x, 1.0)?;
    let product = binary(cx, BinaryFn::Mul, t, more)?;
    let root = unary(cx, UnaryFn::Sqrt, product)?;
    let sum = binary(cx, BinaryFn::Add, t, root)?;
    let near = log_1p(cx, sum)?;
    or_log_of_twice(cx, x, near)
}

/// `ln(1 + 2 t / (1 - t)) / 2` with `t = |x|`.
fn area_tangent_h(cx: &mut Context<'_>, x: ValueId) -> Result<ValueId> {
    let size = unary(cx, UnaryFn::Abs, x)?;
    let rest = less_from(cx, 1.0, size)?;
    let twice = with_scalar(cx, BinaryFn::Mul, size, 2.0)?;
    let ratio = binary(cx, BinaryFn::Div, twice, rest)?;
    let log = log_1p(cx, ratio)?;
    let value = with_scalar(cx, BinaryFn::Mul, log, 0.5)?;
    signed(cx, x, value)
}
