//! Mean over the pixels of a channel-last map: global average pooling, and the squeeze of squeeze-and-excite from row sums.
//!
//! In: `x [N, rows, columns, C]`. Out: `y [N, C]`. Each row is summed by column from 0, the sums are added by row from 0 (long sums as [`sums`] does), and the total
//! is divided by `count`. Row sums that another kernel wrote are a map of one column.

use super::{Argument, Family, KernelName, LayerKind, Parts, advance, sums, work_units};
use crate::codegen::{Count, Element, Emitter, R, VOp};
use crate::target::{Machine, Target};
use fornax_ir::types::DType;

/// What a mean computes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Mean {
    /// Type of the elements of `y`, and of `x` unless that is row sums.
    pub element: DType,
    /// Type of the elements of `x`: `f32` for row sums, else as `y` or narrower.
    pub input: DType,
    /// Images.
    pub batch: usize,
    /// Rows of the map.
    pub rows: usize,
    /// Columns of the map.
    pub columns: usize,
    /// Channels.
    pub channels: usize,
    /// What the total is divided by: the number of pixels behind it.
    pub count: usize,
}

/// How: blocks of channels per work unit.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Schedule {
    /// Blocks of one work unit; divides the blocks of an image.
    pub blocks: usize,
}

/// Channels of a block.
const BLOCK: usize = 64;
/// Bytes that pay for claiming a work unit.
const WORK: usize = Machine::NOMINAL.bytes_in(8_192);

schedule_text!(Schedule, "Schedule" { "blocks": blocks });

impl Family for Mean {
    type Schedule = Schedule;

    const WORDS: &'static [&'static str] = &["mean"];

    fn kind(_name: &KernelName) -> LayerKind {
        LayerKind::Mean
    }

    fn kernel_name(&self) -> KernelName {
        let extents: &[(char, &[usize])] =
            &[('n', &[self.batch]), ('h', &[self.rows]), ('w', &[self.columns]), ('c', &[self.channels])];
        let name = KernelName::new(self.element, "mean").shape(extents).word(format!("over{}", self.count));
        match self.input {
            input if input == self.element => name,
            DType::F32 => name.word("sums"),
            input => name.word(format!("of{input}")),
        }
    }

    fn read(name: &Parts<'_>) -> Option<Self> {
        let (element, count) = (name.element()?, name.words.first()?.strip_prefix("over")?.parse().ok()?);
        let narrow = || [DType::F16, DType::BF16].into_iter().find(|input| name.has(&format!("of{input}")));
        let input = if name.has("sums") { DType::F32 } else { narrow().unwrap_or(element) };
        let (batch, channels) = (name.one(0, 'n')?, name.one(0, 'c')?);
        Some(Self { element, input, batch, rows: name.one(0, 'h')?, columns: name.one(0, 'w')?, channels, count })
    }

    fn arguments(&self) -> Vec<Argument> {
        let outputs = self.batch * self.channels;
        let inputs = outputs * self.rows * self.columns;
        vec![Argument::read("x", self.input, inputs), Argument::write("y", self.element, outputs)]
    }

    fn schedule(&self, _target: &Target) -> Schedule {
        let blocks = self.channels.div_ceil(BLOCK).max(1);
        let most = (WORK / self.input.size() / (self.rows * self.columns * BLOCK).max(1)).clamp(1, blocks);
        Schedule { blocks: (1..=most).rev().find(|n| blocks.is_multiple_of(*n)).unwrap_or(1) }
    }

    fn chunks(&self, schedule: &Schedule) -> u32 {
        work_units(self.batch * self.channels.div_ceil(BLOCK) / schedule.blocks)
    }

    fn flops(&self) -> u64 {
        (self.batch * self.channels * (self.rows * self.columns + 1)) as u64
    }

    fn emit(&self, schedule: &Schedule, e: &mut dyn Emitter) {
        let [from_size, to_size] = [self.input, self.element].map(DType::size);
        let (x, y) = (e.pointer(0), e.pointer(1));
        let blocks = self.channels.div_ceil(BLOCK);
        let (unit, count, last) = (e.r(), e.r(), e.r());
        e.begin(unit);
        e.mul_imm(unit, unit, schedule.blocks as i64);
        e.end(count);
        e.mul_imm(count, count, schedule.blocks as i64);
        e.sub(count, count, unit);
        e.repeat(Count::Register(count), &mut |e| {
            let (image, block, from, to) = (e.r(), e.r(), e.r(), e.r());
            e.div_imm(image, unit, blocks as u32);
            e.mul_imm(block, image, blocks as i64);
            e.sub(block, unit, block);
            e.mul_imm(from, image, (self.rows * self.columns * self.channels * from_size) as i64);
            e.add(from, from, x);
            e.mul_imm(to, image, (self.channels * to_size) as i64);
            e.add(to, to, y);
            advance(e, image, (block, BLOCK), &[(from, from_size), (to, to_size)]);
            let tail = self.channels - (blocks - 1) * BLOCK;
            e.set(last, blocks as i64 - 1);
            if blocks > 1 {
                e.if_less(block, last, &mut |e| self.block(e, from, to, BLOCK));
            }
            e.add_imm(last, last, -1);
            e.if_less(last, block, &mut |e| self.block(e, from, to, tail));
            [image, block, from, to].into_iter().for_each(|r| e.free_r(r));
            e.add_imm(unit, unit, 1);
        });
    }
}

impl Mean {
    /// `channels` channels from `from`, in passes of as many vectors as keep their two sums in registers.
    fn block(&self, e: &mut dyn Emitter, from: R, to: R, channels: usize) {
        let lanes = e.lanes(Element::F32);
        let mut done = 0;
        while done < channels {
            let vectors = 4.min((channels - done).div_ceil(lanes));
            let pass = (channels - done).min(vectors * lanes);
            self.pass(e, from, to, done, pass);
            done += pass;
        }
    }

    fn pass(&self, e: &mut dyn Emitter, from: R, to: R, first: usize, channels: usize) {
        let lanes = e.lanes(Element::F32);
        let parts: Vec<(usize, usize)> =
            (0..channels.div_ceil(lanes)).map(|i| (first + i * lanes, lanes.min(channels - i * lanes))).collect();
        let totals: Vec<_> = parts.iter().map(|_| e.constant(0.0)).collect();
        let at = e.r();
        e.copy(at, from);
        sums::sum(e, self.rows, 1, &totals, &mut |e, totals| {
            let sums: Vec<_> = parts.iter().map(|_| e.constant(0.0)).collect();
            sums::sum(e, self.columns, 1, &sums, &mut |e, sums| {
                let v = e.v();
                for ((first, n), sum) in parts.iter().zip(sums) {
                    e.load_f32(v, at.at(first * self.input.size()), self.input, *n);
                    e.op(VOp::Add, Element::F32, *sum, *sum, v);
                }
                e.free_v(v);
                e.add_imm(at, at, (self.channels * self.input.size()) as i64);
            });
            for (total, sum) in totals.iter().zip(sums) {
                e.op(VOp::Add, Element::F32, *total, *total, sum);
                e.free_v(sum);
            }
        });
        let count = e.constant(self.count as f32);
        for ((first, n), total) in parts.iter().zip(totals) {
            e.op(VOp::Div, Element::F32, total, total, count);
            e.store_f32(total, to.at(first * self.element.size()), self.element, *n);
            e.free_v(total);
        }
        e.free_v(count);
        e.free_r(at);
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    fn spec(element: DType, input: DType, [batch, rows, columns, channels]: [usize; 4]) -> Mean {
        Mean { element, input, batch, rows, columns, channels, count: rows * columns }
    }

    #[test]
    fn narrow_elements() {
        let shapes = [[1, 7, 7, 70], [2, 3, 1, 17], [3, 1, 5, 3]];
        testing::report(shapes.into_iter().flat_map(|shape| [false, true].map(|sums| (shape, sums))).map(
            |(shape, sums)| {
                testing::narrow(|element| {
                    let x = testing::values(1, shape.iter().product());
                    (spec(element, if sums { DType::F32 } else { element }, shape), vec![x])
                })
            },
        ));
    }

    #[test]
    fn long_sums_stay_within_their_bound() {
        const LONG: usize = 1 << 20;
        let shapes = [[1, 1, LONG, 5], [1, LONG, 1, 5], [2, 1500, 700, 1]];
        testing::report(shapes.into_iter().map(|shape| {
            let s = spec(DType::F32, DType::F32, shape);
            let found = testing::run(s.clone(), &[&vec![0.1; shape.iter().product()]]).swap_remove(0);
            testing::mismatch(&s.name(), &found, &vec![f64::from(0.1f32); found.len()], |_| 1e-5)
        }));
    }

    /// The mean of one element of another type is its conversion; zeros lose their sign in a sum.
    #[test]
    fn conversions_are_those_of_the_interpreter_on_every_machine() {
        let mut numbers: Vec<f32> = (0..1 << 16).step_by(5).map(|bits| f32::from_bits(bits << 16 | bits)).collect();
        // Half-way between two elements of each type, and close to that; subnormal elements; the largest, and above.
        numbers.extend((0..40).flat_map(|i| [1, 3, 5].map(|odd| odd as f32 * 2f32.powi(-i))));
        let near = |bits: u32| [0, 1, 2].map(|by| f32::from_bits(bits + by - 1));
        numbers.extend(
            (0x33..0x48).flat_map(|top| [0x8000, 0x1_8000, 0x1000, 0x3000].map(|low| near(top << 24 | low))).flatten(),
        );
        numbers.extend([65_519.0, 65_520.0, 1e30, f32::MAX, f32::INFINITY, f32::NAN].into_iter().flat_map(|v| [v, -v]));
        for element in testing::NARROW {
            let plain = |v: Vec<f32>| {
                v.iter().map(|v| if v.is_nan() { None } else { Some((v + 0.0).to_bits()) }).collect::<Vec<_>>()
            };
            // Subnormal numbers are zero where elements are `bf16`.
            let flushes = |v: &f32| element == DType::BF16 && v.is_subnormal();
            let kept: Vec<f32> = numbers.iter().map(|v| if flushes(v) { 0.0 } else { *v }).collect();
            let rounded = testing::rounded(element, &kept);
            let narrowed = testing::run(spec(element, DType::F32, [1, 1, 1, numbers.len()]), &[&numbers]).remove(0);
            assert!(plain(narrowed) == plain(rounded.clone()), "{element} from f32");
            let widened = testing::run(spec(DType::F32, element, [1, 1, 1, numbers.len()]), &[&rounded]).remove(0);
            assert!(plain(widened) == plain(rounded), "f32 from {element}");
        }
    }

    #[test]
    fn divides_the_sum_of_row_sums() {
        let cases = [(1, 7, 7, 1280), (2, 3, 1, 17), (1, 1, 1, 1), (3, 5, 4, 65), (1, 14, 1, 130)];
        testing::report(cases.into_iter().map(|(batch, rows, columns, channels)| {
            let s = spec(DType::F32, DType::F32, [batch, rows, columns, channels]);
            let x = testing::values(1, batch * rows * columns * channels);
            let expected: Vec<f64> = (0..batch * channels)
                .map(|i| {
                    let row = |r: usize| {
                        (0..columns).fold(0f32, |sum, t| {
                            sum + x[((i / channels * rows + r) * columns + t) * channels + i % channels]
                        })
                    };
                    f64::from((0..rows).map(row).fold(0f32, |sum, row| sum + row) / s.count as f32)
                })
                .collect();
            testing::mismatch(&s.name(), &testing::run(s.clone(), &[&x])[0], &expected, |_| 0.0)
        }));
    }

    #[test]
    fn no_schedule_changes_a_bit() {
        let cases = [(1, 3, 4, 200), (2, 2, 1, 128), (3, 1, 5, 3)];
        testing::report(cases.into_iter().map(|(batch, rows, columns, channels)| {
            let s = spec(DType::F32, DType::F32, [batch, rows, columns, channels]);
            let x = testing::values(1, batch * rows * columns * channels);
            let own = testing::run(s.clone(), &[&x]);
            let all = channels.div_ceil(BLOCK);
            [(1, 4), (all, 8), (1, 16)].into_iter().find_map(|(blocks, lanes)| {
                let found = testing::interpret(&s, &Schedule { blocks }, &[&x], lanes);
                (found != own).then(|| format!("{}: {blocks} blocks, {lanes} lanes", s.name()))
            })
        }));
    }
}
