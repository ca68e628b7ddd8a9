//! Losses over classes: NegativeLogLikelihoodLoss, SoftmaxCrossEntropyLoss.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::reduce::ReduceKind;
use fornax_ir::ops::{Gather, GatherElements, Reduce, Softmax, Where};
use fornax_ir::scalar::{BinaryFn, UnaryFn};

use crate::context::Context;
use crate::error::Result;

use super::support::{binary, expand, expect_rank, int_constant, reshape, unary};

/// `NegativeLogLikelihoodLoss` of logarithms of probabilities and labels.
pub(crate) fn negative_log_likelihood_loss(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let scores = cx.input(0)?;
    Ok(vec![likelihood(cx, scores)?])
}

/// `SoftmaxCrossEntropyLoss` of scores and labels, and the logarithms of probabilities.
pub(crate) fn softmax_cross_entropy_loss(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let scores = cx.input(0)?;
    expect_rank(cx, "scores", scores, 2)?;
    let logarithms = cx.emit(Softmax { axis: 1, log: true }, &[scores])?;
    Ok(vec![likelihood(cx, logarithms)?, logarithms])
}

/// The weighted negative of the logarithm at each label, `[n, C, …]` at `[n, …]`, and their mean or sum.
fn likelihood(cx: &mut Context<'_>, logarithms: ValueId) -> Result<ValueId> {
    let (labels, weights) = (cx.input(1)?, cx.optional(2));
    expect_rank(cx, "input", logarithms, 2)?;
    let (given, shape) = (cx.shape(logarithms).to_vec(), cx.shape(labels).to_vec());
    let mut wanted = given.clone();
    wanted.remove(1);
    if shape != wanted {
        return Err(cx.error("target", format!("shape {wanted:?}"), cx.ty(labels).to_string()));
    }
    let kind = match cx.attrs().string("reduction", "mean")? {
        "none" => None,
        "mean" => Some(true),
        "sum" => Some(false),
        other => return Err(cx.error("reduction", "none, mean or sum", other)),
    };
    if let Some(weights) = weights.filter(|weights| cx.shape(*weights)[..] != [given[1]]) {
        return Err(cx.error("weight", format!("shape [{}]", given[1]), cx.ty(weights).to_string()));
    }
    let ignored = match cx.attrs().has("ignore_index") {
        false => None,
        true => {
            let index = cx.attrs().require_int("ignore_index")?;
            let index = int_constant(cx, cx.ty(labels).dtype, Vec::new(), &[index]);
            Some(binary(cx, BinaryFn::Equal, labels, index)?)
        }
    };
    // A label that is left out may be no class.
    let classes = match ignored {
        None => labels,
        Some(ignored) => {
            let first = int_constant(cx, cx.ty(labels).dtype, Vec::new(), &[0]);
            cx.emit(Where {}, &[ignored, first, labels])?
        }
    };
    let mut column = shape.clone();
    column.insert(1, 1);
    let column = reshape(cx, classes, column)?;
    let chosen = cx.emit(GatherElements { axis: 1 }, &[logarithms, column])?;
    let chosen = reshape(cx, chosen, shape.clone())?;
    let mut losses = unary(cx, UnaryFn::Neg, chosen)?;
    let weight = weight_of(cx, losses, (weights, classes), ignored)?;
    if let Some(weight) = weight {
        losses = binary(cx, BinaryFn::Mul, losses, weight)?;
    }
    kind.map_or(Ok(losses), |mean| reduced(cx, losses, weight, mean))
}

/// What each loss counts, where they do not all count the same: the weight of its class, 0 where its label is left out.
fn weight_of(
    cx: &mut Context<'_>,
    losses: ValueId,
    (weights, classes): (Option<ValueId>, ValueId),
    ignored: Option<ValueId>,
) -> Result<Option<ValueId>> {
    let weight = match weights {
        Some(weights) => Some(cx.emit(Gather { axis: 0 }, &[weights, classes])?),
        None => None,
    };
    let Some(ignored) = ignored else { return Ok(weight) };
    let shape = cx.shape(losses).to_vec();
    let one = cx.scalar_like(losses, 1.0)?;
    let kept = weight.map_or_else(|| expand(cx, one, shape), Ok)?;
    let zero = cx.scalar_like(losses, 0.0)?;
    cx.emit(Where {}, &[ignored, zero, kept]).map(Some)
}

/// The sum of losses, or their mean by what they count.
fn reduced(cx: &mut Context<'_>, losses: ValueId, weight: Option<ValueId>, mean: bool) -> Result<ValueId> {
    let axes: Vec<usize> = (0..cx.shape(losses).rank()).collect();
    let all = |cx: &mut Context<'_>, kind: ReduceKind, x: ValueId| {
        cx.emit(Reduce { kind, axes: axes.clone(), keepdims: false }, &[x])
    };
    match weight.filter(|_| mean) {
        None => all(cx, if mean { ReduceKind::Mean } else { ReduceKind::Sum }, losses),
        Some(weight) => {
            let sum = all(cx, ReduceKind::Sum, losses)?;
            let total = all(cx, ReduceKind::Sum, weight)?;
            binary(cx, BinaryFn::Div, sum, total)
        }
    }
}
