//! Graphs in bf16: close to the evaluator, and the same bits on every level that this machine runs.

#[allow(dead_code, reason = "other tests use the rest")]
mod support;

use std::sync::Arc;

use fornax_compiler::pipeline::{Numerics, PipelineOptions, Precision, optimise, plan_in};
use fornax_compiler::{Target, jit};
use fornax_ir::graph::{Graph, parse};
use fornax_runtime::{Pool, Session, Tensor};

/// What code for `target` computes in bf16 from `x`.
fn run(graph: &Graph, target: &Target, x: &Tensor) -> Vec<f32> {
    let numerics = Numerics { precision: Precision::Bf16, ..Numerics::default() };
    let plan = plan_in(graph, target, numerics).expect("a plan");
    let program = jit::compile(&plan).expect("a program");
    let mut session = Session::new(Arc::new(program), Arc::new(Pool::new(2, false).expect("threads"))).expect("memory");
    let mut outputs = session.outputs().expect("outputs");
    session.run(&[x], &mut outputs).expect("a run");
    outputs[0].to_f64_vec().into_iter().map(|v| v as f32).collect()
}

/// Operators that store in bf16, side by side with those that do not; windows that no tile register takes, and such that meet
/// nothing but padding.
const GRAPHS: &[(&str, &[usize], &str)] = &[
    ("pointwise", &[1, 40, 7, 7], "%y = conv %x, const[24,40,1,1], const[24] {bias=true, activation=silu}"),
    ("odd_channels", &[2, 7, 5, 6], "%y = conv %x, const[9,7,3,3], const[9] {pads=[1, 1, 1, 1], bias=true}"),
    (
        "padded",
        &[2, 32, 9, 8],
        "%y = conv %x, const[20,32,3,3], const[20] {pads=[1, 1, 1, 1], strides=[2, 2], bias=true}",
    ),
    ("point", &[1, 16, 1, 1], "%y = conv %x, const[16,16,3,3], const[16] {pads=[1, 1, 1, 1], bias=true}"),
    (
        "only_padding",
        &[1, 32, 1, 8],
        "%y = conv %x, const[8,32,1,1], const[8] {pads=[1, 0, 1, 0], strides=[3, 1], bias=true}",
    ),
    ("groups", &[1, 32, 6, 5], "%y = conv %x, const[24,16,3,3], const[24] {pads=[1, 1, 1, 1], group=2, bias=true}"),
    (
        "depthwise",
        &[1, 20, 9, 9],
        "%y = conv %x, const[20,1,5,5], const[20] {pads=[2, 2, 2, 2], group=20, bias=true, activation=silu}",
    ),
    (
        "residual",
        &[1, 16, 14, 14],
        "%a = conv %x, const[16,16,3,3], const[16] {pads=[1, 1, 1, 1], bias=true, activation=relu}
         %b = conv %a, const[16,16,1,1], const[16] {bias=true}
         %s = add %b, %x
         %m = pool %s {kernel=[2, 2], strides=[2, 2]}
         %e = exp %m
         %y = reduce %e {axes=[2, 3], keepdims=false, kind=mean}",
    ),
];

/// The graph of a case: each `const[…]` becomes a constant of random elements.
fn graph((name, shape, body): &(&str, &[usize], &str)) -> Graph {
    let (mut constants, mut rest, mut text) = (String::new(), *body, String::new());
    while let Some((before, after)) = rest.split_once("const[") {
        let (extents, after) = after.split_once(']').expect("a bracket");
        let number = constants.lines().count();
        constants += &format!("%c{number} = constant f32[{extents}] random({number})\n");
        text += &format!("{before}%c{number}");
        rest = after;
    }
    let shape = shape.iter().map(usize::to_string).collect::<Vec<_>>().join(",");
    let text = format!("graph @{name}(%x: f32[{shape}]) {{\n{constants}{text}{rest}\nreturn %y as \"y\" }}");
    let parsed = parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    optimise(parsed, &PipelineOptions::default()).expect("passes run").graph
}

/// The targets with FMA that this machine runs; where there are none it says so.
fn targets() -> Vec<Target> {
    let targets: Vec<Target> = Target::runnable().into_iter().filter(Target::fma).collect();
    if targets.is_empty() {
        eprintln!("NOT RUN: no target with FMA runs here, so no bits are compared");
    }
    targets
}

/// The bits of results: every NaN is the same, and zeros differ by their sign.
fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| if v.is_nan() { f32::NAN.to_bits() } else { v.to_bits() }).collect()
}

/// Where sums are subnormal, infinite or no number.
#[test]
fn bf16_has_the_same_bits_at_the_ends_of_its_range() {
    let targets = targets();
    for (case, scale) in GRAPHS.iter().flat_map(|case| [1e-40, 1e-37, 1e37, f32::INFINITY].map(|scale| (case, scale))) {
        let graph = graph(case);
        let x = support::inputs(&graph)[0].to_f64().into_iter().map(|v| v as f32 * scale).collect::<Vec<_>>();
        let x = Tensor::from_f32(case.1.to_vec(), &x).expect("an input");
        let results: Vec<Vec<u32>> = targets.iter().map(|target| bits(&run(&graph, target, &x))).collect();
        for (target, result) in targets.iter().zip(&results) {
            assert_eq!(*result, results[0], "{} by {scale:e} for {target}", case.0);
        }
    }
}

#[test]
fn bf16_has_the_same_bits_on_every_level() {
    let targets = targets();
    for case in GRAPHS {
        let graph = graph(case);
        let inputs = support::inputs(&graph);
        let x: Vec<f32> = inputs[0].to_f64().into_iter().map(|v| v as f32).collect();
        let x = Tensor::from_f32(case.1.to_vec(), &x).expect("an input");
        let expected = support::native(&graph, &inputs)[0].to_f64();
        let largest = expected.iter().fold(0.0f64, |largest, v| largest.max(v.abs()));
        let results: Vec<Vec<f32>> = targets.iter().map(|target| run(&graph, target, &x)).collect();
        for (target, result) in targets.iter().zip(&results) {
            assert_eq!(bits(result), bits(&results[0]), "{} for {target}", case.0);
            let off = result.iter().zip(&expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max);
            assert!(off <= 0.03 * largest, "{} for {target}: {off} of {largest}", case.0);
        }
    }
}
