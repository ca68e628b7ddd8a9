//! Mean and variance of each channel over the batch and all spatial axes: `x [N, C, spatial…]` gives two `[C]`.
//!
//! The variance is the mean of the squared distances from the mean, divided by the number of elements and not by one less.

use super::attributes::{Attr, AttrReader, attributes};
use super::literal::Literal;
use super::shapes::{check, checked, expect_float, expect_rank, operands};
use super::{GradientContext, Operation};
use crate::error::OpError;
use crate::types::TensorType;

attributes! {
    /// Attributes of batch statistics: none.
    pub struct BatchStatistics {}
}

impl BatchStatistics {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl Operation for BatchStatistics {
    fn name(&self) -> &'static str {
        "batch_statistics"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, OpError> {
        let [x] = operands(inputs)?;
        expect_float("x", x)?;
        expect_rank("x", 2, x)?;
        check(x.shape.numel() > 0 || x.shape[1] == 0, "x", || "elements in each channel".into(), || x.to_string())?;
        let statistic = checked(x.dtype, [x.shape[1]])?;
        Ok(vec![statistic.clone(), statistic])
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Vec<Literal>, OpError> {
        let [x] = operands(inputs)?;
        let types = self.infer(&[&x.ty])?;
        let (values, channels) = (x.floats("x")?, x.ty.shape[1]);
        let pixels: usize = x.ty.shape[2..].iter().product();
        let count = (x.ty.shape[0] * pixels) as f64;
        let mean_of = |channel: usize, term: &dyn Fn(f64) -> f64| {
            let planes = values.chunks_exact(pixels.max(1)).skip(channel).step_by(channels);
            planes.flatten().map(|v| term(*v)).sum::<f64>() / count
        };
        let means: Vec<f64> = (0..channels).map(|channel| mean_of(channel, &|v| v)).collect();
        let variances =
            means.iter().enumerate().map(|(channel, mean)| mean_of(channel, &|v| (v - mean) * (v - mean))).collect();
        let [mean, variance] = [means, variances];
        let ty = types[0].clone();
        Ok(vec![Literal::new_float(ty.clone(), mean), Literal::new_float(ty, variance)])
    }

    fn gradient(&self, cx: &mut GradientContext<'_>) -> Result<(), OpError> {
        let x = cx.operand(0);
        let shape = cx.shape(x);
        let count = shape.iter().product::<usize>() / shape[1].max(1);
        let count = cx.number(x, count as f64);
        let mut dx = None;
        if let Some(dmean) = cx.upstream(0) {
            let part = cx.div(dmean, count)?;
            dx = Some(cx.channels(part, x)?);
        }
        if let Some(dvariance) = cx.upstream(1) {
            let twice = cx.times(dvariance, 2.0)?;
            let part = cx.div(twice, count)?;
            let (part, mean) = (cx.channels(part, x)?, cx.channels(cx.result(0), x)?);
            let distance = cx.sub(x, mean)?;
            let spread = cx.mul(distance, part)?;
            dx = Some(dx.map_or(Ok(spread), |dx| cx.add(spread, dx))?);
        }
        let Some(dx) = dx else { return Ok(()) };
        let dx = cx.expand(dx, &shape)?;
        cx.set(0, dx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statistics_are_per_channel() {
        let x = Literal::from_f32([2, 2, 2], &[1., 2., 0., 0., 3., 6., 4., 0.]);
        let results = BatchStatistics {}.evaluate(&[&x]).unwrap();
        assert_eq!(results[0].to_f64(), [3., 1.]);
        assert_eq!(results[1].to_f64(), [3.5, 3.]);
        let rows = Literal::from_f32([2, 1], &[1., 3.]);
        let results = BatchStatistics {}.evaluate(&[&rows]).unwrap();
        assert_eq!((results[0].to_f64(), results[1].to_f64()), (vec![2.], vec![1.]));
    }

    #[test]
    fn a_channel_has_elements() {
        let infer = |shape: &[usize]| BatchStatistics {}.infer(&[&TensorType::f32(shape)]);
        assert_eq!(infer(&[0, 3]).unwrap_err().field, "x");
        assert_eq!(infer(&[4]).unwrap_err().field, "x");
        assert!(infer(&[2, 0, 3]).is_ok());
    }
}
