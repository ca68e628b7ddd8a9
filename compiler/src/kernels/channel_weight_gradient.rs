//! The gradient of a depthwise convolution's weights: for each channel and tap, products of the operand and the gradient of the result,
//! summed over pixels.
//!
//! In: `x [N, H, W, C]`, `dy [N, OH, OW, C]`, a row of zeros, perhaps a sum of earlier images. Out: `[C, 1, KH, KW]`, row-major.
//!
//! Bits: the rows of `dy` are cut into blocks of at most [`BLOCK`] pixels, a row at least, images ascending. A block's sum starts from zero
//! and takes its pixels in ascending order, one FMA each; a tap above or below the map reads the row of zeros and is multiplied, one left or
//! right of it is left out. It is added to what the blocks before it gave, the first to the earlier sum.
//!
//! Vectors hold channels. The sums of some kernel rows stay in registers for a block, next to the gradients of a segment of a row, which
//! each input column that is loaded meets; tiles are transposed on their way to memory. Chunks are channels, never pixels.

use super::CHUNK;
use super::sliding::{Run, Sliding, Tap, copy};
use super::square::transpose;
use super::weight_gradient::BLOCK;
use super::{Argument, Family, KernelName, LayerKind, Parts, work_units};
use crate::codegen::elements::{SINGLE, widens};
use crate::codegen::{Count, Element, Emitter, R, V, VOp};
use crate::target::{Machine, Target};
use fornax_ir::types::DType;

/// The gradient of a depthwise convolution's weights.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ChannelWeightGradient {
    /// The windows of the convolution.
    pub sliding: Sliding,
    /// Whether there is an earlier sum.
    pub sum: bool,
}

/// How the gradient of a depthwise convolution's weights runs.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Schedule {
    /// Outputs of a row that stay in registers together.
    pub tile: usize,
    /// Kernel rows whose sums do.
    pub rows: usize,
    /// Channels of one chunk, a multiple of 16.
    pub block: usize,
}

schedule_text!(Schedule, "Schedule" { "tile": tile, "rows": rows, "block": block });

/// Channels that a chunk has a multiple of: a vector of any target.
const VECTOR: usize = 16;
/// Most outputs of a segment.
const MOST: usize = 8;
/// Most products that the segments of a row may spell out.
const CODE: usize = 2048;
/// Fewest outputs of a segment for which sums of several kernel rows are held.
const FEWEST: usize = 4;

impl ChannelWeightGradient {
    /// Whether there is a kernel; see [`Sliding::applies`]. The code is of bounded size, however short its segments.
    pub fn applies(&self) -> bool {
        let spelled = |run: &Run| run.width * self.taps();
        let code = || self.sliding.runs(FEWEST, false).iter().map(spelled).sum::<usize>();
        self.sliding.applies() && !self.sliding.transposed && code() <= CODE
    }

    fn taps(&self) -> usize {
        self.sliding.kernel[0] * self.sliding.kernel[1]
    }

    /// Rows of a block.
    fn rows(&self) -> usize {
        let [rows, columns] = self.sliding.output;
        (BLOCK / columns.max(1)).clamp(1, rows.max(1))
    }

    /// Blocks of all images.
    fn blocks(&self) -> usize {
        self.sliding.batch * self.sliding.output[0].div_ceil(self.rows())
    }
}

impl Family for ChannelWeightGradient {
    type Schedule = Schedule;

    const WORDS: &'static [&'static str] = &["channel_weight_gradient"];

    fn kind(_name: &KernelName) -> LayerKind {
        LayerKind::WeightGradient
    }

    fn kernel_name(&self) -> KernelName {
        let name = KernelName::new(self.sliding.element, "channel_weight_gradient");
        self.sliding.label(name).word_if(self.sum, "sum")
    }

    fn read(name: &Parts<'_>) -> Option<Self> {
        let sliding = Sliding::read(name, 0).filter(|sliding| widens(sliding.element))?;
        Some(Self { sliding, sum: name.has("sum") })
    }

    fn arguments(&self) -> Vec<Argument> {
        let (sliding, len) = (&self.sliding, self.sliding.channels * self.taps());
        let mut arguments = vec![
            Argument::read("x", sliding.element, sliding.input_len()),
            Argument::read("dy", sliding.element, sliding.output_len()),
            Argument::read("zeros", sliding.element, sliding.row_len()),
        ];
        let y = Argument::write("y", DType::F32, len);
        if self.sum {
            arguments.push(Argument::read("sum", DType::F32, len));
            arguments.push(y.in_place_of(3));
        } else {
            arguments.push(y);
        }
        arguments
    }

    /// Next to sums and gradients: an input, and one to spare.
    fn schedule(&self, target: &Target) -> Schedule {
        let (all, [height, width]) = (target.vector_registers() - 2, self.sliding.kernel);
        let rows = (all.saturating_sub(FEWEST) / width.max(1)).clamp(1, height.max(1));
        let most = all.saturating_sub(rows * width).clamp(1, MOST).min(self.sliding.output[1].max(1));
        let even = (most.div_ceil(2)..=most).rev().find(|tile| self.sliding.output[1].is_multiple_of(*tile));
        let tiles = self.sliding.output[1].div_ceil(most).max(1);
        let tile = even.unwrap_or_else(|| self.sliding.output[1].div_ceil(tiles).max(1));
        let worth = (self.flops() / Machine::of(target.lanes()).flops_in(CHUNK)).max(1) as usize;
        Schedule { tile, rows, block: self.sliding.channels.div_ceil(worth).next_multiple_of(VECTOR).max(VECTOR) }
    }

    fn chunks(&self, schedule: &Schedule) -> u32 {
        if self.taps() == 0 { 0 } else { work_units(self.sliding.channels.div_ceil(schedule.block)) }
    }

    fn flops(&self) -> u64 {
        2 * (self.sliding.output_len() * self.taps()) as u64
    }

    fn emit(&self, schedule: &Schedule, e: &mut dyn Emitter) {
        let [x, dy, zeros] = [0, 1, 2].map(|i| e.pointer(i));
        let sum = self.sum.then(|| e.pointer(3));
        let y = e.pointer(3 + usize::from(self.sum));
        let runs = self.sliding.runs(schedule.tile, false);
        let segments = runs.into_iter().map(|run| {
            let taps = self.sliding.taps(&run);
            (run, taps)
        });
        let writer =
            Writer { spec: self, schedule, segments: segments.collect(), side: e.lanes(Element::F32), zeros, sum, y };
        writer.blocks(e, [x, dy]);
    }
}

struct Writer<'a> {
    spec: &'a ChannelWeightGradient,
    schedule: &'a Schedule,
    /// The segments of a row, and the taps that each meets.
    segments: Vec<(Run, Vec<Tap>)>,
    /// Lanes of a vector.
    side: usize,
    zeros: R,
    sum: Option<R>,
    y: R,
}

/// A block of rows.
#[derive(Clone, Copy)]
struct Rows {
    /// The image of `x`.
    x: R,
    /// The first row of `dy`.
    dy: R,
    /// Its number in the image.
    first: R,
    count: R,
    /// Blocks before this one.
    pass: R,
}

impl Writer<'_> {
    /// Every block of every image, over the channels of a range of chunks.
    fn blocks(&self, e: &mut dyn Emitter, [x, dy]: [R; 2]) {
        let (spec, sliding) = (self.spec, &self.spec.sliding);
        let size = sliding.element.size();
        let (first, end, pass) = (e.r(), e.integer(sliding.channels as i64), e.integer(0));
        e.begin(first);
        e.mul_imm(first, first, self.schedule.block as i64);
        let last = e.r();
        e.end(last);
        e.mul_imm(last, last, self.schedule.block as i64);
        e.min(end, end, last);
        let rows = spec.rows();
        if spec.blocks() == 0 {
            let none = e.integer(0);
            return self.channels(e, [first, end], Rows { x, dy, first: none, count: none, pass });
        }
        e.repeat(Count::Times(sliding.batch as u32), &mut |e| {
            let row = e.integer(0);
            e.repeat(Count::Times(sliding.output[0].div_ceil(rows) as u32), &mut |e| {
                let (count, most) = (e.integer(sliding.output[0] as i64), e.integer(rows as i64));
                e.sub(count, count, row);
                e.min(count, count, most);
                self.channels(e, [first, end], Rows { x, dy, first: row, count, pass });
                e.add_imm(row, row, rows as i64);
                let offset = e.r();
                e.mul_imm(offset, count, (sliding.output[1] * sliding.channels * size) as i64);
                e.add(dy, dy, offset);
                e.add_imm(pass, pass, 1);
                [count, most, offset].into_iter().for_each(|r| e.free_r(r));
            });
            e.free_r(row);
            e.add_imm(x, x, (sliding.input[0] * sliding.row_len() * size) as i64);
        });
    }

    /// The vectors of channels `first..end`.
    fn channels(&self, e: &mut dyn Emitter, [first, end]: [R; 2], rows: Rows) {
        let channels = self.spec.sliding.channels;
        let (channel, vectors) = (copy(e, first), e.r());
        e.sub(vectors, end, first);
        e.div_imm(vectors, vectors, self.side as u32);
        if channels >= self.side {
            e.repeat(Count::Register(vectors), &mut |e| {
                self.vector(e, channel, self.side, &rows);
                e.add_imm(channel, channel, self.side as i64);
            });
        }
        if !channels.is_multiple_of(self.side) {
            let before = e.integer(channels as i64 - 1);
            e.if_less(before, end, &mut |e| self.vector(e, channel, channels % self.side, &rows));
            e.free_r(before);
        }
        [channel, vectors].into_iter().for_each(|r| e.free_r(r));
    }

    /// One vector of channels, of which `lanes` exist, over a block of rows: some kernel rows at a time.
    fn vector(&self, e: &mut dyn Emitter, channel: R, lanes: usize, rows: &Rows) {
        let [height, width] = self.spec.sliding.kernel;
        let offset = e.r();
        e.mul_imm(offset, channel, self.spec.sliding.element.size() as i64);
        let (first, most) = (e.integer(0), self.schedule.rows);
        let pass = |e: &mut dyn Emitter, kernel_rows: usize| {
            let sums: Vec<V> = (0..kernel_rows * width).map(|_| e.v()).collect();
            sums.iter().for_each(|v| e.zero(*v));
            let (dy, row) = (copy(e, rows.dy), copy(e, rows.first));
            e.add(dy, dy, offset);
            // Where the first of the kernel rows is for the first row of gradients.
            let at = e.r();
            e.mul_imm(at, row, self.spec.sliding.strides[0] as i64);
            e.mul_imm(row, first, self.spec.sliding.dilations[0] as i64);
            e.add(at, at, row);
            e.repeat(Count::Register(rows.count), &mut |e| {
                let inputs = (0..kernel_rows).map(|k| self.input_row(e, [at, rows.x, offset], k)).collect();
                self.row(e, dy, inputs, &sums, lanes);
                e.add_imm(at, at, self.spec.sliding.strides[0] as i64);
            });
            [dy, row, at].into_iter().for_each(|r| e.free_r(r));
            self.store(e, sums, (channel, lanes), first, rows.pass);
            e.add_imm(first, first, kernel_rows as i64);
        };
        e.repeat(Count::Times((height / most) as u32), &mut |e| pass(e, most));
        if !height.is_multiple_of(most) {
            pass(e, height % most);
        }
        [offset, first].into_iter().for_each(|r| e.free_r(r));
    }

    /// The input row that is read `k` kernel rows after the one at `first`, at the channels' offset.
    fn input_row(&self, e: &mut dyn Emitter, [first, x, offset]: [R; 3], k: usize) -> R {
        let sliding = &self.spec.sliding;
        let (at, pointer) = (e.r(), e.r());
        e.add_imm(at, first, (k * sliding.dilations[0]) as i64 - sliding.pads[0] as i64);
        e.mul_imm(pointer, at, (sliding.row_len() * sliding.element.size()) as i64);
        e.add(pointer, pointer, x);
        e.select_below(pointer, at, sliding.input[0] as u32, pointer, self.zeros);
        e.add(pointer, pointer, offset);
        e.free_r(at);
        pointer
    }

    /// One row of gradients, segment by segment; moves the pointers on.
    fn row(&self, e: &mut dyn Emitter, dy: R, inputs: Vec<R>, sums: &[V], lanes: usize) {
        let (sliding, size) = (&self.spec.sliding, self.spec.sliding.element.size());
        let pixel = sliding.channels * size;
        for (run, taps) in &self.segments {
            e.repeat(Count::Times(run.count as u32), &mut |e| {
                // Input columns of a segment are counted from the first output of its run.
                self.segment(e, dy, &inputs, (run, taps), sums, lanes);
                e.add_imm(dy, dy, (run.width * pixel) as i64);
                if run.count > 1 {
                    inputs.iter().for_each(|r| e.add_imm(*r, *r, (run.width * sliding.strides[1] * pixel) as i64));
                }
            });
            if run.count > 1 {
                let back = -((run.count * run.width * sliding.strides[1] * pixel) as i64);
                inputs.iter().for_each(|r| e.add_imm(*r, *r, back));
            }
        }
        inputs.into_iter().for_each(|r| e.free_r(r));
    }

    /// The gradients of a segment, times each input that meets them.
    fn segment(&self, e: &mut dyn Emitter, dy: R, inputs: &[R], (run, taps): (&Run, &[Tap]), sums: &[V], lanes: usize) {
        let (element, width) = (self.spec.sliding.element, self.spec.sliding.kernel[1]);
        let pixel = self.spec.sliding.channels * element.size();
        let gradients: Vec<V> = (0..run.width).map(|_| e.v()).collect();
        for (t, v) in gradients.iter().enumerate() {
            e.load_f32(*v, dy.at(t * pixel), element, lanes);
        }
        let x = e.v();
        for met in taps.chunk_by(|a, b| a.0 == b.0) {
            for (row, input) in inputs.iter().enumerate() {
                e.load_f32(x, input.at(met[0].0 * pixel), element, lanes);
                for (_, t, j) in met {
                    e.fma(sums[row * width + j], gradients[*t], x);
                }
            }
        }
        gradients.into_iter().chain([x]).for_each(|v| e.free_v(v));
    }

    /// Adds the sums of a block, of kernel rows from `first` on, to what the blocks before it gave.
    fn store(&self, e: &mut dyn Emitter, sums: Vec<V>, (channel, lanes): (R, usize), first: R, pass: R) {
        let (taps, width) = (self.spec.taps(), self.spec.sliding.kernel[1]);
        let place = |e: &mut dyn Emitter, pointer: R| {
            let (at, offset) = (copy(e, pointer), e.r());
            for (index, count) in [(channel, taps), (first, width)] {
                e.mul_imm(offset, index, (count * SINGLE) as i64);
                e.add(at, at, offset);
            }
            e.free_r(offset);
            at
        };
        let (y, sum) = (place(e, self.y), self.sum.map(|sum| place(e, sum)));
        // The first block is added to the earlier sum, or to nothing.
        let source = sum.inspect(|sum| e.select_below(*sum, pass, 1, *sum, y));
        for (group, lines) in sums.chunks(self.side).enumerate() {
            let mut square = lines.to_vec();
            square.resize(self.side, lines[0]);
            let at = |row: usize| (row * taps + group * self.side) * SINGLE;
            let rows: Vec<V> = transpose(e, square).into_iter().take(lanes).collect();
            let add = |e: &mut dyn Emitter, from: R| {
                let before = e.v();
                for (row, v) in rows.iter().enumerate() {
                    e.load(before, from.at(at(row)), lines.len());
                    e.op(VOp::Add, Element::F32, *v, *v, before);
                }
                e.free_v(before);
            };
            match source {
                Some(source) => add(e, source),
                None if self.spec.blocks() > 1 => {
                    let zero = e.integer(0);
                    e.if_less(zero, pass, &mut |e| add(e, y));
                    e.free_r(zero);
                }
                None => {}
            }
            rows.iter().enumerate().for_each(|(row, v)| e.store(*v, y.at(at(row)), lines.len()));
        }
        sums.into_iter().for_each(|v| e.free_v(v));
        [y].into_iter().chain(source).for_each(|r| e.free_r(r));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    /// (batch, channels, input, output, kernel, strides, dilations, pads above and left)
    type Case = (usize, usize, [usize; 2], [usize; 2], [usize; 2], [usize; 2], [usize; 2], [usize; 2]);

    const CASES: &[Case] = &[
        (1, 8, [7, 7], [7, 7], [3, 3], [1, 1], [1, 1], [1, 1]),
        (1, 32, [14, 14], [14, 14], [5, 5], [1, 1], [1, 1], [2, 2]),
        // Uneven padding.
        (1, 48, [14, 14], [7, 7], [5, 5], [2, 2], [1, 1], [1, 1]),
        (2, 3, [5, 9], [3, 5], [3, 3], [2, 2], [1, 1], [0, 1]),
        (2, 40, [40, 31], [40, 31], [3, 3], [1, 1], [1, 1], [1, 1]),
        (1, 17, [1, 1], [1, 1], [3, 3], [1, 1], [1, 1], [1, 1]),
        (3, 20, [13, 6], [11, 3], [3, 5], [1, 2], [2, 1], [1, 2]),
        (1, 5, [9, 11], [3, 3], [2, 2], [3, 4], [1, 1], [0, 0]),
        (2, 4, [4, 540], [4, 540], [3, 3], [1, 1], [1, 1], [1, 1]),
        (1, 4, [12, 14], [12, 14], [11, 11], [1, 1], [1, 1], [5, 5]),
        (1, 5, [9, 30], [9, 30], [9, 9], [1, 1], [1, 1], [4, 4]),
        (1, 7, [4, 4], [4, 4], [1, 1], [1, 1], [1, 1], [0, 0]),
        (0, 7, [4, 4], [4, 4], [3, 3], [1, 1], [1, 1], [1, 1]),
    ];

    fn spec(
        (batch, channels, input, output, kernel, strides, dilations, pads): Case,
        sum: bool,
    ) -> ChannelWeightGradient {
        let (element, transposed) = (DType::F32, false);
        let gaps = [0, 0];
        let sliding =
            Sliding { element, batch, channels, gaps, input, output, kernel, strides, dilations, pads, transposed };
        ChannelWeightGradient { sliding, sum }
    }

    /// `x`, `dy`, zeros, and the earlier sum if there is one.
    fn operands(s: &ChannelWeightGradient) -> Vec<Vec<f32>> {
        let [x, dy] =
            [(1, s.sliding.input_len()), (2, s.sliding.output_len())].map(|(seed, len)| testing::values(seed, len));
        let sum = s.sum.then(|| testing::values(3, s.sliding.channels * s.taps()));
        [x, dy, vec![0.0; s.sliding.row_len()]].into_iter().chain(sum).collect()
    }

    /// The weights by the definition: block by block, and pixel by pixel, fused as said.
    fn expected(s: &ChannelWeightGradient, operands: &[Vec<f32>]) -> Vec<f32> {
        let Sliding { batch, channels, input, output, kernel, strides, dilations, pads, .. } = s.sliding;
        let mut y = operands.get(3).cloned().unwrap_or_else(|| vec![0.0; channels * s.taps()]);
        for (n, top) in (0..batch).flat_map(|n| (0..output[0]).step_by(s.rows()).map(move |top| (n, top))) {
            for (at, y) in y.iter_mut().enumerate() {
                let (c, kh, kw) = (at / s.taps(), at % s.taps() / kernel[1], at % kernel[1]);
                let mut sum = 0f32;
                for (oh, ow) in
                    (top..output[0].min(top + s.rows())).flat_map(|oh| (0..output[1]).map(move |ow| (oh, ow)))
                {
                    let ih = (oh * strides[0] + kh * dilations[0]).wrapping_sub(pads[0]);
                    let iw = (ow * strides[1] + kw * dilations[1]).wrapping_sub(pads[1]);
                    if ih < input[0] && iw < input[1] {
                        let dy = operands[1][((n * output[0] + oh) * output[1] + ow) * channels + c];
                        sum = dy.mul_add(operands[0][((n * input[0] + ih) * input[1] + iw) * channels + c], sum);
                    }
                }
                *y += sum;
            }
        }
        y
    }

    #[test]
    fn pixels_are_summed_as_said_by_every_schedule() {
        testing::report(CASES.iter().flat_map(|case| [false, true].map(|sum| spec(*case, sum))).map(|s| {
            let operands = operands(&s);
            let slices: Vec<&[f32]> = operands.iter().map(Vec::as_slice).collect();
            let exact: Vec<f64> = expected(&s, &operands).into_iter().map(f64::from).collect();
            let found = testing::run(s.clone(), &slices);
            let off = testing::mismatch(&s.name(), &found[0], &exact, |_| 0.0);
            let differs = |(tile, rows, block, lanes): (usize, usize, usize, usize)| {
                let schedule = Schedule { tile, rows, block };
                let other = testing::interpret(&s, &schedule, &slices, lanes) != found;
                other.then(|| format!("{}: {schedule}, {lanes} lanes", s.name()))
            };
            let schedules = [(1, 1, 16, 4), (5, 2, 32, 8), (8, 3, 48, 16), (13, 11, 1024, 4)];
            off.or_else(|| schedules.into_iter().find_map(differs))
        }));
    }

    #[test]
    fn narrow_elements_agree() {
        testing::report(CASES.iter().map(|case| {
            testing::narrow(|element| {
                let s = spec(*case, true);
                let operands = operands(&s);
                (ChannelWeightGradient { sliding: Sliding { element, ..s.sliding }, ..s }, operands)
            })
        }));
    }

    #[test]
    fn every_target_has_code_of_bounded_size() {
        assert!(CASES.iter().all(|case| spec(*case, true).applies()));
        let wide = spec((1, 4, [12, 20], [12, 20], [11, 11], [1, 1], [1, 1], [5, 5]), true);
        assert!(!wide.applies());
        for (case, target) in CASES.iter().flat_map(|case| Target::all().map(move |target| (case, target))) {
            let kernel = super::super::Kernel::new(spec(*case, true), &target);
            let code = crate::emit::compile(&[&kernel], &target).expect("code");
            assert!(code[0].bytes.len() < 40 << 10, "{} for {target}: {} bytes", kernel.name, code[0].bytes.len());
        }
    }
}
