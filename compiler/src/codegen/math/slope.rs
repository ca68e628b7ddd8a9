//! Derivatives of functions, as the straight-line code that `fornax_ir` says they are.
//!
//! In: an expression over one argument. Out: its value in every lane, each step as its operator is computed anywhere else: the bits are
//! those of a loop nest of the same steps.

use super::{fresh, unary};
use crate::codegen::{Cmp, Element, Emitter, V, VOp};
use fornax_ir::scalar::{BinaryFn, Expression, Step, UnaryFn};

/// Puts the derivative of `f` in the place of each argument. `f` is one of those of which [`UnaryFn::derivative_is_of_value`].
pub fn derivative(e: &mut dyn Emitter, f: UnaryFn, xs: &[V]) {
    let expression = f.derivative().unwrap_or_default();
    let result = expression.steps.len().saturating_sub(1);
    let values = run(e, &expression, &[result], xs);
    for (x, value) in xs.iter().zip(&values[0]) {
        e.copy_v(*x, *value);
    }
    values.into_iter().flatten().for_each(|v| e.free_v(v));
}

/// Applies `f`, of which there is [`UnaryFn::with_slope`], to each of `xs`, in place; its derivatives, in fresh registers.
pub fn with_slope(e: &mut dyn Emitter, f: UnaryFn, xs: &[V]) -> Vec<V> {
    let both = f.with_slope().unwrap_or_default();
    let slope = both.expression.steps.len().saturating_sub(1);
    let mut results = run(e, &both.expression, &[both.value, slope], xs).into_iter();
    let (values, slopes) = (results.next().unwrap_or_default(), results.next().unwrap_or_default());
    for (x, value) in xs.iter().zip(values) {
        e.copy_v(*x, value);
        e.free_v(value);
    }
    slopes
}

/// The comparison of a function, and whether its operands change places.
fn comparison(f: BinaryFn) -> Option<(Cmp, bool)> {
    match f {
        BinaryFn::Less => Some((Cmp::Less, false)),
        BinaryFn::Greater => Some((Cmp::Less, true)),
        BinaryFn::LessOrEqual => Some((Cmp::LessOrEqual, false)),
        BinaryFn::GreaterOrEqual => Some((Cmp::LessOrEqual, true)),
        _ => None,
    }
}

/// The steps whose values a step reads; a choice reads what its comparison compares.
fn reads(steps: &[Step], step: &Step) -> Vec<usize> {
    match *step {
        Step::Argument | Step::Number(_) => Vec::new(),
        Step::Unary(_, a) => vec![a],
        Step::Binary(f, ..) if comparison(f).is_some() => Vec::new(),
        Step::Binary(_, a, b) => vec![a, b],
        Step::Select(condition, a, b) => match steps[condition] {
            Step::Binary(f, c, d) if comparison(f).is_some() => vec![c, d, a, b],
            _ => vec![condition, a, b],
        },
    }
}

/// Fresh registers with the values of steps `wanted`, for each of `xs`.
fn run(e: &mut dyn Emitter, expression: &Expression, wanted: &[usize], xs: &[V]) -> Vec<Vec<V>> {
    let steps = &expression.steps;
    let mut last = vec![0; steps.len()];
    for (at, step) in steps.iter().enumerate() {
        reads(steps, step).into_iter().for_each(|read| last[read] = at);
    }
    wanted.iter().for_each(|step| last[*step] = steps.len());
    let mut values: Vec<Vec<V>> = Vec::with_capacity(steps.len());
    for (at, step) in steps.iter().enumerate() {
        values.push(value(e, steps, step, &values, xs));
        for read in reads(steps, step) {
            if last[read] == at && !matches!(steps[read], Step::Argument) {
                std::mem::take(&mut values[read]).into_iter().for_each(|v| e.free_v(v));
            }
        }
    }
    wanted.iter().map(|step| std::mem::take(&mut values[*step])).collect()
}

/// The registers of a step's value, one for each of `xs` or a single one for all; none for a comparison.
fn value(e: &mut dyn Emitter, steps: &[Step], step: &Step, values: &[Vec<V>], xs: &[V]) -> Vec<V> {
    let of = |step: usize, i: usize| values[step][i % values[step].len()];
    match *step {
        Step::Argument => xs.to_vec(),
        Step::Number(number) => vec![e.constant(number as f32)],
        Step::Unary(f, a) => {
            let copies = fresh(e, xs.len());
            for (i, copy) in copies.iter().enumerate() {
                e.copy_v(*copy, of(a, i));
            }
            unary(e, f, &copies);
            copies
        }
        Step::Binary(f, ..) if comparison(f).is_some() => Vec::new(),
        Step::Binary(f, a, b) => {
            let results = fresh(e, xs.len());
            for (i, result) in results.iter().enumerate() {
                e.op(arithmetic(f), Element::F32, *result, of(a, i), of(b, i));
            }
            results
        }
        Step::Select(condition, yes, no) => {
            let results = fresh(e, xs.len());
            for (i, result) in results.iter().enumerate() {
                let (yes, no) = (of(yes, i), of(no, i));
                if let Step::Binary(f, a, b) = steps[condition]
                    && let Some((cmp, changed)) = comparison(f)
                {
                    let pair = if changed { [of(b, i), of(a, i)] } else { [of(a, i), of(b, i)] };
                    e.select(Element::F32, *result, cmp, pair, yes, no);
                } else {
                    let zero = e.constant(0.0);
                    e.select(Element::F32, *result, Cmp::Equal, [of(condition, i), zero], no, yes);
                    e.free_v(zero);
                }
            }
            results
        }
    }
}

/// The operation of a function that is no comparison. Derivatives have no others.
fn arithmetic(f: BinaryFn) -> VOp {
    match f {
        BinaryFn::Add => VOp::Add,
        BinaryFn::Sub => VOp::Sub,
        BinaryFn::Div => VOp::Div,
        BinaryFn::Mul => VOp::Mul,
        other => unreachable!("{} in a derivative", other.name()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn derivatives_have_only_what_there_is_code_for() {
        let parameters: [&[f32]; 3] = [&[], &[0.5], &[0.25, 0.75]];
        let spelled =
            |name: &&str| parameters.iter().filter_map(|p| UnaryFn::from_spelling(name, p)).collect::<Vec<_>>();
        let all: Vec<UnaryFn> = UnaryFn::MNEMONICS.iter().flat_map(spelled).collect();
        let of = |f: &UnaryFn| [f.derivative(), f.with_slope().map(|both| both.expression)];
        let expressions: Vec<_> = all.iter().flat_map(of).flatten().collect();
        assert!(expressions.len() > 30, "{}", expressions.len());
        for step in expressions.iter().flat_map(|expression| &expression.steps) {
            if let Step::Binary(f, ..) = step
                && comparison(*f).is_none()
            {
                arithmetic(*f);
            }
        }
    }
}
