//! Powers of `f64` lanes: FreeBSD's, `2^(y log2 x)` with a logarithm in two parts, within 1 ulp.

use super::{Doubles, INTEGERS};
use crate::codegen::{Cmp, Emitter, V, VOp};

/// The upper half of the bits.
const UPPER: u64 = !0 << 32;
/// `(3 / 2) (ln x - 2 s - 2 s^3 / 3)` over `s^5`, lowest power of the square first.
const LOG: [f64; 6] = [
    5.999_999_999_999_946e-1,
    4.285_714_285_785_502e-1,
    3.333_333_298_183_774_3e-1,
    2.727_281_238_085_34e-1,
    2.306_607_457_755_617_5e-1,
    2.069_750_178_003_384_2e-1,
];
/// `log2(3 / 2)` in two parts.
const THREE_HALVES: [f64; 2] = [5.849_624_872_207_642e-1, 1.350_039_202_129_749e-8];
/// `2 / (3 ln 2)`, and that in two parts.
const SCALE: f64 = 9.617_966_939_259_756e-1;
const SCALE_PARTS: [f64; 2] = [9.617_967_009_544_373e-1, -7.028_461_650_952_758e-9];
/// ln 2 in two parts.
const LN2_PARTS: [f64; 2] = [6.931_471_824_645_996e-1, -1.904_654_299_957_768e-9];

/// `x = x` to the power `y`; special values as C's `pow`.
pub fn power(e: &mut dyn Emitter, xs: &[V], ys: &[V]) {
    for (x, y) in xs.iter().zip(ys) {
        let mut e = Doubles(e);
        let value = e.power(*x, *y);
        e.0.copy_v(*x, value);
    }
}

impl Doubles<'_> {
    fn power(&mut self, x: V, y: V) -> V {
        let size = self.abs(x);
        // From 2^64 on every power but that of 1 is infinite or 0.
        let bounded = self.with(VOp::Max, -2f64.powi(64), y);
        let bounded = self.with(VOp::Min, 2f64.powi(64), bounded);
        let log = self.log2(size);
        let value = self.exp2_of_product(bounded, log);
        let value = self.power_at_ends(size, y, value);
        self.power_of_signed(x, y, value)
    }

    /// `log2(x)` of a positive number in two parts, the first of few bits.
    fn log2(&mut self, x: V) -> [V; 2] {
        let (small, up) = (self.number(f64::MIN_POSITIVE), self.with(VOp::Mul, 2f64.powi(53), x));
        let normal = self.select([x, small], Cmp::Less, up, x);
        let (lift, zero) = (self.number(53.0), self.number(0.0));
        let lift = self.select([x, small], Cmp::Less, lift, zero);
        let field = self.right(normal, 52);
        let (integer, bias) = (self.number(INTEGERS), self.number(INTEGERS + 1023.0));
        let field = self.int(VOp::Or, field, integer);
        let n = self.sub(field, bias);
        let n = self.sub(n, lift);
        let fraction = self.mask(normal, (1 << 52) - 1);
        let one = self.number(1.0);
        let mantissa = self.int(VOp::Or, fraction, one);
        // About 1, 3/2 or 2.
        let (first, second) = (self.bits(0x3FF3_988F << 32), self.bits(0x3FFB_B67A << 32));
        let (half, next) = (self.with(VOp::Mul, 0.5, mantissa), self.with(VOp::Add, 1.0, n));
        let n = self.select([mantissa, second], Cmp::Less, n, next);
        let m = self.select([mantissa, second], Cmp::Less, mantissa, half);
        let mut middle = |at_one: f64, at_middle: f64| {
            let (at_one, at_middle) = (self.number(at_one), self.number(at_middle));
            let value = self.select([mantissa, second], Cmp::Less, at_middle, at_one);
            self.select([mantissa, first], Cmp::Less, at_one, value)
        };
        let (centre, high, low) = (middle(1.0, 1.5), middle(0.0, THREE_HALVES[0]), middle(0.0, THREE_HALVES[1]));
        // s = (m - centre) / (m + centre) in two parts.
        let (u, sum) = (self.sub(m, centre), self.add(m, centre));
        let v = self.div(one, sum);
        let s = self.mul(u, v);
        let s_high = self.mask(s, UPPER);
        let t_high = self.mask(sum, UPPER);
        let t_low = self.sub(t_high, centre);
        let t_low = self.sub(m, t_low);
        let (a, b) = (self.mul(s_high, t_high), self.mul(s_high, t_low));
        let rest = self.sub(u, a);
        let rest = self.sub(rest, b);
        let s_low = self.mul(v, rest);
        // The series, 3 + s^2 + ..., in two parts.
        let square = self.mul(s, s);
        let series = self.polynomial(square, &LOG);
        let fourth = self.mul(square, square);
        let series = self.mul(fourth, series);
        let both = self.add(s_high, s);
        let both = self.mul(s_low, both);
        let series = self.add(series, both);
        let square = self.mul(s_high, s_high);
        let three = self.with(VOp::Add, 3.0, square);
        let sum = self.add(three, series);
        let t_high = self.mask(sum, UPPER);
        let below = self.with(VOp::Add, -3.0, t_high);
        let below = self.sub(below, square);
        let t_low = self.sub(series, below);
        let u = self.mul(s_high, t_high);
        let (a, b) = (self.mul(s_low, t_high), self.mul(t_low, s));
        let v = self.add(a, b);
        let sum = self.add(u, v);
        let p_high = self.mask(sum, UPPER);
        let p_low = self.sub(p_high, u);
        let p_low = self.sub(v, p_low);
        let z_high = self.with(VOp::Mul, SCALE_PARTS[0], p_high);
        let (a, b) = (self.with(VOp::Mul, SCALE_PARTS[1], p_high), self.with(VOp::Mul, SCALE, p_low));
        let z_low = self.add(a, b);
        let z_low = self.add(z_low, low);
        let sum = self.add(z_high, z_low);
        let sum = self.add(sum, high);
        let sum = self.add(sum, n);
        let first = self.mask(sum, UPPER);
        let lost = self.sub(first, n);
        let lost = self.sub(lost, high);
        let lost = self.sub(lost, z_high);
        [first, self.sub(z_low, lost)]
    }

    /// `2^(y log)`, of a logarithm in two parts.
    fn exp2_of_product(&mut self, y: V, [first, second]: [V; 2]) -> V {
        let y_high = self.mask(y, UPPER);
        let y_low = self.sub(y, y_high);
        let (a, b) = (self.mul(y_low, first), self.mul(y, second));
        let low = self.add(a, b);
        let high = self.mul(y_high, first);
        let sum = self.add(low, high);
        // What is beyond has no second part: it is infinite or 0.
        let (most, least, zero) = (self.number(1100.0), self.number(-1100.0), self.number(0.0));
        let (mut high, mut low) = (high, low);
        for (cmp, bound) in [([most, sum], most), ([sum, least], least)] {
            high = self.select(cmp, Cmp::Less, bound, high);
            low = self.select(cmp, Cmp::Less, zero, low);
        }
        let sum = self.add(low, high);
        let (n, _) = self.nearest(sum);
        let high = self.sub(high, n);
        let sum = self.add(low, high);
        let t = self.mask(sum, UPPER);
        let u = self.with(VOp::Mul, LN2_PARTS[0], t);
        let rest = self.sub(t, high);
        let rest = self.sub(low, rest);
        let (a, b) = (self.with(VOp::Mul, std::f64::consts::LN_2, rest), self.with(VOp::Mul, LN2_PARTS[1], t));
        let v = self.add(a, b);
        let z = self.add(u, v);
        let w = self.sub(z, u);
        let w = self.sub(v, w);
        let square = self.mul(z, z);
        let series = self.polynomial(square, &super::EXP);
        let series = self.mul(square, series);
        let c = self.sub(z, series);
        let above = self.mul(z, c);
        let below = self.with(VOp::Add, -2.0, c);
        let quotient = self.div(above, below);
        let zw = self.mul(z, w);
        let lost = self.add(w, zw);
        let r = self.sub(quotient, lost);
        let r = self.sub(r, z);
        let one = self.number(1.0);
        let value = self.sub(one, r);
        self.scaled(value, n)
    }

    /// The power of a size that is 0, 1 or infinite, and of an exponent that is 0 or infinite; else `value`.
    fn power_at_ends(&mut self, size: V, y: V, value: V) -> V {
        let (zero, one, infinity) = (self.number(0.0), self.number(1.0), self.number(f64::INFINITY));
        let y_size = self.abs(y);
        let inverse = self.div(one, size);
        // Which is larger than 1 where the power is.
        let base = self.select([zero, y], Cmp::Less, size, inverse);
        let end = self.select([one, base], Cmp::Less, infinity, zero);
        let mut value = value;
        for (a, b) in [(size, zero), (size, infinity), (y_size, infinity)] {
            value = self.select([a, b], Cmp::Equal, end, value);
        }
        value = self.select([size, one], Cmp::Equal, one, value);
        self.select([y, zero], Cmp::Equal, one, value)
    }

    /// The power whose magnitude is known, for every sign of the base, and for NaNs.
    fn power_of_signed(&mut self, x: V, y: V, magnitude: V) -> V {
        let (zero, one, nan) = (self.number(0.0), self.number(1.0), self.number(f64::NAN));
        let whole = self.floor(y);
        let half = self.with(VOp::Mul, 0.5, y);
        let floor = self.floor(half);
        // A negative base (or -0) to an odd whole power changes the sign, to a broken one it has no value.
        let sign = self.mask(x, 1 << 63);
        let sign = self.select([whole, y], Cmp::Equal, sign, zero);
        let sign = self.select([floor, half], Cmp::Equal, zero, sign);
        let signed = self.int(VOp::Xor, magnitude, sign);
        let broken = self.select([whole, y], Cmp::Equal, signed, nan);
        let negative = self.select([x, zero], Cmp::Less, broken, signed);
        let lowest = self.number(f64::NEG_INFINITY);
        let value = self.select([lowest, x], Cmp::Less, negative, signed);
        // Of NaNs, 1 to any power and any base to the power 0 are 1.
        let value = self.select([x, x], Cmp::Unordered, nan, value);
        let value = self.select([y, y], Cmp::Unordered, nan, value);
        let value = self.select([x, one], Cmp::Equal, one, value);
        self.select([y, zero], Cmp::Equal, one, value)
    }
}
