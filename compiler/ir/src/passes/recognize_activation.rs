//! Recognises activations that an exporter spelled out in arithmetic and gives them their name.
//!
//! | spelling | name |
//! | --- | --- |
//! | `x sigmoid(x)`, `x sigmoid(a x)`, `swish(1)` | `silu`, `swish(a)`, `silu` |
//! | `x hard_sigmoid(x)`, `x clip(x + 3, 0, 6) / 6` | `hard_swish` |
//! | `clip(x + 3, 0, 6) / 6`, `clip(a x + b, 0, 1)` | `hard_sigmoid` |
//! | `x tanh(softplus(x))` | `mish` |
//! | `x (1 + erf(x / sqrt 2)) / 2`, `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2` | `gelu`, `gelu_tanh` |
//! | chains of `max`, `min`, `clip`, `relu` with scalars | `relu` or one `clip` |
//! | `prelu` with a scalar slope | `leaky_relu` |
//! | division by powers of two | `mul` |
//!
//! Factors may stand in any order and nesting. Invariant: the arithmetic that remains is not an activation known to
//! [`UnaryFn`].

use std::ops::RangeInclusive;

use super::matching::{binary, close, is_one, parameter, scalar, shared, unary, unary_of, with_scalar};
use super::{Context, Outcome, Rewrite, first, rewrite};
use crate::error::Result;
use crate::graph::{Graph, Patch, ValueId};
use crate::ops::literal::Literal;
use crate::ops::{Binary, Unary};
use crate::scalar::{BinaryFn, UnaryFn};
use crate::types::DType;

/// The rules of the pass.
pub(super) const RULES: &[Rewrite] = &[product, limits, hard_sigmoid, single, division];

/// Nested products deeper than this are not looked through.
const MAX_DEPTH: usize = 6;
const SIXTH: f64 = 1.0 / 6.0;
/// Scalars whose product with an element overflows only near the ends of the range.
const MODEST: RangeInclusive<f64> = 1.0 / (1 << 24) as f64..=(1 << 24) as f64;

/// Runs the pass.
pub fn run(graph: Graph, cx: &mut Context) -> Result<Graph> {
    rewrite(graph, cx, |graph, id| first(graph, id, RULES))
}

fn named(id: ValueId, function: UnaryFn, x: ValueId) -> Outcome {
    Outcome::Replace(Patch::with_op(id, function.spelling().0, Unary { function }, &[x]))
}

/// `x` times a gate computed from `x`.
///
/// Holds: to the rounding of the steps between; where one of them overflows the name may give the number that it hid. At an infinity
/// and a NaN the name gives what the spelling does, `-inf` times a gate of 0 being NaN.
/// Needs: constants that are the function's to the rounding of their type, and factors that are neither large nor small.
fn product(graph: &Graph, id: ValueId) -> Outcome {
    let whole = factors(graph, id);
    let [a, b] = whole.of[..] else { return Outcome::NoMatch };
    for (x, gate) in [(a, b), (b, a)] {
        let function = match gated(graph, x, gate, whole.scale) {
            None => continue,
            Some(Err(obstacle)) => return Outcome::Declined(obstacle),
            Some(Ok(function)) => function,
        };
        let obstacle = shared(graph, gate).or_else(|| whole.immodest());
        return match obstacle {
            Some(obstacle) => Outcome::Declined(format!("{}: {obstacle}", function.spelling().0)),
            None => named(id, function, x),
        };
    }
    Outcome::NoMatch
}

/// A product as a scalar and the factors that are not.
struct Product {
    scale: f64,
    of: Vec<ValueId>,
    /// How many scalars make up `scale`.
    scalars: usize,
    /// Whether each of them is within [`MODEST`] of 1, so that their product overflows only where the whole nearly does.
    modest: bool,
}

impl Product {
    /// Why the order of the scalars cannot be changed, if it cannot.
    fn immodest(&self) -> Option<String> {
        (!self.modest).then(|| "factors beyond 2^24 or below 2^-24 may overflow before others make up for them".into())
    }
}

/// The product at `id`; looks through products and quotients that have no other user.
fn factors(graph: &Graph, id: ValueId) -> Product {
    let mut out = Product { scale: 1.0, of: Vec::new(), scalars: 0, modest: true };
    let mut stack = vec![(id, 0)];
    while let Some((at, depth)) = stack.pop() {
        let inner = at == id || (depth < MAX_DEPTH && graph.single_user(at).is_some());
        let ty = graph.ty(at);
        let scaled = || {
            let of = |function| with_scalar(graph, at, function).map(|(x, scalar)| (x, scalar, function));
            of(BinaryFn::Mul).or_else(|| of(BinaryFn::Div))
        };
        if !inner || !ty.dtype.is_float() || ty != graph.ty(id) {
            out.of.push(at);
        } else if let Some((x, scalar, function)) = scaled() {
            out.scale = function.eval(out.scale, scalar);
            out.scalars += 1;
            out.modest &= MODEST.contains(&scalar.abs());
            stack.push((x, depth + 1));
        } else if let Some((BinaryFn::Mul, a, b)) = binary(graph, at) {
            stack.extend([(b, depth + 1), (a, depth + 1)]);
        } else {
            out.of.push(at);
        }
    }
    out
}

/// The function `scale * x * gate`, or why it has no name although it is spelled like one.
fn gated(graph: &Graph, x: ValueId, gate: ValueId, scale: f64) -> Option<Result<UnaryFn, String>> {
    let dtype = graph.ty(x).dtype;
    if is_one(dtype, scale) {
        return match unary(graph, gate)? {
            (UnaryFn::Sigmoid, y) if y == x => Some(Ok(UnaryFn::Silu)),
            (UnaryFn::Sigmoid, y) => match with_scalar(graph, y, BinaryFn::Mul)? {
                (z, alpha) if z == x => Some(swish(dtype, alpha)),
                _ => None,
            },
            (UnaryFn::HardSigmoid(a, b), y) if y == x && close(dtype, a.into(), SIXTH) && b == 0.5 => {
                Some(Ok(UnaryFn::HardSwish))
            }
            (UnaryFn::Tanh, y) if unary_of(graph, y, UnaryFn::Softplus) == Some(x) => Some(Ok(UnaryFn::Mish)),
            _ => None,
        };
    }
    if close(dtype, scale, SIXTH) {
        return (relu6_of_plus_three(graph, gate)? == x).then_some(Ok(UnaryFn::HardSwish));
    }
    let (inner, 1.0) = with_scalar(graph, gate, BinaryFn::Add)? else { return None };
    match unary(graph, inner)? {
        (UnaryFn::Erf, y) if close(dtype, scale, 0.5) => {
            let root = factors(graph, y);
            let spelled = root.of == [x] && root.modest && close(dtype, root.scale, std::f64::consts::FRAC_1_SQRT_2);
            spelled.then_some(Ok(UnaryFn::Gelu))
        }
        (UnaryFn::Tanh, y) if close(dtype, scale, 0.5) => is_gelu_inner(graph, x, y).then_some(Ok(UnaryFn::GeluTanh)),
        _ => None,
    }
}

/// `x sigmoid(alpha x)`, whose kernels multiply `alpha` by `log2(e)`.
fn swish(dtype: DType, alpha: f64) -> Result<UnaryFn, String> {
    let alpha = parameter(dtype, alpha).map_err(|obstacle| format!("swish: {obstacle}"))?;
    let most = f32::MAX / 2.0;
    if alpha.abs() > most { Err(format!("swish: alpha is beyond {most:.2e}")) } else { Ok(UnaryFn::Swish(alpha)) }
}

/// Whether `y` is `sqrt(2 / pi) (x + 0.044715 x^3)`, or the same with `x` factored out.
fn is_gelu_inner(graph: &Graph, x: ValueId, y: ValueId) -> bool {
    const CUBIC: f64 = 0.044715;
    let dtype = graph.ty(x).dtype;
    let outer = factors(graph, y);
    let cubic = |id: ValueId, exponent: u32| {
        let part = factors(graph, id);
        part.modest && close(dtype, part.scale, CUBIC) && power(graph, x, &part.of) == Some(exponent)
    };
    let factored =
        |sum: ValueId| matches!(with_scalar(graph, sum, BinaryFn::Add), Some((square, 1.0)) if cubic(square, 2));
    let plain = |sum: ValueId| {
        let Some((BinaryFn::Add, a, b)) = binary(graph, sum) else { return false };
        let (linear, cube) = if a == x { (a, b) } else { (b, a) };
        linear == x && cubic(cube, 3)
    };
    outer.modest
        && close(dtype, outer.scale, (2.0 / std::f64::consts::PI).sqrt())
        && match outer.of[..] {
            [sum] => plain(sum),
            [a, b] => (a == x && factored(b)) || (b == x && factored(a)),
            _ => false,
        }
}

/// The exponent of `x` in a product of powers of `x`.
fn power(graph: &Graph, x: ValueId, factors: &[ValueId]) -> Option<u32> {
    factors.iter().try_fold(0, |sum, factor| {
        if *factor == x {
            return Some(sum + 1);
        }
        match (with_scalar(graph, *factor, BinaryFn::Pow), binary(graph, *factor)) {
            (Some((y, n)), _) if y == x && (n == 2.0 || n == 3.0) => Some(sum + n as u32),
            (_, Some((BinaryFn::Mul, a, b))) if a == x && b == x => Some(sum + 2),
            _ => None,
        }
    })
}

fn relu6_of_plus_three(graph: &Graph, id: ValueId) -> Option<ValueId> {
    let sum = unary_of(graph, id, UnaryFn::Clip(0.0, 6.0))?;
    plus(graph, sum).filter(|(_, s)| *s == 3.0).map(|(x, _)| x)
}

/// `(x, s)` of `x + s` or `x - -s`.
fn plus(graph: &Graph, id: ValueId) -> Option<(ValueId, f64)> {
    with_scalar(graph, id, BinaryFn::Add).or_else(|| with_scalar(graph, id, BinaryFn::Sub).map(|(x, s)| (x, -s)))
}

/// Limits on a value: `(x, lo, hi)`.
fn limited(graph: &Graph, id: ValueId) -> Option<(ValueId, f32, f32)> {
    if graph.ty(id).dtype != DType::F32 {
        return None;
    }
    let limits = match unary(graph, id) {
        Some((UnaryFn::Relu, x)) => (x, 0.0, f32::INFINITY),
        Some((UnaryFn::Clip(lo, hi), x)) => (x, lo, hi),
        Some(_) => return None,
        None => match with_scalar(graph, id, BinaryFn::Max) {
            Some((x, s)) => (x, s as f32, f32::INFINITY),
            None => {
                let (x, s) = with_scalar(graph, id, BinaryFn::Min)?;
                (x, f32::NEG_INFINITY, s as f32)
            }
        },
    };
    (limits.1 <= limits.2).then_some(limits)
}

/// One function for a chain of limits.
///
/// Holds: exactly, a NaN included, but for the sign of a zero that is also a limit.
/// Needs: limits that are numbers or infinities, each pair in order.
fn limits(graph: &Graph, id: ValueId) -> Outcome {
    let Some((mut x, mut lo, mut hi)) = limited(graph, id) else { return Outcome::NoMatch };
    while let Some((y, inner_lo, inner_hi)) = limited(graph, x).filter(|_| graph.single_user(x).is_some()) {
        let outer = |v: f32| v.max(lo).min(hi);
        (x, lo, hi) = (y, outer(inner_lo), outer(inner_hi));
    }
    let function = if lo == 0.0 && hi == f32::INFINITY { UnaryFn::Relu } else { UnaryFn::Clip(lo, hi) };
    if unary(graph, id) == Some((function, x)) { Outcome::NoMatch } else { named(id, function, x) }
}

/// `clip(x + 3, 0, 6) / 6` and `clip(a x + b, 0, 1)`.
///
/// Holds: to the rounding of the steps between; where one of them overflows the name may give the number that it hid.
/// Needs: `a` and `b` that `f32` holds, and where `a` is made of several factors none that is large or small.
fn hard_sigmoid(graph: &Graph, id: ValueId) -> Outcome {
    let dtype = graph.ty(id).dtype;
    let whole = factors(graph, id);
    let sixth = match whole.of[..] {
        [gate] if gate != id && close(dtype, whole.scale, SIXTH) => relu6_of_plus_three(graph, gate).map(|x| (gate, x)),
        _ => None,
    };
    let declined = |obstacle: String| Outcome::Declined(format!("hard_sigmoid: {obstacle}"));
    if let Some((gate, x)) = sixth {
        let obstacle = shared(graph, gate).or_else(|| whole.immodest());
        return match obstacle.map_or_else(|| parameter(dtype, SIXTH), Err) {
            Err(obstacle) => declined(obstacle),
            Ok(alpha) => named(id, UnaryFn::HardSigmoid(alpha, 0.5), x),
        };
    }
    let Some(sum) = unary_of(graph, id, UnaryFn::Clip(0.0, 1.0)) else { return Outcome::NoMatch };
    let Some((scaled, beta)) = plus(graph, sum) else { return Outcome::NoMatch };
    let line = factors(graph, scaled);
    let [x] = line.of[..] else { return Outcome::NoMatch };
    if x == scaled {
        return Outcome::NoMatch;
    }
    if let Some(obstacle) = line.immodest().filter(|_| line.scalars > 1) {
        return declined(obstacle);
    }
    match (parameter(dtype, line.scale), parameter(dtype, beta)) {
        (Ok(alpha), Ok(beta)) => named(id, UnaryFn::HardSigmoid(alpha, beta), x),
        (Err(obstacle), _) | (_, Err(obstacle)) => declined(obstacle),
    }
}

/// Functions with a plainer name.
///
/// Holds: exactly.
/// Needs: nothing of the constants.
fn single(graph: &Graph, id: ValueId) -> Outcome {
    if let Some(x) = unary_of(graph, id, UnaryFn::Swish(1.0)) {
        return named(id, UnaryFn::Silu, x);
    }
    match with_scalar(graph, id, BinaryFn::Prelu) {
        Some((x, slope)) if graph.ty(id).dtype == DType::F32 => named(id, UnaryFn::LeakyRelu(slope as f32), x),
        _ => Outcome::NoMatch,
    }
}

/// Division by a scalar whose reciprocal is exact.
///
/// Holds: exactly.
/// Needs: a power of two whose reciprocal is a normal number.
fn division(graph: &Graph, id: ValueId) -> Outcome {
    let Some((BinaryFn::Div, x, divisor)) = binary(graph, id) else { return Outcome::NoMatch };
    let (Some(s), ty) = (scalar(graph, divisor), graph.ty(divisor)) else { return Outcome::NoMatch };
    let is_power_of_two =
        ty.dtype == DType::F32 && (s as f32).to_bits() & 0x007f_ffff == 0 && (1e-30..1e30).contains(&s.abs());
    if !is_power_of_two {
        return Outcome::NoMatch;
    }
    let origins = graph.producer(divisor).constant().map(|c| c.origins.clone()).unwrap_or_default();
    let mut patch = Patch::new(id, "mul by the reciprocal");
    let reciprocal = Literal::new_float(ty.clone(), vec![1.0 / s]).to_constant().with_origins(origins);
    let reciprocal = patch.constant(graph.name_of(divisor), reciprocal);
    patch.op(Binary { function: BinaryFn::Mul }, &[x.into(), reciprocal]);
    Outcome::Replace(patch)
}
