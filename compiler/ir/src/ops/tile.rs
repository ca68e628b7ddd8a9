//! Repetition of the whole operand along each axis.

use super::attributes::{Attr, AttrReader, attributes};
use super::literal::Literal;
use super::shapes::{checked, expect_len, offsets, operands, strides};
use super::{GradientContext, OneResult};
use crate::error::OpError;
use crate::types::{Shape, TensorType};

attributes! {
    /// Attributes of a tile.
    pub struct Tile {
        /// Copies along each axis.
        pub repeats: Vec<usize> = vec![],
    }
}

impl Tile {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl OneResult for Tile {
    fn name(&self) -> &'static str {
        "tile"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        let [x] = operands(inputs)?;
        expect_len("repeats", x.shape.rank(), self.repeats.len())?;
        let extents: Option<Vec<_>> =
            x.shape.iter().zip(&self.repeats).map(|(n, repeat)| n.checked_mul(*repeat)).collect();
        let extents =
            extents.ok_or_else(|| OpError::new("repeats", "an addressable result", format!("{:?}", self.repeats)))?;
        checked(x.dtype, extents)
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let [x] = operands(inputs)?;
        let shape: Shape = x.ty.shape.iter().zip(&self.repeats).map(|(n, repeat)| n * repeat).collect();
        let strides = strides(&x.ty.shape);
        let source = offsets(&shape, |axis, i| Some(i % x.ty.shape[axis] * strides[axis]));
        Ok(x.gather_elements(shape, 0.0, |i| source[i]))
    }

    fn gradient(&self, cx: &mut GradientContext<'_>) -> Result<(), OpError> {
        let (dy, shape) = (cx.dy()?, cx.shape(cx.operand(0)));
        let split: Vec<usize> =
            self.repeats.iter().zip(&shape).flat_map(|(repeats, extent)| [*repeats, *extent]).collect();
        let split = cx.reshape(dy, &split)?;
        let sum = cx.sum(split, (0..shape.len()).map(|axis| 2 * axis).collect(), false)?;
        cx.set(0, sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tile(repeats: &[usize]) -> Tile {
        Tile { repeats: repeats.to_vec() }
    }

    #[test]
    fn the_whole_operand_repeats() {
        let x = Literal::from_f32([2, 2], &[0., 1., 2., 3.]);
        let op = tile(&[2, 2]);
        assert_eq!(op.infer(&[&x.ty]), Ok(TensorType::f32([4, 4])));
        let y = op.evaluate(&[&x]).unwrap();
        assert_eq!(y.to_f64(), [0., 1., 0., 1., 2., 3., 2., 3., 0., 1., 0., 1., 2., 3., 2., 3.]);
    }

    #[test]
    fn nothing_and_scalars_can_be_repeated() {
        let x = Literal::from_f32([2], &[0., 1.]);
        assert_eq!(tile(&[0]).evaluate(&[&x]), Ok(Literal::from_f32([0], &[])));
        let scalar = Literal::from_f32([], &[5.]);
        assert_eq!(tile(&[]).evaluate(&[&scalar]), Ok(scalar));
    }

    #[test]
    fn repeats_are_checked() {
        let x = TensorType::f32([2, 3]);
        assert_eq!(tile(&[2]).infer(&[&x]).unwrap_err().to_string(), "repeats: expected 2 entries, found 1 entries");
        assert_eq!(tile(&[usize::MAX, 1]).infer(&[&x]).unwrap_err().field, "repeats");
        assert_eq!(tile(&[1 << 40, 1 << 40]).infer(&[&x]).unwrap_err().field, "result");
    }
}
