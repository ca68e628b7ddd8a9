//! Folds per-channel scales and shifts into the convolution or matrix product before them; no batch norm of constants in range remains.
//!
//! A batch norm with constant parameters is `scale x + shift` per channel; so is an addition of, or a product by, a
//! constant of one element per channel, which is how some exporters write it. Behind a convolution, transposed
//! convolution or gemm with constant weights and no other user it goes into weights and bias, computed in `f64` and
//! rounded once. Any other batch norm becomes `mul` and `add`. A batch norm of a concatenation goes into its parts
//! where they all take it. The new constants keep the parameter names of all that went into them.
//!
//! Holds: to a rounding of each weight, and of each sum. Where the producer's own sums overflow the folded ones may be numbers, and
//! a zero may change its sign. NaN and infinities of `x`, weights and shifts come out as before.
//! Needs: factors that are finite; products of weights and factors that neither overflow nor vanish nor lose bits as subnormals, unless the
//! bias hides that; biases and shifts that do not overflow, and shifts far from overflowing where they become an `add`. All are constants
//! and checked; what does not hold stays as it is.

use super::matching::{binary, known, merged, shared};
use super::range::Magnitudes;
use super::{Context, Outcome, range, rewrite};
use crate::error::Result;
use crate::graph::{Graph, Patch, PatchValue, ValueId};
use crate::ops::literal::Literal;
use crate::ops::{BatchNorm, Binary, Op};
use crate::scalar::BinaryFn;
use crate::types::{Constant, DType, Payload, Scaled, Shape, TensorType};

/// Runs the pass.
pub fn run(graph: Graph, cx: &mut Context) -> Result<Graph> {
    rewrite(graph, cx, fold)
}

fn fold(graph: &Graph, id: ValueId) -> Outcome {
    match (graph.producer(id).op(), binary(graph, id)) {
        (Some(Op::BatchNorm(op)), _) => match batch_norm(graph, id, op.epsilon) {
            Err(obstacle) => Outcome::Declined(obstacle),
            Ok(_) if let Some(patch) = into_parts(graph, id, op) => Outcome::Replace(patch),
            Ok(affine) => match into_producer(graph, id, &affine) {
                Ok(Some(patch)) => Outcome::Replace(patch),
                Ok(None) => apart(graph, id, &affine, "mul and add"),
                Err(obstacle) => apart(graph, id, &affine, &format!("mul and add, for {obstacle}")),
            },
        },
        (_, Some((function, a, b))) => match arithmetic(graph, id, function, a, b) {
            None => Outcome::NoMatch,
            Some(affine) => match into_producer(graph, id, &affine) {
                Ok(Some(patch)) => Outcome::Replace(patch),
                Ok(None) => Outcome::NoMatch,
                Err(obstacle) => Outcome::Declined(obstacle),
            },
        },
        _ => Outcome::NoMatch,
    }
}

/// `scale x + shift`, per channel of `x`.
struct Affine {
    x: ValueId,
    scale: Vec<f64>,
    shift: Vec<f64>,
    /// Whether the shift overflowed although all behind it are numbers.
    overflows: bool,
    /// Parameters behind `scale` and behind `shift`.
    scale_origins: Vec<String>,
    shift_origins: Vec<String>,
    /// A name for the bias where there is none.
    bias_name: String,
}

fn batch_norm(graph: &Graph, id: ValueId, epsilon: f32) -> Result<Affine, String> {
    let [x, scale, bias, mean, variance] = graph.operands(id.node)[..] else {
        return Err("expected five operands".into());
    };
    let constants = [
        known(graph, scale, "scale")?,
        known(graph, bias, "bias")?,
        known(graph, mean, "mean")?,
        known(graph, variance, "variance")?,
    ];
    let values = |i: usize| Literal::from_constant(constants[i]).map(|l| l.to_f64()).map_err(|e| e.to_string());
    let (scale, beta, mean, variance) = (values(0)?, values(1)?, values(2)?, values(3)?);
    let scale: Vec<f64> = scale.iter().zip(&variance).map(|(s, v)| s / (v + f64::from(epsilon)).sqrt()).collect();
    let shift: Vec<f64> = beta.iter().zip(&mean).zip(&scale).map(|((b, m), s)| b - m * s).collect();
    let dtype = graph.ty(x).dtype;
    let parts = beta.iter().zip(&mean).zip(&scale).map(|((b, m), s)| [*b, *m, *s]);
    let overflows = shift.iter().zip(parts).any(|(shift, parts)| range::overflows(dtype, *shift, &parts));
    Ok(Affine {
        x,
        scale,
        shift,
        overflows,
        scale_origins: merged([&constants[0].origins, &constants[3].origins]),
        shift_origins: merged(constants.iter().map(|c| &c.origins)),
        bias_name: graph.name_of(bias).to_owned(),
    })
}

/// Addition, subtraction, multiplication or division of `x` with a constant of one element per channel.
fn arithmetic(graph: &Graph, id: ValueId, function: BinaryFn, a: ValueId, b: ValueId) -> Option<Affine> {
    let (x, k, reversed) = if graph.producer(b).constant().is_some() { (a, b, false) } else { (b, a, true) };
    if graph.producer(x).constant().is_some() || graph.ty(x) != graph.ty(id) {
        return None;
    }
    let constant = known(graph, k, "constant").ok()?;
    let values = per_channel(constant, graph.ty(x))?;
    let (ones, zeros) = (vec![1.0; values.len()], vec![0.0; values.len()]);
    let origins = constant.origins.clone();
    let (scale, shift) = match (function, reversed) {
        (BinaryFn::Add, _) => (ones, values),
        (BinaryFn::Sub, false) => (ones, values.iter().map(|v| -v).collect()),
        (BinaryFn::Sub, true) => (vec![-1.0; values.len()], values),
        (BinaryFn::Mul, _) => (values, zeros),
        (BinaryFn::Div, false) => (values.iter().map(|v| 1.0 / v).collect(), zeros),
        _ => return None,
    };
    let scale_origins = if matches!(function, BinaryFn::Mul | BinaryFn::Div) { origins.clone() } else { Vec::new() };
    let bias_name = graph.name_of(k).to_owned();
    Some(Affine { x, scale, shift, overflows: false, scale_origins, shift_origins: origins, bias_name })
}

/// The elements of `constant` for each channel (axis 1) of a value of type `ty`, if it varies along no other axis.
pub(super) fn per_channel(constant: &Constant, ty: &TensorType) -> Option<Vec<f64>> {
    let (shape, rank, channels) = (&constant.ty.shape, ty.shape.rank(), *ty.shape.get(1)?);
    if !ty.dtype.is_float() || shape.rank() > rank {
        return None;
    }
    let skipped = rank - shape.rank();
    let varies = |axis: usize| shape[axis] != 1;
    if (0..shape.rank()).any(|axis| varies(axis) && (axis + skipped != 1 || shape[axis] != channels)) {
        return None;
    }
    let values = Literal::from_constant(constant).ok()?.to_f64();
    if values.len() == channels { Some(values) } else { values.first().map(|v| vec![*v; channels]) }
}

/// The producer of `affine.x` with the scale in its weights and the shift in its bias; `None` if it is not of the
/// kinds that take them.
fn into_producer(graph: &Graph, id: ValueId, affine: &Affine) -> Result<Option<Patch>, String> {
    let producer = affine.x;
    let operands = graph.operands(producer.node);
    let (Some(op), [x, w, rest @ ..]) = (graph.producer(producer).op(), &operands[..]) else { return Ok(None) };
    let Some(rows) = rows(op, &graph.ty(*w).shape, affine.scale.len()) else { return Ok(None) };
    if let Some(obstacle) = shared(graph, producer) {
        return Err(obstacle);
    }
    let (mut op, mut alpha, mut beta) = (op.clone(), 1.0, 1.0);
    let had_bias = match &mut op {
        Op::Conv(op) => std::mem::replace(&mut op.bias, true),
        Op::ConvTranspose(op) => std::mem::replace(&mut op.bias, true),
        Op::Gemm(op) => {
            alpha = f64::from(op.alpha);
            beta = f64::from(std::mem::replace(&mut op.beta, 1.0));
            std::mem::replace(&mut op.bias, true)
        }
        _ => return Ok(None),
    };
    let bias = if had_bias { rest.first().copied() } else { None };
    let weight = known(graph, *w, "weight")?;
    let new_bias = shifted(graph, bias, beta, affine, producer)?;
    expect_in_range(weight, &affine.scale, &new_bias, alpha, &rows)?;
    let new_weight =
        scaled(weight, &affine.scale, &rows)?.with_origins(merged([&weight.origins, &affine.scale_origins]));
    let mut patch = Patch::new(id, format!("{} with scaled weights", op.name()));
    let w = patch.constant(graph.name_of(*w), new_weight);
    let b = patch.constant(bias.map_or(affine.bias_name.as_str(), |b| graph.name_of(b)), new_bias);
    patch.op(op, &[(*x).into(), w, b]);
    Ok(Some(patch))
}

/// A batch norm of a concatenation of channels, all parts of which can take it, as a concatenation of batch norms.
fn into_parts(graph: &Graph, id: ValueId, op: &BatchNorm) -> Option<Patch> {
    let [concat, parameters @ ..] = &graph.operands(id.node)[..] else { return None };
    let Some(Op::Concat(axis)) = graph.producer(*concat).op() else { return None };
    let parts = graph.operands(concat.node);
    let takes = |part: &ValueId| {
        let (Some(op), Some(w)) = (graph.producer(*part).op(), graph.operands(part.node).get(1).copied()) else {
            return false;
        };
        let outputs = graph.ty(*part).shape.get(1).copied().unwrap_or(0);
        rows(op, &graph.ty(w).shape, outputs).is_some()
            && known(graph, w, "weight").is_ok()
            && shared(graph, *part).is_none()
    };
    if axis.axis != 1 || shared(graph, *concat).is_some() || !parts.iter().all(takes) {
        return None;
    }
    let mut patch = Patch::new(id, "concat of batch norms");
    let (mut start, mut normed) = (0, Vec::with_capacity(parts.len()));
    for part in parts {
        let end = start + graph.ty(part).shape[1];
        let mut operands = vec![PatchValue::Old(part)];
        for parameter in parameters {
            let constant = known(graph, *parameter, "parameter").ok()?;
            let literal = Literal::from_constant(constant).ok()?;
            let values = literal.to_f64().get(start..end)?.to_vec();
            let slice = Literal::new_float(TensorType::new(literal.ty.dtype, [end - start]), values);
            let slice = slice.to_constant().with_origins(constant.origins.clone());
            operands.push(patch.constant(graph.name_of(*parameter), slice));
        }
        normed.push(patch.op(op.clone(), &operands));
        start = end;
    }
    patch.op(axis.clone(), &normed);
    Some(patch)
}

/// A weight as rows of `width` elements that belong to one output channel each.
struct Rows {
    width: usize,
    /// Rows after which the channels begin anew.
    period: usize,
    channel: Box<dyn Fn(usize) -> usize>,
}

/// The rows of the weight of `op`; `None` if nothing can be folded into it.
fn rows(op: &Op, weight: &Shape, outputs: usize) -> Option<Rows> {
    if weight.numel() == 0 || weight.rank() < 2 {
        return None;
    }
    let by_row: Box<dyn Fn(usize) -> usize> = Box::new(|row| row);
    match op {
        Op::Conv(op) if op.activation.is_none() && !op.residual => {
            Some(Rows { width: weight.numel() / weight[0], period: weight[0], channel: by_row })
        }
        Op::Gemm(op) if op.activation.is_none() && op.trans_b => {
            Some(Rows { width: weight[1], period: weight[0], channel: by_row })
        }
        Op::Gemm(op) if op.activation.is_none() => {
            Some(Rows { width: 1, period: outputs, channel: Box::new(move |row| row % outputs) })
        }
        Op::ConvTranspose(op) => {
            let (inputs_per_group, outputs_per_group) = ((weight[0] / op.group.max(1)).max(1), weight[1]);
            let channel = move |row| {
                let (input, output) = (row / outputs_per_group, row % outputs_per_group);
                input / inputs_per_group * outputs_per_group + output
            };
            let period = weight[0] * weight[1];
            Some(Rows { width: weight[2..].iter().product(), period, channel: Box::new(channel) })
        }
        _ => None,
    }
}

/// Each row by its channel's scale. `f32` elements, nearly all there are, are multiplied when they are read.
fn scaled(weight: &Constant, scale: &[f64], rows: &Rows) -> Result<Constant, String> {
    let of_row = |row: usize| scale.get((rows.channel)(row)).copied().unwrap_or(1.0);
    if let (DType::F32, Some(elements)) = (weight.ty.dtype, weight.bytes()) {
        let factors = (0..rows.period).map(of_row).collect();
        let payload = Payload::Scaled(Scaled { elements, run: rows.width, factors });
        return Ok(Constant::new(weight.ty.clone(), payload));
    }
    let literal = Literal::from_constant(weight).map_err(|e| e.to_string())?;
    let mut values = literal.to_f64();
    for (row, values) in values.chunks_mut(rows.width).enumerate() {
        values.iter_mut().for_each(|v| *v *= of_row(row));
    }
    Ok(Literal::new_float(literal.ty, values).to_constant())
}

/// Fails unless the products of the weight and the factors of its channels stay in range; `bias` is added to `alpha` times their sums.
fn expect_in_range(weight: &Constant, scale: &[f64], bias: &Constant, alpha: f64, rows: &Rows) -> Result<(), String> {
    let magnitudes = magnitudes(weight, scale.len(), rows)?;
    let bias = Literal::from_constant(bias).map_err(|e| e.to_string())?.to_f64();
    for (channel, ((of, scale), bias)) in magnitudes.iter().zip(scale).zip(&bias).enumerate() {
        if let Some(obstacle) = range::obstacle_to_factor(weight.ty.dtype, *of, *scale, bias / alpha.abs().max(1.0)) {
            return Err(format!("weights of channel {channel}: {obstacle}"));
        }
    }
    Ok(())
}

/// The magnitudes of the weights of each channel.
fn magnitudes(weight: &Constant, channels: usize, rows: &Rows) -> Result<Vec<Magnitudes>, String> {
    let mut out = vec![Magnitudes::NONE; channels];
    let mut see = |row: usize, of: Magnitudes| {
        if let Some(out) = out.get_mut((rows.channel)(row)) {
            *out = out.with(of);
        }
    };
    if let (DType::F32, Some(bytes)) = (weight.ty.dtype, weight.bytes()) {
        for (row, elements) in bytes.as_chunks::<4>().0.chunks(rows.width).enumerate() {
            see(row, Magnitudes::of_f32(elements));
        }
        return Ok(out);
    }
    let literal = Literal::from_constant(weight).map_err(|e| e.to_string())?;
    for (row, elements) in literal.to_f64().chunks(rows.width).enumerate() {
        see(row, elements.iter().copied().fold(Magnitudes::NONE, Magnitudes::and));
    }
    Ok(out)
}

/// The bias `beta bias scale + shift`, one element per channel; fails where it overflows.
fn shifted(
    graph: &Graph,
    bias: Option<ValueId>,
    beta: f64,
    affine: &Affine,
    producer: ValueId,
) -> Result<Constant, String> {
    let ty = TensorType::new(graph.ty(producer).dtype, [affine.shift.len()]);
    if affine.overflows {
        return Err(format!("the shift exceeds the largest {}", ty.dtype));
    }
    let Some(bias) = bias else {
        let literal = Literal::new_float(ty, affine.shift.clone());
        return Ok(literal.to_constant().with_origins(affine.shift_origins.clone()));
    };
    let constant = known(graph, bias, "bias")?;
    let literal = Literal::from_constant(constant).map_err(|e| e.to_string())?;
    let values = match literal.ty.shape[..] {
        [n] if n == affine.shift.len() => literal.to_f64(),
        _ => per_channel(constant, graph.ty(producer))
            .ok_or_else(|| format!("the bias %{} varies along more than channels", graph.name_of(bias)))?,
    };
    let mut sums = Vec::with_capacity(values.len());
    for ((b, scale), shift) in values.iter().zip(&affine.scale).zip(&affine.shift) {
        let sum = beta * b * scale + shift;
        if range::overflows(ty.dtype, sum, &[*b, *scale, *shift]) {
            return Err(format!("the bias {b:.2e} times {scale:.2e} exceeds the largest {}", ty.dtype));
        }
        sums.push(sum);
    }
    let origins = merged([&constant.origins, &affine.scale_origins, &affine.shift_origins]);
    Ok(Literal::new_float(ty, sums).to_constant().with_origins(origins))
}

/// `x scale + shift` as two nodes, where `f32`, or what the elements are, holds the constants.
fn apart(graph: &Graph, id: ValueId, affine: &Affine, why: &str) -> Outcome {
    let dtype = graph.ty(affine.x).dtype;
    // `x scale` alone overflows where the whole does, but for shifts that bring it back.
    if let Some(shift) = affine.shift.iter().find(|shift| !range::is_small(dtype, **shift)) {
        return Outcome::Declined(format!("the shift {shift:.2e} is too near the largest {dtype}"));
    }
    for (channel, (scale, shift)) in affine.scale.iter().zip(&affine.shift).enumerate() {
        let one = Magnitudes::NONE.and(1.0);
        let obstacle = range::obstacle_to_factor(dtype, one, *scale, *shift).filter(|_| !range::is_held(dtype, *scale));
        if let Some(obstacle) = obstacle {
            return Outcome::Declined(format!("the factor of channel {channel}: {obstacle}"));
        }
    }
    Outcome::Replace(standalone(graph, id, affine, why))
}

/// `x scale + shift` as two nodes.
fn standalone(graph: &Graph, id: ValueId, affine: &Affine, why: &str) -> Patch {
    let ty = graph.ty(affine.x);
    let mut shape = vec![1; ty.shape.rank().saturating_sub(1)];
    if let Some(channels) = shape.first_mut() {
        *channels = affine.scale.len();
    }
    let ty = TensorType::new(ty.dtype, shape);
    let constant = |values: &[f64], origins: &[String]| {
        Literal::new_float(ty.clone(), values.to_vec()).to_constant().with_origins(origins.to_vec())
    };
    let name = graph.name_of(id);
    let mut patch = Patch::new(id, why);
    let scale = patch.constant(format!("{name}.scale"), constant(&affine.scale, &affine.scale_origins));
    let shift = patch.constant(format!("{name}.shift"), constant(&affine.shift, &affine.shift_origins));
    let product = patch.op(Binary { function: BinaryFn::Mul }, &[affine.x.into(), scale]);
    patch.op(Binary { function: BinaryFn::Add }, &[product, shift]);
    patch
}
