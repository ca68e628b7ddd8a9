//! Random graphs: a producer and a chain of arithmetic with constants, activations and gates.

use fornax_ir::graph::{Graph, GraphBuilder, ValueId};
use fornax_ir::ops::pad::PadMode;
use fornax_ir::ops::{BatchNorm, Binary, Conv, ConvTranspose, Gemm, MatMul, Op, Pad, Unary};
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::{Constant, random_values};
use proptest::prelude::*;

/// One node or a few over the value so far.
#[derive(Clone, Debug)]
pub enum Step {
    /// With a constant; for each channel, or one for all; the constant first or second.
    Arithmetic {
        function: BinaryFn,
        per_channel: bool,
        reversed: bool,
        value: f32,
    },
    Function(UnaryFn),
    /// The value times a function of it, or of a multiple of it; the function times a constant.
    Gate {
        function: UnaryFn,
        factor: Option<f32>,
        outer: Option<f32>,
    },
    /// The value plus itself before the step before.
    Residual,
    Norm(u64),
}

/// The first node: the input itself, a convolution, its transpose, a padded one, or a product (of rank 2).
#[derive(Clone, Copy, Debug)]
pub enum Producer {
    Input,
    Conv { bias: bool, padded: bool },
    Transposed,
    Product,
    Gemm { trans_b: bool },
}

pub type Steps = (Producer, u64, Vec<Step>);

pub fn graphs() -> impl Strategy<Value = Steps> {
    use BinaryFn::*;
    let constant = prop::sample::select(vec![1.0f32, -1.0, 0.5, 2.0, 3.0, 6.0, 1.0 / 6.0, 0.25, 1.702, 0.1, 10.0]);
    let function = prop::sample::select(vec![Add, Add, Sub, Mul, Mul, Div, Div, Min, Max, Prelu]);
    let plain = prop::sample::select(vec![
        UnaryFn::Relu,
        UnaryFn::Clip(0.0, 6.0),
        UnaryFn::Clip(0.0, 1.0),
        UnaryFn::Sigmoid,
        UnaryFn::Tanh,
        UnaryFn::HardSigmoid(1.0 / 6.0, 0.5),
        UnaryFn::Neg,
        UnaryFn::LeakyRelu(0.1),
        UnaryFn::Swish(1.0),
    ]);
    let gate =
        prop::sample::select(vec![UnaryFn::Sigmoid, UnaryFn::HardSigmoid(1.0 / 6.0, 0.5), UnaryFn::Clip(0.0, 6.0)]);
    let unit = prop::sample::select(vec![1.0f32, 1.0 / 6.0, 0.5]);
    let step = prop_oneof![
        6 => (function, any::<bool>(), any::<bool>(), constant.clone())
            .prop_map(|(function, per_channel, reversed, value)| Step::Arithmetic { function, per_channel, reversed, value }),
        2 => plain.prop_map(Step::Function),
        2 => (gate, prop::option::of(constant), prop::option::of(unit))
            .prop_map(|(function, factor, outer)| Step::Gate { function, factor, outer }),
        1 => Just(Step::Residual),
        1 => any::<u64>().prop_map(Step::Norm),
    ];
    let producer = prop_oneof![
        Just(Producer::Input),
        (any::<bool>(), any::<bool>()).prop_map(|(bias, padded)| Producer::Conv { bias, padded }),
        Just(Producer::Transposed),
        Just(Producer::Product),
        any::<bool>().prop_map(|trans_b| Producer::Gemm { trans_b }),
    ];
    (producer, any::<u64>(), prop::collection::vec(step, 1..6))
}

fn constant(b: &mut GraphBuilder, shape: &[usize], seed: u64) -> ValueId {
    b.constant("k", Constant::from_f32(shape, &random_values(seed, shape.iter().product())))
}

fn add(b: &mut GraphBuilder, op: impl Into<Op>, operands: &[ValueId]) -> ValueId {
    b.op("n", op, operands).expect("operands of their shapes")
}

fn producer(b: &mut GraphBuilder, producer: Producer, seed: u64) -> ValueId {
    match producer {
        Producer::Input => b.input("x", [1, 2, 3, 3]),
        Producer::Conv { bias, padded } => {
            let (x, w) = (b.input("x", [1, 2, 3, 3]), constant(b, &[3, 2, 2, 2], seed));
            let padded_op = Pad { mode: PadMode::Constant, pads: vec![0, 0, 1, 1, 0, 0, 0, 1], value: 0.0 };
            let x = if padded { add(b, padded_op, &[x]) } else { x };
            let mut operands = vec![x, w];
            operands.extend(bias.then(|| constant(b, &[3], seed ^ 1)));
            add(b, Conv { bias, ..Conv::default() }, &operands)
        }
        Producer::Transposed => {
            let (x, w) = (b.input("x", [1, 2, 2, 3]), constant(b, &[2, 3, 2, 2], seed));
            add(b, ConvTranspose::default(), &[x, w])
        }
        Producer::Product => {
            let (x, w) = (b.input("x", [2, 3]), constant(b, &[3, 4], seed));
            add(b, MatMul {}, &[x, w])
        }
        Producer::Gemm { trans_b } => {
            let (x, w) = (b.input("x", [2, 3]), constant(b, if trans_b { &[4, 3] } else { &[3, 4] }, seed));
            let c = constant(b, &[4], seed ^ 1);
            add(b, Gemm { trans_b, bias: true, ..Gemm::default() }, &[x, w, c])
        }
    }
}

/// The graph of `steps`.
pub fn build((first, seed, steps): &Steps) -> Graph {
    let mut b = GraphBuilder::new("g").with_fold_limit(0);
    let mut x = producer(&mut b, *first, *seed);
    let mut before = x;
    for (i, step) in (2..).zip(steps) {
        let shape = b.ty(x).shape.to_vec();
        let next = match step {
            Step::Arithmetic { function, per_channel, reversed, value } => {
                let count = if *per_channel { shape[1] } else { 1 };
                let mut extents = vec![1; if *per_channel { shape.len() - 1 } else { 0 }];
                extents.iter_mut().take(1).for_each(|extent| *extent = count);
                let k = b.constant("k", Constant::from_f32(extents, &vec![*value; count]));
                // Not a constant over the value: what becomes of the sign of a zero is not promised.
                let operands = if *reversed && *function != BinaryFn::Div { [k, x] } else { [x, k] };
                add(&mut b, Binary { function: *function }, &operands)
            }
            Step::Function(function) => add(&mut b, Unary { function: *function }, &[x]),
            Step::Gate { function, factor, outer } => {
                let inner = match factor {
                    None => x,
                    Some(factor) => {
                        let k = b.constant("k", Constant::from_f32([], &[*factor]));
                        let function =
                            if matches!(function, UnaryFn::Clip(..)) { BinaryFn::Add } else { BinaryFn::Mul };
                        add(&mut b, Binary { function }, &[x, k])
                    }
                };
                let gate = add(&mut b, Unary { function: *function }, &[inner]);
                let gate = match outer {
                    None => gate,
                    Some(outer) => {
                        let k = b.constant("k", Constant::from_f32([], &[*outer]));
                        add(&mut b, Binary { function: BinaryFn::Mul }, &[gate, k])
                    }
                };
                add(&mut b, Binary { function: BinaryFn::Mul }, &[x, gate])
            }
            Step::Residual => add(&mut b, Binary { function: BinaryFn::Add }, &[x, before]),
            Step::Norm(seed) => {
                let mut operands = vec![x];
                operands.extend((0..3).map(|k| constant(&mut b, &shape[1..2], seed ^ k ^ (i << 8))));
                let variance: Vec<f32> = random_values(seed ^ 4, shape[1]).iter().map(|v| v.abs()).collect();
                operands.push(b.constant("v", Constant::from_f32([shape[1]], &variance)));
                add(&mut b, BatchNorm { epsilon: 1e-5 }, &operands)
            }
        };
        (before, x) = (x, next);
    }
    b.output("y", x);
    b.finish()
}
