//! Sums along the vectors: a reduction whose innermost axis lies in memory one element after the other.
//!
//! Element `i` of that axis goes to virtual lane `i % 16` of as many registers as 16 lanes take; the lanes are brought together by the
//! tree `i, i + 8`, then 4, 2 and 1 lanes apart, and the result with the start of the output element. So every machine computes the same
//! bits. Several output elements are computed side by side, to hide the latency of a sum.

use super::emit::{INPUTS, Nest, State, Width};
use super::nest::{Combine, LANES};
use super::point::{evaluate, function, load, loaded, take_up};
use super::values::{self, PointValue};
use crate::codegen::elements::widens;
use crate::codegen::{Element, Emitter, V, VOp};

/// Most output elements side by side.
const MOST: usize = 4;

impl Nest<'_> {
    /// Output elements side by side: as many sums as leave half of the registers to their terms.
    pub(super) fn rows(&self, e: &dyn Emitter) -> usize {
        if !self.unrolls() {
            return 1;
        }
        (e.budget() * e.lanes(Element::F32) / (2 * LANES)).clamp(1, MOST)
    }

    /// Sums up `width` output elements from where the reduced axes begin, onto `starts`.
    pub(super) fn sum_rows(&self, e: &mut dyn Emitter, state: &State, width: Width, starts: &PointValue) {
        let vectors = LANES / e.lanes(Element::F32);
        let neutral = self.neutral();
        let sums = PointValue::Float((0..width.vectors * vectors).map(|_| e.constant(neutral)).collect());
        self.sum_axes(e, self.nest.outputs(), state, width.vectors, &sums);
        let totals = (0..width.vectors).map(|row| {
            let parts: Vec<V> = (0..vectors).map(|k| sums.vector(row * vectors + k)).collect();
            self.together(e, parts)
        });
        let totals = PointValue::Float(totals.collect());
        let value = values::binary(e, function(self.nest.combine), starts, &totals, true);
        starts.assign(e, &value);
    }

    /// What leaves a sum as it is.
    fn neutral(&self) -> f32 {
        match self.nest.combine {
            Combine::Max => f32::NEG_INFINITY,
            Combine::Min => f32::INFINITY,
            Combine::Prod => 1.0,
            _ => 0.0,
        }
    }

    /// The loops over reduced axes from `axis` on; the last one in vectors.
    fn sum_axes(&self, e: &mut dyn Emitter, axis: usize, state: &State, rows: usize, sums: &PointValue) {
        if axis + 1 == self.nest.extents.len() {
            return self.sum_line(e, state, rows, sums);
        }
        let (between, innermost) =
            (&self.nest.extents[axis + 1..self.nest.extents.len() - 1], self.nest.extents.last());
        let blocks = innermost.map_or(0, |extent| extent.div_ceil(LANES));
        let terms = between.iter().fold(blocks, |product, n| product.saturating_mul(*n));
        let sums = std::slice::from_ref(sums);
        self.walk_reduced(e, (axis, terms), state, sums, &mut |e, mut state, sums| {
            let sums = &sums[0];
            self.resolve(e, &mut state, Some(axis));
            let within = State { inside: None, ..state.clone() };
            match state.inside {
                Some(inside) => {
                    let zero = e.integer(0);
                    e.if_less(zero, inside, &mut |e| self.sum_axes(e, axis + 1, &within, rows, sums));
                }
                None => self.sum_axes(e, axis + 1, &within, rows, sums),
            }
        });
    }

    /// Takes up the elements of the innermost axis.
    fn sum_line(&self, e: &mut dyn Emitter, state: &State, rows: usize, sums: &PointValue) {
        let axis = self.nest.extents.len() - 1;
        let (whole, rest) = (self.nest.extents[axis] / LANES, self.nest.extents[axis] % LANES);
        let moving: Vec<usize> = (0..self.steps.len()).filter(|cursor| self.steps[*cursor][axis] != 0).collect();
        let advance = |e: &mut dyn Emitter, by: i64| {
            for cursor in &moving {
                e.add_imm(state.at[*cursor], state.at[*cursor], by * self.steps[*cursor][axis]);
            }
        };
        self.repeat_sum(e, (whole, 1), std::slice::from_ref(sums), &mut |e, sums| {
            self.sum_block(e, state, rows, LANES, &sums[0]);
            advance(e, LANES as i64);
        });
        if rest > 0 {
            self.sum_block(e, state, rows, rest, sums);
        }
        advance(e, -((whole * LANES) as i64));
    }

    /// Takes up the first `exist` virtual lanes of each row.
    fn sum_block(&self, e: &mut dyn Emitter, state: &State, rows: usize, exist: usize, sums: &PointValue) {
        let lanes = e.lanes(Element::F32);
        let (vectors, all) = (exist.div_ceil(lanes), LANES / lanes);
        // Only the last vector may be partial.
        let lanes_of = |vector: usize| lanes.min(exist - vector % vectors * lanes);
        let mut terms = evaluate(e, &self.nest.body, &[], true, &mut |e, input| {
            self.load_rows(e, input, state, [rows, vectors], &lanes_of)
        });
        let Some(term) = terms.pop() else { return };
        let factor = terms.pop();
        let PointValue::Float(registers) = sums else { return };
        let registers = (0..rows * vectors).map(|i| registers[i / vectors * all + i % vectors]);
        let registers = PointValue::Float(registers.collect());
        if exist.is_multiple_of(lanes) {
            return take_up(e, self.nest.combine, &registers, term, factor, true);
        }
        let neutral = self.neutral();
        let mut cut = |x: &PointValue| {
            let kept = (0..rows * vectors).map(|i| match lanes_of(i) {
                all if all == lanes => x.vector(i),
                some => kept(e, x.vector(i), some, neutral),
            });
            PointValue::Float(kept.collect())
        };
        let term = cut(&term);
        let factor = factor.filter(|_| self.nest.combine == Combine::SumProduct).map(|factor| cut(&factor));
        take_up(e, self.nest.combine, &registers, term, factor, true);
    }

    /// Elements of an input: vectors of each row.
    fn load_rows(
        &self,
        e: &mut dyn Emitter,
        input: usize,
        state: &State,
        [rows, vectors]: [usize; 2],
        lanes_of: &dyn Fn(usize) -> usize,
    ) -> PointValue {
        let (cursor, dtype, lanes) = (INPUTS + input, self.nest.inputs[input].dtype, e.lanes(Element::F32));
        let (along, across) = (self.steps[cursor][self.nest.extents.len() - 1], self.unit(cursor));
        let from = state.at[cursor];
        let mut registers = Vec::with_capacity(rows * vectors);
        for row in 0..rows {
            for vector in 0..vectors {
                let at = from.at(row as i64 * across + (vector * lanes) as i64 * along);
                let same = match (along, across) {
                    (0, 0) => registers.first(),
                    (0, _) if vector > 0 => registers.last(),
                    (_, 0) if row > 0 => registers.get(vector),
                    _ => None,
                };
                let register = match (same.copied(), along) {
                    (Some(register), _) => register,
                    (None, 0) => self.broadcast(e, dtype, at),
                    (None, _) => loaded(e, |e, v| load(e, v, at, dtype, lanes_of(vector))),
                };
                registers.push(register);
            }
        }
        if widens(dtype) { PointValue::Float(registers) } else { PointValue::Lanes(registers) }
    }

    /// Brings the virtual lanes of a row together; the result is in the first lane.
    fn together(&self, e: &mut dyn Emitter, mut parts: Vec<V>) -> V {
        let function = function(self.nest.combine);
        while parts.len() > 1 {
            let upper = parts.split_off(parts.len() / 2);
            parts = parts.into_iter().zip(upper).map(|(a, b)| values::binary_float(e, function, a, b)).collect();
        }
        let (mut total, mut width) = (parts[0], e.lanes(Element::F32));
        while width > 1 {
            width /= 2;
            let upper = loaded(e, |e, v| e.upper(v, total, width));
            total = values::binary_float(e, function, total, upper);
        }
        total
    }
}

/// The first lanes of a vector, `neutral` in the others.
fn kept(e: &mut dyn Emitter, v: V, lanes: usize, neutral: f32) -> V {
    let kept = loaded(e, |e, d| e.keep(d, v, lanes));
    if neutral == 0.0 {
        return kept;
    }
    let rest = e.constant(neutral);
    let first = loaded(e, |e, d| e.keep(d, rest, lanes));
    e.op(VOp::Xor, Element::F32, first, first, rest);
    e.op(VOp::Or, Element::F32, kept, kept, first);
    kept
}
