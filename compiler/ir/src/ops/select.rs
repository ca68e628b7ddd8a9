//! `where`: `condition ? a : b`, element by element with NumPy broadcasting. Operands: condition (bool), `a`, `b` of one type.

use super::attributes::{Attr, AttrReader, attributes};
use super::literal::Literal;
use super::shapes::{broadcast, broadcast_offsets, checked, expect_dtype, operands};
use super::{GradientContext, OneResult};
use crate::error::OpError;
use crate::types::{DType, TensorType};

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

impl OneResult for Where {
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

    fn gradient(&self, cx: &mut GradientContext<'_>) -> Result<(), OpError> {
        let (dy, condition) = (cx.dy()?, cx.operand(0));
        let zero = cx.number(dy, 0.0);
        for (slot, [a, b]) in [(1, [dy, zero]), (2, [zero, dy])] {
            if cx.wanted(slot) {
                let (chosen, shape) = (cx.choose(condition, a, b)?, cx.shape(cx.operand(slot)));
                let gradient = cx.sum_to(chosen, &shape)?;
                cx.set(slot, gradient)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flags(shape: &[usize], values: &[i64]) -> Literal {
        Literal::new_int(TensorType::new(DType::Bool, shape), values.to_vec())
    }

    #[test]
    fn all_three_operands_broadcast() {
        let condition = flags(&[2, 1], &[1, 0]);
        let (a, b) = (Literal::from_f32([2], &[1., 2.]), Literal::from_f32([], &[9.]));
        let y = Where {}.evaluate(&[&condition, &a, &b]);
        assert_eq!(y, Ok(Literal::from_f32([2, 2], &[1., 2., 9., 9.])));
    }

    #[test]
    fn integers_keep_all_their_bits() {
        let int = |v: i64| Literal::new_int(TensorType::new(DType::I64, []), vec![v]);
        let y = Where {}.evaluate(&[&flags(&[2], &[1, 0]), &int(i64::MAX), &int(i64::MIN)]).unwrap();
        assert_eq!(y.ints("y").unwrap(), [i64::MAX, i64::MIN]);
    }

    #[test]
    fn a_nan_that_is_not_chosen_leaves_no_trace() {
        let (a, b) = (Literal::from_f32([1], &[f32::NAN]), Literal::from_f32([1], &[1.]));
        assert_eq!(Where {}.evaluate(&[&flags(&[1], &[0]), &a, &b]), Ok(b));
    }

    #[test]
    fn operands_are_checked() {
        let (condition, x) = (TensorType::new(DType::Bool, [2]), TensorType::f32([2]));
        let infer = |operands: [&TensorType; 3]| Where {}.infer(&operands).map_err(|e| e.field);
        assert_eq!(infer([&condition, &x, &x]), Ok(x.clone()));
        assert_eq!(infer([&x, &x, &x]), Err("condition".into()));
        assert_eq!(infer([&condition, &x, &condition]), Err("b".into()));
        assert_eq!(infer([&condition, &x, &TensorType::f32([3])]), Err("operands".into()));
    }
}
