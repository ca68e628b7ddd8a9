//! A ring of rows against an expansion and a depthwise convolution by themselves: `cargo bench --bench rings`.
//!
//! For layers of EfficientNets, on every level of this machine and one thread: microseconds of both ways, best of many alternating runs,
//! and how many times as fast the ring is, predicted by the cost model (that of the nominal machine, by which `lower/ring.rs` decides)
//! and measured. Both ways give the same bits.

mod support;

use std::time::Instant;

use fornax_compiler::internals::{Conv, Depthwise, Epilogue, EpilogueOp, Ring};
use fornax_compiler::{Kernel, Target};
use fornax_ir::scalar::UnaryFn;
use fornax_ir::types::DType;

/// Inputs, channels, extent, window, stride.
const LAYERS: &[[usize; 5]] = &[
    [16, 96, 112, 3, 2],
    [24, 144, 56, 3, 1],
    [24, 144, 56, 5, 2],
    [32, 192, 75, 3, 1],
    [32, 192, 75, 5, 2],
    [48, 288, 38, 5, 1],
    [48, 288, 38, 3, 2],
    [48, 288, 150, 3, 1],
    [64, 256, 48, 3, 2],
    [80, 480, 75, 5, 1],
    [80, 480, 38, 3, 1],
    [96, 576, 32, 3, 1],
    [112, 672, 30, 5, 1],
    [128, 512, 24, 3, 1],
    [128, 768, 24, 3, 1],
    [160, 960, 24, 3, 1],
    [160, 960, 24, 3, 2],
    [160, 960, 38, 5, 1],
    [224, 1344, 38, 5, 1],
];
/// Runs of a kernel; the best counts.
const RUNS: usize = 40;

fn main() {
    for target in Target::runnable() {
        println!("{target}\n  two, us   ring, us  predicted  measured  layer");
        for [inputs, channels, extent, k, s] in LAYERS {
            let depthwise = Depthwise {
                element: DType::F32,
                batch: 1,
                channels: *channels,
                gaps: [0; 2],
                input: [*extent; 2],
                output: [extent.div_ceil(*s); 2],
                kernel: [*k; 2],
                strides: [*s; 2],
                dilations: [1; 2],
                pads: [(k - 1) / 2; 2],
                epilogue: Epilogue::new(Some(UnaryFn::Silu), false, false).then(EpilogueOp::Sum),
                transposed: false,
                finish: None,
            };
            let ring = Ring { inputs: *inputs, expand: Some(UnaryFn::Silu), depthwise: depthwise.clone() };
            let expansion: Conv = ring.expansion_of_all();
            let kernels =
                [Kernel::new(ring.clone(), &target), Kernel::new(expansion, &target), Kernel::new(depthwise, &target)];
            let [one, expand, filter] = best(&kernels, &target);
            let (two, predicted) = (expand + filter, ring.gain(&target));
            println!(
                "{two:9.1} {one:10.1} {predicted:10.2} {:9.2}  i{inputs} c{channels} h{extent} k{k} s{s}",
                two / one
            );
        }
    }
}

/// The best microseconds of each kernel, which take turns.
fn best(kernels: &[Kernel; 3], target: &Target) -> [f64; 3] {
    let mut sessions = kernels.each_ref().map(|kernel| support::session(kernel, target));
    let mut best = [f64::INFINITY; 3];
    for _ in 0..RUNS {
        for ((session, inputs), best) in sessions.iter_mut().zip(&mut best) {
            let inputs: Vec<_> = inputs.iter().collect();
            let mut outputs = session.outputs().expect("memory");
            // The outputs have pages of their own after the first run.
            session.run(&inputs, &mut outputs).expect("a run");
            let begun = Instant::now();
            session.run(&inputs, &mut outputs).expect("a run");
            *best = best.min(begun.elapsed().as_secs_f64() * 1e6);
        }
    }
    best
}
