//! A graph's gradients held to central differences.

use crate::differentiate;
use crate::error::Result;
use crate::graph::{Graph, GraphBuilder, evaluate, verify};
use crate::ops::Binary;
use crate::ops::literal::Literal;
use crate::scalar::BinaryFn;
use crate::types::{DType, TensorType, random_values};

/// Width of a central difference.
const H: f64 = 1e-6;

/// What a gradient may be off by, relative to the size of the loss's slopes.
const TOLERANCE: f64 = 2e-6;

/// Draws of inputs before a graph is taken to have a kink everywhere.
const DRAWS: u64 = 12;

/// A graph with a weighted sum of its first output differentiated with respect to all its inputs of floating point.
pub struct Case {
    /// The forward half: its only output is to be summed.
    forward: Graph,
    /// Outputs: the gradient of each input of floating point.
    backward: Graph,
    /// Positions of those inputs.
    wrt: Vec<usize>,
}

/// Elements in `[-1, 1)`, in `f64`, not on any lattice.
pub fn random(ty: &TensorType, seed: u64) -> Literal {
    let count = ty.shape.numel();
    let (coarse, fine) = (random_values(seed, count), random_values(seed ^ 0xF1FE, count));
    if !ty.dtype.is_float() {
        return Literal::new_int(ty.clone(), coarse.iter().map(|v| i64::from(*v > 0.0)).collect());
    }
    Literal::new_float(ty.clone(), coarse.iter().zip(fine).map(|(v, w)| f64::from(*v) + f64::from(w) * 1e-4).collect())
}

impl Case {
    /// The case of a graph's first output.
    pub fn new(graph: &Graph, seed: u64) -> Result<Self> {
        let mut b = GraphBuilder::of(graph.clone());
        let y = b.graph().outputs()[0].1;
        let weights = random(b.ty(y), seed).to_constant();
        let weights = b.constant("weights", weights);
        let loss = b.op("loss", Binary { function: BinaryFn::Mul }, &[y, weights])?;
        b.graph_mut().set_outputs(vec![("loss".into(), loss)]);
        let forward = b.graph().clone();
        let inputs = b.graph().inputs().to_vec();
        let wrt: Vec<usize> = (0..inputs.len()).filter(|i| b.ty(inputs[*i].into()).dtype.is_float()).collect();
        let values: Vec<_> = wrt.iter().map(|i| inputs[*i].into()).collect();
        let gradients = differentiate(&mut b, loss, &values)?;
        b.graph_mut().set_outputs(Vec::new());
        for (i, (value, gradient)) in values.iter().zip(gradients).enumerate() {
            let zeros = Literal::new_float(b.ty(*value).clone(), vec![0.0; b.ty(*value).shape.numel()]);
            let gradient = gradient.unwrap_or_else(|| b.constant("zeros", zeros.to_constant()));
            b.output(format!("g{i}"), gradient);
        }
        let backward = b.finish();
        verify(&backward)?;
        Ok(Self { forward, backward, wrt })
    }

    fn loss(&self, inputs: &[Literal]) -> f64 {
        let found = evaluate(&self.forward, inputs).unwrap_or_else(|e| panic!("{e}\n{}", self.forward));
        found[0].to_f64().iter().sum()
    }

    /// The loss where input `i` has moved by `by` along `direction`.
    fn moved(&self, inputs: &[Literal], i: usize, direction: &[f64], by: f64) -> f64 {
        let mut inputs = inputs.to_vec();
        let values = inputs[i].to_f64().iter().zip(direction).map(|(x, d)| x + by * d).collect();
        inputs[i] = Literal::new_float(inputs[i].ty.clone(), values);
        self.loss(&inputs)
    }

    /// Compares along every axis of every input, or along a few random directions; `None`: there is a kink nearby.
    fn compare(&self, inputs: &[Literal], every: bool, seed: u64) -> Option<std::result::Result<(), String>> {
        let gradients = evaluate(&self.backward, inputs).unwrap_or_else(|e| panic!("{e}\n{}", self.backward));
        for (i, gradient) in self.wrt.iter().zip(&gradients) {
            let (count, gradient) = (gradient.ty.shape.numel(), gradient.to_f64());
            let directions: Vec<Vec<f64>> = match every {
                true => (0..count).map(|k| (0..count).map(|j| f64::from(j == k)).collect()).collect(),
                false => {
                    (0..2).map(|k| random(&TensorType::new(DType::F64, [count]), seed ^ (k << 7)).to_f64()).collect()
                }
            };
            for direction in directions {
                let slope = |h: f64| {
                    (self.moved(inputs, *i, &direction, h) - self.moved(inputs, *i, &direction, -h)) / (2.0 * h)
                };
                let (found, expected) = (gradient.iter().zip(&direction).map(|(g, d)| g * d).sum::<f64>(), slope(H));
                let size = 1.0 + expected.abs() + self.loss(inputs).abs();
                if (found - expected).abs() <= TOLERANCE * size {
                    continue;
                }
                // The slopes of both sides and of a smaller step agree where there is no kink.
                let here = self.loss(inputs);
                let right = (self.moved(inputs, *i, &direction, H) - here) / H;
                let left = (here - self.moved(inputs, *i, &direction, -H)) / H;
                if (right - left).abs() > 1e-4 * size || (slope(H / 8.0) - expected).abs() > 1e-5 * size {
                    return None;
                }
                return Some(Err(format!("input {i}: expected {expected}, found {found}\n{}", self.backward)));
            }
        }
        Some(Ok(()))
    }

    /// Holds the gradients to differences at a point that is not near a kink.
    pub fn check(&self, every: bool, seed: u64) -> std::result::Result<(), String> {
        for draw in 0..DRAWS {
            let types = self.forward.inputs().iter().map(|id| self.forward.ty(*id));
            let inputs: Vec<Literal> =
                types.enumerate().map(|(i, ty)| random(ty, seed ^ (draw << 32) ^ ((i as u64 + 1) << 48))).collect();
            if let Some(outcome) = self.compare(&inputs, every, seed) {
                return outcome;
            }
        }
        Err(format!("a kink at every point\n{}", self.forward))
    }
}
