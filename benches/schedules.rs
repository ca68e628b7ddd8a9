//! Sweeps the tiles of 1x1 convolutions and prints what it would change: `cargo bench --bench schedules -- [part of a name]`.
//!
//! For each layer of EfficientNet-B0 every tile that fits the registers runs on one thread, best of many runs; a line is printed
//! where one beats the schedule's choice by more than [`WORTH`]. No schedule changes a bit, so what it finds may simply be moved
//! into `kernels/conv/schedule.rs`.

mod support;

use std::time::Instant;

use fornax_compiler::internals::{Conv, ConvSchedule, Epilogue, Family, Schedule};
use fornax_compiler::{Kernel, Target};
use fornax_ir::scalar::UnaryFn;
use fornax_runtime::Tensor;

/// Pixels, channels, filters, activation.
const LAYERS: &[(usize, usize, usize, bool)] = &[
    (12544, 32, 16, false),
    (12544, 16, 96, true),
    (3136, 96, 24, false),
    (3136, 24, 144, true),
    (784, 144, 40, false),
    (784, 40, 240, true),
    (196, 240, 80, false),
    (196, 80, 480, true),
    (196, 480, 112, false),
    (196, 112, 672, true),
    (49, 672, 192, false),
    (49, 192, 1152, true),
    (49, 1152, 320, false),
    (49, 320, 1280, true),
];
/// Runs of a tile; the best counts.
const RUNS: usize = 60;
/// Gain from which on a tile is worth a line.
const WORTH: f64 = 1.04;

fn main() {
    let target = Target::host().expect("a supported host");
    let pattern = std::env::args().skip(1).find(|word| !word.starts_with('-')).unwrap_or_default();
    println!(
        "{target}: chosen tile (pixels x vectors), microseconds; the best of the others where it gains over {WORTH}"
    );
    for (pixels, channels, filters, silu) in LAYERS {
        let activation = silu.then_some(UnaryFn::Silu);
        let spec = Conv::pointwise(*pixels, *channels, *filters, Epilogue::new(activation, false, false));
        if spec.name().contains(&pattern) {
            sweep(&spec, &target);
        }
    }
}

fn sweep(spec: &Conv, target: &Target) {
    let chosen = spec.schedule(target);
    let own = microseconds(&kernel(spec, target, &chosen), target);
    let most = target.vector_registers() - 1;
    let mut best = (own, chosen.clone());
    for vectors in 1..=6 {
        for pixels in 1..=(most.saturating_sub(vectors) / vectors).min(28) {
            let schedule = ConvSchedule { pixels, vectors, ..chosen.clone() };
            if pixels * vectors >= 6 && spec.chunks(&schedule) > 0 {
                let time = microseconds(&kernel(spec, target, &schedule), target);
                if time < best.0 {
                    best = (time, schedule);
                }
            }
        }
    }
    let gain = own / best.0;
    print!("{:<64} {}x{} {own:8.1}", spec.name(), chosen.pixels, chosen.vectors);
    if gain > WORTH {
        println!("   {}x{} {:8.1}  ({gain:.2})", best.1.pixels, best.1.vectors, best.0)
    } else {
        println!()
    }
}

fn kernel(spec: &Conv, target: &Target, schedule: &ConvSchedule) -> Kernel {
    let kernel = Kernel::new(spec.clone(), target);
    Kernel { chunks: spec.chunks(schedule), schedule: Schedule::Conv(schedule.clone()), ..kernel }
}

/// Best time of a kernel on one thread.
fn microseconds(kernel: &Kernel, target: &Target) -> f64 {
    let (mut session, inputs) = support::session(kernel, target);
    let inputs: Vec<&Tensor> = inputs.iter().collect();
    let mut outputs = session.outputs().expect("memory");
    let time = |_| {
        let begun = Instant::now();
        session.run(&inputs, &mut outputs).expect("a run");
        begun.elapsed().as_secs_f64() * 1e6
    };
    (0..RUNS).map(time).fold(f64::INFINITY, f64::min)
}
