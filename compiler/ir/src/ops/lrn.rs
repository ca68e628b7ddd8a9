//! Local response normalisation over channels (axis 1):
//! `y = x / (bias + alpha / size * sum of squares over the window)^beta`, window `[c - (size - 1) / 2, c + size / 2]`.

use super::attributes::attributes;
use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::shapes::{around_axis, check, expect_float, expect_operands, expect_rank};
use super::{GradientContext, OneResult};
use crate::error::OpError;
use crate::scalar::BinaryFn;
use crate::types::TensorType;

attributes! {
    /// Attributes of a local response normalisation.
    pub struct Lrn {
        /// Window, channels.
        pub size: usize = 1,
        /// Scale of the sum.
        pub alpha: f32 = 1e-4,
        /// Exponent.
        pub beta: f32 = 0.75,
        /// Added to the sum.
        pub bias: f32 = 1.0,
    }
}

impl Lrn {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl OneResult for Lrn {
    fn name(&self) -> &'static str {
        "lrn"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        expect_operands(inputs, 1)?;
        expect_float("x", inputs[0])?;
        expect_rank("x", 2, inputs[0])?;
        check(self.size > 0, "size", || "at least 1".into(), || self.size.to_string())?;
        Ok(inputs[0].clone())
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let x = inputs[0].floats("x")?;
        let ty = self.infer(&[&inputs[0].ty])?;
        let channels = ty.shape[1];
        let (batch, plane) = around_axis(&ty.shape, 1);
        let scale = f64::from(self.alpha) / self.size as f64;
        let mut out = Vec::with_capacity(x.len());
        for (n, c) in (0..batch).flat_map(|n| (0..channels).map(move |c| (n, c))) {
            let window = c.saturating_sub((self.size - 1) / 2)..channels.min(c.saturating_add(self.size / 2 + 1));
            for k in 0..plane {
                let at = |c: usize| (n * channels + c) * plane + k;
                let squares: f64 = window.clone().map(|c| x[at(c)] * x[at(c)]).sum();
                out.push(x[at(c)] / libm::pow(f64::from(self.bias) + scale * squares, f64::from(self.beta)));
            }
        }
        Ok(Literal::new_float(ty, out))
    }

    fn gradient(&self, cx: &mut GradientContext<'_>) -> Result<(), OpError> {
        // y = x s^-beta, s = bias + scale W x^2; dx = dy s^-beta - 2 beta scale x W^T (dy y / s)
        let (dy, x, y, shape) = (cx.dy()?, cx.operand(0), cx.result(0), cx.shape(cx.operand(0)));
        let (channels, scale) = (shape[1], f64::from(self.alpha) / self.size as f64);
        let window =
            |c: usize| c.saturating_sub((self.size - 1) / 2)..channels.min(c.saturating_add(self.size / 2 + 1));
        let reads: Vec<Vec<_>> = (0..channels).map(|c| window(c).map(|i| (i, 1.0)).collect()).collect();
        let sees = |i: usize| (0..channels).filter(|c| window(*c).contains(&i)).map(|c| (c, 1.0)).collect();
        let seen: Vec<Vec<_>> = (0..channels).map(sees).collect();
        let squares = cx.mul(x, x)?;
        let sums = cx.spread(squares, 1, channels, &seen)?;
        let sums = cx.times(sums, scale)?;
        let bias = cx.number(x, self.bias.into());
        let sums = cx.add(sums, bias)?;
        let exponent = cx.number(x, (-self.beta).into());
        let power = cx.binary(BinaryFn::Pow, sums, exponent)?;
        let direct = cx.mul(dy, power)?;
        let product = cx.mul(dy, y)?;
        let share = cx.div(product, sums)?;
        let spread = cx.spread(share, 1, channels, &reads)?;
        let spread = cx.times(spread, 2.0 * f64::from(self.beta) * scale)?;
        let indirect = cx.mul(x, spread)?;
        let dx = cx.sub(direct, indirect)?;
        cx.set(0, dx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_even_window_reaches_one_channel_further_up() {
        let x = Literal::from_f32([1, 3, 1, 1], &[1.0, 2.0, 3.0]);
        let op = Lrn { size: 2, alpha: 2.0, beta: 1.0, bias: 1.0 };
        // Sums of squares 1 + 4, 4 + 9 and 9.
        let y = op.evaluate(&[&x]).unwrap().to_f64();
        let expected = [1.0 / 6.0, 2.0 / 14.0, 3.0 / 10.0].map(|v| f64::from(v as f32));
        assert_eq!(y, expected);
        let y = Lrn { size: usize::MAX, alpha: 0.0, ..op.clone() }.evaluate(&[&x]).unwrap();
        assert_eq!(y, x);
        assert_eq!(Lrn { size: 0, ..op }.infer(&[&x.ty]).unwrap_err().field, "size");
    }
}
