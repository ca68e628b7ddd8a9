//! Steps of training (`ai.onnx.preview.training`): Adagrad, Adam, Momentum.
//!
//! In: a learning rate, a count of updates, and for each tensor that is learnt its gradient and what is kept of it, kind by kind. Out: all
//! tensors after the update, and then what is kept, kind by kind.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::Where;
use fornax_ir::scalar::{BinaryFn, UnaryFn};

use crate::context::Context;
use crate::error::Result;

use super::support::{binary, cast, reshape, unary, with_scalar};

/// The operands of an optimizer.
struct Step {
    /// The learning rate, as given.
    rate: ValueId,
    /// The count of updates so far.
    count: ValueId,
    /// For each tensor: itself, its gradient, what is kept of it.
    tensors: Vec<Vec<ValueId>>,
}

impl Step {
    /// Reads the operands of a node that has `kinds` of them for each tensor.
    fn of(cx: &Context<'_>, kinds: usize) -> Result<Self> {
        let (rate, count) = (cx.input(0)?, cx.input(1)?);
        cx.expect_scalar(rate, "R")?;
        cx.expect_scalar(count, "T")?;
        let given = cx.input_count().saturating_sub(2);
        if given == 0 || !given.is_multiple_of(kinds) {
            return Err(cx.error("inputs", format!("2, and {kinds} for each tensor"), cx.input_count().to_string()));
        }
        let each = given / kinds;
        let mut tensors = Vec::with_capacity(each);
        for i in 0..each {
            let of_one = (0..kinds).map(|kind| cx.input(2 + kind * each + i)).collect::<Result<Vec<_>>>()?;
            if let Some(other) = of_one.iter().find(|id| cx.ty(**id) != cx.ty(of_one[0])) {
                let found = cx.ty(*other).to_string();
                return Err(cx.error(format!("tensor {i}"), format!("{} for each kind", cx.ty(of_one[0])), found));
            }
            tensors.push(of_one);
        }
        Ok(Self { rate, count, tensors })
    }

    /// Rate and count as scalars of the element type of a tensor.
    fn scalars(&self, cx: &mut Context<'_>, like: ValueId) -> Result<(ValueId, ValueId)> {
        let to = cx.ty(like).dtype;
        let mut scalars = [self.rate, self.count];
        for scalar in &mut scalars {
            let one = reshape(cx, *scalar, Vec::new())?;
            *scalar = cast(cx, one, to)?;
        }
        Ok(scalars.into())
    }
}

/// A number of the node's attributes.
fn number(cx: &Context<'_>, name: &str, default: f32) -> Result<f64> {
    cx.attrs().float(name, default).map(f64::from)
}

/// The gradient, and the gradient of the tensor's own norm.
fn regularised(cx: &mut Context<'_>, x: ValueId, gradient: ValueId) -> Result<ValueId> {
    let factor = number(cx, "norm_coefficient", 0.0)?;
    let own = with_scalar(cx, BinaryFn::Mul, x, factor)?;
    binary(cx, BinaryFn::Add, own, gradient)
}

/// `a` times a number, plus `b` times another.
fn mixed(cx: &mut Context<'_>, (a, by): (ValueId, f64), (b, and): (ValueId, f64)) -> Result<ValueId> {
    let a = with_scalar(cx, BinaryFn::Mul, a, by)?;
    let b = with_scalar(cx, BinaryFn::Mul, b, and)?;
    binary(cx, BinaryFn::Add, a, b)
}

/// `1 - base^count`.
fn correction(cx: &mut Context<'_>, base: f64, count: ValueId) -> Result<ValueId> {
    let base = cx.scalar_like(count, base)?;
    let power = binary(cx, BinaryFn::Pow, base, count)?;
    let one = cx.scalar_like(count, 1.0)?;
    binary(cx, BinaryFn::Sub, one, power)
}

/// The results of all tensors, kind by kind.
fn by_kind(results: Vec<Vec<ValueId>>, kinds: usize) -> Vec<ValueId> {
    (0..kinds).flat_map(|kind| results.iter().map(move |of_one| of_one[kind])).collect()
}

/// `Adagrad`.
pub(crate) fn adagrad(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let step = Step::of(cx, 3)?;
    let (decay, epsilon) = (number(cx, "decay_factor", 0.0)?, number(cx, "epsilon", 0.0)?);
    let mut results = Vec::with_capacity(step.tensors.len());
    for tensor in &step.tensors {
        let (x, kept) = (tensor[0], tensor[2]);
        let (rate, count) = step.scalars(cx, x)?;
        let later = with_scalar(cx, BinaryFn::Mul, count, decay)?;
        let later = with_scalar(cx, BinaryFn::Add, later, 1.0)?;
        let rate = binary(cx, BinaryFn::Div, rate, later)?;
        let gradient = regularised(cx, x, tensor[1])?;
        let square = binary(cx, BinaryFn::Mul, gradient, gradient)?;
        let kept = binary(cx, BinaryFn::Add, kept, square)?;
        let root = unary(cx, UnaryFn::Sqrt, kept)?;
        let root = with_scalar(cx, BinaryFn::Add, root, epsilon)?;
        let step = binary(cx, BinaryFn::Mul, rate, gradient)?;
        let step = binary(cx, BinaryFn::Div, step, root)?;
        results.push(vec![binary(cx, BinaryFn::Sub, x, step)?, kept]);
    }
    Ok(by_kind(results, 2))
}

/// `Adam`.
pub(crate) fn adam(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let step = Step::of(cx, 4)?;
    let (alpha, beta) = (number(cx, "alpha", 0.9)?, number(cx, "beta", 0.999)?);
    let epsilon = number(cx, "epsilon", 0.0)?;
    let after = number(cx, "norm_coefficient_post", 0.0)?;
    let mut results = Vec::with_capacity(step.tensors.len());
    for tensor in &step.tensors {
        let x = tensor[0];
        let (rate, count) = step.scalars(cx, x)?;
        let gradient = regularised(cx, x, tensor[1])?;
        let square = binary(cx, BinaryFn::Mul, gradient, gradient)?;
        let mean = mixed(cx, (tensor[2], alpha), (gradient, 1.0 - alpha))?;
        let spread = mixed(cx, (tensor[3], beta), (square, 1.0 - beta))?;
        let root = unary(cx, UnaryFn::Sqrt, spread)?;
        let root = with_scalar(cx, BinaryFn::Add, root, epsilon)?;
        // Neither mean is corrected at the first update, where the correction would divide by 0.
        let of_spread = correction(cx, beta, count)?;
        let of_spread = unary(cx, UnaryFn::Sqrt, of_spread)?;
        let of_mean = correction(cx, alpha, count)?;
        let corrected = binary(cx, BinaryFn::Mul, rate, of_spread)?;
        let corrected = binary(cx, BinaryFn::Div, corrected, of_mean)?;
        let begun = with_scalar(cx, BinaryFn::Greater, count, 0.0)?;
        let rate = cx.emit(Where {}, &[begun, corrected, rate])?;
        let step = binary(cx, BinaryFn::Div, mean, root)?;
        let step = binary(cx, BinaryFn::Mul, rate, step)?;
        let moved = binary(cx, BinaryFn::Sub, x, step)?;
        let moved = if after == 0.0 { moved } else { with_scalar(cx, BinaryFn::Mul, moved, 1.0 - after)? };
        results.push(vec![moved, mean, spread]);
    }
    Ok(by_kind(results, 3))
}

/// `Momentum`, plain or Nesterov's.
pub(crate) fn momentum(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let step = Step::of(cx, 3)?;
    let alpha = f64::from(cx.attrs().require_float("alpha")?);
    let beta = f64::from(cx.attrs().require_float("beta")?);
    let nesterov = match cx.attrs().string("mode", "")? {
        "standard" => false,
        "nesterov" => true,
        other => return Err(cx.error("mode", "standard or nesterov", other)),
    };
    let mut results = Vec::with_capacity(step.tensors.len());
    for tensor in &step.tensors {
        let (x, kept) = (tensor[0], tensor[2]);
        let (rate, count) = step.scalars(cx, x)?;
        let gradient = regularised(cx, x, tensor[1])?;
        // The gradient counts whole at the first update.
        let begun = with_scalar(cx, BinaryFn::Greater, count, 0.0)?;
        let (beta, one) = (cx.scalar_like(x, beta)?, cx.scalar_like(x, 1.0)?);
        let factor = cx.emit(Where {}, &[begun, beta, one])?;
        let added = binary(cx, BinaryFn::Mul, factor, gradient)?;
        let kept = with_scalar(cx, BinaryFn::Mul, kept, alpha)?;
        let kept = binary(cx, BinaryFn::Add, kept, added)?;
        let direction = match nesterov {
            false => kept,
            true => {
                let ahead = with_scalar(cx, BinaryFn::Mul, kept, alpha)?;
                binary(cx, BinaryFn::Add, gradient, ahead)?
            }
        };
        let step = binary(cx, BinaryFn::Mul, rate, direction)?;
        results.push(vec![binary(cx, BinaryFn::Sub, x, step)?, kept]);
    }
    Ok(by_kind(results, 2))
}
