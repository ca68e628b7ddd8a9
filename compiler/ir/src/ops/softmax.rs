//! Softmax along one axis, shifted by the largest element; with `log` its logarithm.

use super::attributes::attributes;
use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::shapes::{around_axis, expect_axis, expect_float, expect_operands};
use super::{GradientContext, OneResult};
use crate::error::OpError;
use crate::scalar::{BinaryFn, UnaryFn};
use crate::types::TensorType;

attributes! {
    /// Attributes of a softmax.
    pub struct Softmax {
        /// Axis that sums to one.
        pub axis: usize = 1,
        /// Logarithm of the result.
        pub log: bool = false,
    }
}

impl Softmax {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl OneResult for Softmax {
    fn name(&self) -> &'static str {
        "softmax"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        expect_operands(inputs, 1)?;
        expect_float("x", inputs[0])?;
        expect_axis(self.axis, inputs[0].shape.rank())?;
        Ok(inputs[0].clone())
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let x = inputs[0].floats("x")?;
        let ty = self.infer(&[&inputs[0].ty])?;
        let extent = ty.shape[self.axis];
        let (outer, inner) = around_axis(&ty.shape, self.axis);
        let mut out = vec![0.0; x.len()];
        for (o, k) in (0..outer).flat_map(|o| (0..inner).map(move |k| (o, k))) {
            let line = || (0..extent).map(|i| (o * extent + i) * inner + k);
            let largest = line().fold(f64::NEG_INFINITY, |a, at| BinaryFn::Max.eval(a, x[at]));
            let sum: f64 = line().map(|at| libm::exp(x[at] - largest)).sum();
            for at in line() {
                let shifted = x[at] - largest;
                out[at] = if self.log { shifted - libm::log(sum) } else { libm::exp(shifted) / sum };
            }
        }
        Ok(Literal::new_float(ty, out))
    }

    fn gradient(&self, cx: &mut GradientContext<'_>) -> Result<(), OpError> {
        let (dy, y) = (cx.dy()?, cx.result(0));
        let dx = if self.log {
            let (sum, share) = (cx.sum(dy, vec![self.axis], true)?, cx.unary(UnaryFn::Exp, y)?);
            let part = cx.mul(share, sum)?;
            cx.sub(dy, part)?
        } else {
            let product = cx.mul(dy, y)?;
            let sum = cx.sum(product, vec![self.axis], true)?;
            let distance = cx.sub(dy, sum)?;
            cx.mul(y, distance)?
        };
        cx.set(0, dx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_line_of_the_axis_sums_to_one() {
        let x = Literal::from_f32([2, 2], &[0.0, 1000.0, 0.0, 1000.0 + 2f32.ln()]);
        let y = Softmax { axis: 0, log: false }.evaluate(&[&x]).unwrap().to_f64();
        assert_eq!((y[0], y[2]), (0.5, 0.5));
        assert!((y[1] - 1.0 / 3.0).abs() < 1e-4 && (y[1] + y[3] - 1.0).abs() < 1e-7);
        let y = Softmax { axis: 1, log: false }.evaluate(&[&x]).unwrap().to_f64();
        assert_eq!(y[..2], [0.0, 1.0]);
        let y = Softmax { axis: 1, log: true }.evaluate(&[&x]).unwrap().to_f64();
        assert_eq!(y[..2], [-1000.0, 0.0]);
    }

    #[test]
    fn empty_tensors_and_missing_axes() {
        let empty = Literal::from_f32([3, 0], &[]);
        for axis in 0..2 {
            assert_eq!(Softmax { axis, log: true }.evaluate(&[&empty]).unwrap(), empty);
        }
        assert_eq!(Softmax { axis: 2, log: false }.infer(&[&empty.ty]).unwrap_err().field, "axis");
        assert_eq!(Softmax { axis: 0, log: false }.infer(&[&TensorType::f32([])]).unwrap_err().field, "axis");
    }
}
