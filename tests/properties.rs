//! Random small networks: their text reads back, every pass leaves a valid graph, and every pass keeps the results.

use fornax_compiler::pipeline::{PipelineOptions, optimise};
use fornax_ir::Result;
use fornax_ir::graph::{Graph, GraphBuilder, ValueId, evaluate, parse};
use fornax_ir::ops::literal::Literal;
use fornax_ir::ops::reduce::ReduceKind;
use fornax_ir::ops::{
    BatchNorm, Binary, Conv, Gemm, Identity, MatMul, Op, Pad, Pool, Reduce, Reshape, Transpose, Unary,
};
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::{Constant, TensorType, random_values};
use proptest::prelude::*;

/// Channels of every value; maps are 4x4.
const C: usize = 4;

/// One step of a network: what to add, and which earlier values it reads.
#[derive(Clone, Copy, Debug)]
struct Step {
    kind: u8,
    a: u8,
    b: u8,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    proptest::collection::vec((0u8..22, 0u8..4, 0u8..6).prop_map(|(kind, a, b)| Step { kind, a, b }), 1..14)
}

/// A network of values `[1, C, 4, 4]`; operands are counted back from the newest value.
struct Net {
    builder: GraphBuilder,
    values: Vec<ValueId>,
    seed: u64,
}

impl Net {
    fn build(steps: &[Step]) -> Result<Graph> {
        let mut net = Self { builder: GraphBuilder::new("random"), values: Vec::new(), seed: 0 };
        let x = net.builder.input("x", [1, C, 4, 4]);
        net.values.push(x);
        for step in steps {
            let (x, y) = (net.pick(step.a), net.pick(step.b));
            let value = net.step(step.kind, x, y)?;
            net.values.push(value);
        }
        let (last, other) = (net.pick(0), net.pick(3));
        net.builder.output("last", last);
        net.builder.output("other", other);
        Ok(net.builder.finish())
    }

    fn pick(&self, back: u8) -> ValueId {
        self.values[self.values.len() - 1 - usize::from(back).min(self.values.len() - 1)]
    }

    fn op(&mut self, op: impl Into<Op>, operands: &[ValueId]) -> Result<ValueId> {
        let op = op.into();
        self.builder.op(op.name(), op.clone(), operands)
    }

    fn unary(&mut self, function: UnaryFn, x: ValueId) -> Result<ValueId> {
        self.op(Unary { function }, &[x])
    }

    fn binary(&mut self, function: BinaryFn, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.op(Binary { function }, &[a, b])
    }

    fn random(&mut self, shape: &[usize]) -> ValueId {
        self.seed += 1;
        self.builder.random("w", shape.to_vec(), self.seed)
    }

    fn scalar(&mut self, v: f32) -> ValueId {
        self.builder.constant("k", Constant::from_f32([0usize; 0], &[v]))
    }

    fn conv(&mut self, x: ValueId, weight: &[usize], group: usize, bias: bool) -> Result<ValueId> {
        let mut operands = vec![x, self.random(weight)];
        if bias {
            operands.push(self.random(&weight[..1]));
        }
        let pads = vec![weight[2] / 2; 4];
        self.op(Conv { group, pads, bias, ..Conv::default() }, &operands)
    }

    fn batch_norm(&mut self, x: ValueId) -> Result<ValueId> {
        let parameters: Vec<ValueId> = (0..3).map(|_| self.random(&[C])).collect();
        let variance = self.builder.constant("variance", Constant::from_f32([C], &[0.5, 1.0, 2.0, 0.25]));
        self.op(BatchNorm::default(), &[x, parameters[0], parameters[1], parameters[2], variance])
    }

    fn silu(&mut self, x: ValueId) -> Result<ValueId> {
        let gate = self.unary(UnaryFn::Sigmoid, x)?;
        self.binary(BinaryFn::Mul, gate, x)
    }

    fn squeeze_excite(&mut self, x: ValueId, products: bool) -> Result<ValueId> {
        let mean = self.op(Reduce { kind: ReduceKind::Mean, axes: vec![2, 3], keepdims: !products }, &[x])?;
        let gate = if products {
            let (w, v, b) = (self.random(&[C, 2]), self.random(&[C, 2]), self.random(&[2]));
            let hidden = self.op(MatMul {}, &[mean, w])?;
            let hidden = self.binary(BinaryFn::Add, hidden, b)?;
            let hidden = self.unary(UnaryFn::Relu, hidden)?;
            let out = self.op(Gemm { trans_b: true, ..Gemm::default() }, &[hidden, v])?;
            self.op(Reshape { shape: vec![1, C, 1, 1] }, &[out])?
        } else {
            let hidden = self.conv(mean, &[2, C, 1, 1], 1, true)?;
            let hidden = self.silu(hidden)?;
            self.conv(hidden, &[C, 2, 1, 1], 1, false)?
        };
        let gate = self.unary(UnaryFn::Sigmoid, gate)?;
        self.binary(BinaryFn::Mul, x, gate)
    }

    fn block(&mut self, x: ValueId, residual: bool) -> Result<ValueId> {
        let wide = self.conv(x, &[2 * C, C, 1, 1], 1, true)?;
        let wide = self.silu(wide)?;
        let wide = self.conv(wide, &[2 * C, 1, 3, 3], 2 * C, false)?;
        let wide = self.silu(wide)?;
        let narrow = self.conv(wide, &[C, 2 * C, 1, 1], 1, false)?;
        let narrow = self.batch_norm(narrow)?;
        if residual { self.binary(BinaryFn::Add, narrow, x) } else { Ok(narrow) }
    }

    fn hard_swish(&mut self, x: ValueId) -> Result<ValueId> {
        let (three, six) = (self.scalar(3.0), self.scalar(6.0));
        let sum = self.binary(BinaryFn::Add, x, three)?;
        let gate = self.unary(UnaryFn::Clip(0.0, 6.0), sum)?;
        let product = self.binary(BinaryFn::Mul, x, gate)?;
        self.binary(BinaryFn::Div, product, six)
    }

    fn padded_conv(&mut self, x: ValueId) -> Result<ValueId> {
        let padded = self.op(Pad { pads: vec![0, 0, 0, 0, 0, 0, 1, 1], ..Pad::default() }, &[x])?;
        let w = self.random(&[C, C, 2, 2]);
        self.op(Conv::default(), &[padded, w])
    }

    fn there_and_back(&mut self, x: ValueId, reshape: bool) -> Result<ValueId> {
        let (there, back): (Op, Op) = if reshape {
            (Reshape { shape: vec![C, 16] }.into(), Reshape { shape: vec![1, C, 4, 4] }.into())
        } else {
            (Transpose { perm: vec![0, 2, 3, 1] }.into(), Transpose { perm: vec![0, 3, 1, 2] }.into())
        };
        let y = self.op(there, &[x])?;
        self.op(back, &[y])
    }

    fn step(&mut self, kind: u8, x: ValueId, y: ValueId) -> Result<ValueId> {
        match kind {
            0 => self.conv(x, &[C, C, 1, 1], 1, false),
            1 => self.conv(x, &[C, C, 3, 3], 1, true),
            2 => self.conv(x, &[C, 1, 3, 3], C, true),
            3 => self.batch_norm(x),
            4 => self.silu(x),
            5 => self.unary(UnaryFn::Relu, x),
            6 => self.unary(UnaryFn::Clip(-1.0, 0.5), x),
            7 => self.unary(UnaryFn::Sigmoid, x),
            8 | 9 => self.binary(BinaryFn::Add, x, y),
            10 => self.binary(BinaryFn::Mul, x, y),
            11 => self.squeeze_excite(x, false),
            12 => self.squeeze_excite(x, true),
            13 => self.block(x, false),
            14 => self.block(x, true),
            15 => self.hard_swish(x),
            16 => self.padded_conv(x),
            17 => self.there_and_back(x, true),
            18 => self.there_and_back(x, false),
            19 => {
                let k = self.random(&[C, 1, 1]);
                self.binary(if y == x { BinaryFn::Mul } else { BinaryFn::Sub }, x, k)
            }
            20 => self.op(Pool { kernel: vec![3, 3], pads: vec![1; 4], ..Pool::default() }, &[x]),
            _ => self.op(Identity {}, &[x]),
        }
    }
}

/// The largest difference, in units of the largest finite element.
fn difference(expected: &Literal, found: &Literal) -> f64 {
    let (expected, found) = (expected.to_f64(), found.to_f64());
    let largest = expected.iter().fold(1e-3, |m: f64, v| m.max(v.abs()));
    expected.iter().zip(&found).map(|(e, f)| (e - f).abs() / largest).fold(0.0, f64::max)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn text_reads_back(steps in steps()) {
        let graph = Net::build(&steps).expect("a network");
        let text = graph.to_string();
        let again = parse(&text).expect("printed text parses");
        prop_assert!(graph.same_as(&again), "{text}");
        prop_assert_eq!(again.to_string(), text);
    }

    #[test]
    fn passes_keep_graphs_valid_and_results_the_same(steps in steps()) {
        let graph = Net::build(&steps).expect("a network");
        let ty = TensorType::f32([1, C, 4, 4]);
        let input = Literal::new_float(ty, random_values(99, C * 16).iter().map(|v| f64::from(*v) * 2.0).collect());
        let expected = evaluate(&graph, std::slice::from_ref(&input)).expect("results before");
        let options = PipelineOptions { verify: true, snapshots: true, ..PipelineOptions::default() };
        let optimised = optimise(graph.clone(), &options).expect("passes run");
        for snapshot in &optimised.snapshots {
            let Some(after) = snapshot.graph.as_ref().filter(|_| snapshot.changes > 0) else { continue };
            let found = evaluate(after, std::slice::from_ref(&input)).expect("results after");
            for (expected, found) in expected.iter().zip(&found) {
                let difference = difference(expected, found);
                prop_assert!(difference < 1e-4, "after {}: {difference}\n{graph}\n{after}", snapshot.pass);
            }
        }
    }
}
