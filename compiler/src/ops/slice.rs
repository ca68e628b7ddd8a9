//! A strided box of the operand: element `i` of an axis of the result is element `starts + i steps` of that axis.
//! Also ONNX's Split, one slice per result.

use super::Operation;
use super::attributes::attributes;
use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::shapes::{checked, expect_len, offsets, operands, strides};
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::types::TensorType;

attributes! {
    /// Attributes of a slice; one entry per axis.
    pub struct Slice {
        /// First element.
        pub starts: Vec<usize> = vec![],
        /// Step, negative to walk backwards; empty: all 1.
        pub steps: Vec<i64> = vec![],
        /// Extents of the result.
        pub sizes: Vec<usize> = vec![],
    }
}

impl Slice {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }

    /// Step along `axis`.
    fn step(&self, axis: usize) -> i64 {
        self.steps.get(axis).copied().unwrap_or(1)
    }
}

impl Operation for Slice {
    fn name(&self) -> &'static str {
        "slice"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        let [x] = operands(inputs)?;
        let rank = x.shape.rank();
        expect_len("starts", rank, self.starts.len())?;
        expect_len("sizes", rank, self.sizes.len())?;
        if !self.steps.is_empty() {
            expect_len("steps", rank, self.steps.len())?;
        }
        for (axis, extent) in x.shape.iter().enumerate() {
            let step = self.step(axis);
            if step == 0 {
                return Err(OpError::new("steps", "steps other than 0", format!("0 at axis {axis}")));
            }
            if self.sizes[axis] > 0 {
                let first = self.starts[axis] as i128;
                let last = first + (self.sizes[axis] - 1) as i128 * i128::from(step);
                if let Some(at) = [first, last].into_iter().find(|at| !(0..*extent as i128).contains(at)) {
                    let field = if at == first { "starts" } else { "sizes" };
                    let expected = format!("elements of axis {axis}, of extent {extent}");
                    return Err(OpError::new(field, expected, format!("element {at}")));
                }
            }
        }
        checked(x.dtype, self.sizes.clone())
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let [x] = operands(inputs)?;
        let strides = strides(&x.ty.shape);
        let source = offsets(&self.sizes, |axis, i| {
            let at = self.starts[axis].wrapping_add_signed((i as i64 * self.step(axis)) as isize);
            Some(at * strides[axis])
        });
        Ok(x.gather_elements(self.sizes.clone().into(), 0.0, |i| source[i]))
    }

    fn lower(&self, _cx: &mut Lowering<'_>) -> Result<(), OpError> {
        Err(OpError::new("operator", "a native kernel", "none"))
    }
}
