//! Element-wise functions of two operands of one type, with NumPy broadcasting; the mnemonic is the function's own.

use super::Operation;
use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::shapes::{broadcast, broadcast_offsets, checked, expect_dtype, operands};
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::scalar::BinaryFn;
use crate::types::DType;
use crate::types::TensorType;

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
        let function = BinaryFn::ALL.into_iter().find(|f| f.name() == mnemonic);
        function
            .map(|function| Self { function })
            .ok_or_else(|| OpError::new("operator", "a function of two operands", mnemonic))
    }
}

impl Operation for Binary {
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

    fn lower(&self, _cx: &mut Lowering<'_>) -> Result<(), OpError> {
        Err(OpError::new("operator", "a native kernel", "none"))
    }
}

/// [`BinaryFn::eval_int`] for `u64` elements held as bits: what depends on order or division is done unsigned.
fn eval_u64(function: BinaryFn, a: i64, b: i64) -> i64 {
    let (x, y) = (a as u64, b as u64);
    match function {
        BinaryFn::Div => x.checked_div(y).unwrap_or(0) as i64,
        BinaryFn::Mod | BinaryFn::Fmod => x.checked_rem(y).unwrap_or(0) as i64,
        BinaryFn::Min => x.min(y) as i64,
        BinaryFn::Max => x.max(y) as i64,
        BinaryFn::Prelu => a,
        BinaryFn::Less => i64::from(x < y),
        BinaryFn::LessOrEqual => i64::from(x <= y),
        BinaryFn::Greater => i64::from(x > y),
        BinaryFn::GreaterOrEqual => i64::from(x >= y),
        _ => function.eval_int(a, b),
    }
}
