//! An element-wise function with its derivative: `f(x)` and `f'(x)`, both of the type of `x`.
//!
//! For functions that share steps with their derivative ([`UnaryFn::with_slope`]): whoever needs both computes those once.

use super::Operation;
use super::attributes::{Attr, AttrReader, AttrValue, attributes};
use super::literal::Literal;
use super::shapes::{expect_float, operands};
use crate::error::OpError;
use crate::scalar::{UnaryFn, WithSlope};
use crate::types::TensorType;

attributes! {
    /// Attributes of an element-wise function with its derivative.
    pub struct UnaryWithSlope {
        /// The function.
        pub function: UnaryFn = UnaryFn::Silu,
    }
}

impl UnaryWithSlope {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }

    /// The steps of function and derivative.
    ///
    /// # Errors
    /// If they share none.
    pub fn steps(&self) -> Result<WithSlope, OpError> {
        let refusal = || {
            let found = self.function.spelling().0;
            OpError::new("function", "one that shares steps with its derivative", found)
        };
        self.function.with_slope().ok_or_else(refusal)
    }
}

impl Operation for UnaryWithSlope {
    fn name(&self) -> &'static str {
        "unary_with_slope"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        // Whatever the function is.
        vec![("function", self.function.to_attr())]
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, OpError> {
        let [x] = operands(inputs)?;
        expect_float("x", x)?;
        self.steps()?;
        Ok(vec![x.clone(), x.clone()])
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Vec<Literal>, OpError> {
        let [x] = operands(inputs)?;
        let (types, both) = (self.infer(&[&x.ty])?, self.steps()?);
        let (values, slopes) = x.floats("x")?.iter().map(|x| both.eval(*x)).map(|[y, s]| (y, s)).unzip();
        Ok(types.into_iter().zip([values, slopes]).map(|(ty, values)| Literal::new_float(ty, values)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_with_slopes() {
        let x = Literal::from_f32([2], &[0.0, 2.0]);
        let results = UnaryWithSlope { function: UnaryFn::Sigmoid }.evaluate(&[&x]).unwrap();
        let s = 1.0 / (1.0 + (-2f64).exp());
        assert_eq!((results[0].to_f64()[0], results[1].to_f64()[0]), (0.5, 0.25));
        assert!((results[1].to_f64()[1] - s * (1.0 - s)).abs() < 1e-7);
    }

    #[test]
    fn functions_without_dear_steps_are_refused() {
        let error = UnaryWithSlope { function: UnaryFn::Relu }.infer(&[&TensorType::f32([1])]).unwrap_err();
        assert_eq!((error.field.as_str(), error.found.as_str()), ("function", "relu"));
    }
}
