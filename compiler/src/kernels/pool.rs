//! Windowed maximum and average, channel-last: `y[n, p, c]` over the elements of `x[n, ., c]` that the window at `p` meets.
//!
//! In: `x [N, H, W, C]`, a row of the element that changes nothing (-inf or 0), and for an average the number of elements that each
//! output row counts along the height. Out: `y [N, OH, OW, C]`.
//!
//! Elements are taken in order (row, column), starting from the neutral element; a NaN stays. An average divides its sum by the
//! product of both counts, one rounding. The loops are those of [`Sliding`].

use super::name::Section;
use super::sliding::{At, Cell, Run, Schedule, Sliding};
use super::{Argument, Family, KernelName, LayerKind, Parts};
use crate::codegen::elements::{SINGLE, widens};
use crate::codegen::{Cmp, Element, Emitter, R, V, VOp};
use crate::target::Target;
use fornax_ir::types::DType;

/// What a window computes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// The largest element.
    Max,
    /// The mean of the elements inside the map.
    Average,
    /// The mean over the window's part of a padded map of these extents.
    AveragePadded([usize; 2]),
}

/// What a pooling computes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Pool {
    /// Extents; both maps are dense.
    pub sliding: Sliding,
    /// What a window computes.
    pub kind: Kind,
}

impl Pool {
    /// What a sum or maximum starts from, and what stands for rows outside of the map.
    pub fn neutral(&self) -> f32 {
        if self.kind == Kind::Max { f32::NEG_INFINITY } else { 0.0 }
    }

    /// The number of elements along `axis` (0 height, 1 width) that output `at` counts, at least 1.
    pub fn count(&self, axis: usize, at: usize) -> usize {
        let s = &self.sliding;
        let (begin, extent) = match self.kind {
            Kind::AveragePadded(extents) => (0, extents[axis]),
            _ => (s.pads[axis], s.input[axis]),
        };
        let first = at * s.strides[axis];
        let inside = |tap: &usize| (begin..begin + extent).contains(&(first + tap * s.dilations[axis]));
        (0..s.kernel[axis]).filter(inside).count().max(1)
    }
}

impl Family for Pool {
    type Schedule = Schedule;

    const WORDS: &'static [&'static str] = &["pool"];

    fn kind(_name: &KernelName) -> LayerKind {
        LayerKind::Pool
    }

    fn kernel_name(&self) -> KernelName {
        let name = self.sliding.label(KernelName::new(self.sliding.element, "pool"));
        match self.kind {
            Kind::Max => name.word("max"),
            Kind::Average => name.word("average"),
            Kind::AveragePadded(map) => name.word("average").word("padded").with(Section::Extents(map.to_vec())),
        }
    }

    fn read(name: &Parts<'_>) -> Option<Self> {
        let kind = match (*name.words.first()?, name.extents.first()) {
            ("max", None) => Kind::Max,
            ("average", None) => Kind::Average,
            ("average", Some([height, width])) => Kind::AveragePadded([*height, *width]),
            _ => return None,
        };
        let sliding = Sliding::read(name, 0).filter(|sliding| sliding.gaps == [0, 0] && widens(sliding.element))?;
        Some(Self { sliding, kind })
    }

    fn arguments(&self) -> Vec<Argument> {
        let (sliding, element) = (&self.sliding, self.sliding.element);
        let mut arguments = vec![
            Argument::read("x", element, sliding.input_len()),
            Argument::read("outside", element, sliding.row_len()),
            Argument::write("y", element, sliding.output_len()),
        ];
        if self.kind != Kind::Max {
            arguments.push(Argument::read("counts", DType::F32, sliding.output[0]));
        }
        arguments
    }

    fn schedule(&self, target: &Target) -> Schedule {
        self.sliding.schedule(target, 5, self.sliding.element.size())
    }

    fn chunks(&self, schedule: &Schedule) -> u32 {
        self.sliding.chunks(schedule)
    }

    fn flops(&self) -> u64 {
        let s = &self.sliding;
        (s.batch * s.output[0] * s.output[1] * s.channels * s.kernel[0] * s.kernel[1]) as u64
    }

    fn emit(&self, schedule: &Schedule, e: &mut dyn Emitter) {
        let [x, outside, y] = [0, 1, 2].map(|i| e.pointer(i));
        let counts = (self.kind != Kind::Max).then(|| e.pointer(3));
        self.sliding.emit(e, schedule, false, [x, outside], &[y], &Window { spec: self, counts });
    }
}

/// The arithmetic of a pooling.
struct Window<'a> {
    spec: &'a Pool,
    counts: Option<R>,
}

impl Cell for Window<'_> {
    fn moving(&self, _e: &mut dyn Emitter, _row: R) -> Vec<(R, usize)> {
        Vec::new()
    }

    /// The count along the height.
    fn fixed(&self, e: &mut dyn Emitter, row: R) -> Vec<R> {
        let Some(counts) = self.counts else { return Vec::new() };
        let (at, rows) = (e.r(), self.spec.sliding.output[0]);
        e.div_imm(at, row, rows as u32);
        e.mul_imm(at, at, rows as i64);
        e.sub(at, row, at);
        e.mul_imm(at, at, SINGLE as i64);
        e.add(at, at, counts);
        vec![at]
    }

    fn vector(&self, e: &mut dyn Emitter, run: &Run, at: &At<'_>, lanes: usize) {
        let sliding = &self.spec.sliding;
        let accumulators: Vec<V> = (0..run.width).map(|_| e.constant(self.spec.neutral())).collect();
        let ([input, output], element) = (at.pixels, sliding.element);
        let (x, larger) = (e.v(), e.v());
        for row in at.rows {
            let mut held = None;
            for (column, t, _) in sliding.taps(run) {
                if held != Some(column) {
                    e.load_f32(x, row.at(column * input), element, lanes);
                    held = Some(column);
                }
                let acc = accumulators[t];
                if self.spec.kind == Kind::Max {
                    // The accumulator wins if either is a NaN; then a NaN in `x` takes its place.
                    e.op(VOp::Max, Element::F32, larger, x, acc);
                    e.select(Element::F32, acc, Cmp::Unordered, [x, x], x, larger);
                } else {
                    e.op(VOp::Add, Element::F32, acc, acc, x);
                }
            }
        }
        [x, larger].into_iter().for_each(|v| e.free_v(v));
        if let Some(count) = at.fixed.first() {
            self.divide(e, run, *count, &accumulators);
        }
        for (t, acc) in accumulators.iter().enumerate() {
            e.store_f32(*acc, at.outputs[0].at((run.start + t) * output), element, lanes);
        }
        accumulators.into_iter().for_each(|v| e.free_v(v));
    }
}

impl Window<'_> {
    /// Divides each sum by its number of elements.
    fn divide(&self, e: &mut dyn Emitter, run: &Run, rows: R, sums: &[V]) {
        let (count, columns) = (e.v(), e.v());
        let mut held = None;
        for (t, sum) in sums.iter().enumerate() {
            let along = self.spec.count(1, run.start + t);
            if held != Some(along) {
                e.broadcast(count, rows.at(0));
                e.splat(columns, (along as f32).to_bits());
                e.op(VOp::Mul, Element::F32, count, count, columns);
                held = Some(along);
            }
            e.op(VOp::Div, Element::F32, *sum, *sum, count);
        }
        [count, columns].into_iter().for_each(|v| e.free_v(v));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    /// (batch, channels, input, kernel, strides, dilations, pads before and after)
    type Case = (usize, usize, [usize; 2], [usize; 2], [usize; 2], [usize; 2], [usize; 2]);

    const CASES: &[Case] = &[
        (1, 64, [16, 16], [3, 3], [2, 2], [1, 1], [1, 1]),
        (2, 3, [7, 9], [2, 2], [2, 2], [1, 1], [0, 0]),
        (1, 17, [1, 1], [3, 3], [1, 1], [1, 1], [1, 1]),
        (1, 20, [13, 30], [3, 5], [1, 2], [2, 1], [1, 2]),
        (1, 5, [9, 11], [2, 2], [3, 4], [1, 1], [0, 0]),
        // The last window of a row and of a column meets padding alone.
        (1, 6, [3, 3], [1, 1], [1, 1], [1, 1], [1, 1]),
    ];

    fn specs() -> impl Iterator<Item = Pool> {
        CASES.iter().flat_map(|(batch, channels, input, kernel, strides, dilations, pads)| {
            let extent = |i: usize| (input[i] + 2 * pads[i] - dilations[i] * (kernel[i] - 1) - 1) / strides[i] + 1;
            let sliding = Sliding {
                element: DType::F32,
                batch: *batch,
                channels: *channels,
                gaps: [0, 0],
                input: *input,
                output: [extent(0), extent(1)],
                kernel: *kernel,
                strides: *strides,
                dilations: *dilations,
                pads: *pads,
                transposed: false,
            };
            let padded = [0, 1].map(|i| input[i] + 2 * pads[i]);
            [Kind::Max, Kind::Average, Kind::AveragePadded(padded)].map(|kind| Pool { sliding: sliding.clone(), kind })
        })
    }

    fn operands(s: &Pool) -> Vec<Vec<f32>> {
        let row = s.sliding.row_len();
        let x = testing::values(1, s.sliding.input_len());
        let counts = (0..s.sliding.output[0]).map(|at| s.count(0, at) as f32).collect();
        let mut operands = vec![x, vec![s.neutral(); row], counts];
        operands.truncate(if s.kind == Kind::Max { 2 } else { 3 });
        operands
    }

    fn run(s: &Pool, operands: &[Vec<f32>]) -> Vec<f32> {
        let operands: Vec<&[f32]> = operands.iter().map(|o| &o[..]).collect();
        testing::run(s.clone(), &operands).remove(0)
    }

    /// The result by its definition, in the kernel's order and rounding.
    fn reference(pool: &Pool, x: &[f32]) -> Vec<f64> {
        let s = &pool.sliding;
        let value = |at: usize| {
            let (c, rest) = (at % s.channels, at / s.channels);
            let (ow, oh, n) = (rest % s.output[1], rest / s.output[1] % s.output[0], rest / s.output[1] / s.output[0]);
            let (mut value, mut count) = (pool.neutral(), 0);
            for tap in 0..s.kernel[0] * s.kernel[1] {
                let ih = (oh * s.strides[0] + tap / s.kernel[1] * s.dilations[0]).wrapping_sub(s.pads[0]);
                let iw = (ow * s.strides[1] + tap % s.kernel[1] * s.dilations[1]).wrapping_sub(s.pads[1]);
                count += usize::from(matches!(pool.kind, Kind::AveragePadded(_)));
                if ih < s.input[0] && iw < s.input[1] {
                    let v = x[((n * s.input[0] + ih) * s.input[1] + iw) * s.channels + c];
                    value = if pool.kind == Kind::Max { value.max(v) } else { value + v };
                    count += usize::from(pool.kind == Kind::Average);
                }
            }
            f64::from(if pool.kind == Kind::Max { value } else { value / count.max(1) as f32 })
        };
        (0..s.output_len()).map(value).collect()
    }

    #[test]
    fn agrees_with_the_definition_on_awkward_shapes() {
        testing::report(specs().map(|s| {
            let operands = operands(&s);
            // An infinite difference of equal infinities is no number.
            let finite = |v: &f64| v.clamp(-1e30, 1e30);
            let found: Vec<f32> = run(&s, &operands).into_iter().map(|v| v.clamp(-1e30, 1e30)).collect();
            let expected: Vec<f64> = reference(&s, &operands[0]).iter().map(finite).collect();
            testing::mismatch(&s.name(), &found, &expected, |i| if expected[i].abs() > 1e29 { 1e23 } else { 0.0 })
        }));
    }

    #[test]
    fn no_schedule_changes_a_bit() {
        testing::report(specs().map(|s| {
            let operands = operands(&s);
            let own = run(&s, &operands);
            let operands: Vec<&[f32]> = operands.iter().map(|o| &o[..]).collect();
            [(1, 16, 4), (3, 32, 8), (13, 64, 16)].into_iter().find_map(|(tile, block, lanes)| {
                let found = testing::interpret(&s, &Schedule { tile, block }, &operands, lanes).remove(0);
                (found != own).then(|| format!("{}: tile {tile}, block {block}, {lanes} lanes", s.name()))
            })
        }));
    }

    #[test]
    fn narrow_elements() {
        testing::report(specs().map(|s| {
            testing::narrow(|element| {
                let s = Pool { sliding: Sliding { element, ..s.sliding.clone() }, kind: s.kind };
                let operands = operands(&s);
                (s, operands)
            })
        }));
    }

    #[test]
    fn a_nan_wins() {
        let s = specs().next().map(|s| Pool { sliding: Sliding { channels: 1, ..s.sliding }, ..s });
        let s = s.expect("a case");
        for at in [0, 17, 40] {
            let mut operands = operands(&s);
            let plain = run(&s, &operands);
            operands[0][at] = f32::NAN;
            let y = run(&s, &operands);
            let reached = y.iter().filter(|v| v.is_nan()).count();
            let kept = plain.iter().zip(&y).filter(|(a, b)| a == b).count();
            assert!(reached > 0 && reached + kept == y.len(), "{at}: {y:?}");
        }
    }
}
