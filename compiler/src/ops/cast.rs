//! Conversion of the element type. Float to integer truncates towards zero (out of range: saturates); anything to bool is `!= 0`.

use super::Operation;
use super::attributes::attributes;
use super::attributes::{Attr, AttrReader};
use super::literal::{Data, Literal};
use super::shapes::{checked, operands};
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::types::DType;
use crate::types::TensorType;

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

impl Operation for Cast {
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

    fn lower(&self, _cx: &mut Lowering<'_>) -> Result<(), OpError> {
        Err(OpError::new("operator", "a native kernel", "none"))
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
