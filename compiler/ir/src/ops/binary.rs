//! Element-wise functions of two operands of one type, with NumPy broadcasting; the mnemonic is the function's own.

use super::attributes::{Attr, AttrReader};
use super::gradient::{Value, no_rule};
use super::literal::Literal;
use super::shapes::{broadcast, broadcast_offsets, checked, expect_dtype, operands};
use super::{GradientContext, OneResult};
use crate::error::OpError;
use crate::scalar::{BinaryFn, UnaryFn};
use crate::types::{DType, TensorType};

/// An element-wise function of two operands.
#[derive(Clone, PartialEq, Debug)]
pub struct Binary {
    /// The function.
    pub function: BinaryFn,
}

impl Binary {
    /// Reads the operator from its text form.
    pub fn read(mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        reader.finish()?;
        let function = BinaryFn::from_name(mnemonic);
        function
            .map(|function| Self { function })
            .ok_or_else(|| OpError::new("operator", "a function of two operands", mnemonic))
    }
}

impl OneResult for Binary {
    fn name(&self) -> &'static str {
        self.function.name()
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        Vec::new()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        let [a, b] = operands(inputs)?;
        let logical = matches!(self.function, BinaryFn::And | BinaryFn::Or | BinaryFn::Xor);
        if logical && a.dtype.is_float() {
            return Err(OpError::new("a", "bool or an integer type", a.dtype.name()));
        }
        if !logical && self.function != BinaryFn::Equal && a.dtype == DType::Bool {
            return Err(OpError::new("a", "a numeric type", a.dtype.name()));
        }
        expect_dtype("b", a.dtype, b)?;
        let dtype = if self.function.is_comparison() { DType::Bool } else { a.dtype };
        checked(dtype, broadcast(&a.shape, &b.shape)?)
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let [a, b] = operands(inputs)?;
        let ty = self.infer(&[&a.ty, &b.ty])?;
        let at_a = broadcast_offsets(&a.ty.shape, &ty.shape);
        let at_b = broadcast_offsets(&b.ty.shape, &ty.shape);
        let pairs = at_a.into_iter().zip(at_b);
        if !a.ty.dtype.is_float() {
            let eval = if a.ty.dtype == DType::U64 { eval_u64 } else { BinaryFn::eval_int };
            let (a, b) = (a.ints("a")?, b.ints("b")?);
            return Ok(Literal::new_int(ty, pairs.map(|(i, j)| eval(self.function, a[i], b[j])).collect()));
        }
        let (a, b) = (a.floats("a")?, b.floats("b")?);
        let values = pairs.map(|(i, j)| self.function.eval(a[i], b[j]));
        if ty.dtype.is_float() {
            Ok(Literal::new_float(ty, values.collect()))
        } else {
            Ok(Literal::new_int(ty, values.map(|v| v as i64).collect()))
        }
    }

    fn gradient(&self, cx: &mut GradientContext<'_>) -> Result<(), OpError> {
        let (dy, y, a, b) = (cx.dy()?, cx.result(0), cx.operand(0), cx.operand(1));
        let (of_a, of_b) = match self.function {
            BinaryFn::Add => (Some(dy), Some(dy)),
            BinaryFn::Sub => (Some(dy), if cx.wanted(1) { Some(cx.unary(UnaryFn::Neg, dy)?) } else { None }),
            BinaryFn::Mul => {
                let of_a = if cx.wanted(0) { Some(cx.mul(dy, b)?) } else { None };
                (of_a, if cx.wanted(1) { Some(cx.mul(dy, a)?) } else { None })
            }
            BinaryFn::Div => {
                let quotient = cx.div(dy, b)?;
                let of_b = if cx.wanted(1) { Some(cx.mul(quotient, y)?) } else { None };
                (Some(quotient), of_b.map(|of_b| cx.unary(UnaryFn::Neg, of_b)).transpose()?)
            }
            BinaryFn::Pow => powers(cx)?,
            BinaryFn::Min | BinaryFn::Max => {
                let wins = if self.function == BinaryFn::Max { BinaryFn::Greater } else { BinaryFn::Less };
                (share(cx, wins, a, b)?, share(cx, wins, b, a)?)
            }
            BinaryFn::Prelu => {
                let zero = cx.number(a, 0.0);
                let above = cx.binary(BinaryFn::Greater, a, zero)?;
                let (scaled, product) = (cx.mul(dy, b)?, cx.mul(dy, a)?);
                (Some(cx.choose(above, dy, scaled)?), Some(cx.choose(above, zero, product)?))
            }
            BinaryFn::Fmod | BinaryFn::Mod if !cx.wanted(1) => (Some(dy), None),
            _ => return Err(no_rule(self.function.name())),
        };
        for (slot, gradient) in [of_a, of_b].into_iter().enumerate() {
            if let Some(gradient) = gradient.filter(|_| cx.wanted(slot)) {
                let shape = cx.shape(cx.operand(slot));
                let gradient = cx.sum_to(gradient, &shape)?;
                cx.set(slot, gradient)?;
            }
        }
        Ok(())
    }
}

/// The gradients of the base and of the exponent of a power; 0 for a base of 0, or an exponent of 0, where the formula has no value.
fn powers(cx: &mut GradientContext<'_>) -> Result<(Option<Value>, Option<Value>), OpError> {
    let (dy, y, a, b) = (cx.dy()?, cx.result(0), cx.operand(0), cx.operand(1));
    let exponent = cx.known(1).and_then(|b| Literal::from_constant(b).ok()).map(|b| b.to_f64());
    let of_a = match exponent.as_deref() {
        _ if !cx.wanted(0) => None,
        Some([1.0]) => Some(dy),
        Some([2.0]) => {
            let slope = cx.times(a, 2.0)?;
            Some(cx.mul(dy, slope)?)
        }
        _ => {
            let (zero, one) = (cx.number(b, 0.0), cx.number(b, 1.0));
            let lower = cx.sub(b, one)?;
            let lower = cx.binary(BinaryFn::Pow, a, lower)?;
            let slope = cx.mul(b, lower)?;
            let none = cx.binary(BinaryFn::Equal, b, zero)?;
            let slope = cx.choose(none, zero, slope)?;
            Some(cx.mul(dy, slope)?)
        }
    };
    let of_b = if cx.wanted(1) {
        let zero = cx.number(a, 0.0);
        let none = cx.binary(BinaryFn::Equal, a, zero)?;
        let log = cx.unary(UnaryFn::Log, a)?;
        let log = cx.choose(none, zero, log)?;
        let slope = cx.mul(y, log)?;
        Some(cx.mul(dy, slope)?)
    } else {
        None
    };
    Ok((of_a, of_b))
}

/// The gradient of the operand `own` of a minimum or maximum: all of it where it wins, half where both are equal.
fn share(cx: &mut GradientContext<'_>, wins: BinaryFn, own: Value, other: Value) -> Result<Option<Value>, OpError> {
    let dy = cx.dy()?;
    let (won, equal) = (cx.binary(wins, own, other)?, cx.binary(BinaryFn::Equal, own, other)?);
    let half = cx.times(dy, 0.5)?;
    let rest = cx.masked(equal, half)?;
    Ok(Some(cx.choose(won, dy, rest)?))
}

/// [`BinaryFn::eval_int`] for `u64` elements held as bits: what depends on order or division is done unsigned.
fn eval_u64(function: BinaryFn, a: i64, b: i64) -> i64 {
    let (x, y) = (a as u64, b as u64);
    match function {
        BinaryFn::Div => x.checked_div(y).unwrap_or(0) as i64,
        BinaryFn::Mod | BinaryFn::Fmod => x.checked_rem(y).unwrap_or(0) as i64,
        BinaryFn::Min => x.min(y) as i64,
        BinaryFn::Max => x.max(y) as i64,
        BinaryFn::Pow => pow_u64(x, y) as i64,
        BinaryFn::Prelu => a,
        BinaryFn::Less => i64::from(x < y),
        BinaryFn::LessOrEqual => i64::from(x <= y),
        BinaryFn::Greater => i64::from(x > y),
        BinaryFn::GreaterOrEqual => i64::from(x >= y),
        _ => function.eval_int(a, b),
    }
}

/// `x` to the power `y` by squaring, wrapping.
fn pow_u64(mut x: u64, mut y: u64) -> u64 {
    let mut power = 1u64;
    while y > 0 {
        if y & 1 == 1 {
            power = power.wrapping_mul(x);
        }
        x = x.wrapping_mul(x);
        y >>= 1;
    }
    power
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ints(dtype: DType, values: &[i64]) -> Literal {
        Literal::new_int(TensorType::new(dtype, [values.len()]), values.to_vec())
    }

    fn eval_ints(function: BinaryFn, dtype: DType, a: &[i64], b: &[i64]) -> Vec<i64> {
        let y = Binary { function }.evaluate(&[&ints(dtype, a), &ints(dtype, b)]).unwrap();
        y.ints("y").unwrap().to_vec()
    }

    #[test]
    fn operands_broadcast_both_ways() {
        let column = Literal::from_f32([2, 1], &[10., 20.]);
        let row = Literal::from_f32([3], &[1., 2., 3.]);
        let y = Binary { function: BinaryFn::Sub }.evaluate(&[&column, &row]);
        assert_eq!(y, Ok(Literal::from_f32([2, 3], &[9., 8., 7., 19., 18., 17.])));
        let scalar = Literal::from_f32([], &[2.]);
        let y = Binary { function: BinaryFn::Pow }.evaluate(&[&scalar, &row]);
        assert_eq!(y, Ok(Literal::from_f32([3], &[2., 4., 8.])));
        let empty = Literal::from_f32([0, 1], &[]);
        let y = Binary { function: BinaryFn::Add }.evaluate(&[&empty, &row]);
        assert_eq!(y, Ok(Literal::from_f32([0, 3], &[])));
    }

    #[test]
    fn a_nan_operand_wins_minimum_and_maximum() {
        let (nan, one) = (Literal::from_f32([1], &[f32::NAN]), Literal::from_f32([1], &[1.]));
        for function in [BinaryFn::Min, BinaryFn::Max] {
            for operands in [[&nan, &one], [&one, &nan]] {
                assert!(Binary { function }.evaluate(&operands).unwrap().to_f64()[0].is_nan());
            }
        }
    }

    #[test]
    fn comparisons_give_bool() {
        let (a, b) = (Literal::from_f32([3], &[1., 2., f32::NAN]), Literal::from_f32([], &[2.]));
        let compare = |function| Binary { function }.evaluate(&[&a, &b]).unwrap();
        assert_eq!(compare(BinaryFn::Less), ints(DType::Bool, &[1, 0, 0]));
        assert_eq!(compare(BinaryFn::GreaterOrEqual), ints(DType::Bool, &[0, 1, 0]));
        assert_eq!(compare(BinaryFn::Equal), ints(DType::Bool, &[0, 1, 0]));
    }

    #[test]
    fn integer_remainders_follow_the_divisor_or_the_dividend() {
        let (a, b) = ([7, -7, 7, -7, 6], [3, 3, -3, -3, 3]);
        assert_eq!(eval_ints(BinaryFn::Mod, DType::I32, &a, &b), [1, 2, -2, -1, 0]);
        assert_eq!(eval_ints(BinaryFn::Fmod, DType::I32, &a, &b), [1, -1, 1, -1, 0]);
        assert_eq!(eval_ints(BinaryFn::Div, DType::I32, &a, &b), [2, -2, -2, 2, 2]);
        assert_eq!(eval_ints(BinaryFn::Mod, DType::I64, &[i64::MAX - 1], &[i64::MAX]), [i64::MAX - 1]);
        let remainder = Binary { function: BinaryFn::Fmod };
        let y = remainder.evaluate(&[&Literal::from_f32([2], &[-4.3, 5.]), &Literal::from_f32([], &[3.])]).unwrap();
        assert_eq!(y.to_f64(), [f64::from((-4.3f32) % 3.0), 2.0]);
    }

    #[test]
    fn integers_wrap_and_division_by_zero_is_zero() {
        assert_eq!(eval_ints(BinaryFn::Add, DType::U8, &[250], &[10]), [4]);
        assert_eq!(eval_ints(BinaryFn::Mul, DType::I32, &[1 << 20], &[1 << 12]), [0]);
        assert_eq!(eval_ints(BinaryFn::Div, DType::I8, &[-128, 5], &[-1, 0]), [-128, 0]);
        assert_eq!(eval_ints(BinaryFn::Pow, DType::I64, &[3, 2, -1], &[4, -1, 3]), [81, 0, -1]);
    }

    #[test]
    fn powers_of_u64_wrap() {
        let (a, b) = ([3, 2, 2, 3], [41, 63, 64, i64::MIN]);
        let expected = [3u64.wrapping_pow(41) as i64, i64::MIN, 0, 1];
        assert_eq!(
            eval_ints(BinaryFn::Pow, DType::U64, &a, &b),
            expected,
            "of 3 to 2^63 the order divides the exponent"
        );
    }

    #[test]
    fn the_largest_u64_is_not_negative() {
        let eval = |function| eval_ints(function, DType::U64, &[-1], &[2]);
        assert_eq!(eval(BinaryFn::Max), [-1]);
        assert_eq!(eval(BinaryFn::Div), [i64::MAX]);
        assert_eq!(eval(BinaryFn::Mod), [1]);
        assert_eq!(eval(BinaryFn::Less), [0]);
        assert_eq!(eval(BinaryFn::Prelu), [-1]);
    }

    #[test]
    fn logic_is_bitwise_on_integers() {
        assert_eq!(eval_ints(BinaryFn::Xor, DType::Bool, &[0, 0, 1, 1], &[0, 1, 0, 1]), [0, 1, 1, 0]);
        assert_eq!(eval_ints(BinaryFn::And, DType::U8, &[0b1100], &[0b1010]), [0b1000]);
    }

    #[test]
    fn operands_are_checked() {
        let infer = |function, a: DType, b: DType| {
            let (a, b) = (TensorType::new(a, [2]), TensorType::new(b, [2]));
            Binary { function }.infer(&[&a, &b]).map(|ty| ty.dtype).map_err(|e| e.to_string())
        };
        use DType::*;
        assert_eq!(infer(BinaryFn::Add, F32, F32), Ok(F32));
        assert_eq!(infer(BinaryFn::Equal, Bool, Bool), Ok(Bool));
        assert_eq!(infer(BinaryFn::Add, F32, I64), Err("b: expected f32, found i64".into()));
        assert_eq!(infer(BinaryFn::Add, Bool, Bool), Err("a: expected a numeric type, found bool".into()));
        assert_eq!(infer(BinaryFn::And, F32, F32), Err("a: expected bool or an integer type, found f32".into()));
        let add = Binary { function: BinaryFn::Add };
        assert!(add.infer(&[&TensorType::f32([2]), &TensorType::f32([3])]).is_err());
        let (tall, wide) = (TensorType::f32([1 << 40, 1]), TensorType::f32([1 << 40]));
        assert_eq!(add.infer(&[&tall, &wide]).unwrap_err().field, "result");
    }
}
