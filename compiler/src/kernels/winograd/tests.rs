//! Awkward shapes against the reference evaluator, the size of the error, and the same bits for every lane count and schedule.

use super::{Schedule, Tile, Winograd, padded};
use crate::codegen::epilogue::Epilogue;
use crate::codegen::math::error_bound;
use crate::kernels::testing::{interpret, mismatch, narrow, packed, report, run, run_interpreted, values};
use crate::kernels::{Family, Kernel};
use crate::target::Target;
use fornax_ir::ops::literal::Literal;
use fornax_ir::ops::{self, OneResult, Op};
use fornax_ir::scalar::UnaryFn;
use fornax_ir::types::DType;

/// Batch, channels, filters; then input extent, padding before and after, by axis.
type Case = ([usize; 3], [[usize; 3]; 2]);

const CASES: &[Case] = &[
    ([1, 16, 16], [[1, 1, 1], [1, 1, 1]]),
    ([1, 16, 24], [[5, 1, 1], [7, 1, 1]]),
    ([2, 19, 33], [[6, 1, 1], [9, 1, 1]]),
    ([1, 40, 17], [[3, 0, 0], [4, 0, 0]]),
    ([1, 24, 40], [[10, 0, 0], [14, 0, 0]]),
    ([3, 17, 16], [[8, 0, 1], [5, 2, 0]]),
    ([1, 16, 48], [[2, 5, 4], [3, 0, 6]]),
    ([1, 1, 1], [[13, 1, 1], [12, 1, 1]]),
    ([1, 3, 70], [[4, 1, 1], [4, 1, 1]]),
];
const TILES: [Tile; 2] = [Tile::Two, Tile::Four];

fn spec(([batch, channels, filters], axes): Case, tile: Tile, epilogue: Epilogue) -> Winograd {
    let input = axes.map(|[input, ..]| input);
    let output = axes.map(|[input, begin, end]| input + begin + end - 2);
    let (element, begin) = (DType::F32, axes.map(|[_, begin, _]| begin));
    Winograd { element, batch, channels, filters, input, output, begin, tile, epilogue }
}

/// `[n, c, pixels]` as `[n, pixels, c]`.
fn channels_last<T: Copy>(n: usize, c: usize, values: &[T]) -> Vec<T> {
    let pixels = values.len() / (n * c).max(1);
    let at = |i: usize, p: usize, k: usize| values[(i * c + k) * pixels + p];
    (0..n).flat_map(|i| (0..pixels).flat_map(move |p| (0..c).map(move |k| at(i, p, k)))).collect()
}

/// The kernel's arguments, what it should give, and the largest magnitude of each element's tile, channel-last.
struct Problem {
    inputs: Vec<Vec<f32>>,
    expected: Vec<f64>,
    sizes: Vec<f64>,
}

fn problem(case: &Case, spec: &Winograd, activation: Option<UnaryFn>, residual: Option<bool>) -> Problem {
    let ([n, channels, filters], axes) = *case;
    let ([h, w], [oh, ow]) = (spec.input, spec.output);
    let x = values(1, n * channels * h * w);
    let weights = values(2, filters * channels * 9);
    let (bias, added) = (values(3, filters), values(4, n * filters * oh * ow));
    let op = ops::Conv {
        pads: [axes.map(|axis| axis[1]), axes.map(|axis| axis[2])].concat(),
        bias: true,
        residual: residual.is_some(),
        activation,
        activation_first: residual == Some(true),
        ..ops::Conv::default()
    };
    let mut operands = vec![
        Literal::from_f32([n, channels, h, w], &x),
        Literal::from_f32([filters, channels, 3, 3], &weights),
        Literal::from_f32([filters], &bias),
    ];
    operands.extend(residual.map(|_| Literal::from_f32([n, filters, oh, ow], &added)));
    let operands: Vec<&Literal> = operands.iter().collect();
    let exact = op.evaluate(&operands).unwrap().to_f64();
    let op: Op = op.into();
    let own = op.magnitude(&operands).unwrap().to_f64();
    let (packed, mut packed_bias) = (packed(&spec.weight_packing(), &weights), bias);
    assert_eq!(packed.len(), spec.weight_len());
    packed_bias.resize(padded(filters), 0.0);
    let mut inputs = vec![channels_last(n, channels, &x), packed, packed_bias];
    inputs.extend(residual.map(|_| channels_last(n, filters, &added)));
    let (expected, sizes) = (channels_last(n, filters, &exact), of_tiles(spec, &channels_last(n, filters, &own)));
    Problem { inputs, expected, sizes }
}

/// For each element of a channel-last output the largest element of its tile.
fn of_tiles(spec: &Winograd, sizes: &[f64]) -> Vec<f64> {
    let (m, [height, width], filters) = (spec.tile.outputs(), spec.output, spec.filters);
    let largest = |i: usize| {
        let (pixel, filter) = (i / filters, i % filters);
        let (image, row, column) = (pixel / (height * width), pixel / width % height / m * m, pixel % width / m * m);
        let rows = row..(row + m).min(height);
        let columns = move || column..(column + m).min(width);
        let at = |r: usize, c: usize| sizes[((image * height + r) * width + c) * filters + filter];
        rows.flat_map(|r| columns().map(move |c| (r, c))).fold(0.0, |most: f64, (r, c)| most.max(at(r, c)))
    };
    (0..sizes.len()).map(largest).collect()
}

fn check(case: &Case, tile: Tile, activation: Option<UnaryFn>, residual: Option<bool>) -> Option<String> {
    let spec = spec(*case, tile, Epilogue::new(activation, residual.is_some(), residual == Some(true)));
    let problem = problem(case, &spec, activation, residual);
    let inputs: Vec<&[f32]> = problem.inputs.iter().map(Vec::as_slice).collect();
    let found = run(spec.clone(), &inputs);
    for lanes in [4, 8, 16] {
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        if bits(&run_interpreted(spec.clone(), &inputs, lanes)[0]) != bits(&found[0]) {
            return Some(format!("{}: other bits with {lanes} lanes", spec.name()));
        }
    }
    mismatch(&spec.name(), &found[0], &problem.expected, |i| {
        let activation = activation.map_or(0.0, |f| error_bound(f, problem.expected[i]));
        problem.sizes[i] * tile.error() * 2f64.powi(-24) + activation
    })
}

fn all(activation: Option<UnaryFn>, residual: Option<bool>) {
    let cases = CASES.iter().flat_map(|case| TILES.map(|tile| (case, tile)));
    report(cases.map(|(case, tile)| check(case, tile, activation, residual)));
}

#[test]
fn narrow_elements() {
    report(CASES.iter().flat_map(|case| TILES.map(|tile| (case, tile))).map(|(case, tile)| {
        let spec = spec(*case, tile, Epilogue::new(Some(UnaryFn::Relu), true, false));
        let operands = problem(case, &spec, None, Some(false)).inputs;
        narrow(|element| (Winograd { element, ..spec.clone() }, operands.clone()))
    }));
}

#[test]
fn every_shape_agrees_with_the_reference() {
    all(None, None);
}

#[test]
fn epilogues_apply_in_order() {
    all(Some(UnaryFn::Silu), None);
    all(Some(UnaryFn::Relu), Some(false));
    all(Some(UnaryFn::Silu), Some(true));
}

/// The constants of [`Tile::error`] leave half as much again, for channels from few to many.
#[test]
fn the_error_stays_within_its_constant() {
    for tile in TILES {
        let mut worst = 0f64;
        for (channels, extent) in [(16, 40), (64, 24), (128, 20), (512, 8)] {
            let case = ([1, channels, 32], [[extent, 1, 1], [extent, 1, 1]]);
            let spec = spec(case, tile, Epilogue::default());
            let problem = problem(&case, &spec, None, None);
            let inputs: Vec<&[f32]> = problem.inputs.iter().map(Vec::as_slice).collect();
            let found = run(spec, &inputs).remove(0);
            let of = |i: usize| (f64::from(found[i]) - problem.expected[i]).abs() / problem.sizes[i] * 2f64.powi(24);
            let most = (0..found.len()).map(of).fold(0.0, f64::max);
            println!("{tile:?} {channels} channels: {most:.2}");
            worst = worst.max(most);
        }
        assert!(worst * 1.5 < tile.error(), "{tile:?}: {worst}");
    }
}

#[test]
fn no_schedule_changes_a_bit() {
    let case = ([2, 21, 70], [[9, 1, 1], [11, 1, 0]]);
    for tile in TILES {
        let spec = spec(case, tile, Epilogue::new(Some(UnaryFn::Relu), false, false));
        let inputs = problem(&case, &spec, Some(UnaryFn::Relu), None).inputs;
        let inputs: Vec<&[f32]> = inputs.iter().map(Vec::as_slice).collect();
        let expected = run(spec.clone(), &inputs);
        for (tiles, vectors, unroll, panels, groups, strips) in [
            (1, 1, 1, 1, 1, 1),
            (14, 2, 4, 2, 1, 2),
            (5, 2, 8, 1, 2, 5),
            (6, 3, 2, 3, 3, 1),
            (100, 4, 4, 4, 1, 1),
            (7, 2, 4, 1, 100, 2),
        ] {
            let schedule = Schedule { tiles, vectors, unroll, panels, groups, strips };
            for lanes in [4, 8, 16] {
                let found = interpret(&spec, &schedule, &inputs, lanes);
                assert_eq!(found, expected, "{schedule:?} with {lanes} lanes");
            }
        }
    }
}

#[test]
fn a_single_tap_moves_the_map() {
    // All weights but the last tap's are 0: the output is the input, moved up and to the left. With 2x2 all of it is exact; with 4x4
    // the products of other taps cancel within rounding.
    let case = ([1, 16, 16], [[6, 0, 2], [6, 0, 2]]);
    for tile in TILES {
        let spec = spec(case, tile, Epilogue::default());
        let weights: Vec<f32> = (0..16 * 16 * 9).map(|i| f32::from(i % 9 == 8 && i / 9 / 16 == i / 9 % 16)).collect();
        let packed = packed(&spec.weight_packing(), &weights);
        let x: Vec<f32> = values(1, 6 * 6 * 16).iter().map(|v| (v * 8.0).round()).collect();
        let found = run(spec, &[&x, &packed, &[0.0; 16]]).remove(0);
        let moved = |i: usize| match (i / 16 / 6 + 2, i / 16 % 6 + 2) {
            (row, column) if row < 6 && column < 6 => x[(row * 6 + column) * 16 + i % 16],
            _ => 0.0,
        };
        for (i, value) in found.iter().enumerate() {
            let off = if tile == Tile::Two { 0.0 } else { 1e-4 };
            assert!((value - moved(i)).abs() <= off, "{tile:?} {i}: {value} instead of {}", moved(i));
        }
    }
}

#[test]
fn every_target_has_code_of_bounded_size_and_scratch() {
    let layers = [(56, 64, 64), (28, 128, 128), (14, 256, 256), (7, 512, 512), (192, 24, 24), (48, 64, 256)];
    for ((extent, channels, filters), tile) in layers.into_iter().flat_map(|layer| TILES.map(|tile| (layer, tile))) {
        let case = ([1, channels, filters], [[extent, 1, 1], [extent, 1, 1]]);
        let spec = spec(case, tile, Epilogue::new(Some(UnaryFn::Silu), true, false));
        for target in Target::all() {
            let kernel = Kernel::new(spec.clone(), &target);
            let code = crate::emit::compile(&[&kernel], &target).unwrap();
            assert!(code[0].bytes.len() < 40 << 10, "{} for {target}: {} bytes", kernel.name, code[0].bytes.len());
            assert!(kernel.scratch < 5 << 18, "{} for {target}: scratch of {} bytes", kernel.name, kernel.scratch);
            assert!(kernel.chunks > 1, "{} for {target}: {:?}", kernel.name, kernel.schedule);
        }
    }
}
