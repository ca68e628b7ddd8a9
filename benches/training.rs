//! Where the time of a training step goes: `cargo bench --bench training -- [model] [threads] [batch] [images] [scope] [norms]`
//!
//! The model (a preset, spec or ONNX file; EfficientNet-B0 by default) is trained by AdamW in runs of `images` images (1 by default): all of
//! it or what `scope` says (`head`, `top:N`), its batch norms `fixed` or, where `norms` is `train`, over the batch, which is one run then. For every kind of kernel: calls, milliseconds an image, share of the FMA peak that this process measures; then
//! the time of an image's gradients, of an update, and of a step of `batch` images (16 by default) from its first run, which packs the
//! weights anew, to the end of the update.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fornax::runtime::peak_gflops;
use fornax::train::recipe::{Norms, Recipe};
use fornax::train::scope::Scope;
use fornax::train::step::{Rates, Step};
use fornax::{Bindings, Model, Tensor};

fn main() {
    let given: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let word = |at: usize, default: &str| given.get(at).cloned().unwrap_or_else(|| default.into());
    let (name, threads, batch) = (word(0, "efficientnet-b0"), word(1, "1"), word(2, "16"));
    let (threads, batch): (usize, usize) = (threads.parse().expect("threads"), batch.parse().expect("a batch"));
    let model = Model::open(&name).expect("a model");
    let scope: Scope = word(4, "all").parse().expect("a scope");
    let norms: Norms = word(5, "fixed").parse().expect("fixed or train");
    let images = if norms == Norms::Trained { batch } else { word(3, "1").parse().expect("images") };
    let mut bindings = Bindings::default();
    let input = &model.inputs()[0];
    let plain = model.graph(&bindings).expect("a graph");
    let mut shape = plain.ty(plain.inputs()[0]).shape.to_vec();
    shape[0] = images;
    bindings.shapes.insert(input.name.clone(), shape);
    let recipe = Recipe { scope, norms, weight_decay: 0.01, ..Recipe::default() };
    let begun = Instant::now();
    let mut step = recipe.step(&model, &bindings, threads).expect("a step");
    println!("{name}: compiled in {:.0} ms; arena {} bytes", ms(begun.elapsed()), step.program().arena_bytes());
    if std::env::args().any(|word| word == "--times") {
        step.times().iter().for_each(|(stage, time)| println!("{:9.1} ms  {stage}", ms(time)));
    }
    let inputs: Vec<Tensor> = step
        .inputs()
        .iter()
        .enumerate()
        .map(|(at, port)| {
            let values: Vec<f32> =
                (0..port.shape.numel()).map(|i| ((i * 7919 + at) % 1000) as f32 / 1000.0 - 0.5).collect();
            Tensor::from_f32(port.shape.clone(), &values).expect("memory")
        })
        .collect();
    let inputs: Vec<&Tensor> = inputs.iter().collect();
    kinds(&mut step, &inputs, threads);
    totals(&mut step, &inputs, batch);
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Time an image by the first word of a kernel's name, of the fastest of several runs of each step.
fn kinds(step: &mut Step, inputs: &[&Tensor], threads: usize) {
    let program = Arc::clone(step.program());
    let mut best = vec![u64::MAX; program.steps().len()];
    let mut times = vec![0; best.len()];
    for _ in 0..15 {
        step.gradients_profiled(inputs, &mut times).expect("a run");
        best.iter_mut().zip(&times).skip(program.prologue()).for_each(|(best, time)| *best = (*best).min(*time));
    }
    let gflops = peak_gflops();
    let mut found: HashMap<String, (usize, f64, u64, u64)> = HashMap::new();
    for (at, kernel) in program.steps().iter().enumerate().skip(program.prologue()) {
        let entry = found.entry(kind(&kernel.name)).or_default();
        let time = best[at] as f64 / 1e6 / step.images() as f64;
        let (flops, bytes) = (kernel.flops / step.images() as u64, kernel.bytes / step.images() as u64);
        *entry = (entry.0 + 1, entry.1 + time, entry.2 + flops, entry.3 + bytes);
        if std::env::args().any(|word| word == "--steps") {
            println!(
                "{:8.1} us {:6.1} GF/s  {}  ; {}",
                best[at] as f64 / 1e3,
                kernel.flops as f64 / best[at] as f64,
                kernel.name,
                kernel.node
            );
        }
    }
    let mut rows: Vec<_> = found.into_iter().collect();
    rows.sort_by(|(_, a), (_, b)| b.1.total_cmp(&a.1));
    println!("{:>5} {:>9} {:>6} {:>7}  kind", "calls", "ms", "peak", "GB/s");
    for (kind, (calls, time, flops, bytes)) in rows {
        let share = flops as f64 / time / 1e6 / (gflops * threads as f64);
        println!("{calls:5} {time:9.3} {:5.0} % {:7.1}  {kind}", 100.0 * share, bytes as f64 / time / 1e6);
    }
}

/// The family of a kernel: what its name begins with, and for convolutions whether they are of one tap.
fn kind(name: &str) -> String {
    let mut words = name.split('_').skip(1);
    let first = words.next().unwrap_or_default();
    match name {
        _ if name.contains("weight_gradient") => name.split("_n").next().unwrap_or(name).into(),
        _ if first == "conv" => {
            format!("conv {}", if name.contains("k1x1") || !name.contains("_k") { "1x1" } else { "dense" })
        }
        _ => first.into(),
    }
}

/// Medians of an image's gradients, of an update, and of steps as a whole.
fn totals(step: &mut Step, inputs: &[&Tensor], batch: usize) {
    let median = |mut times: Vec<Duration>| {
        times.sort();
        ms(times[times.len() / 2])
    };
    let (mut gradients, mut updates, mut steps) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..5 {
        let first = Instant::now();
        for _ in 0..batch.div_ceil(step.images()) {
            let begun = Instant::now();
            step.gradients(inputs).expect("a run");
            gradients.push(begun.elapsed() / step.images() as u32);
        }
        let begun = Instant::now();
        step.update(&Rates::new(1e-6, round + 1)).expect("an update");
        updates.push(begun.elapsed());
        steps.push(first.elapsed());
    }
    let (image, update, whole) = (median(gradients), median(updates), median(steps));
    println!("{image:.2} ms an image, {update:.2} ms an update, {whole:.1} ms a step of {batch}");
}
