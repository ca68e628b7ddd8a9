//! Softmax and its logarithm over rows: `y = exp(x - m) / s` or `(x - m) - ln s`, where `m` is the row's maximum and `s` the sum of
//! all `exp(x - m)`.
//!
//! In: `x [rows, length]`. Out: `y`, which may be the memory of `x`.
//!
//! Maximum and sum run over 16 virtual lanes, element `i` in lane `i % 16`, and are brought together by the tree `i, i + 8`,
//! then 4, 2 and 1 lanes apart. The last elements of a row go through scratch memory, filled up with -inf, whose exponential is 0. A row
//! with a NaN or an infinite maximum gives NaN throughout, since its sum is one. Results are rounded to the type of the elements once.

use super::sliding::copy;
use super::{Argument, Family, KernelName, LayerKind, Parts, sums, work_units};
use crate::codegen::elements::SINGLE;
use crate::codegen::{Count, Element, Emitter, R, V, VOp, math};
use crate::target::{Machine, Target};
use fornax_ir::scalar::UnaryFn;
use fornax_ir::types::DType;

/// What a softmax computes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Softmax {
    /// Type of the elements.
    pub element: DType,
    /// Rows.
    pub rows: usize,
    /// Elements of a row.
    pub length: usize,
    /// Whether the logarithm is computed.
    pub log: bool,
}

/// How: rows of one work unit.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Schedule {
    /// Rows per work unit.
    pub rows: usize,
}

/// Virtual lanes of a sum.
const LANES: usize = 16;
/// Bytes that one work unit should cover.
const WORK: usize = Machine::NOMINAL.bytes_in(2_048);
/// Vectors that pass through the exponential together.
const GROUP: usize = 2;

schedule_text!(Schedule, "Schedule" { "rows": rows });

impl Family for Softmax {
    type Schedule = Schedule;

    const WORDS: &'static [&'static str] = &["log_softmax", "softmax"];

    fn kind(_name: &KernelName) -> LayerKind {
        LayerKind::Softmax
    }

    fn kernel_name(&self) -> KernelName {
        KernelName::new(self.element, if self.log { "log_softmax" } else { "softmax" })
            .shape(&[('m', &[self.rows]), ('n', &[self.length])])
    }

    fn read(name: &Parts<'_>) -> Option<Self> {
        let log = name.family() == Self::WORDS[0];
        Some(Self { element: name.element()?, rows: name.one(0, 'm')?, length: name.one(0, 'n')?, log })
    }

    fn arguments(&self) -> Vec<Argument> {
        let (element, count) = (self.element, self.rows * self.length);
        vec![Argument::read("x", element, count), Argument::write("y", element, count).in_place_of(0)]
    }

    fn schedule(&self, _target: &Target) -> Schedule {
        Schedule { rows: (WORK / self.element.size() / self.length.max(1)).clamp(1, self.rows.max(1)) }
    }

    fn chunks(&self, schedule: &Schedule) -> u32 {
        if self.length == 0 { 0 } else { work_units(self.rows.div_ceil(schedule.rows)) }
    }

    /// Lanes of a reduction, and the end of a row.
    fn scratch(&self, _schedule: &Schedule) -> usize {
        2 * LANES * SINGLE
    }

    /// A comparison, a subtraction, an exponential of about 20 operations and a division for each element.
    fn flops(&self) -> u64 {
        23 * (self.rows * self.length) as u64
    }

    fn emit(&self, schedule: &Schedule, e: &mut dyn Emitter) {
        let (x, y, scratch) = (e.pointer(0), e.pointer(1), e.r());
        e.scratch(scratch);
        let (first, last, limit) = (e.r(), e.r(), e.r());
        e.begin(first);
        e.mul_imm(first, first, schedule.rows as i64);
        e.end(last);
        e.mul_imm(last, last, schedule.rows as i64);
        e.set(limit, self.rows as i64);
        e.min(last, last, limit);
        e.sub(last, last, first);
        let row_bytes = (self.length * self.element.size()) as i64;
        e.mul_imm(first, first, row_bytes);
        e.add(x, x, first);
        e.add(y, y, first);
        e.repeat(Count::Register(last), &mut |e| {
            self.row(e, x, y, scratch);
            e.add_imm(x, x, row_bytes);
            e.add_imm(y, y, row_bytes);
        });
    }
}

/// Where a block is read: the address, and the type of the elements there.
type Source = (R, DType);

/// Writes one block of up to 16 elements: from, to, how many exist at `to`, and the sums that it adds to.
type Block<'a> = &'a mut dyn FnMut(&mut dyn Emitter, Source, R, usize, &[V]);

impl Softmax {
    /// Whether the exponentials wait in `y` for their sum: where that rounds them they are computed again.
    fn keeps(&self) -> bool {
        !self.log && self.element == DType::F32
    }

    fn row(&self, e: &mut dyn Emitter, x: R, y: R, scratch: R) {
        self.end_to_scratch(e, x, scratch);
        let lanes = e.lanes(Element::F32);
        let vectors = LANES / lanes;
        let tops: Vec<V> = (0..vectors).map(|_| e.constant(f32::NEG_INFINITY)).collect();
        self.blocks(e, [x, y], Some(scratch), &[], &mut |e, (from, element), _, _, _| {
            let v = e.v();
            for (i, top) in tops.iter().enumerate() {
                e.load_f32(v, from.at(i * lanes * element.size()), element, lanes);
                e.op(VOp::Max, Element::F32, *top, v, *top);
            }
            e.free_v(v);
        });
        let largest = combine(e, VOp::Max, tops, scratch);
        let sums: Vec<V> = (0..vectors).map(|_| e.constant(0.0)).collect();
        self.blocks(e, [x, y], Some(scratch), &sums, &mut |e, from, to, exist, sums| {
            self.exponentials(e, (from, to), exist, sums, largest);
        });
        let sum = combine(e, VOp::Add, sums, scratch);
        if self.log {
            math::unary(e, UnaryFn::Log, &[sum]);
        }
        self.blocks(e, [if self.keeps() { y } else { x }, y], None, &[], &mut |e, (from, element), to, exist, _| {
            let v = e.v();
            for at in (0..exist).step_by(lanes) {
                let (n, offset) = (lanes.min(exist - at), at * element.size());
                e.load_f32(v, from.at(offset), element, n);
                if !self.keeps() {
                    e.op(VOp::Sub, Element::F32, v, v, largest);
                }
                if self.log {
                    e.op(VOp::Sub, Element::F32, v, v, sum);
                } else {
                    if !self.keeps() {
                        math::unary(e, UnaryFn::Exp, &[v]);
                    }
                    e.op(VOp::Div, Element::F32, v, v, sum);
                }
                e.store_f32(v, to.at(offset), element, n);
            }
            e.free_v(v);
        });
        [largest, sum].into_iter().for_each(|v| e.free_v(v));
    }

    /// Adds the exponentials of one block to `sums`, and stores them if [`Self::keeps`] says so.
    fn exponentials(&self, e: &mut dyn Emitter, (from, to): (Source, R), exist: usize, sums: &[V], largest: V) {
        let (from, element) = from;
        let lanes = e.lanes(Element::F32);
        for (group, sums) in sums.chunks(GROUP).enumerate() {
            let first = group * GROUP * lanes;
            let values: Vec<V> = sums.iter().map(|_| e.v()).collect();
            for (i, v) in values.iter().enumerate() {
                e.load_f32(*v, from.at((first + i * lanes) * element.size()), element, lanes);
                e.op(VOp::Sub, Element::F32, *v, *v, largest);
            }
            math::unary(e, UnaryFn::Exp, &values);
            for ((i, v), sum) in values.iter().enumerate().zip(sums) {
                let at = first + i * lanes;
                if self.keeps() && at < exist {
                    e.store(*v, to.at(at * SINGLE), lanes.min(exist - at));
                }
                e.op(VOp::Add, Element::F32, *sum, *sum, *v);
            }
            values.into_iter().for_each(|v| e.free_v(v));
        }
    }

    /// Runs `body` over the blocks of a row; `end`, if given, holds the elements of the last block in place of `from`.
    fn blocks(&self, e: &mut dyn Emitter, [from, to]: [R; 2], end: Option<R>, sums: &[V], body: Block<'_>) {
        let (from, to, element) = (copy(e, from), copy(e, to), self.element);
        sums::sum(e, self.length / LANES, 1, sums, &mut |e, sums| {
            body(e, (from, element), to, LANES, sums);
            e.add_imm(from, from, (LANES * element.size()) as i64);
            e.add_imm(to, to, (LANES * element.size()) as i64);
        });
        if !self.length.is_multiple_of(LANES) {
            body(e, end.map_or((from, element), |end| (end, DType::F32)), to, self.length % LANES, sums);
        }
        [from, to].into_iter().for_each(|r| e.free_r(r));
    }

    /// Copies the last, partial block of a row to scratch memory, -inf after it.
    fn end_to_scratch(&self, e: &mut dyn Emitter, x: R, scratch: R) {
        let (lanes, exist) = (e.lanes(Element::F32), self.length % LANES);
        if exist == 0 {
            return;
        }
        let (v, from) = (e.constant(f32::NEG_INFINITY), copy(e, x));
        e.add_imm(from, from, ((self.length - exist) * self.element.size()) as i64);
        for at in (0..LANES).step_by(lanes) {
            e.store(v, scratch.at(at * SINGLE), lanes);
        }
        for at in (0..exist).step_by(lanes) {
            let n = lanes.min(exist - at);
            e.load_f32(v, from.at(at * self.element.size()), self.element, n);
            e.store(v, scratch.at(at * SINGLE), n);
        }
        e.free_v(v);
        e.free_r(from);
    }
}

/// Brings 16 virtual lanes together; the result is in every lane.
fn combine(e: &mut dyn Emitter, op: VOp, parts: Vec<V>, scratch: R) -> V {
    let lanes = e.lanes(Element::F32);
    let at = |lane: usize| scratch.at((LANES + lane) * SINGLE);
    for (i, part) in parts.into_iter().enumerate() {
        e.store(part, at(i * lanes), lanes);
        e.free_v(part);
    }
    let (a, b) = (e.v(), e.v());
    for width in [8, 4, 2, 1] {
        for lane in (0..width).step_by(lanes) {
            let n = lanes.min(width - lane);
            e.load(a, at(lane), n);
            e.load(b, at(lane + width), n);
            e.op(op, Element::F32, a, a, b);
            e.store(a, at(lane), n);
        }
    }
    e.broadcast(a, at(0));
    e.free_v(b);
    a
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    const SHAPES: [(usize, usize); 8] = [(1, 1), (1, 1000), (3, 3), (5, 16), (2, 17), (300, 10), (1, 63), (1, 5000)];

    fn specs() -> impl Iterator<Item = Softmax> {
        SHAPES
            .into_iter()
            .flat_map(|(rows, length)| [false, true].map(|log| Softmax { element: DType::F32, rows, length, log }))
    }

    /// Values in `[-20, 20)`.
    fn operand(s: &Softmax) -> Vec<f32> {
        testing::values(1, s.rows * s.length).into_iter().map(|v| v * 20.0).collect()
    }

    #[test]
    fn agrees_with_the_definition() {
        testing::report(specs().map(|s| {
            let x = operand(&s);
            let (mut expected, mut bounds) = (Vec::new(), Vec::new());
            for row in x.chunks(s.length) {
                let largest = row.iter().fold(f32::NEG_INFINITY, |a, v| a.max(*v));
                let shifted = row.iter().map(|v| f64::from(*v) - f64::from(largest));
                let sum: f64 = shifted.clone().map(f64::exp).sum();
                // The shift is rounded, and so are the exponential, its sum and the quotient.
                let terms = (s.length.div_ceil(LANES) + 8) as f64;
                for shift in shifted {
                    let value = if s.log { shift - sum.ln() } else { shift.exp() / sum };
                    let size = if s.log { shift.abs() + sum.ln() + 1.0 } else { value * (shift.abs() + 1.0) };
                    expected.push(value);
                    bounds.push(terms * 2f64.powi(-24) * size);
                }
            }
            testing::mismatch(&s.name(), &testing::run(s.clone(), &[&x])[0], &expected, |i| bounds[i])
        }));
    }

    #[test]
    fn long_sums_stay_within_their_bound() {
        let s = Softmax { element: DType::F32, rows: 1, length: (1 << 22) + 3, log: false };
        let mut x = vec![-0.1; s.length];
        x[0] = 0.0;
        let sum = 1.0 + (s.length - 1) as f64 * (-0.1f64).exp();
        let expected: Vec<f64> = x.iter().map(|x| f64::from(*x).exp() / sum).collect();
        let found = testing::run(s.clone(), &[&x]).swap_remove(0);
        assert_eq!(testing::mismatch(&s.name(), &found, &expected, |i| 1e-4 * expected[i]), None);
    }

    #[test]
    fn narrow_elements() {
        testing::report(
            specs().map(|s| testing::narrow(|element| (Softmax { element, ..s.clone() }, vec![operand(&s)]))),
        );
    }

    #[test]
    fn no_schedule_changes_a_bit() {
        testing::report(specs().map(|s| {
            let x = operand(&s);
            let own = testing::run(s.clone(), &[&x]);
            let differs = |(rows, lanes)| testing::interpret(&s, &Schedule { rows }, &[&x], lanes) != own;
            [(1, 4), (2, 8), (7, 16)]
                .into_iter()
                .find(|case| differs(*case))
                .map(|case| format!("{}: {case:?}", s.name()))
        }));
    }

    #[test]
    fn infinities_and_nans_spread_over_their_row() {
        let s = Softmax { element: DType::F32, rows: 4, length: 3, log: false };
        let (inf, nan) = (f32::INFINITY, f32::NAN);
        let x = [0.0, -inf, 0.0, inf, 1.0, 1.0, nan, 1.0, 1.0, -inf, -inf, -inf];
        let y = &testing::run(s, &[&x])[0];
        assert_eq!(y[..3], [0.5, 0.0, 0.5]);
        assert!(y[3..].iter().all(|v| v.is_nan()), "{y:?}");
    }
}
