//! Derivatives of scalar functions, as straight-line code that the evaluator runs and a kernel computes.
//!
//! In: a function. Out: an [`Expression`] of its argument. Invariant: every step names earlier ones. At a kink the value is torch's:
//! that of the flat side for rectifiers and clips, 0 for `|x|`.

use super::{BinaryFn, UnaryFn};

/// One step of an expression; steps are named by their positions.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Step {
    /// The argument.
    Argument,
    /// A number.
    Number(f64),
    /// A function of one value.
    Unary(UnaryFn, usize),
    /// A function of two values; comparisons give 0 or 1.
    Binary(BinaryFn, usize, usize),
    /// The second value where the first is not 0, else the third.
    Select(usize, usize, usize),
}

/// Straight-line code over one argument; the value of the last step is the result.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Expression {
    /// The steps, in order.
    pub steps: Vec<Step>,
}

impl Expression {
    /// The value for an argument, in `f64`.
    pub fn eval(&self, argument: f64) -> f64 {
        self.values(argument).last().copied().unwrap_or(0.0)
    }

    /// The value of each step for an argument, in `f64`.
    fn values(&self, argument: f64) -> Vec<f64> {
        let mut values: Vec<f64> = Vec::with_capacity(self.steps.len());
        for step in &self.steps {
            values.push(match *step {
                Step::Argument => argument,
                Step::Number(number) => number,
                Step::Unary(function, a) => function.eval(values[a]),
                Step::Binary(function, a, b) => function.eval(values[a], values[b]),
                Step::Select(condition, a, b) => values[if values[condition] != 0.0 { a } else { b }],
            });
        }
        values
    }

    fn push(&mut self, step: Step) -> usize {
        self.steps.push(step);
        self.steps.len() - 1
    }

    fn number(&mut self, value: impl Into<f64>) -> usize {
        self.push(Step::Number(value.into()))
    }

    fn unary(&mut self, function: UnaryFn, a: usize) -> usize {
        self.push(Step::Unary(function, a))
    }

    fn binary(&mut self, function: BinaryFn, a: usize, b: usize) -> usize {
        self.push(Step::Binary(function, a, b))
    }

    fn add(&mut self, a: usize, b: usize) -> usize {
        self.binary(BinaryFn::Add, a, b)
    }

    fn mul(&mut self, a: usize, b: usize) -> usize {
        self.binary(BinaryFn::Mul, a, b)
    }

    /// `factor * a`
    fn times(&mut self, factor: impl Into<f64>, a: usize) -> usize {
        let factor = self.number(factor);
        self.mul(factor, a)
    }

    /// `1 - a`
    fn one_minus(&mut self, a: usize) -> usize {
        let one = self.number(1.0);
        self.binary(BinaryFn::Sub, one, a)
    }

    /// `yes` where `a > bound`, else `no`
    fn above(&mut self, a: usize, bound: impl Into<f64>, yes: usize, no: usize) -> usize {
        let bound = self.number(bound);
        let condition = self.binary(BinaryFn::Greater, a, bound);
        self.push(Step::Select(condition, yes, no))
    }

    /// `inside` where `low < a < high`, else 0
    fn between(&mut self, a: usize, low: impl Into<f64>, high: impl Into<f64>, inside: usize) -> usize {
        let zero = self.number(0.0);
        let high = self.number(high);
        let below = self.binary(BinaryFn::Less, a, high);
        let below = self.push(Step::Select(below, inside, zero));
        self.above(a, low, below, zero)
    }
}

/// A function and its derivative at the same argument, in steps that both share.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct WithSlope {
    /// The steps; the last one is the derivative.
    pub expression: Expression,
    /// The step that is the function's value.
    pub value: usize,
}

impl WithSlope {
    /// The function's value and its derivative, in `f64`.
    pub fn eval(&self, argument: f64) -> [f64; 2] {
        let values = self.expression.values(argument);
        [values.get(self.value), values.last()].map(|value| value.copied().unwrap_or(0.0))
    }
}

impl UnaryFn {
    /// The function with its derivative, where they share the steps that are dear: those of the sigmoid. For an activation of this kind, to
    /// keep the derivative from when the value is computed costs less than to keep the argument and begin anew.
    ///
    /// The value may differ in the last place from that of the function by itself: it is a product with the sigmoid, not a quotient.
    pub fn with_slope(self) -> Option<WithSlope> {
        let mut e = Expression::default();
        let x = e.push(Step::Argument);
        let value = match self {
            Self::Sigmoid => {
                let s = e.unary(Self::Sigmoid, x);
                let rest = e.one_minus(s);
                e.mul(s, rest);
                s
            }
            Self::Silu | Self::Swish(_) => {
                // s + z s (1 - s), z = alpha x, s = sigmoid(z)
                let z = if let Self::Swish(alpha) = self { e.times(alpha, x) } else { x };
                let s = e.unary(Self::Sigmoid, z);
                let value = e.mul(x, s);
                let scaled = if let Self::Swish(alpha) = self { e.times(alpha, value) } else { value };
                let rest = e.one_minus(s);
                let product = e.mul(scaled, rest);
                e.add(s, product);
                value
            }
            Self::Tanh => {
                let value = e.unary(Self::Tanh, x);
                let square = e.mul(value, value);
                e.one_minus(square);
                value
            }
            _ => return None,
        };
        Some(WithSlope { expression: e, value })
    }

    /// The derivative of the function in its argument; `None` of what has none: logical functions.
    ///
    /// `clip` and `hard_sigmoid` are flat at both ends of their range (torch's `hardtanh`), the left derivative holds where the right
    /// one would for `relu`, `leaky_relu`, `elu` and their kin, and steps are flat everywhere.
    pub fn derivative(self) -> Option<Expression> {
        let mut e = Expression::default();
        let x = e.push(Step::Argument);
        match self {
            Self::Not | Self::IsNan => return None,
            Self::Floor | Self::Ceil | Self::Round | Self::Sign => e.number(0.0),
            Self::Neg => e.number(-1.0),
            Self::Abs => e.unary(Self::Sign, x),
            Self::Exp | Self::Log | Self::Sqrt | Self::Reciprocal | Self::Erf | Self::Sin | Self::Cos => {
                elementary(self, &mut e, x)
            }
            Self::Sigmoid | Self::Silu | Self::Swish(_) | Self::Tanh | Self::Softplus => sigmoidal(self, &mut e, x),
            Self::Gelu | Self::GeluTanh | Self::Mish => smooth_gate(self, &mut e, x),
            Self::Softsign => {
                let size = e.unary(Self::Abs, x);
                let one = e.number(1.0);
                let sum = e.add(one, size);
                let square = e.mul(sum, sum);
                e.unary(Self::Reciprocal, square)
            }
            _ => piecewise(self, &mut e, x),
        };
        Some(e)
    }

    /// Whether the derivative at `x` is the derivative at the function's value there, so that the argument need not be kept.
    pub fn derivative_is_of_value(self) -> bool {
        match self {
            Self::Relu => true,
            // A bound that is not in the range would move the value across it.
            Self::Clip(low, high) => low < high,
            Self::LeakyRelu(alpha) => alpha > 0.0,
            Self::ThresholdedRelu(alpha) => alpha >= 0.0,
            _ => false,
        }
    }
}

fn elementary(function: UnaryFn, e: &mut Expression, x: usize) -> usize {
    match function {
        UnaryFn::Exp => e.unary(UnaryFn::Exp, x),
        UnaryFn::Log => e.unary(UnaryFn::Reciprocal, x),
        UnaryFn::Sqrt => {
            let root = e.unary(UnaryFn::Sqrt, x);
            let half = e.number(0.5);
            e.binary(BinaryFn::Div, half, root)
        }
        UnaryFn::Reciprocal => {
            let value = e.unary(UnaryFn::Reciprocal, x);
            let square = e.mul(value, value);
            e.unary(UnaryFn::Neg, square)
        }
        UnaryFn::Erf => {
            let density = exponential_of_square(e, x, -1.0);
            e.times(std::f64::consts::FRAC_2_SQRT_PI, density)
        }
        UnaryFn::Sin => e.unary(UnaryFn::Cos, x),
        _ => {
            let sine = e.unary(UnaryFn::Sin, x);
            e.unary(UnaryFn::Neg, sine)
        }
    }
}

fn sigmoidal(function: UnaryFn, e: &mut Expression, x: usize) -> usize {
    match function {
        UnaryFn::Tanh => {
            let value = e.unary(UnaryFn::Tanh, x);
            let square = e.mul(value, value);
            e.one_minus(square)
        }
        UnaryFn::Softplus => e.unary(UnaryFn::Sigmoid, x),
        UnaryFn::Sigmoid => {
            let value = e.unary(UnaryFn::Sigmoid, x);
            let rest = e.one_minus(value);
            e.mul(value, rest)
        }
        _ => {
            // s (1 + z (1 - s)), z = alpha x, s = sigmoid(z)
            let z = if let UnaryFn::Swish(alpha) = function { e.times(alpha, x) } else { x };
            let s = e.unary(UnaryFn::Sigmoid, z);
            let rest = e.one_minus(s);
            let product = e.mul(z, rest);
            let one = e.number(1.0);
            let sum = e.add(one, product);
            e.mul(s, sum)
        }
    }
}

fn smooth_gate(function: UnaryFn, e: &mut Expression, x: usize) -> usize {
    let one = e.number(1.0);
    if function == UnaryFn::Gelu {
        // (1 + erf(x / sqrt 2)) / 2 + x exp(-x^2 / 2) / sqrt(2 pi)
        let scaled = e.times(std::f64::consts::FRAC_1_SQRT_2, x);
        let erf = e.unary(UnaryFn::Erf, scaled);
        let sum = e.add(one, erf);
        let share = e.times(0.5, sum);
        let density = exponential_of_square(e, x, -0.5);
        let density = e.times(std::f64::consts::FRAC_2_SQRT_PI / std::f64::consts::SQRT_2 / 2.0, density);
        let slope = e.mul(x, density);
        return e.add(share, slope);
    }
    if function == UnaryFn::Mish {
        // t + x (1 - t^2) sigmoid(x), t = tanh(softplus(x))
        let inner = e.unary(UnaryFn::Softplus, x);
        let t = e.unary(UnaryFn::Tanh, inner);
        let square = e.mul(t, t);
        let rest = e.one_minus(square);
        let s = e.unary(UnaryFn::Sigmoid, x);
        let slope = e.mul(rest, s);
        let slope = e.mul(x, slope);
        return e.add(t, slope);
    }
    // (1 + t) / 2 + x (1 - t^2) u' / 2, t = tanh(u), u = c (x + 0.044715 x^3)
    let c = (2.0 / std::f64::consts::PI).sqrt();
    let square = e.mul(x, x);
    let cubic = e.times(0.044715, square);
    let factor = e.add(one, cubic);
    let u = e.mul(x, factor);
    let u = e.times(c, u);
    let t = e.unary(UnaryFn::Tanh, u);
    let sum = e.add(one, t);
    let share = e.times(0.5, sum);
    let t_square = e.mul(t, t);
    let rest = e.one_minus(t_square);
    let steep = e.times(3.0 * 0.044715, square);
    let steep = e.add(one, steep);
    let slope = e.mul(rest, steep);
    let slope = e.mul(x, slope);
    let slope = e.times(0.5 * c, slope);
    e.add(share, slope)
}

fn piecewise(function: UnaryFn, e: &mut Expression, x: usize) -> usize {
    let one = e.number(1.0);
    match function {
        UnaryFn::Clip(low, high) => e.between(x, low, high, one),
        UnaryFn::HardSigmoid(alpha, beta) => {
            let line = e.times(alpha, x);
            let beta = e.number(beta);
            let line = e.add(line, beta);
            let slope = e.number(alpha);
            e.between(line, 0.0, 1.0, slope)
        }
        UnaryFn::HardSwish => {
            let third = e.number(3.0);
            let slope = e.binary(BinaryFn::Div, x, third);
            let half = e.number(0.5);
            let slope = e.add(slope, half);
            let inner = e.between(x, -3.0, 3.0, slope);
            let right = e.binary(BinaryFn::GreaterOrEqual, x, third);
            e.push(Step::Select(right, one, inner))
        }
        UnaryFn::Elu(alpha) => {
            let power = e.unary(UnaryFn::Exp, x);
            let slope = e.times(alpha, power);
            e.above(x, 0.0, one, slope)
        }
        UnaryFn::Selu(alpha, gamma) => {
            let power = e.unary(UnaryFn::Exp, x);
            let slope = e.times(f64::from(alpha) * f64::from(gamma), power);
            let gamma = e.number(gamma);
            e.above(x, 0.0, gamma, slope)
        }
        UnaryFn::Celu(alpha) => {
            let alpha = e.number(alpha);
            let scaled = e.binary(BinaryFn::Div, x, alpha);
            let slope = e.unary(UnaryFn::Exp, scaled);
            e.above(x, 0.0, one, slope)
        }
        UnaryFn::LeakyRelu(alpha) => {
            let slope = e.number(alpha);
            e.above(x, 0.0, one, slope)
        }
        UnaryFn::ThresholdedRelu(alpha) => {
            let zero = e.number(0.0);
            e.above(x, alpha, one, zero)
        }
        _ => {
            let zero = e.number(0.0);
            e.above(x, 0.0, one, zero)
        }
    }
}

/// `exp(factor x^2)`
fn exponential_of_square(e: &mut Expression, x: usize, factor: f64) -> usize {
    let square = e.mul(x, x);
    let scaled = e.times(factor, square);
    e.unary(UnaryFn::Exp, scaled)
}

#[cfg(test)]
mod tests {
    use super::*;
    use UnaryFn::*;

    const FUNCTIONS: &[UnaryFn] = &[
        Relu,
        Clip(0.0, 6.0),
        Clip(f32::NEG_INFINITY, 1.0),
        Sigmoid,
        HardSigmoid(0.2, 0.5),
        HardSigmoid(1.0 / 6.0, 0.5),
        HardSwish,
        Silu,
        Swish(1.7),
        Tanh,
        Elu(0.7),
        LeakyRelu(0.1),
        Selu(1.673_263_2, 1.050_701),
        Celu(1.3),
        Celu(-1.3),
        ThresholdedRelu(0.5),
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
    ];

    #[test]
    fn derivatives_are_central_differences() {
        for function in FUNCTIONS {
            let derivative = function.derivative().unwrap();
            for k in 0..400 {
                let x = f64::from(k) * 0.0317 - 6.2837;
                if x <= 0.01 && matches!(function, Log | Sqrt) {
                    continue;
                }
                let h = 1e-6;
                let slope = |h: f64| (function.eval(x + h) - function.eval(x - h)) / (2.0 * h);
                let (near, exact) = (slope(h), derivative.eval(x));
                // A kink lies between where two widths disagree.
                if (near - slope(1e-3)).abs() > 1e-2 * near.abs().max(1.0) {
                    continue;
                }
                assert!((near - exact).abs() < 1e-7 * exact.abs().max(1.0), "{function:?} at {x}: {exact}, {near}");
            }
        }
    }

    #[test]
    fn values_and_slopes_are_those_of_the_function() {
        let together: Vec<_> = FUNCTIONS.iter().filter_map(|f| Some((*f, f.with_slope()?))).collect();
        assert_eq!(together.len(), 4);
        for ((function, both), k) in together.iter().flat_map(|pair| (-400..400).map(move |k| (pair, k))) {
            let x = f64::from(k) * 0.0317;
            let expected = [function.eval(x), function.derivative().unwrap().eval(x)];
            let near = both.eval(x).iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1e-14 * b.abs().max(1.0));
            assert!(near, "{function:?} at {x}: {:?}, {expected:?}", both.eval(x));
        }
    }

    #[test]
    fn kinks_take_the_flat_side() {
        let at = |function: UnaryFn, x: f64| function.derivative().unwrap().eval(x);
        assert_eq!([-1.0, 0.0, 1.0].map(|x| at(Relu, x)), [0.0, 0.0, 1.0]);
        assert_eq!([0.0, 3.0, 6.0].map(|x| at(Clip(0.0, 6.0), x)), [0.0, 1.0, 0.0]);
        assert_eq!([-3.0, 3.0].map(|x| at(HardSwish, x)), [0.0, 1.0]);
        assert_eq!([-2.0, 0.0, 2.0].map(|x| at(Abs, x)), [-1.0, 0.0, 1.0]);
        assert_eq!((at(LeakyRelu(0.1), 0.0), at(Elu(1.0), 0.0)), (f64::from(0.1f32), 1.0));
        assert!(Not.derivative().is_none() && IsNan.derivative().is_none());
    }

    /// Where a parameter lets a value cross the kink (a slope of the other sign, a threshold below 0), the argument
    /// is kept.
    #[test]
    fn a_value_may_stand_for_the_argument() {
        let kinked = [Relu, Clip(-0.5, 0.5), Clip(0.0, 6.0), LeakyRelu(0.1), LeakyRelu(-0.1)];
        let thresholds = [0.5, 0.0, -0.5].map(ThresholdedRelu);
        for function in kinked.into_iter().chain(thresholds) {
            let derivative = function.derivative().unwrap();
            let stands = |x: f64| derivative.eval(x) == derivative.eval(function.eval(x));
            let everywhere = (-40..40).all(|k| stands(f64::from(k) * 0.25));
            assert_eq!(function.derivative_is_of_value(), everywhere, "{function:?}");
        }
        assert!(FUNCTIONS.iter().filter(|function| function.derivative_is_of_value()).count() > 1);
    }
}
