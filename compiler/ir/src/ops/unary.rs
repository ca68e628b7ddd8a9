//! Element-wise functions of one operand; the mnemonic is the function's own (`relu`, `clip`, `exp`, …).

use super::attributes::{Attr, AttrReader, AttrValue};
use super::literal::{Data, Literal};
use super::shapes::{checked, operands};
use super::{GradientContext, OneResult, UnaryGradient};
use crate::error::OpError;
use crate::scalar::UnaryFn;
use crate::types::{DType, TensorType};

/// An element-wise function.
#[derive(Clone, PartialEq, Debug)]
pub struct Unary {
    /// The function; its parameters print as `p=[…]`.
    pub function: UnaryFn,
}

impl Unary {
    /// Reads the operator from its text form.
    pub fn read(mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        let mut reader = reader;
        let p: Vec<f32> = reader.take("p", Vec::new())?;
        reader.finish()?;
        let function = UnaryFn::from_spelling(mnemonic, &p)
            .ok_or_else(|| OpError::new("p", "the parameters of the function", format!("{p:?}")))?;
        Ok(Self { function })
    }
}

impl OneResult for Unary {
    fn name(&self) -> &'static str {
        self.function.spelling().0
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        let p = self.function.spelling().1;
        if p.is_empty() { Vec::new() } else { vec![("p", p.to_attr())] }
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        let [x] = operands(inputs)?;
        let (accepts, expected): (fn(DType) -> bool, _) = match self.function {
            UnaryFn::Not => (|t| t == DType::Bool, "bool"),
            UnaryFn::Neg => (is_signed, "a signed type"),
            UnaryFn::Relu | UnaryFn::Clip(..) | UnaryFn::Abs | UnaryFn::Sign => {
                (|t| t != DType::Bool, "a numeric type")
            }
            _ => (DType::is_float, "a floating-point type"),
        };
        if !accepts(x.dtype) {
            return Err(OpError::new("x", expected, x.dtype.name()));
        }
        let dtype = if self.function == UnaryFn::IsNan { DType::Bool } else { x.dtype };
        checked(dtype, x.shape.clone())
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let [x] = operands(inputs)?;
        let ty = self.infer(&[&x.ty])?;
        Ok(match &x.data {
            Data::Float(values) if ty.dtype == DType::Bool => {
                Literal::new_int(ty, values.iter().map(|v| self.function.eval(*v) as i64).collect())
            }
            Data::Float(values) => Literal::new_float(ty, values.iter().map(|v| self.function.eval(*v)).collect()),
            Data::Int(values) => {
                let dtype = ty.dtype;
                Literal::new_int(ty, values.iter().map(|v| eval_int(self.function, dtype, *v)).collect())
            }
        })
    }

    fn gradient(&self, cx: &mut GradientContext<'_>) -> Result<(), OpError> {
        let (function, dy) = (self.function, cx.dy()?);
        let dx = match function {
            UnaryFn::Floor | UnaryFn::Ceil | UnaryFn::Round | UnaryFn::Sign => return Ok(()),
            UnaryFn::Neg => cx.unary(UnaryFn::Neg, dy)?,
            UnaryFn::Exp => {
                let y = cx.result(0);
                cx.mul(dy, y)?
            }
            _ => {
                let x = if function.derivative_is_of_value() { cx.result(0) } else { cx.operand(0) };
                cx.op(UnaryGradient { function }, &[dy, x])?
            }
        };
        cx.set(0, dx)
    }
}

fn is_signed(dtype: DType) -> bool {
    dtype.is_float() || matches!(dtype, DType::I8 | DType::I16 | DType::I32 | DType::I64)
}

/// The functions that integers and bool have, in the type's own order; the caller wraps the result.
fn eval_int(function: UnaryFn, dtype: DType, v: i64) -> i64 {
    // Every integer type fits in i128, so neither the sign of i64::MIN nor unsigned order needs a special case.
    let x = if dtype == DType::U64 { i128::from(v as u64) } else { i128::from(v) };
    let result = match function {
        UnaryFn::Relu => x.max(0),
        UnaryFn::Clip(lo, hi) => x.max(lo as i128).min(hi as i128),
        UnaryFn::Abs => x.abs(),
        UnaryFn::Sign => x.signum(),
        UnaryFn::Neg => -x,
        UnaryFn::Not => i128::from(x == 0),
        _ => x,
    };
    result as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn eval(function: UnaryFn, x: &[f32]) -> Vec<f64> {
        Unary { function }.evaluate(&[&Literal::from_f32([x.len()], x)]).unwrap().to_f64()
    }

    fn eval_ints(function: UnaryFn, dtype: DType, x: &[i64]) -> Vec<i64> {
        let x = Literal::new_int(TensorType::new(dtype, [x.len()]), x.to_vec());
        let y = Unary { function }.evaluate(&[&x]).unwrap();
        assert_eq!(y.ty, x.ty);
        y.ints("y").unwrap().to_vec()
    }

    #[test]
    fn floats_follow_the_formula() {
        assert_eq!(eval(UnaryFn::Relu, &[-1.0, 0.0, 2.0]), [0.0, 0.0, 2.0]);
        assert_eq!(eval(UnaryFn::Clip(0.0, 6.0), &[-1.0, 3.0, 7.0]), [0.0, 3.0, 6.0]);
        assert_eq!(eval(UnaryFn::Clip(2.0, 1.0), &[0.0, 5.0]), [1.0, 1.0], "crossed bounds give the upper one");
        assert_eq!(eval(UnaryFn::HardSwish, &[-3.0, 0.0, 3.0, 4.0]), [0.0, 0.0, 3.0, 4.0]);
        assert_eq!(eval(UnaryFn::Round, &[0.5, 1.5, -2.5]), [0.0, 2.0, -2.0]);
        assert_eq!(eval(UnaryFn::LeakyRelu(0.5), &[-2.0, 2.0]), [-1.0, 2.0]);
        assert_eq!(eval(UnaryFn::Sigmoid, &[0.0, f32::INFINITY, f32::NEG_INFINITY]), [0.5, 1.0, 0.0]);
        assert!(eval(UnaryFn::Relu, &[f32::NAN])[0].is_nan());
    }

    #[test]
    fn results_are_rounded_to_the_type() {
        assert_eq!(eval(UnaryFn::Silu, &[1.0]), [f64::from(0.731_058_6_f32)]);
        assert_eq!(eval(UnaryFn::Exp, &[1.0, 100.0]), [f64::from(std::f32::consts::E), f64::INFINITY]);
    }

    #[test]
    fn integers_have_their_own_rules() {
        assert_eq!(eval_ints(UnaryFn::Relu, DType::I8, &[-5, 5]), [0, 5]);
        assert_eq!(eval_ints(UnaryFn::Relu, DType::U64, &[-1]), [-1], "the largest u64 is not negative");
        assert_eq!(eval_ints(UnaryFn::Abs, DType::I64, &[-3, i64::MIN]), [3, i64::MIN]);
        assert_eq!(eval_ints(UnaryFn::Neg, DType::I8, &[-128, 1]), [-128, -1]);
        assert_eq!(eval_ints(UnaryFn::Sign, DType::U64, &[-1, 0]), [1, 0]);
        assert_eq!(eval_ints(UnaryFn::Clip(0.0, 6.0), DType::I32, &[-1, 3, 7]), [0, 3, 6]);
        let all = UnaryFn::Clip(f32::NEG_INFINITY, f32::INFINITY);
        assert_eq!(eval_ints(all, DType::I64, &[i64::MIN, i64::MAX]), [i64::MIN, i64::MAX]);
        assert_eq!(eval_ints(UnaryFn::Not, DType::Bool, &[0, 1]), [1, 0]);
    }

    #[test]
    fn is_nan_gives_bool() {
        let x = Literal::from_f32([2], &[f32::NAN, f32::INFINITY]);
        let y = Unary { function: UnaryFn::IsNan }.evaluate(&[&x]);
        assert_eq!(y, Ok(Literal::new_int(TensorType::new(DType::Bool, [2]), vec![1, 0])));
    }

    #[test]
    fn types_are_checked() {
        let accepts = |function, dtype| Unary { function }.infer(&[&TensorType::new(dtype, [])]).is_ok();
        assert!(accepts(UnaryFn::Exp, DType::F16) && !accepts(UnaryFn::Exp, DType::I32));
        assert!(accepts(UnaryFn::Neg, DType::I64) && !accepts(UnaryFn::Neg, DType::U8));
        assert!(accepts(UnaryFn::Not, DType::Bool) && !accepts(UnaryFn::Not, DType::F32));
        assert!(accepts(UnaryFn::Abs, DType::U8) && !accepts(UnaryFn::Abs, DType::Bool));
        let error = Unary { function: UnaryFn::Erf }.infer(&[&TensorType::new(DType::I8, [1])]).unwrap_err();
        assert_eq!(error.to_string(), "x: expected a floating-point type, found i8");
        assert_eq!(Unary { function: UnaryFn::Erf }.infer(&[]).unwrap_err().field, "operands");
    }
}
