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

#[cfg(test)]
mod tests;

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
    pub fn result(&self) -> DType {
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
        let dense = finish.first() == 0 && finish.pitch() == self.channels;
        (dense && !finish.reads_maps()).then(|| Self { finish: Some(finish), ..self.clone() })
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
