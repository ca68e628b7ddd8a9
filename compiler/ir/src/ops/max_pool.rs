//! Windowed maximum with the place it was found at: the values of `pool`, and for each the index of the element in the whole
//! operand, as `i64`.
//!
//! Of equal elements the first of the window, row-major, wins; a NaN beats any number. A window that meets padding alone has index 0.

use super::attributes::{Attr, AttrReader, attributes};
use super::literal::{Data, Literal};
use super::pool::PoolKind;
use super::reduce::ordered;
use super::shapes::{checked, expect_operands};
use super::window::Window;
use super::{GradientContext, MaxPoolGradient, OneResult, Operation, Pool};
use crate::error::OpError;
use crate::types::{DType, TensorType};

attributes! {
    /// Attributes of a maximum with indices.
    pub struct MaxPool {
        /// Window extents.
        pub kernel: Vec<usize> = vec![1, 1],
        /// Stride of each spatial axis.
        pub strides: Vec<usize> = vec![1, 1],
        /// Padding: all begins, then all ends.
        pub pads: Vec<usize> = vec![0, 0, 0, 0],
        /// Dilation of each spatial axis.
        pub dilations: Vec<usize> = vec![1, 1],
        /// Round extents up.
        pub ceil_mode: bool = false,
        /// Count the spatial axes of an index column-major, the first of them fastest.
        pub column_major: bool = false,
    }
}

impl MaxPool {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }

    /// The same windows without indices.
    pub fn values(&self) -> Pool {
        Pool {
            kind: PoolKind::Max,
            kernel: self.kernel.clone(),
            strides: self.strides.clone(),
            pads: self.pads.clone(),
            dilations: self.dilations.clone(),
            ceil_mode: self.ceil_mode,
            count_include_pad: false,
        }
    }

    /// What one step along each spatial axis of an operand of these extents adds to an index.
    pub fn steps(&self, spatial: &[usize]) -> Vec<usize> {
        let product = |extents: &[usize]| extents.iter().product();
        (0..spatial.len())
            .map(|axis| if self.column_major { product(&spatial[..axis]) } else { product(&spatial[axis + 1..]) })
            .collect()
    }

    /// Index of the winner of each window of `x`; `beats` is a strict order.
    fn winners<T: Copy>(&self, x: &[T], ty: &TensorType, windows: &[Window], beats: impl Fn(T, T) -> bool) -> Vec<i64> {
        let spatial = &ty.shape[2..];
        let plane: usize = spatial.iter().product();
        let steps = self.steps(spatial);
        let positions: usize = windows.iter().map(|window| window.output).product();
        let mut out = Vec::new();
        for (first, position) in
            (0..ty.shape[0] * ty.shape[1]).flat_map(|p| (0..positions).map(move |at| (p * plane, at)))
        {
            // Element of the plane and index of each tap so far, axis by axis.
            let (mut taps, mut below) = (vec![(0, 0)], positions);
            for (window, step) in windows.iter().zip(&steps) {
                below /= window.output;
                let at = position / below % window.output;
                let coordinates: Vec<usize> =
                    window.taps_at(at).map(|tap| window.coordinate(at, tap) as usize).collect();
                let along = |(element, index): (usize, usize)| {
                    coordinates.iter().map(move |c| (element * window.input + c, index + c * step))
                };
                taps = taps.into_iter().flat_map(along).collect();
            }
            let best = taps.into_iter().reduce(
                |best, tap| {
                    if beats(x[first + tap.0], x[first + best.0]) { tap } else { best }
                },
            );
            out.push(best.map_or(0, |(_, index)| (first + index) as i64));
        }
        out
    }
}

impl Operation for MaxPool {
    fn name(&self) -> &'static str {
        "max_pool"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, OpError> {
        expect_operands(inputs, 1)?;
        let values = OneResult::infer(&self.values(), inputs)?;
        let indices = checked(DType::I64, values.shape.clone())?;
        Ok(vec![values, indices])
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Vec<Literal>, OpError> {
        let values = OneResult::evaluate(&self.values(), inputs)?;
        let (x, ty) = (inputs[0], TensorType::new(DType::I64, values.ty.shape.clone()));
        if ty.shape.contains(&0) {
            return Ok(vec![values, Literal::new_int(ty, Vec::new())]);
        }
        let windows = self.values().windows(&x.ty)?;
        let indices = match &x.data {
            Data::Float(v) => self.winners(v, &x.ty, &windows, |a, b| a > b || (a.is_nan() && !b.is_nan())),
            Data::Int(v) => {
                let key = |v: i64| ordered(x.ty.dtype, v);
                self.winners(v, &x.ty, &windows, |a, b| key(a) > key(b))
            }
        };
        Ok(vec![values, Literal::new_int(ty, indices)])
    }

    fn gradient(&self, cx: &mut GradientContext<'_>) -> Result<(), OpError> {
        let Some(dy) = cx.upstream(0) else { return Ok(()) };
        let (x, extents) = (cx.operand(0), cx.shape(cx.operand(0)).split_off(2));
        let indices = match self.column_major {
            true => cx.ops(Self { column_major: false, ..self.clone() }, &[x])?[1],
            false => cx.result(1),
        };
        let dx = cx.op(MaxPoolGradient::of(self, &extents), &[dy, indices])?;
        cx.set(0, dx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_index_counts_through_the_operand() {
        let x = Literal::from_f32([1, 2, 2, 3], &[1., 5., 2., 5., 0., 9., 7., 7., 7., 7., 8., 7.]);
        let op = MaxPool { kernel: vec![2, 2], ..MaxPool::default() };
        let results = op.evaluate(&[&x]).unwrap();
        assert_eq!(results[0].to_f64(), [5., 9., 8., 8.]);
        assert_eq!(results[1].to_f64(), [1., 5., 10., 10.]);
        assert_eq!(op.infer(&[&x.ty]).unwrap()[1], results[1].ty);
        let column_major = MaxPool { column_major: true, ..op };
        // Row 0 column 1, row 1 column 2; row 1 column 1 of the second plane.
        assert_eq!(column_major.evaluate(&[&x]).unwrap()[1].to_f64(), [2., 5., 9., 9.]);
        assert_eq!(column_major.steps(&[2, 3, 4]), [1, 2, 6]);
    }

    #[test]
    fn padding_never_wins_and_equal_elements_go_to_the_first() {
        let least = f32::NEG_INFINITY;
        let x = Literal::from_f32([1, 1, 4], &[least, least, f32::NAN, f32::NAN]);
        let op =
            MaxPool { kernel: vec![2], strides: vec![1], pads: vec![1, 0], dilations: vec![1], ..MaxPool::default() };
        assert_eq!(op.evaluate(&[&x]).unwrap()[1].to_f64(), [0., 0., 2., 2.]);
    }
}
