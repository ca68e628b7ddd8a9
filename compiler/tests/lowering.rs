//! Operators with kernels of their own, through whole plans: graph, plan, machine code, session.

mod support;

use fornax_compiler::ir::{Graph, builder::Builder};
use fornax_compiler::ops::{Gemm, MatMul, Op};
use fornax_compiler::scalar::UnaryFn;

/// A graph of one operator over one input and constants.
fn single(name: &str, op: impl Into<Op>, x: &[usize], constants: &[&[usize]]) -> Graph {
    let mut b = Builder::new(name);
    let mut operands = vec![b.input("x", x)];
    operands.extend(constants.iter().zip(100..).map(|(shape, seed)| b.random("w", *shape, seed)));
    let y = b.op("y", op, &operands).unwrap();
    b.output("y", y);
    b.finish()
}

#[test]
fn matrix_vector_products() {
    let gemm = Gemm { bias: true, ..Gemm::default() };
    let scaled = Gemm { alpha: -0.5, beta: 3.0, then: Some(UnaryFn::Silu), ..gemm.clone() };
    let transposed = Gemm { trans_b: true, ..gemm.clone() };
    support::report([
        single("plain", Gemm::default(), &[1, 10], &[&[10, 33]]),
        single("row bias", gemm.clone(), &[4, 7], &[&[7, 5], &[1, 5]]),
        single("vector bias", transposed.clone(), &[2, 1280], &[&[100, 1280], &[100]]),
        single("scalar bias", gemm.clone(), &[3, 4], &[&[4, 40], &[]]),
        single("factors", scaled, &[2, 6], &[&[6, 4], &[4]]),
        single("column as row", Gemm { trans_a: true, ..gemm }, &[9, 1], &[&[9, 3], &[1, 3]]),
        single("no inputs", transposed, &[2, 0], &[&[3, 0], &[3]]),
        single("vector", MatMul {}, &[5], &[&[5, 3]]),
        single("two vectors", MatMul {}, &[5], &[&[5]]),
        single("batch", MatMul {}, &[2, 1, 2, 17], &[&[17, 9]]),
    ]);
}
