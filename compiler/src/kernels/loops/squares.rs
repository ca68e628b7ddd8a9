//! Copies that change which axis lies in memory one element after the other: squares of elements, transposed in registers.
//!
//! In: a nest of [`super::nest::LoopNest::transposed`] form, whose input is dense along the second innermost output axis, the rows, and
//! whose output is dense along the innermost one, the columns. A square is read along the rows and written along the columns; at the
//! ends of both axes squares are cut, and only elements that exist are read and written.

use super::emit::{INPUTS, Nest, State, Times, repeat};
use super::point::loaded;
use crate::codegen::{Element, Emitter, V};
use crate::kernels::square::transpose;

impl Nest<'_> {
    /// The loops over squares; `times` bounds the axis of the rows.
    pub(super) fn squares(&self, e: &mut dyn Emitter, state: &State, times: Times) {
        let (axis, side) = (self.nest.outputs() - 2, e.lanes(Element::F32));
        match times {
            Times::Constant(rows) => {
                self.strips(e, state, Times::Constant(rows / side), side);
                if !rows.is_multiple_of(side) {
                    self.strip(e, state, rows % side);
                }
                self.advance(e, state, axis, -((rows / side * side) as i64));
            }
            // Chunks are whole squares but for the last.
            Times::Register(rows) => {
                let (whole, rest, zero) = (e.r(), e.r(), e.integer(0));
                e.div_imm(whole, rows, side as u32);
                e.mul_imm(rest, whole, side as i64);
                e.sub(rest, rows, rest);
                self.strips(e, state, Times::Register(whole), side);
                let cut = self.nest.extents[axis] % side;
                if cut > 0 {
                    e.if_less(zero, rest, &mut |e| self.strip(e, state, cut));
                }
            }
        }
    }

    /// Whole strips of `side` rows.
    fn strips(&self, e: &mut dyn Emitter, state: &State, times: Times, side: usize) {
        repeat(e, times, &mut |e| {
            self.strip(e, state, side);
            self.advance(e, state, self.nest.outputs() - 2, side as i64);
        });
    }

    /// One strip: all squares along the columns.
    fn strip(&self, e: &mut dyn Emitter, state: &State, rows: usize) {
        let (axis, side) = (self.nest.outputs() - 1, e.lanes(Element::F32));
        let columns = self.nest.extents[axis];
        repeat(e, Times::Constant(columns / side), &mut |e| {
            self.square(e, state, rows, side);
            self.advance(e, state, axis, side as i64);
        });
        if !columns.is_multiple_of(side) {
            self.square(e, state, rows, columns % side);
        }
        self.advance(e, state, axis, -((columns / side * side) as i64));
    }

    fn square(&self, e: &mut dyn Emitter, state: &State, rows: usize, columns: usize) {
        let axis = self.nest.outputs() - 1;
        let (from, to) = (state.at[INPUTS], state.output());
        let (across, down) = (self.steps[INPUTS][axis], self.steps[0][axis - 1]);
        let mut lines: Vec<V> =
            (0..columns).map(|column| loaded(e, |e, v| e.load(v, from.at(column as i64 * across), rows))).collect();
        // What stands after the last column is never stored.
        lines.resize(e.lanes(Element::F32), lines[0]);
        let lines = transpose(e, lines);
        for (row, line) in lines.into_iter().take(rows).enumerate() {
            e.store(line, to.at(row as i64 * down), columns);
        }
    }
}
