//! A strided box of the operand: element `i` of an axis of the result is element `starts + i steps` of that axis.
//! Also ONNX's Split, one slice per result.

use super::attributes::{Attr, AttrReader, attributes};
use super::literal::Literal;
use super::pad::PadMode;
use super::shapes::{checked, expect_len, offsets, operands, strides};
use super::{GradientContext, OneResult, Pad};
use crate::error::OpError;
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
    pub fn step(&self, axis: usize) -> i64 {
        self.steps.get(axis).copied().unwrap_or(1)
    }
}

impl OneResult for Slice {
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

    fn gradient(&self, cx: &mut GradientContext<'_>) -> Result<(), OpError> {
        let (mut dx, shape) = (cx.dy()?, cx.shape(cx.operand(0)));
        let mut pads = vec![0; 2 * shape.len()];
        for (axis, extent) in shape.iter().enumerate() {
            let (start, size) = (self.starts[axis], self.sizes[axis]);
            if self.step(axis) == 1 {
                pads[axis] = start as i64;
                pads[axis + shape.len()] = *extent as i64 - (start + size) as i64;
            } else {
                let source = |i: usize| (start as i64 + i as i64 * self.step(axis)) as usize;
                let rows: Vec<_> = (0..size).map(|i| vec![(source(i), 1.0)]).collect();
                dx = cx.spread(dx, axis, *extent, &rows)?;
            }
        }
        if pads.iter().any(|pad| *pad != 0) {
            dx = cx.op(Pad { mode: PadMode::Constant, pads, value: 0.0 }, &[dx])?;
        }
        cx.set(0, dx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slice(starts: &[usize], steps: &[i64], sizes: &[usize]) -> Slice {
        Slice { starts: starts.to_vec(), steps: steps.to_vec(), sizes: sizes.to_vec() }
    }

    #[test]
    fn a_box_is_cut() {
        let x = Literal::from_f32([2, 5], &[0., 1., 2., 3., 4., 5., 6., 7., 8., 9.]);
        let op = slice(&[0, 1], &[], &[2, 3]);
        assert_eq!(op.infer(&[&x.ty]), Ok(TensorType::f32([2, 3])));
        assert_eq!(op.evaluate(&[&x]).unwrap().to_f64(), [1., 2., 3., 6., 7., 8.]);
        let odd = slice(&[1, 0], &[1, 2], &[1, 3]);
        assert_eq!(odd.evaluate(&[&x]), Ok(Literal::from_f32([1, 3], &[5., 7., 9.])));
        let backwards = slice(&[1, 4], &[-1, -3], &[2, 2]);
        assert_eq!(backwards.infer(&[&x.ty]), Ok(TensorType::f32([2, 2])));
        assert_eq!(backwards.evaluate(&[&x]).unwrap().to_f64(), [9., 6., 4., 1.]);
    }

    #[test]
    fn empty_boxes_and_scalars_are_slices() {
        let x = Literal::from_f32([2, 5], &[0.; 10]);
        let empty = slice(&[0, 5], &[], &[2, 0]);
        assert_eq!(empty.infer(&[&x.ty]), Ok(TensorType::f32([2, 0])));
        assert_eq!(empty.evaluate(&[&x]), Ok(Literal::from_f32([2, 0], &[])));
        let scalar = Literal::from_f32([], &[1.]);
        assert_eq!(slice(&[], &[], &[]).evaluate(&[&scalar]), Ok(scalar));
    }

    #[test]
    fn reading_outside_is_an_error() {
        let x = TensorType::f32([4]);
        let infer = |start, step, size| slice(&[start], &[step], &[size]).infer(&[&x]).map_err(|e| e.to_string());
        assert!(infer(1, 1, 3).is_ok());
        assert_eq!(infer(1, 1, 4).unwrap_err(), "sizes: expected elements of axis 0, of extent 4, found element 4");
        assert_eq!(infer(4, 1, 1).unwrap_err(), "starts: expected elements of axis 0, of extent 4, found element 4");
        assert!(infer(2, -1, 3).is_ok());
        assert!(infer(2, -1, 4).unwrap_err().starts_with("sizes"));
        assert_eq!(infer(0, 0, 1).unwrap_err(), "steps: expected steps other than 0, found 0 at axis 0");
        for step in [i64::MIN, i64::MAX] {
            assert!(infer(1, step, usize::MAX).is_err());
            assert!(infer(1, step, 1).is_ok());
        }
    }

    #[test]
    fn every_axis_needs_an_entry() {
        let x = TensorType::f32([4, 4]);
        assert_eq!(slice(&[0], &[], &[1, 1]).infer(&[&x]).unwrap_err().field, "starts");
        assert_eq!(slice(&[0, 0], &[], &[1]).infer(&[&x]).unwrap_err().field, "sizes");
        assert_eq!(slice(&[0, 0], &[1], &[1, 1]).infer(&[&x]).unwrap_err().field, "steps");
    }
}
