//! A convolution that ends in an activation and gives the activation's slope too: `y = f(z)` and `f'(z)`, of one type, where
//! `z = conv(x, w) + bias + residual`. The slope is all that the backward half of a graph needs of `z`.
//!
//! Operands and attributes are those of [`Conv`]. The activation is one of those that share steps with their derivative
//! ([`UnaryFn::with_slope`](crate::scalar::UnaryFn::with_slope)), and it is applied last.

use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::shapes::check;
use super::{Binary, Conv, Decomposition, GradientContext, OneResult, Operation, UnaryWithSlope};
use crate::error::OpError;
use crate::scalar::BinaryFn;
use crate::types::TensorType;

/// A convolution with the slope of its activation.
#[derive(Clone, PartialEq, Debug)]
pub struct ConvWithSlope {
    /// The convolution; it has an activation.
    pub conv: Conv,
}

impl ConvWithSlope {
    /// Reads the operator from its text form.
    pub fn read(mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Ok(Self { conv: Conv::read(mnemonic, reader)? })
    }

    /// The convolution without the activation.
    pub fn sums(&self) -> Conv {
        Conv { activation: None, ..self.conv.clone() }
    }

    /// The activation with its slope.
    ///
    /// # Errors
    /// If there is no activation.
    pub fn function(&self) -> Result<UnaryWithSlope, OpError> {
        let function = self.conv.activation.ok_or_else(|| OpError::new("activation", "a function", "none"))?;
        Ok(UnaryWithSlope { function })
    }
}

impl Operation for ConvWithSlope {
    fn name(&self) -> &'static str {
        "conv_with_slope"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.conv.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, OpError> {
        let last = !self.conv.activation_first;
        check(last, "activation_first", || "false".into(), || "true".into())?;
        let z = OneResult::infer(&self.sums(), inputs)?;
        self.function()?.infer(&[&z])
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Vec<Literal>, OpError> {
        let z = OneResult::evaluate(&self.sums(), inputs)?;
        self.function()?.evaluate(&[&z])
    }

    fn macs(&self, inputs: &[&TensorType], output: &TensorType) -> u64 {
        OneResult::macs(&self.conv, inputs, output)
    }

    fn decompose(&self, inputs: &[&TensorType]) -> Result<Option<Decomposition>, OpError> {
        let mut parts = Decomposition::over(inputs);
        let operands: Vec<usize> = (0..inputs.len()).collect();
        let z = parts.step(self.sums(), &operands)?;
        let y = parts.step(self.function()?, &[z])?;
        Ok(Some(parts.with_results([y, y + 1])))
    }

    /// That of the first result; the slope has none.
    fn gradient(&self, cx: &mut GradientContext<'_>) -> Result<(), OpError> {
        check(cx.upstream(1).is_none(), "gradient", || "none of the slope".into(), || "one".into())?;
        let (dy, slope) = (cx.dy()?, cx.result(1));
        let dz = cx.op(Binary { function: BinaryFn::Mul }, &[dy, slope])?;
        self.conv.gradient_of_sums(cx, dz)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scalar::UnaryFn;

    fn op(activation: Option<UnaryFn>) -> ConvWithSlope {
        ConvWithSlope { conv: Conv { activation, bias: true, ..Conv::default() } }
    }

    #[test]
    fn values_come_with_slopes() {
        let x = Literal::from_f32([1, 1, 1, 2], &[1.0, -2.0]);
        let (w, bias) = (Literal::from_f32([1, 1, 1, 1], &[0.5]), Literal::from_f32([1], &[0.25]));
        let results = op(Some(UnaryFn::Silu)).evaluate(&[&x, &w, &bias]).unwrap();
        let derivative = UnaryFn::Silu.derivative().unwrap();
        for (i, z) in [0.75, -0.75].into_iter().enumerate() {
            assert!((results[0].to_f64()[i] - UnaryFn::Silu.eval(z)).abs() < 1e-7);
            assert!((results[1].to_f64()[i] - derivative.eval(z)).abs() < 1e-7);
        }
    }

    #[test]
    fn activations_without_dear_steps_are_refused() {
        let types = [TensorType::f32([1, 1, 1, 2]), TensorType::f32([1, 1, 1, 1]), TensorType::f32([1])];
        let inputs: Vec<&TensorType> = types.iter().collect();
        for (activation, field) in [(None, "activation"), (Some(UnaryFn::Relu), "function")] {
            assert_eq!(op(activation).infer(&inputs).unwrap_err().field, field);
        }
        let mut first = op(Some(UnaryFn::Silu));
        first.conv.activation_first = true;
        assert_eq!(first.infer(&inputs).unwrap_err().field, "activation_first");
    }
}
