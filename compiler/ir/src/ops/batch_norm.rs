//! Inference batch normalisation: `y = (x - mean) / sqrt(variance + epsilon) * scale + bias`, per channel (axis 1).
//!
//! Operands: `x [N, C, …]`, then `scale`, `bias`, `mean`, `variance`, each `[C]`.

use super::attributes::attributes;
use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::shapes::{around_axis, expect_float, expect_operands, expect_rank, expect_type};
use super::{GradientContext, OneResult};
use crate::error::OpError;
use crate::scalar::UnaryFn;
use crate::types::TensorType;

attributes! {
    /// Attributes of a batch normalisation.
    pub struct BatchNorm {
        /// Added to the variance.
        pub epsilon: f32 = 1e-5,
    }
}

impl BatchNorm {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl OneResult for BatchNorm {
    fn name(&self) -> &'static str {
        "batch_norm"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        expect_operands(inputs, 5)?;
        let x = inputs[0];
        expect_float("x", x)?;
        expect_rank("x", 2, x)?;
        for (field, operand) in ["scale", "bias", "mean", "variance"].into_iter().zip(&inputs[1..]) {
            expect_float(field, operand)?;
            expect_type(field, operand.dtype, &x.shape[1..2], operand)?;
        }
        Ok(x.clone())
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let types: Vec<_> = inputs.iter().map(|operand| &operand.ty).collect();
        let ty = self.infer(&types)?;
        let x = inputs[0].floats("x")?;
        let (scale, bias) = (inputs[1].floats("scale")?, inputs[2].floats("bias")?);
        let (mean, variance) = (inputs[3].floats("mean")?, inputs[4].floats("variance")?);
        let (channels, (_, plane)) = (ty.shape[1], around_axis(&ty.shape, 1));
        let normalised = x.iter().enumerate().map(|(i, x)| {
            let c = i / plane % channels;
            (x - mean[c]) / (variance[c] + f64::from(self.epsilon)).sqrt() * scale[c] + bias[c]
        });
        let normalised = normalised.collect();
        Ok(Literal::new_float(ty, normalised))
    }

    fn gradient(&self, cx: &mut GradientContext<'_>) -> Result<(), OpError> {
        let (dy, x) = (cx.dy()?, cx.operand(0));
        let [scale, mean, variance] = [1, 3, 4].map(|slot| cx.operand(slot));
        let dtype = cx.ty(x).dtype;
        let epsilon = cx.number(variance, self.epsilon.into());
        let shifted = cx.add(variance, epsilon)?;
        let deviation = cx.unary(UnaryFn::Sqrt, shifted)?;
        // The statistics may be of another element type than `x`.
        let factor = cx.cast(deviation, cx.ty(scale).dtype)?;
        let factor = cx.div(scale, factor)?;
        if cx.wanted(0) {
            let factor = cx.channels(factor, x)?;
            let factor = cx.cast(factor, dtype)?;
            let dx = cx.mul(dy, factor)?;
            cx.set(0, dx)?;
        }
        let db = if cx.wanted(2) || cx.wanted(3) { Some(cx.sum_channels(dy)?) } else { None };
        if let Some(db) = db.filter(|_| cx.wanted(2)) {
            let db = cx.cast(db, cx.ty(cx.operand(2)).dtype)?;
            cx.set(2, db)?;
        }
        if let Some(db) = db.filter(|_| cx.wanted(3)) {
            let (db, factor) = (cx.cast(db, cx.ty(mean).dtype)?, cx.cast(factor, cx.ty(mean).dtype)?);
            let dmean = cx.mul(db, factor)?;
            let dmean = cx.unary(UnaryFn::Neg, dmean)?;
            cx.set(3, dmean)?;
        }
        if !cx.wanted(1) && !cx.wanted(4) {
            return Ok(());
        }
        let centre = cx.channels(mean, x)?;
        let centre = cx.cast(centre, dtype)?;
        let distance = cx.sub(x, centre)?;
        let product = cx.mul(dy, distance)?;
        let sum = cx.sum_channels(product)?;
        let sum = cx.cast(sum, cx.ty(variance).dtype)?;
        let dscale = cx.div(sum, deviation)?;
        if cx.wanted(4) {
            let scale = cx.cast(scale, cx.ty(variance).dtype)?;
            let twice = cx.times(shifted, -2.0)?;
            let share = cx.div(scale, twice)?;
            let dvariance = cx.mul(dscale, share)?;
            cx.set(4, dvariance)?;
        }
        if cx.wanted(1) {
            let dscale = cx.cast(dscale, cx.ty(scale).dtype)?;
            cx.set(1, dscale)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_channel_has_its_own_statistics() {
        let x = Literal::from_f32([2, 2, 1], &[1.0, 2.0, 3.0, 4.0]);
        let c = |a, b| Literal::from_f32([2], &[a, b]);
        let op = BatchNorm { epsilon: 0.0 };
        let y = op.evaluate(&[&x, &c(2.0, 1.0), &c(0.5, 0.0), &c(1.0, 0.0), &c(4.0, 0.25)]).unwrap();
        assert_eq!(y.to_f64(), [0.5, 4.0, 2.5, 8.0]);
        let empty = Literal::from_f32([0, 2, 7], &[]);
        let y = op.evaluate(&[&empty, &c(1.0, 1.0), &c(0.0, 0.0), &c(0.0, 0.0), &c(1.0, 1.0)]).unwrap();
        assert_eq!(y.ty, empty.ty);
    }

    #[test]
    fn statistics_have_one_element_per_channel() {
        let (x, c) = (TensorType::f32([1, 3, 2]), TensorType::f32([3]));
        let op = BatchNorm::default();
        assert_eq!(op.infer(&[&x, &c, &c, &c, &c]).unwrap(), x);
        assert_eq!(op.infer(&[&x, &c, &c, &TensorType::f32([2]), &c]).unwrap_err().field, "mean");
        assert_eq!(op.infer(&[&x, &c, &c, &c]).unwrap_err().field, "operands");
        assert_eq!(op.infer(&[&c, &c, &c, &c, &c]).unwrap_err().field, "x");
    }
}
