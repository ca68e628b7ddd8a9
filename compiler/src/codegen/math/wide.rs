//! Functions of `f64` lanes, written against the vector machine: the same bits on every back end, as nothing is fused.
//!
//! Exponential and logarithm are those of FreeBSD's libm, which the reference evaluator computes by too: a reduction by `ln 2` in two parts and a
//! quotient, within 1 ulp. The others are made of them as their formulas say. [`error_bound`] is the statement about errors as a function. A NaN
//! gives a NaN; infinities, zeros and subnormal numbers give what the formula does.

mod error_function;
mod power;
mod remainder;

pub use power::power;
pub use remainder::remainder;

use super::double::ROUND;
use crate::codegen::{Cmp, Element, Emitter, V, VOp};
use fornax_ir::scalar::UnaryFn;

/// Whether [`unary`] computes `f`: all but sine and cosine, whose arguments may be large.
pub fn computes(f: UnaryFn) -> bool {
    !matches!(f, UnaryFn::Sin | UnaryFn::Cos)
}

/// The stated error of the functions of `f64` lanes: `|computed - exact| <= error_bound(f, exact)`, of the values of the
/// reference evaluator, which have errors of their own.
///
/// In units of 2^-52 it is what is stated in `f32` in units of 2^-23, and 1 more.
pub fn error_bound(f: UnaryFn, exact: f64) -> f64 {
    let (ulps, floor) = f.error();
    let floor = if floor < 1e-30 { f64::MIN_POSITIVE } else { floor };
    (ulps + 1.0) * f64::EPSILON * exact.abs().max(floor)
}

/// Applies `f` to each of `xs`, in place.
pub fn unary(e: &mut dyn Emitter, f: UnaryFn, xs: &[V]) {
    for x in xs {
        let y = Doubles(e).unary(f, *x);
        e.copy_v(*x, y);
    }
}

/// ln 2, of which the upper part has trailing zeros, and its inverse.
const LN2_HIGH: f64 = 6.931_471_803_691_238e-1;
const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;
/// Of `exp`, lowest power of the square first.
const EXP: [f64; 5] = [
    1.666_666_666_666_660_2e-1,
    -2.777_777_777_701_559_3e-3,
    6.613_756_321_437_934e-5,
    -1.653_390_220_546_525_2e-6,
    4.138_136_797_057_238_5e-8,
];
/// Of `expm1`, likewise.
const EXPM1: [f64; 6] = [
    1.0,
    -3.333_333_333_333_313e-2,
    1.587_301_587_254_814_6e-3,
    -7.936_507_578_674_88e-5,
    4.008_217_827_329_362e-6,
    -2.010_992_181_836_243_7e-7,
];
/// Of `log`: the even and the odd powers of the square.
const LOG_EVEN: [f64; 3] = [3.999_999_999_940_942e-1, 2.222_219_843_214_978_4e-1, 1.531_383_769_920_937_3e-1];
const LOG_ODD: [f64; 4] =
    [6.666_666_666_666_735e-1, 2.857_142_874_366_239e-1, 1.818_357_216_161_805e-1, 1.479_819_860_511_658_6e-1];
/// The upper word of sqrt(1/2), and how far it is below 1.
const HALF_ROOT: u64 = 0x3FE6_A09E << 32;
const BELOW_ONE: u64 = (0x3FF0_0000 - 0x3FE6_A09E) << 32;
/// The exponent field of 1.
const ONE: u64 = 1023 << 52;
/// 2^52, whose last place is 1.
const INTEGERS: f64 = 4_503_599_627_370_496.0;

/// Code over `f64` lanes, each value in a register of its own.
pub struct Doubles<'e>(pub &'e mut dyn Emitter);

impl Doubles<'_> {
    /// These bits in every lane.
    pub fn bits(&mut self, bits: u64) -> V {
        let v = self.0.v();
        self.0.splat_64(v, bits);
        v
    }

    /// A number in every lane.
    pub fn number(&mut self, value: f64) -> V {
        self.bits(value.to_bits())
    }

    pub fn op(&mut self, op: VOp, a: V, b: V) -> V {
        let d = self.0.v();
        self.0.op(op, Element::F64, d, a, b);
        d
    }

    pub fn add(&mut self, a: V, b: V) -> V {
        self.op(VOp::Add, a, b)
    }

    pub fn sub(&mut self, a: V, b: V) -> V {
        self.op(VOp::Sub, a, b)
    }

    pub fn mul(&mut self, a: V, b: V) -> V {
        self.op(VOp::Mul, a, b)
    }

    pub fn div(&mut self, a: V, b: V) -> V {
        self.op(VOp::Div, a, b)
    }

    /// `value op x`; of `Min` and `Max` a NaN stays.
    pub fn with(&mut self, op: VOp, value: f64, x: V) -> V {
        let c = self.number(value);
        self.op(op, c, x)
    }

    /// `a op b` of lanes as 64-bit integers.
    pub fn int(&mut self, op: VOp, a: V, b: V) -> V {
        let d = self.0.v();
        self.0.op(op, Element::I64, d, a, b);
        d
    }

    pub fn mask(&mut self, x: V, bits: u64) -> V {
        let mask = self.bits(bits);
        self.int(VOp::And, x, mask)
    }

    pub fn left(&mut self, x: V, bits: u32) -> V {
        let d = self.0.v();
        self.0.shift_left(Element::I64, d, x, bits);
        d
    }

    pub fn right(&mut self, x: V, bits: u32) -> V {
        let d = self.0.v();
        self.0.shift_right(Element::I64, d, x, bits);
        d
    }

    pub fn select(&mut self, [a, b]: [V; 2], cmp: Cmp, yes: V, no: V) -> V {
        let d = self.0.v();
        self.0.select(Element::F64, d, cmp, [a, b], yes, no);
        d
    }

    pub fn abs(&mut self, x: V) -> V {
        self.mask(x, u64::MAX >> 1)
    }

    pub fn neg(&mut self, x: V) -> V {
        let sign = self.bits(1 << 63);
        self.int(VOp::Xor, x, sign)
    }

    /// `x` with the sign of `of`; `x` has none.
    pub fn signed(&mut self, x: V, of: V) -> V {
        let sign = self.mask(of, 1 << 63);
        self.int(VOp::Or, x, sign)
    }

    /// The polynomial with `coefficients`, lowest power first, by Horner's rule.
    pub fn polynomial(&mut self, x: V, coefficients: &[f64]) -> V {
        let mut rest = coefficients.iter().rev();
        let mut sum = self.number(rest.next().copied().unwrap_or(0.0));
        for c in rest {
            sum = self.mul(sum, x);
            sum = self.with(VOp::Add, *c, sum);
        }
        sum
    }

    /// The nearest integer, ties to even, of numbers below 2^51; and that plus [`ROUND`], which holds it in its low bits.
    pub fn nearest(&mut self, x: V) -> (V, V) {
        let magic = self.number(ROUND);
        let held = self.add(x, magic);
        (self.sub(held, magic), held)
    }

    /// `2^k` of an integer held as by [`Self::nearest`], -1022 to 1023.
    pub fn power_of_two(&mut self, held: V) -> V {
        let (field, one) = (self.left(held, 52), self.bits(ONE));
        self.int(VOp::Add, field, one)
    }

    /// `x 2^k`, rounded once, for an integer `k` between -2000 and 2000 and an `x` near 1.
    pub fn scaled(&mut self, x: V, k: V) -> V {
        let half = self.with(VOp::Mul, 0.5, k);
        let (half, held) = self.nearest(half);
        let rest = self.sub(k, half);
        let (_, other) = self.nearest(rest);
        let (first, second) = (self.power_of_two(held), self.power_of_two(other));
        let x = self.mul(x, first);
        self.mul(x, second)
    }

    /// The nearest integer, ties to even; the sign of zero, infinities and NaN stay.
    pub fn round(&mut self, x: V) -> V {
        let (size, large) = (self.abs(x), self.number(INTEGERS));
        let sum = self.add(size, large);
        let rounded = self.sub(sum, large);
        let rounded = self.signed(rounded, x);
        self.select([size, large], Cmp::Less, rounded, x)
    }

    /// The largest integer not above `x`; the sign of zero, infinities and NaN stay.
    pub fn floor(&mut self, x: V) -> V {
        let (rounded, one) = (self.round(x), self.number(1.0));
        let below = self.sub(rounded, one);
        self.select([x, rounded], Cmp::Less, below, rounded)
    }

    /// The integer next to `x` towards zero; the sign of zero, infinities and NaN stay.
    pub fn truncate(&mut self, x: V) -> V {
        let size = self.abs(x);
        let whole = self.floor(size);
        self.signed(whole, x)
    }

    /// `k`, `x - k ln 2` as a difference, and its rounding.
    fn reduced(&mut self, x: V) -> (V, [V; 2], V) {
        let scaled = self.with(VOp::Mul, std::f64::consts::LOG2_E, x);
        let (k, _) = self.nearest(scaled);
        let (high, low) = (self.with(VOp::Mul, LN2_HIGH, k), self.with(VOp::Mul, LN2_LOW, k));
        let high = self.sub(x, high);
        (k, [high, low], self.sub(high, low))
    }

    /// `exp(x)`, within 1 ulp.
    pub fn exp(&mut self, x: V) -> V {
        let bounded = self.with(VOp::Max, -746.0, x);
        let bounded = self.with(VOp::Min, 710.0, bounded);
        let (k, [high, low], r) = self.reduced(bounded);
        let square = self.mul(r, r);
        let series = self.polynomial(square, &EXP);
        let series = self.mul(square, series);
        let c = self.sub(r, series);
        let rc = self.mul(r, c);
        let two = self.number(2.0);
        let rest = self.sub(two, c);
        let quotient = self.div(rc, rest);
        let sum = self.sub(quotient, low);
        let sum = self.add(sum, high);
        let value = self.with(VOp::Add, 1.0, sum);
        self.scaled(value, k)
    }

    /// `exp(x) - 1`, within 2 ulp.
    fn expm1(&mut self, x: V) -> V {
        let bounded = self.with(VOp::Max, -60.0, x);
        let bounded = self.with(VOp::Min, 710.0, bounded);
        let (k, [high, low], r) = self.reduced(bounded);
        let lost = self.sub(high, r);
        let lost = self.sub(lost, low);
        let half = self.with(VOp::Mul, 0.5, r);
        let square = self.mul(r, half);
        let series = self.polynomial(square, &EXPM1);
        let t = self.mul(series, half);
        let three = self.number(3.0);
        let t = self.sub(three, t);
        let (above, below) = (self.sub(series, t), self.mul(r, t));
        let six = self.number(6.0);
        let below = self.sub(six, below);
        let quotient = self.div(above, below);
        let error = self.mul(square, quotient);
        // Without a power of two.
        let small = self.mul(r, error);
        let small = self.sub(small, square);
        let small = self.sub(r, small);
        // With one: r - error + (1 - 2^-k), scaled.
        let error = self.sub(error, lost);
        let error = self.mul(r, error);
        let error = self.sub(error, lost);
        let error = self.sub(error, square);
        let (zero, one, many) = (self.number(0.0), self.number(1.0), self.number(60.0));
        let minus = self.sub(zero, k);
        let (_, held) = self.nearest(minus);
        let inverse = self.power_of_two(held);
        let inverse = self.select([many, k], Cmp::Less, zero, inverse);
        let whole = self.sub(one, inverse);
        let value = self.sub(r, error);
        let value = self.add(value, whole);
        let value = self.scaled(value, k);
        let value = self.select([k, zero], Cmp::Equal, small, value);
        let (size, tiny) = (self.abs(x), self.number(2f64.powi(-54)));
        self.select([size, tiny], Cmp::Less, x, value)
    }

    /// Exponent and mantissa in `[sqrt(1/2), sqrt(2))` of a positive number.
    fn parts(&mut self, x: V) -> (V, V) {
        let (small, up) = (self.number(f64::MIN_POSITIVE), self.with(VOp::Mul, 2f64.powi(54), x));
        let normal = self.select([x, small], Cmp::Less, up, x);
        let (lift, zero) = (self.number(54.0), self.number(0.0));
        let lift = self.select([x, small], Cmp::Less, lift, zero);
        let (from_root, root) = (self.bits(BELOW_ONE), self.bits(HALF_ROOT));
        let moved = self.int(VOp::Add, normal, from_root);
        let field = self.right(moved, 52);
        let (integer, bias) = (self.number(INTEGERS), self.number(INTEGERS + 1023.0));
        let field = self.int(VOp::Or, field, integer);
        let exponent = self.sub(field, bias);
        let exponent = self.sub(exponent, lift);
        let fraction = self.mask(moved, (1 << 52) - 1);
        (exponent, self.int(VOp::Add, fraction, root))
    }

    /// `k ln 2 + ln(1 + f) + c`, for `f` in `[sqrt(1/2) - 1, sqrt(2) - 1)` and a small `c`.
    fn log_of_parts(&mut self, k: V, f: V, c: Option<V>) -> V {
        let half = self.with(VOp::Mul, 0.5, f);
        let half_square = self.mul(half, f);
        let below = self.with(VOp::Add, 2.0, f);
        let s = self.div(f, below);
        let z = self.mul(s, s);
        let w = self.mul(z, z);
        let (even, odd) = (self.polynomial(w, &LOG_EVEN), self.polynomial(w, &LOG_ODD));
        let (even, odd) = (self.mul(w, even), self.mul(z, odd));
        let series = self.add(odd, even);
        let sum = self.add(half_square, series);
        let sum = self.mul(s, sum);
        let mut low = self.with(VOp::Mul, LN2_LOW, k);
        if let Some(c) = c {
            low = self.add(low, c);
        }
        let sum = self.add(sum, low);
        let sum = self.sub(sum, half_square);
        let sum = self.add(sum, f);
        let high = self.with(VOp::Mul, LN2_HIGH, k);
        self.add(sum, high)
    }

    /// `ln(x)`, within 1 ulp: -infinity for zeros, NaN below.
    pub fn log(&mut self, x: V) -> V {
        let (k, mantissa) = self.parts(x);
        let one = self.number(1.0);
        let f = self.sub(mantissa, one);
        let value = self.log_of_parts(k, f, None);
        let (zero, infinity) = (self.number(0.0), self.number(f64::INFINITY));
        let (nan, least) = (self.number(f64::NAN), self.number(f64::NEG_INFINITY));
        let value = self.select([x, infinity], Cmp::Less, value, x);
        let value = self.select([x, zero], Cmp::Less, nan, value);
        self.select([x, zero], Cmp::Equal, least, value)
    }

    /// `ln(1 + y)` for `y` in [0, 1], within 2 ulp.
    fn log1p(&mut self, y: V) -> V {
        let (zero, one) = (self.number(0.0), self.number(1.0));
        let sum = self.add(y, one);
        let lost = self.sub(sum, one);
        let lost = self.sub(y, lost);
        let lost = self.div(lost, sum);
        let (k, mantissa) = self.parts(sum);
        let f = self.sub(mantissa, one);
        // Up to here 1 + y need not be rounded.
        let near = self.number(std::f64::consts::SQRT_2 - 1.0);
        let [k, f, lost] =
            [(zero, k), (y, f), (zero, lost)].map(|(own, other)| self.select([y, near], Cmp::Less, own, other));
        self.log_of_parts(k, f, Some(lost))
    }

    fn sigmoid(&mut self, x: V) -> V {
        let minus = self.neg(x);
        let power = self.exp(minus);
        let (one, below) = (self.number(1.0), self.with(VOp::Add, 1.0, power));
        self.div(one, below)
    }

    /// `x sigmoid(alpha x)`
    fn swish(&mut self, alpha: f64, x: V) -> V {
        let scaled = self.with(VOp::Mul, alpha, x);
        let share = self.sigmoid(scaled);
        self.mul(x, share)
    }

    fn tanh(&mut self, x: V) -> V {
        let size = self.abs(x);
        let minus = self.with(VOp::Mul, -2.0, size);
        let t = self.expm1(minus);
        let (above, below) = (self.neg(t), self.with(VOp::Add, 2.0, t));
        let value = self.div(above, below);
        self.signed(value, x)
    }

    fn softplus(&mut self, x: V) -> V {
        let size = self.abs(x);
        let minus = self.neg(size);
        let power = self.exp(minus);
        let (log, above) = (self.log1p(power), self.with(VOp::Max, 0.0, x));
        self.add(above, log)
    }

    /// `alpha (exp(x / over) - 1)`
    fn below_zero(&mut self, alpha: f64, over: f64, x: V) -> V {
        let divisor = self.number(over);
        let ratio = self.div(x, divisor);
        let power = self.expm1(ratio);
        self.with(VOp::Mul, alpha, power)
    }

    /// `below` where `x < 0`, else `x`.
    fn or_below(&mut self, x: V, below: V) -> V {
        let zero = self.number(0.0);
        self.select([x, zero], Cmp::Less, below, x)
    }

    /// `min(max(x, low), high)`; a NaN stays.
    fn between(&mut self, low: f64, high: f64, x: V) -> V {
        let above = self.with(VOp::Max, low, x);
        self.with(VOp::Min, high, above)
    }

    fn unary(&mut self, f: UnaryFn, x: V) -> V {
        use UnaryFn::*;
        match f {
            Relu => self.with(VOp::Max, 0.0, x),
            Clip(low, high) if low.is_nan() || high.is_nan() => self.with(VOp::Add, f64::NAN, x),
            Clip(low, high) => self.between(low.into(), high.into(), x),
            Sigmoid => self.sigmoid(x),
            HardSigmoid(alpha, beta) => {
                let scaled = self.with(VOp::Mul, alpha.into(), x);
                let sum = self.with(VOp::Add, beta.into(), scaled);
                self.between(0.0, 1.0, sum)
            }
            HardSwish => {
                let six = self.number(6.0);
                let ratio = self.div(x, six);
                let sum = self.with(VOp::Add, 0.5, ratio);
                let share = self.between(0.0, 1.0, sum);
                self.mul(x, share)
            }
            Silu => self.swish(1.0, x),
            Swish(alpha) => self.swish(alpha.into(), x),
            Tanh => self.tanh(x),
            Elu(alpha) => {
                let below = self.below_zero(alpha.into(), 1.0, x);
                self.or_below(x, below)
            }
            Selu(alpha, gamma) => {
                let below = self.below_zero(alpha.into(), 1.0, x);
                let value = self.or_below(x, below);
                self.with(VOp::Mul, gamma.into(), value)
            }
            Celu(alpha) => {
                let below = self.below_zero(alpha.into(), alpha.into(), x);
                let (below, above) = (self.with(VOp::Min, 0.0, below), self.with(VOp::Max, 0.0, x));
                self.add(above, below)
            }
            LeakyRelu(alpha) => {
                let below = self.with(VOp::Mul, alpha.into(), x);
                self.or_below(x, below)
            }
            ThresholdedRelu(alpha) => {
                let (alpha, zero) = (self.number(alpha.into()), self.number(0.0));
                self.select([alpha, x], Cmp::Less, x, zero)
            }
            Gelu => {
                let root = self.number(std::f64::consts::SQRT_2);
                let ratio = self.div(x, root);
                let value = self.erf(ratio);
                self.half_share(x, value)
            }
            GeluTanh => {
                let mut cube = self.with(VOp::Mul, 0.044715, x);
                cube = self.mul(cube, x);
                cube = self.mul(cube, x);
                let sum = self.add(x, cube);
                let scaled = self.with(VOp::Mul, (2.0 / std::f64::consts::PI).sqrt(), sum);
                let value = self.tanh(scaled);
                self.half_share(x, value)
            }
            Mish => {
                let sum = self.softplus(x);
                let share = self.tanh(sum);
                self.mul(x, share)
            }
            Softplus => self.softplus(x),
            Softsign => {
                let size = self.abs(x);
                let below = self.with(VOp::Add, 1.0, size);
                self.div(x, below)
            }
            Neg => self.neg(x),
            Abs => self.abs(x),
            Exp => self.exp(x),
            Log => self.log(x),
            Sqrt => {
                let d = self.0.v();
                self.0.sqrt(Element::F64, d, x);
                d
            }
            Reciprocal => self.with(VOp::Div, 1.0, x),
            Floor => self.floor(x),
            Ceil => {
                let minus = self.neg(x);
                let floor = self.floor(minus);
                self.neg(floor)
            }
            Round => self.round(x),
            Sign => {
                let (zero, one, minus) = (self.number(0.0), self.number(1.0), self.number(-1.0));
                let value = self.select([zero, x], Cmp::Less, one, x);
                self.select([x, zero], Cmp::Less, minus, value)
            }
            Erf => self.erf(x),
            Not => {
                let (zero, one) = (self.number(0.0), self.number(1.0));
                self.select([x, zero], Cmp::Equal, one, zero)
            }
            IsNan => {
                let (zero, one) = (self.number(0.0), self.number(1.0));
                self.select([x, x], Cmp::Unordered, one, zero)
            }
            // [`computes`] says no.
            Sin | Cos => self.number(f64::NAN),
        }
    }

    /// `x (1 + value) / 2`
    fn half_share(&mut self, x: V, value: V) -> V {
        let (half, share) = (self.with(VOp::Mul, 0.5, x), self.with(VOp::Add, 1.0, value));
        self.mul(half, share)
    }
}
