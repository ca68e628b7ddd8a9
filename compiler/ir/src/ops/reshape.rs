//! The same elements, row-major, in another shape. Also ONNX's Flatten, Squeeze and Unsqueeze.

use super::attributes::{Attr, AttrReader, attributes};
use super::literal::Literal;
use super::shapes::{checked, operands};
use super::{GradientContext, OneResult};
use crate::error::OpError;
use crate::types::TensorType;

attributes! {
    /// Attributes of a reshape.
    pub struct Reshape {
        /// Shape of the result.
        pub shape: Vec<usize> = vec![],
    }
}

impl Reshape {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl OneResult for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        let [x] = operands(inputs)?;
        let ty = checked(x.dtype, self.shape.clone())?;
        if ty.shape.checked_numel() != x.shape.checked_numel() {
            return Err(OpError::new("shape", format!("as many elements as {}", x.shape), ty.shape.to_string()));
        }
        Ok(ty)
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let [x] = operands(inputs)?;
        Ok(x.clone().reshaped(self.shape.clone().into()))
    }

    fn gradient(&self, cx: &mut GradientContext<'_>) -> Result<(), OpError> {
        let (dy, shape) = (cx.dy()?, cx.shape(cx.operand(0)));
        let dx = cx.reshape(dy, &shape)?;
        cx.set(0, dx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shape(from: &[usize], to: &[usize]) -> Result<TensorType, OpError> {
        Reshape { shape: to.to_vec() }.infer(&[&TensorType::f32(from)])
    }

    #[test]
    fn elements_keep_their_order() {
        let x = Literal::from_f32([2, 3], &[0., 1., 2., 3., 4., 5.]);
        let y = Reshape { shape: vec![3, 1, 2] }.evaluate(&[&x]).unwrap();
        assert_eq!(y, Literal::from_f32([3, 1, 2], &[0., 1., 2., 3., 4., 5.]));
    }

    #[test]
    fn the_element_count_must_not_change() {
        assert_eq!(shape(&[1, 1], &[]), Ok(TensorType::f32([])));
        assert_eq!(shape(&[0, 7], &[3, 0]), Ok(TensorType::f32([3, 0])));
        assert_eq!(
            shape(&[2, 3], &[4]).unwrap_err().to_string(),
            "shape: expected as many elements as [2,3], found [4]"
        );
        assert_eq!(shape(&[0], &[1 << 40, 1 << 40]).unwrap_err().field, "result");
    }
}
