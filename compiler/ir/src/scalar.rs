//! Scalar functions: what element-wise operators and epilogues compute, element by element.
//!
//! The enums are shared by the graph (attributes), the kernels (epilogues, loop bodies) and the reference evaluator, which
//! uses [`UnaryFn::eval`] and [`BinaryFn::eval`]: plain formulas in `f64` over the `libm` crate, so that constants fold to
//! the same bits on every build machine.

use std::hash::{Hash, Hasher};

/// A function of one element. Parameters are part of the function; those of equal functions have the same bits.
#[derive(Clone, Copy, Debug)]
pub enum UnaryFn {
    /// `max(x, 0)`
    Relu,
    /// `min(max(x, lo), hi)`; ReLU6 is `clip(0, 6)`
    Clip(f32, f32),
    /// `1 / (1 + exp(-x))`
    Sigmoid,
    /// `min(max(alpha x + beta, 0), 1)`
    HardSigmoid(f32, f32),
    /// `x min(max(x / 6 + 1 / 2, 0), 1)`
    HardSwish,
    /// `x sigmoid(x)`
    Silu,
    /// `x sigmoid(alpha x)`
    Swish(f32),
    /// hyperbolic tangent
    Tanh,
    /// `x` above zero, `alpha (exp(x) - 1)` below
    Elu(f32),
    /// `x` above zero, `alpha x` below
    LeakyRelu(f32),
    /// `gamma (x > 0 ? x : alpha (exp(x) - 1))`, parameters (alpha, gamma)
    Selu(f32, f32),
    /// `max(0, x) + min(0, alpha (exp(x / alpha) - 1))`
    Celu(f32),
    /// `x` above alpha, else 0
    ThresholdedRelu(f32),
    /// `x (1 + erf(x / sqrt 2)) / 2`
    Gelu,
    /// `x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2`
    GeluTanh,
    /// `x tanh(ln(1 + exp(x)))`
    Mish,
    /// `ln(1 + exp(x))`
    Softplus,
    /// `x / (1 + |x|)`
    Softsign,
    /// `-x`
    Neg,
    /// `|x|`
    Abs,
    /// `exp(x)`
    Exp,
    /// natural logarithm
    Log,
    /// square root
    Sqrt,
    /// `1 / x`
    Reciprocal,
    /// largest integer not above `x`
    Floor,
    /// smallest integer not below `x`
    Ceil,
    /// nearest integer, ties to even
    Round,
    /// -1, 0 or 1
    Sign,
    /// error function
    Erf,
    /// sine
    Sin,
    /// cosine
    Cos,
    /// logical negation (bool)
    Not,
    /// whether `x` is a NaN (bool result)
    IsNan,
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

impl UnaryFn {
    /// What tells functions apart.
    fn key(self) -> (std::mem::Discriminant<Self>, [u32; 2]) {
        use UnaryFn::*;
        let (a, b) = match self {
            Clip(a, b) | HardSigmoid(a, b) | Selu(a, b) => (a, b),
            Swish(a) | Elu(a) | LeakyRelu(a) | Celu(a) | ThresholdedRelu(a) => (a, 0.0),
            _ => (0.0, 0.0),
        };
        (std::mem::discriminant(&self), [a.to_bits(), b.to_bits()])
    }

    /// Mnemonic and parameters, as in the text form: `silu`, `clip(0, 6)`.
    pub fn spelling(self) -> (&'static str, Vec<f32>) {
        use UnaryFn::*;
        match self {
            Relu => ("relu", vec![]),
            Clip(lo, hi) => ("clip", vec![lo, hi]),
            Sigmoid => ("sigmoid", vec![]),
            HardSigmoid(alpha, beta) => ("hard_sigmoid", vec![alpha, beta]),
            HardSwish => ("hard_swish", vec![]),
            Silu => ("silu", vec![]),
            Swish(alpha) => ("swish", vec![alpha]),
            Tanh => ("tanh", vec![]),
            Elu(alpha) => ("elu", vec![alpha]),
            LeakyRelu(alpha) => ("leaky_relu", vec![alpha]),
            Selu(alpha, gamma) => ("selu", vec![alpha, gamma]),
            Celu(alpha) => ("celu", vec![alpha]),
            ThresholdedRelu(alpha) => ("thresholded_relu", vec![alpha]),
            Gelu => ("gelu", vec![]),
            GeluTanh => ("gelu_tanh", vec![]),
            Mish => ("mish", vec![]),
            Softplus => ("softplus", vec![]),
            Softsign => ("softsign", vec![]),
            Neg => ("neg", vec![]),
            Abs => ("abs", vec![]),
            Exp => ("exp", vec![]),
            Log => ("log", vec![]),
            Sqrt => ("sqrt", vec![]),
            Reciprocal => ("reciprocal", vec![]),
            Floor => ("floor", vec![]),
            Ceil => ("ceil", vec![]),
            Round => ("round", vec![]),
            Sign => ("sign", vec![]),
            Erf => ("erf", vec![]),
            Sin => ("sin", vec![]),
            Cos => ("cos", vec![]),
            Not => ("not", vec![]),
            IsNan => ("is_nan", vec![]),
        }
    }

    /// The function of a mnemonic and its parameters.
    pub fn from_spelling(name: &str, p: &[f32]) -> Option<Self> {
        use UnaryFn::*;
        Some(match (name, p) {
            ("relu", []) => Relu,
            ("clip", [lo, hi]) => Clip(*lo, *hi),
            ("sigmoid", []) => Sigmoid,
            ("hard_sigmoid", [alpha, beta]) => HardSigmoid(*alpha, *beta),
            ("hard_swish", []) => HardSwish,
            ("silu", []) => Silu,
            ("swish", [alpha]) => Swish(*alpha),
            ("tanh", []) => Tanh,
            ("elu", [alpha]) => Elu(*alpha),
            ("leaky_relu", [alpha]) => LeakyRelu(*alpha),
            ("selu", [alpha, gamma]) => Selu(*alpha, *gamma),
            ("celu", [alpha]) => Celu(*alpha),
            ("thresholded_relu", [alpha]) => ThresholdedRelu(*alpha),
            ("gelu", []) => Gelu,
            ("gelu_tanh", []) => GeluTanh,
            ("mish", []) => Mish,
            ("softplus", []) => Softplus,
            ("softsign", []) => Softsign,
            ("neg", []) => Neg,
            ("abs", []) => Abs,
            ("exp", []) => Exp,
            ("log", []) => Log,
            ("sqrt", []) => Sqrt,
            ("reciprocal", []) => Reciprocal,
            ("floor", []) => Floor,
            ("ceil", []) => Ceil,
            ("round", []) => Round,
            ("sign", []) => Sign,
            ("erf", []) => Erf,
            ("sin", []) => Sin,
            ("cos", []) => Cos,
            ("not", []) => Not,
            ("is_nan", []) => IsNan,
            _ => return None,
        })
    }

    /// Whether the function may end a convolution or matrix product: `f32` to `f32`, from the activation families.
    pub fn is_activation(self) -> bool {
        use UnaryFn::*;
        !matches!(
            self,
            Neg | Abs | Exp | Log | Sqrt | Reciprocal | Floor | Ceil | Round | Sign | Erf | Sin | Cos | Not | IsNan
        )
    }

    /// The value of the function in `f64`.
    pub fn eval(self, x: f64) -> f64 {
        use UnaryFn::*;
        let sigmoid = |x: f64| 1.0 / (1.0 + libm::exp(-x));
        match self {
            Relu => pick_max(x, 0.0),
            Clip(lo, hi) => pick_min(pick_max(x, f64::from(lo)), f64::from(hi)),
            Sigmoid => sigmoid(x),
            HardSigmoid(alpha, beta) => pick_min(pick_max(f64::from(alpha) * x + f64::from(beta), 0.0), 1.0),
            HardSwish => x * pick_min(pick_max(x / 6.0 + 0.5, 0.0), 1.0),
            Silu => x * sigmoid(x),
            Swish(alpha) => x * sigmoid(f64::from(alpha) * x),
            Tanh => libm::tanh(x),
            Elu(alpha) => {
                if x < 0.0 {
                    f64::from(alpha) * libm::expm1(x)
                } else {
                    x
                }
            }
            LeakyRelu(alpha) => {
                if x < 0.0 {
                    f64::from(alpha) * x
                } else {
                    x
                }
            }
            Selu(alpha, gamma) => f64::from(gamma) * if x <= 0.0 { f64::from(alpha) * libm::expm1(x) } else { x },
            Celu(alpha) => {
                let alpha = f64::from(alpha);
                pick_max(x, 0.0) + pick_min(alpha * libm::expm1(x / alpha), 0.0)
            }
            ThresholdedRelu(alpha) => {
                if x > f64::from(alpha) {
                    x
                } else {
                    0.0
                }
            }
            Gelu => 0.5 * x * (1.0 + libm::erf(x / std::f64::consts::SQRT_2)),
            GeluTanh => {
                let inner = (2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x);
                0.5 * x * (1.0 + libm::tanh(inner))
            }
            Mish => x * libm::tanh(softplus(x)),
            Softplus => softplus(x),
            Softsign => x / (1.0 + x.abs()),
            Neg => -x,
            Abs => x.abs(),
            Exp => libm::exp(x),
            Log => libm::log(x),
            Sqrt => x.sqrt(),
            Reciprocal => 1.0 / x,
            Floor => x.floor(),
            Ceil => x.ceil(),
            Round => x.round_ties_even(),
            Sign => {
                if x > 0.0 {
                    1.0
                } else if x < 0.0 {
                    -1.0
                } else {
                    x
                }
            }
            Erf => libm::erf(x),
            Sin => libm::sin(x),
            Cos => libm::cos(x),
            Not => f64::from(x == 0.0),
            IsNan => f64::from(x.is_nan()),
        }
    }
}

fn softplus(x: f64) -> f64 {
    if x > 0.0 { x + libm::log1p(libm::exp(-x)) } else { libm::log1p(libm::exp(x)) }
}

/// `max` that keeps a NaN operand.
fn pick_max(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.max(b) }
}

/// `min` that keeps a NaN operand.
fn pick_min(a: f64, b: f64) -> f64 {
    if a.is_nan() || b.is_nan() { f64::NAN } else { a.min(b) }
}

/// A function of two elements of one type, after broadcasting.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum BinaryFn {
    /// `a + b`
    Add,
    /// `a - b`
    Sub,
    /// `a * b`
    Mul,
    /// `a / b`; integers truncate
    Div,
    /// `a` to the power `b`
    Pow,
    /// the smaller; a NaN operand wins
    Min,
    /// the larger; a NaN operand wins
    Max,
    /// integer remainder with the divisor's sign (ONNX `Mod`, `fmod=0`)
    Mod,
    /// remainder with the dividend's sign (ONNX `Mod`, `fmod=1`)
    Fmod,
    /// `a` above zero, `a * b` below
    Prelu,
    /// `a == b` (bool result)
    Equal,
    /// `a < b` (bool result)
    Less,
    /// `a <= b` (bool result)
    LessOrEqual,
    /// `a > b` (bool result)
    Greater,
    /// `a >= b` (bool result)
    GreaterOrEqual,
    /// logical and (bool), bitwise and (integers)
    And,
    /// logical or (bool), bitwise or (integers)
    Or,
    /// logical exclusive or (bool), bitwise exclusive or (integers)
    Xor,
}

impl BinaryFn {
    /// Every function, in table order.
    pub const ALL: [Self; 18] = {
        use BinaryFn::*;
        [
            Add,
            Sub,
            Mul,
            Div,
            Pow,
            Min,
            Max,
            Mod,
            Fmod,
            Prelu,
            Equal,
            Less,
            LessOrEqual,
            Greater,
            GreaterOrEqual,
            And,
            Or,
            Xor,
        ]
    };

    /// Mnemonic of the text form.
    pub fn name(self) -> &'static str {
        use BinaryFn::*;
        match self {
            Add => "add",
            Sub => "sub",
            Mul => "mul",
            Div => "div",
            Pow => "pow",
            Min => "min",
            Max => "max",
            Mod => "mod",
            Fmod => "fmod",
            Prelu => "prelu",
            Equal => "equal",
            Less => "less",
            LessOrEqual => "less_or_equal",
            Greater => "greater",
            GreaterOrEqual => "greater_or_equal",
            And => "and",
            Or => "or",
            Xor => "xor",
        }
    }

    /// Whether the result is `bool` whatever the operands are.
    pub fn is_comparison(self) -> bool {
        use BinaryFn::*;
        matches!(self, Equal | Less | LessOrEqual | Greater | GreaterOrEqual)
    }

    /// The value for floating-point operands, in `f64`. Logical functions see 0 and 1.
    pub fn eval(self, a: f64, b: f64) -> f64 {
        use BinaryFn::*;
        match self {
            Add => a + b,
            Sub => a - b,
            Mul => a * b,
            Div => a / b,
            Pow => libm::pow(a, b),
            Min => pick_min(a, b),
            Max => pick_max(a, b),
            Mod => a - (a / b).floor() * b,
            Fmod => libm::fmod(a, b),
            Prelu => {
                if a < 0.0 {
                    a * b
                } else {
                    a
                }
            }
            Equal => f64::from(a == b),
            Less => f64::from(a < b),
            LessOrEqual => f64::from(a <= b),
            Greater => f64::from(a > b),
            GreaterOrEqual => f64::from(a >= b),
            And => f64::from(a != 0.0 && b != 0.0),
            Or => f64::from(a != 0.0 || b != 0.0),
            Xor => f64::from((a != 0.0) != (b != 0.0)),
        }
    }

    /// The value for integer operands; wraps, and division by zero gives 0 (the kernels agree).
    pub fn eval_int(self, a: i64, b: i64) -> i64 {
        use BinaryFn::*;
        match self {
            Add => a.wrapping_add(b),
            Sub => a.wrapping_sub(b),
            Mul => a.wrapping_mul(b),
            Div => {
                if b == 0 {
                    0
                } else {
                    a.wrapping_div(b)
                }
            }
            Pow => int_pow(a, b),
            Min => a.min(b),
            Max => a.max(b),
            Mod => {
                if b == 0 {
                    0
                } else {
                    let r = a.wrapping_rem(b);
                    if r != 0 && (r < 0) != (b < 0) { r + b } else { r }
                }
            }
            Fmod => {
                if b == 0 {
                    0
                } else {
                    a.wrapping_rem(b)
                }
            }
            Prelu => {
                if a < 0 {
                    a.wrapping_mul(b)
                } else {
                    a
                }
            }
            Equal => i64::from(a == b),
            Less => i64::from(a < b),
            LessOrEqual => i64::from(a <= b),
            Greater => i64::from(a > b),
            GreaterOrEqual => i64::from(a >= b),
            And => a & b,
            Or => a | b,
            Xor => a ^ b,
        }
    }
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
