//! Conversion of the element type. Float to integer truncates towards zero (out of range: saturates); anything to bool is `!= 0`.

use super::attributes::{Attr, AttrReader, attributes};
use super::literal::{Data, Literal};
use super::shapes::{checked, operands};
use super::{GradientContext, OneResult};
use crate::error::OpError;
use crate::types::{DType, TensorType};

attributes! {
    /// Attributes of a cast.
    pub struct Cast {
        /// Element type of the result.
        pub to: DType = DType::F32,
    }
}

impl Cast {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl OneResult for Cast {
    fn name(&self) -> &'static str {
        "cast"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        let [x] = operands(inputs)?;
        checked(self.to, x.shape.clone())
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let [x] = operands(inputs)?;
        let ty = TensorType::new(self.to, x.ty.shape.clone());
        Ok(match &x.data {
            Data::Float(values) if self.to.is_float() => Literal::new_float(ty, values.clone()),
            Data::Float(values) => Literal::new_int(ty, values.iter().map(|v| to_int(self.to, *v)).collect()),
            Data::Int(values) if self.to.is_float() => {
                Literal::new_float(ty, values.iter().map(|v| to_float(x.ty.dtype, self.to, *v)).collect())
            }
            Data::Int(values) => Literal::new_int(ty, values.clone()),
        })
    }

    fn gradient(&self, cx: &mut GradientContext<'_>) -> Result<(), OpError> {
        let (dy, dtype) = (cx.dy()?, cx.ty(cx.operand(0)).dtype);
        let dx = cx.cast(dy, dtype)?;
        cx.set(0, dx)
    }
}

/// `v` truncated towards zero and saturated to the range of integer type `to`; NaN becomes 0, and 1 as a bool.
fn to_int(to: DType, v: f64) -> i64 {
    match to {
        DType::I8 => i64::from(v as i8),
        DType::U8 => i64::from(v as u8),
        DType::I16 => i64::from(v as i16),
        DType::U16 => i64::from(v as u16),
        DType::I32 => i64::from(v as i32),
        DType::U32 => i64::from(v as u32),
        DType::U64 => v as u64 as i64,
        DType::Bool => i64::from(v != 0.0),
        _ => v as i64,
    }
}

/// Integer `v` of type `from`, rounded once to `to` or to `f64`.
fn to_float(from: DType, to: DType, v: i64) -> f64 {
    // A 64-bit integer rounded to f64 and then to f32 could be off by one unit in the last place.
    match (from, to) {
        (DType::U64, DType::F32) => f64::from(v as u64 as f32),
        (DType::U64, _) => v as u64 as f64,
        (_, DType::F32) => f64::from(v as f32),
        _ => v as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cast(to: DType, x: &Literal) -> Literal {
        let op = Cast { to };
        let y = op.evaluate(&[x]).unwrap();
        assert_eq!(op.infer(&[&x.ty]), Ok(y.ty.clone()));
        y
    }

    fn ints(dtype: DType, values: &[i64]) -> Literal {
        Literal::new_int(TensorType::new(dtype, [values.len()]), values.to_vec())
    }

    #[test]
    fn float_to_integer_truncates_and_saturates() {
        let x = Literal::from_f32([6], &[1.9, -1.9, -0.0, 300.0, -1e30, f32::NAN]);
        assert_eq!(cast(DType::I8, &x), ints(DType::I8, &[1, -1, 0, 127, -128, 0]));
        assert_eq!(cast(DType::U8, &x), ints(DType::U8, &[1, 0, 0, 255, 0, 0]));
        assert_eq!(cast(DType::I64, &x), ints(DType::I64, &[1, -1, 0, 300, i64::MIN, 0]));
        let large = Literal::from_f32([1], &[9_223_372_036_854_775_808.0]);
        assert_eq!(cast(DType::U64, &large), ints(DType::U64, &[i64::MIN]), "2^63 as its bits");
    }

    #[test]
    fn anything_but_zero_is_true() {
        let x = Literal::from_f32([4], &[0.0, -0.0, 0.3, f32::NAN]);
        assert_eq!(cast(DType::Bool, &x), ints(DType::Bool, &[0, 0, 1, 1]));
        assert_eq!(cast(DType::Bool, &ints(DType::I32, &[256, 0, -1])), ints(DType::Bool, &[1, 0, 1]));
        assert_eq!(cast(DType::F32, &ints(DType::Bool, &[1, 0])), Literal::from_f32([2], &[1.0, 0.0]));
    }

    #[test]
    fn integers_wrap() {
        assert_eq!(cast(DType::U8, &ints(DType::I32, &[256, -1])), ints(DType::U8, &[0, 255]));
        assert_eq!(cast(DType::I64, &ints(DType::U64, &[-1])), ints(DType::I64, &[-1]));
    }

    #[test]
    fn integers_round_once() {
        // Just above the middle of two f32 values; f64 would round it to the middle, and then f32 to the lower, even one.
        let v = (1 << 60) + (1 << 36) + 1;
        let above = 1_152_921_642_045_800_448.0;
        assert_eq!(cast(DType::F32, &ints(DType::I64, &[v])).to_f64(), [above]);
        assert_eq!(cast(DType::F32, &ints(DType::U64, &[v])).to_f64(), [above]);
        assert_eq!(cast(DType::F64, &ints(DType::U64, &[-1])).to_f64(), [18_446_744_073_709_551_616.0]);
    }

    #[test]
    fn floats_round_to_nearest_even() {
        let x = Literal::new_float(TensorType::new(DType::F64, [3]), vec![1.0 + 2f64.powi(-24), 0.1, 1e40]);
        assert_eq!(cast(DType::F32, &x).to_f64(), [1.0, f64::from(0.1f32), f64::INFINITY]);
        let half = Literal::from_f32([2], &[2049.0, 65520.0]);
        assert_eq!(cast(DType::F16, &half).to_f64(), [2048.0, f64::INFINITY]);
    }
}
