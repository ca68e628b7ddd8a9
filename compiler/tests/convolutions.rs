//! Convolutions and blocks of convolutions, through whole plans.

mod support;

use fornax_compiler::Target;
use fornax_compiler::pipeline::{CompileOptions, plan_for};
use fornax_ir::graph::{Graph, GraphBuilder};
use fornax_ir::ops::literal::Literal;
use fornax_ir::ops::{Binary, Cast, Conv, MbConv};
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::{Constant, DType, TensorType, random_values};
use fornax_runtime::{Pool, Session, Tensor};
use support::single;

#[test]
fn convolutions() {
    let conv = Conv { bias: true, activation: Some(UnaryFn::Silu), ..Conv::default() };
    let same = Conv { pads: vec![1; 4], ..conv.clone() };
    let line = Conv { strides: vec![2], pads: vec![1, 1], dilations: vec![1], ..conv.clone() };
    let stem = Conv { strides: vec![2, 2], pads: vec![0, 0, 1, 1], ..conv.clone() };
    support::report([
        single("pointwise", conv.clone(), &[2, 17, 5, 9], &[&[20, 17, 1, 1], &[20]]),
        single("one pixel", conv.clone(), &[3, 40, 1, 1], &[&[10, 40, 1, 1], &[10]]),
        single("few pixels", conv.clone(), &[1, 3, 1, 3], &[&[5, 3, 1, 1], &[5]]),
        single("few pixels of two images", conv.clone(), &[2, 2, 1, 2], &[&[7, 2, 1, 1], &[7]]),
        single("window", same.clone(), &[2, 8, 9, 11], &[&[12, 8, 3, 3], &[12]]),
        single("without bias", Conv { bias: false, ..same.clone() }, &[1, 5, 7, 7], &[&[3, 5, 3, 3]]),
        single("stem", stem, &[1, 3, 24, 20], &[&[16, 3, 3, 3], &[16]]),
        single("gray", same.clone(), &[1, 1, 6, 6], &[&[4, 1, 3, 3], &[4]]),
        single("line", line, &[1, 6, 30], &[&[7, 6, 3], &[7]]),
        single("depthwise", Conv { group: 12, ..same.clone() }, &[2, 12, 8, 7], &[&[12, 1, 3, 3], &[12]]),
        single("groups", Conv { group: 3, ..same.clone() }, &[2, 6, 8, 7], &[&[15, 2, 3, 3], &[15]]),
        single("multiplier", Conv { group: 4, ..same.clone() }, &[1, 4, 5, 5], &[&[8, 1, 3, 3], &[8]]),
        single("nothing", conv, &[0, 4, 5, 5], &[&[8, 4, 1, 1], &[8]]),
    ]);
}

/// Dense 3x3 convolutions that take the Winograd form, alone and in blocks; the remark says why.
#[test]
fn winograd() {
    let conv = Conv { bias: true, activation: Some(UnaryFn::Silu), pads: vec![1; 4], ..Conv::default() };
    let valid = Conv { bias: false, pads: vec![0; 4], ..conv.clone() };
    let fused = MbConv { fused: true, activation: Some(UnaryFn::Silu), pads: vec![1; 4], ..MbConv::default() };
    let graphs = [
        single("same", conv.clone(), &[1, 24, 21, 18], &[&[40, 24, 3, 3], &[40]]),
        single("batch", conv, &[3, 16, 12, 9], &[&[16, 16, 3, 3], &[16]]),
        single("valid", valid, &[1, 32, 30, 17], &[&[33, 32, 3, 3]]),
        block("block", MbConv { residual: true, ..fused.clone() }, [1, 14, 13], [24, 56, 0, 24], 3),
        block(
            "gate",
            MbConv { se: Some(vec![UnaryFn::Silu, UnaryFn::Sigmoid]), ..fused },
            [2, 9, 9],
            [16, 32, 4, 16],
            3,
        ),
    ];
    for graph in &graphs {
        let plan = support::plan(graph);
        let steps: Vec<&str> = plan.steps.iter().map(|step| step.kernel.name.as_str()).collect();
        assert!(steps.iter().any(|name| name.starts_with("f32_winograd")), "{}: {steps:?}", graph.name);
        assert!(plan.remarks.iter().any(|remark| remark.text.starts_with("winograd ")), "{:?}", plan.remarks);
    }
    support::report(graphs);
}

#[test]
fn residuals_come_before_or_after_the_activation() {
    for activation_first in [false, true] {
        let mut b = GraphBuilder::new("residual");
        let (x, other) = (b.input("x", [1, 8, 6, 5]), b.input("r", [1, 8, 6, 5]));
        let (w, bias) = (b.random("w", [8, 8, 1, 1], 7), b.random("b", [8], 8));
        let op =
            Conv { bias: true, residual: true, activation: Some(UnaryFn::Relu), activation_first, ..Conv::default() };
        let y = b.op("y", op, &[x, w, bias, other]).unwrap();
        b.output("y", y);
        support::report([b.finish()]);
    }
}

/// A block of `c` channels expanded to `e`, squeezed to `s`, projected to `m`.
fn block(name: &str, op: MbConv, map: [usize; 3], [c, e, s, m]: [usize; 4], k: usize) -> Graph {
    let mut shapes = Vec::new();
    if op.expand {
        shapes.extend([vec![e, c, 1, 1], vec![e]]);
    }
    shapes.extend([vec![e, if op.fused { c } else { 1 }, k, k], vec![e]]);
    if op.se.is_some() {
        shapes.extend([vec![s, e, 1, 1], vec![s], vec![e, s, 1, 1], vec![e]]);
    }
    shapes.extend([vec![m, e, 1, 1], vec![m]]);
    let constants: Vec<&[usize]> = shapes.iter().map(Vec::as_slice).collect();
    single(name, op, &[map[0], c, map[1], map[2]], &constants)
}

#[test]
fn inverted_residual_blocks() {
    let activation = Some(UnaryFn::Silu);
    let se = Some(vec![UnaryFn::Silu, UnaryFn::Sigmoid]);
    let plain = MbConv { activation, pads: vec![1; 4], ..MbConv::default() };
    let full = MbConv { expand: true, expand_activation: activation, se: se.clone(), ..plain.clone() };
    let fused = MbConv { fused: true, ..plain.clone() };
    support::report([
        block("gate on weights", MbConv { residual: true, ..full.clone() }, [1, 9, 8], [8, 24, 3, 8], 3),
        block("gate on activations", MbConv { residual: true, ..full.clone() }, [1, 3, 3], [12, 40, 5, 12], 3),
        block("batch", full.clone(), [3, 7, 6], [5, 20, 2, 9], 3),
        block("stride", MbConv { strides: vec![2, 2], ..full.clone() }, [1, 11, 13], [6, 18, 2, 7], 3),
        block("one pixel", full, [1, 1, 1], [6, 18, 2, 7], 3),
        block("without expansion", MbConv { se: se.clone(), ..plain.clone() }, [1, 8, 8], [16, 16, 4, 10], 3),
        block(
            "without gate",
            MbConv { expand: true, expand_activation: activation, ..plain },
            [2, 8, 8],
            [4, 24, 0, 6],
            3,
        ),
        block("fused", MbConv { residual: true, ..fused.clone() }, [1, 10, 9], [6, 24, 0, 6], 3),
        block("fused with gate", MbConv { se, ..fused }, [2, 6, 9], [6, 24, 4, 6], 3),
    ]);
}

/// A 3x3 convolution of integers by multiples of `unit`, its result over `unit`, as `i32`; padded, over 8 x 9 pixels.
fn counts(channels: usize, filters: usize, unit: f32, activation: Option<UnaryFn>) -> Graph {
    let mut b = GraphBuilder::new(format!("{channels} to {filters} by {unit}"));
    let x = b.input_of("x", TensorType::new(DType::I8, [2, channels, 8, 9]));
    let x = b.op("xf", Cast { to: DType::F32 }, &[x]).unwrap();
    let shape = [filters, channels, 3, 3];
    let weights = random_values(3, shape.iter().product()).into_iter().map(|v| (v * 9.0).trunc() * unit);
    let w = b.constant("w", Constant::from_f32(shape, &weights.collect::<Vec<_>>()));
    let op = Conv { pads: vec![1; 4], activation, ..Conv::default() };
    let y = b.op("y", op, &[x, w]).unwrap();
    let by = b.constant("by", Constant::from_f32([], &[1.0 / unit]));
    let scaled = b.op("scaled", Binary { function: BinaryFn::Mul }, &[y, by]).unwrap();
    let count = b.op("count", Cast { to: DType::I32 }, &[scaled]).unwrap();
    b.output("count", count);
    b.finish()
}

/// What a discontinuous function reads is computed as the definition says, of every number of channels.
#[test]
fn counts_are_exact() {
    let channels = [1, 3, 15, 16, 17, 32, 64, 130, 512];
    let relu = Some(UnaryFn::Relu);
    let graphs = channels.map(|channels| [counts(channels, 16, 1.0, None), counts(channels, 24, 0.125, relu)]);
    support::report(graphs.into_iter().flatten());
    // Without a discontinuous function, integer weights alone decide; other weights take the fast form.
    for (unit, winograd) in [(1.0, false), (0.7, true)] {
        let graph = counts(32, 32, unit, Some(UnaryFn::Silu));
        let plan = support::plan(&graph);
        assert_eq!(plan.steps.iter().any(|step| step.kernel.name.starts_with("f32_winograd")), winograd, "{unit}");
    }
}

#[test]
fn a_remark_says_why_a_faster_form_is_declined() {
    let plan = support::plan(&counts(32, 32, 0.7, None));
    let texts: Vec<&str> = plan.remarks.iter().map(|remark| remark.text.as_str()).collect();
    assert!(texts.contains(&"winograd: a discontinuous function reads its result"), "{texts:?}");
}

/// With `exact`, an infinity and an outlier stay with the elements that read them.
#[test]
fn exact_plans_keep_outliers_where_they_are() {
    let graph = single("outlier", Conv { pads: vec![1; 4], ..Conv::default() }, &[1, 32, 24, 24], &[&[32, 32, 3, 3]]);
    let far = |exact: bool, outlier: f32| {
        let options = CompileOptions { exact, ..CompileOptions::default() };
        let mut planned = plan_for(graph.clone(), &[Target::host().unwrap()], &options).unwrap();
        let winograd = planned.plans[0].steps.iter().any(|step| step.kernel.name.starts_with("f32_winograd"));
        assert_eq!(winograd, !exact);
        let mut x = random_values(1, 32 * 24 * 24);
        // The pixel at row 0, column 0 reaches outputs of rows and columns 0 and 1 only.
        x[0] = outlier;
        let x = Tensor::from_f32([1, 32, 24, 24], &x).unwrap();
        let mut session = Session::new(planned.emit(1).unwrap().into(), Pool::new(1, false).unwrap().into()).unwrap();
        let mut outputs = session.outputs().unwrap();
        session.run(&[&x], &mut outputs).unwrap();
        let y = outputs[0].to_f64_vec();
        let clean = support::native(&graph, &[Literal::from_f32([1, 32, 24, 24], &random_values(1, 32 * 24 * 24))]);
        let reached = |i: usize| i / 24 % 24 < 2 && i % 24 < 2;
        let clean = clean[0].to_f64();
        // NaN is the largest of all.
        (0..y.len()).filter(|i| !reached(*i)).map(|i| (y[i] - clean[i]).abs()).max_by(f64::total_cmp).unwrap()
    };
    assert!(far(true, f32::INFINITY) < 1e-4 && far(true, -1e9) < 1e-4);
    // What is documented of the fast form.
    assert!(far(false, f32::INFINITY).is_nan() && far(false, -1e9) > 1.0);
}
