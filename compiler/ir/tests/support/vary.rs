//! Constants, parameters of functions and inputs of unusual values.

use fornax_ir::graph::Graph;
use fornax_ir::ops::literal::Literal;
use fornax_ir::ops::{BatchNorm, Gemm, Op, Unary};
use fornax_ir::scalar::UnaryFn;
use fornax_ir::types::{Constant, random_values};
use proptest::prelude::*;

use crate::rebuild::{Edit, rebuilt};

/// The values at which arithmetic changes its ways.
pub const SPECIAL: [f32; 16] = [
    f32::NAN,
    f32::INFINITY,
    f32::NEG_INFINITY,
    0.0,
    -0.0,
    f32::MAX,
    f32::MIN,
    f32::MIN_POSITIVE,
    -f32::MIN_POSITIVE,
    1e-40,
    -1e-45,
    1.0,
    -1.0,
    0.5,
    -3.0,
    6.0,
];

/// What happens to the elements of a constant.
#[derive(Clone, Debug)]
pub enum How {
    /// Times `1 + 2^-k` or `1 - 2^-k`.
    Nudge(i32),
    /// Times a power of two.
    Scale(i32),
    /// Each times a power of two of its own, up to this one.
    Spread(i32),
    /// All replaced by a special value.
    Special(usize),
    /// One of them replaced by a special value.
    One(usize),
    /// Bits at random.
    Bits,
    /// The other sign.
    Negate,
}

/// A change of one constant, or of the parameters of one function.
#[derive(Clone, Debug)]
pub struct Variation {
    /// Which one, counted in the order of the graph, from the start again after the last.
    at: usize,
    how: How,
    seed: u64,
}

impl Arbitrary for Variation {
    type Parameters = ();
    type Strategy = BoxedStrategy<Self>;

    fn arbitrary_with((): ()) -> Self::Strategy {
        let how = prop_oneof![
            3 => (-24..-8i32).prop_map(How::Nudge),
            3 => (-140..140i32).prop_map(How::Scale),
            2 => (-140..140i32).prop_map(How::Spread),
            2 => (0..SPECIAL.len()).prop_map(How::Special),
            2 => (0..SPECIAL.len()).prop_map(How::One),
            1 => Just(How::Bits),
            1 => Just(How::Negate),
        ];
        (0usize..24, how, any::<u64>()).prop_map(|(at, how, seed)| Self { at, how, seed }).boxed()
    }
}

impl Variation {
    fn apply(&self, values: &mut [f64]) {
        let random = random_values(self.seed, values.len().max(1));
        let power = |k: f64| k.exp2();
        let first = (random[0].abs() * values.len() as f32) as usize;
        for (i, (v, r)) in values.iter_mut().zip(&random).enumerate() {
            let r = f64::from(*r);
            match self.how {
                How::Nudge(k) => *v *= 1.0 + if random[0] < 0.0 { -power(k.into()) } else { power(k.into()) },
                How::Scale(k) => *v *= power(k.into()),
                How::Spread(k) => *v *= power((f64::from(k) * r.abs()).round()),
                How::Special(k) => *v = SPECIAL[k].into(),
                How::One(k) if i == first => *v = SPECIAL[k].into(),
                How::One(_) => {}
                How::Bits => *v = f32::from_bits((r * f64::from(u32::MAX) / 2.0) as i32 as u32).into(),
                How::Negate => *v = -*v,
            }
        }
    }
}

struct Vary<'a> {
    variations: &'a [Variation],
    /// Constants and functions with parameters so far, and how many there are.
    seen: usize,
    count: usize,
}

impl Vary<'_> {
    fn next(&mut self, values: &mut [f64]) {
        let at = self.seen;
        self.seen += 1;
        self.variations.iter().filter(|v| v.at % self.count.max(1) == at).for_each(|v| v.apply(values));
    }
}

impl Edit for Vary<'_> {
    fn constant(&mut self, constant: &Constant) -> Constant {
        if !constant.ty.dtype.is_float() {
            return constant.clone();
        }
        let mut values = Literal::from_constant(constant).expect("known elements").to_f64();
        self.next(&mut values);
        Literal::new_float(constant.ty.clone(), values).to_constant().with_origins(constant.origins.clone())
    }

    fn op(&mut self, op: &Op) -> Op {
        parameters_edited(op, |values| self.next(values))
    }
}

/// The operator with its floating-point parameters edited, if it has any.
pub fn parameters_edited(op: &Op, edit: impl FnOnce(&mut [f64])) -> Op {
    match op {
        Op::Unary(unary) if !unary.function.spelling().1.is_empty() => {
            let (name, parameters) = unary.function.spelling();
            let mut values: Vec<f64> = parameters.iter().map(|p| f64::from(*p)).collect();
            edit(&mut values);
            let parameters: Vec<f32> = values.iter().map(|v| *v as f32).collect();
            UnaryFn::from_spelling(name, &parameters).map_or_else(|| op.clone(), |function| Unary { function }.into())
        }
        Op::BatchNorm(norm) => {
            let mut values = [f64::from(norm.epsilon)];
            edit(&mut values);
            BatchNorm { epsilon: values[0] as f32 }.into()
        }
        Op::Gemm(gemm) => {
            let mut values = [f64::from(gemm.alpha), f64::from(gemm.beta)];
            edit(&mut values);
            Gemm { alpha: values[0] as f32, beta: values[1] as f32, ..gemm.clone() }.into()
        }
        op => op.clone(),
    }
}

/// The graph with what `variations` make of its constants and parameters.
pub fn varied(graph: &Graph, variations: &[Variation]) -> Option<Graph> {
    let mut counting = Vary { variations: &[], seen: 0, count: 1 };
    rebuilt(graph, &mut counting)?;
    rebuilt(graph, &mut Vary { variations, seen: 0, count: counting.seen })
}
