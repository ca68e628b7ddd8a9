//! NumPy broadcast of the operand to a shape it broadcasts to.

use super::attributes::{Attr, AttrReader, attributes};
use super::literal::Literal;
use super::shapes::{broadcast, broadcast_offsets, checked, operands};
use super::{GradientContext, OneResult};
use crate::error::OpError;
use crate::types::TensorType;

attributes! {
    /// Attributes of an expand.
    pub struct Expand {
        /// Shape of the result.
        pub shape: Vec<usize> = vec![],
    }
}

impl Expand {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl OneResult for Expand {
    fn name(&self) -> &'static str {
        "expand"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        let [x] = operands(inputs)?;
        let ty = checked(x.dtype, self.shape.clone())?;
        if broadcast(&x.shape, &self.shape).ok().as_ref() != Some(&ty.shape) {
            return Err(OpError::new("shape", format!("a shape that {} broadcasts to", x.shape), ty.shape.to_string()));
        }
        Ok(ty)
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let [x] = operands(inputs)?;
        let source = broadcast_offsets(&x.ty.shape, &self.shape);
        Ok(x.gather_elements(self.shape.clone().into(), 0.0, |i| Some(source[i])))
    }

    fn gradient(&self, cx: &mut GradientContext<'_>) -> Result<(), OpError> {
        let (dy, shape) = (cx.dy()?, cx.shape(cx.operand(0)));
        let dx = cx.sum_to(dy, &shape)?;
        cx.set(0, dx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expand(shape: &[usize]) -> Expand {
        Expand { shape: shape.to_vec() }
    }

    #[test]
    fn elements_repeat() {
        let x = Literal::from_f32([2, 1], &[1., 2.]);
        let op = expand(&[2, 2, 3]);
        assert_eq!(op.infer(&[&x.ty]), Ok(TensorType::f32([2, 2, 3])));
        let y = op.evaluate(&[&x]).unwrap();
        assert_eq!(y.to_f64(), [1., 1., 1., 2., 2., 2., 1., 1., 1., 2., 2., 2.]);
    }

    #[test]
    fn a_scalar_fills_any_shape() {
        let x = Literal::from_f32([], &[3.]);
        assert_eq!(expand(&[2]).evaluate(&[&x]), Ok(Literal::from_f32([2], &[3., 3.])));
        assert_eq!(expand(&[2, 0]).evaluate(&[&x]), Ok(Literal::from_f32([2, 0], &[])));
        assert_eq!(expand(&[]).evaluate(&[&x]), Ok(x));
    }

    #[test]
    fn the_operand_must_not_be_larger() {
        let error = expand(&[1]).infer(&[&TensorType::f32([2])]).unwrap_err();
        assert_eq!(error.to_string(), "shape: expected a shape that [2] broadcasts to, found [1]");
        assert!(expand(&[3]).infer(&[&TensorType::f32([1, 3])]).is_err());
        assert!(expand(&[4]).infer(&[&TensorType::f32([3])]).is_err());
        assert_eq!(expand(&[1 << 40, 1 << 40]).infer(&[&TensorType::f32([1])]).unwrap_err().field, "result");
    }
}
