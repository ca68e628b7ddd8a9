//! The same bits from every instruction set, thread count and chunking, and the bits that are committed here.
//!
//! A hash below was computed once, on a machine with AVX-512; every machine that has FMA must find it again, so that one without
//! AVX-512 checks that level too. Levels that this machine cannot run are named on standard error.

mod support;

use std::path::Path;

use fornax::{Bindings, Model, Options, Precision, SessionOptions, Target, Tensor, tensors};
use support::efficientnet::{Exporter, Padding, b0};
use xxhash_rust::xxh3::xxh3_64;

/// The demo's logits for its sample input.
const SIGNS: u64 = 0xab2d_b797_f317_60f0;
/// Logits of EfficientNet-B0 with seeded weights, for a seeded image of 64 by 64.
const B0: u64 = 0x3dd5_61fd_d255_2188;
/// The same two in bf16.
const SIGNS_BF16: u64 = 0x7409_6522_f2e7_f5dd;
const B0_BF16: u64 = 0x4a71_e086_6b6c_2b2d;

/// Targets with FMA that this machine runs; the others are named.
fn targets() -> Vec<Target> {
    for target in Target::all().filter(|target| target.fma() && !target.runs_here()) {
        eprintln!("NOT RUN: {target} ({}): this machine cannot", target.level.about);
    }
    let with_fma: Vec<Target> = Target::runnable().into_iter().filter(Target::fma).collect();
    if with_fma.is_empty() {
        eprintln!("NOT RUN: no target with FMA runs here, so no bits are compared");
    }
    with_fma
}

/// Holds every target and thread count to `expected`.
fn check(name: &str, precision: Precision, open: impl Fn(&Options) -> Model, input: &Tensor, expected: u64) {
    let mut wrong = Vec::new();
    for target in targets() {
        let model = open(&Options { target: Some(target.clone()), precision, ..Options::default() });
        for threads in [1, 2, 3] {
            let options = SessionOptions { threads, pin: false, bindings: Bindings::default() };
            let outputs = model.session(&options).unwrap().run(&[input]).unwrap();
            let hash = xxh3_64(outputs[0].bytes());
            if hash != expected {
                wrong.push(format!("{name} in {precision} for {target} on {threads} threads: {hash:#018x}"));
            }
        }
    }
    assert!(wrong.is_empty(), "expected {expected:#018x}\n{}", wrong.join("\n"));
}

fn load(path: &Path) -> Tensor {
    tensors::load(path).unwrap().remove(0).tensor
}

#[test]
fn the_demo_has_the_committed_bits() {
    let examples = support::examples();
    let open = |options: &Options| Model::open_with(examples.join("signs.onnx"), options).unwrap();
    let input = load(&examples.join("signs.input.npy"));
    check("signs", Precision::F32, open, &input, SIGNS);
    check("signs", Precision::Bf16, open, &input, SIGNS_BF16);
}

#[test]
fn efficientnet_b0_has_the_committed_bits() {
    let bytes = b0(Exporter::TorchScript, Padding::Symmetric, 64, 10);
    let open = |options: &Options| Model::from_bytes(bytes.clone(), options).unwrap();
    let pixels = fornax_ir::types::random_values(7, 3 * 64 * 64);
    let image = Tensor::from_f32([1, 3, 64, 64], &pixels).unwrap();
    check("b0", Precision::F32, open, &image, B0);
    check("b0", Precision::Bf16, open, &image, B0_BF16);
}
