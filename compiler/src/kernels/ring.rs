//! A 1x1 expansion and the depthwise convolution after it, as one kernel: `y = f(depthwise(act(x w + b)) + bias)`, and the sum
//! of every output row for squeeze-and-excite.
//!
//! In: `x [N, H, W, I]`, the expansion's weights and bias as [`Conv`] takes them, then what [`Depthwise`] takes. Out: `y [N, OH, OW, C]`,
//! and with `squeeze` one partial sum per row `[N, OH, C]`.
//!
//! The expanded map never exists as a whole. A work unit is a band of output rows by a block of channels. It keeps a ring of as
//! many expanded rows as the window is high, of its own channels only, in the worker's scratch memory:
//!
//! ```text
//! x row ─▶ [1x1, activation] ─▶ ring row ┐
//!                               ring row ┼▶ [depthwise, activation] ─▶ y row (and its sum)
//!                               ring row ┘
//! ```
//!
//! Each output row takes as many new rows as the stride is high; rows outside of the map are a row of zeros. A band begins with a
//! whole window, so rows at the border of two bands are expanded twice; blocks of channels share nothing but `x`, which each reads.
//!
//! Bits: those of both kernels run one after the other.

mod choice;
#[cfg(test)]
mod tests;

use super::conv::{self, Conv, PANEL};
use super::depthwise::Depthwise;
use super::parts::function;
use super::sliding::{self, Cell, Rows, Sliding, copy};
use super::{Argument, Family, KernelName, LINE, LayerKind, Parts, advance_single, work_units};
use crate::codegen::epilogue::Epilogue;
use crate::codegen::{Count, Emitter, R};
use crate::target::{Cost, Machine, Target};
use fornax_ir::scalar::UnaryFn;
use fornax_ir::types::DType;

/// An expansion and a depthwise convolution.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Ring {
    /// Channels before the expansion.
    pub inputs: usize,
    /// Activation of the expansion.
    pub expand: Option<UnaryFn>,
    /// The depthwise convolution; its input is the expanded map, and its output is dense.
    pub depthwise: Depthwise,
}

/// How it runs.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Schedule {
    /// Channels of a work unit: whole panels, or all.
    pub block: usize,
    /// Bands that the output rows of an image are cut into.
    pub bands: usize,
    /// Tile of the expansion; a unit expands row by row, so the rest is unused.
    pub expand: conv::Schedule,
    /// Segments and blocks of the depthwise convolution within a unit.
    pub rows: sliding::Schedule,
}

/// Blocks of equally many channels: all of them, or the last one alone.
#[derive(Clone, Copy, Debug)]
struct Part {
    /// First block.
    first: usize,
    /// Blocks.
    blocks: usize,
    /// Channels of each.
    channels: usize,
}

impl Ring {
    /// Whether there is a kernel: the window lies dense in the rows, its rows overlap or touch, and its code and offsets are bounded.
    pub fn applies(&self) -> bool {
        let d = &self.depthwise;
        d.dilations[0] == 1 && d.strides[0] <= d.kernel[0] && d.sliding().applies() && d.applies()
    }

    /// Bytes of the expanded map of one image.
    pub fn expanded_bytes(&self) -> usize {
        let d = &self.depthwise;
        d.input[0] * d.input[1] * d.channels * self.size()
    }

    /// How many times as fast as both kernels by themselves it is on a target.
    pub fn gain(&self, target: &Target) -> f64 {
        let machine = target.machine();
        let time = |cost: Cost| cost.microseconds(&machine);
        let (expansion, d) = (self.expansion_of_all(), &self.depthwise);
        let two =
            time(expansion.cost(&expansion.schedule(target), &machine)) + time(d.cost(&d.schedule(target), &machine));
        two / time(self.cost(&self.schedule(target), &machine))
    }

    /// The expansion of one row to its first `channels` channels.
    pub fn expansion(&self, channels: usize) -> Conv {
        self.pointwise(self.depthwise.input[1], channels)
    }

    /// The expansion of the whole input, as one row of pixels.
    pub fn expansion_of_all(&self) -> Conv {
        let d = &self.depthwise;
        let pixels = d.batch * d.input[0] * d.input[1];
        self.pointwise(pixels, d.channels)
    }

    fn pointwise(&self, pixels: usize, channels: usize) -> Conv {
        let epilogue = Epilogue::new(self.expand, false, false);
        Conv { element: self.depthwise.element, ..Conv::pointwise(pixels, self.inputs, channels, epilogue) }
    }

    /// Bytes of an element.
    fn size(&self) -> usize {
        self.depthwise.element.size()
    }

    /// Bytes from one row of the ring to the next, for `channels`: an odd number of cache lines, so that the rows of a window fall
    /// into different cache sets.
    fn pitch(&self, channels: usize) -> usize {
        let lines = (self.depthwise.input[1] * channels * self.size()).div_ceil(LINE);
        (lines | 1) * LINE
    }

    fn parts(&self, block: usize) -> impl Iterator<Item = Part> + use<> {
        let (full, rest) = (self.depthwise.channels / block, self.depthwise.channels % block);
        let whole = Part { first: 0, blocks: full, channels: block };
        let last = Part { first: full, blocks: usize::from(rest > 0), channels: rest };
        [whole, last].into_iter().filter(|part| part.blocks > 0)
    }
}

schedule_text!(Schedule, "Schedule" { "block": block, "bands": bands, "expand": expand, "rows": rows });

impl Family for Ring {
    type Schedule = Schedule;

    const WORDS: &'static [&'static str] = &["ring"];

    fn kind(_name: &KernelName) -> LayerKind {
        LayerKind::Ring
    }

    fn kernel_name(&self) -> KernelName {
        let name = KernelName::new(self.depthwise.element, "ring").shape(&[('i', &[self.inputs])]);
        self.depthwise.label(name.bias(&Epilogue::new(self.expand, false, false)))
    }

    fn read(name: &Parts<'_>) -> Option<Self> {
        let [expand, depthwise] = name.epilogues[..] else { return None };
        let depthwise = Depthwise::read_with(name, depthwise).filter(|depthwise| depthwise.gaps == [0, 0])?;
        Some(Self { inputs: name.one(0, 'i')?, expand: function(expand), depthwise })
    }

    fn arguments(&self) -> Vec<Argument> {
        let d = &self.depthwise;
        let mut arguments = vec![
            Argument::read("x", d.element, d.batch * d.input[0] * d.input[1] * self.inputs),
            Argument::read("expand_weights", d.element, conv::padded(d.channels) * self.inputs),
            Argument::read("expand_bias", DType::F32, conv::padded(d.channels)),
        ];
        arguments.extend(d.arguments().into_iter().skip(1));
        arguments
    }

    fn schedule(&self, target: &Target) -> Schedule {
        self.choose(target)
    }

    fn chunks(&self, schedule: &Schedule) -> u32 {
        let d = &self.depthwise;
        if d.channels * d.output[0] * d.output[1] == 0 {
            return 0;
        }
        work_units(d.batch * schedule.bands * d.channels.div_ceil(schedule.block))
    }

    fn scratch(&self, schedule: &Schedule) -> usize {
        self.depthwise.kernel[0] * self.pitch(schedule.block)
    }

    /// Each row expanded once.
    fn flops(&self) -> u64 {
        let d = &self.depthwise;
        2 * (d.batch * d.input[0] * d.input[1] * d.channels) as u64 * self.inputs as u64 + d.flops()
    }

    /// That of the rows it expands, those that bands share twice, and of the depthwise convolution, whose input is near.
    fn cost(&self, schedule: &Schedule, machine: &Machine) -> Cost {
        let (d, cut) = (&self.depthwise, [schedule.block, schedule.bands]);
        let expanded = (self.rows(schedule.bands) * d.input[1] * d.channels) as u64;
        let after = Epilogue::new(self.expand, false, false).slots(expanded, machine);
        let tiles = self.expansion_slots(machine, cut, &schedule.expand) as f64;
        let cycles = d.batch as f64 * machine.issued(tiles + after) + d.cost(&schedule.rows, machine).cycles;
        Cost::near(cycles, self.bytes())
    }

    fn emit(&self, schedule: &Schedule, e: &mut dyn Emitter) {
        let [x, weights, bias, taps, bias_after, zeros, y] = [0, 1, 2, 3, 4, 5, 6].map(|i| e.pointer(i));
        let sums = self.depthwise.epilogue.sum().then(|| e.pointer(7));
        let cell = self.depthwise.cell([taps, bias_after], sums);
        let range = conv::Range { first: e.r(), end: e.r() };
        e.begin(range.first);
        e.end(range.end);
        let units = self.depthwise.batch * schedule.bands;
        for part in self.parts(schedule.block) {
            let sliding = Sliding { channels: part.channels, ..self.depthwise.sliding() };
            let pixels = [part.channels, self.depthwise.channels].map(|channels| self.size() * channels);
            let rows = Rows::new(&sliding, &schedule.rows, self.depthwise.epilogue.sum(), pixels, &cell);
            let expansion = self.expansion(part.channels);
            let writer = Writer { ring: self, schedule, part, expansion, rows, cell: &cell, zeros, y };
            let (unit, count) = (e.r(), e.r());
            conv::overlap(e, range, (part.first * units, part.blocks * units), (unit, count));
            e.repeat(Count::Register(count), &mut |e| {
                writer.unit(e, unit, [x, weights, bias]);
                e.add_imm(unit, unit, 1);
            });
            [unit, count].into_iter().for_each(|r| e.free_r(r));
        }
    }
}

/// The blocks of a part under construction.
struct Writer<'a> {
    ring: &'a Ring,
    schedule: &'a Schedule,
    part: Part,
    expansion: Conv,
    rows: Rows<'a>,
    cell: &'a dyn Cell,
    zeros: R,
    y: R,
}

/// What moves along with the rows of a unit.
struct RowCursor {
    /// The next row of the input to expand, counted within its image; it may lie outside.
    next: R,
    /// That row.
    x: R,
    /// Weights and bias of the expansion, for the unit's channels.
    weights: [R; 2],
    /// Bytes of elements from the first channel to the unit's first one.
    channels: R,
    /// Rows of the ring, the oldest first.
    slots: Vec<R>,
    /// The output row, counted through the images.
    row: R,
}

impl Writer<'_> {
    /// One unit of the part; `pointers` are those of input, weights and bias of the expansion.
    fn unit(&self, e: &mut dyn Emitter, unit: R, pointers: [R; 3]) {
        let d = &self.ring.depthwise;
        let (count, need) = (e.r(), e.r());
        let place = self.place(e, unit, pointers, count);
        e.set(need, d.kernel[0] as i64);
        e.repeat(Count::Register(count), &mut |e| {
            e.repeat(Count::Register(need), &mut |e| self.expand(e, &place));
            e.set(need, d.strides[0] as i64);
            self.filter(e, &place);
            e.add_imm(place.row, place.row, 1);
        });
        let RowCursor { next, x, weights, channels, slots, row } = place;
        [count, need, next, x, channels, row].into_iter().chain(weights).chain(slots).for_each(|r| e.free_r(r));
    }

    /// Where a unit begins; `count` becomes the number of its output rows.
    fn place(&self, e: &mut dyn Emitter, unit: R, [x, weights, bias]: [R; 3], count: R) -> RowCursor {
        let (d, part, bands) = (&self.ring.depthwise, self.part, self.schedule.bands);
        let [block, within] = divide(e, unit, d.batch * bands);
        let [image, band] = divide(e, within, bands);
        let (row, next, at) = (e.r(), e.r(), e.r());
        // Band `b` of `n` has the rows from `b / n` of all of them on.
        e.add_imm(count, band, 1);
        for (r, edge) in [(row, band), (count, count)] {
            e.mul_imm(r, edge, d.output[0] as i64);
            e.div_imm(r, r, bands as u32);
        }
        e.sub(count, count, row);
        e.mul_imm(next, row, d.strides[0] as i64);
        e.add_imm(next, next, -(d.pads[0] as i64));
        let (from, channels) = (e.r(), e.r());
        e.mul_imm(from, image, d.input[0] as i64);
        e.add(from, from, next);
        e.mul_imm(from, from, self.row_bytes());
        e.add(from, from, x);
        e.mul_imm(at, image, d.output[0] as i64);
        e.add(row, row, at);
        e.mul_imm(channels, block, (self.ring.size() * part.channels) as i64);
        e.add_imm(channels, channels, (self.ring.size() * part.first * self.schedule.block) as i64);
        let panel = self.expansion.panel_bytes();
        let weights = copy(e, weights);
        e.mul_imm(at, block, (part.channels / PANEL * panel) as i64);
        e.add(weights, weights, at);
        e.add_imm(weights, weights, (part.first * self.schedule.block / PANEL * panel) as i64);
        let bias = copy(e, bias);
        advance_single(e, bias, channels, self.ring.size());
        [block, within, image, band, at].into_iter().for_each(|r| e.free_r(r));
        RowCursor { next, x: from, weights: [weights, bias], channels, slots: self.slots(e), row }
    }

    /// The rows of the ring.
    fn slots(&self, e: &mut dyn Emitter) -> Vec<R> {
        let slot = |e: &mut dyn Emitter, k: usize| {
            let r = e.r();
            e.scratch(r);
            e.add_imm(r, r, (k * self.ring.pitch(self.part.channels)) as i64);
            r
        };
        (0..self.ring.depthwise.kernel[0]).map(|k| slot(e, k)).collect()
    }

    /// Bytes of an input row.
    fn row_bytes(&self) -> i64 {
        (self.ring.depthwise.input[1] * self.ring.inputs * self.ring.size()) as i64
    }

    /// Expands the next row into the place of the oldest, if it is inside the map.
    fn expand(&self, e: &mut dyn Emitter, place: &RowCursor) {
        let (oldest, yes, no) = (copy(e, place.slots[0]), e.r(), e.r());
        let last = place.slots.len() - 1;
        for k in 0..last {
            e.copy(place.slots[k], place.slots[k + 1]);
        }
        e.copy(place.slots[last], oldest);
        e.set(yes, 1);
        e.set(no, 0);
        let times = e.r();
        e.select_below(times, place.next, self.ring.depthwise.input[0] as u32, yes, no);
        e.repeat(Count::Register(times), &mut |e| {
            let pointers = [place.x, place.weights[0], place.weights[1], place.slots[last]];
            conv::image(&self.expansion, &self.schedule.expand, e, pointers);
        });
        e.add_imm(place.next, place.next, 1);
        e.add_imm(place.x, place.x, self.row_bytes());
        [oldest, yes, no, times].into_iter().for_each(|r| e.free_r(r));
    }

    /// One output row from the ring.
    fn filter(&self, e: &mut dyn Emitter, place: &RowCursor) {
        let (d, size) = (&self.ring.depthwise, self.ring.size());
        let (at, out) = (e.r(), e.r());
        let window = |e: &mut dyn Emitter, k: usize| {
            let pointer = e.r();
            e.add_imm(at, place.next, k as i64 - d.kernel[0] as i64);
            e.select_below(pointer, at, d.input[0] as u32, place.slots[k], self.zeros);
            pointer
        };
        let window: Vec<R> = (0..d.kernel[0]).map(|k| window(e, k)).collect();
        e.mul_imm(out, place.row, (d.output[1] * d.channels * size) as i64);
        e.add(out, out, self.y);
        let by_channel: Vec<(R, usize)> = [(out, size)].into_iter().chain(self.cell.moving(e, place.row)).collect();
        for (r, own) in &by_channel {
            match *own == size {
                true => e.add(*r, *r, place.channels),
                false => advance_single(e, *r, place.channels, size),
            }
        }
        let bases: Vec<(R, usize)> = window.into_iter().map(|r| (r, size)).chain(by_channel).collect();
        self.rows.row(e, &bases, &[]);
        bases.into_iter().map(|(r, _)| r).chain([at]).for_each(|r| e.free_r(r));
    }
}

/// Fresh registers with quotient and remainder.
fn divide(e: &mut dyn Emitter, at: R, by: usize) -> [R; 2] {
    let (quotient, rest) = (e.r(), e.r());
    e.div_imm(quotient, at, by as u32);
    e.mul_imm(rest, quotient, by as i64);
    e.sub(rest, at, rest);
    [quotient, rest]
}
