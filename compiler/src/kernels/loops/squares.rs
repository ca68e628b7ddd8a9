//! Copies that change which axis lies in memory one element after the other: squares of elements, transposed in registers.
//!
//! In: a nest of [`super::nest::LoopNest::transposed`] form, whose input is dense along the second innermost output axis, the rows, and
//! whose output is dense along the innermost one, the columns. A square is read along the rows and written along the columns; at the
//! ends of both axes squares are cut, and only elements that exist are read and written.

use super::emit::{INPUTS, Nest, State, Times, repeat};
use super::point::loaded;
use crate::codegen::{Element, Emitter, V, VOp};

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

/// The transposed square of as many vectors as they have 32-bit lanes.
fn transpose(e: &mut dyn Emitter, lines: Vec<V>) -> Vec<V> {
    let side = lines.len();
    // In groups of four lines every block of four lanes is transposed: vector `k` of a group holds lane `4 j + k` of its lines in
    // block `j`.
    let groups: Vec<[V; 4]> = lines
        .chunks_exact(4)
        .map(|group| {
            let unpack = |e: &mut dyn Emitter, op, element, a: V, b: V| loaded(e, |e, v| e.op(op, element, v, a, b));
            let [low, high] = [VOp::UnpackLow, VOp::UnpackHigh];
            let pairs = [(low, 0), (high, 0), (low, 2), (high, 2)]
                .map(|(op, at)| unpack(e, op, Element::F32, group[at], group[at + 1]));
            [(low, 0), (high, 0), (low, 1), (high, 1)]
                .map(|(op, at)| unpack(e, op, Element::F64, pairs[at], pairs[at + 2]))
        })
        .collect();
    let mut columns = vec![lines[0]; side];
    for k in 0..4 {
        let blocks = transpose_blocks(e, groups.iter().map(|group| group[k]).collect());
        for (j, block) in blocks.into_iter().enumerate() {
            columns[4 * j + k] = block;
        }
    }
    columns
}

/// The transposed square of as many vectors as they have 128-bit blocks.
fn transpose_blocks(e: &mut dyn Emitter, lines: Vec<V>) -> Vec<V> {
    if lines.len() == 1 {
        return lines;
    }
    // Lines in pairs: the even blocks of both, and the odd ones, which are the transposed squares of half as many blocks.
    let mut halves = [Vec::new(), Vec::new()];
    for pair in lines.chunks_exact(2) {
        for (half, op) in halves.iter_mut().zip([VOp::EvenBlocks, VOp::OddBlocks]) {
            half.push(loaded(e, |e, v| e.op(op, Element::F32, v, pair[0], pair[1])));
        }
    }
    let [even, odd] = halves.map(|half| if half.len() > 1 { join(e, &half) } else { half });
    even.into_iter().zip(odd).flat_map(|(a, b)| [a, b]).collect()
}

/// The even blocks of two vectors, then their odd ones.
fn join(e: &mut dyn Emitter, half: &[V]) -> Vec<V> {
    [VOp::EvenBlocks, VOp::OddBlocks].map(|op| loaded(e, |e, v| e.op(op, Element::F32, v, half[0], half[1]))).to_vec()
}
