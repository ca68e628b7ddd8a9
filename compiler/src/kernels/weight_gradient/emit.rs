//! The loops: images, blocks of pixels, units, taps, strips of vectors, pixels.

use super::WeightGradient;
use super::schedule::{Lanes, Schedule, Sweep, even};
use crate::codegen::elements::SINGLE;
use crate::codegen::{Count, Element, Emitter, Mem, R, V, VOp};
use crate::kernels::LINE;
use crate::kernels::conv::{Axis, Input};
use crate::kernels::square::transpose;

/// Pixels of a block below which its sums are in memory before what they are added to could be.
const FEW_PIXELS: usize = 16;

/// The operands of a block.
#[derive(Clone, Copy)]
struct Operands {
    x: R,
    dy: R,
    /// The factors of the image's channels, if there are any.
    gate: Option<R>,
    /// The earlier sum, if there is one.
    sum: Option<R>,
    /// The weights.
    y: R,
}

impl Operands {
    /// Fresh registers with the same values.
    fn duplicate(&self, e: &mut dyn Emitter) -> Self {
        let [x, dy, y] = [self.x, self.dy, self.y].map(|r| copy(e, r));
        Self { x, dy, gate: self.gate.map(|r| copy(e, r)), sum: self.sum.map(|r| copy(e, r)), y }
    }

    fn free(self, e: &mut dyn Emitter) {
        [self.x, self.dy, self.y].into_iter().chain(self.gate).chain(self.sum).for_each(|r| e.free_r(r));
    }

    /// The weights and the earlier sum, which move alike.
    fn weights(&self) -> impl Iterator<Item = R> {
        [self.y].into_iter().chain(self.sum)
    }
}

/// The operands of a tile.
#[derive(Clone, Copy)]
struct Pointers {
    /// What vectors are loaded from, at the first pixel.
    lanes: R,
    /// What is broadcast.
    broadcast: R,
    /// All of them, at the tile.
    at: Operands,
}

/// The pixels of a block that a tap meets, and whether there are blocks before it.
#[derive(Clone, Copy)]
struct Pixels {
    rows: R,
    columns: R,
    /// Blocks before this one.
    pass: R,
}

/// Along which extent of the weights tiles follow one another.
#[derive(Clone, Copy, PartialEq)]
enum Along {
    Elements,
    Vectors,
}

/// Tiles of one size along an extent.
#[derive(Clone, Copy)]
struct Part {
    along: Along,
    /// Elements or vectors of a tile.
    size: usize,
    /// Tiles.
    tiles: usize,
    /// Number of the first tile.
    first: usize,
    /// Elements or vectors before it.
    begin: usize,
    /// Whether the last vector is not full.
    cut: bool,
}

/// An extent in even tiles of at most `most`.
fn parts(along: Along, extent: usize, most: usize) -> Vec<Part> {
    let (mut first, mut begin) = (0, 0);
    let part = |(size, tiles): (usize, usize)| {
        let part = Part { along, size, tiles, first, begin, cut: false };
        (first, begin) = (first + tiles, begin + size * tiles);
        part
    };
    even(extent, most).map(part).collect()
}

/// Runs `body` for the part that has tile `tile`, with the number of the tile in it.
fn pick(e: &mut dyn Emitter, tile: R, parts: &[Part], body: &mut dyn FnMut(&mut dyn Emitter, R, &Part)) {
    for (i, part) in parts.iter().enumerate() {
        let mut own = |e: &mut dyn Emitter| {
            let own = copy(e, tile);
            e.add_imm(own, own, -(part.first as i64));
            body(e, own, part);
            e.free_r(own);
        };
        let mut below = |e: &mut dyn Emitter| {
            if i + 1 == parts.len() {
                return own(e);
            }
            let end = e.integer((part.first + part.tiles) as i64);
            e.if_less(tile, end, &mut own);
            e.free_r(end);
        };
        if i == 0 {
            below(e);
        } else {
            let before = e.integer(part.first as i64 - 1);
            e.if_less(before, tile, &mut below);
            e.free_r(before);
        }
    }
}

struct Writer<'a> {
    spec: &'a WeightGradient,
    schedule: &'a Schedule,
}

/// Byte distances in `x`: element, pixel, row, image.
fn strides(spec: &WeightGradient) -> [usize; 4] {
    let (c, h, w, size) = (spec.channels, spec.rows.input, spec.columns.input, spec.element.size());
    match spec.input {
        Input::ChannelsLast => [size, size * c, size * c * w, size * c * w * h],
        Input::RowMajor => [size * h * w, size, size * w, size * c * w * h],
    }
}

/// Writes the kernel.
pub fn emit(spec: &WeightGradient, schedule: &Schedule, e: &mut dyn Emitter) {
    let writer = Writer { spec, schedule };
    let [x, dy] = [0, 1].map(|i| e.pointer(i));
    let gate = spec.gate.then(|| e.pointer(2));
    let sum = spec.sum.then(|| e.pointer(2 + usize::from(spec.gate)));
    let y = e.pointer(2 + usize::from(spec.gate) + usize::from(spec.sum));
    let operands = Operands { x, dy, gate, sum, y };
    let (first, end, last) = (e.r(), e.r(), e.integer(spec.units(schedule) as i64));
    e.begin(first);
    e.mul_imm(first, first, schedule.units as i64);
    e.end(end);
    e.mul_imm(end, end, schedule.units as i64);
    e.min(end, end, last);
    e.sub(end, end, first);
    let [rows, columns] = spec.blocks();
    let pass = e.integer(0);
    if spec.batch * rows * columns == 0 {
        // No pixels: the earlier sum, or nothing but zeros, and no image that has a gate.
        let none = e.integer(0);
        let pixels = Pixels { rows: none, columns: none, pass };
        let operands = Operands { gate: None, ..operands };
        return writer.units(e, (first, end), operands, pixels, [none, none]);
    }
    if rows * columns == 1 {
        // The sums of a tile of weights stay near from image to image.
        let [row, column] = [0, 0].map(|first| e.integer(first));
        let [bottom, right] = [spec.rows.output, spec.columns.output].map(|end| e.integer(end as i64));
        let pixels = Pixels { rows: bottom, columns: right, pass };
        return writer.units(e, (first, end), operands, pixels, [row, column]);
    }
    e.repeat(Count::Times(spec.batch as u32), &mut |e| {
        let [height, width] = spec.block();
        let (row, column) = (e.integer(0), e.r());
        e.repeat(Count::Times(rows as u32), &mut |e| {
            e.set(column, 0);
            e.repeat(Count::Times(columns as u32), &mut |e| {
                let end_of = |e: &mut dyn Emitter, from: R, size: usize, all: usize| {
                    let (end, last) = (e.r(), e.integer(all as i64));
                    e.add_imm(end, from, size as i64);
                    e.min(end, end, last);
                    e.free_r(last);
                    end
                };
                let bottom = end_of(e, row, height, spec.rows.output);
                let right = end_of(e, column, width, spec.columns.output);
                let pixels = Pixels { rows: bottom, columns: right, pass };
                writer.units(e, (first, end), operands, pixels, [row, column]);
                [bottom, right].into_iter().for_each(|r| e.free_r(r));
                e.add_imm(pass, pass, 1);
                e.add_imm(column, column, width as i64);
            });
            e.add_imm(row, row, height as i64);
        });
        [row, column].into_iter().for_each(|r| e.free_r(r));
        writer.next_image(e, operands);
    });
}

/// A fresh register with the value of another.
fn copy(e: &mut dyn Emitter, from: R) -> R {
    let r = e.r();
    e.copy(r, from);
    r
}

/// Moves a pointer on by `index` times `bytes`.
fn advance(e: &mut dyn Emitter, pointer: R, index: R, bytes: usize) {
    let offset = e.r();
    e.mul_imm(offset, index, bytes as i64);
    e.add(pointer, pointer, offset);
    e.free_r(offset);
}

/// The outputs from `from` to `end` for which `tap` of an axis meets the input: the first, and how many there are (none if negative).
fn met(e: &mut dyn Emitter, axis: &Axis, tap: R, [from, end]: [R; 2]) -> [R; 2] {
    let [first, count] = [from, end].map(|r| copy(e, r));
    let (bound, zero) = (e.r(), e.integer(0));
    let limit = |e: &mut dyn Emitter, base: usize| {
        e.mul_imm(bound, tap, -(axis.dilation as i64));
        e.add_imm(bound, bound, (base + axis.stride - 1) as i64);
        e.max(bound, bound, zero);
        e.div_imm(bound, bound, axis.stride as u32);
        bound
    };
    let low = limit(e, axis.begin);
    e.max(first, first, low);
    let high = limit(e, axis.begin + axis.input);
    e.min(count, count, high);
    e.sub(count, count, first);
    [bound, zero].into_iter().for_each(|r| e.free_r(r));
    [first, count]
}

impl Writer<'_> {
    /// Moves the operands on by an image.
    fn next_image(&self, e: &mut dyn Emitter, Operands { x, dy, gate, .. }: Operands) {
        let spec = self.spec;
        e.add_imm(x, x, strides(spec)[3] as i64);
        gate.into_iter().for_each(|r| e.add_imm(r, r, (SINGLE * spec.channels) as i64));
        e.add_imm(dy, dy, (spec.element.size() * spec.filters * spec.rows.output * spec.columns.output) as i64);
    }

    /// Runs `body` for each image where an image is a block, with its operands and the number of images before it; else once.
    fn images(
        &self,
        e: &mut dyn Emitter,
        operands: Operands,
        pixels: Pixels,
        body: &mut dyn FnMut(&mut dyn Emitter, Operands, Pixels),
    ) {
        if self.spec.blocks() != [1, 1] || self.spec.batch <= 1 {
            return body(e, operands, pixels);
        }
        let (operands, pass) = (operands.duplicate(e), copy(e, pixels.pass));
        e.repeat(Count::Times(self.spec.batch as u32), &mut |e| {
            body(e, operands, Pixels { pass, ..pixels });
            self.next_image(e, operands);
            e.add_imm(pass, pass, 1);
        });
        operands.free(e);
        e.free_r(pass);
    }

    /// A range of units, given by its first and its number, for a block that begins at a row and column, or for the one block of every
    /// image.
    fn units(
        &self,
        e: &mut dyn Emitter,
        (first, count): (R, R),
        operands: Operands,
        pixels: Pixels,
        [row, column]: [R; 2],
    ) {
        let spec = self.spec;
        let tiles = spec.outer_tiles(self.schedule);
        let unit = copy(e, first);
        e.repeat(Count::Register(count), &mut |e| {
            let (kernel_row, tile) = (e.r(), e.r());
            e.div_imm(kernel_row, unit, tiles as u32);
            e.mul_imm(tile, kernel_row, tiles as i64);
            e.sub(tile, unit, tile);
            let [top, rows] = met(e, &spec.rows, kernel_row, [row, pixels.rows]);
            let unit_at = operands.duplicate(e);
            let [_, _, x_row, _] = strides(spec);
            // The first row of x that the kernel row meets.
            let at = e.r();
            e.mul_imm(at, top, spec.rows.stride as i64);
            advance(e, at, kernel_row, spec.rows.dilation);
            e.add_imm(at, at, -(spec.rows.begin as i64));
            advance(e, unit_at.x, at, x_row);
            advance(e, unit_at.dy, top, spec.element.size() * spec.filters * spec.columns.output);
            for r in unit_at.weights() {
                advance(e, r, kernel_row, SINGLE * spec.channels * spec.columns.kernel);
            }
            let tap = e.integer(0);
            e.repeat(Count::Times(spec.columns.kernel as u32), &mut |e| {
                let [left, columns] = met(e, &spec.columns, tap, [column, pixels.columns]);
                let pixels = Pixels { rows, columns, ..pixels };
                let [x, dy] = [unit_at.x, unit_at.dy].map(|r| copy(e, r));
                e.mul_imm(at, left, spec.columns.stride as i64);
                advance(e, at, tap, spec.columns.dilation);
                e.add_imm(at, at, -(spec.columns.begin as i64));
                advance(e, x, at, strides(spec)[1]);
                advance(e, dy, left, spec.element.size() * spec.filters);
                self.images(e, Operands { x, dy, ..unit_at }, pixels, &mut |e, operands, pixels| {
                    self.unit(e, tile, operands, pixels);
                });
                for r in unit_at.weights() {
                    e.add_imm(r, r, (SINGLE * spec.channels) as i64);
                }
                e.add_imm(tap, tap, 1);
                [left, columns, x, dy].into_iter().for_each(|r| e.free_r(r));
            });
            unit_at.free(e);
            [kernel_row, tile, top, rows, at, tap].into_iter().for_each(|r| e.free_r(r));
            e.add_imm(unit, unit, 1);
        });
        e.free_r(unit);
    }

    /// Unit `unit` of a kernel row, all tiles of it.
    fn unit(&self, e: &mut dyn Emitter, unit: R, operands: Operands, pixels: Pixels) {
        let (elements, vectors) = (self.element_parts(), self.vector_parts());
        let (outer, inner) = match self.schedule.sweep {
            Sweep::Vectors => (&elements, &vectors),
            Sweep::Elements => (&vectors, &elements),
        };
        pick(e, unit, outer, &mut |e, own, part| {
            let at = operands.duplicate(e);
            let (lanes, broadcast) = match self.schedule.lanes {
                Lanes::Channels => (at.x, at.dy),
                Lanes::Filters => (at.dy, at.x),
            };
            let p = Pointers { lanes, broadcast, at };
            for (r, step) in self.steps(part.along, &p) {
                e.add_imm(r, r, (part.begin * step) as i64);
                advance(e, r, own, part.size * step);
            }
            for next in inner {
                e.repeat(Count::Times(next.tiles as u32), &mut |e| {
                    let (elements, vectors) = if next.along == Along::Elements { (next, part) } else { (part, next) };
                    self.tile(e, (elements.size, &self.lanes(vectors)), p, pixels);
                    self.steps(next.along, &p).for_each(|(r, step)| e.add_imm(r, r, (next.size * step) as i64));
                });
            }
            at.free(e);
        });
    }

    /// The pointers that move along the elements or the vectors of the weights, and the bytes from one to the next.
    fn steps(&self, along: Along, p: &Pointers) -> impl Iterator<Item = (R, usize)> {
        let (spec, kind, [element, lane]) = (self.spec, self.schedule.lanes, self.weight_strides());
        let (pointer, bytes, weight, gated, count) = match (along, kind) {
            (Along::Elements, Lanes::Channels) => (p.broadcast, spec.element.size(), element, false, 1),
            (Along::Elements, Lanes::Filters) => (p.broadcast, strides(spec)[0], element, true, 1),
            (Along::Vectors, _) => (p.lanes, spec.element.size(), lane, kind == Lanes::Channels, self.schedule.side),
        };
        let gate = p.at.gate.filter(|_| gated).map(|gate| (gate, SINGLE));
        let weights = [p.at.y].into_iter().chain(p.at.sum).map(move |r| (r, weight));
        [(pointer, bytes)].into_iter().chain(weights).chain(gate).map(move |(r, bytes)| (r, count * bytes))
    }

    /// The broadcast elements in tiles.
    fn element_parts(&self) -> Vec<Part> {
        parts(Along::Elements, self.spec.broadcast(self.schedule.lanes), self.schedule.elements)
    }

    /// The vectors in tiles; a last vector that is not full has a part of its own.
    fn vector_parts(&self) -> Vec<Part> {
        let extent = self.extent();
        let mut parts = parts(Along::Vectors, extent.div_ceil(self.schedule.side), self.schedule.vectors);
        if !extent.is_multiple_of(self.schedule.side)
            && let Some(last) = parts.pop()
        {
            let (first, begin) = (last.first + last.tiles - 1, last.begin + (last.tiles - 1) * last.size);
            parts.extend((last.tiles > 1).then_some(Part { tiles: last.tiles - 1, ..last }));
            parts.push(Part { first, begin, tiles: 1, cut: true, ..last });
        }
        parts
    }

    /// What lanes go over.
    fn extent(&self) -> usize {
        match self.schedule.lanes {
            Lanes::Channels => self.spec.channels,
            Lanes::Filters => self.spec.filters,
        }
    }

    /// Lanes of each vector of a tile of a part.
    fn lanes(&self, part: &Part) -> Vec<usize> {
        let mut lanes = vec![self.schedule.side; part.size];
        if part.cut {
            lanes[part.size - 1] = (self.extent() - 1) % self.schedule.side + 1;
        }
        lanes
    }

    /// Byte distances in the weights: of broadcast elements, and of lanes.
    fn weight_strides(&self) -> [usize; 2] {
        let filter = SINGLE * self.spec.channels * self.spec.taps();
        match self.schedule.lanes {
            Lanes::Channels => [filter, SINGLE],
            Lanes::Filters => [SINGLE, filter],
        }
    }

    /// One tile over the pixels of a block: `size` broadcast elements by vectors with so many lanes each.
    fn tile(&self, e: &mut dyn Emitter, (size, vectors): (usize, &[usize]), p: Pointers, pixels: Pixels) {
        let (spec, element) = (self.spec, self.spec.element);
        let [x_element, x_pixel, x_row, _] = strides(spec);
        let [y_element, y_pixel] = [element.size(), element.size() * spec.filters];
        let x = (spec.columns.stride * x_pixel, spec.rows.stride * x_row);
        let dy = (y_pixel, y_pixel * spec.columns.output);
        let (lanes, broadcast, between) = match self.schedule.lanes {
            Lanes::Channels => (x, dy, y_element),
            Lanes::Filters => (dy, x, x_element),
        };
        self.prefetch(e, size, vectors, &p);
        let sums: Vec<Vec<V>> = (0..size).map(|_| vectors.iter().map(|_| e.v()).collect()).collect();
        sums.iter().flatten().for_each(|v| e.zero(*v));
        let rows = [p.lanes, p.broadcast].map(|r| copy(e, r));
        e.repeat(Count::Register(pixels.rows), &mut |e| {
            let at = rows.map(|r| copy(e, r));
            e.repeat(Count::Register(pixels.columns), &mut |e| {
                let loaded: Vec<V> = vectors.iter().map(|_| e.v()).collect();
                for (i, (v, lanes)) in loaded.iter().zip(vectors).enumerate() {
                    e.load_f32(*v, at[0].at(i * self.schedule.side * element.size()), element, *lanes);
                }
                let factor = e.v();
                for (j, sums) in sums.iter().enumerate() {
                    e.broadcast_f32(factor, at[1].at(j * between), element);
                    // As in a convolution: the last product may overwrite the broadcast element.
                    let last = loaded.len() - 1;
                    sums[..last].iter().zip(&loaded).for_each(|(sum, v)| e.fma(*sum, *v, factor));
                    e.fma(sums[last], factor, loaded[last]);
                }
                loaded.into_iter().chain([factor]).for_each(|v| e.free_v(v));
                e.add_imm(at[0], at[0], lanes.0 as i64);
                e.add_imm(at[1], at[1], broadcast.0 as i64);
            });
            at.into_iter().for_each(|r| e.free_r(r));
            e.add_imm(rows[0], rows[0], lanes.1 as i64);
            e.add_imm(rows[1], rows[1], broadcast.1 as i64);
        });
        rows.into_iter().for_each(|r| e.free_r(r));
        self.store(e, sums, vectors, &p, pixels.pass);
    }

    /// Asks for what the sums of a tile will be added to: it is in no cache where there are more weights than pixels.
    fn prefetch(&self, e: &mut dyn Emitter, size: usize, vectors: &[usize], p: &Pointers) {
        let [height, width] = self.spec.block();
        if height * width < FEW_PIXELS {
            return;
        }
        let [element, lane] = self.weight_strides();
        let lanes: usize = vectors.iter().sum();
        let (lines, length) = match self.schedule.lanes {
            Lanes::Channels => ((0..size).map(|j| j * element).collect::<Vec<_>>(), lanes * lane),
            Lanes::Filters => ((0..lanes).map(|i| i * lane).collect(), size * element),
        };
        for (line, offset) in lines.into_iter().flat_map(|line| (0..length).step_by(LINE).map(move |at| (line, at))) {
            e.prefetch(p.at.sum.unwrap_or(p.at.y).at(line + offset));
        }
    }

    /// Adds the sums of a block to what the blocks before it gave.
    fn store(&self, e: &mut dyn Emitter, sums: Vec<Vec<V>>, vectors: &[usize], p: &Pointers, pass: R) {
        let ([element, lane], p) = (self.weight_strides(), &p.at);
        let (source, own) = self.source(e, p, pass);
        match self.schedule.lanes {
            Lanes::Channels => {
                let line = |(j, line): (usize, Vec<V>)| {
                    let place = move |(i, v)| (v, j * element + i * self.schedule.side * lane, vectors[i]);
                    line.into_iter().enumerate().map(place).collect::<Vec<_>>()
                };
                for (i, lanes) in vectors.iter().enumerate() {
                    let lines: Vec<V> = sums.iter().map(|line| line[i]).collect();
                    pass_gate(e, p.gate.map(|gate| gate.at(i * self.schedule.side * SINGLE)), &lines, *lanes);
                }
                let outputs: Vec<(V, usize, usize)> = sums.into_iter().enumerate().flat_map(line).collect();
                add(e, &outputs, source, p);
                outputs.into_iter().for_each(|(v, ..)| e.free_v(v));
            }
            Lanes::Filters => {
                for (i, lanes) in vectors.iter().enumerate() {
                    for (group, lines) in sums.chunks(self.schedule.side).enumerate() {
                        let (count, mut square) = (lines.len(), lines.iter().map(|v| v[i]).collect::<Vec<_>>());
                        square.resize(self.schedule.side, square[0]);
                        let place = |(row, v)| {
                            (v, (i * self.schedule.side + row) * lane + group * self.schedule.side * element, count)
                        };
                        let rows: Vec<V> = transpose(e, square).into_iter().take(*lanes).collect();
                        pass_gate(e, p.gate.map(|gate| gate.at(group * self.schedule.side * SINGLE)), &rows, count);
                        add(e, &rows.into_iter().enumerate().map(place).collect::<Vec<_>>(), source, p);
                    }
                }
                sums.into_iter().flatten().for_each(|v| e.free_v(v));
            }
        }
        own.into_iter().for_each(|r| e.free_r(r));
    }

    /// Where the sum so far is, if there is one in every block or in all but the first; and a register that this takes.
    fn source(&self, e: &mut dyn Emitter, p: &Operands, pass: R) -> (Source, Option<R>) {
        let [rows, columns] = self.spec.blocks();
        let several = self.spec.batch * rows * columns > 1;
        match (p.sum, several) {
            (None, false) => (Source::None, None),
            (None, true) => (Source::LaterBlocks(pass), None),
            (Some(sum), false) => (Source::Pointer(sum), None),
            (Some(sum), true) => {
                let at = e.r();
                e.select_below(at, pass, 1, sum, p.y);
                (Source::Pointer(at), Some(at))
            }
        }
    }
}

/// Multiplies vectors over channels by the factors of these, if there are any.
fn pass_gate(e: &mut dyn Emitter, gate: Option<Mem>, vectors: &[V], lanes: usize) {
    if let Some(from) = gate {
        let factors = e.v();
        e.load(factors, from, lanes);
        vectors.iter().for_each(|v| e.op(VOp::Mul, Element::F32, *v, *v, factors));
        e.free_v(factors);
    }
}

/// Where the sum so far is.
#[derive(Clone, Copy)]
enum Source {
    /// There is none.
    None,
    /// In memory, in all blocks.
    Pointer(R),
    /// In the weights, in all blocks but the first; how many were before.
    LaterBlocks(R),
}

/// Stores vectors, of some lanes each, at offsets in the weights, after the sum so far is added.
fn add(e: &mut dyn Emitter, outputs: &[(V, usize, usize)], source: Source, p: &Operands) {
    let add = |e: &mut dyn Emitter, from: R| {
        let before = e.v();
        for (v, offset, lanes) in outputs {
            e.load(before, from.at(*offset), *lanes);
            e.op(VOp::Add, Element::F32, *v, *v, before);
        }
        e.free_v(before);
    };
    match source {
        Source::None => {}
        Source::Pointer(from) => add(e, from),
        Source::LaterBlocks(pass) => {
            let zero = e.integer(0);
            e.if_less(zero, pass, &mut |e| add(e, p.y));
            e.free_r(zero);
        }
    }
    for (v, offset, lanes) in outputs {
        let to: Mem = p.y.at(*offset);
        e.store(*v, to, *lanes);
    }
}
