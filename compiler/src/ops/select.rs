//! `where`: `condition ? a : b`, element by element with NumPy broadcasting. Operands: condition (bool), `a`, `b` of one type.

use super::Operation;
use super::attributes::attributes;
use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::shapes::{broadcast, broadcast_offsets, checked, expect_dtype, operands};
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::types::DType;
use crate::types::TensorType;

attributes! {
    /// Attributes of `where`: none.
    pub struct Where {}
}

impl Where {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl Operation for Where {
    fn name(&self) -> &'static str {
        "where"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        let [condition, a, b] = operands(inputs)?;
        expect_dtype("condition", DType::Bool, condition)?;
        expect_dtype("b", a.dtype, b)?;
        checked(a.dtype, broadcast(&condition.shape, &broadcast(&a.shape, &b.shape)?)?)
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let [condition, a, b] = operands(inputs)?;
        let ty = self.infer(&[&condition.ty, &a.ty, &b.ty])?;
        let chosen = condition.ints("condition")?;
        let [at_c, at_a, at_b] = [condition, a, b].map(|x| broadcast_offsets(&x.ty.shape, &ty.shape));
        let count = ty.shape.numel();
        if ty.dtype.is_float() {
            let (a, b) = (a.floats("a")?, b.floats("b")?);
            let pick = |i: usize| if chosen[at_c[i]] != 0 { a[at_a[i]] } else { b[at_b[i]] };
            Ok(Literal::new_float(ty, (0..count).map(pick).collect()))
        } else {
            let (a, b) = (a.ints("a")?, b.ints("b")?);
            let pick = |i: usize| if chosen[at_c[i]] != 0 { a[at_a[i]] } else { b[at_b[i]] };
            Ok(Literal::new_int(ty, (0..count).map(pick).collect()))
        }
    }

    fn lower(&self, _cx: &mut Lowering<'_>) -> Result<(), OpError> {
        Err(OpError::new("operator", "a native kernel", "none"))
    }
}
