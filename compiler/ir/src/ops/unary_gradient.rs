//! The gradient of an element-wise function: `dx = dy f'(x)`. Operands: `dy` and `x`, of one type.
//!
//! One operator and not several, so that one kernel reads each operand once: activations are most of the element-wise work of a
//! training step. Where [`UnaryFn::derivative_is_of_value`], the function's value may stand for `x`.

use super::OneResult;
use super::attributes::{Attr, AttrReader, AttrValue, attributes};
use super::literal::Literal;
use super::shapes::{expect_float, expect_type, operands};
use crate::error::OpError;
use crate::scalar::{Expression, UnaryFn};
use crate::types::TensorType;

attributes! {
    /// Attributes of the gradient of an element-wise function.
    pub struct UnaryGradient {
        /// The function.
        pub function: UnaryFn = UnaryFn::Relu,
    }
}

impl UnaryGradient {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }

    /// The derivative of the function, or a refusal that names it.
    pub fn derivative(&self) -> Result<Expression, OpError> {
        let refusal = || OpError::new("function", "a function with a derivative", self.function.spelling().0);
        self.function.derivative().ok_or_else(refusal)
    }
}

impl OneResult for UnaryGradient {
    fn name(&self) -> &'static str {
        "unary_gradient"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        // Whatever the function is.
        vec![("function", self.function.to_attr())]
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        let [dy, x] = operands(inputs)?;
        expect_float("dy", dy)?;
        expect_type("x", dy.dtype, &dy.shape, x)?;
        self.derivative()?;
        Ok(dy.clone())
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let [dy, x] = operands(inputs)?;
        let (ty, derivative) = (self.infer(&[&dy.ty, &x.ty])?, self.derivative()?);
        let pairs = dy.floats("dy")?.iter().zip(x.floats("x")?);
        Ok(Literal::new_float(ty, pairs.map(|(dy, x)| dy * derivative.eval(*x)).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slopes_scale_what_comes_down() {
        let (dy, x) = (Literal::from_f32([3], &[2.0, 3.0, 4.0]), Literal::from_f32([3], &[-1.0, 1.0, 7.0]));
        let op = UnaryGradient { function: UnaryFn::Clip(0.0, 6.0) };
        assert_eq!(op.evaluate(&[&dy, &x]).unwrap().to_f64(), [0.0, 3.0, 0.0]);
    }

    #[test]
    fn operands_that_disagree_are_errors() {
        let (x, y) = (TensorType::f32([3]), TensorType::f32([2]));
        let op = UnaryGradient::default();
        assert_eq!(op.infer(&[&x, &y]).unwrap_err().field, "x");
        assert_eq!(op.infer(&[&x]).unwrap_err().field, "operands");
        let op = UnaryGradient { function: UnaryFn::IsNan };
        assert_eq!(
            op.infer(&[&x, &x]).unwrap_err().to_string(),
            "function: expected a function with a derivative, found is_nan"
        );
    }
}
