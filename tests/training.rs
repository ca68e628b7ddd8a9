//! Training in native code against golden values of PyTorch in `f64`, and against the evaluator; and by itself: bits, states, what is learnt.
//!
//! The golden files are large and lie in `FORNAX_SHARED`; of their many cases a few run by default, all with `FORNAX_TRAINING=full`.

#[path = "training/alone.rs"]
mod alone;
#[path = "training/example.rs"]
mod example;
#[path = "training/golden.rs"]
mod golden;
#[path = "training/gradients.rs"]
mod gradients;
#[path = "training/imported.rs"]
mod imported;
#[path = "training/mirrored.rs"]
mod mirrored;
#[path = "training/networks.rs"]
mod networks;
#[path = "training/optimisers.rs"]
mod optimisers;
#[path = "training/parts.rs"]
mod parts;
#[path = "training/probe.rs"]
mod probe;
#[path = "training/runs.rs"]
mod runs;
#[path = "training/statistics.rs"]
mod statistics;
mod support;

/// Whether every case is to run.
fn full() -> bool {
    std::env::var_os("FORNAX_TRAINING").is_some_and(|value| value == "full")
}

/// A line on standard error.
fn say(line: &str) {
    eprintln!("{line}");
}
