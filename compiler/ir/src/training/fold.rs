//! The weights of a convolution and a fixed batch norm as one: `w' = a w` and `b' = shift + a (bias - mean)`, with
//! `a = scale / sqrt(variance + epsilon)`.

use super::arithmetic::Arithmetic;
use super::model::{Fold, Parameter, Source};
use crate::error::Result;
use crate::graph::{GraphBuilder, ValueId, evaluate};
use crate::scalar::UnaryFn;
use crate::types::Constant;

/// Adds the weights and the bias of a folded batch norm to a graph; `parameters` are the values of the trained ones.
pub fn folded(b: &mut GraphBuilder, fold: &Fold, parameters: &[ValueId]) -> Result<[ValueId; 2]> {
    let mut value = |what: &str, source: &Source| match source {
        Source::Parameter(number) => parameters[*number],
        Source::Constant(constant) => b.constant(&format!("{}.{what}", fold.name), constant.clone()),
    };
    let (weight, scale, shift) =
        (value("weights", &fold.weight), value("scale", &fold.scale), value("shift", &fold.shift));
    let bias = fold.bias.as_ref().map(|bias| value("bias", bias));
    let mean = b.constant(&format!("{}.mean", fold.name), fold.mean.clone());
    let variance = b.constant(&format!("{}.variance", fold.name), fold.variance.clone());
    let mut a = Arithmetic::new(b, &fold.name);
    let shifted = a.plus(variance, fold.epsilon.into())?;
    let deviation = a.unary(UnaryFn::Sqrt, shifted)?;
    let factor = a.div(scale, deviation)?;
    let mut extents = vec![1; a.b.ty(weight).shape.rank()];
    extents[0] = a.b.ty(factor).shape[0];
    let factors = a.reshape(factor, extents)?;
    let weight = a.mul(weight, factors)?;
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
    Ok([weight, shift])
}

/// The weights and the bias that a folded batch norm begins with.
pub fn initial(fold: &Fold, parameters: &[Parameter]) -> Result<[Constant; 2]> {
    let mut b = GraphBuilder::new(&fold.name);
    let values: Vec<ValueId> =
        parameters.iter().map(|parameter| b.constant(&parameter.name, parameter.initial.clone())).collect();
    for value in folded(&mut b, fold, &values)? {
        b.output(format!("output{}", b.graph().outputs().len()), value);
    }
    let found = evaluate(&b.finish(), &[])?;
    Ok([found[0].to_constant(), found[1].to_constant()])
}
