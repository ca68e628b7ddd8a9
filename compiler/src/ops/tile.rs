//! Repetition of the whole operand along each axis.

use super::Operation;
use super::attributes::attributes;
use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::shapes::{checked, expect_len, offsets, operands, strides};
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::types::Shape;
use crate::types::TensorType;

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

impl Operation for Tile {
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

    fn lower(&self, _cx: &mut Lowering<'_>) -> Result<(), OpError> {
        Err(OpError::new("operator", "a native kernel", "none"))
    }
}
