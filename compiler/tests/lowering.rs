//! Operators with kernels of their own, through whole plans: graph, plan, machine code, session.

mod support;

use fornax_compiler::{Times, jit};
use fornax_ir::ops::pool::PoolKind;
use fornax_ir::ops::reduce::ReduceKind;
use fornax_ir::ops::{Gemm, MatMul, Pool, Reduce, Softmax, SqueezeExcite, Transpose};
use fornax_ir::scalar::UnaryFn;
use support::single;

#[test]
fn matrix_vector_products() {
    let gemm = Gemm { bias: true, ..Gemm::default() };
    let scaled = Gemm { alpha: -0.5, beta: 3.0, activation: Some(UnaryFn::Silu), ..gemm.clone() };
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

#[test]
fn products_of_many_rows() {
    let gemm = Gemm { bias: true, ..Gemm::default() };
    let scaled = Gemm { alpha: -0.5, beta: 3.0, trans_b: true, activation: Some(UnaryFn::Silu), ..gemm.clone() };
    support::report([
        single("plain", Gemm::default(), &[50, 10], &[&[10, 33]]),
        single("bias", gemm.clone(), &[9, 7], &[&[7, 5], &[1, 5]]),
        single("factors", scaled, &[200, 24], &[&[40, 24], &[]]),
        single("bias per row", gemm.clone(), &[6, 4], &[&[4, 3], &[6, 1]]),
        single("transposed", Gemm { trans_a: true, ..gemm }, &[9, 8], &[&[9, 3], &[3]]),
        single("third factor", Gemm { alpha: 1.0 / 3.0, ..Gemm::default() }, &[8, 9], &[&[9, 3]]),
        single("no inputs", MatMul {}, &[7, 0], &[&[0, 3]]),
        single("column", MatMul {}, &[3, 5, 17], &[&[17]]),
        single("batch", MatMul {}, &[2, 3, 4, 17], &[&[17, 9]]),
        single("batch of matrices", MatMul {}, &[2, 5, 6], &[&[2, 6, 3]]),
    ]);
}

#[test]
fn transposes() {
    let perm = |perm: &[usize]| Transpose { perm: perm.to_vec() };
    support::report([
        single("rows of far steps", perm(&[0, 2, 1, 3]), &[2, 16, 24, 20], &[]),
        single("no whole bands", perm(&[0, 2, 1, 3]), &[2, 17, 24, 20], &[]),
        single("outermost rows", perm(&[1, 0, 2]), &[40, 7, 130], &[]),
        single("columns", perm(&[0, 2, 3, 1]), &[3, 24, 9, 16], &[]),
        single("reversed", perm(&[3, 2, 1, 0]), &[8, 16, 5, 33], &[]),
    ]);
}

#[test]
fn means_over_pixels() {
    let mean = |axes: &[usize], keepdims| Reduce { kind: ReduceKind::Mean, axes: axes.to_vec(), keepdims };
    support::report([
        single("kept", mean(&[2, 3], true), &[1, 130, 7, 5], &[]),
        single("dropped", mean(&[2, 3], false), &[2, 3, 1, 9], &[]),
        single("line", mean(&[2], false), &[2, 17, 6], &[]),
        single("volume", mean(&[2, 3, 4], true), &[1, 4, 2, 3, 5], &[]),
        single("other axes", mean(&[1], false), &[2, 3, 4, 5], &[]),
    ]);
}

#[test]
fn squeeze_and_excite() {
    let graph = |name, x: [usize; 4], reduced, op: SqueezeExcite| {
        let c = x[1];
        single(name, op, &x, &[&[reduced, c, 1, 1], &[reduced], &[c, reduced, 1, 1], &[c]])
    };
    let hard = SqueezeExcite { activation: UnaryFn::Relu, gate: UnaryFn::HardSigmoid(0.2, 0.5) };
    support::report([
        graph("even", [1, 32, 14, 14], 8, SqueezeExcite::default()),
        graph("odd", [3, 17, 5, 3], 1, hard),
        graph("one pixel", [1, 3, 1, 1], 40, SqueezeExcite::default()),
        graph("no pixel", [1, 3, 0, 1], 2, SqueezeExcite::default()),
    ]);
}

#[test]
fn pooling_windows() {
    let max = Pool { kernel: vec![3, 3], strides: vec![2, 2], pads: vec![1; 4], ..Pool::default() };
    let average = Pool { kind: PoolKind::Average, ..max.clone() };
    let padded = Pool { count_include_pad: true, ceil_mode: true, ..average.clone() };
    let line = Pool { kernel: vec![2], strides: vec![3], pads: vec![1, 0], dilations: vec![2], ..average.clone() };
    let cube = Pool { kernel: vec![2; 3], strides: vec![1; 3], pads: vec![0; 6], dilations: vec![1; 3], ..max.clone() };
    let wide = Pool { kernel: vec![13, 1], strides: vec![1, 1], pads: vec![0; 4], ..average.clone() };
    support::report([
        single("max", max.clone(), &[1, 64, 17, 16], &[]),
        single("max up", Pool { ceil_mode: true, ..max }, &[2, 3, 6, 9], &[]),
        single("average", average, &[1, 17, 9, 9], &[]),
        single("average padded", padded, &[2, 5, 6, 7], &[]),
        single("line", line, &[2, 6, 11], &[]),
        single("cube", cube, &[1, 2, 3, 4, 5], &[]),
        single("wide", wide, &[1, 2, 15, 3], &[]),
    ]);
}

#[test]
fn softmax_along_any_axis() {
    let cases: [(&[usize], usize); 6] =
        [(&[2, 1000], 1), (&[3, 7, 5], 2), (&[2, 19, 3, 4], 1), (&[4, 3, 5], 0), (&[2, 6, 1, 1], 1), (&[0, 3], 1)];
    let graphs = cases.into_iter().flat_map(|(shape, axis)| {
        [false, true].map(|log| single(&format!("{shape:?} axis {axis}"), Softmax { axis, log }, shape, &[]))
    });
    support::report(graphs);
}

#[test]
fn the_number_of_threads_changes_no_constant() {
    let gemm = Gemm { trans_b: true, bias: true, ..Gemm::default() };
    let graph = single("gemm", gemm, &[1, 300], &[&[70, 300], &[70]]);
    let plan = support::plan(&graph);
    let constants = |threads| {
        let mut times = Times::default();
        let program = jit::compile_on(threads, &plan, &mut times).expect("code");
        let stages: Vec<String> = times.iter().map(|(stage, _)| stage.to_string()).collect();
        (program.constants().to_vec(), stages)
    };
    let (one, stages) = constants(1);
    assert_eq!(stages, ["pack", "codegen", "install"]);
    let (three, stages) = constants(3);
    assert_eq!(stages, ["codegen and pack", "install"]);
    assert!(one == three && one.iter().any(|byte| *byte != 0));
}
