//! A convolution of `bf16` in runs by tile registers.
//!
//! In: a convolution whose windows never leave its input, on a machine that has tile registers. Out: its code. The outputs of an image are cut
//! into bands, its filters into strips of one or two panels. For a band and a strip, pairs of tiles of positions meet both panels,
//! and their sums go to scratch memory, the stage; from there the epilogue takes them to where they belong. Positions are outputs, and
//! between the rows of a band those that a window over two rows would give: they are computed and left in the stage. A band at the end of an
//! image begins early enough to be whole, and the epilogue skips what an earlier band has stored.
//!
//! Invariant: each sum begins with the bias and takes on runs in the order of [`super::runs`], whatever the tiles.

use super::emit::{Pointers, Range, overlap};
use super::phase::Phase;
use super::{Conv, PANEL, Schedule, Split, width};
use crate::codegen::elements::SINGLE;
use crate::codegen::epilogue::Output;
use crate::codegen::{Count, Emitter, R, REACH, T, TILES};
use crate::target::{Machine, Target};
use fornax_ir::types::DType;

/// Rows of a tile register.
const ROWS: usize = 16;
/// Bytes of a row of a tile register, and of what says the shapes of all of them.
const ROW: usize = 64;
/// Panels of a strip.
const PANELS: usize = 2;
/// Most positions of a band: the stage stays in the L1.
const MOST_POSITIONS: usize = 128;
/// Outputs that go through the epilogue together, in vectors.
const TOGETHER: usize = 8;
/// Cycles of a product of two tiles.
const PRODUCT: usize = 16;
/// Times of a pair of tiles and of a single one, whose loads of weights serve it only.
const PAIR: usize = 4;
const ALONE: usize = 3;
/// Multiply-adds of tile registers in the time of one of vectors, as far as layers of networks reach it.
const GAIN: u64 = 4;

/// How the outputs of an image are cut.
#[derive(Clone, Copy, Debug)]
struct Bands {
    /// Whether a band is a part of the only row; else it is whole rows.
    flat: bool,
    /// Outputs of an image along the axis that is cut.
    extent: usize,
    /// How many of them a band has.
    step: usize,
    /// Outputs of a row of a band.
    width: usize,
    /// Positions from one row of a band to the next.
    pitch: usize,
}

impl Bands {
    /// Bands of `step` columns or rows.
    fn of(conv: &Conv, step: usize) -> Self {
        let flat = conv.rows.output == 1;
        let (extent, width) = if flat { (conv.columns.output, step) } else { (conv.rows.output, conv.columns.output) };
        Self { flat, extent, step, width, pitch: conv.columns.input }
    }

    /// Those of a schedule, which says the positions.
    fn read(conv: &Conv, schedule: &Schedule) -> Self {
        match conv.rows.output == 1 {
            true => Self::of(conv, schedule.pixels),
            false => Self::of(conv, (schedule.pixels - conv.columns.output) / conv.columns.input.max(1) + 1),
        }
    }

    /// Bands of an image.
    fn count(&self) -> usize {
        self.extent.div_ceil(self.step)
    }

    fn positions(&self) -> usize {
        if self.flat { self.step } else { (self.step - 1) * self.pitch + self.width }
    }

    /// The time of all tiles, in [`PAIR`] for each pair.
    fn cost(&self) -> usize {
        let tiles = self.positions().div_ceil(ROWS);
        self.count() * (tiles / 2 * PAIR + tiles % 2 * ALONE)
    }

    /// The cheapest, the largest of those.
    fn cheapest(conv: &Conv) -> Self {
        let flat = conv.rows.output == 1;
        // Positions of neighbouring rows are equally far from each other as those of one row if strides leave out none.
        let alone = !flat && (conv.rows.stride, conv.columns.stride) != (1, 1);
        let extent = if flat { conv.columns.output } else { conv.rows.output };
        let most = if alone { 1 } else { extent };
        let all = (1..=most.min(MOST_POSITIONS)).map(|step| Self::of(conv, step));
        let fits = all.filter(|bands| bands.step == 1 || bands.positions() <= MOST_POSITIONS);
        fits.min_by_key(|bands| (bands.cost(), bands.extent - bands.step)).unwrap_or_else(|| Self::of(conv, 1))
    }
}

/// Whether tile registers can compute a convolution: no window leaves its input.
pub fn applies(conv: &Conv) -> bool {
    let covered = |phase: Phase| phase.covered() && phase.origin == 0;
    let pixel = conv.strides().pixel * conv.columns.stride.max(1);
    let near = [pixel * MOST_POSITIONS.max(conv.columns.output), conv.panel_bytes()].iter().all(|far| *far < REACH / 4);
    let some = conv.pixels() * conv.filters * conv.channels > 0;
    conv.run.is_some() && some && near && [&conv.rows, &conv.columns].into_iter().all(|axis| covered(Phase::of(axis)))
}

/// The schedule on a machine with tile registers, of a convolution that [`applies`] holds for.
pub fn schedule(conv: &Conv, target: &Target) -> Schedule {
    let bands = Bands::cheapest(conv);
    let units = conv.batch * bands.count();
    let worth = conv.wanted(target.lanes()).div_ceil(GAIN) as usize;
    let wanted = if worth > 2 { worth.next_multiple_of(4) } else { worth };
    let strips = strips(conv).iter().map(|strip| strip.count).sum::<usize>();
    let by_strips = conv.few_pixels() && strips >= wanted.min(4) || units < wanted.min(4) && units < strips;
    let (split, units) = match (by_strips, bands.flat) {
        (true, _) => (Split::Strips, strips),
        (false, true) => (Split::Tiles, units),
        (false, false) => (Split::Rows, units),
    };
    let tiles = bands.positions().div_ceil(ROWS);
    let rows = bands.positions().div_ceil(tiles);
    Schedule {
        pixels: bands.positions(),
        vectors: PANELS,
        unroll: 1,
        split,
        chunks: wanted.clamp(1, units),
        tiles: rows,
    }
}

/// Bytes of the shapes and the stage.
pub fn scratch(schedule: &Schedule) -> usize {
    if schedule.tiles == 0 { 0 } else { ROW + schedule.pixels * ROW * schedule.vectors }
}

/// Cycles with all operands near.
pub fn cycles(conv: &Conv, schedule: &Schedule, machine: &Machine) -> f64 {
    let bands = Bands::read(conv, schedule);
    let tiles = conv.batch * bands.count() * schedule.pixels.div_ceil(ROWS);
    let panels = conv.filters.div_ceil(PANEL);
    let products = tiles * panels * conv.depth() / conv.run.unwrap_or(1);
    let outputs = (conv.pixels() * conv.filters) as u64;
    let stores = outputs as f64 / machine.lanes as f64 * 3.0;
    (products * PRODUCT) as f64 * 1.25 + machine.issued(stores + conv.epilogue.slots(outputs, machine))
}

/// Strips that run the same code.
#[derive(Clone, Debug)]
struct Strips {
    /// First strip.
    first: usize,
    /// How many there are.
    count: usize,
    /// Lanes of the outputs of each panel.
    lanes: Vec<usize>,
}

/// The strips of a convolution's filters.
fn strips(conv: &Conv) -> Vec<Strips> {
    let whole = conv.filters / (PANELS * PANEL);
    let rest = conv.filters - whole * PANELS * PANEL;
    let last: Vec<usize> = (0..rest).step_by(PANEL).map(|at| (rest - at).min(PANEL)).collect();
    let strips = [
        Strips { first: 0, count: whole, lanes: vec![PANEL; PANELS] },
        Strips { first: whole, count: usize::from(rest > 0), lanes: last },
    ];
    strips.into_iter().filter(|strips| strips.count > 0).collect()
}

/// The sums of a pair of tiles by tile and panel, the tiles of positions, those of panels.
const fn sums(tile: usize, panel: usize) -> T {
    T((2 * tile + panel) as u8)
}
const fn left(tile: usize) -> T {
    T(4 + tile as u8)
}
const fn right(panel: usize) -> T {
    T(6 + panel as u8)
}

/// Registers that hold constants throughout.
#[derive(Clone, Copy)]
struct Strides {
    zero: R,
    /// Bytes of a row of weights.
    weights: R,
    /// Bytes from one position to the next in the input.
    position: R,
}

struct Writer<'a> {
    conv: &'a Conv,
    schedule: &'a Schedule,
    bands: Bands,
    run: usize,
    strides: Strides,
    stage: R,
}

/// Writes the kernel.
pub fn emit(conv: &Conv, schedule: &Schedule, e: &mut dyn Emitter) {
    let p = Pointers::of(conv, e);
    let stage = e.r();
    e.scratch(stage);
    let run = conv.run.unwrap_or(2);
    shapes(e, stage, [schedule.tiles, run, width(conv.filters)]);
    e.add_imm(stage, stage, ROW as i64);
    let position = conv.strides().pixel * conv.columns.stride;
    let strides = Strides {
        zero: e.integer(0),
        weights: e.integer((2 * conv.element.size() * width(conv.filters)) as i64),
        position: e.integer(position as i64),
    };
    let writer = Writer { conv, schedule, bands: Bands::read(conv, schedule), run, strides, stage };
    let (first, end) = (e.r(), e.r());
    e.begin(first);
    e.end(end);
    e.sub(end, end, first);
    e.repeat(Count::Register(end), &mut |e| {
        writer.chunk(e, &p, first);
        e.add_imm(first, first, 1);
    });
    e.tile_release();
}

/// Gives tile registers their shapes, by way of memory at `at`: sums and positions have `rows` rows, weights a row for each pair of a run.
fn shapes(e: &mut dyn Emitter, at: R, [rows, run, width]: [usize; 3]) {
    let mut bytes = [0u8; ROW];
    bytes[0] = 1;
    for tile in 0..TILES {
        let (rows, columns) = match tile {
            0..4 => (rows, SINGLE * width),
            4 | 5 => (rows, DType::BF16.size() * run),
            _ => (run / 2, SINGLE * width),
        };
        bytes[16 + 2 * tile] = columns as u8;
        bytes[48 + tile] = rows as u8;
    }
    let word = e.r();
    for (i, bytes) in bytes.as_chunks().0.iter().enumerate() {
        e.set(word, i64::from_le_bytes(*bytes));
        e.store_r(word, at.at(8 * i));
    }
    e.free_r(word);
    e.tile_shapes(at.at(0));
}

impl Writer<'_> {
    /// Positions of a tile.
    fn rows(&self) -> usize {
        self.schedule.tiles
    }

    fn chunk(&self, e: &mut dyn Emitter, p: &Pointers, chunk: R) {
        let units = self.conv.batch * self.bands.count();
        let strips = strips(self.conv);
        let split = self.schedule.split == Split::Strips;
        let total = if split { strips.iter().map(|strips| strips.count).sum() } else { units };
        let range = self.range(e, chunk, total);
        for strips in &strips {
            let p = p.duplicate(e);
            p.advance(e, self.size(), strips.first * PANELS * PANEL, self.weights(strips.first));
            let (from, count) = (e.r(), e.r());
            if split {
                overlap(e, range, (strips.first, strips.count), (from, count));
                p.skip(e, self.size(), (from, PANELS * PANEL), self.weights(1));
            } else {
                e.set(count, strips.count as i64);
            }
            e.repeat(Count::Register(count), &mut |e| {
                self.strip(e, &p, strips, if split { None } else { Some(range) });
                p.advance(e, self.size(), PANELS * PANEL, self.weights(1));
            });
            e.free_r(from);
            e.free_r(count);
            p.free(e);
        }
        [range.first, range.end].into_iter().for_each(|r| e.free_r(r));
    }

    /// Bytes of the weights of so many whole strips.
    fn weights(&self, strips: usize) -> i64 {
        (strips * PANELS * self.conv.panel_bytes()) as i64
    }

    /// Bytes of an element of the result.
    fn size(&self) -> usize {
        self.conv.result().size()
    }

    /// The units of a chunk.
    fn range(&self, e: &mut dyn Emitter, chunk: R, units: usize) -> Range {
        let range = Range { first: e.r(), end: e.r() };
        e.mul_imm(range.first, chunk, units as i64);
        e.add_imm(range.end, range.first, units as i64);
        for r in [range.first, range.end] {
            e.div_imm(r, r, self.schedule.chunks as u32);
        }
        range
    }

    /// A strip over a range of units, or all of them.
    fn strip(&self, e: &mut dyn Emitter, p: &Pointers, strips: &Strips, range: Option<Range>) {
        let (unit, count) = (e.r(), e.r());
        match range {
            Some(range) => {
                e.copy(unit, range.first);
                e.sub(count, range.end, range.first);
            }
            None => {
                e.set(unit, 0);
                e.set(count, (self.conv.batch * self.bands.count()) as i64);
            }
        }
        e.repeat(Count::Register(count), &mut |e| {
            self.band(e, p, strips, unit);
            e.add_imm(unit, unit, 1);
        });
        e.free_r(unit);
        e.free_r(count);
    }

    /// One band of one strip.
    fn band(&self, e: &mut dyn Emitter, p: &Pointers, strips: &Strips, unit: R) {
        let (conv, bands, by) = (self.conv, &self.bands, self.conv.strides());
        let p = p.duplicate(e);
        let (at, start, offset) = (e.r(), e.r(), e.r());
        e.copy(at, unit);
        let along = if bands.flat { 1 } else { conv.columns.output };
        if conv.batch > 1 {
            let image = e.r();
            e.div_imm(image, unit, bands.count() as u32);
            e.mul_imm(offset, image, bands.count() as i64);
            e.sub(at, unit, offset);
            e.mul_imm(offset, image, by.image as i64);
            e.add(p.x, p.x, offset);
            if conv.weights_per_image {
                e.mul_imm(offset, image, (conv.element.size() * conv.weight_len()) as i64);
                e.add(p.weights, p.weights, offset);
            }
            p.move_by_pixel(e, conv, (image, bands.extent * along));
            e.free_r(image);
        }
        e.mul_imm(at, at, bands.step as i64);
        p.move_by_pixel(e, conv, (at, along));
        e.set(start, (bands.extent - bands.step) as i64);
        e.min(start, start, at);
        let input = if bands.flat { by.pixel * conv.columns.stride } else { by.row * conv.rows.stride };
        e.mul_imm(offset, start, input as i64);
        e.add(p.x, p.x, offset);
        self.tiles(e, &p, strips.lanes.len());
        // From here on `at` is how much of the band is stored already, `start` how much is not.
        e.sub(at, at, start);
        e.set(start, bands.step as i64);
        e.sub(start, start, at);
        let row = ROW * strips.lanes.len();
        let stage = e.r();
        e.mul_imm(offset, at, (row * if bands.flat { 1 } else { bands.pitch }) as i64);
        e.add(stage, self.stage, offset);
        if bands.flat {
            self.segment(e, &p, strips, stage, Ok(start));
        } else {
            let gap = (bands.pitch - bands.width) * row;
            e.repeat(Count::Register(start), &mut |e| {
                self.segment(e, &p, strips, stage, Err(bands.width));
                e.add_imm(stage, stage, gap as i64);
            });
        }
        [at, start, offset, stage].into_iter().for_each(|r| e.free_r(r));
        p.free(e);
    }

    /// The sums of a band in the stage.
    fn tiles(&self, e: &mut dyn Emitter, p: &Pointers, panels: usize) {
        let (positions, rows) = (self.schedule.pixels, self.rows());
        let tiles = positions.div_ceil(rows);
        let last = positions - rows;
        let position = self.conv.strides().pixel * self.conv.columns.stride;
        let (x, stage) = (e.r(), e.r());
        e.copy(x, p.x);
        e.copy(stage, self.stage);
        let pairs = (tiles - 1) / 2;
        e.repeat(Count::Times(pairs as u32), &mut |e| {
            self.products(e, p, (x, stage), &[0, rows], panels);
            e.add_imm(x, x, (2 * rows * position) as i64);
            e.add_imm(stage, stage, (2 * rows * ROW * panels) as i64);
        });
        // The last tile ends with the band.
        let passed = 2 * pairs * rows;
        match tiles % 2 {
            0 => self.products(e, p, (x, stage), &[0, last - passed], panels),
            _ => {
                e.add_imm(x, x, (last * position) as i64 - (passed * position) as i64);
                e.add_imm(stage, stage, (last * ROW * panels) as i64 - (passed * ROW * panels) as i64);
                self.products(e, p, (x, stage), &[0], panels);
            }
        }
        e.free_r(x);
        e.free_r(stage);
    }

    /// Tiles at some positions from `x` on: all products, then their sums to the stage.
    fn products(&self, e: &mut dyn Emitter, p: &Pointers, (x, stage): (R, R), tiles: &[usize], panels: usize) {
        let (conv, by) = (self.conv, self.conv.strides());
        let (channels, size) = (conv.channels, conv.element.size());
        let all = |count: usize| (0..count).flat_map(move |tile| (0..panels).map(move |panel| (tile, panel)));
        for (tile, panel) in all(tiles.len()) {
            e.tile_load(sums(tile, panel), p.bias.at(ROW * panel), self.strides.zero);
        }
        let (a, w) = (e.r(), e.r());
        e.copy(a, x);
        e.copy(w, p.weights);
        let runs = |e: &mut dyn Emitter, count: usize| {
            e.repeat(Count::Times(count as u32), &mut |e| {
                self.run(e, (a, w), tiles, panels);
                e.add_imm(a, a, (self.run * size) as i64);
                e.add_imm(w, w, (self.run / 2 * 2 * size * width(conv.filters)) as i64);
            });
        };
        let taps = conv.columns.kernel;
        e.repeat(Count::Times(conv.rows.kernel as u32), &mut |e| {
            let passed = if conv.columns.dilation == 1 {
                runs(e, taps * channels / self.run);
                taps * by.pixel
            } else {
                e.repeat(Count::Times(taps as u32), &mut |e| {
                    runs(e, channels / self.run);
                    e.add_imm(a, a, ((conv.columns.dilation - 1) * by.pixel) as i64);
                });
                taps * conv.columns.dilation * by.pixel
            };
            e.add_imm(a, a, (conv.rows.dilation * by.row) as i64 - passed as i64);
        });
        e.free_r(a);
        e.free_r(w);
        let row = e.integer((ROW * panels) as i64);
        for (tile, panel) in all(tiles.len()) {
            e.tile_store(sums(tile, panel), stage.at(tiles[tile] * ROW * panels + ROW * panel), row);
        }
        e.free_r(row);
    }

    /// The products of one run.
    fn run(&self, e: &mut dyn Emitter, (a, w): (R, R), tiles: &[usize], panels: usize) {
        let position = self.conv.strides().pixel * self.conv.columns.stride;
        for panel in 0..panels {
            e.tile_load(right(panel), w.at(panel * self.conv.panel_bytes()), self.strides.weights);
        }
        for (tile, first) in tiles.iter().enumerate() {
            e.tile_load(left(tile), a.at(first * position), self.strides.position);
            for panel in 0..panels {
                e.tile_dot(sums(tile, panel), left(tile), right(panel));
            }
        }
    }

    /// Outputs side by side from the stage through the epilogue to memory, a number that is known or in a register; moves `stage` and `p`.
    fn segment(&self, e: &mut dyn Emitter, p: &Pointers, strips: &Strips, stage: R, count: Result<R, usize>) {
        let group = TOGETHER / strips.lanes.len();
        match count {
            Err(count) => {
                e.repeat(Count::Times((count / group) as u32), &mut |e| self.outputs(e, p, strips, (stage, group)));
                if !count.is_multiple_of(group) {
                    self.outputs(e, p, strips, (stage, count % group));
                }
            }
            Ok(count) => {
                let (groups, rest) = (e.r(), e.r());
                e.div_imm(groups, count, group as u32);
                e.mul_imm(rest, groups, group as i64);
                e.sub(rest, count, rest);
                e.repeat(Count::Register(groups), &mut |e| self.outputs(e, p, strips, (stage, group)));
                e.repeat(Count::Register(rest), &mut |e| self.outputs(e, p, strips, (stage, 1)));
                e.free_r(groups);
                e.free_r(rest);
            }
        }
    }

    fn outputs(&self, e: &mut dyn Emitter, p: &Pointers, strips: &Strips, (stage, pixels): (R, usize)) {
        let (row, size, pitch) = (ROW * strips.lanes.len(), self.size(), self.conv.pitch());
        let mut outputs = Vec::new();
        for pixel in 0..pixels {
            for (panel, lanes) in strips.lanes.iter().enumerate() {
                let value = e.v();
                e.load(value, stage.at(pixel * row + panel * ROW), *lanes);
                let offset = size * (pixel * pitch + panel * PANEL);
                let maps = p.maps.map(|map| map.map(|r| r.at(offset)));
                outputs.push(Output { value, to: p.y.at(offset), lanes: *lanes, maps, sum: None });
            }
        }
        self.conv.epilogue.store(e, self.conv.result(), &outputs);
        outputs.into_iter().for_each(|output| e.free_v(output.value));
        e.add_imm(stage, stage, (pixels * row) as i64);
        for (r, pixel) in p.by_pixel(self.conv) {
            e.add_imm(r, r, (pixels * pixel) as i64);
        }
    }
}
