//! Awkward shapes against the definition, and the same bits for every schedule.

use super::*;
use crate::codegen::epilogue::EpilogueOp;
use crate::kernels::testing;
use fornax_ir::scalar::UnaryFn;

/// (batch, channels, input, kernel, strides, dilations, pads before and after)
type Case = (usize, usize, [usize; 2], [usize; 2], [usize; 2], [usize; 2], [usize; 2]);

const CASES: &[Case] = &[
    (1, 8, [7, 7], [3, 3], [1, 1], [1, 1], [1, 1]),
    (1, 32, [14, 14], [5, 5], [1, 1], [1, 1], [2, 2]),
    (1, 48, [15, 15], [5, 5], [2, 2], [1, 1], [2, 2]),
    (2, 3, [5, 9], [3, 3], [2, 2], [1, 1], [0, 1]),
    (1, 17, [1, 1], [3, 3], [1, 1], [1, 1], [1, 1]),
    (1, 1, [1, 1], [5, 5], [2, 2], [1, 1], [2, 2]),
    (3, 20, [13, 6], [3, 5], [1, 2], [2, 1], [1, 2]),
    (1, 5, [9, 11], [2, 2], [3, 4], [1, 1], [0, 0]),
    (1, 16, [30, 31], [3, 3], [1, 1], [1, 1], [1, 1]),
    (1, 4, [12, 40], [11, 11], [1, 1], [1, 1], [5, 5]),
    (1, 7, [4, 4], [1, 1], [1, 1], [1, 1], [0, 0]),
    (1, 20, [1, 60], [1, 31], [1, 1], [1, 1], [0, 0]),
    (2, 17, [31, 19], [13, 14], [2, 1], [1, 1], [0, 0]),
    (1, 5, [40, 40], [12, 3], [1, 2], [3, 2], [0, 0]),
];

fn spec((batch, channels, input, kernel, strides, dilations, pads): Case) -> Depthwise {
    let extent = |i: usize| (input[i] + 2 * pads[i] - dilations[i] * (kernel[i] - 1) - 1) / strides[i] + 1;
    let output = [extent(0), extent(1)];
    let (element, epilogue) = (DType::F32, Epilogue::default().then(EpilogueOp::Sum));
    let gaps = [0, 0];
    Depthwise {
        element,
        batch,
        channels,
        gaps,
        input,
        output,
        kernel,
        strides,
        dilations,
        pads,
        epilogue,
        transposed: false,
        finish: None,
    }
}

/// An activation and the sums of rows.
fn after(activation: UnaryFn) -> Epilogue {
    Epilogue::new(Some(activation), false, false).then(EpilogueOp::Sum)
}

/// From the result of a case to its operand.
fn transposed(case: Case) -> Depthwise {
    let spec = spec(case);
    Depthwise { input: spec.output, output: spec.input, epilogue: Epilogue::default(), transposed: true, ..spec }
}

/// Value and sum of magnitudes of every output of a transposed convolution, in f64.
fn spread_windows(s: &Depthwise, x: &[f32], w: &[f32], bias: &[f32]) -> (Vec<f64>, Vec<f64>) {
    let len = s.batch * s.output[0] * s.output[1] * s.channels;
    let mut values: Vec<f64> = (0..len).map(|at| f64::from(bias[at % s.channels])).collect();
    let mut sizes: Vec<f64> = values.iter().map(|value| value.abs()).collect();
    let taps = s.kernel[0] * s.kernel[1];
    for (at, tap) in (0..s.batch * s.input[0] * s.input[1] * s.channels).flat_map(|at| (0..taps).map(move |t| (at, t)))
    {
        let (c, rest) = (at % s.channels, at / s.channels);
        let (iw, ih, n) = (rest % s.input[1], rest / s.input[1] % s.input[0], rest / s.input[1] / s.input[0]);
        let oh = (ih * s.strides[0] + tap / s.kernel[1] * s.dilations[0]).wrapping_sub(s.pads[0]);
        let ow = (iw * s.strides[1] + tap % s.kernel[1] * s.dilations[1]).wrapping_sub(s.pads[1]);
        if oh < s.output[0] && ow < s.output[1] {
            let product = f64::from(x[at]) * f64::from(w[c * taps + tap]);
            let to = ((n * s.output[0] + oh) * s.output[1] + ow) * s.channels + c;
            values[to] += product;
            sizes[to] += product.abs();
        }
    }
    (values, sizes)
}

#[test]
fn transposed_windows_spread_each_input() {
    testing::report(CASES.iter().map(|case| {
        let s = transposed(*case);
        let taps = s.kernel[0] * s.kernel[1];
        let [x, packed, bias, zeros] = operands(&s);
        let (values, sizes) = spread_windows(&s, &x, &testing::values(2, s.channels * taps), &bias);
        let operands = [&x[..], &packed, &bias, &zeros];
        let found = testing::run(s.clone(), &operands);
        let unit = 2f64.powi(-24);
        let off = testing::mismatch(&s.name(), &found[0], &values, |i| (taps + 8) as f64 * unit * sizes[i]);
        let grain = s.strides[1];
        let differs = |(tile, block, lanes): (usize, usize, usize)| {
            let schedule = Schedule { tile: tile * grain, block };
            let other = testing::interpret(&s, &schedule, &operands, lanes) != found;
            other.then(|| format!("{}: {schedule}, {lanes} lanes", s.name()))
        };
        off.or_else(|| [(1, 16, 4), (3, 32, 8), (2, 48, 16), (13, 1024, 4)].into_iter().find_map(differs))
    }));
}

/// Value and sum of magnitudes of every output, in f64.
fn reference(s: &Depthwise, x: &[f32], w: &[f32], bias: &[f32]) -> (Vec<f64>, Vec<f64>) {
    let (mut values, mut sizes) = (Vec::new(), Vec::new());
    for at in 0..s.batch * s.output[0] * s.output[1] * s.channels {
        let (c, rest) = (at % s.channels, at / s.channels);
        let (ow, oh, n) = (rest % s.output[1], rest / s.output[1] % s.output[0], rest / s.output[1] / s.output[0]);
        let (mut value, mut size) = (f64::from(bias[c]), f64::from(bias[c]).abs());
        for tap in 0..s.kernel[0] * s.kernel[1] {
            let (kh, kw) = (tap / s.kernel[1], tap % s.kernel[1]);
            let ih = (oh * s.strides[0] + kh * s.dilations[0]).wrapping_sub(s.pads[0]);
            let iw = (ow * s.strides[1] + kw * s.dilations[1]).wrapping_sub(s.pads[1]);
            if ih < s.input[0] && iw < s.input[1] {
                let product = f64::from(x[((n * s.input[0] + ih) * s.input[1] + iw) * s.channels + c])
                    * f64::from(w[c * s.kernel[0] * s.kernel[1] + tap]);
                value += product;
                size += product.abs();
            }
        }
        values.push(value);
        sizes.push(size);
    }
    (values, sizes)
}

#[test]
fn agrees_with_the_definition_on_awkward_shapes() {
    testing::report(CASES.iter().map(|case| {
        let s = spec(*case);
        let taps = s.kernel[0] * s.kernel[1];
        let [x, packed, bias, zeros] = operands(&s);
        let w = testing::values(2, s.channels * taps);
        let (values, sizes) = reference(&s, &x, &w, &bias);
        let out = testing::run(s.clone(), &[&x, &packed, &bias, &zeros]);
        let unit = 2f64.powi(-24);
        let exact = testing::mismatch(&s.name(), &out[0], &values, |i| (taps + 8) as f64 * unit * sizes[i]);
        let (row, columns) = (s.channels, s.output[1]);
        let sum = |i: usize| (0..columns).fold(0f32, |sum, t| sum + out[0][(i / row * columns + t) * row + i % row]);
        let sums: Vec<f64> = (0..s.batch * s.output[0] * row).map(|i| f64::from(sum(i))).collect();
        exact.or(testing::mismatch(&s.name(), &out[1], &sums, |_| 0.0))
    }));
}

/// Seeded operands of a kernel.
fn operands(s: &Depthwise) -> [Vec<f32>; 4] {
    let x = testing::values(1, s.batch * s.input[0] * s.input[1] * s.channels);
    let weights = testing::packed(&s.weight_packing(), &testing::values(2, s.channels * s.kernel[0] * s.kernel[1]));
    let mut bias = testing::values(3, s.channels);
    bias.resize(s.tap_stride(), 0.0);
    [x, weights, bias, vec![0.0; s.input[1] * s.channels]]
}

#[test]
fn no_schedule_changes_a_bit() {
    testing::report(CASES.iter().map(|case| {
        let s = Depthwise { epilogue: after(UnaryFn::Silu), ..spec(*case) };
        let operands = operands(&s);
        let operands = [0, 1, 2, 3].map(|i| &operands[i][..]);
        let own = testing::run(s.clone(), &operands);
        let schedules = [(1, 16, 4), (5, 32, 8), (8, 48, 16), (13, 1024, 4)];
        let differs = |(tile, block, lanes): (usize, usize, usize)| {
            let found = testing::interpret(&s, &Schedule { tile, block }, &operands, lanes);
            (found != own).then(|| format!("{}: tile {tile}, block {block}, {lanes} lanes", s.name()))
        };
        schedules.into_iter().find_map(differs)
    }));
}

/// `pixels` of elements with a gap of other values after each but the last.
fn spread(values: &[f32], channels: usize, gap: usize, other: f32) -> Vec<f32> {
    let rows = values.chunks(channels).map(|pixel| [pixel, &vec![other; gap]].concat());
    let mut spread = rows.collect::<Vec<_>>().concat();
    spread.truncate(spread.len().saturating_sub(gap));
    spread
}

#[test]
fn parts_of_channels_are_read_and_written_in_place() {
    testing::report(CASES.iter().flat_map(|case| [[5, 0], [0, 7], [37, 16]].map(|gaps| (case, gaps))).map(
        |(case, gaps)| {
            let dense = Depthwise { epilogue: after(UnaryFn::Silu), ..spec(*case) };
            let s = Depthwise { gaps, ..dense.clone() };
            let [x, weights, bias, zeros] = operands(&dense);
            let expected = testing::run(dense.clone(), &[&x, &weights, &bias, &zeros]);
            // What lies between is never used, and what lies between results stays as it is.
            let x = spread(&x, s.channels, gaps[0], f32::NAN);
            let zeros = vec![0.0; s.sliding().row_len()];
            let (kept, results) = (f32::from_bits(u32::MAX), s.arguments()[4].access);
            let expected = [spread(&expected[0], s.channels, gaps[1], kept), expected[1].clone()];
            let operands = [&x[..], &weights, &bias, &zeros];
            let bits = |out: &[Vec<f32>]| out.iter().flatten().map(|v| v.to_bits()).collect::<Vec<u32>>();
            let found = testing::run(s.clone(), &operands);
            let interpreted = [4, 8, 16].map(|lanes| testing::run_interpreted(s.clone(), &operands, lanes));
            let all = interpreted.iter().chain([&found]).all(|found| bits(found) == bits(&expected));

            let whole = gaps[1] == 0 && results == Access::Write || gaps[1] > 0 && results == Access::Update;
            let same = s.bytes() == dense.bytes() && s.flops() == dense.flops() && whole;
            (!all || !same).then(|| format!("{}: other values than the dense map's", s.name()))
        },
    ));
}

#[test]
fn only_dense_maps_of_that_shape_become_parts() {
    let s = spec(CASES[2]);
    let part = |pixels, channels| ChannelPart { pixels, channels, gap: 16 };
    let spread = s.spread(0, &part(225, 48)).unwrap();
    assert_eq!((spread.gaps, spread.spread(0, &part(225, 48))), ([16, 0], None));
    assert_eq!(spread.spread(4, &part(64, 48)).map(|both| both.gaps), Some([16, 16]));
    assert_eq!(
        [s.spread(4, &part(225, 48)), s.spread(0, &part(225, 47)), s.spread(1, &part(225, 48))],
        [None, None, None]
    );
    assert_eq!(s.spread(0, &ChannelPart { gap: 1 << 40, ..part(225, 48) }), None);
}

/// Sums of `i32`, without epilogue: every bit.
#[test]
fn products_of_integers_are_exact() {
    testing::report(CASES.iter().flat_map(|case| [[0, 0], [5, 7]].map(|gaps| (case, gaps))).map(|(case, gaps)| {
        let s = Depthwise { element: DType::I16, gaps, epilogue: Epilogue::default(), ..spec(*case) };
        let taps = s.kernel[0] * s.kernel[1];
        let integers = |seed, count| {
            let values = testing::values(seed, count).into_iter();
            values.map(|v| (v * 32_768.0) as i16).collect::<Vec<_>>()
        };
        let (x, w) = (integers(1, s.sliding().input_len()), integers(2, s.channels * taps));
        let bias: Vec<i32> = integers(3, s.channels).into_iter().map(|v| i32::from(v) << 15).collect();
        let pitch = |map: usize| s.channels + s.gaps[map];
        let mut expected = vec![-1i32; s.sliding().output_len()];
        for at in 0..s.batch * s.output[0] * s.output[1] * s.channels {
            let (c, pixel) = (at % s.channels, at / s.channels);
            let (ow, oh, n) =
                (pixel % s.output[1], pixel / s.output[1] % s.output[0], pixel / s.output[1] / s.output[0]);
            let product = |tap: usize| {
                let ih = (oh * s.strides[0] + tap / s.kernel[1] * s.dilations[0]).wrapping_sub(s.pads[0]);
                let iw = (ow * s.strides[1] + tap % s.kernel[1] * s.dilations[1]).wrapping_sub(s.pads[1]);
                let inside = ih < s.input[0] && iw < s.input[1];
                let from = || ((n * s.input[0] + ih) * s.input[1] + iw) * pitch(0) + c;
                if inside { i32::from(x[from()]) * i32::from(w[c * taps + tap]) } else { 0 }
            };
            let sum = (0..taps).fold(bias[c], |sum, tap| sum.wrapping_add(product(tap)));
            expected[pixel * pitch(1) + c] = sum;
        }
        let narrow = |values: &[i16]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let wide = |values: &[i32]| values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
        let mut packed = vec![0; s.weight_len() * 2];
        s.weight_packing().pack(2, &narrow(&w), &mut packed);
        let mut padded = bias.clone();
        padded.resize(s.tap_stride(), 0);
        let inputs = [narrow(&x), packed, wide(&padded), vec![0; s.sliding().row_len() * 2]];
        match testing::run_exact(s.clone(), &inputs) {
            Ok(found) => (found[0] != wide(&expected)).then(|| format!("{}: other sums", s.name())),
            Err(text) => Some(text),
        }
    }));
}

#[test]
fn narrow_elements() {
    testing::report(CASES.iter().map(|case| {
        testing::narrow(|element| {
            let s = Depthwise { element, epilogue: after(UnaryFn::Relu), ..spec(*case) };
            let operands = operands(&s).into();
            (s, operands)
        })
    }));
}

#[test]
fn wide_windows_and_many_kinds_of_segments_are_declined() {
    let s = spec(CASES[0]);
    assert!(s.applies() && spec(CASES[9]).applies());
    assert!(!Depthwise { kernel: [12, 3], ..s.clone() }.applies());
    assert!(Depthwise { kernel: [12, 3], pads: [0, 0], input: [18, 9], ..s.clone() }.applies());
    assert!(!Depthwise { kernel: [12, 3], pads: [0, 0], input: [17, 9], ..s.clone() }.applies());
    assert!(!Depthwise { channels: 1 << 40, ..s.clone() }.applies());
    // The last tap of a channel lies 2 GiB after the first.
    let wide = |channels: usize| Depthwise { kernel: [9, 1], channels, input: [1, 1], output: [1, 1], ..s.clone() };
    assert!(wide(59_000_000).applies() && !wide(1 << 26).applies());
    // Every segment meets other taps.
    let (input, kernel, dilations) = ([9, 900], [11, 11], [1, 90]);
    assert!(!Depthwise { input, output: [9, 900], kernel, dilations, pads: [5, 450], ..s }.applies());
}

#[test]
fn code_stays_small() {
    let target = Target::host().expect("a supported host");
    let wide = |kernel: usize, extent: usize, channels: usize| {
        let case = (1, channels, [extent; 2], [kernel; 2], [1, 1], [1, 1], [kernel / 2; 2]);
        Depthwise { epilogue: after(UnaryFn::Silu), ..spec(case) }
    };
    testing::report([wide(11, 100, 72), wide(9, 56, 67), wide(7, 56, 67), wide(5, 13, 3)].into_iter().map(|s| {
        let kernel = crate::kernels::Kernel::new(s.clone(), &target);
        let code = crate::emit::compile(&[&kernel], &target).expect("code");
        let bytes = code[0].bytes.len();
        (!s.applies() || bytes > 40 << 10).then(|| format!("{}: {bytes} bytes", s.name()))
    }));
}
