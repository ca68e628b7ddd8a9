//! Indices of the first elements of a line in the order of their values.
//!
//! In: `x [lines, extent]`. Out: `indices [lines, k]`. Equal elements stand in the order of their indices; a NaN counts as larger than any number.
//!
//! Value and index of an element are one integer of 64 bits, the value above, so that no two are equal, and a merge sort of integers in scratch memory needs no
//! branch to guess: runs of 1, 2, 4, … elements are merged from one half of the scratch memory into the other.

use super::{Argument, Family, KernelName, LayerKind, Parts, work_units};
use crate::codegen::{Cmp, Count, Emitter, IntOp, R};
use crate::target::Target;
use fornax_ir::types::DType;

/// What a sort computes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Sort {
    /// Type of the elements: `f32`, or integers of which all are `i32` too.
    pub element: DType,
    /// Lines.
    pub lines: usize,
    /// Elements of a line.
    pub extent: usize,
    /// How many indices of each line are wanted.
    pub k: usize,
    /// The smallest first.
    pub smallest: bool,
}

/// How: a line at a time.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Schedule;

schedule_text!(Schedule, "Schedule" {});

/// Type of indices, and size of a key.
const INDEX: DType = DType::I64;
/// Bits of a key below its value.
const INDEX_BITS: u32 = 32;

impl Sort {
    /// Whether elements of a type fit above an index.
    pub fn takes(element: DType) -> bool {
        matches!(element, DType::F32 | DType::I8 | DType::U8 | DType::I16 | DType::U16 | DType::I32)
    }

    /// Bytes of the keys of a line, and of one more that is read behind the last.
    fn half(&self) -> usize {
        (self.extent + 1) * INDEX.size()
    }
}

impl Family for Sort {
    type Schedule = Schedule;

    const WORDS: &'static [&'static str] = &["sort"];

    fn kind(_name: &KernelName) -> LayerKind {
        LayerKind::Loops
    }

    fn kernel_name(&self) -> KernelName {
        KernelName::new(self.element, "sort")
            .shape(&[('m', &[self.lines]), ('n', &[self.extent]), ('k', &[self.k])])
            .word_if(self.smallest, "smallest")
    }

    fn read(name: &Parts<'_>) -> Option<Self> {
        let (lines, extent, k) = (name.one(0, 'm')?, name.one(0, 'n')?, name.one(0, 'k')?);
        Some(Self { element: name.any_element(), lines, extent, k, smallest: name.has("smallest") })
            .filter(|spec| Self::takes(spec.element))
    }

    fn arguments(&self) -> Vec<Argument> {
        vec![
            Argument::read("x", self.element, self.lines * self.extent),
            Argument::write("indices", INDEX, self.lines * self.k),
        ]
    }

    fn schedule(&self, _target: &Target) -> Schedule {
        Schedule
    }

    fn chunks(&self, _schedule: &Schedule) -> u32 {
        work_units(self.lines)
    }

    fn scratch(&self, _schedule: &Schedule) -> usize {
        2 * self.half()
    }

    /// About 12 operations for each element and merge.
    fn flops(&self) -> u64 {
        12 * (self.lines * self.extent) as u64 * u64::from(self.extent.max(1).ilog2() + 1)
    }

    fn emit(&self, _schedule: &Schedule, e: &mut dyn Emitter) {
        let [x, indices] = [0, 1].map(|i| e.pointer(i));
        let (line, count, offset) = (e.r(), e.r(), e.r());
        e.begin(line);
        e.end(count);
        e.sub(count, count, line);
        let (row, out) = (self.extent * self.element.size(), self.k * INDEX.size());
        e.mul_imm(offset, line, row as i64);
        e.add(x, x, offset);
        e.mul_imm(offset, line, out as i64);
        e.add(indices, indices, offset);
        [line, offset].into_iter().for_each(|r| e.free_r(r));
        e.repeat(Count::Register(count), &mut |e| {
            let (from, to) = (e.r(), e.r());
            e.scratch(from);
            e.add_imm(to, from, self.half() as i64);
            self.keys(e, x, from);
            let mut halves = [from, to];
            let mut width = 1;
            while width < self.extent {
                self.merge(e, halves, width);
                halves.reverse();
                width *= 2;
            }
            self.indices(e, halves[0], indices);
            [from, to].into_iter().for_each(|r| e.free_r(r));
            e.add_imm(x, x, row as i64);
            e.add_imm(indices, indices, out as i64);
        });
    }
}

impl Sort {
    /// Writes the keys of a line at `to`.
    fn keys(&self, e: &mut dyn Emitter, x: R, to: R) {
        let (from, to) = (copy(e, x), copy(e, to));
        let (key, other, at) = (e.r(), e.r(), e.integer(0));
        let (zero, shift) = (e.integer(0), e.integer(1 << INDEX_BITS));
        let (magnitude, infinity) = (e.integer(i64::from(i32::MAX)), e.integer(i64::from(f32::INFINITY.to_bits())));
        let (least, all) = (e.integer(i64::from(i32::MIN)), e.integer(-1));
        e.repeat(Count::Times(u32::try_from(self.extent).unwrap_or(u32::MAX)), &mut |e| {
            if self.element == DType::F32 {
                e.load_int(key, from.at(0), DType::I32);
                // -0 is 0, negative numbers fall as their bits rise, and NaNs are the largest.
                e.choose(key, Cmp::Equal, key, least, zero, key);
                e.int_op(IntOp::Xor, other, key, magnitude);
                e.choose(other, Cmp::Less, key, zero, other, key);
                e.int_op(IntOp::And, key, key, magnitude);
                e.choose(key, Cmp::Less, infinity, key, magnitude, other);
            } else {
                e.load_int(key, from.at(0), self.element);
            }
            if !self.smallest {
                e.int_op(IntOp::Xor, key, key, all);
            }
            e.int_op(IntOp::Mul, key, key, shift);
            e.add(key, key, at);
            e.store_r(key, to.at(0));
            e.add_imm(at, at, 1);
            e.add_imm(from, from, self.element.size() as i64);
            e.add_imm(to, to, INDEX.size() as i64);
        });
        [from, to, key, other, at, zero, shift, magnitude, infinity, least, all].into_iter().for_each(|r| e.free_r(r));
    }

    /// Merges runs of `width` keys by twos.
    fn merge(&self, e: &mut dyn Emitter, [from, to]: [R; 2], width: usize) {
        let size = INDEX.size();
        let (start, end, to) = (copy(e, from), e.r(), copy(e, to));
        e.add_imm(end, from, (self.extent * size) as i64);
        let runs = u32::try_from(self.extent.div_ceil(2 * width)).unwrap_or(u32::MAX);
        e.repeat(Count::Times(runs), &mut |e| {
            let (a, b, last_a, last_b, count) = (copy(e, start), e.r(), e.r(), e.r(), e.r());
            e.add_imm(b, start, (width * size) as i64);
            e.min(b, b, end);
            e.copy(last_a, b);
            e.add_imm(start, start, (2 * width * size) as i64);
            e.min(last_b, start, end);
            e.sub(count, last_b, a);
            e.div_imm(count, count, size as u32);
            let (first, second, step) = (e.r(), e.r(), e.r());
            let (most, none, one) = (e.integer(i64::MAX), e.integer(0), e.integer(size as i64));
            e.repeat(Count::Register(count), &mut |e| {
                e.load_r(first, a.at(0));
                e.choose(first, Cmp::Less, a, last_a, first, most);
                e.load_r(second, b.at(0));
                e.choose(second, Cmp::Less, b, last_b, second, most);
                e.choose(step, Cmp::Less, first, second, one, none);
                e.min(first, first, second);
                e.store_r(first, to.at(0));
                e.add(a, a, step);
                e.sub(step, one, step);
                e.add(b, b, step);
                e.add(to, to, one);
            });
            [a, b, last_a, last_b, count, first, second, step, most, none, one].into_iter().for_each(|r| e.free_r(r));
        });
        [start, end, to].into_iter().for_each(|r| e.free_r(r));
    }

    /// Writes the indices of the first keys at `from`.
    fn indices(&self, e: &mut dyn Emitter, from: R, to: R) {
        let (from, to, key, mask) = (copy(e, from), copy(e, to), e.r(), e.integer(i64::from(u32::MAX)));
        e.repeat(Count::Times(u32::try_from(self.k).unwrap_or(u32::MAX)), &mut |e| {
            e.load_r(key, from.at(0));
            e.int_op(IntOp::And, key, key, mask);
            e.store_int(key, to.at(0), INDEX);
            [from, to].into_iter().for_each(|r| e.add_imm(r, r, INDEX.size() as i64));
        });
        [from, to, key, mask].into_iter().for_each(|r| e.free_r(r));
    }
}

/// A fresh register with what `r` holds.
fn copy(e: &mut dyn Emitter, r: R) -> R {
    let d = e.r();
    e.copy(d, r);
    d
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn lines_are_sorted_with_their_indices() {
        for (extent, k, smallest) in [(1, 1, false), (2, 2, true), (7, 3, false), (64, 64, true), (333, 100, false)] {
            let spec = Sort { element: DType::F32, lines: 3, extent, k, smallest };
            // In steps, so that some are equal, among them zeros of both signs.
            let mut x: Vec<f32> = testing::values(1, 3 * extent).iter().map(|v| (v * 9.0).round() / 9.0).collect();
            x[extent / 2] = f32::NAN;
            let mut expected = Vec::new();
            for line in x.chunks(extent) {
                let key = |i: &usize| if line[*i].is_nan() { f32::INFINITY } else { line[*i] + 0.0 };
                let mut order: Vec<usize> = (0..extent).collect();
                order.sort_by(|a, b| if smallest { key(a).total_cmp(&key(b)) } else { key(b).total_cmp(&key(a)) });
                expected.extend(order.into_iter().take(k).map(|i| i as i64));
            }
            let found = testing::run(spec.clone(), &[&x]);
            let pairs = found[0].as_chunks::<2>().0;
            let indices: Vec<i64> = pairs.iter().map(|[low, _]| i64::from(low.to_bits())).collect();
            assert_eq!(indices, expected, "{}", spec.name());
            let bits = |found: &[Vec<f32>]| found[0].iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&testing::interpret(&spec, &Schedule, &[&x], 4)), bits(&found), "{}", spec.name());
        }
    }
}
