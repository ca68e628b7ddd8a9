//! Random networks against central differences: convolutions of every kind, norms, gates, residuals, pools, heads.

use super::differences::Case;
use crate::graph::{Graph, GraphBuilder, ValueId};
use crate::ops::pad::PadMode;
use crate::ops::pool::PoolKind;
use crate::ops::reduce::ReduceKind;
use crate::ops::{
    BatchNorm, BatchStatistics, Binary, Concat, Conv, Gemm, Op, Pad, Pool, Reduce, Reshape, Slice, Softmax,
    SqueezeExcite, Unary,
};
use crate::scalar::{BinaryFn, UnaryFn};
use crate::types::{DType, TensorType};

const GRAPHS: u64 = 1000;

const ACTIVATIONS: &[UnaryFn] = &[
    UnaryFn::Relu,
    UnaryFn::Silu,
    UnaryFn::HardSwish,
    UnaryFn::Clip(0.0, 6.0),
    UnaryFn::Sigmoid,
    UnaryFn::HardSigmoid(1.0 / 6.0, 0.5),
    UnaryFn::Gelu,
    UnaryFn::LeakyRelu(0.1),
    UnaryFn::Elu(1.0),
    UnaryFn::Tanh,
];

/// A splitmix64 stream.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        ((z ^ (z >> 31)) % bound as u64) as usize
    }

    fn within(&mut self, low: usize, high: usize) -> usize {
        low + self.below(high - low + 1)
    }

    fn coin(&mut self) -> bool {
        self.below(2) == 1
    }

    fn pick<T: Copy>(&mut self, list: &[T]) -> T {
        list[self.below(list.len())]
    }
}

/// A network under construction; every weight is an input, so that all are differentiated.
struct Network {
    b: GraphBuilder,
    dice: Dice,
}

impl Network {
    fn input(&mut self, name: &str, shape: &[usize]) -> ValueId {
        self.b.input_of(name, TensorType::new(DType::F64, shape))
    }

    fn op(&mut self, op: impl Into<Op>, operands: &[ValueId]) -> ValueId {
        self.b.op("n", op, operands).unwrap()
    }

    fn shape(&self, x: ValueId) -> Vec<usize> {
        self.b.ty(x).shape.to_vec()
    }

    /// The padding that keeps `ceil(extent / stride)` positions, the odd one at the end, as TensorFlow's SAME.
    fn same(extent: usize, kernel: usize, stride: usize, dilation: usize) -> [usize; 2] {
        let reach = dilation * (kernel - 1) + 1;
        let total = ((extent.div_ceil(stride) - 1) * stride + reach).saturating_sub(extent);
        [total / 2, total - total / 2]
    }

    fn conv(&mut self, x: ValueId) -> ValueId {
        let shape = self.shape(x);
        let dice = &mut self.dice;
        let depthwise = dice.below(3) == 0;
        let group =
            if depthwise { shape[1] } else { dice.pick(&[1, 1, 1, if shape[1].is_multiple_of(2) { 2 } else { 1 }]) };
        let filters = if depthwise { shape[1] } else { group * dice.within(1, 3) };
        let kernel = [dice.pick(&[1, 1, 2, 3, 3, 5]), dice.pick(&[1, 2, 3, 3])];
        let strides = vec![dice.pick(&[1, 1, 2, 2, 3]), dice.pick(&[1, 1, 2])];
        let dilations = vec![dice.pick(&[1, 1, 1, 2]), 1];
        let pads: Vec<[usize; 2]> = (0..2)
            .map(|axis| match dice.coin() {
                true => Self::same(shape[axis + 2], kernel[axis], strides[axis], dilations[axis]),
                false => {
                    let missing = (dilations[axis] * (kernel[axis] - 1) + 1).saturating_sub(shape[axis + 2]);
                    [missing + dice.below(2), dice.below(2)]
                }
            })
            .collect();
        let pads = vec![pads[0][0], pads[1][0], pads[0][1], pads[1][1]];
        let bias = dice.coin();
        let activation = dice.coin().then(|| dice.pick(ACTIVATIONS));
        let plain = Conv { strides, pads, dilations, group, bias, activation, ..Conv::default() };
        let w = self.input("w", &[filters, shape[1] / group, kernel[0], kernel[1]]);
        let mut operands = vec![x, w];
        if bias {
            operands.push(self.input("b", &[filters]));
        }
        let y = self.op(plain.clone(), &operands);
        if self.shape(y) != shape || self.dice.coin() {
            return y;
        }
        operands.push(x);
        let activation_first = self.dice.coin();
        self.op(Conv { residual: true, activation_first, ..plain }, &operands)
    }

    fn norm(&mut self, x: ValueId) -> ValueId {
        let channels = self.shape(x)[1];
        let [scale, bias] = ["scale", "bias"].map(|name| self.input(name, &[channels]));
        let [mean, variance] = if self.dice.coin() {
            let statistics = self.b.ops_from(&["mean", "variance"], BatchStatistics {}, &[x], Vec::new()).unwrap();
            [statistics[0], statistics[1]]
        } else {
            let (mean, root) = (self.input("mean", &[channels]), self.input("root", &[channels]));
            let variance = self.op(Unary { function: UnaryFn::Exp }, &[root]);
            [mean, variance]
        };
        self.op(BatchNorm { epsilon: 0.05 }, &[x, scale, bias, mean, variance])
    }

    fn squeeze_excite(&mut self, x: ValueId) -> ValueId {
        let channels = self.shape(x)[1];
        let (w1, b1) = (self.input("w1", &[2, channels, 1, 1]), self.input("b1", &[2]));
        let (w2, b2) = (self.input("w2", &[channels, 2, 1, 1]), self.input("b2", &[channels]));
        let activation = self.dice.pick(&[UnaryFn::Silu, UnaryFn::Relu]);
        let gate = self.dice.pick(&[UnaryFn::Sigmoid, UnaryFn::HardSigmoid(1.0 / 6.0, 0.5)]);
        self.op(SqueezeExcite { activation, gate }, &[x, w1, b1, w2, b2])
    }

    fn pool(&mut self, x: ValueId) -> ValueId {
        let shape = self.shape(x);
        let kernel: Vec<usize> = shape[2..].iter().map(|extent| self.dice.within(1, 3).min(*extent)).collect();
        let pads: Vec<usize> = (0..4).map(|side| self.dice.below(kernel[side % 2])).collect();
        let pool = Pool {
            kind: self.dice.pick(&[PoolKind::Max, PoolKind::Average]),
            strides: vec![self.dice.within(1, 2), self.dice.within(1, 2)],
            pads,
            kernel,
            ceil_mode: self.dice.coin(),
            count_include_pad: self.dice.coin(),
            ..Pool::default()
        };
        self.op(pool, &[x])
    }

    fn step(&mut self, x: ValueId, before: ValueId) -> ValueId {
        let shape = self.shape(x);
        match self.dice.below(12) {
            0..=3 => self.conv(x),
            4 => self.norm(x),
            5 => self.squeeze_excite(x),
            6 => self.pool(x),
            7 if self.shape(before) == shape => self.op(Binary { function: BinaryFn::Add }, &[x, before]),
            7 => self.op(Concat { axis: 1 }, &[x, x]),
            8 => {
                let k = self.input("k", &[shape[1], 1, 1]);
                let function = self.dice.pick(&[BinaryFn::Mul, BinaryFn::Sub, BinaryFn::Max, BinaryFn::Prelu]);
                self.op(Binary { function }, &[x, k])
            }
            9 => {
                let mode = self.dice.pick(&[PadMode::Constant, PadMode::Edge]);
                let pads = [0; 8].map(|_| self.dice.below(2) as i64);
                let pads = vec![0, 0, pads[0], pads[1], 0, 0, pads[2], pads[3]];
                self.op(Pad { mode, pads, value: 0.5 }, &[x])
            }
            10 if shape[2] > 1 => {
                let sizes = vec![shape[0], shape[1], shape[2] - 1, shape[3]];
                let starts = vec![0, 0, self.dice.below(2), 0];
                self.op(Slice { starts, sizes, ..Slice::default() }, &[x])
            }
            _ => {
                let function = self.dice.pick(ACTIVATIONS);
                self.op(Unary { function }, &[x])
            }
        }
    }

    fn head(&mut self, x: ValueId) -> ValueId {
        let shape = self.shape(x);
        let (keepdims, log) = (self.dice.coin(), self.dice.coin());
        let pooled = self.op(Reduce { kind: ReduceKind::Mean, axes: vec![2, 3], keepdims }, &[x]);
        let flat = self.op(Reshape { shape: vec![shape[0], shape[1]] }, &[pooled]);
        let (w, c) = (self.input("w", &[3, shape[1]]), self.input("c", &[3]));
        let logits = self.op(Gemm { trans_b: true, bias: true, ..Gemm::default() }, &[flat, w, c]);
        self.op(Softmax { axis: 1, log }, &[logits])
    }
}

fn network(seed: u64) -> Graph {
    let mut network = Network { b: GraphBuilder::new("g"), dice: Dice(seed) };
    let sides = [0; 4].map(|_| network.dice.below(6));
    let mut x = network.input("x", &[1 + sides[0] % 2, 1 + sides[1] % 4, 2 + sides[2], 2 + sides[3]]);
    let mut before = x;
    for _ in 0..network.dice.within(1, 5) {
        let next = network.step(x, before);
        if network.shape(next).iter().product::<usize>() > 600 {
            break;
        }
        (before, x) = (x, next);
    }
    if network.dice.coin() {
        x = network.head(x);
    }
    network.b.output("y", x);
    network.b.finish()
}

#[test]
fn a_thousand_networks() {
    let mut failures = Vec::new();
    for seed in 0..GRAPHS {
        let graph = network(seed);
        let outcome = Case::new(&graph, seed).map_err(|e| e.to_string()).and_then(|case| case.check(false, seed));
        failures.extend(outcome.err().map(|e| format!("seed {seed}: {e}")));
    }
    let first = failures.first().cloned().unwrap_or_default();
    assert!(failures.is_empty(), "{} of {GRAPHS} networks, the first of them:\n{first}", failures.len());
}
