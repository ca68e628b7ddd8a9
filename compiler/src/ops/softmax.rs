//! Softmax along one axis, shifted by the largest element; with `log` its logarithm.

use super::Operation;
use super::attributes::attributes;
use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::shapes::{around_axis, expect_axis, expect_float, expect_operands};
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::scalar::BinaryFn;
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

impl Operation for Softmax {
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

    fn lower(&self, _cx: &mut Lowering<'_>) -> Result<(), OpError> {
        Err(OpError::new("operator", "a native kernel", "none"))
    }
}
