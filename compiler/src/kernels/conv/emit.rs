//! The loops around the tiles: groups, strips, rows, tiles.

use super::phase::{Phase, Run};
use super::strip::{Strip, StripGroup};
use super::tile::{Kind, TilePointers};
use super::{Conv, PANEL, Schedule, Split, padded};
use crate::codegen::elements::SINGLE;
use crate::codegen::epilogue::Maps;
use crate::codegen::{Count, Element, Emitter, R};
use crate::kernels::advance;
use crate::kernels::finish::{Moved, Pointer};

/// Pointers of the current group and strip.
#[derive(Clone, Copy)]
pub struct Pointers {
    pub x: R,
    pub weights: R,
    pub bias: R,
    /// Of the maps that the epilogue reads or writes next to `y`.
    pub maps: Maps<R>,
    pub y: R,
    /// Of what becomes of the sums.
    finish: Moved<Pointer>,
}

impl Pointers {
    /// Those that a kernel begins with.
    pub fn of(conv: &Conv, e: &mut dyn Emitter) -> Self {
        let [x, weights, bias] = [0, 1, 2].map(|i| e.pointer(i));
        let maps = conv.epilogue.pointers(e, 3);
        let y = e.pointer(conv.result_argument());
        conv.finish.iter().for_each(|finish| e.add_imm(y, y, finish.first() as i64));
        let finish =
            conv.finish.as_ref().map_or(Moved::default(), |finish| finish.pointers(e, conv.result_argument() + 1));
        Self { x, weights, bias, maps, y, finish }
    }

    /// `y` and the maps that are like it.
    fn outputs(&self) -> impl Iterator<Item = R> {
        std::iter::once(self.y).chain(self.maps.into_iter().flatten())
    }

    /// Fresh registers with the same values.
    pub fn duplicate(&self, e: &mut dyn Emitter) -> Self {
        let copy = |e: &mut dyn Emitter, from: R| {
            let to = e.r();
            e.copy(to, from);
            to
        };
        Self {
            x: copy(e, self.x),
            weights: copy(e, self.weights),
            bias: copy(e, self.bias),
            maps: self.maps.map(|map| map.map(|r| copy(e, r))),
            y: copy(e, self.y),
            finish: self.finish.map(|input| input.map(|input| Pointer { at: copy(e, input.at), ..input })),
        }
    }

    pub fn free(&self, e: &mut dyn Emitter) {
        let inputs = self.finish.into_iter().flatten().map(|input| input.at);
        for r in [self.x, self.weights, self.bias].into_iter().chain(self.outputs()).chain(inputs) {
            e.free_r(r);
        }
    }

    /// What moves with the pixels of the result, and by how many bytes each.
    pub fn by_pixel(&self, conv: &Conv) -> Vec<(R, usize)> {
        let inputs = self.finish.into_iter().flatten().filter(|input| input.by_pixel);
        let inputs = inputs.map(|input| (input.at, input.size * conv.groups * conv.filters));
        self.outputs().map(|r| (r, conv.result().size() * conv.pitch())).chain(inputs).collect()
    }

    /// What moves with the output channels, the weights aside, and the size of its elements.
    fn by_channel(&self, size: usize) -> Vec<(R, usize)> {
        let inputs = self.finish.into_iter().flatten().map(|input| (input.at, input.size));
        [(self.bias, SINGLE)].into_iter().chain(self.outputs().map(|r| (r, size))).chain(inputs).collect()
    }

    /// Moves on by output channels of elements of a size; the weights by as many bytes as the caller says.
    pub fn advance(&self, e: &mut dyn Emitter, size: usize, channels: usize, weights: i64) {
        for (r, size) in self.by_channel(size) {
            e.add_imm(r, r, (size * channels) as i64);
        }
        if weights != 0 {
            e.add_imm(self.weights, self.weights, weights);
        }
    }

    /// As [`Self::advance`], `count` times.
    pub fn skip(&self, e: &mut dyn Emitter, size: usize, (count, channels): (R, usize), weights: i64) {
        let offset = e.r();
        advance(e, offset, (count, channels), &self.by_channel(size));
        e.mul_imm(offset, count, weights);
        e.add(self.weights, self.weights, offset);
        e.free_r(offset);
    }

    /// Moves what moves with the pixels of the result on by `count` times `pixels`.
    pub fn move_by_pixel(&self, e: &mut dyn Emitter, conv: &Conv, (count, pixels): (R, usize)) {
        let offset = e.r();
        advance(e, offset, (count, pixels), &self.by_pixel(conv));
        e.free_r(offset);
    }
}

/// Registers of a range of units.
#[derive(Clone, Copy)]
pub struct Range {
    /// First unit.
    pub first: R,
    /// The unit after the last one.
    pub end: R,
}

/// Bytes that a core's L2 may not keep from one strip to the next.
const FAR: usize = 1 << 20;

struct Writer<'a> {
    conv: &'a Conv,
    schedule: &'a Schedule,
    /// The tiles of a row.
    runs: Vec<(Phase, Vec<Run>)>,
    spans: Vec<StripGroup>,
}

impl<'a> Writer<'a> {
    fn new(conv: &'a Conv, schedule: &'a Schedule, lanes: usize) -> Self {
        let tiles = |phase: Phase| {
            let runs = phase.runs(schedule.pixels);
            (phase, runs)
        };
        let runs = conv.phases().into_iter().map(tiles).collect();
        Self { conv, schedule, runs, spans: conv.spans(lanes, schedule.vectors) }
    }
}

/// Writes the kernel.
pub fn emit(conv: &Conv, schedule: &Schedule, e: &mut dyn Emitter) {
    let writer = Writer::new(conv, schedule, e.lanes(Element::F32));
    let p = Pointers::of(conv, e);
    let (first, end) = (e.r(), e.r());
    e.begin(first);
    e.end(end);
    if schedule.split == Split::Strips {
        let range = writer.range(e, first, end);
        return writer.strips(e, &p, Some(range), None);
    }
    let size = conv.element.size();
    if conv.input_len() * size <= FAR || conv.weight_len() * size > FAR / 2 {
        let range = writer.range(e, first, end);
        return writer.groups(e, &p, range);
    }
    // Chunk by chunk, so that the pixels of one are still near when its next strip reads them.
    e.sub(end, end, first);
    e.repeat(Count::Register(end), &mut |e| {
        let next = e.r();
        e.add_imm(next, first, 1);
        let range = writer.range(e, first, next);
        writer.groups(e, &p, range);
        e.add_imm(first, first, 1);
    });
}

/// Writes a convolution of one group, whose epilogue has no maps, in full, for `pointers` to input, weights, bias and output.
pub fn image(conv: &Conv, schedule: &Schedule, e: &mut dyn Emitter, pointers: [R; 4]) {
    let [x, weights, bias, y] = pointers;
    let writer = Writer::new(conv, schedule, e.lanes(Element::F32));
    writer.strips(e, &Pointers { x, weights, bias, maps: Maps::default(), y, finish: Moved::default() }, None, None);
}

impl Writer<'_> {
    /// Bytes of an element of the result and of what is like it.
    fn size(&self) -> usize {
        self.conv.result().size()
    }

    /// The units of chunks `from..to`: chunk `c` of `n` has the units from `c / n` of all of them on.
    fn range(&self, e: &mut dyn Emitter, from: R, to: R) -> Range {
        let Schedule { pixels, vectors, split, chunks, .. } = *self.schedule;
        let units = self.conv.units(split, pixels, (e.lanes(Element::F32), vectors));
        let (range, last) = (Range { first: e.r(), end: e.r() }, e.r());
        e.copy(range.first, from);
        e.copy(range.end, to);
        e.set(last, chunks as i64);
        e.min(range.end, range.end, last);
        e.free_r(last);
        for r in [range.first, range.end] {
            e.mul_imm(r, r, units as i64);
            if chunks > 1 {
                e.div_imm(r, r, chunks as u32);
            }
        }
        range
    }

    /// Every strip of every group, over a range of rows or tiles.
    fn groups(&self, e: &mut dyn Emitter, p: &Pointers, range: Range) {
        let (conv, stored, size) = (self.conv, padded(self.conv.filters), self.size());
        let weights = (conv.lane() * stored * conv.depth_in_steps()) as i64;
        let p = &p.duplicate(e);
        e.repeat(Count::Times(conv.groups as u32), &mut |e| {
            self.strips(e, p, None, Some(range));
            if conv.groups > 1 {
                p.advance(e, size, conv.filters, weights);
                e.add_imm(p.bias, p.bias, (SINGLE * (stored - conv.filters)) as i64);
                e.add_imm(p.x, p.x, conv.strides().group as i64);
            }
        });
    }

    /// The strips of a range of units, or of all of them; each over a range of rows or tiles, or the whole image.
    fn strips(&self, e: &mut dyn Emitter, p: &Pointers, units: Option<Range>, pixels: Option<Range>) {
        for span in &self.spans {
            let p = p.duplicate(e);
            p.advance(e, self.size(), span.start, (span.start / PANEL * self.conv.panel_bytes()) as i64);
            match units {
                Some(range) => {
                    let (from, count) = (e.r(), e.r());
                    overlap(e, range, (span.first, span.units), (from, count));
                    let panels = (span.panels() * self.conv.panel_bytes()) as i64;
                    p.skip(e, self.size(), (from, span.strips * span.channels()), panels);
                    e.free_r(from);
                    e.repeat(Count::Register(count), &mut |e| self.unit(e, &p, span, pixels));
                    e.free_r(count);
                }
                None => e.repeat(Count::Times(span.units as u32), &mut |e| self.unit(e, &p, span, pixels)),
            }
            p.free(e);
        }
    }

    /// One unit of strips; moves `p` after it.
    fn unit(&self, e: &mut dyn Emitter, p: &Pointers, span: &StripGroup, pixels: Option<Range>) {
        let (channels, size, lane) = (span.channels(), self.size(), self.conv.lane());
        let mut panels = (span.panels() * self.conv.panel_bytes()) as i64;
        if span.alike() && span.strips > 1 {
            let strip = self.conv.strip(span, 0);
            e.repeat(Count::Times(span.strips as u32), &mut |e| {
                self.strip(e, p, &strip, pixels);
                p.advance(e, size, channels, (lane * channels) as i64);
            });
            panels -= (lane * span.strips * channels) as i64;
            e.add_imm(p.weights, p.weights, panels);
            return;
        }
        for index in 0..span.strips {
            self.strip(e, p, &self.conv.strip(span, index), pixels);
            p.advance(e, size, channels, if index + 1 == span.strips { panels } else { 0 });
        }
    }

    fn strip(&self, e: &mut dyn Emitter, p: &Pointers, strip: &Strip, pixels: Option<Range>) {
        match (self.schedule.split, pixels) {
            (Split::Tiles, Some(range)) => self.tiles(e, p, strip, range),
            _ => self.rows(e, p, strip, pixels),
        }
    }

    /// A range of tiles of a single row.
    fn tiles(&self, e: &mut dyn Emitter, p: &Pointers, strip: &Strip, range: Range) {
        let (from, count) = (e.r(), e.r());
        for (phase, run) in self.runs.iter().flat_map(|(phase, runs)| runs.iter().map(move |run| (phase, run))) {
            overlap(e, range, (run.first, run.tiles), (from, count));
            let kind = Kind { phase, run, strip };
            self.run(e, p, kind, (Some((from, Count::Register(count))), None));
        }
        e.free_r(from);
        e.free_r(count);
    }

    /// A range of output rows, or all of them.
    fn rows(&self, e: &mut dyn Emitter, p: &Pointers, strip: &Strip, range: Option<Range>) {
        let (row, count) = (e.r(), e.r());
        match range {
            Some(range) => {
                e.copy(row, range.first);
                e.sub(count, range.end, range.first);
            }
            None => {
                e.set(row, 0);
                e.set(count, (self.conv.batch * self.conv.rows.output) as i64);
            }
        }
        e.repeat(Count::Register(count), &mut |e| {
            self.row(e, p, strip, row);
            e.add_imm(row, row, 1);
        });
        e.free_r(row);
        e.free_r(count);
    }

    /// One output row; `row` counts through the images.
    fn row(&self, e: &mut dyn Emitter, p: &Pointers, strip: &Strip, row: R) {
        let (conv, strides) = (self.conv, self.conv.strides());
        let p = p.duplicate(e);
        let (image, offset) = (e.r(), e.r());
        for (r, pixel) in p.by_pixel(conv) {
            e.mul_imm(offset, row, (pixel * conv.columns.output) as i64);
            e.add(r, r, offset);
        }
        // From here on `offset` is the row within its image.
        e.copy(offset, row);
        if conv.batch > 1 {
            e.div_imm(image, row, conv.rows.output as u32);
            let skipped = e.r();
            e.mul_imm(skipped, image, conv.rows.output as i64);
            e.sub(offset, row, skipped);
            if conv.weights_per_image {
                e.mul_imm(skipped, image, (conv.element.size() * conv.weight_len()) as i64);
                e.add(p.weights, p.weights, skipped);
            }
            e.mul_imm(image, image, strides.image as i64);
            e.add(p.x, p.x, image);
            e.free_r(skipped);
        }
        let kernel_rows = match conv.transposed {
            false => self.kernel_rows(e, &p, strip, offset),
            true => Some(self.rows_met(e, &p, strip, offset)),
        };
        for (phase, run) in self.runs.iter().flat_map(|(phase, runs)| runs.iter().map(move |run| (phase, run))) {
            self.run(e, &p, Kind { phase, run, strip }, (None, kernel_rows));
        }
        for r in [image, offset].into_iter().chain(kernel_rows) {
            e.free_r(r);
        }
        p.free(e);
    }

    /// Points `x` and the weights at the first kernel row inside the image for output row `at`, which is lost; returns
    /// the number of kernel rows inside, unless it is always all of them.
    fn kernel_rows(&self, e: &mut dyn Emitter, p: &Pointers, strip: &Strip, at: R) -> Option<R> {
        let (axis, row) = (&self.conv.rows, self.conv.strides().row as i64);
        let offset = e.r();
        e.mul_imm(at, at, axis.stride as i64);
        e.mul_imm(offset, at, row);
        e.add(p.x, p.x, offset);
        e.add_imm(p.x, p.x, -(axis.begin as i64 * row));
        if Phase::of(axis).covered() {
            e.free_r(offset);
            return None;
        }
        let (first, end, bound) = (e.r(), e.r(), e.r());
        // First: begin - at, in taps, rounded up; end: input + begin - at, likewise.
        for (taps, extent) in [(first, axis.begin), (end, axis.begin + axis.input)] {
            e.set(taps, extent as i64);
            e.sub(taps, taps, at);
            e.set(bound, 0);
            e.max(taps, taps, bound);
            e.add_imm(taps, taps, axis.dilation as i64 - 1);
            e.div_imm(taps, taps, axis.dilation as u32);
            e.set(bound, axis.kernel as i64);
            e.min(taps, taps, bound);
        }
        e.mul_imm(offset, first, axis.dilation as i64 * row);
        e.add(p.x, p.x, offset);
        e.mul_imm(offset, first, (strip.step * self.conv.columns.kernel * self.conv.steps()) as i64);
        e.add(p.weights, p.weights, offset);
        e.sub(end, end, first);
        for r in [offset, first, bound] {
            e.free_r(r);
        }
        Some(end)
    }

    /// As [`Self::kernel_rows`], transposed: points `x` at the first input row that output row `at` meets, and the weights at its kernel
    /// row, from which each next one is a stride back.
    fn rows_met(&self, e: &mut dyn Emitter, p: &Pointers, strip: &Strip, at: R) -> R {
        let (axis, row) = (&self.conv.rows, self.conv.strides().row as i64);
        let (residue, last, count, bound) = (e.r(), e.r(), e.r(), e.r());
        e.add_imm(at, at, axis.begin as i64);
        e.copy(residue, at);
        e.div_imm(at, at, axis.stride as u32);
        e.mul_imm(last, at, axis.stride as i64);
        e.sub(residue, residue, last);
        // Tap `residue + stride j` meets input row `at - dilation j`. The last: the last that there is, and row 0 at least.
        e.set(last, (axis.kernel + axis.stride - 1) as i64);
        e.sub(last, last, residue);
        e.div_imm(last, last, axis.stride as u32);
        e.add_imm(last, last, -1);
        e.div_imm(bound, at, axis.dilation as u32);
        e.min(last, last, bound);
        // The first: `at - input + 1` rows back, in taps, rounded up.
        e.add_imm(count, at, 1 - axis.input as i64);
        e.set(bound, 0);
        e.max(count, count, bound);
        e.add_imm(count, count, axis.dilation as i64 - 1);
        e.div_imm(count, count, axis.dilation as u32);
        e.sub(count, last, count);
        e.add_imm(count, count, 1);
        e.mul_imm(bound, last, axis.dilation as i64);
        e.sub(bound, at, bound);
        e.mul_imm(bound, bound, row);
        e.add(p.x, p.x, bound);
        e.mul_imm(last, last, axis.stride as i64);
        e.add(last, last, residue);
        e.mul_imm(last, last, (strip.step * self.conv.columns.kernel * self.conv.channels) as i64);
        e.add(p.weights, p.weights, last);
        for r in [residue, last, bound] {
            e.free_r(r);
        }
        count
    }

    /// The tiles of a run, or those from the given tile of the run on.
    fn run(
        &self,
        e: &mut dyn Emitter,
        p: &Pointers,
        kind: Kind<'_>,
        (part, kernel_rows): (Option<(R, Count)>, Option<R>),
    ) {
        let (conv, Kind { phase, run, .. }) = (self.conv, kind);
        let input = phase.stride * conv.strides().pixel;
        let before = run.pixel as i64 * input as i64 + phase.origin * conv.strides().pixel as i64;
        let p = p.duplicate(e);
        e.add_imm(p.x, p.x, before);
        let offset = e.r();
        let pointers = p.by_pixel(conv);
        for (r, pixel) in &pointers {
            e.add_imm(*r, *r, (pixel * (phase.first + run.pixel * phase.pitch)) as i64);
        }
        if let Some((from, _)) = part {
            e.mul_imm(offset, from, (run.size * input) as i64);
            e.add(p.x, p.x, offset);
            advance(e, offset, (from, run.size * phase.pitch), &pointers);
        }
        e.free_r(offset);
        let Pointers { x, weights, bias, maps, y, finish } = p;
        let place = TilePointers { x, weights, bias, maps, y, finish, kernel_rows };
        e.repeat(part.map_or(Count::Times(run.tiles as u32), |(_, count)| count), &mut |e| {
            conv.tile(self.schedule, e, kind, &place);
            e.add_imm(p.x, p.x, (run.size * input) as i64);
            for (r, pixel) in &pointers {
                e.add_imm(*r, *r, (pixel * run.size * phase.pitch) as i64);
            }
        });
        p.free(e);
    }
}

/// The part of `count` units from `first` on that lies in `range`: where it begins, counted from `first`, and how many units it has
/// (none if negative).
pub fn overlap(e: &mut dyn Emitter, range: Range, (first, count): (usize, usize), (from, units): (R, R)) {
    e.set(units, first as i64);
    e.max(from, range.first, units);
    e.set(units, (first + count) as i64);
    e.min(units, range.end, units);
    e.sub(units, units, from);
    e.add_imm(from, from, -(first as i64));
}
