//! The weights of a convolution and a fixed batch norm as one: `w' = a w` and `b' = shift + a (bias - mean)`, with
//! `a = scale / sqrt(variance + epsilon)`.

use super::arithmetic::Arithmetic;
use super::model::{Fold, Parameter, Source};
use crate::error::Result;
use crate::graph::{GraphBuilder, ValueId, evaluate};
use crate::ops::literal::Literal;
use crate::scalar::UnaryFn;
use crate::types::Constant;

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
    let factors = a.reshape(factor, extents)?;
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
    let at = |e: crate::error::OpError| e.at(&fold.name, "batch_norm");
    let weight = Literal::from_constant(&known(&fold.weight)).map_err(at)?;
    let (factors, mut elements) =
        (factor.floats("factor").map_err(at)?, weight.floats("weights").map_err(at)?.to_vec());
    let filter = (elements.len() / factors.len().max(1)).max(1);
    for (filter, factor) in elements.chunks_mut(filter).zip(factors) {
        filter.iter_mut().for_each(|w| *w *= factor);
    }
    Ok([Literal::new_float(weight.ty, elements).to_constant(), shift.to_constant()])
}
