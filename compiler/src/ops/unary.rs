//! Element-wise functions of one operand; the mnemonic is the function's own (`relu`, `clip`, `exp`, …).

use super::Operation;
use super::attributes::{Attr, AttrReader, AttrValue};
use super::literal::{Data, Literal};
use super::shapes::{checked, operands};
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::scalar::UnaryFn;
use crate::types::DType;
use crate::types::TensorType;

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

impl Operation for Unary {
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

    fn lower(&self, _cx: &mut Lowering<'_>) -> Result<(), OpError> {
        Err(OpError::new("operator", "a native kernel", "none"))
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
