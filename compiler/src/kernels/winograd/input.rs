//! The first stage: input tiles to `V[position][tile][channel]`, vectors along the channels.
//!
//! A tile inside the map is read where it stands. One that reaches over an edge is first copied, all channels of it, to a patch of
//! zeros, so both share their code. Each vector of channels is transformed by columns, then by rows, through a vector of scratch memory
//! per element.

use super::emit::{Block, Writer};
use super::transform;
use crate::codegen::elements::SINGLE;
use crate::codegen::{Count, Element, Emitter, R, V};
use crate::kernels::LINE;
use crate::kernels::sliding::copy;

/// The elements of a tile: where its first row begins, and the distance of its rows.
#[derive(Clone, Copy)]
struct Source {
    base: R,
    row: R,
}

impl Writer<'_> {
    /// Transforms the input tiles of a block.
    pub fn transform_input(&self, e: &mut dyn Emitter, block: Block) {
        let constants = transform::input_constants(e, self.spec.tile);
        let (tile, to) = (copy(e, block.tile), self.scratch_at(e, 0));
        e.repeat(Count::Register(block.count), &mut |e| {
            let source = self.source(e, tile);
            self.tile_input(e, &constants, source, to);
            e.free_r(source.base);
            e.free_r(source.row);
            e.add_imm(to, to, (SINGLE * self.spec.row()) as i64);
            e.add_imm(tile, tile, 1);
        });
        e.free_r(tile);
        e.free_r(to);
        constants.into_iter().for_each(|c| e.free_v(c));
    }

    /// Bytes of one pixel.
    fn pixel(&self) -> i64 {
        (self.spec.element.size() * self.spec.channels) as i64
    }

    /// The elements of tile number `tile`.
    fn source(&self, e: &mut dyn Emitter, tile: R) -> Source {
        let spec = self.spec;
        let (n, m) = (spec.tile.inputs(), spec.tile.outputs() as i64);
        let at = self.locate(e, tile);
        for (r, begin) in [(at.row, spec.begin[0]), (at.column, spec.begin[1])] {
            e.mul_imm(r, r, m);
            e.add_imm(r, r, -(begin as i64));
        }
        let [height, width] = spec.input;
        let source = Source { base: e.pointer(0), row: e.r() };
        let skip = e.r();
        for (r, step) in [(at.image, height * width), (at.row, width), (at.column, 1)] {
            e.mul_imm(skip, r, step as i64 * self.pixel());
            e.add(source.base, source.base, skip);
        }
        e.set(source.row, width as i64 * self.pixel());
        // 1 if all of the tile is inside the map.
        let (inside, outside) = (e.r(), e.r());
        e.set(inside, 1);
        e.set(outside, 0);
        for (r, extent) in [(at.row, height), (at.column, width)] {
            e.select_below(inside, r, (extent + 1).saturating_sub(n) as u32, inside, outside);
        }
        e.set(outside, 1);
        e.if_less(inside, outside, &mut |e| self.patch(e, [at.row, at.column], source));
        [inside, outside, skip].into_iter().for_each(|r| e.free_r(r));
        at.free(e);
        source
    }

    /// Copies a tile whose first pixel is at row `first[0]` and column `first[1]` of the map, negative in the padding, to the patch.
    fn patch(&self, e: &mut dyn Emitter, first: [R; 2], source: Source) {
        let n = self.spec.tile.inputs();
        let patch = self.scratch_at(e, self.scratch.patch);
        self.clear(e, patch);
        let (to, skip) = (copy(e, patch), e.r());
        // Of each axis: the elements before the map, and those inside.
        let [(above, rows), (left, columns)] = [0, 1].map(|axis| self.overlap(e, first[axis], self.spec.input[axis]));
        e.mul_imm(skip, above, n as i64 * self.pixel());
        e.add(to, to, skip);
        e.mul_imm(skip, above, self.spec.input[1] as i64 * self.pixel());
        e.add(source.base, source.base, skip);
        e.mul_imm(skip, left, self.pixel());
        e.add(to, to, skip);
        e.add(source.base, source.base, skip);
        e.repeat(Count::Register(rows), &mut |e| {
            let (from, into) = (copy(e, source.base), copy(e, to));
            e.repeat(Count::Register(columns), &mut |e| self.copy_pixel(e, from, into));
            e.free_r(from);
            e.free_r(into);
            e.add(source.base, source.base, source.row);
            e.add_imm(to, to, n as i64 * self.pixel());
        });
        e.copy(source.base, patch);
        e.set(source.row, n as i64 * self.pixel());
        [patch, to, skip, above, rows, left, columns].into_iter().for_each(|r| e.free_r(r));
    }

    /// How many of the elements of a tile that begins at `first` lie before an axis of `extent`, and how many inside (or less than 1).
    fn overlap(&self, e: &mut dyn Emitter, first: R, extent: usize) -> (R, R) {
        let (before, inside, bound) = (e.r(), e.r(), e.r());
        e.set(bound, 0);
        e.sub(before, bound, first);
        e.max(before, before, bound);
        e.set(inside, extent as i64);
        e.sub(inside, inside, first);
        e.set(bound, self.spec.tile.inputs() as i64);
        e.min(inside, inside, bound);
        e.sub(inside, inside, before);
        e.free_r(bound);
        (before, inside)
    }

    fn clear(&self, e: &mut dyn Emitter, patch: R) {
        let (to, zero, lanes) = (copy(e, patch), e.v(), e.lanes(Element::F32));
        let element = self.spec.element;
        e.zero(zero);
        let vectors = (self.spec.tile.positions() * self.spec.channels).div_ceil(lanes);
        e.repeat(Count::Times(vectors as u32), &mut |e| {
            e.store_bits(zero, to.at(0), element, lanes);
            e.add_imm(to, to, (element.size() * lanes) as i64);
        });
        e.free_r(to);
        e.free_v(zero);
    }

    /// Copies one pixel and moves both pointers beyond it.
    fn copy_pixel(&self, e: &mut dyn Emitter, from: R, to: R) {
        let (v, lanes, element) = (e.v(), e.lanes(Element::F32), self.spec.element);
        let (full, rest) = (self.spec.channels / lanes, self.spec.channels % lanes);
        let step = |e: &mut dyn Emitter, lanes: usize| {
            e.load_bits(v, from.at(0), element, lanes);
            e.store_bits(v, to.at(0), element, lanes);
            e.add_imm(from, from, (element.size() * lanes) as i64);
            e.add_imm(to, to, (element.size() * lanes) as i64);
        };
        e.repeat(Count::Times(full as u32), &mut |e| step(e, lanes));
        if rest > 0 {
            step(e, rest);
        }
        e.free_v(v);
    }

    /// Transforms all channels of one tile to `to` and the same place of each position.
    fn tile_input(&self, e: &mut dyn Emitter, constants: &[V], source: Source, to: R) {
        let (n, lanes) = (self.spec.tile.inputs(), e.lanes(Element::F32));
        let mut rows = vec![copy(e, source.base)];
        for _ in 1..n {
            let next = copy(e, rows[rows.len() - 1]);
            e.add(next, next, source.row);
            rows.push(next);
        }
        let (between, to) = (self.scratch_at(e, self.scratch.vectors), copy(e, to));
        let (full, rest) = (self.spec.channels / lanes, self.spec.channels % lanes);
        e.repeat(Count::Times(full as u32), &mut |e| {
            self.vector_input(e, constants, (&rows, between, to), lanes);
            rows.iter().for_each(|r| e.add_imm(*r, *r, (self.spec.element.size() * lanes) as i64));
            e.add_imm(to, to, (SINGLE * lanes) as i64);
        });
        if rest > 0 {
            self.vector_input(e, constants, (&rows, between, to), rest);
        }
        rows.into_iter().chain([between, to]).for_each(|r| e.free_r(r));
    }

    /// Transforms one vector of `lanes` channels of a tile.
    fn vector_input(&self, e: &mut dyn Emitter, constants: &[V], (rows, between, to): (&[R], R, R), lanes: usize) {
        let tile = self.spec.tile;
        let (n, pixel, all) = (tile.inputs(), self.pixel(), e.lanes(Element::F32));
        let position = SINGLE * self.scratch.tiles * self.spec.row();
        let d: Vec<V> = (0..n).map(|_| e.v()).collect();
        for column in 0..n {
            for (v, row) in d.iter().zip(rows) {
                e.load_f32(*v, row.at(column as i64 * pixel), self.spec.element, lanes);
            }
            transform::input(e, tile, constants, &d, &mut |e, row, v| {
                e.store(v, between.at(LINE * (row * n + column)), all);
            });
        }
        for row in 0..n {
            for (column, v) in d.iter().enumerate() {
                e.load(*v, between.at(LINE * (row * n + column)), all);
            }
            transform::input(e, tile, constants, &d, &mut |e, column, v| {
                e.store(v, to.at((row * n + column) * position), lanes);
            });
        }
        d.into_iter().for_each(|v| e.free_v(v));
    }
}
