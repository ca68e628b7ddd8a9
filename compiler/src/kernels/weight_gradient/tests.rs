//! Awkward shapes against the definition, and the same bits for every schedule and lane count.

use super::schedule::{Lanes, Sweep};
use super::*;
use crate::kernels::testing::{interpret, mismatch, narrow, report, run, values};

/// Batch, channels, filters, then input, kernel, stride, dilation, begin and end padding by axis.
type Case = ([usize; 3], [[usize; 6]; 2]);

const fn plain(extent: usize) -> [usize; 6] {
    [extent, 1, 1, 1, 0, 0]
}

const CASES: &[Case] = &[
    ([1, 1, 1], [plain(1), plain(1)]),
    ([1, 16, 24], [plain(7), plain(7)]),
    ([2, 17, 3], [plain(3), plain(5)]),
    ([1, 24, 37], [plain(1), plain(700)]),
    ([2, 33, 40], [plain(1), plain(530)]),
    ([2, 5, 18], [[9, 1, 2, 1, 0, 0], [7, 1, 3, 1, 0, 0]]),
    ([1, 8, 20], [[6, 3, 1, 1, 1, 1], [6, 3, 1, 1, 1, 1]]),
    ([2, 3, 32], [[23, 3, 2, 1, 0, 1], [24, 3, 2, 1, 0, 1]]),
    ([1, 6, 9], [[40, 3, 1, 1, 1, 1], [24, 3, 1, 1, 1, 1]]),
    ([1, 3, 9], [[5, 5, 1, 1, 4, 3], [2, 5, 1, 1, 3, 4]]),
    ([1, 2, 5], [[12, 3, 1, 3, 3, 3], [13, 3, 1, 2, 2, 2]]),
    ([1, 3, 5], [[9, 2, 3, 1, 0, 0], [9, 2, 3, 2, 0, 0]]),
    ([1, 2, 3], [[1, 3, 1, 1, 1, 1], [530, 3, 1, 1, 1, 1]]),
    ([0, 20, 3], [[4, 3, 1, 1, 1, 1], [3, 3, 1, 1, 1, 1]]),
];

fn spec(([batch, channels, filters], axes): Case, input: Input, sum: bool) -> WeightGradient {
    let [rows, columns] = axes.map(|[input, kernel, stride, dilation, begin, end]| {
        let output = (input + begin + end - dilation * (kernel - 1) - 1) / stride + 1;
        Axis { input, output, kernel, stride, dilation, begin }
    });
    let (element, gate) = (DType::F32, false);
    let spec = WeightGradient { element, batch, channels, filters, rows, columns, input, gate, sum };
    spec.flattened()
}

/// The operands: `x`, `dy`, then factors and the earlier sum if there are such.
fn operands(s: &WeightGradient) -> Vec<Vec<f32>> {
    let x = values(1, s.batch * s.channels * s.rows.input * s.columns.input);
    let dy = values(2, s.batch * s.filters * s.rows.output * s.columns.output);
    let gate = s.gate.then(|| values(4, s.batch * s.channels));
    [x, dy].into_iter().chain(gate).chain(s.sum.then(|| values(3, s.weights()))).collect()
}

/// The weights by the definition: blocks by blocks, and pixel by pixel, fused as said.
fn expected(s: &WeightGradient, operands: &[Vec<f32>]) -> Vec<f32> {
    let (r, c, [height, width]) = (&s.rows, &s.columns, s.block());
    let earlier = operands.get(2 + usize::from(s.gate));
    let mut y = earlier.cloned().unwrap_or_else(|| vec![0.0; s.weights()]);
    let x = |n: usize, row: usize, column: usize, channel: usize| match s.input {
        Input::ChannelsLast => operands[0][((n * r.input + row) * c.input + column) * s.channels + channel],
        Input::RowMajor => operands[0][((n * s.channels + channel) * r.input + row) * c.input + column],
    };
    let inside = |axis: &Axis, at: usize, tap: usize| {
        (at * axis.stride + tap * axis.dilation).checked_sub(axis.begin).filter(|at| *at < axis.input)
    };
    let blocks = (0..s.batch).flat_map(|n| {
        let rows = (0..r.output).step_by(height);
        rows.flat_map(move |row| (0..c.output).step_by(width).map(move |column| (n, row, column)))
    });
    for (n, top, left) in blocks {
        for (at, y) in y.iter_mut().enumerate() {
            let (channel, rest) = (at % s.channels, at / s.channels);
            let (kc, kr, m) = (rest % c.kernel, rest / c.kernel % r.kernel, rest / c.kernel / r.kernel);
            let mut sum = 0f32;
            for row in top..r.output.min(top + height) {
                for column in left..c.output.min(left + width) {
                    if let (Some(h), Some(w)) = (inside(r, row, kr), inside(c, column, kc)) {
                        let dy = operands[1][((n * r.output + row) * c.output + column) * s.filters + m];
                        sum = dy.mul_add(x(n, h, w, channel), sum);
                    }
                }
            }
            *y += if s.gate { sum * operands[2][n * s.channels + channel] } else { sum };
        }
    }
    y
}

fn check(s: &WeightGradient) -> Option<String> {
    let operands = operands(s);
    let slices: Vec<&[f32]> = operands.iter().map(Vec::as_slice).collect();
    let exact: Vec<f64> = expected(s, &operands).into_iter().map(f64::from).collect();
    let found = run(s.clone(), &slices);
    let off = mismatch(&s.name(), &found[0], &exact, |_| 0.0);
    let kinds =
        [(Lanes::Channels, 1, 3, 2), (Lanes::Channels, 2, 7, 1), (Lanes::Filters, 1, 18, 1), (Lanes::Filters, 3, 2, 3)];
    let kinds = kinds.into_iter().flat_map(|kind| [Sweep::Vectors, Sweep::Elements].map(|sweep| (kind, sweep)));
    let differs = |((lanes, vectors, elements, units), sweep): ((Lanes, usize, usize, usize), Sweep)| {
        let schedule = |side| Schedule { lanes, side, vectors, elements, sweep, units };
        let usable = s.input == Input::ChannelsLast || lanes == Lanes::Filters;
        let other = |side: &usize| usable && interpret(s, &schedule(*side), &slices, *side) != found;
        [4, 8, 16].into_iter().find(other).map(|side| format!("{}: {}", s.name(), schedule(side)))
    };
    off.or_else(|| kinds.into_iter().find_map(differs))
}

#[test]
fn pixels_are_summed_as_said_by_every_schedule() {
    report(CASES.iter().flat_map(|case| [false, true].map(|sum| check(&spec(*case, Input::ChannelsLast, sum)))));
    let gated = |case: &Case, sum| WeightGradient { gate: true, ..spec(*case, Input::ChannelsLast, sum) };
    report(CASES.iter().flat_map(|case| [false, true].map(|sum| check(&gated(case, sum)))));
    report(CASES.iter().filter(|(extents, _)| extents[1] <= 3).map(|case| check(&spec(*case, Input::RowMajor, true))));
}

/// Images one by one, each added to the sum of those before it, give the bits of all together.
#[test]
fn images_in_one_run_or_in_several_give_the_same_bits() {
    report(CASES.iter().filter(|(extents, _)| extents[0] == 2).map(|case| {
        let whole = spec(*case, Input::ChannelsLast, false);
        let operands = operands(&whole);
        let expected = run(whole.clone(), &[&operands[0], &operands[1]]);
        let [x, dy] = [0, 1].map(|i| operands[i].split_at(operands[i].len() / 2));
        let one = WeightGradient { batch: 1, ..whole.clone() };
        let first = run(one.clone(), &[x.0, dy.0]);
        let both = run(WeightGradient { sum: true, ..one }, &[x.1, dy.1, &first[0]]);
        (both != expected).then(|| whole.name())
    }));
}

#[test]
fn narrow_elements_agree() {
    report(CASES.iter().map(|case| {
        narrow(|element| {
            let s = WeightGradient { element, ..spec(*case, Input::ChannelsLast, true) };
            let operands = operands(&s);
            (s, operands)
        })
    }));
}

#[test]
fn every_target_has_code_of_bounded_size() {
    for (case, target) in CASES.iter().flat_map(|case| Target::all().map(move |target| (case, target))) {
        let kernel = crate::kernels::Kernel::new(spec(*case, Input::ChannelsLast, true), &target);
        let code = crate::emit::compile(&[&kernel], &target).expect("code");
        assert!(code[0].bytes.len() < 40 << 10, "{} for {target}: {} bytes", kernel.name, code[0].bytes.len());
    }
}
