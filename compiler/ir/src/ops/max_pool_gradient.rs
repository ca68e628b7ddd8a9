//! The gradient of a windowed maximum: each element of the operand gets what comes down from the windows that found it.
//!
//! Operands: `dy [N, C, out…]`, the gradient of the maxima, and `indices [N, C, out…]` (`i64`), where they were found: the second result
//! of `max_pool`, row-major. Result `[N, C, extents…]`. A window that meets padding alone gives nothing to anyone.

use super::attributes::{Attr, AttrReader, attributes};
use super::literal::Literal;
use super::shapes::{checked, expect_float, expect_rank, expect_type, operands};
use super::window::{Window, taps};
use super::{MaxPool, OneResult};
use crate::error::OpError;
use crate::types::{DType, Shape, TensorType};

attributes! {
    /// Attributes of the gradient of a windowed maximum: the window's, and the extents of what it slid over.
    pub struct MaxPoolGradient {
        /// Spatial extents of the result.
        pub extents: Vec<usize> = vec![1, 1],
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
    }
}

impl MaxPoolGradient {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }

    /// That of `pool` over an operand of spatial extents `extents`.
    pub fn of(pool: &MaxPool, extents: &[usize]) -> Self {
        Self {
            extents: extents.to_vec(),
            kernel: pool.kernel.clone(),
            strides: pool.strides.clone(),
            pads: pool.pads.clone(),
            dilations: pool.dilations.clone(),
            ceil_mode: pool.ceil_mode,
        }
    }

    /// The windows of the maximum, row-major.
    fn pool(&self) -> MaxPool {
        MaxPool {
            kernel: self.kernel.clone(),
            strides: self.strides.clone(),
            pads: self.pads.clone(),
            dilations: self.dilations.clone(),
            ceil_mode: self.ceil_mode,
            column_major: false,
        }
    }

    /// The type of the result and the window of each spatial axis, for a gradient of type `dy`; checks its extents.
    pub fn windows(&self, dy: &TensorType) -> Result<(TensorType, Vec<Window>), OpError> {
        expect_float("dy", dy)?;
        expect_rank("dy", 3, dy)?;
        let shape: Shape = dy.shape[..2].iter().chain(&self.extents).copied().collect();
        let (result, pool) = (checked(dy.dtype, shape)?, self.pool().values());
        let windows = pool.windows(&result).map_err(|error| match error.field.as_str() {
            "x" => OpError { field: "extents".into(), ..error },
            _ => error,
        })?;
        let maxima: Shape = dy.shape[..2].iter().copied().chain(windows.iter().map(|window| window.output)).collect();
        expect_type("dy", dy.dtype, &maxima, dy)?;
        Ok((result, windows))
    }
}

impl OneResult for MaxPoolGradient {
    fn name(&self) -> &'static str {
        "max_pool_gradient"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        let [dy, indices] = operands(inputs)?;
        let (result, _) = self.windows(dy)?;
        expect_type("indices", DType::I64, &dy.shape, indices)?;
        Ok(result)
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let [dy, indices] = operands(inputs)?;
        let ty = self.infer(&[&dy.ty, &indices.ty])?;
        let (_, windows) = self.windows(&dy.ty)?;
        let (gradients, indices) = (dy.floats("dy")?, indices.ints("indices")?);
        let mut out = vec![0.0; ty.shape.numel()];
        let plane = |shape: &Shape| shape[2..].iter().product::<usize>();
        let (elements, positions, stride) = (plane(&ty.shape), plane(&dy.ty.shape), windows[windows.len() - 1].stride);
        let taps = taps(&windows);
        for plane in 0..ty.shape[0] * ty.shape[1] {
            let (first, at) = (plane * elements, plane * positions);
            for run in taps.iter().flat_map(|tap| &tap.runs) {
                for i in 0..run.len {
                    let (element, position) = (first + run.element + i * stride, at + run.position + i);
                    if indices[position] == element as i64 {
                        out[element] += gradients[position];
                    }
                }
            }
        }
        Ok(Literal::new_float(ty, out))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_winner_takes_it() {
        let pool = MaxPool { kernel: vec![1, 3], strides: vec![1, 2], pads: vec![0, 1, 0, 1], ..MaxPool::default() };
        let x = Literal::from_f32([1, 2, 1, 5], &[1.0, 7.0, 2.0, 3.0, 3.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
        let results = crate::ops::Operation::evaluate(&pool, &[&x]).unwrap();
        let dy = Literal::from_f32([1, 2, 1, 3], &[1.0, 10.0, 100.0, 1.0, 10.0, 100.0]);
        let op = MaxPoolGradient::of(&pool, &[1, 5]);
        let dx = op.evaluate(&[&dy, &results[1]]).unwrap();
        assert_eq!(dx.ty, x.ty);
        assert_eq!(dx.to_f64(), [0.0, 11.0, 0.0, 100.0, 0.0, 1.0, 10.0, 0.0, 100.0, 0.0]);
    }

    #[test]
    fn operands_that_disagree_are_errors() {
        let (dy, indices) = (TensorType::f32([1, 2, 3, 3]), TensorType::new(DType::I64, [1, 2, 3, 3]));
        let op = MaxPoolGradient { extents: vec![6, 6], kernel: vec![2, 2], strides: vec![2, 2], ..Default::default() };
        let field = |op: &MaxPoolGradient, inputs: &[&TensorType]| op.infer(inputs).unwrap_err().field;
        assert_eq!(op.infer(&[&dy, &indices]).unwrap(), TensorType::f32([1, 2, 6, 6]));
        assert_eq!(field(&op, &[&dy, &dy]), "indices");
        assert_eq!(field(&op, &[&TensorType::f32([1, 2, 3, 2]), &indices]), "dy");
        assert_eq!(field(&MaxPoolGradient { extents: vec![1, 6], ..op.clone() }, &[&dy, &indices]), "extents");
        assert_eq!(field(&MaxPoolGradient { extents: vec![6], ..op }, &[&dy, &indices]), "kernel");
    }
}
