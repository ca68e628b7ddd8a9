//! The `k` largest or smallest elements along an axis, in order, and their indices as `i64`.
//!
//! Equal elements stand in the order of their indices. A NaN counts as larger than any number.

use std::cmp::Ordering;

use super::Operation;
use super::attributes::{Attr, AttrReader, attributes};
use super::literal::{Data, Literal};
use super::reduce::ordered;
use super::shapes::{around_axis, check, checked, expect_axis, expect_number, operands};
use crate::error::OpError;
use crate::types::{DType, TensorType};

attributes! {
    /// Attributes of a selection.
    pub struct TopK {
        /// Axis along which elements are compared.
        pub axis: usize = 0,
        /// How many are kept.
        pub k: usize = 1,
        /// The smallest instead of the largest.
        pub smallest: bool = false,
    }
}

impl TopK {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }

    /// Indices along the axis of what is kept, for a result of `shape`.
    fn indices(&self, shape: &[usize], extent: usize, compare: impl Fn(usize, usize) -> Ordering) -> Vec<i64> {
        let (outer, inner) = around_axis(shape, self.axis);
        let mut out = vec![0; outer * self.k * inner];
        for (o, i) in (0..outer).flat_map(|o| (0..inner).map(move |i| (o, i))) {
            let at = |index: &usize| (o * extent + index) * inner + i;
            let mut order: Vec<usize> = (0..extent).collect();
            order.sort_by(|a, b| match self.smallest {
                false => compare(at(b), at(a)),
                true => compare(at(a), at(b)),
            });
            for (place, index) in order.into_iter().take(self.k).enumerate() {
                out[(o * self.k + place) * inner + i] = index as i64;
            }
        }
        out
    }
}

impl Operation for TopK {
    fn name(&self) -> &'static str {
        "top_k"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, OpError> {
        let [x] = operands(inputs)?;
        expect_number("x", x)?;
        expect_axis(self.axis, x.shape.rank())?;
        let extent = x.shape[self.axis];
        check(self.k <= extent, "k", || format!("at most {extent}"), || self.k.to_string())?;
        let mut shape = x.shape.to_vec();
        shape[self.axis] = self.k;
        Ok(vec![checked(x.dtype, shape.clone())?, checked(DType::I64, shape)?])
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Vec<Literal>, OpError> {
        let [x] = operands(inputs)?;
        let types = self.infer(&[&x.ty])?;
        let (shape, extent) = (types[0].shape.clone(), x.ty.shape[self.axis]);
        let dtype = x.ty.dtype;
        let indices = match &x.data {
            Data::Float(x) => self.indices(&shape, extent, |a, b| {
                x[a].partial_cmp(&x[b]).unwrap_or_else(|| x[a].is_nan().cmp(&x[b].is_nan()))
            }),
            Data::Int(x) => self.indices(&shape, extent, |a, b| ordered(dtype, x[a]).cmp(&ordered(dtype, x[b]))),
        };
        let (_, inner) = around_axis(&shape, self.axis);
        let row = (self.k * inner).max(1);
        let values = x.gather_elements(shape.clone(), 0.0, |i| {
            Some((i / row * extent + indices[i] as usize) * inner + i % inner)
        });
        Ok(vec![values, Literal::new_int(TensorType::new(DType::I64, shape), indices)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn top_k(x: &Literal, op: TopK) -> (Vec<f64>, Vec<f64>) {
        let results = op.evaluate(&[x]).unwrap();
        assert_eq!(results.iter().map(|r| r.ty.clone()).collect::<Vec<_>>(), op.infer(&[&x.ty]).unwrap());
        (results[0].to_f64(), results[1].to_f64())
    }

    #[test]
    fn elements_come_in_order_and_equal_ones_by_index() {
        let x = Literal::from_f32([2, 4], &[0., 3., 3., 1., 9., 8., 7., 9.]);
        let op = TopK { axis: 1, k: 3, smallest: false };
        assert_eq!(top_k(&x, op.clone()), (vec![3., 3., 1., 9., 9., 8.], vec![1., 2., 3., 0., 3., 1.]));
        let smallest = TopK { smallest: true, ..op };
        assert_eq!(top_k(&x, smallest), (vec![0., 1., 3., 7., 8., 9.], vec![0., 3., 1., 2., 1., 0.]));
        let columns = TopK { axis: 0, k: 1, smallest: false };
        assert_eq!(top_k(&x, columns), (vec![9., 8., 7., 9.], vec![1.; 4]));
    }

    #[test]
    fn a_nan_is_the_largest_and_zeros_are_equal() {
        let x = Literal::from_f32([4], &[f32::INFINITY, f32::NAN, -0.0, 0.0]);
        assert_eq!(top_k(&x, TopK { axis: 0, k: 4, smallest: false }).1, [1., 0., 2., 3.]);
        assert_eq!(top_k(&x, TopK { axis: 0, k: 4, smallest: true }).1, [2., 3., 0., 1.]);
        let large = Literal::new_int(TensorType::new(DType::U64, [2]), vec![1, -1]);
        assert_eq!(TopK::default().evaluate(&[&large]).unwrap()[1].to_f64(), [1.]);
    }

    #[test]
    fn nothing_may_be_kept_but_not_more_than_there_is() {
        let x = Literal::from_f32([2, 0, 3], &[]);
        assert_eq!(top_k(&x, TopK { axis: 1, k: 0, smallest: false }), (vec![], vec![]));
        assert_eq!(top_k(&Literal::from_f32([2], &[1., 2.]), TopK { k: 0, ..TopK::default() }), (vec![], vec![]));
        assert_eq!(TopK { axis: 0, k: 3, smallest: false }.infer(&[&x.ty]).unwrap_err().field, "k");
        assert_eq!(TopK { axis: 3, k: 0, smallest: false }.infer(&[&x.ty]).unwrap_err().field, "axis");
    }
}
