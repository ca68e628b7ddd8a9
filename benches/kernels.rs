//! Kernels one by one: rate, and share of the multiply-add peak of the kernels' vector width, measured in the same process.
//!
//! `cargo bench -p fornax-compiler --bench kernels -- [part of a name]…`

use std::sync::Arc;

use fornax_compiler::codegen::epilogue::Epilogue;
use fornax_compiler::emit::jit;
use fornax_compiler::kernels::conv::{Axis, Input};
use fornax_compiler::kernels::pool::Kind;
use fornax_compiler::kernels::sliding::Sliding;
use fornax_compiler::kernels::{self, Access, Conv, Depthwise, Gate, Gemv, Kernel, Mean, Softmax, Spec};
use fornax_compiler::plan::builder::Builder;
use fornax_compiler::plan::{Layout, Operand, Port};
use fornax_compiler::scalar::UnaryFn;
use fornax_compiler::target::Target;
use fornax_compiler::types::{TensorType, random_values};
use fornax_runtime::{Pool, Session, Tensor, measure_fma_peak};

/// Rounds of a measurement; the best counts, as everything else on the machine can only slow a kernel down.
const ROUNDS: usize = 30;

/// 1x1 convolutions of EfficientNet-B0 at 224: pixels, channels, filters, activation, how often.
const POINTWISE: &[(usize, usize, usize, bool, usize)] = &[
    (12544, 32, 16, false, 1),
    (12544, 16, 96, true, 1),
    (3136, 96, 24, false, 1),
    (3136, 24, 144, true, 2),
    (3136, 144, 24, false, 1),
    (784, 144, 40, false, 1),
    (784, 40, 240, true, 2),
    (784, 240, 40, false, 1),
    (196, 240, 80, false, 1),
    (196, 80, 480, true, 3),
    (196, 480, 80, false, 2),
    (196, 480, 112, false, 1),
    (196, 112, 672, true, 3),
    (196, 672, 112, false, 2),
    (49, 672, 192, false, 1),
    (49, 192, 1152, true, 4),
    (49, 1152, 192, false, 3),
    (49, 1152, 320, false, 1),
    (49, 320, 1280, true, 1),
];

/// Its depthwise convolutions: channels, input extent, kernel, stride, how often.
const DEPTHWISE: &[(usize, usize, usize, usize, usize)] = &[
    (32, 112, 3, 1, 1),
    (96, 112, 3, 2, 1),
    (144, 56, 3, 1, 1),
    (144, 56, 5, 2, 1),
    (240, 28, 5, 1, 1),
    (240, 28, 3, 2, 1),
    (480, 14, 3, 1, 3),
    (480, 14, 5, 1, 1),
    (672, 14, 5, 1, 2),
    (672, 14, 5, 2, 1),
    (1152, 7, 5, 1, 3),
    (1152, 7, 3, 1, 1),
];

/// Matrix-vector products of squeezes, gates and the classifier: inputs, outputs.
const GEMV: &[(usize, usize)] = &[(32, 8), (8, 32), (672, 28), (28, 672), (1152, 48), (48, 1152), (1280, 1000)];

/// Best time of a kernel on one thread, nanoseconds.
fn time(spec: Spec, target: &Target) -> (Kernel, f64) {
    let kernel = Kernel::new(spec, target);
    let mut builder = Builder::new(target.clone());
    let mut operands: Vec<Operand> = Vec::new();
    let mut outputs = Vec::new();
    let mut inputs = Vec::new();
    for argument in &kernel.arguments {
        let ty = TensorType::f32([argument.bytes / 4]);
        let port = Port { name: argument.name.into(), ty: ty.clone() };
        if argument.access == Access::Read {
            inputs.push(Tensor::from_f32(ty.shape.clone(), &random_values(1, ty.shape.numel())).expect("memory"));
            operands.push(builder.input(port).into());
        } else {
            let slot = builder.temp(argument.name.into(), ty, Layout::RowMajor);
            outputs.push((port, slot));
            operands.push(slot.into());
        }
    }
    builder.step(kernel.clone(), operands, &kernel.name);
    let plan = builder.finish("bench".into(), outputs).expect("a plan");
    let program = Arc::new(jit::compile(&plan).expect("code"));
    let mut session = Session::new(program, Arc::new(Pool::new(1, false).expect("a pool"))).expect("memory");
    let inputs: Vec<&Tensor> = inputs.iter().collect();
    let mut outputs = session.outputs().expect("memory");
    let mut best = u64::MAX;
    for _ in 0..ROUNDS {
        let mut times = [0];
        session.run_profiled(&inputs, &mut outputs, &mut times).expect("a run");
        best = best.min(times[0]);
    }
    (kernel, best as f64)
}

fn conv3x3(channels: usize, filters: usize, extent: usize, stride: usize, input: Input) -> Conv {
    let output = extent / stride;
    let axis = Axis { input: extent, output, kernel: 3, stride, dilation: 1, begin: usize::from(stride == 1) };
    let epilogue = Epilogue::new(Some(UnaryFn::Silu), false, false);
    let (rows, columns) = (axis, axis);
    Conv { batch: 1, groups: 1, channels, filters, weights_per_image: false, rows, columns, input, epilogue }
}

fn depthwise((channels, extent, k, s, _): &(usize, usize, usize, usize, usize), silu: bool) -> Depthwise {
    let pads = [(k - 1) / 2; 2];
    Depthwise {
        batch: 1,
        channels: *channels,
        input: [*extent; 2],
        output: [extent.div_ceil(*s); 2],
        kernel: [*k; 2],
        strides: [*s; 2],
        dilations: [1; 2],
        pads,
        then: silu.then_some(UnaryFn::Silu),
        squeeze: silu,
    }
}

/// Prints a group of kernels and its total, weighted by how often each occurs.
fn group(title: &str, kernels: Vec<(Spec, usize)>, filters: &[String]) {
    let target = Target::host().expect("a supported host");
    let bits = 32 * target.lanes() as u32;
    let peak = || measure_fma_peak().iter().find(|p| p.width_bits == bits).map_or(0.0, |p| p.gflops);
    let (mut total, mut flops, mut reference) = (0.0, 0.0, peak());
    for (spec, times) in kernels {
        let name = Kernel::new(spec.clone(), &target).name;
        if !filters.is_empty() && !filters.iter().any(|f| name.contains(f.as_str())) {
            continue;
        }
        let (kernel, ns) = time(spec, &target);
        let rate = kernel.flops as f64 / ns;
        println!("{:8.1} us {:6.1} GFLOP/s {:5.1} %  {}", ns / 1e3, rate, 100.0 * rate / reference, kernel.name);
        total += ns * times as f64;
        flops += kernel.flops as f64 * times as f64;
    }
    if total == 0.0 {
        return;
    }
    reference = reference.max(peak());
    let share = 100.0 * flops / total / reference;
    println!("{title}: {:.2} ms, {share:.1} % of the {bits}-bit peak of {reference:.1} GFLOP/s\n", total / 1e6);
}

fn main() {
    let filters: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let pointwise = |own: bool| {
        let spec = |(pixels, channels, outputs, silu, times): &(usize, usize, usize, bool, usize)| {
            let then = (own && *silu).then_some(UnaryFn::Silu);
            (Conv::pointwise(*pixels, *channels, *outputs, Epilogue::new(then, false, false)).into(), *times)
        };
        POINTWISE.iter().map(spec).collect()
    };
    group("1x1, no activation", pointwise(false), &filters);
    group("1x1", pointwise(true), &filters);
    let dense = [
        (conv3x3(3, 32, 224, 2, Input::RowMajor), 1),
        (conv3x3(24, 24, 192, 1, Input::ChannelsLast), 2),
        (conv3x3(64, 256, 48, 2, Input::ChannelsLast), 1),
    ];
    group("3x3", dense.map(|(spec, times)| (spec.into(), times)).to_vec(), &filters);
    for silu in [false, true] {
        let kernels = DEPTHWISE.iter().map(|case| (depthwise(case, silu).into(), case.4)).collect();
        group(if silu { "depthwise, SiLU and row sums" } else { "depthwise" }, kernels, &filters);
    }
    let gemv = |(inputs, outputs): &(usize, usize)| {
        (Gemv { rows: 1, inputs: *inputs, outputs: *outputs, then: Some(UnaryFn::Sigmoid) }.into(), 1)
    };
    group("matrix-vector", GEMV.iter().map(gemv).collect(), &filters);
    let sliding = Sliding {
        batch: 1,
        channels: 64,
        input: [112; 2],
        output: [56; 2],
        kernel: [3; 2],
        strides: [2; 2],
        dilations: [1; 2],
        pads: [1; 2],
    };
    let rest: [Spec; 4] = [
        Mean { batch: 1, rows: 7, columns: 7, channels: 1280, count: 49 }.into(),
        Gate { batch: 1, pixels: 196, channels: 672 }.into(),
        kernels::Pool { sliding, kind: Kind::Max }.into(),
        Softmax { rows: 1, length: 1000, log: false }.into(),
    ];
    group("others", rest.into_iter().map(|spec| (spec, 1)).collect(), &filters);
}
