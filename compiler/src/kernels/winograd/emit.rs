//! The loops around the stages: work units, blocks of tiles, strips of output channels; and the scratch memory between the stages.

use super::output::Strip;
use super::{Groups, PANEL, Schedule, Winograd, padded};
use crate::codegen::elements::SINGLE;
use crate::codegen::{Count, Element, Emitter, R};
use crate::kernels::LINE;
use crate::kernels::sliding::copy;

/// Offsets of what one worker keeps, bytes.
#[derive(Clone, Copy, Debug)]
pub struct Scratch {
    /// Tiles of a block.
    pub tiles: usize,
    /// Output channels of a strip.
    pub strip: usize,
    /// `W[tile][position][filter]`, the products; `V[position][tile][channel]` stands before it.
    pub products: usize,
    /// One tile between the two passes of its transform, a vector for each element.
    pub vectors: usize,
    /// One input tile of all channels, for tiles that reach over the edge of the map: elements, as all else here is `f32`.
    pub patch: usize,
    /// Size.
    pub bytes: usize,
}

impl Scratch {
    pub fn new(spec: &Winograd, schedule: &Schedule) -> Self {
        let groups = Groups::new(spec.tiles(), schedule.tiles);
        let tiles = (schedule.groups * groups.largest()).min(spec.tiles());
        let (positions, strip) = (spec.tile.positions(), schedule.panels * PANEL);
        let products = SINGLE * positions * tiles * spec.row();
        let vectors = products + SINGLE * positions * tiles * strip;
        let patch = vectors + LINE * positions;
        // The patch is cleared by whole vectors.
        let bytes = patch + (spec.element.size() * positions * spec.channels).next_multiple_of(LINE);
        Self { tiles, strip, products, vectors, patch, bytes }
    }
}

/// A kernel under construction.
pub struct Writer<'a> {
    pub spec: &'a Winograd,
    pub schedule: &'a Schedule,
    pub groups: Groups,
    pub scratch: Scratch,
}

/// The groups and tiles of the current block.
#[derive(Clone, Copy)]
pub struct Block {
    /// First group.
    pub group: R,
    /// The group after the last one.
    pub end: R,
    /// First tile.
    pub tile: R,
    /// Tiles.
    pub count: R,
}

/// Where a tile is.
#[derive(Clone, Copy)]
pub struct At {
    pub image: R,
    /// Rows of tiles above.
    pub row: R,
    /// Tiles to the left.
    pub column: R,
}

impl At {
    pub fn free(self, e: &mut dyn Emitter) {
        [self.image, self.row, self.column].into_iter().for_each(|r| e.free_r(r));
    }
}

/// Writes the kernel.
pub fn emit(spec: &Winograd, schedule: &Schedule, e: &mut dyn Emitter) {
    let groups = Groups::new(spec.tiles(), schedule.tiles);
    let writer = Writer { spec, schedule, groups, scratch: Scratch::new(spec, schedule) };
    let parts = spec.parts(schedule);
    let (chunk, units, ready) = (e.r(), e.r(), e.r());
    e.begin(chunk);
    e.end(units);
    e.sub(units, units, chunk);
    e.set(ready, -1);
    e.repeat(Count::Register(units), &mut |e| {
        let (index, part) = (e.r(), e.r());
        e.div_imm(index, chunk, parts as u32);
        e.mul_imm(part, index, parts as i64);
        e.sub(part, chunk, part);
        let block = writer.block(e, index);
        // The parts of a block that run one after the other share its input.
        e.if_less(ready, index, &mut |e| {
            writer.transform_input(e, block);
            e.copy(ready, index);
        });
        e.free_r(index);
        writer.strips(e, block, part);
        e.free_r(part);
        [block.group, block.end, block.tile, block.count].into_iter().for_each(|r| e.free_r(r));
        e.add_imm(chunk, chunk, 1);
    });
}

impl Writer<'_> {
    fn block(&self, e: &mut dyn Emitter, index: R) -> Block {
        let (group, end, bound) = (e.r(), e.r(), e.r());
        e.mul_imm(group, index, self.schedule.groups as i64);
        e.add_imm(end, group, self.schedule.groups as i64);
        e.set(bound, self.groups.count as i64);
        e.min(end, end, bound);
        e.free_r(bound);
        let (tile, count) = (self.first_tile(e, group), self.first_tile(e, end));
        e.sub(count, count, tile);
        Block { group, end, tile, count }
    }

    /// The first tile of a group.
    fn first_tile(&self, e: &mut dyn Emitter, group: R) -> R {
        let (tile, larger) = (e.r(), e.r());
        e.set(larger, self.groups.larger as i64);
        e.min(larger, larger, group);
        e.mul_imm(tile, group, self.groups.size as i64);
        e.add(tile, tile, larger);
        e.free_r(larger);
        tile
    }

    /// Where tile number `tile` is.
    pub fn locate(&self, e: &mut dyn Emitter, tile: R) -> At {
        let [rows, columns] = self.spec.grid();
        let (image, row, column) = (e.r(), e.r(), e.r());
        e.div_imm(row, tile, columns as u32);
        e.mul_imm(column, row, columns as i64);
        e.sub(column, tile, column);
        e.set(image, 0);
        if self.spec.batch > 1 {
            let above = e.r();
            e.div_imm(image, row, rows as u32);
            e.mul_imm(above, image, rows as i64);
            e.sub(row, row, above);
            e.free_r(above);
        }
        At { image, row, column }
    }

    /// A pointer into this worker's scratch memory.
    pub fn scratch_at(&self, e: &mut dyn Emitter, offset: usize) -> R {
        let r = e.r();
        e.scratch(r);
        e.add_imm(r, r, offset as i64);
        r
    }

    /// Products and outputs of part `part` of a block, strip by strip.
    fn strips(&self, e: &mut dyn Emitter, block: Block, part: R) {
        let strip = self.scratch.strip;
        let (full, rest) = (self.spec.filters / strip, self.spec.filters % strip);
        let (at, end, bound) = (e.r(), e.r(), e.r());
        e.mul_imm(at, part, self.schedule.strips as i64);
        e.add_imm(end, at, self.schedule.strips as i64);
        e.set(bound, full as i64);
        if full > 0 {
            let count = e.r();
            e.min(count, end, bound);
            e.sub(count, count, at);
            e.repeat(Count::Register(count), &mut |e| {
                self.strip(e, block, at, strip);
                e.add_imm(at, at, 1);
            });
            e.free_r(count);
        }
        if rest > 0 {
            e.if_less(bound, end, &mut |e| self.strip(e, block, at, rest));
        }
        [at, end, bound].into_iter().for_each(|r| e.free_r(r));
    }

    /// Strip number `at`, of `filters` output channels.
    fn strip(&self, e: &mut dyn Emitter, block: Block, at: R, filters: usize) {
        let strip = Strip::new(filters, e.lanes(Element::F32));
        let (weights, skip) = (e.pointer(1), e.r());
        let positions = self.spec.tile.positions();
        e.mul_imm(skip, at, (SINGLE * self.scratch.strip * positions * self.spec.channels) as i64);
        e.add(weights, weights, skip);
        e.free_r(skip);
        self.products(e, block, weights, &strip);
        e.free_r(weights);
        let channels = copy(e, at);
        e.mul_imm(channels, channels, (self.spec.element.size() * self.scratch.strip) as i64);
        self.transform_output(e, block, channels, &strip);
        e.free_r(channels);
    }

    /// Stored width of panel number `panel` of a strip of `filters` output channels.
    pub fn panel_width(filters: usize, panel: usize) -> usize {
        (padded(filters) - panel * PANEL).min(PANEL)
    }
}
