//! The weights of a convolution and a fixed batch norm as one: `w' = a w` and `b' = shift + a (bias - mean)`, with
//! `a = scale / sqrt(variance + epsilon)`.

use super::arithmetic::Arithmetic;
use super::model::{Fold, Parameter, Source};
use crate::error::{OpError, Result};
use crate::graph::{GraphBuilder, ValueId, evaluate};
use crate::ops::literal::Literal;
use crate::scalar::UnaryFn;
use crate::types::{Constant, DType};

/// Adds the weights and the bias of a folded batch norm to a graph; `parameters` are the values of the trained ones.
pub fn folded(b: &mut GraphBuilder, fold: &Fold, parameters: &[ValueId]) -> Result<[ValueId; 2]> {
    let mut value = |b: &mut GraphBuilder, what: &str, source: &Source| match source {
        Source::Parameter(number) => parameters[*number],
        Source::Constant(constant) => b.constant(&format!("{}.{what}", fold.name), constant.clone()),
    };
    let weight = value(b, "weights", &fold.weight);
    let [factor, shift] = channels(b, fold, &mut value)?;
    let mut a = Arithmetic::new(b, &fold.name);
    let mut extents = vec![1; a.b.ty(weight).shape.rank()];
    extents[0] = a.b.ty(factor).shape[0];
    let factors = a.reshape(factor, &extents)?;
    Ok([a.mul(weight, factors)?, shift])
}

/// Adds the factor and the bias of every channel.
fn channels(
    b: &mut GraphBuilder,
    fold: &Fold,
    value: &mut dyn FnMut(&mut GraphBuilder, &str, &Source) -> ValueId,
) -> Result<[ValueId; 2]> {
    let (scale, shift) = (value(b, "scale", &fold.scale), value(b, "shift", &fold.shift));
    let bias = fold.bias.as_ref().map(|bias| value(b, "bias", bias));
    let mean = b.constant(&format!("{}.mean", fold.name), fold.mean.clone());
    let variance = b.constant(&format!("{}.variance", fold.name), fold.variance.clone());
    let mut a = Arithmetic::new(b, &fold.name);
    let shifted = a.plus(variance, fold.epsilon.into())?;
    let deviation = a.unary(UnaryFn::Sqrt, shifted)?;
    let factor = a.div(scale, deviation)?;
    let shift = match bias {
        Some(bias) => {
            let distance = a.sub(bias, mean)?;
            let moved = a.mul(factor, distance)?;
            a.add(shift, moved)?
        }
        None => {
            let moved = a.mul(factor, mean)?;
            a.sub(shift, moved)?
        }
    };
    Ok([factor, shift])
}

/// The weights and the bias that a folded batch norm begins with: what [`folded`] gives, without a graph over all weights.
pub fn initial(fold: &Fold, parameters: &[Parameter]) -> Result<[Constant; 2]> {
    let known = |source: &Source| match source {
        Source::Parameter(number) => parameters[*number].initial.clone(),
        Source::Constant(constant) => constant.clone(),
    };
    let mut b = GraphBuilder::new(&fold.name);
    let values = channels(&mut b, fold, &mut |b, what, source| b.constant(what, known(source)))?;
    values.into_iter().zip(["factor", "shift"]).for_each(|(value, name)| b.output(name, value));
    let found = evaluate(&b.finish(), &[])?;
    let (factor, shift) = (&found[0], &found[1]);
    let weight = scaled(&known(&fold.weight), factor).map_err(|e| e.at(&fold.name, "batch_norm"))?;
    Ok([weight, shift.to_constant()])
}

/// Filters times factors; weights of `f32` without a copy of them in `f64`, where the same product would be rounded to the same element.
fn scaled(weight: &Constant, factor: &Literal) -> Result<Constant, OpError> {
    let factors = factor.floats("factor")?;
    if weight.ty.dtype == DType::F32
        && let Some(bytes) = weight.bytes()
    {
        let mut elements = vec![0; bytes.len()];
        let filter = (bytes.len() / factors.len().max(1)).max(4);
        for ((from, to), factor) in bytes.chunks(filter).zip(elements.chunks_mut(filter)).zip(factors) {
            let (from, to, factor) = (from.as_chunks().0, to.as_chunks_mut().0, *factor as f32);
            to.iter_mut().zip(from).for_each(|(to, from)| *to = (f32::from_le_bytes(*from) * factor).to_le_bytes());
        }
        return Ok(Constant::from_bytes(weight.ty.clone(), elements));
    }
    let weight = Literal::from_constant(weight)?;
    let mut elements = weight.floats("weights")?.to_vec();
    let filter = (elements.len() / factors.len().max(1)).max(1);
    for (filter, factor) in elements.chunks_mut(filter).zip(factors) {
        filter.iter_mut().for_each(|w| *w *= factor);
    }
    Ok(Literal::new_float(weight.ty, elements).to_constant())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{TensorType, random_values};

    #[test]
    fn products_are_rounded_once() {
        let (weights, factors) = (random_values(1, 24), random_values(2, 4));
        let weight = Constant::from_f32([4, 2, 3], &weights);
        let factor = Literal::from_f32([4], &factors);
        let expected: Vec<f32> = weights.iter().zip(0..).map(|(w, at): (&f32, usize)| w * factors[at / 6]).collect();
        assert_eq!(scaled(&weight, &factor).unwrap().to_f32().unwrap(), expected);
        let wide = Literal::new_float(TensorType::new(DType::F64, [2, 1]), vec![0.1, 0.2]).to_constant();
        let factor = Literal::new_float(TensorType::new(DType::F64, [2]), vec![3.0, 0.3]);
        let found = Literal::from_constant(&scaled(&wide, &factor).unwrap()).unwrap().to_f64();
        assert_eq!(found, [0.1 * 3.0, 0.2 * 0.3]);
    }
}
