//! Functions of `f32` elements that are computed in `f64`, in CLIF: power, sine, cosine, remainders.
//!
//! Only loop nests use them, element by element. They multiply and add without FMA, so every target computes the same bits; the result
//! is rounded to `f32` once.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{BlockArg, InstBuilder, MemFlagsData, Value, types};

use super::ClifEmitter;

/// pi / 2 in three parts: 25 bits, 25 bits, the rest. A multiple of up to 28 bits of the first two is exact.
const HALF_PI: [f64; 3] = [1.570_796_310_901_641_8, 1.589_325_471_229_585_7e-8, 6.123_233_995_736_766e-17];

/// Largest argument of sine and cosine that the three parts of pi / 2 reduce.
const SINE_LIMIT: f64 = 268_435_456.0;

impl ClifEmitter<'_> {
    fn double(&mut self, value: f64) -> Value {
        self.builder.ins().f64const(value)
    }

    fn promote(&mut self, x: Value) -> Value {
        self.builder.ins().fpromote(types::F64, x)
    }

    fn demote(&mut self, x: Value) -> Value {
        self.builder.ins().fdemote(types::F32, x)
    }

    /// `coefficients` by Horner's rule, highest power first.
    fn polynomial(&mut self, x: Value, coefficients: &[f64]) -> Value {
        let mut sum = self.double(0.0);
        for (i, coefficient) in coefficients.iter().enumerate() {
            let c = self.double(*coefficient);
            sum = if i == 0 {
                c
            } else {
                let product = self.builder.ins().fmul(sum, x);
                self.builder.ins().fadd(product, c)
            };
        }
        sum
    }

    /// Sine or cosine of an F32, within 1 ulp for `|x| <= 2^28`; NaN beyond, for infinities and for NaN.
    pub(super) fn sine(&mut self, x: Value, cosine: bool) -> Value {
        let x = self.promote(x);
        let over_half_pi = self.double(std::f64::consts::FRAC_2_PI);
        let turns = self.builder.ins().fmul(x, over_half_pi);
        let turns = self.builder.ins().nearest(turns);
        let mut r = x;
        for part in HALF_PI {
            let part = self.double(part);
            let by = self.builder.ins().fmul(turns, part);
            r = self.builder.ins().fsub(r, by);
        }
        let square = self.builder.ins().fmul(r, r);
        let factorials = |first: u32| -> Vec<f64> {
            let term = |k: u32| {
                (first + 1..=first + 2 * k).fold(1.0, |p, n| p / f64::from(n))
                    * if k.is_multiple_of(2) { 1.0 } else { -1.0 }
            };
            (0..8).rev().map(term).collect()
        };
        let even = self.polynomial(square, &factorials(0));
        let odd = self.polynomial(square, &factorials(1));
        let odd = self.builder.ins().fmul(odd, r);
        let quadrant = self.builder.ins().fcvt_to_sint_sat(types::I64, turns);
        let quadrant = self.builder.ins().iadd_imm_s(quadrant, i64::from(cosine));
        let swap = self.builder.ins().band_imm_u(quadrant, 1);
        let value = self.builder.ins().select(swap, even, odd);
        let flip = self.builder.ins().band_imm_u(quadrant, 2);
        let negated = self.builder.ins().fneg(value);
        let value = self.builder.ins().select(flip, negated, value);
        let (limit, size, nan) = (self.double(SINE_LIMIT), self.builder.ins().fabs(x), self.double(f64::NAN));
        let fits = self.builder.ins().fcmp(FloatCC::LessThanOrEqual, size, limit);
        let value = self.builder.ins().select(fits, value, nan);
        self.demote(value)
    }

    /// `log2(x)` of an F64 that came from an F32, `x >= 0`, to about 2^-48; -infinity for 0, infinity and NaN for themselves.
    fn log2(&mut self, x: Value) -> Value {
        let bits = self.builder.ins().bitcast(types::I64, MemFlagsData::new(), x);
        // The exponent such that the mantissa lies in [sqrt(1/2), sqrt(2)).
        let from_root = self.builder.ins().iadd_imm_s(bits, -(std::f64::consts::FRAC_1_SQRT_2.to_bits() as i64));
        let exponent = self.builder.ins().sshr_imm_u(from_root, 52);
        let shift = self.builder.ins().ishl_imm_u(exponent, 52);
        let mantissa = self.builder.ins().isub(bits, shift);
        let mantissa = self.builder.ins().bitcast(types::F64, MemFlagsData::new(), mantissa);
        let one = self.double(1.0);
        let above = self.builder.ins().fsub(mantissa, one);
        let below = self.builder.ins().fadd(mantissa, one);
        let s = self.builder.ins().fdiv(above, below);
        let square = self.builder.ins().fmul(s, s);
        let series: Vec<f64> = (0..11).rev().map(|k| 2.0 / f64::from(2 * k + 1) * std::f64::consts::LOG2_E).collect();
        let series = self.polynomial(square, &series);
        let fraction = self.builder.ins().fmul(series, s);
        let whole = self.builder.ins().fcvt_from_sint(types::F64, exponent);
        let value = self.builder.ins().fadd(whole, fraction);
        let (zero, infinity, nothing) = (self.double(0.0), self.double(f64::INFINITY), self.double(f64::NEG_INFINITY));
        let finite = self.builder.ins().fcmp(FloatCC::LessThan, x, infinity);
        let value = self.builder.ins().select(finite, value, x);
        let is_zero = self.builder.ins().fcmp(FloatCC::Equal, x, zero);
        self.builder.ins().select(is_zero, nothing, value)
    }

    /// `2^t` of an F64 in `[-200, 200]`, to about 2^-48; NaN for NaN.
    fn exp2(&mut self, t: Value) -> Value {
        let whole = self.builder.ins().nearest(t);
        let fraction = self.builder.ins().fsub(t, whole);
        let mut series = vec![1.0];
        for k in 1..14 {
            series.insert(0, series[0] * std::f64::consts::LN_2 / f64::from(k));
        }
        let value = self.polynomial(fraction, &series);
        let exponent = self.builder.ins().fcvt_to_sint_sat(types::I64, whole);
        let exponent = self.builder.ins().iadd_imm_s(exponent, 1023);
        let scale = self.builder.ins().ishl_imm_u(exponent, 52);
        let scale = self.builder.ins().bitcast(types::F64, MemFlagsData::new(), scale);
        self.builder.ins().fmul(value, scale)
    }

    /// `x` to the power `y`, F32, within 1 ulp; special values as C's `pow`.
    pub(super) fn power(&mut self, x: Value, y: Value) -> Value {
        let (x, y) = (self.promote(x), self.promote(y));
        let (zero, one) = (self.double(0.0), self.double(1.0));
        let size = self.builder.ins().fabs(x);
        let log = self.log2(size);
        let t = self.builder.ins().fmul(y, log);
        // 1 to any power and any base to the power 0 are 1, also where the product is NaN.
        let log_zero = self.builder.ins().fcmp(FloatCC::Equal, log, zero);
        let y_zero = self.builder.ins().fcmp(FloatCC::Equal, y, zero);
        let unit = self.builder.ins().bor(log_zero, y_zero);
        let t = self.builder.ins().select(unit, zero, t);
        let (least, most) = (self.double(-200.0), self.double(200.0));
        let t = self.builder.ins().fmax(t, least);
        let t = self.builder.ins().fmin(t, most);
        let power = self.exp2(t);
        let negated = self.builder.ins().fneg(power);
        // A negative base (or -0) to an odd whole power changes the sign, to a broken one it has no value.
        let whole = self.builder.ins().floor(y);
        let is_whole = self.builder.ins().fcmp(FloatCC::Equal, whole, y);
        let half = self.double(0.5);
        let halved = self.builder.ins().fmul(y, half);
        let floor = self.builder.ins().floor(halved);
        let is_odd = self.builder.ins().fcmp(FloatCC::NotEqual, floor, halved);
        let odd = self.builder.ins().band(is_whole, is_odd);
        let bits = self.builder.ins().bitcast(types::I64, MemFlagsData::new(), x);
        let sign = self.builder.ins().icmp_imm_s(IntCC::SignedLessThan, bits, 0);
        let flip = self.builder.ins().band(sign, odd);
        let value = self.builder.ins().select(flip, negated, power);
        let below = self.builder.ins().fcmp(FloatCC::LessThan, x, zero);
        let infinity = self.double(f64::NEG_INFINITY);
        let bounded = self.builder.ins().fcmp(FloatCC::GreaterThan, x, infinity);
        let broken = self.builder.ins().fcmp(FloatCC::NotEqual, whole, y);
        let undefined = self.builder.ins().band(below, broken);
        let undefined = self.builder.ins().band(undefined, bounded);
        let nan = self.double(f64::NAN);
        let value = self.builder.ins().select(undefined, nan, value);
        // A NaN exponent stays one unless the base is 1.
        let unordered = self.builder.ins().fcmp(FloatCC::Unordered, y, y);
        let not_one = self.builder.ins().fcmp(FloatCC::NotEqual, x, one);
        let lost = self.builder.ins().band(unordered, not_one);
        let value = self.builder.ins().select(lost, nan, value);
        self.demote(value)
    }

    /// The exact remainder of F32 `a` by `b`, with the sign of `a`, or of `b` where `floored` (then rounded once).
    /// NaN for an infinite `a`, a zero `b`, and NaN.
    pub(super) fn remainder(&mut self, a: Value, b: Value, floored: bool) -> Value {
        let (a, b) = (self.promote(a), self.promote(b));
        let (size, by) = (self.builder.ins().fabs(a), self.builder.ins().fabs(b));
        let rest = self.positive_remainder(size, by);
        let signed = self.builder.ins().fcopysign(rest, a);
        let zero = self.double(0.0);
        let infinity = self.double(f64::INFINITY);
        let finite = self.builder.ins().fcmp(FloatCC::LessThan, size, infinity);
        let some = self.builder.ins().fcmp(FloatCC::GreaterThan, by, zero);
        let defined = self.builder.ins().band(finite, some);
        let nan = self.double(f64::NAN);
        let mut value = self.builder.ins().select(defined, signed, nan);
        if floored {
            let product = self.builder.ins().fmul(value, b);
            let differ = self.builder.ins().fcmp(FloatCC::LessThan, product, zero);
            let shifted = self.builder.ins().fadd(value, b);
            value = self.builder.ins().select(differ, shifted, value);
        }
        self.demote(value)
    }

    /// `a` modulo `b` for `a, b >= 0`: subtracts multiples of `b` with quotients cut to 25 bits, so that every step is exact.
    fn positive_remainder(&mut self, a: Value, b: Value) -> Value {
        let (head, body, exit) =
            (self.builder.create_block(), self.builder.create_block(), self.builder.create_block());
        let rest = self.builder.append_block_param(head, types::F64);
        let (zero, infinity) = (self.double(0.0), self.double(f64::INFINITY));
        self.builder.ins().jump(head, &[BlockArg::Value(a)]);
        self.builder.switch_to_block(head);
        // NaN, infinite and zero operands end the loop at once; the caller replaces their result.
        let more = self.builder.ins().fcmp(FloatCC::GreaterThanOrEqual, rest, b);
        let finite = self.builder.ins().fcmp(FloatCC::LessThan, rest, infinity);
        let some = self.builder.ins().fcmp(FloatCC::GreaterThan, b, zero);
        let more = self.builder.ins().band(more, finite);
        let more = self.builder.ins().band(more, some);
        self.builder.ins().brif(more, body, &[], exit, &[]);
        self.builder.seal_block(body);
        self.builder.seal_block(exit);
        self.builder.switch_to_block(body);
        let quotient = self.builder.ins().fdiv(rest, b);
        let quotient = self.builder.ins().trunc(quotient);
        let bits = self.builder.ins().bitcast(types::I64, MemFlagsData::new(), quotient);
        let mask = self.builder.ins().iconst(types::I64, !((1 << 28) - 1));
        let bits = self.builder.ins().band(bits, mask);
        let quotient = self.builder.ins().bitcast(types::F64, MemFlagsData::new(), bits);
        let product = self.builder.ins().fmul(quotient, b);
        let next = self.builder.ins().fsub(rest, product);
        self.builder.ins().jump(head, &[BlockArg::Value(next)]);
        self.builder.seal_block(head);
        self.builder.switch_to_block(exit);
        rest
    }
}
