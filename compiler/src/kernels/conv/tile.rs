//! One tile: pixels of a row by the output channels of a strip, held in registers from bias to store.

use super::phase::{Phase, Run};
use super::strip::Strip;
use super::{Conv, Input, Schedule, WIDEST};
use crate::codegen::elements::SINGLE;
use crate::codegen::epilogue::{Maps, Output};
use crate::codegen::{Count, Element, Emitter, R, V, VOp};
use crate::kernels::finish::{Moved, Pointer, Unfinished};
use crate::kernels::{Finish, LINE};

/// Where a tile reads and writes.
#[derive(Clone, Copy, Debug)]
pub struct TilePointers {
    /// Input: first kernel row and column of the tile's first pixel.
    pub x: R,
    /// Weights of the strip: those of the panel it begins in, for the first kernel row.
    pub weights: R,
    /// Bias of the strip.
    pub bias: R,
    /// The epilogue's maps at the first pixel.
    pub maps: Maps<R>,
    /// Output of the first pixel.
    pub y: R,
    /// What becomes of the sums: its inputs at the first pixel.
    pub finish: Moved<Pointer>,
    /// Kernel rows inside the image; all of them if there is no register.
    pub kernel_rows: Option<R>,
}

/// Which tiles a tile is one of.
#[derive(Clone, Copy, Debug)]
pub struct Kind<'a> {
    pub phase: &'a Phase,
    pub run: &'a Run,
    pub strip: &'a Strip,
}

/// Byte strides of the input.
#[derive(Clone, Copy, Debug)]
pub struct Strides {
    /// Of channels, or of pairs of them.
    pub channel: usize,
    pub pixel: usize,
    pub row: usize,
    pub image: usize,
    pub group: usize,
}

impl Conv {
    /// Byte strides of the input.
    pub fn strides(&self) -> Strides {
        let (all, h, w) = (self.groups * self.channels, self.rows.input, self.columns.input);
        let size = self.element.size();
        let image = size * all * h * w;
        match self.input {
            Input::ChannelsLast => {
                let channel = self.lane();
                Strides { channel, pixel: size * all, row: size * all * w, image, group: size * self.channels }
            }
            Input::RowMajor => Strides {
                channel: size * h * w,
                pixel: size,
                row: size * w,
                image,
                group: size * self.channels * h * w,
            },
        }
    }

    /// Writes one tile.
    pub fn tile(&self, schedule: &Schedule, e: &mut dyn Emitter, kind: Kind<'_>, place: &TilePointers) {
        // Tiles at the edges have code for each tap and run seldom: theirs is kept short.
        let unroll = if kind.run.clipped { schedule.unroll.div_ceil(2) } else { schedule.unroll };
        let Kind { phase, run, strip } = kind;
        let tile = Tile { conv: self, unroll, phase, run, strip, strides: self.strides() };
        if self.epilogue.is_far(self.result().size() * self.pixels() * self.groups * self.filters) {
            tile.prefetch(e, place);
        }
        let sums = tile.start(e, place);
        let (x, w) = (e.r(), e.r());
        e.copy(x, place.x);
        e.copy(w, place.weights);
        let rows = place.kernel_rows.map_or(Count::Times(self.rows.kernel as u32), Count::Register);
        let next = (self.rows.dilation * tile.strides.row) as i64;
        let back = -((self.rows.stride * self.columns.kernel * self.steps() * strip.step) as i64);
        e.repeat(rows, &mut |e| {
            if self.transposed {
                tile.transposed_row(e, &sums, x, w);
                e.add_imm(w, w, back);
            } else {
                tile.kernel_row(e, &sums, x, w);
            }
            e.add_imm(x, x, next);
        });
        e.free_r(x);
        e.free_r(w);
        tile.finish(e, &sums, place);
    }
}

/// What is known of a tile when its code is written.
struct Tile<'a> {
    conv: &'a Conv,
    unroll: usize,
    phase: &'a Phase,
    run: &'a Run,
    strip: &'a Strip,
    strides: Strides,
}

/// The two `bf16` numbers of each lane of `odd`, as `f32`: the lower one in `even`, the upper one in `odd`.
fn halves(e: &mut dyn Emitter, even: V, odd: V) {
    e.shift_left(Element::I32, even, odd, 16);
    e.shift_right(Element::I32, odd, odd, 16);
    e.shift_left(Element::I32, odd, odd, 16);
}

/// Accumulators by pixel, then vector.
type Sums = Vec<Vec<V>>;

impl Tile<'_> {
    /// Accumulators that hold the bias.
    fn start(&self, e: &mut dyn Emitter, place: &TilePointers) -> Sums {
        let width = e.lanes(Element::F32);
        let mut sums: Sums = vec![Vec::new(); self.run.size];
        for (i, vector) in self.strip.vectors.iter().enumerate() {
            let mut first = None;
            for pixel in &mut sums {
                let v = e.v();
                match first {
                    None => e.load(v, place.bias.at(SINGLE * i * width), vector.stored),
                    Some(first) => e.copy_v(v, first),
                }
                first = first.or(Some(v));
                pixel.push(v);
            }
        }
        sums
    }

    /// Asks for what the epilogue reads and writes.
    fn prefetch(&self, e: &mut dyn Emitter, place: &TilePointers) {
        let (size, width) = (self.conv.result().size(), e.lanes(Element::F32));
        let pixel = size * self.phase.pitch * self.conv.groups * self.conv.filters;
        let bytes = size * width * self.strip.vectors.len();
        for map in place.maps.into_iter().flatten().chain([place.y]) {
            for p in 0..self.run.size {
                (0..bytes).step_by(LINE).for_each(|line| e.prefetch(map.at(p * pixel + line)));
            }
        }
    }

    /// Adds all taps of one kernel row; leaves `w` at the next row's weights.
    fn kernel_row(&self, e: &mut dyn Emitter, sums: &Sums, x: R, w: R) {
        let (columns, lane, steps) = (&self.conv.columns, self.conv.lane(), self.conv.steps());
        let all: Vec<usize> = (0..self.run.size).collect();
        let contiguous = columns.dilation == 1 && self.strides.pixel == lane * steps;
        if !self.run.clipped && contiguous && self.strides.channel == lane {
            // The taps of a row lie one after the other: one long run of channels.
            self.products(e, sums, &all, columns.kernel * steps, (x, 0), w);
            return;
        }
        if !self.run.clipped && columns.kernel > WIDEST {
            let at = e.r();
            e.copy(at, x);
            e.repeat(Count::Times(columns.kernel as u32), &mut |e| {
                self.products(e, sums, &all, steps, (at, 0), w);
                e.add_imm(at, at, (columns.dilation * self.strides.pixel) as i64);
            });
            e.free_r(at);
            return;
        }
        for tap in 0..columns.kernel {
            let active = self.active(tap);
            if active.is_empty() {
                e.add_imm(w, w, self.strip.step as i64 * steps as i64);
            } else {
                let offset = tap * columns.dilation * self.strides.pixel;
                self.products(e, sums, &active, steps, (x, offset as i64), w);
            }
        }
    }

    /// The pixels for which a tap, by its place in the phase, meets the input.
    fn active(&self, tap: usize) -> Vec<usize> {
        let met = |p: &usize| !self.run.clipped || self.phase.inside(self.run.pixel + p, tap);
        (0..self.run.size).filter(met).collect()
    }

    /// Adds the taps of the phase in one kernel row, the last one first; leaves `x` and `weights` as they are.
    fn transposed_row(&self, e: &mut dyn Emitter, sums: &Sums, x: R, weights: R) {
        let w = e.r();
        for (place, tap) in self.phase.taps.iter().enumerate() {
            let active = self.active(place);
            if !active.is_empty() {
                e.add_imm(w, weights, (tap * self.conv.steps() * self.strip.step) as i64);
                let offset = place * self.phase.step * self.strides.pixel;
                self.products(e, sums, &active, self.conv.steps(), (x, offset as i64), w);
            }
        }
        e.free_r(w);
    }

    /// Adds `depth` channels, or pairs of them, of one tap to the `active` pixels; advances `w` after their weights.
    fn products(&self, e: &mut dyn Emitter, sums: &Sums, active: &[usize], depth: usize, (x, offset): (R, i64), w: R) {
        if let Some(run) = self.conv.run {
            return self.runs(e, sums, active, [depth, run / 2], (x, offset), w);
        }
        let (unroll, channel) = (self.unroll, self.strides.channel as i64);
        // The last channel of an odd number has no other beside it that would be of its pixel.
        let odd = usize::from(!self.conv.channels.is_multiple_of(self.conv.together()) && depth > 0);
        let (turns, rest) = ((depth - odd) / unroll, (depth - odd) % unroll);
        let at = e.r();
        e.add_imm(at, x, offset);
        e.repeat(Count::Times(turns as u32), &mut |e| {
            self.channels(e, sums, active, (unroll, 0), at, w);
            e.add_imm(at, at, unroll as i64 * channel);
            e.add_imm(w, w, unroll as i64 * self.strip.step as i64);
        });
        self.channels(e, sums, active, (rest, odd), at, w);
        e.add_imm(w, w, (rest + odd) as i64 * self.strip.step as i64);
        e.free_r(at);
    }

    /// As [`Self::products`], of `depth` pairs in runs of `run` pairs; see [`super::runs`].
    fn runs(
        &self,
        e: &mut dyn Emitter,
        sums: &Sums,
        active: &[usize],
        [depth, run]: [usize; 2],
        (x, offset): (R, i64),
        w: R,
    ) {
        let at = e.r();
        e.add_imm(at, x, offset);
        let count = self.strip.vectors.len();
        e.repeat(Count::Times((depth / run) as u32), &mut |e| {
            let chains: Vec<[V; 2]> = (0..active.len() * count).map(|_| [e.v(), e.v()]).collect();
            chains.iter().flatten().for_each(|v| e.zero(*v));
            e.repeat(Count::Times(run as u32), &mut |e| {
                self.pair(e, &chains, active, at, w);
                e.add_imm(at, at, self.strides.channel as i64);
                e.add_imm(w, w, self.strip.step as i64);
            });
            let of_active = active.iter().flat_map(|p| &sums[*p]);
            for (sum, [even, odd]) in of_active.zip(&chains) {
                e.op(VOp::Add, Element::F32, *even, *even, *odd);
                e.op(VOp::Add, Element::F32, *sum, *sum, *even);
            }
            chains.into_iter().flatten().for_each(|v| e.free_v(v));
        });
        e.free_r(at);
    }

    /// Adds the products of a pair of channels to the chains of even and odd ones.
    fn pair(&self, e: &mut dyn Emitter, chains: &[[V; 2]], active: &[usize], x: R, w: R) {
        let pixel = self.phase.stride * self.strides.pixel;
        let mut weights = Vec::new();
        for vector in &self.strip.vectors {
            let [even, odd] = [e.v(), e.v()];
            e.load(odd, w.at(vector.weights), vector.stored);
            halves(e, even, odd);
            weights.push([even, odd]);
        }
        let [even, odd] = [e.v(), e.v()];
        for (p, chains) in active.iter().zip(chains.chunks(weights.len())) {
            e.broadcast(odd, x.at(p * pixel));
            halves(e, even, odd);
            for (chain, weight) in chains.iter().zip(&weights) {
                e.fma(chain[0], even, weight[0]);
                e.fma(chain[1], odd, weight[1]);
            }
        }
        weights.into_iter().flatten().chain([even, odd]).for_each(|v| e.free_v(v));
    }

    /// Adds channels, each weight vector times each pixel's broadcast element: `count` of them, or pairs, and the first half of `odd` pairs.
    fn channels(&self, e: &mut dyn Emitter, sums: &Sums, active: &[usize], (count, odd): (usize, usize), x: R, w: R) {
        let weights: Vec<V> = self.strip.vectors.iter().map(|_| e.v()).collect();
        let (element, factors) = (e.v(), self.conv.element);
        let pixel = self.phase.stride * self.strides.pixel;
        for k in 0..count + odd {
            for (v, vector) in weights.iter().zip(&self.strip.vectors) {
                let at = w.at(vector.weights + k * self.strip.step);
                e.load_factors(*v, at, factors, vector.stored);
            }
            for p in active {
                e.broadcast_factor(element, x.at(p * pixel + k * self.strides.channel), factors, k < count);
                // Cranelift's x86 `fma` overwrites its first factor: the broadcast element, which has no further use, spares a copy.
                let last = weights.len() - 1;
                for (sum, v) in sums[*p].iter().zip(&weights[..last]) {
                    e.multiply_add(factors, *sum, *v, element);
                }
                e.multiply_add(factors, sums[*p][last], element, weights[last]);
            }
        }
        for v in weights {
            e.free_v(v);
        }
        e.free_v(element);
    }

    /// Sends the accumulators through the epilogue to memory.
    fn finish(&self, e: &mut dyn Emitter, sums: &Sums, place: &TilePointers) {
        if let Some(finish) = &self.conv.finish {
            return self.store_finished(e, finish, sums, place);
        }
        let (width, pixel) = (e.lanes(Element::F32), self.phase.pitch * self.conv.groups * self.conv.filters);
        let mut outputs = Vec::new();
        for (p, sums) in sums.iter().enumerate() {
            for (i, (value, vector)) in sums.iter().zip(&self.strip.vectors).enumerate() {
                let offset = self.conv.result().size() * (p * pixel + i * width);
                outputs.push(Output {
                    value: *value,
                    to: place.y.at(offset),
                    lanes: vector.lanes,
                    maps: place.maps.map(|map| map.map(|r| r.at(offset))),
                    sum: None,
                });
            }
        }
        self.conv.epilogue.store(e, self.conv.result(), &outputs);
        for v in sums.iter().flatten() {
            e.free_v(*v);
        }
    }

    /// Sends the accumulators to memory as what becomes of them, vector by vector of channels.
    fn store_finished(&self, e: &mut dyn Emitter, finish: &Finish, sums: &Sums, place: &TilePointers) {
        let (width, pitch) = (e.lanes(Element::F32), self.phase.pitch);
        let (dense, size) = (self.conv.groups * self.conv.filters, self.conv.result().size());
        let mut outputs = Vec::new();
        for (i, vector) in self.strip.vectors.iter().enumerate() {
            for (p, sums) in sums.iter().enumerate() {
                let at = |pixel: usize| p * pitch * pixel + i * width;
                let read = |input: Pointer| input.at.at(input.size * at(if input.by_pixel { dense } else { 0 }));
                outputs.push(Unfinished {
                    sum: sums[i],
                    to: place.y.at(size * at(self.conv.pitch())),
                    lanes: vector.lanes,
                    at: place.finish.map(|input| input.map(read)),
                });
            }
        }
        finish.store(e, self.conv.result_argument() + 1, &outputs);
        for v in sums.iter().flatten() {
            e.free_v(*v);
        }
    }
}
