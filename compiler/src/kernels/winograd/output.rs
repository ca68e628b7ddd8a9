//! The third stage: products of a strip back to pixels, vectors along the output channels.
//!
//! Each vector of a tile is transformed by columns, then row by row; a finished row of pixels gets its bias, goes through the epilogue
//! and to memory. Rows below the map are not computed; columns right of it are computed and left out.

use super::emit::{Block, Writer};
use super::{PANEL, padded, transform};
use crate::codegen::elements::SINGLE;
use crate::codegen::epilogue::Output;
use crate::codegen::{Count, Element, Emitter, R, V, VOp};
use crate::kernels::sliding::copy;
use crate::kernels::{LINE, advance_single};

/// A vector of a strip.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Lanes {
    /// First output channel within the strip.
    pub first: usize,
    /// Lanes that the panel stores.
    pub stored: usize,
    /// Lanes that the output has.
    pub real: usize,
}

/// Some panels of output channels.
#[derive(Clone, Debug)]
pub struct Strip {
    /// Output channels.
    pub filters: usize,
    /// Its vectors: full ones, then at most one that is not for each panel.
    pub vectors: Vec<Lanes>,
}

impl Strip {
    pub fn new(filters: usize, width: usize) -> Self {
        let lanes = |first: usize| {
            let panel = (first / PANEL + 1) * PANEL;
            let (stored, real) = (padded(filters).min(panel) - first, filters.min(panel) - first);
            Lanes { first, stored: stored.min(width), real: real.min(width) }
        };
        Self { filters, vectors: (0..filters).step_by(width).map(lanes).collect() }
    }
}

/// Where a tile's values are and go.
#[derive(Clone, Copy)]
struct OutputPointers {
    products: R,
    bias: R,
    residual: Option<R>,
    y: R,
    /// Rows inside the map.
    rows: R,
}

impl OutputPointers {
    /// Moves on by output channels of elements of a size.
    fn advance(&self, e: &mut dyn Emitter, size: usize, filters: usize) {
        let maps = [self.y].into_iter().chain(self.residual).map(|r| (r, size));
        for (r, size) in [(self.products, SINGLE), (self.bias, SINGLE)].into_iter().chain(maps) {
            e.add_imm(r, r, (size * filters) as i64);
        }
    }

    fn free(&self, e: &mut dyn Emitter) {
        for r in [self.products, self.bias, self.y, self.rows].into_iter().chain(self.residual) {
            e.free_r(r);
        }
    }
}

impl Writer<'_> {
    /// Writes the outputs of a block's tiles for the strip that begins `channels` bytes into a pixel.
    pub fn transform_output(&self, e: &mut dyn Emitter, block: Block, channels: R, strip: &Strip) {
        let (m, [_, columns]) = (self.spec.tile.outputs(), self.spec.grid());
        let (tile, products) = (copy(e, block.tile), self.scratch_at(e, self.scratch.products));
        e.repeat(Count::Register(block.count), &mut |e| {
            let at = self.locate(e, tile);
            let place = self.place(e, [at.image, at.row, at.column], products, channels);
            let last = self.spec.output[1] - (columns - 1) * m;
            let bound = e.r();
            e.set(bound, columns as i64 - 1);
            if last == m {
                self.tile_output(e, place, strip, m);
            } else {
                if columns > 1 {
                    e.if_less(at.column, bound, &mut |e| self.tile_output(e, place, strip, m));
                }
                e.add_imm(bound, bound, -1);
                e.if_less(bound, at.column, &mut |e| self.tile_output(e, place, strip, last));
            }
            e.free_r(bound);
            at.free(e);
            place.free(e);
            e.add_imm(products, products, (SINGLE * self.spec.tile.positions() * self.scratch.strip) as i64);
            e.add_imm(tile, tile, 1);
        });
        e.free_r(tile);
        e.free_r(products);
    }

    /// The place of the tile in `[image, row, column]` of the grid.
    fn place(&self, e: &mut dyn Emitter, [image, row, column]: [R; 3], products: R, channels: R) -> OutputPointers {
        let (m, [height, width], size) = (self.spec.tile.outputs(), self.spec.output, self.spec.element.size());
        let (offset, skip) = (copy(e, channels), e.r());
        for (r, step) in [(image, height * width), (row, m * width), (column, m)] {
            e.mul_imm(skip, r, (size * step * self.spec.filters) as i64);
            e.add(offset, offset, skip);
        }
        let residual = self.spec.epilogue.residual();
        let y = e.pointer(if residual { 4 } else { 3 });
        e.add(y, y, offset);
        let residual = residual.then(|| {
            let r = e.pointer(3);
            e.add(r, r, offset);
            r
        });
        let bias = e.pointer(2);
        advance_single(e, bias, channels, size);
        e.mul_imm(offset, row, -(m as i64));
        e.add_imm(offset, offset, height as i64);
        e.set(skip, m as i64);
        e.min(offset, offset, skip);
        e.free_r(skip);
        OutputPointers { products: copy(e, products), bias, residual, y, rows: offset }
    }

    /// Writes all vectors of one tile, of which `columns` are inside the map; `place` is lost.
    fn tile_output(&self, e: &mut dyn Emitter, place: OutputPointers, strip: &Strip, columns: usize) {
        let (lanes, size) = (e.lanes(Element::F32), self.spec.element.size());
        let full = strip.vectors.iter().take_while(|v| v.real == lanes).count();
        e.repeat(Count::Times(full as u32), &mut |e| {
            self.vector_output(e, &place, Lanes { first: 0, stored: lanes, real: lanes }, columns);
            place.advance(e, size, lanes);
        });
        for vector in &strip.vectors[full..] {
            self.vector_output(e, &place, *vector, columns);
            place.advance(e, size, lanes);
        }
    }

    /// Transforms one vector of a tile and writes it.
    fn vector_output(&self, e: &mut dyn Emitter, place: &OutputPointers, lanes: Lanes, columns: usize) {
        let (tile, all) = (self.spec.tile, e.lanes(Element::F32));
        let n = tile.inputs();
        let between = self.scratch_at(e, self.scratch.vectors);
        let constants = transform::output_constants(e, tile);
        let z: Vec<V> = (0..n).map(|_| e.v()).collect();
        for column in 0..n {
            for (row, v) in z.iter().enumerate() {
                let at = place.products.at(SINGLE * (row * n + column) * self.scratch.strip);
                e.load(*v, at, lanes.stored);
            }
            for (row, v) in transform::output(e, tile, &constants, &z).into_iter().enumerate() {
                e.store(v, between.at(LINE * (row * n + column)), all);
            }
        }
        z.into_iter().chain(constants).for_each(|v| e.free_v(v));
        let (y, residual) = (copy(e, place.y), place.residual.map(|r| copy(e, r)));
        e.repeat(Count::Register(place.rows), &mut |e| {
            self.row_output(e, between, place.bias, (y, residual), (lanes, columns));
            e.add_imm(between, between, (LINE * n) as i64);
            for r in [y].into_iter().chain(residual) {
                e.add_imm(r, r, (self.spec.element.size() * self.spec.output[1] * self.spec.filters) as i64);
            }
        });
        [between, y].into_iter().chain(residual).for_each(|r| e.free_r(r));
    }

    /// Transforms one row of a vector of a tile and sends its pixels through the epilogue.
    fn row_output(
        &self,
        e: &mut dyn Emitter,
        between: R,
        bias: R,
        (y, residual): (R, Option<R>),
        (lanes, columns): (Lanes, usize),
    ) {
        let (tile, element, all) = (self.spec.tile, self.spec.element, e.lanes(Element::F32));
        let constants = transform::output_constants(e, tile);
        let z: Vec<V> = (0..tile.inputs()).map(|_| e.v()).collect();
        for (column, v) in z.iter().enumerate() {
            e.load(*v, between.at(LINE * column), all);
        }
        let pixels = transform::output(e, tile, &constants, &z);
        constants.into_iter().for_each(|v| e.free_v(v));
        let addend = e.v();
        e.load(addend, bias.at(0), lanes.stored);
        let mut outputs = Vec::new();
        for (column, value) in pixels.into_iter().take(columns).enumerate() {
            e.op(VOp::Add, Element::F32, value, value, addend);
            let offset = element.size() * column * self.spec.filters;
            let (to, residual) = (y.at(offset), residual.map(|r| r.at(offset)));
            outputs.push(Output { value, to, lanes: lanes.real, maps: [residual, None, None, None], sum: None });
        }
        e.free_v(addend);
        self.spec.epilogue.store(e, element, &outputs);
        z.into_iter().for_each(|v| e.free_v(v));
    }
}
