//! Kernels one by one, on one thread: those of EfficientNet-B0, and a few more.
//!
//! `cargo bench --bench kernels -- [part of a name]…`
//!
//! The id of a bench is the kernel's name. Throughput counts floating-point operations as items (`Gitem/s` reads GFLOP/s), two per
//! multiply-add; the FMA peak of the same process is printed first. Which of them matter, and how much, is what `fornax
//! profile` tells of a network.

mod support;

use std::fmt;

use divan::Bencher;
use divan::counter::ItemsCount;
use fornax_compiler::internals::{
    ChannelWeightGradient, Conv, ConvAxis, ConvInput, Depthwise, Epilogue, EpilogueOp, Gate, Gemv, Mean, Pool,
    PoolKind, Sliding, Softmax, Spec, WeightGradient,
};
use fornax_compiler::{Kernel, Target};
use fornax_ir::scalar::UnaryFn;
use fornax_ir::types::DType;
use fornax_runtime::{Tensor, measure_fma_peak};

/// 1x1 convolutions of EfficientNet-B0 at 224: pixels, channels, filters, activation.
const POINTWISE: &[(usize, usize, usize, bool)] = &[
    (12544, 32, 16, false),
    (12544, 16, 96, true),
    (3136, 96, 24, false),
    (3136, 24, 144, true),
    (3136, 144, 24, false),
    (784, 144, 40, false),
    (784, 40, 240, true),
    (784, 240, 40, false),
    (196, 240, 80, false),
    (196, 80, 480, true),
    (196, 480, 80, false),
    (196, 480, 112, false),
    (196, 112, 672, true),
    (196, 672, 112, false),
    (49, 672, 192, false),
    (49, 192, 1152, true),
    (49, 1152, 192, false),
    (49, 1152, 320, false),
    (49, 320, 1280, true),
];

/// Its depthwise convolutions: channels, input extent, kernel, stride.
const DEPTHWISE: &[(usize, usize, usize, usize)] = &[
    (32, 112, 3, 1),
    (96, 112, 3, 2),
    (144, 56, 3, 1),
    (144, 56, 5, 2),
    (240, 28, 5, 1),
    (240, 28, 3, 2),
    (480, 14, 3, 1),
    (480, 14, 5, 1),
    (672, 14, 5, 1),
    (672, 14, 5, 2),
    (1152, 7, 5, 1),
    (1152, 7, 3, 1),
];

/// Matrix-vector products of squeezes, gates and the classifier: inputs, outputs.
const GEMV: &[(usize, usize)] = &[(32, 8), (8, 32), (672, 28), (28, 672), (1152, 48), (48, 1152), (1280, 1000)];

/// A kernel for this machine, printed as its name.
struct Case(Kernel);

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.name)
    }
}

fn target() -> Target {
    Target::host().expect("a supported host")
}

fn case(spec: impl Into<Spec>) -> Case {
    Case(Kernel::new(spec, &target()))
}

/// Runs a plan of one step.
fn run(bencher: Bencher<'_, '_>, Case(kernel): &Case) {
    let (mut session, inputs) = support::session(kernel, &target());
    let inputs: Vec<&Tensor> = inputs.iter().collect();
    let mut outputs = session.outputs().expect("memory");
    bencher.counter(ItemsCount::new(kernel.flops)).bench_local(|| session.run(&inputs, &mut outputs).expect("a run"));
}

fn conv3x3(channels: usize, filters: usize, extent: usize, stride: usize, input: ConvInput) -> Conv {
    let output = extent / stride;
    let axis = ConvAxis { input: extent, output, kernel: 3, stride, dilation: 1, begin: usize::from(stride == 1) };
    let epilogue = Epilogue::new(Some(UnaryFn::Silu), false, false);
    let (rows, columns) = (axis, axis);
    Conv { rows, columns, input, ..Conv::pointwise(1, channels, filters, epilogue) }
}

fn depthwise_spec((channels, extent, k, s): &(usize, usize, usize, usize), silu: bool) -> Depthwise {
    let pads = [(k - 1) / 2; 2];
    Depthwise {
        element: DType::F32,
        batch: 1,
        channels: *channels,
        gaps: [0; 2],
        input: [*extent; 2],
        output: [extent.div_ceil(*s); 2],
        kernel: [*k; 2],
        strides: [*s; 2],
        dilations: [1; 2],
        pads,
        epilogue: match silu {
            true => Epilogue::new(Some(UnaryFn::Silu), false, false).then(EpilogueOp::Sum),
            false => Epilogue::default(),
        },
        transposed: false,
        finish: None,
    }
}

fn pointwise_cases() -> Vec<Case> {
    let spec = |(pixels, channels, filters, silu): &(usize, usize, usize, bool)| {
        let activation = silu.then_some(UnaryFn::Silu);
        case(Conv::pointwise(*pixels, *channels, *filters, Epilogue::new(activation, false, false)))
    };
    POINTWISE.iter().map(spec).collect()
}

#[divan::bench(args = pointwise_cases())]
fn pointwise(bencher: Bencher<'_, '_>, case: &Case) {
    run(bencher, case);
}

fn dense_cases() -> Vec<Case> {
    let specs = [
        conv3x3(3, 32, 224, 2, ConvInput::RowMajor),
        conv3x3(24, 24, 192, 1, ConvInput::ChannelsLast),
        conv3x3(64, 256, 48, 2, ConvInput::ChannelsLast),
    ];
    specs.map(case).into()
}

#[divan::bench(args = dense_cases())]
fn dense(bencher: Bencher<'_, '_>, case: &Case) {
    run(bencher, case);
}

/// With SiLU and row sums, as before squeeze-and-excite, then without either.
fn depthwise_cases() -> Vec<Case> {
    [true, false].iter().flat_map(|silu| DEPTHWISE.iter().map(|shape| case(depthwise_spec(shape, *silu)))).collect()
}

#[divan::bench(args = depthwise_cases())]
fn depthwise(bencher: Bencher<'_, '_>, case: &Case) {
    run(bencher, case);
}

/// The gradients of 1x1 convolutions by their weights, and of a stem; those by their operands are products again.
fn weight_gradient_cases() -> Vec<Case> {
    let spec = |channels, filters, axis, input| {
        let (element, batch, rows, columns, sum) = (DType::F32, 1, axis, axis, true);
        WeightGradient { element, batch, channels, filters, rows, columns, input, gate: false, sum }
    };
    let stem = ConvAxis { input: 224, output: 112, kernel: 3, stride: 2, dilation: 1, begin: 0 };
    let pointwise = POINTWISE.iter().map(|(pixels, channels, filters, _)| {
        let side = ConvAxis::plain(pixels.isqrt());
        case(spec(*channels, *filters, side, ConvInput::ChannelsLast).flattened())
    });
    pointwise.chain([case(spec(3, 32, stem, ConvInput::RowMajor))]).collect()
}

#[divan::bench(args = weight_gradient_cases())]
fn weight_gradient(bencher: Bencher<'_, '_>, case: &Case) {
    run(bencher, case);
}

/// The gradients of depthwise convolutions, by their operands and by their weights, and of dense ones with a stride by their operands.
fn gradient_cases() -> Vec<Case> {
    let by_operand = DEPTHWISE.iter().map(|shape| {
        let forward = depthwise_spec(shape, false);
        let (input, output) = (forward.output, forward.input);
        case(Depthwise { input, output, transposed: true, ..forward })
    });
    let by_weights = DEPTHWISE
        .iter()
        .map(|shape| case(ChannelWeightGradient { sliding: depthwise_spec(shape, false).sliding(), sum: true }));
    let dense = [(96, 24, 96), (128, 64, 28)].map(|(channels, filters, input)| {
        let axis = ConvAxis { input, output: 2 * input, kernel: 3, stride: 2, dilation: 1, begin: 0 };
        let pointwise = Conv::pointwise(1, channels, filters, Epilogue::default());
        case(Conv { rows: axis, columns: axis, transposed: true, ..pointwise })
    });
    by_operand.chain(by_weights).chain(dense).collect()
}

#[divan::bench(args = gradient_cases())]
fn gradients(bencher: Bencher<'_, '_>, case: &Case) {
    run(bencher, case);
}

fn gemv_cases() -> Vec<Case> {
    let gemv = |(inputs, outputs): &(usize, usize)| {
        let activation = Some(UnaryFn::Sigmoid);
        case(Gemv { element: DType::F32, weights: DType::F32, rows: 1, inputs: *inputs, outputs: *outputs, activation })
    };
    GEMV.iter().map(gemv).collect()
}

#[divan::bench(args = gemv_cases())]
fn gemv(bencher: Bencher<'_, '_>, case: &Case) {
    run(bencher, case);
}

fn other_cases() -> Vec<Case> {
    let element = DType::F32;
    let sliding = Sliding {
        element,
        batch: 1,
        channels: 64,
        gaps: [0; 2],
        input: [112; 2],
        output: [56; 2],
        kernel: [3; 2],
        strides: [2; 2],
        dilations: [1; 2],
        pads: [1; 2],
        transposed: false,
    };
    vec![
        case(Mean { element, input: element, batch: 1, rows: 7, columns: 7, channels: 1280, count: 49 }),
        case(Gate { element, batch: 1, pixels: 196, channels: 672 }),
        case(Pool { sliding, kind: PoolKind::Max }),
        case(Softmax { element, rows: 1, length: 1000, log: false }),
    ]
}

#[divan::bench(args = other_cases())]
fn others(bencher: Bencher<'_, '_>, case: &Case) {
    run(bencher, case);
}

fn main() {
    for peak in measure_fma_peak() {
        println!("FMA peak at {} bits: {:.1} GFLOP/s", peak.width_bits, peak.gflops);
    }
    divan::main();
}
