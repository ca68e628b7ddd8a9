//! Whether a rewritten graph computes what the graph computed.
//!
//! Steps between may round, over- and underflow in one and not in the other, so that bits say little. Two things are asked instead:
//! in `f64`, where only constants are rounded, the two agree, or else in `f32`; and where the graph's own `f32` steps came to what `f64`
//! has, so do those of the rewritten one. What they may differ by is what changes of constants and inputs by a rounding make of the result.

use fornax_ir::graph::{Graph, evaluate};
use fornax_ir::ops::Op;
use fornax_ir::ops::literal::Literal;
use fornax_ir::types::{Constant, DType, TensorType, random_values};

use crate::rebuild::{Edit, Widen, rebuilt, widened};
use crate::vary::{SPECIAL, parameters_edited};

/// A rounding of `f32`, twice over, as a factor's distance from 1.
const ROUNDING: f64 = 1.0 / (1 << 23) as f64;
/// Results of this size may hide what constants below the least normal number lost: so much of the largest input.
const HIDES: f64 = 1.0 / (1 << 11) as f64;
const LOST: f64 = 1.0 / (1u64 << 63) as f64 / (1u64 << 63) as f64 / (1u64 << 19) as f64;
/// A few units of the least subnormal number.
const SUBNORMAL: f64 = 1e-44;
/// From this share of the largest number on native code may have an infinity.
const SOONER: f64 = 1e-3;
/// Changed copies of the graph that are evaluated.
const COPIES: u64 = 4;

/// What a graph computes.
pub struct Oracle {
    inputs: Vec<Literal>,
    /// In `f64` and in `f32`, output by output.
    wide: Vec<Vec<f64>>,
    narrow: Vec<Vec<f64>>,
    /// How far the results move, each, with constants and inputs that are changed by a rounding.
    spread: Vec<Vec<f64>>,
}

struct Jitter(u64);

impl Jitter {
    fn apply(&mut self, values: &mut [f64]) {
        self.0 = self.0.wrapping_mul(0x9E37_79B9_7F4A_7C15).wrapping_add(1);
        let random = random_values(self.0, values.len());
        // By half a rounding at the least: two that cancel in one copy do not in all.
        let distance = |r: f32| ROUNDING * f64::from(r + r.signum()) / 2.0;
        values.iter_mut().zip(random).for_each(|(v, r)| *v *= 1.0 + distance(r));
    }
}

impl Edit for Jitter {
    fn constant(&mut self, constant: &Constant) -> Constant {
        if constant.ty.dtype != DType::F64 {
            return constant.clone();
        }
        let mut values = Literal::from_constant(constant).expect("known elements").to_f64();
        self.apply(&mut values);
        Literal::new_float(constant.ty.clone(), values).to_constant()
    }

    fn op(&mut self, op: &Op) -> Op {
        parameters_edited(op, |values| self.apply(values))
    }
}

fn run(graph: &Graph, inputs: &[Literal]) -> Option<Vec<Vec<f64>>> {
    Some(evaluate(graph, inputs).ok()?.iter().map(Literal::to_f64).collect())
}

impl Oracle {
    /// What `graph` computes over inputs of `seed`; `None` if it cannot be evaluated, or not in `f64`.
    pub fn new(graph: &Graph, seed: u64) -> Option<Self> {
        let inputs: Vec<Literal> = (1..).zip(graph.inputs()).map(|(i, id)| input(graph.ty(*id), seed ^ i)).collect();
        let narrow = run(graph, &inputs)?;
        let graph = rebuilt(graph, &mut Widen)?;
        let wide_inputs: Vec<Literal> = inputs.iter().map(widened).collect();
        let wide = run(&graph, &wide_inputs)?;
        let mut spread: Vec<Vec<f64>> = wide.iter().map(|values| vec![0.0; values.len()]).collect();
        for copy in 0..COPIES {
            let mut jitter = Jitter(seed.wrapping_add(copy));
            let changed = rebuilt(&graph, &mut jitter)?;
            let mut inputs = wide_inputs.clone();
            for literal in inputs.iter_mut().filter(|literal| literal.ty.dtype == DType::F64) {
                let mut values = literal.to_f64();
                jitter.apply(&mut values);
                *literal = Literal::new_float(literal.ty.clone(), values);
            }
            for ((spread, wide), found) in spread.iter_mut().zip(&wide).zip(run(&changed, &inputs)?) {
                let moved = spread.iter_mut().zip(wide).zip(found);
                moved.for_each(|((spread, wide), found)| {
                    if !same(*wide, found) {
                        let distance = (wide - found).abs();
                        *spread = spread.max(if distance.is_nan() { f64::INFINITY } else { distance });
                    }
                });
            }
        }
        Some(Self { inputs, wide, narrow, spread })
    }

    /// The inputs of the graph.
    pub fn inputs(&self) -> &[Literal] {
        &self.inputs
    }

    /// Fails where `after` computes something else.
    pub fn holds(&self, after: &Graph) -> Result<(), String> {
        let narrow = run(after, &self.inputs).ok_or("the rewritten graph is refused")?;
        let wide_after = rebuilt(after, &mut Widen).ok_or("the rewritten graph has no f64 form")?;
        let wide_inputs: Vec<Literal> = self.inputs.iter().map(widened).collect();
        let wide = run(&wide_after, &wide_inputs).ok_or("the f64 form is refused")?;
        self.compare(&narrow, Some(&wide))
    }

    /// Fails where `found`, computed in `f32` by other steps than the evaluator's, is something else.
    pub fn agrees(&self, found: &[Vec<f64>]) -> Result<(), String> {
        self.compare(found, None)
    }

    fn compare(&self, narrow: &[Vec<f64>], wide: Option<&[Vec<f64>]>) -> Result<(), String> {
        let finite = self.inputs.iter().flat_map(Literal::to_f64).filter(|v| v.is_finite());
        let largest = finite.fold(0.0, |m: f64, v| m.max(v.abs()));
        for (output, values) in self.wide.iter().enumerate() {
            for (i, expected) in values.iter().enumerate() {
                let spread = self.spread[output][i];
                let (before, after) = (self.narrow[output][i], narrow[output][i]);
                let fault = |what: &str, found: f64, limit: f64| {
                    let place = format!("output {output}, element {i}");
                    Err(format!(
                        "{place}, {what}: expected {expected:e}, found {found:e} (within {limit:e}), f32 had {before:e}"
                    ))
                };
                let hidden = if expected.abs() > HIDES { largest * LOST } else { 0.0 };
                let rounded = f64::from(*expected as f32);
                // What the graph's own steps lost the rewritten one's may lose too, a few times over.
                let lost = Some(4.0 * (rounded - before).abs()).filter(|v| v.is_finite()).unwrap_or(0.0);
                let loose = expected.abs() * ROUNDING * 32.0 + 16.0 * spread + hidden + SUBNORMAL;
                let tight = expected.abs() * ROUNDING * 4.0 + 4.0 * spread + hidden + SUBNORMAL + lost;
                if let Some(wide) = wide.map(|wide| wide[output][i])
                    && !within(*expected, wide, tight)
                    && !within(before, after, loose)
                {
                    return fault("in f64", wide, tight);
                }
                // Next to the largest number a rounding decides between it and an infinity.
                let size = expected.abs() / f64::from(f32::MAX);
                // A kernel has steps that the graph has not (the factor of a norm): they may overflow sooner.
                let at_the_end = (size - 1.0).abs() < 1e-5 || wide.is_none() && size > SOONER;
                if within(rounded, before, loose) && !within(rounded, after, loose + lost) && !at_the_end {
                    return fault("in f32", after, loose);
                }
            }
        }
        Ok(())
    }
}

fn same(a: f64, b: f64) -> bool {
    a == b || (a.is_nan() && b.is_nan())
}

fn within(a: f64, b: f64, limit: f64) -> bool {
    same(a, b) || (a - b).abs() <= limit || limit == f64::INFINITY
}

/// An input of its kind: numbers of ordinary size, of one extreme size, of any size, or with special values among them.
fn input(ty: &TensorType, seed: u64) -> Literal {
    let count = ty.shape.numel();
    let random: Vec<f64> = random_values(seed, 3 * count + 3).into_iter().map(f64::from).collect();
    if !ty.dtype.is_float() {
        return Literal::new_int(ty.clone(), random[..count].iter().map(|v| (v.abs() * 4.0) as i64).collect());
    }
    let (style, size) = (seed % 5, (random[3 * count] * 120.0).round().exp2());
    let value = |i: usize| match style {
        0 => random[i] * 8.0,
        1 => random[i] * size,
        2 => random[i] * (random[count + i] * 130.0).round().exp2(),
        _ => {
            let rate = if style == 3 { 0.05 } else { 0.6 };
            let special = SPECIAL[(random[2 * count + i].abs() * SPECIAL.len() as f64) as usize % SPECIAL.len()];
            if random[count + i].abs() < rate { f64::from(special) } else { random[i] * 8.0 }
        }
    };
    Literal::new_float(ty.clone(), (0..count).map(value).collect())
}
