//! The p-norm of each plane: `x [N, C, spatial…]` to `[N, C, 1…]`.

use super::OneResult;
use super::attributes::{Attr, AttrReader, attributes};
use super::literal::Literal;
use super::shapes::{check, checked, expect_float, expect_rank, operands};
use crate::error::OpError;
use crate::types::TensorType;

attributes! {
    /// Attributes of a norm.
    pub struct LpNorm {
        /// Exponent, at least 1.
        pub p: usize = 2,
    }
}

impl LpNorm {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl OneResult for LpNorm {
    fn name(&self) -> &'static str {
        "lp_norm"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        let [x] = operands(inputs)?;
        expect_float("x", x)?;
        expect_rank("x", 3, x)?;
        check(self.p > 0, "p", || "an exponent of at least 1".into(), || self.p.to_string())?;
        let mut shape = x.shape.to_vec();
        shape[2..].fill(1);
        checked(x.dtype, shape)
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let [x] = operands(inputs)?;
        let (ty, p) = (self.infer(&[&x.ty])?, self.p as f64);
        let (elements, plane) = (x.floats("x")?, x.ty.shape[2..].iter().product::<usize>());
        let norm = |i: usize| {
            let sum: f64 = elements[i * plane..][..plane].iter().map(|x| libm::pow(x.abs(), p)).sum();
            libm::pow(sum, 1.0 / p)
        };
        let norms = (0..ty.shape.numel()).map(norm).collect();
        Ok(Literal::new_float(ty, norms))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn template_norms_of_planes() {
        let x = Literal::from_f32([1, 2, 2], &[3., -4., 1., 0.]);
        assert_eq!(LpNorm::default().evaluate(&[&x]), Ok(Literal::from_f32([1, 2, 1], &[5., 1.])));
        assert_eq!(LpNorm { p: 0 }.infer(&[&x.ty]).unwrap_err().field, "p");
    }
}
