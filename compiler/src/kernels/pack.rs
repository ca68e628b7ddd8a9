//! A computed tensor in the order that a kernel reads it: weights that are no constants, biases, transposed operands.
//!
//! In: a dense tensor, any strides. Out: what [`Packing::pack`] writes for a constant of the same elements, bit by bit; so kernels take
//! computed weights like constant ones. Elements are moved unchanged, unless there is a factor, which is for `f32`.
//!
//! The packed tensor is a sequence of lines: the innermost block, or the innermost axis. A line whose elements are neighbours in the
//! source is copied by vectors. Of others, squares are transposed in registers if elements of neighbouring lines are neighbours there,
//! else they are copied one by one. A work unit is some turns of the loops outside of the blocks.

mod squares;

use super::name::Section;
use super::{Argument, Family, KernelName, LayerKind, Parts, work_units};
use crate::codegen::elements::widens;
use crate::codegen::{Count, Element, Emitter, R, V, VOp};
use crate::target::Target;
use fornax_ir::types::DType;
use fornax_runtime::packing::{Layout, Packing, Transform};

/// A packing of a computed tensor.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Pack {
    /// Type of the elements.
    element: DType,
    /// What it becomes.
    packing: Packing,
    /// Elements of the source from one to the next along each axis of the packing; 0 along axes that it is repeated over.
    strides: Vec<usize>,
    nest: Nest,
}

/// The loops over lines, outer to inner.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
struct Nest {
    /// Loops that work units are cut from: count, and elements of the source from one turn to the next.
    outer: Vec<(usize, usize)>,
    /// Loops within a unit.
    inner: Vec<(usize, usize)>,
    line: Line,
}

/// The innermost elements.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
struct Line {
    /// Elements stored.
    width: usize,
    /// Elements of the source in all lines but the last of each turn of the last outer loop, and in that one.
    live: [usize; 2],
    /// Elements of the source from one to the next.
    stride: usize,
}

/// How: units per chunk.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Schedule {
    /// Work units of one chunk.
    pub units: usize,
}

schedule_text!(Schedule, "Schedule" { "units": units });

/// Elements that pay for claiming a chunk.
const WORK: usize = 1 << 14;
/// Elements of a line that are written out one by one.
const SPELLED: usize = 16;
/// Vectors of a line, and lines of a loop, that are.
const UNROLL: usize = 4;

impl Pack {
    /// The kernel for a source of these strides, if there is one: at most one block, of full width and within the innermost loop
    /// but those over whole axes; factors of `f32`, but no filters; a source that is addressed by 32-bit displacements.
    pub fn new(element: DType, packing: Packing, strides: Vec<usize>) -> Option<Self> {
        let nest = Nest::new(&packing, &strides)?;
        let far = nest.line.stride.saturating_mul(SPELLED.max(nest.line.width)) > i32::MAX as usize / 8;
        let plain = match packing.transform() {
            Transform::None => widens(element),
            Transform::Scale(_) => element == DType::F32,
            Transform::Winograd(_) => false,
        };
        (plain && !far && strides.len() == packing.extents().len()).then_some(Self { element, packing, strides, nest })
    }

    /// Elements that a unit writes.
    fn unit(&self) -> usize {
        self.nest.inner.iter().map(|(count, _)| count).product::<usize>() * self.nest.line.width
    }

    fn units(&self) -> usize {
        if self.packing.is_empty() { 0 } else { self.nest.outer.iter().map(|(count, _)| count).product() }
    }

    /// Elements of the source up to the last that is read.
    fn source_len(&self) -> usize {
        let extents = self.packing.extents();
        if extents.contains(&0) {
            return 0;
        }
        1 + extents.iter().zip(&self.strides).map(|(extent, stride)| (extent - 1) * stride).sum::<usize>()
    }

    fn factor(&self) -> Option<u32> {
        match self.packing.transform() {
            Transform::Scale(bits) => Some(bits),
            _ => None,
        }
    }
}

impl Nest {
    fn new(packing: &Packing, strides: &[usize]) -> Option<Self> {
        let (extents, layout) = (packing.extents(), packing.layout());
        let mut loops = layout.order().to_vec();
        match layout.blocks()?[..] {
            [] => {
                let axis = loops.pop()?;
                let line = Line { width: extents[axis], live: [extents[axis]; 2], stride: strides[axis] };
                let outer = loops.iter().map(|axis| (extents[*axis], strides[*axis])).collect();
                Some(Self { outer, inner: Vec::new(), line })
            }
            [(axis, width)] => {
                let at = loops.iter().position(|of| *of == axis)?;
                let plain = |axis: &usize| (extents[*axis], strides[*axis]);
                let (count, stride) = (extents[axis].div_ceil(width), strides[axis]);
                let last = extents[axis] - count.saturating_sub(1) * width;
                let mut outer: Vec<_> = loops[..at].iter().map(plain).collect();
                outer.push((count, width * stride));
                let inner = loops[at + 1..].iter().map(plain).collect();
                let live = if count == 1 { [last; 2] } else { [width, last] };
                Some(Self { outer, inner, line: Line { width, live, stride } })
            }
            _ => None,
        }
    }
}

impl Family for Pack {
    type Schedule = Schedule;

    const WORDS: &'static [&'static str] = &["pack"];

    fn kind(_name: &KernelName) -> LayerKind {
        LayerKind::Loops
    }

    /// `<element>_pack_<extents>_<layout>[_by<bits of the factor>]_s<strides>`; blocks say which axes have them.
    fn kernel_name(&self) -> KernelName {
        let name = KernelName::new(self.element, "pack")
            .with(Section::Extents(self.packing.extents().to_vec()))
            .word(self.packing.layout().to_string().to_ascii_lowercase());
        let name = match self.factor() {
            Some(bits) => name.word(format!("by{bits:08x}")),
            None => name,
        };
        name.shape(&[('s', &self.strides)])
    }

    /// Names are in lower case: the axes that have blocks are those after a number.
    fn read(name: &Parts<'_>) -> Option<Self> {
        let word = name.words.first()?;
        let end = word.find(|c: char| c.is_ascii_digit()).unwrap_or(word.len());
        let (axes, blocks) = word.split_at(end);
        let axis = |c: char| if blocks.contains(c) { c.to_ascii_uppercase() } else { c };
        let layout: Layout = format!("{}{blocks}", axes.chars().map(axis).collect::<String>()).parse().ok()?;
        let transform = match name.words.get(1) {
            Some(bits) => Transform::Scale(u32::from_str_radix(bits.strip_prefix("by")?, 16).ok()?),
            None => Transform::None,
        };
        let extents = name.extents.first().filter(|extents| extents.len() == layout.rank())?.to_vec();
        Self::new(name.element()?, Packing::new(extents, transform, layout), name.field(0, 's')?.to_vec())
    }

    fn arguments(&self) -> Vec<Argument> {
        let element = self.element;
        vec![Argument::read("x", element, self.source_len()), Argument::write("y", element, self.packing.len())]
    }

    fn schedule(&self, _target: &Target) -> Schedule {
        Schedule { units: WORK.div_ceil(self.unit().max(1)) }
    }

    fn chunks(&self, schedule: &Schedule) -> u32 {
        work_units(self.units().div_ceil(schedule.units))
    }

    fn flops(&self) -> u64 {
        if self.factor().is_some() { self.packing.len() as u64 } else { 0 }
    }

    fn emit(&self, schedule: &Schedule, e: &mut dyn Emitter) {
        let size = self.element.size();
        let [x, y] = [0, 1].map(|i| e.pointer(i));
        let factor = self.factor().map(|bits| {
            let v = e.v();
            e.splat(v, bits);
            v
        });
        let (unit, count, limit) = (e.r(), e.r(), e.r());
        e.begin(unit);
        e.mul_imm(unit, unit, schedule.units as i64);
        e.end(count);
        e.mul_imm(count, count, schedule.units as i64);
        e.set(limit, self.units() as i64);
        e.min(count, count, limit);
        e.sub(count, count, unit);
        e.repeat(Count::Register(count), &mut |e| {
            let (from, to, rest, turn) = (e.r(), e.r(), e.r(), e.r());
            e.mul_imm(to, unit, (self.unit() * size) as i64);
            e.add(to, to, y);
            e.copy(from, x);
            e.copy(rest, unit);
            // From the last loop on, which leaves its turn in `turn`.
            let last = self.nest.outer.len().saturating_sub(1);
            for (i, (count, step)) in self.nest.outer.iter().enumerate().collect::<Vec<_>>().into_iter().rev() {
                let (index, outside) = (if i == last { turn } else { e.r() }, e.r());
                e.div_imm(outside, rest, *count as u32);
                e.mul_imm(index, outside, *count as i64);
                e.sub(index, rest, index);
                e.copy(rest, outside);
                e.mul_imm(outside, index, (step * size) as i64);
                e.add(from, from, outside);
                e.free_r(outside);
                if i != last {
                    e.free_r(index);
                }
            }
            e.free_r(rest);
            let [live, tail] = self.nest.line.live;
            if live == tail {
                self.unit_of(e, [from, to], live, factor);
            } else {
                let blocks = self.nest.outer[last].0 as i64;
                e.set(limit, blocks - 1);
                e.if_less(turn, limit, &mut |e| self.unit_of(e, [from, to], live, factor));
                e.set(limit, blocks - 2);
                e.if_less(limit, turn, &mut |e| self.unit_of(e, [from, to], tail, factor));
            }
            [from, to, turn].into_iter().for_each(|r| e.free_r(r));
            e.add_imm(unit, unit, 1);
        });
    }
}

impl Pack {
    /// The lines of a unit, with `live` elements of the source each.
    fn unit_of(&self, e: &mut dyn Emitter, at: [R; 2], live: usize, factor: Option<V>) {
        match self.across() {
            Some(across) => self.squares(e, 0, at, (across, live), factor),
            None => self.lines(e, 0, at, live, factor),
        }
    }

    /// The lines of the inner loops from `depth` on; `to` moves on after them, `from` stays.
    fn lines(&self, e: &mut dyn Emitter, depth: usize, [from, to]: [R; 2], live: usize, factor: Option<V>) {
        let Some((count, step)) = self.nest.inner.get(depth).copied() else {
            return self.line(e, [from, to], live, factor);
        };
        let at = e.r();
        e.copy(at, from);
        let innermost = depth + 1 == self.nest.inner.len() && self.nest.line.stride == 1;
        let unroll = if innermost { UNROLL.min(count.max(1)) } else { 1 };
        let some = |e: &mut dyn Emitter, lines: usize| {
            for _ in 0..lines {
                self.lines(e, depth + 1, [at, to], live, factor);
                e.add_imm(at, at, (step * self.element.size()) as i64);
            }
        };
        e.repeat(Count::Times((count / unroll) as u32), &mut |e| some(e, unroll));
        some(e, count % unroll);
        e.free_r(at);
    }

    /// One line with `live` elements of the source, zeros after them.
    fn line(&self, e: &mut dyn Emitter, [from, to]: [R; 2], live: usize, factor: Option<V>) {
        let (Line { width, stride, .. }, size) = (self.nest.line, self.element.size());
        let wide = if stride == 1 { e.lanes(Element::F32) } else { 1 };
        let turn = if stride == 1 { UNROLL * e.lanes(Element::F32) } else { SPELLED };
        let turns = live / turn;
        if turns > 1 {
            let at = e.r();
            e.copy(at, from);
            e.repeat(Count::Times(turns as u32), &mut |e| {
                self.elements(e, [at, to], (turn, wide), factor);
                e.add_imm(at, at, (turn * stride * size) as i64);
                e.add_imm(to, to, (turn * size) as i64);
            });
            self.elements(e, [at, to], (live % turn, wide), factor);
            e.add_imm(to, to, (live % turn * size) as i64);
            e.free_r(at);
        } else {
            self.elements(e, [from, to], (live, wide), factor);
            e.add_imm(to, to, (live * size) as i64);
        }
        self.zeros(e, to, width - live);
        e.add_imm(to, to, ((width - live) * size) as i64);
    }

    /// Copies `count` elements of a line, `wide` at once.
    fn elements(&self, e: &mut dyn Emitter, [from, to]: [R; 2], (count, wide): (usize, usize), factor: Option<V>) {
        let (v, size, stride) = (e.v(), self.element.size(), self.nest.line.stride);
        for first in (0..count).step_by(wide) {
            let lanes = wide.min(count - first);
            e.load_bits(v, from.at(first * stride * size), self.element, lanes);
            if let Some(factor) = factor {
                e.op(VOp::Mul, Element::F32, v, v, factor);
            }
            e.store_bits(v, to.at(first * size), self.element, lanes);
        }
        e.free_v(v);
    }

    /// Writes `count` zeros.
    fn zeros(&self, e: &mut dyn Emitter, to: R, count: usize) {
        if count == 0 {
            return;
        }
        let (v, lanes, size) = (e.v(), e.lanes(Element::F32), self.element.size());
        e.zero(v);
        let turns = count / (UNROLL * lanes);
        let at = e.r();
        e.copy(at, to);
        let some = |e: &mut dyn Emitter, count: usize| {
            for first in (0..count).step_by(lanes) {
                e.store_bits(v, at.at(first * size), self.element, lanes.min(count - first));
            }
        };
        e.repeat(Count::Times(turns as u32), &mut |e| {
            some(e, UNROLL * lanes);
            e.add_imm(at, at, (UNROLL * lanes * size) as i64);
        });
        some(e, count % (UNROLL * lanes));
        e.free_r(at);
        e.free_v(v);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    /// Packings, and strides of the source where it is not row-major.
    const CASES: [(&str, &[usize]); 26] = [
        ("[1,40,37,1] aBdc16b", &[]),
        ("[2,5,21,18] aCdb16c", &[]),
        ("[37,9] aB48b", &[1, 37]),
        ("[300,25] aB16b", &[1, 300]),
        ("[1,32,3,9] aBdc16b", &[]),
        ("[2,18,5,4] aBdc16b", &[]),
        ("[3,5,4,1] aBdc8b", &[]),
        // Channel-last weights.
        ("[1,20,6,9] aBdc16b", &[0, 54, 1, 6]),
        ("[40,37] Ab16a", &[]),
        ("[33,70] Ab32a", &[]),
        ("[37,40] Ba16b", &[]),
        ("[70,33] Ba32b", &[]),
        ("[5,7] times 0.5 Ba32b", &[]),
        ("[9,17] times -4.0 Ab16a", &[]),
        ("[3,20,7] aCb16c", &[]),
        ("[2,3,20,7] abCd16c", &[]),
        // One matrix for every row of batches.
        ("[2,3,6,20] abDc16d", &[0, 120, 20, 1]),
        ("[19,9] Ab48a", &[]),
        ("[7] A32a", &[]),
        ("[300] A320a", &[]),
        ("[12] A16a", &[0]),
        ("[3,20] aB32b", &[]),
        ("[50,70] ba", &[]),
        ("[3,40,2] acb", &[]),
        ("[2,6,35] abc", &[0, 35, 1]),
        ("[0,5] Ab16a", &[]),
    ];

    fn case((text, strides): (&str, &[usize])) -> (Pack, Vec<f32>) {
        let packing: Packing = text.parse().unwrap();
        let mut own = vec![1; packing.extents().len()];
        for axis in (1..own.len()).rev() {
            own[axis - 1] = own[axis] * packing.extents()[axis];
        }
        let strides = if strides.is_empty() { own } else { strides.to_vec() };
        let spec = Pack::new(DType::F32, packing, strides).unwrap();
        let x = testing::values(1, spec.source_len());
        (spec, x)
    }

    /// The elements in row-major order under the extents of the packing.
    fn row_major(spec: &Pack, x: &[f32]) -> Vec<f32> {
        let axes = spec.packing.extents().iter().zip(&spec.strides);
        let places = axes.fold(vec![0], |places: Vec<usize>, (extent, stride)| {
            places.iter().flat_map(|place| (0..*extent).map(move |i| place + i * stride)).collect()
        });
        places.into_iter().map(|place| x[place]).collect()
    }

    #[test]
    fn writes_what_a_constant_becomes() {
        testing::report(CASES.into_iter().filter(|(text, _)| !text.contains("[0")).map(|given| {
            let (spec, x) = case(given);
            let expected = testing::packed(&spec.packing, &row_major(&spec, &x));
            if testing::run(spec.clone(), &[&x])[0] != expected {
                return Some(format!("{}: other elements", spec.name()));
            }
            [(1, 4), (2, 8), (3, 16)].into_iter().find_map(|(units, lanes)| {
                let found = testing::interpret(&spec, &Schedule { units }, &[&x], lanes);
                (found[0] != expected).then(|| format!("{}: {units} units, {lanes} lanes", spec.name()))
            })
        }));
    }

    #[test]
    fn narrow_elements() {
        testing::report(CASES.into_iter().filter(|(text, _)| !text.contains("times")).map(|given| {
            let (spec, x) = case(given);
            testing::narrow(|element| {
                let spec = Pack::new(element, spec.packing.clone(), spec.strides.clone()).unwrap();
                (spec, vec![x.clone()])
            })
        }));
    }

    /// Elements are moved, not converted: a signalling NaN keeps its bits.
    #[test]
    fn narrow_elements_keep_their_bits() {
        let packing: Packing = "[3,5] ba".parse().unwrap();
        let spec = Pack::new(DType::F16, packing.clone(), vec![5, 1]).unwrap();
        let source: Vec<u8> = (0..15u16).flat_map(|i| (0x7C01 + i).to_le_bytes()).collect();
        let mut expected = vec![0; 30];
        packing.pack(2, &source, &mut expected);
        let mut buffers = [source, vec![0; 30], Vec::new()];
        crate::codegen::soft::run(8, (0, 1), &mut buffers, |e| spec.emit(&Schedule { units: 9 }, e));
        assert_eq!(buffers[1], expected);
    }

    #[test]
    fn names_differ() {
        let mut names: Vec<String> = CASES.map(|given| case(given).0.name()).to_vec();
        assert_eq!(names[4], "f32_pack_1x32x3x9_abdc16b_s864x27x9x1");
        names.sort();
        names.dedup();
        assert_eq!(names.len(), CASES.len());
    }

    #[test]
    fn other_packings_have_no_kernel() {
        for text in ["[8,4,9] winograd 4x4 Acb16:8a", "[20,8] AB16a2b", "[40,3] Ab16:8a"] {
            let packing: Packing = text.parse().unwrap();
            let strides = vec![1; packing.extents().len()];
            assert_eq!(Pack::new(DType::F32, packing, strides), None, "{text}");
        }
        // The packing of a constant scales `f32` alone.
        let packing: Packing = "[5,7] times 0.5 Ba32b".parse().unwrap();
        assert_eq!(Pack::new(DType::F16, packing, vec![7, 1]), None);
        let (empty, _) = case(CASES[25]);
        assert_eq!(empty.chunks(&Schedule { units: 1 }), 0);
    }
}
