//! The second stage: at every position, tiles by channels times channels by filters, for one strip of output channels.
//!
//! A register tile is a group of tiles by some vectors of the strip; its sums start from zero and take the channels ascending. The weights
//! of a position are read from memory by the block's first group and found in a cache by the others.

use super::PANEL;
use super::emit::{Block, Writer};
use super::output::{Lanes, Strip};
use crate::codegen::elements::SINGLE;
use crate::codegen::{Count, Emitter, R, V};
use crate::kernels::sliding::copy;

/// A register tile: its tiles and the vectors of the strip.
struct Part<'a> {
    tiles: usize,
    vectors: &'a [Lanes],
    widths: &'a [usize],
}

impl Writer<'_> {
    /// Computes `W` for the tiles of a block and the strip whose weights are at `weights`.
    pub fn products(&self, e: &mut dyn Emitter, block: Block, weights: R, strip: &Strip) {
        let (channels, positions) = (self.spec.channels, self.spec.tile.positions());
        let widths: Vec<usize> =
            (0..strip.filters.div_ceil(PANEL)).map(|panel| Self::panel_width(strip.filters, panel)).collect();
        let panels: Vec<R> = (0..widths.len())
            .map(|panel| {
                let at = copy(e, weights);
                e.add_imm(at, at, (SINGLE * panel * PANEL * positions * channels) as i64);
                at
            })
            .collect();
        let (from, to) = (self.scratch_at(e, 0), self.scratch_at(e, self.scratch.products));
        let [larger, others] = self.group_counts(e, block);
        e.repeat(Count::Times(positions as u32), &mut |e| {
            let (x, y) = (copy(e, from), copy(e, to));
            let kinds = [(self.groups.larger > 0, larger, self.groups.size + 1), (true, others, self.groups.size)];
            for (_, count, tiles) in kinds.into_iter().filter(|(some, ..)| *some) {
                e.repeat(Count::Register(count), &mut |e| {
                    for vectors in strip.vectors.chunks(self.schedule.vectors) {
                        self.part(e, &Part { tiles, vectors, widths: &widths }, &panels, [x, y]);
                    }
                    e.add_imm(x, x, (SINGLE * tiles * self.spec.row()) as i64);
                    e.add_imm(y, y, (SINGLE * tiles * positions * self.scratch.strip) as i64);
                });
            }
            e.free_r(x);
            e.free_r(y);
            e.add_imm(from, from, (SINGLE * self.scratch.tiles * self.spec.row()) as i64);
            e.add_imm(to, to, (SINGLE * self.scratch.strip) as i64);
            for (panel, width) in panels.iter().zip(&widths) {
                e.add_imm(*panel, *panel, (SINGLE * width * channels) as i64);
            }
        });
        panels.into_iter().chain([from, to, larger, others]).for_each(|r| e.free_r(r));
    }

    /// How many groups of a block have a tile more, and how many have not.
    fn group_counts(&self, e: &mut dyn Emitter, block: Block) -> [R; 2] {
        let (larger, others, bound) = (e.r(), e.r(), e.r());
        e.set(bound, self.groups.larger as i64);
        e.min(larger, block.end, bound);
        e.sub(larger, larger, block.group);
        e.max(others, block.group, bound);
        e.sub(others, block.end, others);
        e.free_r(bound);
        [larger, others]
    }

    /// One register tile at one position.
    fn part(&self, e: &mut dyn Emitter, part: &Part<'_>, panels: &[R], [x, y]: [R; 2]) {
        let sums: Vec<Vec<V>> =
            (0..part.tiles).map(|_| part.vectors.iter().map(|_| e.v()).collect::<Vec<V>>()).collect();
        sums.iter().flatten().for_each(|sum| e.zero(*sum));
        let unroll = self.schedule.unroll;
        let (x, weights) = (copy(e, x), panels.iter().map(|panel| copy(e, *panel)).collect::<Vec<R>>());
        e.repeat(Count::Times((self.spec.channels / unroll) as u32), &mut |e| {
            self.channels(e, part, &sums, unroll, (x, &weights));
            e.add_imm(x, x, (SINGLE * unroll) as i64);
            for (panel, width) in weights.iter().zip(part.widths) {
                e.add_imm(*panel, *panel, (SINGLE * unroll * width) as i64);
            }
        });
        self.channels(e, part, &sums, self.spec.channels % unroll, (x, &weights));
        weights.into_iter().chain([x]).for_each(|r| e.free_r(r));
        let tile = self.spec.tile.positions() * self.scratch.strip;
        for (i, sums) in sums.into_iter().enumerate() {
            for (sum, lanes) in sums.into_iter().zip(part.vectors) {
                e.store(sum, y.at(SINGLE * (i * tile + lanes.first)), lanes.stored);
                e.free_v(sum);
            }
        }
    }

    /// Adds `count` channels, each weight vector times each tile's broadcast element.
    fn channels(&self, e: &mut dyn Emitter, part: &Part<'_>, sums: &[Vec<V>], count: usize, (x, panels): (R, &[R])) {
        let weights: Vec<V> = part.vectors.iter().map(|_| e.v()).collect();
        let element = e.v();
        for k in 0..count {
            for (v, lanes) in weights.iter().zip(part.vectors) {
                let (panel, column) = (lanes.first / PANEL, lanes.first % PANEL);
                e.load(*v, panels[panel].at(SINGLE * (k * part.widths[panel] + column)), lanes.stored);
            }
            for (i, sums) in sums.iter().enumerate() {
                e.broadcast(element, x.at(SINGLE * (i * self.spec.row() + k)));
                // The last use of the element may overwrite it.
                let last = weights.len() - 1;
                for (sum, v) in sums[..last].iter().zip(&weights) {
                    e.fma(*sum, *v, element);
                }
                e.fma(sums[last], element, weights[last]);
            }
        }
        weights.into_iter().chain([element]).for_each(|v| e.free_v(v));
    }
}
