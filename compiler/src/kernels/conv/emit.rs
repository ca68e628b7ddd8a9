//! The loops around the tiles: groups, panels, parts of a panel, rows, tiles.

use super::tile::{Block, Place, Run};
use super::{Conv, PANEL, Schedule, Split, padded};
use crate::codegen::{Count, Emitter, R};
use crate::kernels::Family;

/// Pointers of the current group and panel.
#[derive(Clone, Copy)]
struct Pointers {
    x: R,
    weights: R,
    bias: R,
    residual: Option<R>,
    y: R,
}

impl Pointers {
    /// Fresh registers with the same values.
    fn duplicate(&self, e: &mut dyn Emitter) -> Self {
        let copy = |e: &mut dyn Emitter, from: R| {
            let to = e.r();
            e.copy(to, from);
            to
        };
        Self {
            x: copy(e, self.x),
            weights: copy(e, self.weights),
            bias: copy(e, self.bias),
            residual: self.residual.map(|r| copy(e, r)),
            y: copy(e, self.y),
        }
    }

    fn free(&self, e: &mut dyn Emitter) {
        for r in [self.x, self.weights, self.bias, self.y].into_iter().chain(self.residual) {
            e.free_r(r);
        }
    }

    /// Moves on by output channels; the weights by as many bytes as the caller says.
    fn advance(&self, e: &mut dyn Emitter, filters: usize, weights: usize) {
        for r in [self.bias, self.y].into_iter().chain(self.residual) {
            e.add_imm(r, r, 4 * filters as i64);
        }
        e.add_imm(self.weights, self.weights, weights as i64);
    }
}

/// Registers of a range of units.
#[derive(Clone, Copy)]
struct Range {
    first: R,
    end: R,
}

struct Writer<'a> {
    conv: &'a Conv,
    schedule: &'a Schedule,
    runs: Vec<Run>,
}

/// Writes the kernel.
pub fn emit(conv: &Conv, schedule: &Schedule, e: &mut dyn Emitter) {
    let writer = Writer { conv, schedule, runs: conv.runs(schedule.pixels) };
    let arguments = conv.arguments().len();
    let p = Pointers {
        x: e.pointer(0),
        weights: e.pointer(1),
        bias: e.pointer(2),
        residual: (arguments == 5).then(|| e.pointer(3)),
        y: e.pointer(arguments - 1),
    };
    let range = Range { first: e.r(), end: e.r() };
    let (per_chunk, units) = (schedule.per_chunk as i64, conv.units(schedule.split, schedule.pixels));
    let last = e.r();
    e.begin(range.first);
    e.mul_imm(range.first, range.first, per_chunk);
    e.end(range.end);
    e.mul_imm(range.end, range.end, per_chunk);
    e.set(last, units as i64);
    e.min(range.end, range.end, last);
    e.free_r(last);
    match schedule.split {
        Split::Panels => writer.some_panels(e, &p, range),
        Split::Rows | Split::Tiles => writer.all_panels(e, &p, range),
    }
}

impl Writer<'_> {
    /// Filters of full panels.
    fn full(&self) -> usize {
        self.conv.filters / PANEL * PANEL
    }

    /// Bytes of a full panel's weights.
    fn panel_bytes(&self) -> usize {
        4 * PANEL * self.conv.depth()
    }

    /// Every panel of every group, over a range of rows or tiles.
    fn all_panels(&self, e: &mut dyn Emitter, p: &Pointers, range: Range) {
        let (conv, full) = (self.conv, self.full());
        let rest = conv.filters - full;
        let stored = padded(conv.filters) - full;
        e.repeat(Count::Times(conv.groups as u32), &mut |e| {
            e.repeat(Count::Times((full / PANEL) as u32), &mut |e| {
                self.panel(e, p, PANEL, Some(range));
                p.advance(e, PANEL, self.panel_bytes());
            });
            if rest > 0 {
                self.panel(e, p, rest, Some(range));
                p.advance(e, rest, 4 * stored * conv.depth());
            }
            e.add_imm(p.bias, p.bias, 4 * (stored - rest) as i64);
            e.add_imm(p.x, p.x, conv.strides().group as i64);
        });
    }

    /// A range of panels, each over the whole image.
    fn some_panels(&self, e: &mut dyn Emitter, p: &Pointers, range: Range) {
        let (full, skip, count) = (self.full(), e.r(), e.r());
        for r in [p.bias, p.y].into_iter().chain(p.residual) {
            e.mul_imm(skip, range.first, 4 * PANEL as i64);
            e.add(r, r, skip);
        }
        e.mul_imm(skip, range.first, self.panel_bytes() as i64);
        e.add(p.weights, p.weights, skip);
        e.set(skip, (full / PANEL) as i64);
        e.min(count, range.end, skip);
        e.sub(count, count, range.first);
        e.repeat(Count::Register(count), &mut |e| {
            self.panel(e, p, PANEL, None);
            p.advance(e, PANEL, self.panel_bytes());
        });
        let rest = self.conv.filters - full;
        if rest > 0 {
            e.if_less(skip, range.end, &mut |e| self.panel(e, p, rest, None));
        }
        e.free_r(skip);
        e.free_r(count);
    }

    /// One panel of `filters` output channels, a block of the schedule's vectors at a time.
    fn panel(&self, e: &mut dyn Emitter, p: &Pointers, filters: usize, range: Option<Range>) {
        let (lanes, width) = (e.lanes(), padded(filters));
        let step = self.schedule.vectors * lanes;
        let block = |first: usize| {
            let starts = (first..filters.min(first + step)).step_by(lanes);
            Block { lanes: starts.map(|at| ((width - at).min(lanes), (filters - at).min(lanes))).collect(), width }
        };
        let p = p.duplicate(e);
        let alike = filters / step;
        e.repeat(Count::Times(alike as u32), &mut |e| {
            self.block(e, &p, &block(0), range);
            p.advance(e, step, 4 * step);
        });
        if !filters.is_multiple_of(step) {
            self.block(e, &p, &block(alike * step), range);
        }
        p.free(e);
    }

    fn block(&self, e: &mut dyn Emitter, p: &Pointers, block: &Block, range: Option<Range>) {
        match (self.schedule.split, range) {
            (Split::Tiles, Some(range)) => self.tiles(e, p, block, range),
            _ => self.rows(e, p, block, range),
        }
    }

    /// A range of tiles of a single row.
    fn tiles(&self, e: &mut dyn Emitter, p: &Pointers, block: &Block, range: Range) {
        let (from, to, bound) = (e.r(), e.r(), e.r());
        for run in &self.runs {
            e.set(bound, run.first as i64);
            e.max(from, range.first, bound);
            e.set(bound, (run.first + run.tiles) as i64);
            e.min(to, range.end, bound);
            e.sub(to, to, from);
            e.add_imm(from, from, -(run.first as i64));
            self.run(e, p, block, run, (Some((from, Count::Register(to))), None));
        }
        for r in [from, to, bound] {
            e.free_r(r);
        }
    }

    /// A range of output rows, or all of them.
    fn rows(&self, e: &mut dyn Emitter, p: &Pointers, block: &Block, range: Option<Range>) {
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
            self.row(e, p, block, row);
            e.add_imm(row, row, 1);
        });
        e.free_r(row);
        e.free_r(count);
    }

    /// One output row; `row` counts through the images.
    fn row(&self, e: &mut dyn Emitter, p: &Pointers, block: &Block, row: R) {
        let (conv, strides) = (self.conv, self.conv.strides());
        let p = p.duplicate(e);
        let (image, offset) = (e.r(), e.r());
        for r in [p.y].into_iter().chain(p.residual) {
            e.mul_imm(offset, row, (4 * conv.columns.output * conv.groups * conv.filters) as i64);
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
                e.mul_imm(skipped, image, 4 * conv.weight_len() as i64);
                e.add(p.weights, p.weights, skipped);
            }
            e.mul_imm(image, image, strides.image as i64);
            e.add(p.x, p.x, image);
            e.free_r(skipped);
        }
        let kernel_rows = self.kernel_rows(e, &p, block, offset);
        for run in &self.runs {
            self.run(e, &p, block, run, (None, kernel_rows));
        }
        for r in [image, offset].into_iter().chain(kernel_rows) {
            e.free_r(r);
        }
        p.free(e);
    }

    /// Points `x` and the weights at the first kernel row inside the image for output row `at`, which is lost; returns
    /// the number of kernel rows inside, unless it is always all of them.
    fn kernel_rows(&self, e: &mut dyn Emitter, p: &Pointers, block: &Block, at: R) -> Option<R> {
        let (axis, row) = (&self.conv.rows, self.conv.strides().row as i64);
        let offset = e.r();
        e.mul_imm(at, at, axis.stride as i64);
        e.mul_imm(offset, at, row);
        e.add(p.x, p.x, offset);
        e.add_imm(p.x, p.x, -(axis.begin as i64 * row));
        if axis.covered() {
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
        e.mul_imm(offset, first, (4 * block.width * self.conv.columns.kernel * self.conv.channels) as i64);
        e.add(p.weights, p.weights, offset);
        e.sub(end, end, first);
        for r in [offset, first, bound] {
            e.free_r(r);
        }
        Some(end)
    }

    /// The tiles of a run, or those from the given tile of the run on.
    fn run(
        &self,
        e: &mut dyn Emitter,
        p: &Pointers,
        block: &Block,
        run: &Run,
        (part, kernel_rows): (Option<(R, Count)>, Option<R>),
    ) {
        let conv = self.conv;
        let (input, output) = (conv.columns.stride * conv.strides().pixel, 4 * conv.groups * conv.filters);
        let before = run.pixel as i64 * input as i64 - (conv.columns.begin * conv.strides().pixel) as i64;
        let p = p.duplicate(e);
        e.add_imm(p.x, p.x, before);
        let offset = e.r();
        for r in [p.y].into_iter().chain(p.residual) {
            e.add_imm(r, r, (run.pixel * output) as i64);
        }
        if let Some((from, _)) = part {
            e.mul_imm(offset, from, (run.size * input) as i64);
            e.add(p.x, p.x, offset);
            e.mul_imm(offset, from, (run.size * output) as i64);
            for r in [p.y].into_iter().chain(p.residual) {
                e.add(r, r, offset);
            }
        }
        e.free_r(offset);
        let place = Place { x: p.x, weights: p.weights, bias: p.bias, residual: p.residual, y: p.y, kernel_rows };
        e.repeat(part.map_or(Count::Times(run.tiles as u32), |(_, count)| count), &mut |e| {
            conv.tile(self.schedule, e, run, block, &place);
            e.add_imm(p.x, p.x, (run.size * input) as i64);
            for r in [p.y].into_iter().chain(p.residual) {
                e.add_imm(r, r, (run.size * output) as i64);
            }
        });
        p.free(e);
    }
}
