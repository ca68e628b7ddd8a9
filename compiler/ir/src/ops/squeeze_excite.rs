//! Squeeze-and-excite (Hu et al. 2018): `y = x * gate(w2 act(w1 mean(x) + b1) + b2)`, the mean over all spatial axes.
//!
//! Operands: `x [N, C, H, W]`, `w1 [R, C, 1, 1]`, `b1 [R]`, `w2 [C, R, 1, 1]`, `b2 [C]`. Made only by `fuse_squeeze_excite`.

use super::attributes::attributes;
use super::attributes::{Attr, AttrReader};
use super::error_bound::over_absolutes;
use super::literal::Literal;
use super::reduce::ReduceKind;
use super::shapes::{check, expect_activation, expect_float, expect_operands, expect_rank, expect_type};
use super::{Binary, Conv, Decomposition, OneResult, Reduce};
use crate::error::OpError;
use crate::scalar::{BinaryFn, UnaryFn};
use crate::types::TensorType;

attributes! {
    /// Attributes of a squeeze-and-excite.
    pub struct SqueezeExcite {
        /// Activation after the reduction.
        pub activation: UnaryFn = UnaryFn::Silu,
        /// Gate function.
        pub gate: UnaryFn = UnaryFn::Sigmoid,
    }
}

impl SqueezeExcite {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl OneResult for SqueezeExcite {
    fn name(&self) -> &'static str {
        "squeeze_excite"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        expect_operands(inputs, 5)?;
        let x = inputs[0];
        expect_float("x", x)?;
        check(x.shape.rank() == 4, "x", || "rank 4".into(), || x.to_string())?;
        expect_rank("w1", 1, inputs[1])?;
        let (channels, reduced) = (x.shape[1], inputs[1].shape[0]);
        expect_type("w1", x.dtype, &[reduced, channels, 1, 1], inputs[1])?;
        expect_type("b1", x.dtype, &[reduced], inputs[2])?;
        expect_type("w2", x.dtype, &[channels, reduced, 1, 1], inputs[3])?;
        expect_type("b2", x.dtype, &[channels], inputs[4])?;
        expect_activation("act", Some(self.activation), x.dtype)?;
        expect_activation("gate", Some(self.gate), x.dtype)?;
        Ok(x.clone())
    }

    /// `|x|` and what an error of its gate, which changes no faster than its operand, makes of it.
    fn magnitude(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let identity = UnaryFn::Clip(f32::NEG_INFINITY, f32::INFINITY);
        over_absolutes(inputs, |operands| {
            let gated = Self { activation: identity, gate: identity }.evaluate(operands)?;
            let sums = gated.floats("x")?.iter().zip(operands[0].floats("x")?).map(|(gated, x)| gated + x).collect();
            Ok(Literal::new_float(gated.ty, sums))
        })
    }

    fn terms(&self, inputs: &[&TensorType]) -> Result<usize, OpError> {
        let result = self.infer(inputs)?;
        Ok(result.shape[2..].iter().product::<usize>() + inputs[1].shape[0] + inputs[1].shape[1] + 2)
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let types: Vec<_> = inputs.iter().map(|operand| &operand.ty).collect();
        let ty = self.infer(&types)?;
        if ty.shape.contains(&0) {
            return Ok(Literal::new_float(ty, Vec::new()));
        }
        let x = inputs[0].floats("x")?;
        let (batch, channels, plane) = (ty.shape[0], ty.shape[1], ty.shape[2] * ty.shape[3]);
        let dense = |means: &[f64], w: &Literal, b: &Literal, function: UnaryFn| -> Result<Vec<f64>, OpError> {
            let (w, b) = (w.floats("w")?, b.floats("b")?);
            let row = |(i, bias): (usize, &f64)| {
                let products = w[i * means.len()..].iter().zip(means).map(|(w, v)| w * v);
                function.eval(products.sum::<f64>() + bias)
            };
            Ok(b.iter().enumerate().map(row).collect())
        };
        let mut out = Vec::with_capacity(x.len());
        for n in 0..batch {
            let channel = |c: usize| &x[(n * channels + c) * plane..][..plane];
            let means: Vec<_> = (0..channels).map(|c| channel(c).iter().sum::<f64>() / plane as f64).collect();
            let reduced = dense(&means, inputs[1], inputs[2], self.activation)?;
            let gates = dense(&reduced, inputs[3], inputs[4], self.gate)?;
            for (c, gate) in gates.iter().enumerate() {
                out.extend(channel(c).iter().map(|v| v * gate));
            }
        }
        Ok(Literal::new_float(ty, out))
    }

    fn macs(&self, inputs: &[&TensorType], output: &TensorType) -> u64 {
        let batch = output.shape.first().copied().unwrap_or(0) as u64;
        let weights = [1, 3].iter().filter_map(|at| inputs.get(*at)).map(|w| w.shape.numel() as u64);
        weights.fold(0, u64::saturating_add).saturating_mul(batch)
    }

    fn unfused(&self, inputs: &[&TensorType]) -> Result<Option<Decomposition>, OpError> {
        let mut parts = Decomposition::over(inputs);
        let mean = parts.step(Reduce { kind: ReduceKind::Mean, axes: vec![2, 3], keepdims: true }, &[0])?;
        let dense = |function| Conv { bias: true, activation: Some(function), ..Conv::default() };
        let reduced = parts.step(dense(self.activation), &[mean, 1, 2])?;
        let gate = parts.step(dense(self.gate), &[reduced, 3, 4])?;
        let result = parts.step(Binary { function: BinaryFn::Mul }, &[0, gate])?;
        Ok(Some(parts.with_results([result])))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gate_of_the_mean_scales_each_channel() {
        let x = Literal::from_f32([1, 2, 1, 2], &[1.0, 3.0, -1.0, 1.0]);
        let w1 = Literal::from_f32([1, 2, 1, 1], &[2.0, 5.0]);
        let b1 = Literal::from_f32([1], &[-1.0]);
        let w2 = Literal::from_f32([2, 1, 1, 1], &[0.1, -1.0]);
        let b2 = Literal::from_f32([2], &[0.2, 0.0]);
        let op = SqueezeExcite { activation: UnaryFn::Relu, gate: UnaryFn::Clip(0.0, 1.0) };
        // Means 2 and 0, reduced 3, gates 0.5 and 0.
        let inputs = [&x, &w1, &b1, &w2, &b2];
        let y = op.evaluate(&inputs).unwrap().to_f64();
        assert_eq!(y, [0.5, 1.5, -0.0, 0.0]);
        let types = inputs.map(|operand| &operand.ty);
        assert_eq!(op.macs(&types, &x.ty), 4);
    }

    #[test]
    fn weights_have_the_shape_of_their_projection() {
        let f = |shape: &[usize]| TensorType::f32(shape);
        let (x, w1, b1, w2, b2) = (f(&[1, 8, 3, 3]), f(&[2, 8, 1, 1]), f(&[2]), f(&[8, 2, 1, 1]), f(&[8]));
        let op = SqueezeExcite::default();
        assert_eq!(op.infer(&[&x, &w1, &b1, &w2, &b2]).unwrap(), x);
        assert_eq!(op.infer(&[&x, &w2, &b1, &w2, &b2]).unwrap_err().field, "w1");
        assert_eq!(op.infer(&[&x, &w1, &b2, &w2, &b2]).unwrap_err().field, "b1");
        assert_eq!(op.infer(&[&x, &w1, &b1, &w1, &b2]).unwrap_err().field, "w2");
        assert_eq!(op.infer(&[&x, &w1, &b1, &w2, &b1]).unwrap_err().field, "b2");
        assert_eq!(op.infer(&[&b1, &w1, &b1, &w2, &b2]).unwrap_err().field, "x");
        let op = SqueezeExcite { gate: UnaryFn::Exp, ..op };
        assert_eq!(op.infer(&[&x, &w1, &b1, &w2, &b2]).unwrap_err().field, "gate");
    }
}
