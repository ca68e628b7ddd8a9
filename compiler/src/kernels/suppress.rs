//! Greedy choice of boxes: the box of the highest score, those that overlap it too much ruled out, again and again.
//!
//! In: `boxes [images, 4, boxes]` (planes of low x, low y, high x, high y), `scores [images, classes, boxes]` and a `threshold`. Out: `indices [images, classes, k]`,
//! of which those behind the chosen ones are 0, and `counts [images, classes]`.
//!
//! One work unit is one class of one image. Each turn is one pass over its boxes, which compares all of them with the box chosen last, takes the scores of
//! those that go to -inf, and finds the highest score that is left; so a class costs a pass more than it has boxes that are chosen, and a test for each turn after them. Scores
//! lie in scratch memory. The first turn compares with an empty box, which overlaps none. Of equal scores the lowest index wins: within
//! a lane because only a higher score replaces another, across lanes because score and index are compared as one integer.

use super::{Argument, Family, KernelName, LayerKind, Parts, work_units};
use crate::codegen::elements::SINGLE;
use crate::codegen::{Cmp, Count, Element, Emitter, IntOp, R, V, VOp};
use crate::target::Target;
use fornax_ir::types::DType;

/// What a choice of boxes computes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Suppress {
    /// Images.
    pub images: usize,
    /// Classes.
    pub classes: usize,
    /// Boxes of an image.
    pub boxes: usize,
    /// How many are chosen at most, of each class.
    pub k: usize,
}

/// How: a class at a time.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Schedule;

schedule_text!(Schedule, "Schedule" {});

/// Lanes of the widest vector.
const LANES: usize = 16;
/// Numbers that make a box: low x, low y, high x, high y.
const CORNERS: usize = 4;
/// Type of boxes, scores and threshold.
const NUMBER: DType = DType::F32;
/// Type of what is chosen.
const INDEX: DType = DType::I64;
/// Bits of an index within the key of a box.
const INDEX_BITS: u32 = 32;

/// The bits of a score as an integer of the same order.
fn ordered(score: f32) -> i64 {
    let bits = i64::from(score.to_bits().cast_signed());
    if bits < 0 { bits ^ i64::from(i32::MAX) } else { bits }
}

/// What stays in registers during the turns of a class.
struct State {
    /// The image's boxes.
    boxes: R,
    /// The scores that are left.
    scores: R,
    /// Lane numbers, then two vectors of the widest kind for reductions.
    lanes: R,
    /// The box chosen last: its corners, and its area.
    corners: [V; CORNERS],
    area: V,
    threshold: V,
    zero: V,
    none: V,
}

/// The highest score so far of each lane, and its index; and the indices of the next vector.
struct Best {
    score: V,
    index: V,
    numbers: V,
}

impl Family for Suppress {
    type Schedule = Schedule;

    const WORDS: &'static [&'static str] = &["suppress"];

    fn kind(_name: &KernelName) -> LayerKind {
        LayerKind::Loops
    }

    fn kernel_name(&self) -> KernelName {
        KernelName::new(NUMBER, "suppress").shape(&[
            ('n', &[self.images]),
            ('c', &[self.classes]),
            ('b', &[self.boxes]),
            ('k', &[self.k]),
        ])
    }

    fn read(name: &Parts<'_>) -> Option<Self> {
        let (images, classes) = (name.one(0, 'n')?, name.one(0, 'c')?);
        (name.element()? == NUMBER).then_some(Self { images, classes, boxes: name.one(0, 'b')?, k: name.one(0, 'k')? })
    }

    fn arguments(&self) -> Vec<Argument> {
        let groups = self.images * self.classes;
        vec![
            Argument::read("boxes", NUMBER, self.images * CORNERS * self.boxes),
            Argument::read("scores", NUMBER, groups * self.boxes),
            Argument::read("threshold", NUMBER, 1),
            Argument::write("indices", INDEX, groups * self.k),
            Argument::write("counts", INDEX, groups),
        ]
    }

    fn schedule(&self, _target: &Target) -> Schedule {
        Schedule
    }

    fn chunks(&self, _schedule: &Schedule) -> u32 {
        work_units(self.images * self.classes)
    }

    /// The scores of a class, lane numbers, and the lanes of a reduction.
    fn scratch(&self, _schedule: &Schedule) -> usize {
        (self.boxes.next_multiple_of(LANES) + 3 * LANES) * SINGLE
    }

    /// About 20 operations for each box and turn; how many turns there are depends on the scores, and few is what detectors have.
    fn flops(&self) -> u64 {
        20 * (self.images * self.classes * self.boxes) as u64
    }

    fn emit(&self, _schedule: &Schedule, e: &mut dyn Emitter) {
        let (chunk, count, scores, lanes) = (e.r(), e.r(), e.r(), e.r());
        e.begin(chunk);
        e.end(count);
        e.sub(count, count, chunk);
        e.scratch(lanes);
        e.add_imm(scores, lanes, (3 * LANES * SINGLE) as i64);
        let number = e.r();
        for lane in 0..LANES {
            e.set(number, lane as i64);
            e.store_int(number, lanes.at(lane * SINGLE), DType::I32);
        }
        e.free_r(number);
        let [corners @ .., area, threshold, zero, none] = [(); 8].map(|()| e.v());
        let boxes = e.r();
        let state = State { boxes, scores, lanes, corners, area, threshold, zero, none };
        e.zero(zero);
        e.splat(none, f32::NEG_INFINITY.to_bits());
        let pointer = e.pointer(2);
        e.broadcast(threshold, pointer.at(0));
        e.free_r(pointer);
        e.op(VOp::Max, Element::F32, threshold, threshold, zero);
        e.repeat(Count::Register(count), &mut |e| {
            self.class(e, &state, chunk);
            e.add_imm(chunk, chunk, 1);
        });
    }
}

impl Suppress {
    /// One class of one image: number `chunk`.
    fn class(&self, e: &mut dyn Emitter, state: &State, chunk: R) {
        let row = (self.boxes * SINGLE) as i64;
        let offset = e.r();
        e.arg(state.boxes, 0);
        e.div_imm(offset, chunk, u32::try_from(self.classes).unwrap_or(u32::MAX));
        e.mul_imm(offset, offset, CORNERS as i64 * row);
        e.add(state.boxes, state.boxes, offset);
        let from = e.pointer(1);
        e.mul_imm(offset, chunk, row);
        e.add(from, from, offset);
        self.take_scores(e, state, from);
        e.free_r(from);
        let out = e.pointer(3);
        e.mul_imm(offset, chunk, (self.k * INDEX.size()) as i64);
        e.add(out, out, offset);
        self.clear(e, out);
        [state.corners[0], state.corners[1], state.corners[2], state.corners[3], state.area]
            .into_iter()
            .for_each(|v| e.zero(v));
        let (found, done, one) = (e.integer(0), e.integer(0), e.integer(1));
        e.repeat(Count::Times(u32::try_from(self.k).unwrap_or(u32::MAX)), &mut |e| {
            e.if_less(done, one, &mut |e| self.turn(e, state, [out, found, done]));
        });
        let counts = e.pointer(4);
        e.mul_imm(offset, chunk, INDEX.size() as i64);
        e.add(counts, counts, offset);
        e.store_int(found, counts.at(0), INDEX);
        [offset, out, found, done, one, counts].into_iter().for_each(|r| e.free_r(r));
    }

    /// Copies the scores of a class to scratch memory, with -inf up to a whole vector; -0 becomes 0, which it equals.
    fn take_scores(&self, e: &mut dyn Emitter, state: &State, from: R) {
        let lanes = e.lanes(Element::F32);
        let (to, v, rest) = (e.r(), e.v(), self.boxes % lanes);
        e.copy(to, state.scores);
        e.repeat(Count::Times((self.boxes / lanes) as u32), &mut |e| {
            e.load(v, from.at(0), lanes);
            e.op(VOp::Add, Element::F32, v, v, state.zero);
            e.store(v, to.at(0), lanes);
            [from, to].into_iter().for_each(|r| e.add_imm(r, r, (lanes * SINGLE) as i64));
        });
        if rest > 0 {
            e.store(state.none, to.at(0), lanes);
            e.load(v, from.at(0), rest);
            e.op(VOp::Add, Element::F32, v, v, state.zero);
            e.store(v, to.at(0), rest);
        }
        e.free_r(to);
        e.free_v(v);
    }

    /// Sets the `k` indices at `out` to 0.
    fn clear(&self, e: &mut dyn Emitter, out: R) {
        let (zero, to) = (e.integer(0), e.r());
        e.copy(to, out);
        e.repeat(Count::Times(u32::try_from(self.k).unwrap_or(u32::MAX)), &mut |e| {
            e.store_int(zero, to.at(0), INDEX);
            e.add_imm(to, to, INDEX.size() as i64);
        });
        [zero, to].into_iter().for_each(|r| e.free_r(r));
    }

    /// One pass and what it finds; `done` becomes 1 if that is nothing.
    fn turn(&self, e: &mut dyn Emitter, state: &State, [out, found, done]: [R; 3]) {
        let top = self.pass(e, state);
        let (none, zero, one) = (e.integer(ordered(f32::NEG_INFINITY) << INDEX_BITS), e.integer(0), e.integer(1));
        e.choose(done, Cmp::LessOrEqual, top, none, one, zero);
        e.if_less(none, top, &mut |e| {
            let (index, mask, at) = (e.r(), e.integer(i64::from(u32::MAX)), e.r());
            e.sub(index, zero, top);
            e.int_op(IntOp::And, index, index, mask);
            e.store_int(index, out.at(0), INDEX);
            e.add_imm(out, out, INDEX.size() as i64);
            e.add_imm(found, found, 1);
            e.mul_imm(index, index, SINGLE as i64);
            e.add(at, state.scores, index);
            e.store(state.none, at.at(0), 1);
            e.add(at, state.boxes, index);
            for (plane, corner) in state.corners.iter().enumerate() {
                e.broadcast(*corner, at.at(plane * self.boxes * SINGLE));
            }
            area(e, state.area, state.corners);
            [index, mask, at].into_iter().for_each(|r| e.free_r(r));
        });
        [top, none, zero, one].into_iter().for_each(|r| e.free_r(r));
    }

    /// Rules out what overlaps the box chosen last; the key of the best that is left: its score as an integer, and below it the index, negated.
    fn pass(&self, e: &mut dyn Emitter, state: &State) -> R {
        let lanes = e.lanes(Element::F32);
        let best = Best { score: e.v(), index: e.v(), numbers: e.v() };
        e.copy_v(best.score, state.none);
        e.zero(best.index);
        e.load(best.numbers, state.lanes.at(0), lanes);
        let (boxes, scores) = (e.r(), e.r());
        e.copy(boxes, state.boxes);
        e.copy(scores, state.scores);
        e.repeat(Count::Times((self.boxes / lanes) as u32), &mut |e| {
            self.vector(e, state, &best, [boxes, scores], lanes);
            [boxes, scores].into_iter().for_each(|r| e.add_imm(r, r, (lanes * SINGLE) as i64));
            let step = e.v();
            e.splat(step, lanes as u32);
            e.op(VOp::Add, Element::I32, best.numbers, best.numbers, step);
            e.free_v(step);
        });
        if !self.boxes.is_multiple_of(lanes) {
            self.vector(e, state, &best, [boxes, scores], self.boxes % lanes);
        }
        [boxes, scores].into_iter().for_each(|r| e.free_r(r));
        let (kept, numbers) = (LANES * SINGLE, 2 * LANES * SINGLE);
        e.store(best.score, state.lanes.at(kept), lanes);
        e.store(best.index, state.lanes.at(numbers), lanes);
        [best.score, best.index, best.numbers].into_iter().for_each(|v| e.free_v(v));
        let (top, score, index, flipped) = (e.integer(i64::MIN), e.r(), e.r(), e.r());
        let (zero, magnitude, shift) = (e.integer(0), e.integer(i64::from(i32::MAX)), e.integer(1 << INDEX_BITS));
        for lane in 0..lanes {
            e.load_int(score, state.lanes.at(kept + lane * SINGLE), DType::I32);
            e.load_int(index, state.lanes.at(numbers + lane * SINGLE), DType::I32);
            e.int_op(IntOp::Xor, flipped, score, magnitude);
            e.choose(score, Cmp::Less, score, zero, flipped, score);
            e.int_op(IntOp::Mul, score, score, shift);
            e.sub(score, score, index);
            e.max(top, top, score);
        }
        [score, index, flipped, zero, magnitude, shift].into_iter().for_each(|r| e.free_r(r));
        top
    }

    /// One vector of boxes, of which `exist` are there.
    fn vector(&self, e: &mut dyn Emitter, state: &State, best: &Best, [boxes, scores]: [R; 2], exist: usize) {
        let own = [(); CORNERS].map(|()| e.v());
        for (plane, v) in own.iter().enumerate() {
            e.load(*v, boxes.at(plane * self.boxes * SINGLE), exist);
        }
        let (shared, covered) = (e.v(), e.v());
        area(e, covered, own);
        e.op(VOp::Add, Element::F32, covered, covered, state.area);
        for axis in [0, 1] {
            let (low, high) = (own[axis], own[axis + 2]);
            e.op(VOp::Min, Element::F32, high, high, state.corners[axis + 2]);
            e.op(VOp::Max, Element::F32, low, low, state.corners[axis]);
            e.op(VOp::Sub, Element::F32, high, high, low);
            e.op(VOp::Max, Element::F32, high, high, state.zero);
        }
        e.op(VOp::Mul, Element::F32, shared, own[2], own[3]);
        e.op(VOp::Sub, Element::F32, covered, covered, shared);
        e.op(VOp::Div, Element::F32, shared, shared, covered);
        let score = own[0];
        let lanes = e.lanes(Element::F32);
        e.load(score, scores.at(0), lanes);
        e.select(Element::F32, score, Cmp::Less, [state.threshold, shared], state.none, score);
        e.store(score, scores.at(0), lanes);
        e.select(Element::F32, best.index, Cmp::Less, [best.score, score], best.numbers, best.index);
        e.select(Element::F32, best.score, Cmp::Less, [best.score, score], score, best.score);
        own.into_iter().chain([shared, covered]).for_each(|v| e.free_v(v));
    }
}

/// `d` = the areas of boxes of these corners.
fn area(e: &mut dyn Emitter, d: V, [left, top, right, bottom]: [V; CORNERS]) {
    let height = e.v();
    e.op(VOp::Sub, Element::F32, d, right, left);
    e.op(VOp::Sub, Element::F32, height, bottom, top);
    e.op(VOp::Mul, Element::F32, d, d, height);
    e.free_v(height);
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn scores_keep_their_order_as_integers() {
        let scores = [f32::NEG_INFINITY, -2.0, -1e-40, 0.0, 1e-40, 2.0, f32::INFINITY];
        assert!(scores.windows(2).all(|pair| ordered(pair[0]) < ordered(pair[1])));
    }

    #[test]
    fn no_width_of_vectors_changes_a_choice() {
        for (boxes, k) in [(1, 1), (7, 7), (16, 3), (37, 20)] {
            let spec = Suppress { images: 2, classes: 3, boxes, k };
            let low: Vec<f32> = testing::values(1, 2 * 4 * boxes);
            // Planes of low corners, then of high ones.
            let corners: Vec<f32> = (0..low.len())
                .map(|i| if i / boxes % 4 < 2 { low[i] } else { low[i - 2 * boxes] + low[i].abs() + 0.3 })
                .collect();
            let scores: Vec<f32> = testing::values(2, 6 * boxes).iter().map(|v| (v * 8.0).round()).collect();
            let operands: [&[f32]; 3] = [&corners, &scores, &[0.2]];
            let bits = |found: Vec<Vec<f32>>| -> Vec<u32> { found.concat().iter().map(|v| v.to_bits()).collect() };
            let found = bits(testing::run(spec.clone(), &operands));
            for lanes in [4, 8, 16] {
                assert_eq!(bits(testing::interpret(&spec, &Schedule, &operands, lanes)), found, "{boxes} {lanes}");
            }
        }
    }
}
