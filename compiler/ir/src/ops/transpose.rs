//! Permutation of axes: axis `i` of the result is axis `perm[i]` of the operand.

use super::attributes::{Attr, AttrReader, attributes};
use super::literal::Literal;
use super::shapes::{checked, expect_len, offsets, operands, strides};
use super::{GradientContext, OneResult};
use crate::error::OpError;
use crate::types::{Shape, TensorType};

attributes! {
    /// Attributes of a transpose.
    pub struct Transpose {
        /// Source axis of each axis of the result.
        pub perm: Vec<usize> = vec![],
    }
}

impl Transpose {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl OneResult for Transpose {
    fn name(&self) -> &'static str {
        "transpose"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        let [x] = operands(inputs)?;
        let rank = x.shape.rank();
        expect_len("perm", rank, self.perm.len())?;
        if let Some(axis) = (0..rank).find(|axis| !self.perm.contains(axis)) {
            let expected = format!("a permutation of {rank} axes");
            return Err(OpError::new("perm", expected, format!("{:?} without {axis}", self.perm)));
        }
        checked(x.dtype, self.perm.iter().map(|axis| x.shape[*axis]).collect::<Vec<_>>())
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let [x] = operands(inputs)?;
        let shape: Shape = self.perm.iter().map(|axis| x.ty.shape[*axis]).collect();
        let strides = strides(&x.ty.shape);
        let source = offsets(&shape, |axis, i| Some(i * strides[self.perm[axis]]));
        Ok(x.gather_elements(shape, 0.0, |i| source[i]))
    }

    fn gradient(&self, cx: &mut GradientContext<'_>) -> Result<(), OpError> {
        let (dy, mut inverse) = (cx.dy()?, vec![0; self.perm.len()]);
        self.perm.iter().enumerate().for_each(|(to, from)| inverse[*from] = to);
        let dx = cx.transpose(dy, &inverse)?;
        cx.set(0, dx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transpose(perm: &[usize]) -> Transpose {
        Transpose { perm: perm.to_vec() }
    }

    #[test]
    fn axes_move() {
        let x = Literal::from_f32([1, 2, 3], &[0., 1., 2., 3., 4., 5.]);
        let op = transpose(&[2, 0, 1]);
        assert_eq!(op.infer(&[&x.ty]), Ok(TensorType::f32([3, 1, 2])));
        assert_eq!(op.evaluate(&[&x]), Ok(Literal::from_f32([3, 1, 2], &[0., 3., 1., 4., 2., 5.])));
    }

    #[test]
    fn three_axes_rotate() {
        let x = Literal::from_f32([2, 2, 2], &[0., 1., 2., 3., 4., 5., 6., 7.]);
        let y = transpose(&[1, 2, 0]).evaluate(&[&x]).unwrap();
        assert_eq!(y, Literal::from_f32([2, 2, 2], &[0., 4., 1., 5., 2., 6., 3., 7.]));
    }

    #[test]
    fn scalars_and_empty_tensors_have_transposes() {
        let x = Literal::from_f32([], &[7.]);
        assert_eq!(transpose(&[]).infer(&[&x.ty]), Ok(x.ty.clone()));
        assert_eq!(transpose(&[]).evaluate(&[&x]), Ok(x));
        let empty = transpose(&[1, 0]).evaluate(&[&Literal::from_f32([0, 2], &[])]);
        assert_eq!(empty, Ok(Literal::from_f32([2, 0], &[])));
    }

    #[test]
    fn the_list_must_be_a_permutation() {
        let x = TensorType::f32([2, 3]);
        for perm in [&[0][..], &[0, 0], &[0, 2], &[0, 1, 2]] {
            assert_eq!(transpose(perm).infer(&[&x]).unwrap_err().field, "perm", "{perm:?}");
        }
    }
}
