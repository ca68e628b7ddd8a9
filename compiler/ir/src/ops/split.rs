//! Consecutive parts of the operand along one axis, one result each.
//!
//! ONNX's Split is imported as one slice per result, which fusions look through; this operator is for graphs that want one node. It is
//! computed as slices all the same.

use super::attributes::{Attr, AttrReader, attributes};
use super::decomposition::Decomposition;
use super::literal::Literal;
use super::shapes::{around_axis, check, checked, expect_axis, operands};
use super::{Concat, GradientContext, Operation, Slice};
use crate::error::OpError;
use crate::types::TensorType;

attributes! {
    /// Attributes of a split.
    pub struct Split {
        /// Axis that is cut.
        pub axis: usize = 0,
        /// Extents of the parts along it; they add up to the operand's.
        pub sizes: Vec<usize> = vec![],
    }
}

impl Split {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }

    /// First element and extent of each part.
    pub fn parts(&self) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.sizes.iter().scan(0, |next, size| {
            let first = *next;
            *next += size;
            Some((first, *size))
        })
    }
}

impl Operation for Split {
    fn name(&self) -> &'static str {
        "split"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, OpError> {
        let [x] = operands(inputs)?;
        expect_axis(self.axis, x.shape.rank())?;
        let extent = x.shape[self.axis];
        let sum = self.sizes.iter().try_fold(0usize, |sum, size| sum.checked_add(*size));
        let parts = || format!("parts of an axis of {extent}");
        check(!self.sizes.is_empty() && sum == Some(extent), "sizes", parts, || format!("{:?}", self.sizes))?;
        let part = |size: &usize| {
            let mut shape = x.shape.to_vec();
            shape[self.axis] = *size;
            checked(x.dtype, shape)
        };
        self.sizes.iter().map(part).collect()
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Vec<Literal>, OpError> {
        let [x] = operands(inputs)?;
        let (_, inner) = around_axis(&x.ty.shape, self.axis);
        let row = x.ty.shape[self.axis] * inner;
        let part = |((first, size), ty): ((usize, usize), TensorType)| {
            let run = (size * inner).max(1);
            x.gather_elements(ty.shape, 0.0, |i| Some(i / run * row + first * inner + i % run))
        };
        Ok(self.parts().zip(self.infer(&[&x.ty])?).map(part).collect())
    }

    fn decompose(&self, inputs: &[&TensorType]) -> Result<Option<Decomposition>, OpError> {
        let slice = |(first, size): (usize, usize)| {
            let mut starts = vec![0; inputs[0].shape.rank()];
            let mut sizes = inputs[0].shape.to_vec();
            (starts[self.axis], sizes[self.axis]) = (first, size);
            Slice { starts, sizes, ..Slice::default() }
        };
        let mut parts = Decomposition::over(inputs);
        let results = self.parts().map(|part| parts.step(slice(part), &[0])).collect::<Result<Vec<usize>, _>>()?;
        Ok(Some(parts.with_results(results)))
    }

    fn gradient(&self, cx: &mut GradientContext<'_>) -> Result<(), OpError> {
        let mut parts = Vec::with_capacity(cx.results());
        for result in 0..cx.results() {
            parts.push(match cx.upstream(result) {
                Some(gradient) => gradient,
                None => cx.zeros(cx.result(result))?,
            });
        }
        let dx = cx.op(Concat { axis: self.axis }, &parts)?;
        cx.set(0, dx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_follow_one_another_along_the_axis() {
        let x = Literal::from_f32([2, 3], &[0., 1., 2., 3., 4., 5.]);
        let op = Split { axis: 1, sizes: vec![1, 2] };
        assert_eq!(op.infer(&[&x.ty]), Ok(vec![TensorType::f32([2, 1]), TensorType::f32([2, 2])]));
        let parts: Vec<_> = op.evaluate(&[&x]).unwrap().iter().map(Literal::to_f64).collect();
        assert_eq!(parts, [vec![0., 3.], vec![1., 2., 4., 5.]]);
        let rows = Split { axis: 0, sizes: vec![0, 2] }.evaluate(&[&x]).unwrap();
        assert_eq!(rows, [Literal::from_f32([0, 3], &[]), x]);
    }

    #[test]
    fn parts_cover_the_axis() {
        let x = TensorType::f32([2, 3]);
        let refused =
            |axis, sizes: &[usize]| Split { axis, sizes: sizes.to_vec() }.infer(&[&x]).unwrap_err().to_string();
        assert_eq!(refused(1, &[1, 1]), "sizes: expected parts of an axis of 3, found [1, 1]");
        assert_eq!(refused(1, &[]), "sizes: expected parts of an axis of 3, found []");
        assert!(refused(1, &[usize::MAX, 4]).starts_with("sizes"));
        assert!(refused(2, &[3]).starts_with("axis"));
    }
}
