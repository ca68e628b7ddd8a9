//! The bits of both kernels one after the other, whatever the schedule.

use super::{Ring, Schedule};
use crate::codegen::epilogue::{Epilogue, EpilogueOp};
use crate::kernels::conv::{self, Split};
use crate::kernels::depthwise::Depthwise;
use crate::kernels::{Family, sliding, testing};
use crate::target::Target;
use fornax_ir::scalar::UnaryFn;
use fornax_ir::types::DType;

/// Batch, inputs and channels, then height and width, kernel, strides, and padding before and after.
type Case = ([usize; 3], [[usize; 2]; 4]);

/// Block, bands, pixels and vectors of the expansion's tile, outputs of a segment and channels of its block.
type Shape = (usize, usize, [usize; 2], [usize; 2]);

const CASES: &[Case] = &[
    ([1, 8, 48], [[7, 7], [3, 3], [1, 1], [1, 1]]),
    ([1, 5, 96], [[9, 12], [5, 5], [2, 2], [2, 2]]),
    ([2, 3, 40], [[6, 5], [3, 3], [2, 2], [1, 1]]),
    ([1, 17, 72], [[11, 15], [3, 3], [2, 2], [0, 0]]),
    ([3, 4, 7], [[5, 9], [3, 5], [1, 2], [1, 2]]),
    ([1, 2, 24], [[1, 1], [5, 5], [1, 1], [2, 2]]),
    ([1, 6, 32], [[8, 30], [7, 3], [3, 1], [3, 1]]),
    ([2, 3, 16], [[4, 6], [1, 1], [1, 1], [0, 0]]),
];

fn spec(([batch, inputs, channels], [input, kernel, strides, pads]): Case) -> Ring {
    let output = [0, 1].map(|i| (input[i] + 2 * pads[i] - kernel[i]) / strides[i] + 1);
    let (element, activation, dilations) = (DType::F32, Some(UnaryFn::Silu), [1, 1]);
    let epilogue = Epilogue::new(activation, false, false);
    let epilogue = if batch != 3 { epilogue.then(EpilogueOp::Sum) } else { epilogue };
    let depthwise = Depthwise {
        element,
        batch,
        channels,
        gaps: [0, 0],
        input,
        output,
        kernel,
        strides,
        dilations,
        pads,
        epilogue,
        transposed: false,
        finish: None,
    };
    Ring { inputs, expand: Some(UnaryFn::Relu), depthwise }
}

/// Seeded operands of a kernel, in order.
fn operands(s: &Ring) -> Vec<Vec<f32>> {
    let d = &s.depthwise;
    let padded = |seed, to: usize| {
        let mut bias = testing::values(seed, d.channels);
        bias.resize(to, 0.0);
        bias
    };
    let weights = testing::packed(&s.expansion_of_all().weight_packing(), &testing::values(2, d.channels * s.inputs));
    let taps = testing::packed(&d.weight_packing(), &testing::values(4, d.channels * d.kernel[0] * d.kernel[1]));
    vec![
        testing::values(1, d.batch * d.input[0] * d.input[1] * s.inputs),
        weights,
        padded(3, conv::padded(d.channels)),
        taps,
        padded(5, d.tap_stride()),
        vec![0.0; d.input[1] * d.channels],
    ]
}

/// What the two kernels give.
fn apart(s: &Ring, operands: &[&[f32]]) -> Vec<Vec<f32>> {
    let map = testing::run(s.expansion_of_all(), &operands[..3]).remove(0);
    testing::run(s.depthwise.clone(), &[&map[..], operands[3], operands[4], operands[5]])
}

fn of_element(s: Ring, element: DType) -> Ring {
    Ring { depthwise: Depthwise { element, ..s.depthwise }, ..s }
}

#[test]
fn bits_are_those_of_both_kernels() {
    testing::report(
        CASES.iter().flat_map(|case| [DType::F32, DType::F16, DType::BF16].map(|dtype| (case, dtype))).map(
            |(case, element)| {
                let s = of_element(spec(*case), element);
                assert!(s.applies(), "{}", s.name());
                let operands = operands(&s);
                let operands: Vec<&[f32]> = operands.iter().map(Vec::as_slice).collect();
                let expected = apart(&s, &operands);
                if testing::run(s.clone(), &operands) != expected {
                    return Some(s.name());
                }
                let other = |lanes: &usize| testing::run_interpreted(s.clone(), &operands, *lanes) != expected;
                [4, 8, 16].into_iter().find(other).map(|lanes| format!("{}: {lanes} lanes", s.name()))
            },
        ),
    );
}

#[test]
fn no_schedule_changes_a_bit() {
    testing::report(CASES.iter().map(|case| {
        let s = spec(*case);
        let operands = operands(&s);
        let operands: Vec<&[f32]> = operands.iter().map(Vec::as_slice).collect();
        let expected = apart(&s, &operands);
        let schedules = [(16, 1, [3, 1], [4, 16]), (32, 3, [5, 2], [2, 16]), (48, 2, [4, 3], [7, 32])];
        let all = schedules.into_iter().flat_map(|schedule| [4, 8, 16].map(|lanes| (schedule, lanes)));
        let differs = |((block, bands, tile_of_expansion, segment), lanes): (Shape, usize)| {
            let ([pixels, vectors], [tile, within]) = (tile_of_expansion, segment);
            let rest = s.depthwise.channels % block;
            let block =
                if block > s.depthwise.channels || (1..=8).contains(&rest) { s.depthwise.channels } else { block };
            let expand = conv::Schedule { pixels, vectors, unroll: 2, split: Split::Tiles, chunks: 1, tiles: 0 };
            let schedule = Schedule { block, bands, expand, rows: sliding::Schedule { tile, block: within } };
            let found = testing::interpret(&s, &schedule, &operands, lanes);
            (found != expected).then(|| format!("{}: {schedule:?}, {lanes} lanes", s.name()))
        };
        all.into_iter().find_map(differs)
    }));
}

#[test]
fn windows_with_gaps_are_declined() {
    let s = spec(CASES[0]);
    let with = |change: fn(&mut Depthwise)| {
        let mut s = s.clone();
        change(&mut s.depthwise);
        s.applies()
    };
    assert!(with(|_| ()));
    assert!(!with(|d| d.dilations = [2, 1]));
    assert!(!with(|d| d.strides = [4, 1]));
}

/// A block of EfficientNet: side, inputs, channels, kernel, stride.
fn block([side, inputs, channels, kernel, stride]: [usize; 5]) -> Ring {
    spec(([1, inputs, channels], [[side; 2], [kernel; 2], [stride; 2], [kernel / 2; 2]]))
}

#[test]
fn rings_stay_in_cache_and_divide_the_work() {
    let blocks =
        [[112, 16, 96, 3, 2], [150, 24, 144, 3, 2], [75, 32, 192, 5, 2], [38, 160, 960, 5, 1], [304, 32, 192, 3, 2]];
    for s in blocks.map(block) {
        for mut target in Target::all() {
            for l2 in [1 << 20, 2 << 20] {
                target.l2 = l2;
                let schedule = s.schedule(&target);
                let (chunks, scratch) = (s.chunks(&schedule), s.scratch(&schedule));
                assert!(scratch <= l2 / 4, "{} for {target}: {scratch} bytes, {schedule:?}", s.name());
                assert!((4..=32).contains(&chunks), "{} for {target}: {chunks} chunks, {schedule:?}", s.name());
                // A band is many times as high as the rows that it shares with the next.
                assert!(schedule.bands * 4 <= s.depthwise.output[0], "{} for {target}: {schedule:?}", s.name());
            }
        }
    }
}

#[test]
fn code_stays_small() {
    let target = Target::host().expect("a supported host");
    testing::report([[112, 16, 96, 3, 2], [75, 32, 192, 5, 2], [41, 12, 72, 5, 1]].map(block).into_iter().map(|s| {
        let kernel = crate::kernels::Kernel::new(s, &target);
        let bytes = crate::emit::compile(&[&kernel], &target).expect("code")[0].bytes.len();
        (bytes > 64 << 10).then(|| format!("{}: {bytes} bytes", kernel.name))
    }));
}

#[test]
fn a_ring_gains_where_traffic_outweighs_the_rows_that_bands_share() {
    let gain = |[inputs, channels, extent, k]: [usize; 4]| {
        let depthwise = Depthwise {
            element: DType::F32,
            batch: 1,
            channels,
            gaps: [0, 0],
            input: [extent; 2],
            output: [extent; 2],
            kernel: [k; 2],
            strides: [1; 2],
            dilations: [1; 2],
            pads: [k / 2; 2],
            epilogue: Epilogue::new(Some(UnaryFn::Silu), false, false).then(EpilogueOp::Sum),
            transposed: false,
            finish: None,
        };
        Ring { inputs, expand: Some(UnaryFn::Silu), depthwise }.gain(&"x86-64-v4".parse().unwrap())
    };
    let (few, many, high) = (gain([24, 144, 56, 3]), gain([224, 1344, 38, 3]), gain([24, 144, 56, 7]));
    assert!(few > 1.1 && many < few && high < few, "{few} {many} {high}");
    assert!(gain([224, 1344, 38, 5]) < 0.96);
}
