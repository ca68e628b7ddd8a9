//! Depthwise convolution, channel-last: `y = activation(conv(x, w) + bias)`, and the sum of every output row for squeeze-and-excite.
//!
//! In: `x [N, H, W, C]`, weights `[taps][stride]` with [`Depthwise::tap_stride`] floats per tap, bias of as many floats, a row of zeros. Out:
//! `y [N, OH, OW, C]`, and with a sum in the epilogue one partial sum per row `[N, OH, C]`. Either map may be a part of the channels of a larger one:
//! then other values lie between its pixels, which are not touched.
//!
//! Each output starts from the bias and takes its taps in order (row, column) by FMA. A tap above or below the map reads the row of
//! zeros and is multiplied; one left or right of it is left out. A partial adds the row's outputs by column, ascending, from 0.
//!
//! Transposed ([`Depthwise::transposed`]), it is the derivative of such a convolution by its input: each output takes the inputs whose windows
//! cover it, by (row, column) of the input, ascending. The weights are packed alike.
//!
//! Of `i16` elements, bias and output are sums of `i32`, which wrap, and nothing but a [`Finish`] follows them: each element is multiplied
//! as a pair with a 0 ([`Emitter::dot`]).
//!
//! A segment's outputs for one vector of channels stay in accumulators; each input is loaded once and used by every output it
//! reaches; the weights of one kernel row are in registers. The loops are those of [`Sliding`]. Windows too wide to be spelled out take their
//! taps in loops, a few columns at a time ([`Sliding::loops`]).

use super::finish::{Moved, Unfinished};
use super::sliding::{self, At, Cell, Run, Schedule, Sliding, Tap, copy};
use super::{Access, Argument, ChannelPart, Family, Finish, KernelName, LINE, LayerKind, Loops, Parts};
use crate::codegen::elements::{SINGLE, in_pairs, sum_type};
use crate::codegen::epilogue::{Epilogue, Maps, Output};
use crate::codegen::{Count, Element, Emitter, R, REACH, V};
use crate::target::{Cost, Machine, Target};
use fornax_ir::types::DType;
use fornax_runtime::packing::{Layout, Packing, Transform};

/// What a depthwise convolution computes. Extents are `[height, width]`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Depthwise {
    /// Type of the elements of both maps and the weights; of `i16` the output's is `i32`.
    pub element: DType,
    /// Images.
    pub batch: usize,
    /// Channels.
    pub channels: usize,
    /// Elements of other values between the channels of one pixel and those of the next, in the input and in the output map: none
    /// where the maps are dense.
    pub gaps: [usize; 2],
    /// Input map.
    pub input: [usize; 2],
    /// Output map.
    pub output: [usize; 2],
    /// Window.
    pub kernel: [usize; 2],
    /// Stride.
    pub strides: [usize; 2],
    /// Dilation.
    pub dilations: [usize; 2],
    /// Padding above and left.
    pub pads: [usize; 2],
    /// What follows the bias; with a sum, row sums are written too.
    pub epilogue: Epilogue,
    /// Whether the windows slide over the output, and `pads` are taken off it.
    pub transposed: bool,
    /// What becomes of sums of `i32`; it reads no maps.
    pub finish: Option<Finish>,
}

/// Columns of a window that are taken together where they are taken in a loop.
const GROUP: usize = 4;

impl Depthwise {
    /// Elements from one tap's weights to the next: an odd number of cache lines, so that taps of the same channel fall into
    /// different cache sets.
    pub fn tap_stride(&self) -> usize {
        let line = LINE / self.element.size();
        (self.channels.div_ceil(line) | 1) * line
    }

    /// Elements of the packed weights.
    pub fn weight_len(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.tap_stride()
    }

    /// How weights `[C, 1, KH, KW]` are packed.
    pub fn weight_packing(&self) -> Packing {
        let layout = Layout::row_major(2).block(0, self.tap_stride());
        Packing::new([self.channels, self.kernel[0] * self.kernel[1]], Transform::None, layout)
    }

    /// See [`Epilogue::is_far`].
    fn is_far(&self) -> bool {
        self.epilogue.is_far(self.element.size() * self.sliding().output_len())
    }

    /// Whether there is a kernel; see [`Sliding::applies`] and [`Sliding::loops`]. The taps of a channel are apart by constants, too.
    pub fn applies(&self) -> bool {
        let (sliding, taps) = (self.sliding(), self.kernel[0].saturating_mul(self.kernel[1]));
        let near = taps.saturating_mul(self.tap_stride()).saturating_mul(self.element.size()) <= REACH;
        self.takes_elements() && near && (sliding.applies() || sliding.loops())
    }

    /// Columns of a window whose weights are in registers together.
    fn columns(&self) -> usize {
        if self.sliding().loops() { self.kernel[1].min(GROUP) } else { self.kernel[1] }
    }

    /// Whether there is a kernel for these elements.
    fn takes_elements(&self) -> bool {
        !in_pairs(self.element) || !self.transposed && self.epilogue == Epilogue::default()
    }

    /// Type of the result's elements.
    fn result(&self) -> DType {
        let sums = if in_pairs(self.element) { sum_type(self.element) } else { self.element };
        self.finish.as_ref().map_or(sums, Finish::result)
    }

    /// Its windows.
    pub fn sliding(&self) -> Sliding {
        let Self {
            element, batch, channels, gaps, input, output, kernel, strides, dilations, pads, transposed, ..
        } = *self;
        Sliding { element, batch, channels, gaps, input, output, kernel, strides, dilations, pads, transposed }
    }

    /// The convolution that the last three shapes of a name say, before the given epilogue.
    pub(super) fn read_with(name: &Parts<'_>, epilogue: &Epilogue) -> Option<Self> {
        let Sliding { element, batch, channels, gaps, input, output, kernel, strides, dilations, pads, transposed } =
            Sliding::read(name, name.shapes().checked_sub(3)?)?;
        Some(Self {
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
            epilogue: epilogue.clone(),
            transposed,
            finish: None,
        })
    }

    /// A kernel's name with extents, bias and epilogue.
    pub(super) fn label(&self, name: KernelName) -> KernelName {
        self.sliding().label(name).bias(&self.epilogue)
    }

    /// The arithmetic, for weights and bias that begin at the first channel, and sums of all rows.
    pub(super) fn cell(&self, [weights, bias]: [R; 2], sums: Option<R>) -> impl Cell {
        Segment { spec: self, sliding: self.sliding(), weights, bias, sums }
    }
}

impl Family for Depthwise {
    type Schedule = Schedule;

    const WORDS: &'static [&'static str] = &["depthwise"];

    fn kind(_name: &KernelName) -> LayerKind {
        LayerKind::Depthwise
    }

    fn kernel_name(&self) -> KernelName {
        let name = self.label(KernelName::new(self.element, "depthwise").word_if(self.transposed, "transposed"));
        self.finish.iter().fold(name, |name, finish| name.word(finish.word()))
    }

    fn read(name: &Parts<'_>) -> Option<Self> {
        let spec = Self::read_with(name, name.epilogues.first()?)?;
        Some(Self { transposed: name.has("transposed"), ..spec }).filter(Self::takes_elements)
    }

    fn arguments(&self) -> Vec<Argument> {
        let (sliding, element) = (self.sliding(), self.element);
        let maps: Vec<Argument> = self.epilogue.maps().map(|map| map.argument(element, sliding.output_len())).collect();
        let y = Argument::write_all_but("y", self.result(), sliding.output_len(), sliding.gaps[1]);
        let reads = maps.first().is_some_and(|map| map.access == Access::Read);
        let mut arguments = vec![
            Argument::read("x", element, sliding.input_len()),
            Argument::read("weights", element, self.weight_len()),
            Argument::read("bias", sum_type(element), self.tap_stride()),
            Argument::read("zeros", element, sliding.row_len()),
            if reads { y.in_place_of(5) } else { y },
        ];
        arguments.extend(maps);
        if self.epilogue.sum() {
            arguments.push(Argument::write("sums", DType::F32, self.batch * self.output[0] * self.channels));
        }
        arguments.extend(self.finish.iter().flat_map(Finish::arguments));
        arguments
    }

    fn unspelled(&self) -> Option<&Loops> {
        self.finish.as_ref().map(Finish::loops)
    }

    fn finished(&self, finish: impl FnOnce([usize; 2]) -> Option<Finish>) -> Option<Self> {
        let sums = in_pairs(self.element) && self.finish.is_none() && self.gaps[1] == 0;
        let finish = sums.then(|| finish([self.batch * self.output[0] * self.output[1], self.channels]))??;
        (!finish.reads_maps()).then(|| Self { finish: Some(finish), ..self.clone() })
    }

    /// Next to the accumulators: one row of weights, an input, the multiplicand that CLIF's `fma` overwrites, the products of pairs, one to
    /// spare.
    fn schedule(&self, target: &Target) -> Schedule {
        let bytes = self.kernel[0] * self.kernel[1] * self.element.size();
        let others = 4 + usize::from(in_pairs(self.element));
        let mut schedule = self.sliding().schedule(target, self.columns() + others, bytes);
        if self.is_far() {
            // Whole pixels, as far as their weights stay near: what lies together in memory is read and written together.
            schedule.block = sliding::widest(self.channels, bytes);
        }
        schedule
    }

    fn chunks(&self, schedule: &Schedule) -> u32 {
        self.sliding().chunks(schedule)
    }

    fn flops(&self) -> u64 {
        let [rows, columns] = if self.transposed { self.input } else { self.output };
        2 * (self.batch * rows * columns * self.channels * self.kernel[0] * self.kernel[1]) as u64
    }

    /// Those of the arguments without gaps.
    fn bytes(&self) -> u64 {
        let sliding = self.sliding();
        let maps = sliding.input_len() + sliding.output_len() - sliding.moved();
        let row = self.input[1] * self.gaps[0];
        self.arguments().iter().map(|a| a.bytes as u64).sum::<u64>() - ((maps + row) * self.element.size()) as u64
    }

    /// Taps with all operands near, and what follows them.
    fn cost(&self, _schedule: &Schedule, machine: &Machine) -> Cost {
        let outputs = (self.batch * self.output[0] * self.output[1] * self.channels) as u64;
        let after = machine.issued(self.epilogue.slots(outputs, machine));
        Cost::near(machine.attained(self.flops() as f64) + after, self.bytes())
    }

    fn spread(&self, argument: usize, part: &ChannelPart) -> Option<Self> {
        // Maps of the epilogue are like `y`, which therefore stays dense beside them.
        let beside = self.epilogue.maps().next().is_some();
        let beside = beside || self.finish.is_some();
        let map = [0, 4].iter().position(|map| *map == argument && !(beside && *map == 4))?;
        let Sliding { gaps, .. } = self.sliding().spread(map, part)?;
        Some(Self { gaps, ..self.clone() })
    }

    fn emit(&self, schedule: &Schedule, e: &mut dyn Emitter) {
        let [x, weights, bias, zeros, y] = [0, 1, 2, 3, 4].map(|i| e.pointer(i));
        let maps = self.epilogue.pointers(e, 5);
        let sums = self.epilogue.sum().then(|| e.pointer(5 + self.epilogue.maps().count()));
        let cell = self.cell([weights, bias], sums);
        let outputs: Vec<R> = [y].into_iter().chain(maps.into_iter().flatten()).collect();
        self.sliding().emit(e, schedule, self.epilogue.sum(), [x, zeros], &outputs, &cell);
    }
}

/// The argument that the inputs of a finish begin with: there are no maps and no row sums then.
const FINISH: usize = 5;

/// The arithmetic of a depthwise convolution.
struct Segment<'a> {
    spec: &'a Depthwise,
    sliding: Sliding,
    weights: R,
    bias: R,
    sums: Option<R>,
}

impl Cell for Segment<'_> {
    fn result(&self, _element: DType) -> DType {
        self.spec.result()
    }

    /// Weights, bias, the sums of the row, and what becomes of the sums of products.
    fn moving(&self, e: &mut dyn Emitter, row: R) -> Vec<(R, usize)> {
        let mut moving = vec![(copy(e, self.weights), self.spec.element.size()), (copy(e, self.bias), SINGLE)];
        if let Some(sums) = self.sums {
            let sum = e.r();
            e.mul_imm(sum, row, (self.spec.channels * SINGLE) as i64);
            e.add(sum, sum, sums);
            moving.push((sum, SINGLE));
        }
        let inputs = self.spec.finish.iter().flat_map(|finish| finish.pointers(e, FINISH)).flatten();
        moving.extend(inputs.map(|input| (input.at, input.size)));
        moving
    }

    fn vector(&self, e: &mut dyn Emitter, run: &Run, at: &At<'_>, lanes: usize) {
        if self.spec.is_far() {
            // The same channels of the next segment: pixels lie one after the other, rows too.
            let pixels = (run.start + run.width..).take(run.width);
            for (map, pixel) in at.outputs.iter().flat_map(|map| pixels.clone().map(move |pixel| (map, pixel))) {
                e.prefetch(map.at(pixel * at.pixels[1]));
            }
        }
        let accumulators: Vec<V> = (0..run.width).map(|_| e.v()).collect();
        let (bias, all) = (e.v(), e.lanes(Element::F32));
        e.load(bias, at.moving[1].at(0), all);
        accumulators.iter().for_each(|acc| e.copy_v(*acc, bias));
        e.free_v(bias);
        let (columns, weights) = (self.spec.kernel[1], at.moving[0]);
        if self.sliding.loops() {
            self.in_loops(e, run, at, &accumulators, lanes);
        } else {
            let taps = self.sliding.taps(run);
            for (row, k) in at.rows.iter().zip(at.window) {
                self.columns(e, (&taps, columns), (*row, at.pixels[0]), (weights, k * columns), &accumulators, lanes);
            }
        }
        if let Some(finish) = &self.spec.finish {
            let mut inputs = Moved::default();
            inputs.iter_mut().zip(&at.moving[2..]).for_each(|(to, input)| *to = Some(input.at(0)));
            let output = |(t, sum): (usize, &V)| {
                let to = at.outputs[0].at((run.start + t) * at.pixels[1]);
                Unfinished { sum: *sum, to, lanes, at: inputs }
            };
            let outputs: Vec<Unfinished> = accumulators.iter().enumerate().map(output).collect();
            finish.store(e, FINISH, &outputs);
            return accumulators.into_iter().for_each(|v| e.free_v(v));
        }
        let sum = at.moving.get(2).map(|sum| (*sum, partial(e, run, *sum, lanes)));
        let output = |(t, acc): (usize, &V)| {
            let offset = (run.start + t) * at.pixels[1];
            let mut maps = Maps::default();
            for (map, r) in self.spec.epilogue.maps().zip(&at.outputs[1..]) {
                maps[map as usize] = Some(r.at(offset));
            }
            Output { value: *acc, to: at.outputs[0].at(offset), lanes, maps, sum: sum.map(|(_, total)| total) }
        };
        let outputs: Vec<Output> = accumulators.iter().enumerate().map(output).collect();
        self.spec.epilogue.store(e, self.spec.result(), &outputs);
        if let Some((sum, total)) = sum {
            e.store(total, sum.at(0), lanes);
            e.free_v(total);
        }
        accumulators.into_iter().for_each(|v| e.free_v(v));
    }
}

impl Segment<'_> {
    /// The taps of all kernel rows, [`GROUP`] columns at a time.
    fn in_loops(&self, e: &mut dyn Emitter, run: &Run, at: &At<'_>, accumulators: &[V], lanes: usize) {
        let ([rows, columns], [down, along]) = (self.spec.kernel, self.spec.dilations);
        let (pixel, tap) = (at.pixels[0], self.spec.tap_stride() * self.spec.element.size());
        let (row, weights) = (copy(e, at.rows[0]), copy(e, at.moving[0]));
        let taps = |count: usize| {
            let column = |t: usize, j: usize| ((run.start + t) * self.spec.strides[1] + j * along, t, j);
            let mut taps: Vec<Tap> = (0..run.width).flat_map(|t| (0..count).map(move |j| column(t, j))).collect();
            taps.sort_unstable();
            taps
        };
        let group = |e: &mut dyn Emitter, count: usize| {
            self.columns(e, (&taps(count), count), (row, pixel), (weights, 0), accumulators, lanes);
            e.add_imm(row, row, (count * along * pixel) as i64);
            e.add_imm(weights, weights, (count * tap) as i64);
        };
        let (whole, rest) = (columns / GROUP, columns % GROUP);
        let next = (self.spec.input[1] * down) as i64 - (columns * along) as i64;
        e.repeat(Count::Times(rows as u32), &mut |e| {
            e.repeat(Count::Times(whole as u32), &mut |e| group(e, GROUP));
            if rest > 0 {
                group(e, rest);
            }
            e.add_imm(row, row, next * pixel as i64);
        });
        [row, weights].into_iter().for_each(|r| e.free_r(r));
    }

    /// `taps` in a number of columns of one input row: each input column is loaded once and added to every output it reaches. The row comes with
    /// the bytes from one pixel to the next, the weights with the tap that the first column is.
    fn columns(
        &self,
        e: &mut dyn Emitter,
        (taps, columns): (&[Tap], usize),
        (row, pixel): (R, usize),
        (weights, first): (R, usize),
        accumulators: &[V],
        lanes: usize,
    ) {
        let element = self.spec.element;
        let tap_bytes = self.spec.tap_stride() * element.size();
        let load = |j: usize| {
            taps.iter().any(|(_, _, used)| *used == j).then(|| {
                let (v, all) = (e.v(), e.lanes(Element::F32));
                e.load_lone_factors(v, weights.at((first + j) * tap_bytes), element, all);
                v
            })
        };
        let loaded: Vec<Option<V>> = (0..columns).map(load).collect();
        let x = e.v();
        let mut held = None;
        for (column, t, j) in taps {
            if held != Some(column) {
                e.load_elements(x, row.at(column * pixel), element, lanes);
                held = Some(column);
            }
            if let Some(weight) = loaded[*j] {
                e.multiply_add(element, accumulators[*t], weight, x);
            }
        }
        loaded.into_iter().flatten().chain([x]).for_each(|v| e.free_v(v));
    }
}

/// The row's partial sum so far.
fn partial(e: &mut dyn Emitter, run: &Run, sum: R, lanes: usize) -> V {
    let total = e.v();
    match run.start {
        0 => e.zero(total),
        _ => e.load(total, sum.at(0), lanes),
    }
    total
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;
    use crate::codegen::epilogue::EpilogueOp;
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
        for (at, tap) in
            (0..s.batch * s.input[0] * s.input[1] * s.channels).flat_map(|at| (0..taps).map(move |t| (at, t)))
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
            let sum =
                |i: usize| (0..columns).fold(0f32, |sum, t| sum + out[0][(i / row * columns + t) * row + i % row]);
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
            let kernel = super::super::Kernel::new(s.clone(), &target);
            let code = crate::emit::compile(&[&kernel], &target).expect("code");
            let bytes = code[0].bytes.len();
            (!s.applies() || bytes > 40 << 10).then(|| format!("{}: {bytes} bytes", s.name()))
        }));
    }
}
