//! The gradient of a convolution's operand and what takes it further down: `(conv_transpose(dy, w) + residual) * factor * f'(at)`.
//!
//! Operands: `dy [N, C, spatial…]`, the gradient of the result; `w [C, M / group, kernel…]`, the convolution's weights; then, each of the
//! result's type, `residual` and `factor` if there are such, and `at` if there is a `function`. One operator and not several, so that one
//! kernel writes what the next layer reads: the gradients of a shortcut are added and activations passed while the sums are in registers.

use super::attributes::attributes;
use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::shapes::{expect_operands, expect_type};
use super::{Binary, ConvTranspose, Decomposition, OneResult, UnaryGradient};
use crate::error::OpError;
use crate::scalar::{BinaryFn, UnaryFn};
use crate::types::TensorType;

attributes! {
    /// Attributes of the gradient of a convolution's operand: the transposed convolution's, and what follows it.
    pub struct ConvDataGradient {
        /// Stride of each spatial axis.
        pub strides: Vec<usize> = vec![1, 1],
        /// Padding taken off the result: all begins, then all ends.
        pub pads: Vec<i64> = vec![0, 0, 0, 0],
        /// Dilation of each spatial axis.
        pub dilations: Vec<usize> = vec![1, 1],
        /// Extra rows at the end of each axis.
        pub output_padding: Vec<usize> = vec![0, 0],
        /// Number of groups.
        pub group: usize = 1,
        /// Whether an operand is added to the sums.
        pub residual: bool = false,
        /// Whether an operand multiplies them after that.
        pub factor: bool = false,
        /// The function by whose derivative at the last operand they are multiplied; where [`UnaryFn::derivative_is_of_value`], the
        /// function's value may stand there.
        pub function: Option<UnaryFn> = None,
    }
}

impl ConvDataGradient {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }

    /// That of a transposed convolution without bias, which nothing follows yet.
    pub fn of(conv: &ConvTranspose) -> Self {
        Self {
            strides: conv.strides.clone(),
            pads: conv.pads.clone(),
            dilations: conv.dilations.clone(),
            output_padding: conv.output_padding.clone(),
            group: conv.group,
            ..Self::default()
        }
    }

    /// The transposed convolution.
    pub fn conv(&self) -> ConvTranspose {
        ConvTranspose {
            strides: self.strides.clone(),
            pads: self.pads.clone(),
            dilations: self.dilations.clone(),
            output_padding: self.output_padding.clone(),
            group: self.group,
            bias: false,
        }
    }
}

impl OneResult for ConvDataGradient {
    fn name(&self) -> &'static str {
        "conv_data_gradient"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        let steps = [self.residual, self.factor, self.function.is_some()];
        let names = ["residual", "factor", "at"].into_iter().zip(steps).filter(|(_, there)| *there);
        let names: Vec<&str> = names.map(|(name, _)| name).collect();
        expect_operands(inputs, 2 + names.len())?;
        let y = self.conv().infer(&inputs[..2])?;
        names.iter().zip(&inputs[2..]).try_for_each(|(name, ty)| expect_type(name, y.dtype, &y.shape, ty))?;
        if let Some(function) = self.function {
            UnaryGradient { function }.derivative()?;
        }
        Ok(y)
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let sums = self.conv().evaluate(&inputs[..2])?;
        let mut values = sums.floats("sums")?.to_vec();
        let mut rest = inputs[2..].iter();
        let mut each = |there: bool, f: &dyn Fn(f64, f64) -> f64| -> Result<(), OpError> {
            if let Some(operand) = there.then(|| rest.next()).flatten() {
                values.iter_mut().zip(operand.floats("operand")?).for_each(|(value, other)| *value = f(*value, *other));
            }
            Ok(())
        };
        each(self.residual, &|a, b| a + b)?;
        each(self.factor, &|a, b| a * b)?;
        if let Some(function) = self.function {
            let derivative = UnaryGradient { function }.derivative()?;
            each(true, &|a, at| a * derivative.eval(at))?;
        }
        Ok(Literal::new_float(sums.ty, values))
    }

    fn macs(&self, inputs: &[&TensorType], output: &TensorType) -> u64 {
        self.conv().macs(inputs, output)
    }

    fn decompose(&self, inputs: &[&TensorType]) -> Result<Option<Decomposition>, OpError> {
        let mut parts = Decomposition::over(inputs);
        let mut result = parts.step(self.conv(), &[0, 1])?;
        let mut next = 2..;
        for (there, function) in [(self.residual, BinaryFn::Add), (self.factor, BinaryFn::Mul)] {
            if let Some(operand) = there.then(|| next.next()).flatten() {
                result = parts.step(Binary { function }, &[result, operand])?;
            }
        }
        if let (Some(function), Some(at)) = (self.function, next.next()) {
            result = parts.step(UnaryGradient { function }, &[result, at])?;
        }
        Ok(Some(parts.with_results([result])))
    }

    fn unfused(&self, inputs: &[&TensorType]) -> Result<Option<Decomposition>, OpError> {
        self.decompose(inputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::decomposition;

    fn literal(values: &[f32]) -> Literal {
        Literal::from_f32([1, 1, 1, values.len()], values)
    }

    #[test]
    fn what_follows_runs_in_order() {
        let (dy, w) = (literal(&[1.0, 2.0, 3.0]), literal(&[2.0]));
        let (residual, factor, at) = (literal(&[1.0, 1.0, 1.0]), literal(&[0.5, 1.0, 2.0]), literal(&[1.0, -1.0, 6.0]));
        let function = Some(UnaryFn::Clip(0.0, 6.0));
        let op = ConvDataGradient { residual: true, factor: true, function, ..ConvDataGradient::default() };
        let operands = [&dy, &w, &residual, &factor, &at];
        assert_eq!(op.evaluate(&operands).unwrap().to_f64(), [1.5, 0.0, 0.0]);
        let parts = decomposition::evaluate(&op.into(), &operands).unwrap().unwrap();
        assert_eq!(parts[0].to_f64(), [1.5, 0.0, 0.0]);
    }

    #[test]
    fn operands_that_disagree_are_errors() {
        let (dy, w, short) = (literal(&[1.0, 2.0]).ty, literal(&[2.0]).ty, literal(&[1.0]).ty);
        let op = ConvDataGradient { factor: true, ..ConvDataGradient::default() };
        assert_eq!(op.infer(&[&dy, &w]).unwrap_err().field, "operands");
        assert_eq!(op.infer(&[&dy, &w, &short]).unwrap_err().field, "factor");
        let op = ConvDataGradient { function: Some(UnaryFn::IsNan), ..ConvDataGradient::default() };
        assert_eq!(op.infer(&[&dy, &w, &dy]).unwrap_err().field, "function");
    }
}
