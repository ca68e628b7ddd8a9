//! Functions of `f32` lanes, written against the vector machine: the same bits on every back end with FMA.
//!
//! Every function states its domain, its error and what happens at infinities and NaN; there is a test per statement. Where
//! nothing is said, a NaN gives a NaN. [`error_bound`] is the statement about errors as a function, which the tests of kernels use too.
//! Functions work on several vectors at once, stage by stage, so that constants are loaded once for all of them.

mod double;
mod exp;
mod log;
mod round;
mod saturating;
mod slope;
#[cfg(test)]
mod tests;
mod trigonometric;
pub mod wide;

pub use double::{power, remainder};
pub use slope::{derivative, with_slope};

use super::{Cmp, Element, Emitter, V, VOp};
use fornax_ir::scalar::UnaryFn;
use fornax_ir::types::DType;

/// Applies `f` to each of `xs`, in place. `Not` and `IsNan` give 0 or 1.
pub fn unary(e: &mut dyn Emitter, f: UnaryFn, xs: &[V]) {
    use UnaryFn::*;
    match f {
        Relu => constant_op(e, VOp::Max, 0.0, xs),
        Clip(lo, hi) if lo.is_nan() || hi.is_nan() => constant_op(e, VOp::Add, f32::NAN, xs),
        Clip(lo, hi) => clip(e, lo, hi, xs),
        Sigmoid => exp::sigmoid(e, xs),
        HardSigmoid(alpha, beta) => hard_sigmoid(e, alpha, beta, xs),
        HardSwish => with_copies(e, xs, |e, ys| {
            hard_sigmoid(e, 1.0 / 6.0, 0.5, ys);
            pairs(e, VOp::Mul, xs, ys);
        }),
        Silu => exp::silu(e, xs),
        Swish(alpha) => exp::swish(e, alpha, xs),
        Tanh => saturating::tanh(e, xs),
        Elu(alpha) => exp::elu(e, alpha, 1.0, 1.0, xs),
        Selu(alpha, gamma) => exp::elu(e, alpha, 1.0, gamma, xs),
        Celu(alpha) if alpha > 0.0 && alpha.is_finite() => exp::elu(e, alpha, alpha, 1.0, xs),
        Celu(alpha) => double::celu(e, alpha, xs),
        LeakyRelu(alpha) => leaky_relu(e, alpha, xs),
        ThresholdedRelu(alpha) => thresholded_relu(e, alpha, xs),
        Gelu => saturating::gelu(e, xs),
        GeluTanh => exp::gelu_tanh(e, xs),
        Mish => exp::mish(e, xs),
        Softplus => log::softplus(e, xs),
        Softsign => double::softsign(e, xs),
        Neg => mask(e, VOp::Xor, 0x8000_0000, xs),
        Abs => mask(e, VOp::And, 0x7FFF_FFFF, xs),
        Exp => exp::exp(e, xs),
        Log => log::log(e, xs),
        Sqrt => xs.iter().for_each(|x| e.sqrt(Element::F32, *x, *x)),
        Reciprocal => constant_op(e, VOp::Div, 1.0, xs),
        Floor => round::floor(e, xs),
        Ceil => round::ceil(e, xs),
        Round => xs.iter().for_each(|x| e.round(*x, *x)),
        Sign => round::sign(e, xs),
        Erf => saturating::erf(e, xs),
        Sin => trigonometric::sine(e, 0, xs),
        Cos => trigonometric::sine(e, 1, xs),
        Not => truth(e, Cmp::Equal, xs, true),
        IsNan => truth(e, Cmp::Unordered, xs, false),
    }
}

/// As [`unary`], where results are stored as elements of type `to`: of `bf16` an error that its rounding hides is allowed.
pub fn unary_to(e: &mut dyn Emitter, f: UnaryFn, to: DType, xs: &[V]) {
    match (f, to) {
        (UnaryFn::Silu, DType::BF16) => exp::short_silu(e, xs),
        _ => unary(e, f, xs),
    }
}

/// The stated error of `unary`: `|computed - exact| <= error_bound(f, exact)` for the arguments that a function's domain allows.
///
/// It is `ulps * 2^-23 * max(|exact|, floor)`: below the floor the error is absolute.
pub fn error_bound(f: UnaryFn, exact: f64) -> f64 {
    let (ulps, floor) = f.error();
    ulps * 2f64.powi(-23) * exact.abs().max(floor)
}

/// Runs `body` with a register that holds `value`.
fn with_constant(e: &mut dyn Emitter, value: f32, body: impl FnOnce(&mut dyn Emitter, V)) {
    let c = e.constant(value);
    body(e, c);
    e.free_v(c);
}

/// `n` fresh registers.
fn fresh(e: &mut dyn Emitter, n: usize) -> Vec<V> {
    (0..n).map(|_| e.v()).collect()
}

fn free(e: &mut dyn Emitter, vs: &[V]) {
    for v in vs {
        e.free_v(*v);
    }
}

/// Runs `body` with copies of `xs`.
fn with_copies(e: &mut dyn Emitter, xs: &[V], body: impl FnOnce(&mut dyn Emitter, &[V])) {
    let ys = fresh(e, xs.len());
    for (x, y) in xs.iter().zip(&ys) {
        e.copy_v(*y, *x);
    }
    body(e, &ys);
    free(e, &ys);
}

/// `x = c op x`. With `Min` and `Max` a NaN stays.
fn constant_op(e: &mut dyn Emitter, op: VOp, c: f32, xs: &[V]) {
    with_constant(e, c, |e, c| xs.iter().for_each(|x| e.op(op, Element::F32, *x, c, *x)));
}

/// `x = x op bits`, bitwise.
fn mask(e: &mut dyn Emitter, op: VOp, bits: u32, xs: &[V]) {
    with_constant(e, f32::from_bits(bits), |e, c| xs.iter().for_each(|x| e.op(op, Element::F32, *x, *x, c)));
}

/// `x = x op y`, pair by pair.
fn pairs(e: &mut dyn Emitter, op: VOp, xs: &[V], ys: &[V]) {
    for (x, y) in xs.iter().zip(ys) {
        e.op(op, Element::F32, *x, *x, *y);
    }
}

/// The polynomial with `coefficients`, highest power first, by Horner's rule, in fresh registers.
fn polynomial(e: &mut dyn Emitter, xs: &[V], coefficients: &[f32]) -> Vec<V> {
    let mut sums = fresh(e, xs.len());
    let (c, mut next) = (e.v(), e.v());
    for (k, coefficient) in coefficients.iter().enumerate() {
        e.splat(c, coefficient.to_bits());
        for (x, sum) in xs.iter().zip(&mut sums) {
            if k == 0 {
                e.copy_v(*sum, c);
            } else {
                e.copy_v(next, c);
                e.fma(next, *sum, *x);
                std::mem::swap(sum, &mut next);
            }
        }
    }
    free(e, &[c, next]);
    sums
}

fn clip(e: &mut dyn Emitter, lo: f32, hi: f32, xs: &[V]) {
    constant_op(e, VOp::Max, lo, xs);
    constant_op(e, VOp::Min, hi, xs);
}

/// `min(max(alpha x + beta, 0), 1)`, one rounding before the bounds. Infinities give 0 and 1 unless alpha is 0.
fn hard_sigmoid(e: &mut dyn Emitter, alpha: f32, beta: f32, xs: &[V]) {
    let (alpha, beta, sum) = (e.constant(alpha), e.constant(beta), e.v());
    for x in xs {
        e.copy_v(sum, beta);
        e.fma(sum, *x, alpha);
        e.copy_v(*x, sum);
    }
    free(e, &[alpha, beta, sum]);
    clip(e, 0.0, 1.0, xs);
}

fn leaky_relu(e: &mut dyn Emitter, alpha: f32, xs: &[V]) {
    let (alpha, zero, scaled) = (e.constant(alpha), e.constant(0.0), e.v());
    for x in xs {
        e.op(VOp::Mul, Element::F32, scaled, *x, alpha);
        e.select(Element::F32, *x, Cmp::Less, [*x, zero], scaled, *x);
    }
    free(e, &[alpha, zero, scaled]);
}

/// A NaN gives 0: it is not above alpha.
fn thresholded_relu(e: &mut dyn Emitter, alpha: f32, xs: &[V]) {
    let (alpha, zero) = (e.constant(alpha), e.constant(0.0));
    for x in xs {
        e.select(Element::F32, *x, Cmp::Less, [alpha, *x], *x, zero);
    }
    free(e, &[alpha, zero]);
}

/// 1 where `x cmp (zero or x)` holds, else 0.
fn truth(e: &mut dyn Emitter, cmp: Cmp, xs: &[V], against_zero: bool) {
    let (zero, one) = (e.constant(0.0), e.constant(1.0));
    for x in xs {
        e.select(Element::F32, *x, cmp, [*x, if against_zero { zero } else { *x }], one, zero);
    }
    free(e, &[zero, one]);
}
