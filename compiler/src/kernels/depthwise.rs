//! Depthwise convolution, channel-last: `y = then(conv(x, w) + bias)`, and the sum of every output row for squeeze-and-excite.
//!
//! In: `x [N, H, W, C]`, weights `[taps][stride]` with [`Depthwise::tap_stride`] floats per tap, bias of as many floats, a row of zeros. Out:
//! `y [N, OH, OW, C]`, and with `squeeze` one partial sum per row `[N, OH, C]`.
//!
//! Each output starts from the bias and takes its taps in order (row, column) by FMA. A tap above or below the map reads the row of
//! zeros and is multiplied; one left or right of it is left out. A partial adds the row's outputs by column, ascending, from 0.
//!
//! One step covers a segment of a row: `tile` outputs of one vector of channels stay in accumulators, each input is loaded once and
//! used by every output it reaches, the weights of one kernel row are in registers.

use super::{Argument, Family};
use crate::codegen::epilogue::{Epilogue, Output, Step};
use crate::codegen::{Count, Emitter, R, V};
use crate::scalar::UnaryFn;
use crate::target::Target;

/// What a depthwise convolution computes. Extents are `[height, width]`.
#[derive(Clone, PartialEq, Debug)]
pub struct Depthwise {
    /// Images.
    pub batch: usize,
    /// Channels.
    pub channels: usize,
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
    /// Activation.
    pub then: Option<UnaryFn>,
    /// Whether row sums are written too.
    pub squeeze: bool,
}

/// How: outputs of a row that share one pass over the input.
#[derive(Clone, PartialEq, Debug)]
pub struct Schedule {
    /// Outputs per segment.
    pub tile: usize,
}

/// Widest window.
const WIDEST: usize = 11;
/// Largest constant offset, bytes.
const LARGEST: usize = 1 << 28;
/// Most multiply-adds that a kernel may spell out for the different segments of a row.
const CODE: usize = 2048;

/// Consecutive segments of a row that read the same taps.
struct Run {
    /// First output column.
    start: usize,
    /// Outputs of one segment.
    width: usize,
    /// Segments.
    count: usize,
}

impl Depthwise {
    /// Floats from one tap's weights to the next: an odd number of cache lines, so that taps of the same channel fall into
    /// different cache sets.
    pub fn tap_stride(&self) -> usize {
        let lines = self.channels.div_ceil(16);
        (lines | 1) * 16
    }

    /// Floats of the packed weights.
    pub fn weight_len(&self) -> usize {
        self.kernel[0] * self.kernel[1] * self.tap_stride()
    }

    /// Packs weights `[C, 1, KH, KW]` in the order the kernel reads them into `out`, which holds zeros.
    pub fn pack<T: Copy>(&self, weights: &[T], out: &mut [T]) {
        let (taps, stride) = (self.kernel[0] * self.kernel[1], self.tap_stride());
        for (channel, taps_of) in weights.chunks_exact(taps).enumerate() {
            for (tap, value) in taps_of.iter().enumerate() {
                out[tap * stride + channel] = *value;
            }
        }
    }

    /// Whether there is a kernel: constant offsets fit their fields and the code stays within [`CODE`].
    pub fn applies(&self) -> bool {
        let row = (self.input[1].max(self.output[1])).saturating_mul(self.channels).saturating_mul(4);
        let taps = self.kernel[0].saturating_mul(self.kernel[1]);
        if self.kernel.iter().any(|k| *k > WIDEST) || row > LARGEST || self.strides[1].max(self.dilations[1]) > LARGEST {
            return false;
        }
        let small = taps.saturating_mul(self.tap_stride() * 4) <= LARGEST;
        small && self.output[1] <= LARGEST && self.runs(1).len() * taps <= CODE
    }

    /// The input columns that segment `start..start + width` reads through kernel column `column`, as `(output, input column)`.
    fn reach(&self, start: usize, output: usize, column: usize) -> Option<usize> {
        let at = (start + output) * self.strides[1] + column * self.dilations[1];
        at.checked_sub(self.pads[1]).filter(|at| *at < self.input[1])
    }

    /// Which taps of a segment are inside the map, output by output.
    fn mask(&self, start: usize, width: usize) -> Vec<bool> {
        (0..width).flat_map(|t| (0..self.kernel[1]).map(move |k| self.reach(start, t, k).is_some())).collect()
    }

    /// Whether further segments may join a run: its taps are all inside, and it does not begin the row's sum.
    fn continues(&self, run: &Run) -> bool {
        self.mask(run.start, run.width).iter().all(|inside| *inside) && (run.start > 0 || !self.squeeze)
    }

    /// The row as runs of equal segments.
    fn runs(&self, tile: usize) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let mut start = 0;
        while start < self.output[1] {
            let width = tile.min(self.output[1] - start);
            let mask = self.mask(start, width);
            match runs.last_mut() {
                Some(run) if run.width == width && self.continues(run) && self.mask(run.start, width) == mask => run.count += 1,
                _ => runs.push(Run { start, width, count: 1 }),
            }
            start += width;
        }
        runs
    }
}

impl Family for Depthwise {
    type Schedule = Schedule;

    fn name(&self) -> String {
        let pair = |v: [usize; 2]| if v[0] == v[1] { v[0].to_string() } else { format!("{}x{}", v[0], v[1]) };
        let mut name = format!(
            "f32_depthwise_n{}c{}h{}w{}_h{}w{}_k{}s{}p{}",
            self.batch, self.channels, self.input[0], self.input[1], self.output[0], self.output[1],
            pair(self.kernel), pair(self.strides), pair(self.pads)
        );
        if self.dilations != [1, 1] {
            name += &format!("d{}", pair(self.dilations));
        }
        name + "_bias" + &self.epilogue().suffix()
    }

    fn arguments(&self) -> Vec<Argument> {
        let row = |map: [usize; 2]| self.batch * map[0] * map[1] * self.channels * 4;
        let mut arguments = vec![
            Argument::read("x", row(self.input)),
            Argument::read("weights", self.weight_len() * 4),
            Argument::read("bias", self.tap_stride() * 4),
            Argument::read("zeros", self.input[1] * self.channels * 4),
            Argument::write("y", row(self.output)),
        ];
        if self.squeeze {
            arguments.push(Argument::write("sums", self.batch * self.output[0] * self.channels * 4));
        }
        arguments
    }

    /// The widest tile of at most what registers hold that divides the row, or the widest if none does.
    fn schedule(&self, target: &Target) -> Schedule {
        let registers = target.vector_registers().saturating_sub(self.kernel[1] + 4);
        let most = registers.clamp(1, 8).min(self.output[1].max(1));
        let even = (most.div_ceil(2)..=most).rev().find(|t| self.output[1].is_multiple_of(*t));
        Schedule { tile: even.unwrap_or(most) }
    }

    fn chunks(&self, _schedule: &Schedule) -> u32 {
        if self.channels == 0 || self.output[1] == 0 {
            return 0;
        }
        (self.batch * self.output[0]) as u32
    }

    fn flops(&self) -> u64 {
        2 * (self.batch * self.output[0] * self.output[1] * self.channels * self.kernel[0] * self.kernel[1]) as u64
    }

    fn emit(&self, schedule: &Schedule, e: &mut dyn Emitter) {
        let [x, weights, bias, zeros, y] = [0, 1, 2, 3, 4].map(|i| e.pointer(i));
        let sums = self.squeeze.then(|| e.pointer(5));
        let (chunk, count) = (e.r(), e.r());
        e.begin(chunk);
        e.end(count);
        e.sub(count, count, chunk);
        let runs = self.runs(schedule.tile);
        e.repeat(Count::Register(count), &mut |e| {
            let rows = self.row_pointers(e, chunk, x, zeros);
            let out = e.r();
            e.mul_imm(out, chunk, (self.output[1] * self.channels * 4) as i64);
            e.add(out, out, y);
            let sum = sums.map(|sums| {
                let sum = e.r();
                e.mul_imm(sum, chunk, (self.channels * 4) as i64);
                e.add(sum, sum, sums);
                sum
            });
            for run in &runs {
                self.run(e, run, &rows, [weights, bias, out], sum);
            }
            e.add_imm(chunk, chunk, 1);
            rows.into_iter().chain([out]).chain(sum).for_each(|r| e.free_r(r));
        });
    }
}

impl Depthwise {
    /// Pointers to the input rows that output row `chunk` reads, one per kernel row; the row of zeros stands for padding.
    fn row_pointers(&self, e: &mut dyn Emitter, chunk: R, x: R, zeros: R) -> Vec<R> {
        let (image, first, at) = (e.r(), e.r(), e.r());
        e.div_imm(image, chunk, self.output[0] as u32);
        e.mul_imm(at, image, self.output[0] as i64);
        e.sub(first, chunk, at);
        e.mul_imm(first, first, self.strides[0] as i64);
        e.add_imm(first, first, -(self.pads[0] as i64));
        e.mul_imm(image, image, self.input[0] as i64);
        let row_bytes = (self.input[1] * self.channels * 4) as i64;
        let rows = (0..self.kernel[0])
            .map(|k| {
                let (row, inside) = (e.r(), e.r());
                e.add_imm(at, first, (k * self.dilations[0]) as i64);
                e.add(inside, at, image);
                e.mul_imm(inside, inside, row_bytes);
                e.add(inside, inside, x);
                e.select_below(row, at, self.input[0] as u32, inside, zeros);
                e.free_r(inside);
                row
            })
            .collect();
        [image, first, at].into_iter().for_each(|r| e.free_r(r));
        rows
    }

    /// The segments of one run, one after the other.
    fn run(&self, e: &mut dyn Emitter, run: &Run, rows: &[R], [weights, bias, out]: [R; 3], sum: Option<R>) {
        if run.count == 1 {
            return self.segment(e, run, rows, [weights, bias, out], sum);
        }
        let bases: Vec<R> = rows.iter().map(|row| copy(e, *row)).collect();
        let y = copy(e, out);
        e.repeat(Count::Times(run.count as u32), &mut |e| {
            self.segment(e, run, &bases, [weights, bias, y], sum);
            let step = (run.width * self.strides[1] * self.channels * 4) as i64;
            bases.iter().for_each(|base| e.add_imm(*base, *base, step));
            e.add_imm(y, y, (run.width * self.channels * 4) as i64);
        });
        bases.into_iter().chain([y]).for_each(|r| e.free_r(r));
    }

    /// One segment: all vectors of channels.
    fn segment(&self, e: &mut dyn Emitter, run: &Run, rows: &[R], shared: [R; 3], sum: Option<R>) {
        let lanes = e.lanes();
        let (full, tail) = (self.channels / lanes, self.channels % lanes);
        let moving: Vec<R> = rows.iter().chain(&shared).chain(&sum).map(|r| copy(e, *r)).collect();
        if full > 0 {
            e.repeat(Count::Times(full as u32), &mut |e| {
                self.vector(e, run, &moving, lanes);
                moving.iter().for_each(|r| e.add_imm(*r, *r, (lanes * 4) as i64));
            });
        }
        if tail > 0 {
            self.vector(e, run, &moving, tail);
        }
        moving.into_iter().for_each(|r| e.free_r(r));
    }

    /// One segment of one vector of channels. `at`: the kernel's rows, then weights, bias, output and sum.
    fn vector(&self, e: &mut dyn Emitter, run: &Run, at: &[R], lanes: usize) {
        let (rows, rest) = at.split_at(self.kernel[0]);
        let accumulators: Vec<V> = (0..run.width).map(|_| e.v()).collect();
        for acc in &accumulators {
            e.load(*acc, rest[1].at(0), e.lanes());
        }
        for (k, row) in rows.iter().enumerate() {
            self.kernel_row(e, run, k, *row, rest[0], &accumulators, lanes);
        }
        let sum = rest.get(3).map(|sum| (*sum, self.partial(e, run, *sum, lanes)));
        let pixel = self.channels * 4;
        let output = |(t, acc): (usize, &V)| {
            let to = rest[2].at(((run.start + t) * pixel) as i32);
            Output { value: *acc, to, lanes, residual: None, sum: sum.map(|(_, total)| total) }
        };
        self.epilogue().store(e, &accumulators.iter().enumerate().map(output).collect::<Vec<_>>());
        if let Some((sum, total)) = sum {
            e.store(total, sum.at(0), lanes);
            e.free_v(total);
        }
        accumulators.into_iter().for_each(|v| e.free_v(v));
    }
}

impl Depthwise {
    /// The taps of kernel row `k`: each input column is loaded once and added to every output it reaches.
    #[allow(clippy::too_many_arguments, reason = "the registers of the inner loop")]
    fn kernel_row(&self, e: &mut dyn Emitter, run: &Run, k: usize, row: R, weights: R, accumulators: &[V], lanes: usize) {
        let mut taps: Vec<(usize, usize, usize)> = Vec::new();
        for t in 0..run.width {
            taps.extend((0..self.kernel[1]).filter_map(|j| self.reach(run.start, t, j).map(|column| (column, t, j))));
        }
        taps.sort_unstable();
        let loaded: Vec<Option<V>> = (0..self.kernel[1])
            .map(|j| {
                taps.iter().any(|(_, _, used)| *used == j).then(|| {
                    let v = e.v();
                    let offset = (k * self.kernel[1] + j) * self.tap_stride() * 4;
                    e.load(v, weights.at(offset as i32), e.lanes());
                    v
                })
            })
            .collect();
        let x = e.v();
        let mut held = None;
        for (column, t, j) in taps {
            if held != Some(column) {
                e.load(x, row.at((column * self.channels * 4) as i32), lanes);
                held = Some(column);
            }
            if let Some(weight) = loaded[j] {
                e.fma(accumulators[t], weight, x);
            }
        }
        loaded.into_iter().flatten().chain([x]).for_each(|v| e.free_v(v));
    }

    /// The row's partial sum so far.
    fn partial(&self, e: &mut dyn Emitter, run: &Run, sum: R, lanes: usize) -> V {
        let total = e.v();
        match run.start {
            0 => e.zero(total),
            _ => e.load(total, sum.at(0), lanes),
        }
        total
    }

    /// What happens to an accumulator before it is stored.
    fn epilogue(&self) -> Epilogue {
        let epilogue = Epilogue::new(self.then, false, false);
        if self.squeeze { epilogue.then(Step::Sum) } else { epilogue }
    }
}

fn copy(e: &mut dyn Emitter, from: R) -> R {
    let r = e.r();
    e.copy(r, from);
    r
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

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
    ];

    fn spec((batch, channels, input, kernel, strides, dilations, pads): Case) -> Depthwise {
        let extent = |i: usize| (input[i] + 2 * pads[i] - dilations[i] * (kernel[i] - 1) - 1) / strides[i] + 1;
        let output = [extent(0), extent(1)];
        Depthwise { batch, channels, input, output, kernel, strides, dilations, pads, then: None, squeeze: true }
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
            let x = testing::values(1, s.batch * s.input[0] * s.input[1] * s.channels);
            let w = testing::values(2, s.channels * taps);
            let mut bias = testing::values(3, s.channels);
            let (values, sizes) = reference(&s, &x, &w, &bias);
            bias.resize(s.tap_stride(), 0.0);
            let zeros = vec![0.0; s.input[1] * s.channels];
            let mut packed = vec![0.0; s.weight_len()];
            s.pack(&w, &mut packed);
            let out = testing::run(s.clone(), &[&x, &packed, &bias, &zeros]);
            let unit = 2f64.powi(-24);
            let exact = testing::mismatch(&s.name(), &out[0], &values, |i| (taps + 8) as f64 * unit * sizes[i]);
            let (row, columns) = (s.channels, s.output[1]);
            let sums = (0..s.batch * s.output[0] * row)
                .map(|i| (0..columns).map(|t| f64::from(out[0][(i / row * columns + t) * row + i % row])).sum())
                .collect::<Vec<f64>>();
            exact.or(testing::mismatch(&s.name(), &out[1], &sums, |_| columns as f64 * columns as f64 * 16.0 * unit))
        }));
    }

    #[test]
    fn no_tile_changes_a_bit() {
        let s = spec(CASES[2]);
        let widest = s.runs(8).iter().map(|run| run.width * run.count).sum::<usize>();
        assert_eq!((widest, s.runs(1).iter().map(|run| run.count).sum::<usize>()), (s.output[1], s.output[1]));
    }
}
