//! Lines whose elements lie apart in the source, in squares that are transposed in registers.
//!
//! In: a packing with an inner loop along which elements of the source are neighbours. Out: as many lines at once as a vector has lanes, the
//! same elements as one by one. What a line has beyond the source is zero.

use super::{Line, Pack, SPELLED};
use crate::codegen::elements::SINGLE;
use crate::codegen::{Count, Element, Emitter, R, REACH, V, VOp};
use crate::kernels::square::transpose;

/// Fewest lines whose elements are neighbours for which squares pay.
const FEWEST: usize = 4;

impl Pack {
    /// The inner loop along which elements of the source are neighbours, if lines are cut into squares.
    pub(super) fn across(&self) -> Option<usize> {
        let neighbours = |(count, step): &(usize, usize)| *step == 1 && *count >= FEWEST;
        let square = self.nest.line.stride != 1 && self.nest.line.width >= FEWEST && self.element.size() == SINGLE;
        let near = |across: &usize| self.turn(*across).saturating_mul(SPELLED) <= REACH;
        self.nest.inner.iter().position(neighbours).filter(|across| square && near(across))
    }

    /// Bytes of the packed form from one turn of an inner loop to the next.
    fn turn(&self, depth: usize) -> usize {
        let lines = self.nest.inner[depth + 1..].iter().map(|(count, _)| count).product::<usize>();
        lines * self.nest.line.width * self.element.size()
    }

    /// The lines of the inner loops from `depth` on but `across`, which squares go along.
    pub(super) fn squares(
        &self,
        e: &mut dyn Emitter,
        depth: usize,
        [from, to]: [R; 2],
        (across, live): (usize, usize),
        factor: Option<V>,
    ) {
        if depth == across {
            return self.squares(e, depth + 1, [from, to], (across, live), factor);
        }
        let copies = |e: &mut dyn Emitter| {
            [from, to].map(|r| {
                let own = e.r();
                e.copy(own, r);
                own
            })
        };
        let Some((count, step)) = self.nest.inner.get(depth).copied() else {
            let at = copies(e);
            self.strips(e, at, (across, live), factor);
            return at.into_iter().for_each(|r| e.free_r(r));
        };
        let at = copies(e);
        e.repeat(Count::Times(count as u32), &mut |e| {
            self.squares(e, depth + 1, at, (across, live), factor);
            e.add_imm(at[0], at[0], (step * SINGLE) as i64);
            e.add_imm(at[1], at[1], self.turn(depth) as i64);
        });
        at.into_iter().for_each(|r| e.free_r(r));
    }

    /// All lines along `across`, as many elements of them at once as a vector has lanes; moves the pointers.
    fn strips(&self, e: &mut dyn Emitter, [from, to]: [R; 2], (across, live): (usize, usize), factor: Option<V>) {
        let (Line { width, stride, .. }, side) = (self.nest.line, e.lanes(Element::F32));
        e.repeat(Count::Times((live / side) as u32), &mut |e| {
            self.strip(e, [from, to], (across, side, side), factor);
            e.add_imm(from, from, (side * stride * SINGLE) as i64);
            e.add_imm(to, to, (side * SINGLE) as i64);
        });
        for first in (live / side * side..width).step_by(side) {
            self.strip(e, [from, to], (across, live.saturating_sub(first), side.min(width - first)), factor);
            e.add_imm(to, to, (side * SINGLE) as i64);
        }
    }

    /// `stored` elements of every line along `across`, of which the source has `rows`.
    fn strip(
        &self,
        e: &mut dyn Emitter,
        [from, to]: [R; 2],
        (across, rows, stored): (usize, usize, usize),
        factor: Option<V>,
    ) {
        let (count, turn, side) = (self.nest.inner[across].0, self.turn(across), e.lanes(Element::F32));
        let [at, line] = [e.r(), e.r()];
        e.copy(at, from);
        e.copy(line, to);
        let square = |e: &mut dyn Emitter, columns: usize| {
            let zero = e.v();
            e.zero(zero);
            let load = |e: &mut dyn Emitter, row: usize| {
                let v = e.v();
                e.load(v, at.at(row * self.nest.line.stride * SINGLE), columns);
                if let Some(factor) = factor {
                    e.op(VOp::Mul, Element::F32, v, v, factor);
                }
                v
            };
            let mut lines: Vec<V> = (0..rows).map(|row| load(e, row)).collect();
            lines.resize(side, zero);
            let lines = if rows > 0 { transpose(e, lines) } else { lines };
            for (column, v) in lines.into_iter().take(columns).enumerate() {
                e.store(v, line.at(column * turn), stored);
            }
        };
        e.repeat(Count::Times((count / side) as u32), &mut |e| {
            square(e, side);
            e.add_imm(at, at, (side * SINGLE) as i64);
            e.add_imm(line, line, (side * turn) as i64);
        });
        if !count.is_multiple_of(side) {
            square(e, count % side);
        }
        [at, line].into_iter().for_each(|r| e.free_r(r));
    }
}
