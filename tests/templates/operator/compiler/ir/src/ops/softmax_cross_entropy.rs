//! The mean cross entropy of scores and labels: of each row of `scores [N, C]`, the softmax at the row's label, its logarithm, negated.
//!
//! It has no kernels of its own: what it is in terms of others is how it is computed.

use super::attributes::{Attr, AttrReader, attributes};
use super::decomposition::Decomposition;
use super::literal::Literal;
use super::reduce::ReduceKind;
use super::shapes::{check, expect_float, expect_indices, expect_len, operands, resolve};
use super::{GatherElements, OneResult, Reduce, Reshape, Softmax, Unary};
use crate::error::OpError;
use crate::scalar::UnaryFn;
use crate::types::TensorType;

attributes! {
    /// Attributes of a cross entropy: none.
    pub struct SoftmaxCrossEntropy {}
}

impl SoftmaxCrossEntropy {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl OneResult for SoftmaxCrossEntropy {
    fn name(&self) -> &'static str {
        "softmax_cross_entropy"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        let [scores, labels] = operands(inputs)?;
        expect_float("scores", scores)?;
        expect_len("scores", 2, scores.shape.rank())?;
        expect_indices(labels)?;
        let rows = &scores.shape[..1];
        check(labels.shape[..] == *rows, "labels", || format!("{rows:?}"), || labels.shape.to_string())?;
        check(scores.shape.numel() > 0, "scores", || "elements".into(), || scores.shape.to_string())?;
        Ok(TensorType::new(scores.dtype, []))
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let [scores, labels] = operands(inputs)?;
        let (ty, classes) = (self.infer(&[&scores.ty, &labels.ty])?, scores.ty.shape[1]);
        let rows = scores.floats("scores")?.chunks_exact(classes);
        let mut sum = 0.0;
        for (row, label) in rows.zip(labels.ints("labels")?) {
            let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let total: f64 = row.iter().map(|score| libm::exp(score - largest)).sum();
            sum -= row[resolve(*label, classes)?] - largest - libm::log(total);
        }
        Ok(Literal::new_float(ty, vec![sum / scores.ty.shape[0] as f64]))
    }

    fn decompose(&self, inputs: &[&TensorType]) -> Result<Option<Decomposition>, OpError> {
        let mut parts = Decomposition::over(inputs);
        let logarithms = parts.step(Softmax { axis: 1, log: true }, &[0])?;
        let column = parts.step(Reshape { shape: vec![inputs[0].shape[0], 1] }, &[1])?;
        let chosen = parts.step(GatherElements { axis: 1 }, &[logarithms, column])?;
        let losses = parts.step(Unary { function: UnaryFn::Neg }, &[chosen])?;
        let mean = parts.step(Reduce { kind: ReduceKind::Mean, axes: vec![0, 1], keepdims: false }, &[losses])?;
        Ok(Some(parts.with_results([mean])))
    }
}

#[cfg(test)]
mod tests {
    use super::super::decomposition;
    use super::*;
    use crate::types::DType;

    #[test]
    fn template_parts_compute_the_whole() {
        let scores = Literal::from_f32([2, 2], &[0.0, 0.0, 1.0, 1.0]);
        let labels = Literal::new_int(TensorType::new(DType::I64, [2]), vec![0, -1]);
        let op = SoftmaxCrossEntropy {};
        let whole = op.evaluate(&[&scores, &labels]).unwrap();
        assert!((whole.to_f64()[0] - 2f64.ln()).abs() < 1e-6);
        let parts = decomposition::evaluate(&op.into(), &[&scores, &labels]).unwrap().unwrap();
        assert!((parts[0].to_f64()[0] - whole.to_f64()[0]).abs() < 1e-6);
        assert_eq!(SoftmaxCrossEntropy {}.infer(&[&scores.ty, &scores.ty]).unwrap_err().field, "indices");
    }
}
