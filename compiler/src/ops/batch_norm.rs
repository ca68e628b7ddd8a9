//! Inference batch normalisation: `y = (x - mean) / sqrt(variance + epsilon) * scale + bias`, per channel (axis 1).
//!
//! Operands: `x [N, C, …]`, then `scale`, `bias`, `mean`, `variance`, each `[C]`.

use super::Operation;
use super::attributes::attributes;
use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::shapes::{around_axis, expect_float, expect_operands, expect_rank, expect_type};
use crate::error::OpError;
use crate::plan::lowering::Lowering;
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

impl Operation for BatchNorm {
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

    fn lower(&self, _cx: &mut Lowering<'_>) -> Result<(), OpError> {
        Err(OpError::new("operator", "a native kernel", "none"))
    }
}
