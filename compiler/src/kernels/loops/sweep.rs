//! Functions of one element over their arguments, on every machine that runs here: error, range, order, parity and NaN.
//!
//! In the tests the arguments are 2^24 patterns of bits, one of each 256 neighbours, and numbers that stand for a kind. With
//! `FORNAX_SWEEP=all` they are all 2^32, with `FORNAX_SWEEP=tanh` those of one function (by its mnemonic):
//! `FORNAX_SWEEP=tanh cargo test --release -p fornax-compiler --lib sweep -- --nocapture` says what it found.

use super::Loops;
use super::nest::{Affine, Inst, LoopNest, Output};
use crate::codegen::math::error_bound;
use crate::kernels::testing;
use fornax_ir::scalar::UnaryFn::{self, *};
use fornax_ir::types::DType;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Patterns that a kernel computes at once.
const BLOCK: usize = 1 << 18;
/// Every pattern.
const ALL: u64 = 1 << 32;

/// What holds of a function beside its error and that a NaN gives a NaN.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    /// Nothing.
    Any,
    /// A larger argument gives no smaller result.
    Rising,
    /// Rising, and `f(-x) = -f(x)`.
    RisingOdd,
    /// `f(-x) = -f(x)`
    Odd,
    /// `f(-x) = f(x)`
    Even,
    /// A NaN gives 0, since no comparison holds; else rising.
    Compared,
}
use Kind::{Any, Compared, Even, Odd, Rising, RisingOdd};

const INF: f32 = f32::INFINITY;

/// The functions, what holds of each, and the range of its results.
const FUNCTIONS: &[(UnaryFn, Kind, [f32; 2])] = &[
    (Relu, Rising, [0.0, INF]),
    (Clip(-1.0, 6.0), Rising, [-1.0, 6.0]),
    (Sigmoid, Rising, [0.0, 1.0]),
    (HardSigmoid(0.2, 0.5), Rising, [0.0, 1.0]),
    (HardSwish, Any, [-0.375001, INF]),
    (Silu, Any, [-0.278_465, INF]),
    (Swish(1.702), Any, [-0.164, INF]),
    (Swish(-0.5), Any, [-INF, 0.557]),
    (Swish(0.001), Any, [-278.5, INF]),
    (Swish(3e38), Any, [-1e-38, INF]),
    (Swish(-1e-40), Any, [-INF, INF]),
    (Swish(0.0), Any, [-INF, INF]),
    (Tanh, RisingOdd, [-1.0, 1.0]),
    (Elu(1.0), Rising, [-1.0, INF]),
    (LeakyRelu(0.01), Rising, [-INF, INF]),
    (Selu(1.673_263_2, 1.050_701), Rising, [-1.758_1, INF]),
    (Celu(2.0), Rising, [-2.0, INF]),
    (Celu(-1.5), Rising, [-INF, INF]),
    (ThresholdedRelu(1.0), Compared, [0.0, INF]),
    (Gelu, Any, [-0.169_972, INF]),
    (GeluTanh, Any, [-0.170_042, INF]),
    (Mish, Any, [-0.308_85, INF]),
    (Softplus, Rising, [0.0, INF]),
    (Softsign, RisingOdd, [-1.0, 1.0]),
    (Neg, Odd, [-INF, INF]),
    (Abs, Even, [0.0, INF]),
    (Exp, Rising, [0.0, INF]),
    (Log, Rising, [-INF, INF]),
    (Sqrt, Rising, [0.0, INF]),
    (Reciprocal, Odd, [-INF, INF]),
    (Floor, Rising, [-INF, INF]),
    (Ceil, Rising, [-INF, INF]),
    (Round, RisingOdd, [-INF, INF]),
    (Sign, RisingOdd, [-1.0, 1.0]),
    (Erf, RisingOdd, [-1.0, 1.0]),
    (Sin, Odd, [-1.0, 1.0]),
    (Cos, Even, [-1.0, 1.0]),
];

/// The pattern at a place of the order of numbers: NaN, -infinity, ..., -0, 0, ..., infinity, NaN.
fn ordered(place: u64) -> f32 {
    let place = place as u32;
    f32::from_bits(if place < 1 << 31 { !place } else { place - (1 << 31) })
}

/// A number below 256 that differs from pattern to pattern, so that low bits of all kinds occur.
fn scattered(i: u64) -> u64 {
    i.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56
}

/// A kernel that applies `f` to `count` elements.
fn kernel(f: UnaryFn, count: usize) -> Loops {
    let output = Output { dtype: DType::F32, elements: count, at: Affine::new(0, [1]) };
    let mut nest = LoopNest::map(&[count], output, vec![Inst::Load(0), Inst::Unary(f, 0)]);
    nest.input("x", DType::F32, count, Affine::new(0, [1]));
    Loops::new("sweep", nest)
}

/// The function by the kernels of every level, which agree on each bit.
fn computed(f: UnaryFn, xs: &[f32]) -> Vec<f32> {
    testing::run(kernel(f, xs.len()), &[xs]).swap_remove(0)
}

/// What a sweep has seen of a function: its worst error in shares of the bound, and faults of each kind with an example.
#[derive(Default)]
struct Sweep {
    worst: (f64, f32),
    faults: Vec<(&'static str, u64, String)>,
}

impl Sweep {
    fn fault(&mut self, what: &'static str, example: impl FnOnce() -> String) {
        match self.faults.iter_mut().find(|fault| fault.0 == what) {
            Some(fault) => fault.1 += 1,
            None => self.faults.push((what, 1, example())),
        }
    }

    fn value(&mut self, f: UnaryFn, kind: Kind, range: [f32; 2], x: f32, y: f32) {
        let says = || format!("{f:?} of {x:e} ({:#010X}) is {y:e}", x.to_bits());
        if x.is_nan() {
            if if kind == Compared { y != 0.0 } else { !y.is_nan() } {
                self.fault("a NaN", says);
            }
            return;
        }
        let exact = f.eval(f64::from(x));
        let rounded = exact as f32;
        if y.is_nan() || rounded.is_nan() {
            if y.is_nan() != rounded.is_nan() {
                self.fault("NaN or not", || format!("{}, not {exact:e}", says()));
            }
            return;
        }
        if y < range[0] || y > range[1] {
            self.fault("range", says);
        }
        if y == rounded {
            return;
        }
        // Results that round to a subnormal number or to infinity have steps of their own.
        let slack = f64::from(f32::MIN_POSITIVE) * 2f64.powi(-23);
        let share = (f64::from(y) - exact).abs() / (error_bound(f, exact) + slack);
        if share > self.worst.0 {
            self.worst = (share, x);
        }
        if share > 1.0 {
            self.fault("error", || format!("{}, not {exact:e}", says()));
        }
    }

    fn block(&mut self, f: UnaryFn, kind: Kind, range: [f32; 2], xs: &[f32], before: &mut f32) {
        let ys = computed(f, xs);
        for (x, y) in xs.iter().zip(&ys) {
            self.value(f, kind, range, *x, *y);
            if y.is_nan() {
                continue;
            }
            if matches!(kind, Rising | RisingOdd | Compared) && !x.is_nan() && *y < *before {
                self.fault("a step back", || format!("{f:?} of {x:e} is {y:e} after {:e}", *before));
            }
            *before = *y;
        }
        if matches!(kind, Odd | RisingOdd | Even) {
            let mirrored: Vec<f32> = xs.iter().map(|x| -x).collect();
            for ((x, y), mirror) in xs.iter().zip(&ys).zip(computed(f, &mirrored)) {
                let image = if kind == Even { mirror } else { -mirror };
                if image.to_bits() != y.to_bits() && !(y.is_nan() && mirror.is_nan()) {
                    self.fault("parity", || format!("{f:?} of {x:e} is {y:e}, of its negative {mirror:e}"));
                }
            }
        }
    }
}

fn sweep(f: UnaryFn, kind: Kind, range: [f32; 2], every: bool) -> Sweep {
    let (mut sweep, mut before) = (Sweep::default(), f32::NEG_INFINITY);
    let count = if every { ALL } else { ALL / 256 };
    for first in (0..count).step_by(BLOCK) {
        let pattern = |i: u64| ordered(if every { i } else { i * 256 + scattered(i) });
        let xs: Vec<f32> = (first..first + BLOCK as u64).map(pattern).collect();
        sweep.block(f, kind, range, &xs, &mut before);
    }
    let (least, most) = (f32::MIN_POSITIVE, f32::MAX);
    let xs = [-INF, -most, -1.0, -least, -1e-45, -0.0, 0.0, 1e-45, least, 1.0, most, INF];
    sweep.block(f, kind, range, &xs, &mut f32::NEG_INFINITY.clone());
    sweep
}

#[test]
fn functions_keep_what_is_stated_of_them() {
    let chosen = std::env::var("FORNAX_SWEEP").ok();
    let wanted = |f: UnaryFn| chosen.as_ref().is_none_or(|name| name == "all" || name == f.spelling().0);
    let functions: Vec<_> = FUNCTIONS.iter().filter(|row| wanted(row.0)).collect();
    let (next, reports) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                while let Some((f, kind, range)) = functions.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let found = sweep(*f, *kind, *range, chosen.is_some());
                    let (ulps, floor) = f.error();
                    println!("{f:?}: {:.3} of {ulps} ulp of {floor:e}, at {:e}", found.worst.0 * ulps, found.worst.1);
                    let lines = found.faults.iter().map(|(what, count, example)| format!("{what}, {count}: {example}"));
                    reports.lock().unwrap().extend(lines);
                }
            });
        }
    });
    let reports = reports.into_inner().unwrap();
    assert!(reports.is_empty(), "{}", reports.join("\n"));
}

#[test]
fn no_number_of_lanes_changes_a_bit() {
    let canonical = |y: f32| if y.is_nan() { f32::NAN.to_bits() } else { y.to_bits() };
    let xs: Vec<f32> = (0..4099).map(|i| ordered(i * (ALL / 4099) + scattered(i))).collect();
    testing::report(FUNCTIONS.iter().map(|(f, ..)| {
        let expected = computed(*f, &xs);
        let kernel = kernel(*f, xs.len());
        [4, 8, 16].into_iter().find_map(|lanes| {
            let found = testing::interpret(&kernel, &kernel.nest().split(), &[&xs], lanes).swap_remove(0);
            let differs = (0..xs.len()).find(|i| canonical(found[*i]) != canonical(expected[*i]))?;
            let (x, y) = (xs[differs], found[differs]);
            Some(format!("{f:?} of {x:e} with {lanes} lanes is {y:e}, not {:e}", expected[differs]))
        })
    }));
}
