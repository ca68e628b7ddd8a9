//! Scalar functions: what element-wise operators and epilogues compute, element by element.
//!
//! The enums are shared by the graph (attributes), the kernels (epilogues, loop bodies) and the reference evaluator, which
//! uses [`UnaryFn::eval`] and [`BinaryFn::eval`]: plain formulas in `f64` over the `libm` crate, so that constants fold to
//! the same bits on every build machine.

mod derivative;

use std::hash::{Hash, Hasher};

pub use derivative::{Expression, Step, WithSlope};

/// Declares the functions of one element, a row each: what it is, its variant with parameters, its mnemonic, whether it may end a
/// convolution or matrix product (`activation`) or not (`function`), the error that computing it in `f32` may have (see
/// [`UnaryFn::error`]), and its value in `f64`.
macro_rules! functions {
    ($(
        $about:literal, $f:ident $(($($p:ident),+))?, $name:literal, $role:ident, ($ulps:expr, $floor:expr),
        $x:ident => $value:expr;
    )*) => {
        /// A function of one element. Parameters are part of the function; those of equal functions have the same bits.
        #[derive(Clone, Copy, Debug)]
        pub enum UnaryFn { $(#[doc = $about] $f $(($(functions!(@parameter $p)),+))?),* }

        impl UnaryFn {
            /// What tells functions apart.
            fn key(self) -> (std::mem::Discriminant<Self>, [u32; 2]) {
                let parameters = match self { $(Self::$f $(($($p),+))? => functions!(@bits $($($p),+)?)),* };
                (std::mem::discriminant(&self), parameters)
            }

            /// Every mnemonic, in table order.
            pub const MNEMONICS: &[&str] = &[$($name),*];

            /// Mnemonic and parameters, as in the text form: `silu`, `clip(0, 6)`.
            pub fn spelling(self) -> (&'static str, Vec<f32>) {
                match self { $(Self::$f $(($($p),+))? => ($name, vec![$($($p),+)?])),* }
            }

            /// The function of a mnemonic and its parameters.
            pub fn from_spelling(name: &str, p: &[f32]) -> Option<Self> {
                match (name, p) {
                    $(($name, [$($($p),+)?]) => Some(Self::$f $(($(*$p),+))?),)*
                    _ => None,
                }
            }

            /// Whether the function may end a convolution or matrix product: `f32` to `f32`, from the activation families.
            pub fn is_activation(self) -> bool {
                match self { $(Self::$f { .. } => functions!(@$role)),* }
            }

            /// The error that computing the function in `f32` may have, in units of 2^-23 of the larger of the result and a floor.
            pub fn error(self) -> (f64, f64) {
                match self { $(Self::$f { .. } => ($ulps, $floor)),* }
            }

            /// The value of the function in `f64`.
            pub fn eval(self, argument: f64) -> f64 {
                match self {
                    $(Self::$f $(($($p),+))? => {
                        $($(let $p = f64::from($p);)+)?
                        let $x = argument;
                        $value
                    }),*
                }
            }
        }
    };
    (@parameter $p:ident) => { f32 };
    (@bits) => { [0, 0] };
    (@bits $a:ident) => { [$a.to_bits(), 0] };
    (@bits $a:ident, $b:ident) => { [$a.to_bits(), $b.to_bits()] };
    (@activation) => { true };
    (@function) => { false };
}

/// Below this an error is that of a subnormal.
const TINY: f64 = 1.2e-38;

functions! {
    "`max(x, 0)`", Relu, "relu", activation, (0.5, TINY), x => pick_max(0.0, x);
    "`min(max(x, lo), hi)`; ReLU6 is `clip(0, 6)`", Clip(lo, hi), "clip", activation, (0.5, TINY),
        x => pick_min(hi, pick_max(lo, x));
    "`1 / (1 + exp(-x))`", Sigmoid, "sigmoid", activation, (2.0, 0.01), x => sigmoid(x);
    "`min(max(alpha x + beta, 0), 1)`", HardSigmoid(alpha, beta), "hard_sigmoid", activation, (2.0, 1.0),
        x => pick_min(pick_max(alpha * x + beta, 0.0), 1.0);
    "`x min(max(x / 6 + 1 / 2, 0), 1)`", HardSwish, "hard_swish", activation, (2.0, 1.0),
        x => x * pick_min(pick_max(x / 6.0 + 0.5, 0.0), 1.0);
    "`x sigmoid(x)`", Silu, "silu", activation, (2.5, 0.1), x => x * sigmoid(x);
    "`x sigmoid(alpha x)`", Swish(alpha), "swish", activation, (3.5, 0.1), x => x * sigmoid(alpha * x);
    "hyperbolic tangent", Tanh, "tanh", activation, (2.0, TINY), x => libm::tanh(x);
    "`x` above zero, `alpha (exp(x) - 1)` below", Elu(alpha), "elu", activation, (3.0, TINY),
        x => if x < 0.0 { alpha * libm::expm1(x) } else { x };
    "`x` above zero, `alpha x` below", LeakyRelu(alpha), "leaky_relu", activation, (0.5, TINY),
        x => if x < 0.0 { alpha * x } else { x };
    "`gamma (x > 0 ? x : alpha (exp(x) - 1))`, parameters (alpha, gamma)", Selu(alpha, gamma), "selu", activation, (3.0, TINY),
        x => gamma * if x < 0.0 { alpha * libm::expm1(x) } else { x };
    "`max(0, x) + min(0, alpha (exp(x / alpha) - 1))`", Celu(alpha), "celu", activation, (3.0, TINY),
        x => pick_max(x, 0.0) + pick_min(alpha * libm::expm1(x / alpha), 0.0);
    "`x` above alpha, else 0", ThresholdedRelu(alpha), "thresholded_relu", activation, (0.5, TINY),
        x => if x > alpha { x } else { 0.0 };
    "`x (1 + erf(x / sqrt 2)) / 2`", Gelu, "gelu", activation, (3.0, 1.0),
        x => 0.5 * x * (1.0 + libm::erf(x / std::f64::consts::SQRT_2));
    "`x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`", GeluTanh, "gelu_tanh", activation, (4.0, 1.0),
        x => 0.5 * x * (1.0 + libm::tanh((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)));
    "`x tanh(ln(1 + exp(x)))`", Mish, "mish", activation, (4.0, 0.1), x => x * libm::tanh(softplus(x));
    "`ln(1 + exp(x))`", Softplus, "softplus", activation, (2.5, TINY), x => softplus(x);
    "`x / (1 + |x|)`", Softsign, "softsign", activation, (0.6, TINY), x => x / (1.0 + x.abs());
    "`-x`", Neg, "neg", function, (0.5, TINY), x => -x;
    "`|x|`", Abs, "abs", function, (0.5, TINY), x => x.abs();
    "`exp(x)`", Exp, "exp", function, (1.0, TINY), x => libm::exp(x);
    "natural logarithm", Log, "log", function, (1.5, TINY), x => libm::log(x);
    "square root", Sqrt, "sqrt", function, (0.5, TINY), x => x.sqrt();
    "`1 / x`", Reciprocal, "reciprocal", function, (0.5, TINY), x => 1.0 / x;
    "largest integer not above `x`", Floor, "floor", function, (0.0, 0.0), x => x.floor();
    "smallest integer not below `x`", Ceil, "ceil", function, (0.0, 0.0), x => x.ceil();
    "nearest integer, ties to even", Round, "round", function, (0.0, 0.0), x => x.round_ties_even();
    "-1, 0 or 1", Sign, "sign", function, (0.0, 0.0), x => if x > 0.0 { 1.0 } else if x < 0.0 { -1.0 } else { x };
    "error function", Erf, "erf", function, (3.5, TINY), x => libm::erf(x);
    "sine", Sin, "sin", function, (1.0, TINY), x => libm::sin(x);
    "cosine", Cos, "cos", function, (1.0, TINY), x => libm::cos(x);
    "logical negation (bool)", Not, "not", function, (0.0, 0.0), x => f64::from(x == 0.0);
    "whether `x` is a NaN (bool result)", IsNan, "is_nan", function, (0.0, 0.0), x => f64::from(x.is_nan());
}

impl PartialEq for UnaryFn {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for UnaryFn {}

impl Hash for UnaryFn {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.key().hash(state);
    }
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + libm::exp(-x))
}

fn softplus(x: f64) -> f64 {
    if x > 0.0 { x + libm::log1p(libm::exp(-x)) } else { libm::log1p(libm::exp(x)) }
}

/// The larger; a NaN operand wins, and of two zeros the second, the operand of functions of one (`f64::max` leaves open which).
fn pick_max(a: f64, b: f64) -> f64 {
    if a.is_nan() || a > b { a } else { b }
}

/// The smaller; a NaN operand wins, and of two zeros the second.
fn pick_min(a: f64, b: f64) -> f64 {
    if a.is_nan() || a < b { a } else { b }
}

/// The larger; a NaN operand wins, and 0 is larger than -0.
fn maximum(a: f64, b: f64) -> f64 {
    if a == 0.0 && b == 0.0 { a + b } else { pick_max(a, b) }
}

/// The smaller; a NaN operand wins, and -0 is smaller than 0.
fn minimum(a: f64, b: f64) -> f64 {
    if a == 0.0 && b == 0.0 { -(-a - b) } else { pick_min(a, b) }
}

/// The remainder with the divisor's sign, exact but for one rounding; a divisor of infinity leaves `a` or takes its place.
fn floored_remainder(a: f64, b: f64) -> f64 {
    let r = libm::fmod(a, b);
    // Of their signs, as the product of tiny numbers is zero.
    if r != 0.0 && (r < 0.0) != (b < 0.0) { r + b } else { r }
}

/// Declares the functions of two elements, a row each: what it is, its variant, its mnemonic, whether the result is `bool` whatever the
/// operands are (`comparison`) or of their type (`value`), and its values for floating-point operands, in `f64`, and for integers.
macro_rules! binary_functions {
    ($($about:literal, $f:ident, $name:literal, $role:ident, ($a:ident, $b:ident) => $float:expr, $int:expr;)*) => {
        /// A function of two elements of one type, after broadcasting.
        #[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
        pub enum BinaryFn { $(#[doc = $about] $f),* }

        impl BinaryFn {
            /// Every function, in table order.
            pub const ALL: &[Self] = &[$(Self::$f),*];

            /// Every mnemonic, in table order.
            pub const MNEMONICS: &[&str] = &[$($name),*];

            /// Mnemonic of the text form.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$f => $name),* }
            }

            /// The function of a mnemonic.
            pub fn from_name(name: &str) -> Option<Self> {
                match name {
                    $($name => Some(Self::$f),)*
                    _ => None,
                }
            }

            /// Whether the result is `bool` whatever the operands are.
            pub fn is_comparison(self) -> bool {
                match self { $(Self::$f => binary_functions!(@$role)),* }
            }

            /// The value for floating-point operands, in `f64`. Logical functions see 0 and 1.
            pub fn eval(self, a: f64, b: f64) -> f64 {
                match self { $(Self::$f => { let ($a, $b) = (a, b); $float }),* }
            }

            /// The value for integer operands; wraps, and division by zero gives 0 (the kernels agree).
            pub fn eval_int(self, a: i64, b: i64) -> i64 {
                match self { $(Self::$f => { let ($a, $b) = (a, b); $int }),* }
            }
        }
    };
    (@comparison) => { true };
    (@value) => { false };
}

binary_functions! {
    "`a + b`", Add, "add", value, (a, b) => a + b, a.wrapping_add(b);
    "`a - b`", Sub, "sub", value, (a, b) => a - b, a.wrapping_sub(b);
    "`a * b`", Mul, "mul", value, (a, b) => a * b, a.wrapping_mul(b);
    "`a / b`; integers truncate", Div, "div", value, (a, b) => a / b, if b == 0 { 0 } else { a.wrapping_div(b) };
    "`a` to the power `b`", Pow, "pow", value, (a, b) => libm::pow(a, b), int_pow(a, b);
    "the smaller; a NaN operand wins, and -0 is smaller than 0", Min, "min", value, (a, b) => minimum(a, b), a.min(b);
    "the larger; a NaN operand wins, and 0 is larger than -0", Max, "max", value, (a, b) => maximum(a, b), a.max(b);
    "remainder with the divisor's sign (ONNX `Mod`, `fmod=0`)", Mod, "mod", value,
        (a, b) => floored_remainder(a, b), int_mod(a, b);
    "remainder with the dividend's sign (ONNX `Mod`, `fmod=1`)", Fmod, "fmod", value,
        (a, b) => libm::fmod(a, b), if b == 0 { 0 } else { a.wrapping_rem(b) };
    "`a` above zero, `a * b` below", Prelu, "prelu", value,
        (a, b) => if a < 0.0 { a * b } else { a }, if a < 0 { a.wrapping_mul(b) } else { a };
    "`a == b` (bool result)", Equal, "equal", comparison, (a, b) => f64::from(a == b), i64::from(a == b);
    "`a < b` (bool result)", Less, "less", comparison, (a, b) => f64::from(a < b), i64::from(a < b);
    "`a <= b` (bool result)", LessOrEqual, "less_or_equal", comparison,
        (a, b) => f64::from(a <= b), i64::from(a <= b);
    "`a > b` (bool result)", Greater, "greater", comparison, (a, b) => f64::from(a > b), i64::from(a > b);
    "`a >= b` (bool result)", GreaterOrEqual, "greater_or_equal", comparison,
        (a, b) => f64::from(a >= b), i64::from(a >= b);
    "logical and (bool), bitwise and (integers)", And, "and", value,
        (a, b) => f64::from(a != 0.0 && b != 0.0), a & b;
    "logical or (bool), bitwise or (integers)", Or, "or", value,
        (a, b) => f64::from(a != 0.0 || b != 0.0), a | b;
    "logical exclusive or (bool), bitwise exclusive or (integers)", Xor, "xor", value,
        (a, b) => f64::from((a != 0.0) != (b != 0.0)), a ^ b;
}

/// The remainder with the divisor's sign; 0 for a divisor of 0.
fn int_mod(a: i64, b: i64) -> i64 {
    if b == 0 {
        return 0;
    }
    let r = a.wrapping_rem(b);
    if r != 0 && (r < 0) != (b < 0) { r + b } else { r }
}

/// `a` to the power `b` by squaring, wrapping; 0 for negative exponents unless `a` is 1 or -1.
fn int_pow(a: i64, b: i64) -> i64 {
    match (a, b) {
        (1, _) => 1,
        (-1, b) => {
            if b % 2 == 0 {
                1
            } else {
                -1
            }
        }
        (_, b) if b < 0 => 0,
        (a, b) => {
            let (mut base, mut exponent, mut out) = (a, b, 1i64);
            while exponent > 0 {
                if exponent & 1 == 1 {
                    out = out.wrapping_mul(base);
                }
                base = base.wrapping_mul(base);
                exponent >>= 1;
            }
            out
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use UnaryFn::*;

    #[test]
    fn gates_follow_their_formula_at_infinity() {
        for function in [Silu, Swish(0.5), Mish, Gelu, GeluTanh, HardSwish] {
            assert!(function.eval(f64::NEG_INFINITY).is_nan(), "{function:?}: an infinity times 0");
            assert_eq!(function.eval(f64::INFINITY), f64::INFINITY, "{function:?}");
        }
        assert_eq!(Swish(-0.5).eval(f64::NEG_INFINITY), f64::NEG_INFINITY);
    }

    #[test]
    fn a_nan_stays_one_unless_it_is_compared() {
        for function in [
            Relu,
            Clip(0.0, 6.0),
            Sigmoid,
            HardSigmoid(0.2, 0.5),
            HardSwish,
            Silu,
            Swish(2.0),
            Tanh,
            Elu(1.0),
            LeakyRelu(0.1),
            Selu(1.6, 1.05),
            Celu(1.0),
            Gelu,
            GeluTanh,
            Mish,
            Softplus,
            Softsign,
            Neg,
            Abs,
            Exp,
            Log,
            Sqrt,
            Reciprocal,
            Floor,
            Ceil,
            Round,
            Sign,
            Erf,
            Sin,
            Cos,
        ] {
            assert!(function.eval(f64::NAN).is_nan(), "{function:?}");
        }
        assert_eq!((ThresholdedRelu(1.0).eval(f64::NAN), IsNan.eval(f64::NAN)), (0.0, 1.0));
    }

    #[test]
    fn zeros_have_an_order() {
        for (a, b) in [(0.0, -0.0), (-0.0, 0.0)] {
            assert!(BinaryFn::Max.eval(a, b).is_sign_positive() && BinaryFn::Min.eval(a, b).is_sign_negative());
        }
        assert!(BinaryFn::Max.eval(-0.0, -0.0).is_sign_negative() && BinaryFn::Min.eval(0.0, 0.0).is_sign_positive());
        for function in [Relu, Clip(0.0, 6.0), Clip(-1.0, 0.0)] {
            assert!(function.eval(-0.0).is_sign_negative(), "{function:?} leaves a zero as it is");
        }
    }

    #[test]
    fn remainders_are_exact_however_large_the_quotient() {
        let modulo = |a: f64, b: f64| BinaryFn::Mod.eval(a, b);
        assert_eq!(
            [modulo(1e30, 3.0), modulo(-1e30, 3.0), modulo(7.0, -3.0)],
            [libm::fmod(1e30, 3.0), 3.0 - libm::fmod(1e30, 3.0), -2.0]
        );
        assert_eq!([modulo(-1e-302, 1e-300), modulo(1e-302, 1e-300)], [1e-300 - 1e-302, 1e-302]);
        assert_eq!([modulo(1.0, f64::INFINITY), modulo(-1.0, f64::INFINITY)], [1.0, f64::INFINITY]);
        assert!(modulo(f64::INFINITY, 2.0).is_nan() && modulo(1.0, 0.0).is_nan());
    }

    #[test]
    fn celu_takes_any_alpha() {
        let celu = |x: f64| Celu(-1.0).eval(x) as f32;
        assert_eq!([-0.5, 0.5, -1.0, 1.0, -2.0].map(celu), [-0.648_721_3, 0.5, -1.718_281_9, 1.0, -6.389_056]);
        assert_eq!((celu(f64::INFINITY), celu(f64::NEG_INFINITY)), (f32::INFINITY, f32::NEG_INFINITY));
    }

    #[test]
    fn angles_may_be_large() {
        let sine = |x: f32| Sin.eval(f64::from(x)) as f32;
        let expected = [0.992_408_45, 0.545_843_4, -0.487_506_03, 0.020_802_977, 0.874_904_9];
        assert_eq!([5.4e8, 1e9, 1e10, -1e12, 3e38].map(sine), expected);
        assert!(sine(f32::INFINITY).is_nan() && Cos.eval(f64::NEG_INFINITY).is_nan());
        assert!((Cos.eval(f64::from(f32::MAX)).powi(2) + Sin.eval(f64::from(f32::MAX)).powi(2) - 1.0).abs() < 1e-12);
    }
}
