//! Awkward shapes against the reference evaluator, and the same bits for every lane count.

use super::{Axis, Conv, Input, Schedule, Split, padded, runs};
use crate::codegen::epilogue::Epilogue;
use crate::codegen::math::error_bound;
use crate::kernels::Family;
use crate::kernels::testing::{self, interpret, mismatch, report, run, run_interpreted, run_on, values};
use crate::target::{Arch, Target};
use fornax_ir::ops::literal::Literal;
use fornax_ir::ops::{self, OneResult, Op};
use fornax_ir::scalar::UnaryFn;
use fornax_ir::types::{DType, TensorType};

/// Batch, groups, channels and filters of a group, then input, kernel, stride, dilation, begin and end padding by axis.
type Case = ([usize; 4], [[usize; 6]; 2]);

const fn plain(extent: usize) -> [usize; 6] {
    [extent, 1, 1, 1, 0, 0]
}

const CASES: &[Case] = &[
    ([1, 1, 1, 1], [plain(1), plain(1)]),
    ([1, 1, 16, 24], [plain(7), plain(7)]),
    ([2, 1, 17, 3], [plain(3), plain(5)]),
    ([1, 1, 40, 33], [plain(1), plain(301)]),
    ([3, 1, 5, 16], [plain(10), plain(10)]),
    ([1, 1, 7, 20], [[9, 1, 2, 1, 0, 0], [7, 1, 3, 1, 0, 0]]),
    ([1, 1, 4, 8], [[6, 3, 1, 1, 1, 1], [6, 3, 1, 1, 1, 1]]),
    ([2, 1, 6, 12], [[23, 3, 1, 1, 1, 1], [24, 3, 1, 1, 1, 1]]),
    ([1, 1, 3, 18], [[11, 3, 2, 1, 0, 1], [31, 3, 2, 1, 0, 1]]),
    ([1, 1, 3, 9], [[5, 5, 1, 1, 4, 3], [2, 5, 1, 1, 3, 4]]),
    ([1, 1, 2, 5], [[12, 3, 1, 3, 3, 3], [13, 3, 1, 2, 2, 2]]),
    ([1, 1, 3, 5], [[9, 2, 3, 1, 0, 0], [9, 2, 3, 2, 0, 0]]),
    ([1, 2, 4, 6], [[5, 3, 1, 1, 1, 1], [8, 3, 1, 1, 1, 1]]),
    ([2, 3, 2, 20], [plain(4), plain(5)]),
    ([1, 2, 7, 12], [plain(9), plain(11)]),
    ([1, 1, 2, 3], [[1, 3, 1, 1, 1, 1], [1, 3, 1, 1, 1, 1]]),
    ([1, 1, 3, 4], [[2, 2, 2, 1, 3, 3], [3, 2, 2, 1, 3, 3]]),
    ([1, 1, 3, 18], [plain(1), [50, 20, 1, 1, 0, 0]]),
    ([1, 2, 3, 5], [[5, 2, 1, 1, 1, 0], [60, 17, 2, 3, 0, 0]]),
];

/// Lanes and registers of wide vectors.
const WIDE: [(usize, usize); 2] = [(8, 16), (16, 32)];

fn bits(v: &[f32]) -> Vec<u32> {
    v.iter().map(|x| x.to_bits()).collect()
}

fn axis([input, kernel, stride, dilation, begin, end]: [usize; 6]) -> Axis {
    let output = (input + begin + end - dilation * (kernel - 1) - 1) / stride + 1;
    Axis { input, output, kernel, stride, dilation, begin }
}

fn spec(([batch, groups, channels, filters], [rows, columns]): Case, epilogue: Epilogue) -> Conv {
    let (rows, columns) = (axis(rows), axis(columns));
    let input = Input::ChannelsLast;
    Conv { batch, groups, rows, columns, input, ..Conv::pointwise(1, channels, filters, epilogue) }
}

/// `[n, c, pixels]` as `[n, pixels, c]`.
fn channels_last(n: usize, c: usize, values: &[f32]) -> Vec<f32> {
    let pixels = values.len() / (n * c).max(1);
    let at = |i: usize, p: usize, k: usize| values[(i * c + k) * pixels + p];
    (0..n).flat_map(|i| (0..pixels).flat_map(move |p| (0..c).map(move |k| at(i, p, k)))).collect()
}

/// The kernel's arguments and what it should give, with the bound, in channel-last order.
struct Problem {
    inputs: Vec<Vec<f32>>,
    expected: Vec<f64>,
    bounds: Vec<f64>,
}

fn problem(case: &Case, spec: &Conv, activation: Option<UnaryFn>, residual: bool) -> Problem {
    let ([n, groups, channels, filters], axes) = *case;
    let (all_in, all_out) = (groups * channels, groups * filters);
    let shape = |c: usize, f: fn(&Axis) -> usize| [n, c, f(&spec.rows), f(&spec.columns)];
    let (x_shape, y_shape) = (shape(all_in, |a| a.input), shape(all_out, |a| a.output));
    let stored = |seed, count| testing::rounded(spec.element, &values(seed, count));
    let x = stored(1, x_shape.iter().product());
    let weights = stored(2, all_out * channels * axes[0][1] * axes[1][1]);
    let (bias, added) = (values(3, all_out), stored(4, y_shape.iter().product()));
    let pair = |i: usize| vec![axes[0][i], axes[1][i]];
    let op = ops::Conv {
        strides: pair(2),
        dilations: pair(3),
        pads: [pair(4), pair(5)].concat(),
        group: groups,
        bias: true,
        residual,
        activation,
        activation_first: false,
    };
    let mut operands = vec![
        Literal::from_f32(x_shape, &x),
        Literal::from_f32([all_out, channels, axes[0][1], axes[1][1]], &weights),
        Literal::from_f32([all_out], &bias),
    ];
    operands.extend(residual.then(|| Literal::from_f32(y_shape, &added)));
    let operands: Vec<&Literal> = operands.iter().collect();
    let types: Vec<_> = operands.iter().map(|o| &o.ty).collect();
    let exact = op.evaluate(&operands).unwrap().to_f64();
    let op: Op = op.into();
    let per_sum = (op.terms(&types).unwrap() + 8) as f64 * 2f64.powi(-24);
    let sizes = op.magnitude(&operands).unwrap().to_f64();
    let bounds =
        sizes.iter().zip(&exact).map(|(size, y)| size * per_sum + activation.map_or(0.0, |f| error_bound(f, *y)));
    let last = |v: &[f64]| {
        let order = channels_last(n, all_out, &(0..v.len()).map(|i| i as f32).collect::<Vec<_>>());
        order.iter().map(|i| v[*i as usize]).collect::<Vec<f64>>()
    };
    let packed = testing::packed(&spec.weight_packing(), &weights);
    let packed_bias = testing::packed(&spec.bias_packing(), &bias);
    let x = if spec.input == Input::RowMajor { x } else { channels_last(n, all_in, &x) };
    let mut inputs = vec![x, packed, packed_bias];
    inputs.extend(residual.then(|| channels_last(n, all_out, &added)));
    Problem { inputs, expected: last(&exact), bounds: last(&bounds.collect::<Vec<_>>()) }
}

/// Compares one case with the reference; `None` if it agrees.
fn check(case: &Case, activation: Option<UnaryFn>, residual: bool, input: Input) -> Option<String> {
    let spec = Conv { input, ..spec(*case, Epilogue::new(activation, residual, false)) }.flattened();
    let problem = problem(case, &spec_of_image(case, &spec), activation, residual);
    let inputs: Vec<&[f32]> = problem.inputs.iter().map(Vec::as_slice).collect();
    let found = run(spec.clone(), &inputs);
    for lanes in [4, 8, 16] {
        if bits(&run_interpreted(spec.clone(), &inputs, lanes)[0]) != bits(&found[0]) {
            return Some(format!("{}: other bits with {lanes} lanes", spec.name()));
        }
    }
    for (lanes, registers) in WIDE {
        let schedule = spec.plan_wide(lanes, registers);
        if bits(&interpret(&spec, &schedule, &inputs, lanes)[0]) != bits(&found[0]) {
            return Some(format!("{}: other bits with {lanes} lanes and {schedule:?}", spec.name()));
        }
    }
    mismatch(&spec.name(), &found[0], &problem.expected, |i| problem.bounds[i])
}

/// The same convolution with the axes of the case, which a flattened one has lost.
fn spec_of_image(case: &Case, flat: &Conv) -> Conv {
    Conv { input: flat.input, ..spec(*case, flat.epilogue.clone()) }
}

#[test]
fn every_shape_agrees_with_the_reference() {
    report(CASES.iter().map(|case| check(case, None, false, Input::ChannelsLast)));
}

#[test]
fn epilogues_apply_in_order() {
    report(CASES.iter().map(|case| check(case, Some(UnaryFn::Silu), false, Input::ChannelsLast)));
    report(CASES.iter().map(|case| check(case, None, true, Input::ChannelsLast)));
    report(CASES.iter().map(|case| check(case, Some(UnaryFn::Relu), true, Input::ChannelsLast)));
}

#[test]
fn network_inputs_are_read_as_they_are() {
    report(CASES.iter().map(|case| check(case, Some(UnaryFn::Clip(0.0, 6.0)), false, Input::RowMajor)));
}

/// Also where the input is in the order of network inputs, and where images have weights of their own.
#[test]
fn narrow_elements() {
    let orders = [Input::ChannelsLast, Input::RowMajor];
    report(CASES.iter().flat_map(|case| orders.map(|input| (case, input))).map(|(case, input)| {
        let single = Conv { input, ..spec(*case, Epilogue::new(Some(UnaryFn::Relu), true, false)) };
        let operands = problem(case, &single, None, true).inputs;
        let single = single.flattened();
        testing::narrow(|element| (Conv { element, ..single.clone() }, operands.clone()))
    }));
    let each = Conv::pointwise(18, 17, 40, Epilogue::default()).per_image(2);
    let operands = [18 * 17, 2 * each.weight_len(), padded(40)].map(|n| values(n as u64, n)).to_vec();
    report([testing::narrow(|element| (Conv { element, ..each.clone() }, operands.clone()))].into_iter());
}

/// From rounded operands the result is within half a place of the elements of what the evaluator computes from the same.
#[test]
fn narrow_elements_agree_with_the_reference() {
    for (element, place) in [(DType::F16, 2f64.powi(-11)), (DType::BF16, 2f64.powi(-8))] {
        report(CASES.iter().map(|case| {
            let spec = Conv { element, ..spec(*case, Epilogue::default()) };
            let problem = problem(case, &spec, None, false);
            let inputs: Vec<&[f32]> = problem.inputs.iter().map(Vec::as_slice).collect();
            let found = run(spec.clone(), &inputs);
            // Subnormal elements are 2^-24 apart.
            let bound = |i: usize| problem.bounds[i] + (place * problem.expected[i].abs()).max(2f64.powi(-25));
            mismatch(&spec.name(), &found[0], &problem.expected, bound)
        }));
    }
}

/// Says which of `schedules` gives other bits than the machine, on any lane count.
fn changes(case: &Case, spec: &Conv, activation: Option<UnaryFn>, schedules: &[Schedule]) -> Option<String> {
    let problem = problem(case, &spec_of_image(case, spec), activation, spec.epilogue.residual());
    let inputs: Vec<&[f32]> = problem.inputs.iter().map(Vec::as_slice).collect();
    let expected = bits(&run(spec.clone(), &inputs)[0]);
    let all = schedules.iter().flat_map(|schedule| [4, 8, 16].map(|lanes| (schedule, lanes)));
    let differs =
        |(schedule, lanes): &(&Schedule, usize)| bits(&interpret(spec, schedule, &inputs, *lanes)[0]) != expected;
    all.into_iter().find(differs).map(|found| format!("{}: {found:?}", spec.name()))
}

#[test]
fn schedules_change_no_bit() {
    let case = ([2, 1, 9, 40], [[12, 3, 1, 1, 1, 1], [13, 3, 1, 1, 1, 1]]);
    let activation = Some(UnaryFn::Silu);
    let spec = spec(case, Epilogue::new(activation, false, false));
    let shapes = [
        (1, 1, Split::Rows),
        (3, 4, Split::Strips),
        (6, 2, Split::Rows),
        (4, 3, Split::Strips),
        (14, 2, Split::Strips),
        (5, 5, Split::Rows),
    ];
    let schedules = shapes.iter().flat_map(|(pixels, vectors, split)| {
        let schedule =
            |unroll| Schedule { pixels: *pixels, vectors: *vectors, split: *split, unroll, chunks: 2, tiles: 0 };
        [1, 2, 8].map(schedule)
    });
    report([changes(&case, &spec, activation, &schedules.collect::<Vec<_>>())].into_iter());
}

/// Strips that end in the midst of a panel or of a vector, over several panels, in few and many chunks.
#[test]
fn strips_change_no_bit() {
    let activation = Some(UnaryFn::Relu);
    report([1, 5, 12, 17, 24, 40, 100].into_iter().flat_map(|filters| {
        let flat = ([1, 1, 7, filters], [plain(1), plain(11)]);
        let image = ([2, 1, 3, filters], [[4, 3, 2, 1, 1, 1], [9, 3, 1, 1, 1, 1]]);
        let groups = ([1, 3, 2, filters], [[3, 2, 1, 1, 1, 0], [5, 1, 1, 1, 0, 0]]);
        let flat_groups = ([1, 3, 5, filters], [plain(1), plain(13)]);
        let cases = [
            (flat, Split::Tiles, Input::ChannelsLast),
            (flat, Split::Strips, Input::ChannelsLast),
            (image, Split::Strips, Input::RowMajor),
            (image, Split::Rows, Input::ChannelsLast),
            (groups, Split::Rows, Input::ChannelsLast),
            (flat_groups, Split::Tiles, Input::ChannelsLast),
        ];
        cases.map(|(case, split, input)| {
            let spec = Conv { input, ..spec(case, Epilogue::new(activation, split == Split::Rows, false)) };
            let schedule = |(pixels, vectors, chunks)| Schedule { pixels, vectors, unroll: 4, split, chunks, tiles: 0 };
            let schedules = [(4, 1, 3), (6, 3, 2), (6, 4, 7), (3, 5, 1)].map(schedule);
            changes(&case, &spec, activation, &schedules)
        })
    }));
}

/// Groups of a 1x1 convolution are shared among chunks by pixels, with the bits that one chunk gives; also where pixels of all
/// groups exceed the cache and chunks run one by one.
#[test]
fn pixels_of_groups_are_split() {
    let activation = Some(UnaryFn::Relu);
    for (groups, channels, filters, [height, width]) in
        [(2, 20, 40, [7, 12]), (4, 9, 12, [1, 61]), (2, 64, 3, [48, 48])]
    {
        let case = ([1, groups, channels, filters], [plain(height), plain(width)]);
        let spec = spec(case, Epilogue::new(activation, filters == 12, false)).flattened();
        for (lanes, registers) in WIDE {
            let schedule = spec.plan_wide(lanes, registers);
            assert_eq!(schedule.split, Split::Tiles);
            let shared = [1, 3, 8].map(|chunks| Schedule { chunks, ..schedule.clone() });
            report([changes(&case, &spec, activation, &shared)].into_iter());
        }
    }
}

#[test]
fn every_target_has_code_of_bounded_size() {
    for case in CASES {
        let spec = spec(*case, Epilogue::new(Some(UnaryFn::Silu), false, false)).flattened();
        let problem = problem(case, &spec_of_image(case, &spec), Some(UnaryFn::Silu), false);
        let inputs: Vec<&[f32]> = problem.inputs.iter().map(Vec::as_slice).collect();
        for target in Target::all() {
            let kernel = crate::kernels::Kernel::new(spec.clone(), &target);
            let code = crate::emit::compile(&[&kernel], &target).unwrap();
            assert!(code[0].bytes.len() < 40 << 10, "{} for {target}: {} bytes", kernel.name, code[0].bytes.len());
            if target.arch() == Arch::HOST && !target.fma() {
                let found = run_on(spec.clone(), &target, &inputs);
                // Two roundings per product.
                report([mismatch(&spec.name(), &found[0], &problem.expected, |i| 2.0 * problem.bounds[i])].into_iter());
            }
        }
    }
}

#[test]
fn nothing_is_computed_for_empty_tensors() {
    let target = Target::x86_64_fma();
    for (pixels, channels, filters) in [(0, 3, 4), (5, 3, 0)] {
        let spec = Conv::pointwise(pixels, channels, filters, Epilogue::default());
        assert_eq!(spec.chunks(&spec.schedule(&target)), 0);
    }
    // Without channels the bias remains.
    let spec = Conv::pointwise(3, 0, 2, Epilogue::default());
    let bias = [1.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    assert_eq!(run(spec, &[&[], &[], &bias])[0], [1.0, 2.0, 1.0, 2.0, 1.0, 2.0]);
}

#[test]
fn wide_padding_of_many_columns_is_declined() {
    let spec = |dilation, begin| {
        let columns = Axis { input: 128, output: 128, kernel: 3, stride: 1, dilation, begin };
        Conv { columns, rows: columns, ..Conv::pointwise(1, 8, 8, Epilogue::default()) }
    };
    assert!(spec(1, 1).is_compact());
    assert!(!spec(36, 36).is_compact());
    let wide = |begin| {
        let columns = Axis { input: 40, output: 20 + 2 * begin, kernel: 21, stride: 1, dilation: 1, begin };
        Conv { columns, ..Conv::pointwise(1, 8, 8, Epilogue::default()) }.is_compact()
    };
    assert!(wide(0) && !wide(1));
}

/// A batch whose images have weights of their own gives, bit by bit, what each image gives alone.
#[test]
fn weights_per_image_are_those_of_the_image() {
    for (batch, pixels, channels, filters) in [(2, 6, 5, 3), (3, 300, 8, 24), (2, 9, 17, 40)] {
        let alone = Conv::pointwise(pixels, channels, filters, Epilogue::default());
        let each = Conv::pointwise(batch * pixels, channels, filters, Epilogue::default()).per_image(batch);
        let x = values(1, batch * pixels * channels);
        let weights = values(2, batch * alone.weight_len());
        let bias = values(3, padded(filters));
        let images = x.chunks_exact(pixels * channels).zip(weights.chunks_exact(alone.weight_len()));
        let expected: Vec<f32> = images.flat_map(|(x, w)| run(alone.clone(), &[x, w, &bias]).remove(0)).collect();
        let inputs: [&[f32]; 3] = [&x, &weights, &bias];
        assert_eq!(run(each.clone(), &inputs)[0], expected, "{}", each.name());
        for (lanes, registers) in WIDE {
            let schedule = each.plan_wide(lanes, registers);
            assert_eq!(interpret(&each, &schedule, &inputs, lanes)[0], expected, "{} {schedule:?}", each.name());
        }
    }
}

/// Transposed, by the definition and with the same bits from every schedule: strides, dilation, groups, strips that end anywhere.
#[test]
fn transposed_windows_spread_each_input() {
    let cases: [Case; 6] = [
        ([1, 1, 6, 12], [[9, 3, 1, 1, 1, 1], [14, 3, 1, 1, 1, 1]]),
        ([2, 1, 5, 40], [[15, 3, 2, 1, 1, 1], [31, 3, 2, 1, 0, 1]]),
        ([1, 2, 3, 20], [[8, 5, 2, 1, 2, 2], [19, 4, 3, 1, 1, 2]]),
        ([1, 1, 4, 17], [[9, 1, 2, 1, 0, 0], [12, 1, 2, 1, 0, 0]]),
        ([2, 1, 7, 33], [[11, 3, 1, 2, 2, 2], [13, 3, 1, 3, 3, 3]]),
        ([1, 3, 2, 9], [[6, 2, 3, 1, 1, 0], [7, 5, 3, 1, 4, 2]]),
    ];
    let schedules = [(4, 1, Split::Rows), (6, 3, Split::Strips), (3, 5, Split::Rows), (1, 2, Split::Strips)]
        .map(|(pixels, vectors, split)| Schedule { pixels, vectors, unroll: 4, split, chunks: 3, tiles: 0 });
    report(cases.iter().map(|case| {
        // From the result of a convolution to its operand: a case names the channels and filters of the transposed one.
        let forward = spec(*case, Epilogue::default());
        let swapped = |axis: Axis| Axis { input: axis.output, output: axis.input, ..axis };
        let (rows, columns) = (swapped(forward.rows), swapped(forward.columns));
        let spec = Conv { rows, columns, transposed: true, ..forward };
        let ([n, groups, channels, filters], axes) = *case;
        let (shape, taps) = ([n, groups * channels, rows.input, columns.input], [axes[0][1], axes[1][1]]);
        let weights = [groups * channels, filters, taps[0], taps[1]];
        let (x, w, b) =
            (values(1, shape.iter().product()), values(2, weights.iter().product()), values(3, groups * filters));
        let pair = |i: usize| vec![axes[0][i], axes[1][i]];
        let begins = pair(4).into_iter().map(|pad| pad as i64);
        let ends = [&rows, &columns].map(|axis| {
            let natural = axis.stride * (axis.input - 1) + axis.dilation * (axis.kernel - 1) + 1;
            natural as i64 - axis.begin as i64 - axis.output as i64
        });
        let op = ops::ConvTranspose {
            strides: pair(2),
            pads: begins.chain(ends.map(|end| end.max(0))).collect(),
            dilations: pair(3),
            output_padding: ends.map(|end| (-end).max(0) as usize).to_vec(),
            group: groups,
            bias: true,
        };
        let bias = Literal::from_f32([groups * filters], &b);
        let operands = [&Literal::from_f32(shape, &x), &Literal::from_f32(weights, &w), &bias];
        let [exact, sizes] = [op.evaluate(&operands), op.magnitude(&operands)].map(|found| found.unwrap().to_f64());
        let order = channels_last(n, groups * filters, &(0..exact.len()).map(|i| i as f32).collect::<Vec<_>>());
        let [exact, sizes] = [exact, sizes].map(|v| order.iter().map(|i| v[*i as usize]).collect::<Vec<f64>>());
        let packed = testing::packed(&spec.weight_packing(), &w);
        let inputs = [channels_last(n, groups * channels, &x), packed, testing::packed(&spec.bias_packing(), &b)];
        let inputs = inputs.each_ref().map(Vec::as_slice);
        let found = run(spec.clone(), &inputs);
        let per_sum = (channels * taps[0] * taps[1] + 8) as f64 * 2f64.powi(-24);
        let off = mismatch(&spec.name(), &found[0], &exact, |i| sizes[i] * per_sum);
        // Chunks of one group alone are strips.
        let schedules = schedules.iter().filter(|schedule| groups == 1 || schedule.split == Split::Rows);
        let all = schedules.flat_map(|schedule| [4, 8, 16].map(|lanes| (schedule, lanes)));
        let mut other =
            all.filter(|(schedule, lanes)| bits(&interpret(&spec, schedule, &inputs, *lanes)[0]) != bits(&found[0]));
        off.or_else(|| other.next().map(|found| format!("{}: {found:?}", spec.name())))
    }));
}

/// Integers over all 16 bits, or those of differences of two 8-bit ones.
fn integers(seed: u64, count: usize, most: i32) -> Vec<i64> {
    values(seed, count).into_iter().map(|v| i64::from((v * (most + 1) as f32) as i32)).collect()
}

fn narrow_bytes(values: &[i64]) -> Vec<u8> {
    values.iter().flat_map(|v| (*v as i16).to_le_bytes()).collect()
}

fn packed_bytes(packing: &fornax_runtime::packing::Packing, size: usize, source: &[u8]) -> Vec<u8> {
    let mut packed = vec![0; packing.len() * size];
    packing.pack(size, source, &mut packed);
    packed
}

/// A convolution of pairs against the reference; `None` if every bit agrees.
fn check_pairs(case: &Case, most: i32) -> Option<String> {
    let ([n, groups, channels, filters], axes) = *case;
    let spec = Conv { element: DType::I16, ..spec(*case, Epilogue::default()) };
    let (all_in, all_out) = (groups * channels, groups * filters);
    let x_shape = [n, all_in, spec.rows.input, spec.columns.input];
    let x = integers(1, x_shape.iter().product(), most);
    let weights = integers(2, all_out * channels * axes[0][1] * axes[1][1], most);
    let bias: Vec<i64> = integers(3, all_out, 1 << 23).iter().map(|v| v * 255).collect();
    let pair = |i: usize| vec![axes[0][i], axes[1][i]];
    let (pads, bias_operand) = ([pair(4), pair(5)].concat(), true);
    let (strides, dilations) = (pair(2), pair(3));
    let op = ops::Conv { strides, dilations, pads, group: groups, bias: bias_operand, ..ops::Conv::default() };
    let literal = |dtype, shape: &[usize], v: &[i64]| Literal::new_int(TensorType::new(dtype, shape), v.to_vec());
    let exact = op.evaluate(&[
        &literal(DType::I16, &x_shape, &x),
        &literal(DType::I16, &[all_out, channels, axes[0][1], axes[1][1]], &weights),
        &literal(DType::I32, &[all_out], &bias),
    ]);
    let last = |c: usize, v: &[i64]| {
        let pixels = v.len() / (n * c).max(1);
        let at = |i: usize, p: usize, k: usize| v[(i * c + k) * pixels + p];
        (0..n).flat_map(|i| (0..pixels).flat_map(move |p| (0..c).map(move |k| at(i, p, k)))).collect::<Vec<_>>()
    };
    let expected: Vec<u8> =
        last(all_out, exact.unwrap().ints("y").unwrap()).iter().flat_map(|v| (*v as i32).to_le_bytes()).collect();
    let bias: Vec<u8> = bias.iter().flat_map(|v| (*v as i32).to_le_bytes()).collect();
    let spec = spec.flattened();
    let inputs = [
        narrow_bytes(&last(all_in, &x)),
        packed_bytes(&spec.weight_packing(), 2, &narrow_bytes(&weights)),
        packed_bytes(&spec.bias_packing(), 4, &bias),
    ];
    match testing::run_exact(spec.clone(), &inputs) {
        Ok(found) => (found[0] != expected).then(|| format!("{}: other sums than the reference", spec.name())),
        Err(text) => Some(text),
    }
}

#[test]
fn sums_of_pairs_are_exact() {
    report(CASES.iter().map(|case| check_pairs(case, 255)));
    // Products of all bits, whose sums wrap.
    report(CASES.iter().map(|case| check_pairs(case, 32_767)));
}

#[test]
fn sums_of_pairs_are_exact_for_every_number_of_channels() {
    let channels = (1..40).chain([63, 64, 65, 127, 128, 255, 256, 257, 510, 511, 512]);
    report(channels.clone().map(|channels| check_pairs(&([1, 1, channels, 9], [plain(1), plain(5)]), 255)));
    report(channels.map(|filters| check_pairs(&([1, 1, 3, filters], [plain(2), plain(3)]), 255)));
}

/// Smallest times smallest is the only product of pairs that leaves 32 bits on its own.
#[test]
fn the_smallest_integers_wrap() {
    let spec = Conv { element: DType::I16, ..Conv::pointwise(1, 4, 1, Epilogue::default()) };
    let smallest = i16::MIN.to_le_bytes().repeat(4);
    let bias = packed_bytes(&spec.bias_packing(), 4, &7i32.to_le_bytes());
    let inputs = [smallest.clone(), packed_bytes(&spec.weight_packing(), 2, &smallest), bias];
    assert_eq!(testing::run_exact(spec, &inputs), Ok(vec![7i32.to_le_bytes().to_vec()]));
}

/// Shapes of sums in runs: windows that stay inside, paddings, strides, filters that fill no panel, more positions than a band has.
const RUNS: &[Case] = &[
    ([1, 1, 8, 1], [plain(1), plain(1)]),
    ([1, 1, 40, 24], [plain(1), plain(49)]),
    ([2, 1, 112, 40], [plain(7), plain(7)]),
    ([1, 1, 24, 100], [plain(1), plain(301)]),
    ([1, 1, 16, 96], [plain(12), plain(11)]),
    ([1, 1, 64, 33], [plain(1), plain(17)]),
    ([2, 1, 16, 48], [[9, 3, 1, 1, 0, 0], [11, 3, 1, 1, 0, 0]]),
    ([1, 1, 32, 17], [[30, 3, 1, 1, 0, 0], [30, 3, 1, 1, 0, 0]]),
    ([1, 1, 8, 20], [[9, 3, 2, 1, 0, 0], [23, 3, 2, 1, 0, 0]]),
    ([2, 1, 48, 64], [[9, 1, 2, 1, 0, 0], [7, 1, 2, 1, 0, 0]]),
    ([1, 1, 12, 8], [[9, 3, 1, 2, 0, 0], [25, 3, 1, 2, 0, 0]]),
    ([1, 1, 16, 32], [[7, 3, 1, 1, 1, 1], [8, 3, 2, 1, 1, 1]]),
    ([1, 1, 16, 16], [plain(1), [70, 5, 1, 1, 0, 0]]),
];

/// The definition: see [`runs`]. `x` is channel-last.
fn in_runs(spec: &Conv, weights: &[f32], bias: &[f32], x: &[f32]) -> Vec<f32> {
    let (channels, run, taps) = (spec.channels, spec.run.unwrap(), spec.rows.kernel * spec.columns.kernel);
    let at = |axis: &Axis, output: usize, tap: usize| {
        (output * axis.stride + tap * axis.dilation).checked_sub(axis.begin).filter(|at| *at < axis.input)
    };
    let mut sums = Vec::new();
    for (n, row, column) in (0..spec.batch)
        .flat_map(|n| (0..spec.rows.output).map(move |row| (n, row)))
        .flat_map(|(n, row)| (0..spec.columns.output).map(move |column| (n, row, column)))
    {
        for filter in 0..spec.filters {
            let mut sum = bias[filter];
            for (r, c) in (0..spec.rows.kernel).flat_map(|r| (0..spec.columns.kernel).map(move |c| (r, c))) {
                let (Some(h), Some(w)) = (at(&spec.rows, row, r), at(&spec.columns, column, c)) else { continue };
                let x = &x[((n * spec.rows.input + h) * spec.columns.input + w) * channels..][..channels];
                let tap = r * spec.columns.kernel + c;
                let weight = |k: usize| weights[(filter * channels + k) * taps + tap];
                for first in (0..channels).step_by(run) {
                    let chain = |odd: usize| {
                        (first + odd..first + run).step_by(2).fold(0f32, |sum, k| x[k].mul_add(weight(k), sum))
                    };
                    sum += chain(0) + chain(1);
                }
            }
            sums.push(sum);
        }
    }
    sums
}

/// Sums in runs are, bit by bit, those of their definition: on every machine, and on the interpreter with every schedule.
#[test]
fn runs_are_summed_as_they_are_defined() {
    report(RUNS.iter().map(|case| {
        let image = Conv { element: DType::BF16, run: runs(case.0[2]), ..spec(*case, Epilogue::default()) };
        let ([n, _, channels, filters], pixels) = (case.0, image.rows.input * image.columns.input);
        let weights = testing::rounded(DType::BF16, &values(2, filters * channels * case.1[0][1] * case.1[1][1]));
        let (x, bias) = (testing::rounded(DType::BF16, &values(1, n * pixels * channels)), values(3, filters));
        let sums = in_runs(&image, &weights, &bias, &x);
        let expected = testing::rounded(DType::BF16, &sums);
        let spec = image.flattened();
        let packed = [testing::packed(&spec.weight_packing(), &weights), testing::packed(&spec.bias_packing(), &bias)];
        let inputs: [&[f32]; 3] = [&x, &packed[0], &packed[1]];
        if bits(&run(spec.clone(), &inputs)[0]) != bits(&expected) {
            return Some(format!("{}: other sums than the definition", spec.name()));
        }
        let single = Conv { stored: Some(DType::F32), ..spec.clone() };
        if bits(&run(single.clone(), &inputs)[0]) != bits(&sums) {
            return Some(format!("{}: other sums than the definition", single.name()));
        }
        let wide = WIDE.map(|(lanes, registers)| (lanes, spec.plan_wide(lanes, registers)));
        let narrow = (4, spec.plan(&Target::x86_64_fma()));
        let other = |(lanes, schedule): &(usize, Schedule)| {
            bits(&interpret(&spec, schedule, &inputs, *lanes)[0]) != bits(&expected)
        };
        let tiles = Target::new(&fornax_runtime::levels::X86_64_AMX);
        wide.into_iter()
            .chain([narrow, (16, spec.plan(&tiles))])
            .find(other)
            .map(|found| format!("{}: other bits with {found:?}", spec.name()))
    }));
}

/// Numbers of any bits, ordinary ones, and those whose products and sums are around the smallest normal one: the sums of tile registers are
/// those of every machine without. What is left of a sum after its own rounding is looked at too, as `bf16` keeps its first eight bits only.
#[test]
fn runs_of_any_bits_are_the_same_on_every_machine() {
    let mut state = 1u64;
    let mut random = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u32
    };
    let shapes =
        [([1, 1, 64, 128], [plain(1), plain(1500)]), ([1, 1, 48, 40], [[40, 3, 1, 1, 0, 0], [41, 3, 1, 1, 0, 0]])];
    let padded_shape = ([1, 1, 24, 72], [[40, 3, 2, 1, 1, 1], [30, 3, 1, 1, 1, 1]]);
    for (case, exponents) in shapes
        .into_iter()
        .chain([padded_shape])
        .flat_map(|case| [(0, 256), (0, 255), (120, 14), (60, 8), (62, 3), (55, 8)].map(|exponents| (case, exponents)))
    {
        let plain = Conv { element: DType::BF16, run: runs(case.0[2]), ..spec(case, Epilogue::default()) }.flattened();
        let added = Conv { epilogue: Epilogue::new(None, true, false), ..plain.clone() };
        let mut numbers = |count: usize| -> Vec<f32> {
            let (least, count_of) = exponents;
            let number = |bits: u32| f32::from_bits(((bits >> 8) % count_of + least) << 23 | bits & 0x807f_0000);
            (0..count).map(|_| number(random())).collect()
        };
        let (x, weights) = (numbers(plain.input_len()), numbers(plain.weight_len()));
        let bias = numbers(padded(plain.filters))
            .into_iter()
            .map(|v| f32::from_bits(v.to_bits() | 0x1357))
            .collect::<Vec<_>>();
        // Any differences between machines fail in here.
        let sums = run(plain, &[&x, &weights, &bias]).swap_remove(0);
        let negated: Vec<f32> = sums.iter().map(|v| -v).collect();
        run(added, &[&x, &weights, &bias, &negated]);
    }
}

#[test]
fn runs_are_even_divisors() {
    let found = [3, 8, 16, 24, 40, 112, 136, 240, 1152, 7, 34].map(runs);
    let expected = [None, Some(8), Some(16), Some(24), Some(20), Some(28), Some(8), Some(30), Some(32), None, None];
    assert_eq!(found, expected);
}
