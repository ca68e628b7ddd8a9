//! Graphs built from architectures: against golden activations, against ONNX imports, and their weights from files and seeds.

mod golden;
mod graphs;
mod relatives;
mod support;
mod training;
mod weights;

use fornax_scaling::architecture::{Architecture, Padding};
use fornax_scaling::build::{BuildOptions, Outputs};
use fornax_scaling::weights::StateDict;
use support::{Family, scaled, shared};

const GOLDEN: &str = "reference/golden_small";
const TOLERANCE: f64 = 1e-4;

fn small(family: Family, padding: Padding, eps: f64) -> Architecture {
    scaled(family, (0.25, 0.35), 10, padding, eps)
}

fn open(path: &str) -> Option<StateDict> {
    Some(StateDict::open(&shared(path)?, u64::MAX).expect("a state dict"))
}

fn options(batch: usize, side: usize, outputs: Outputs) -> BuildOptions {
    BuildOptions { batch, side: (side, side), outputs }
}
