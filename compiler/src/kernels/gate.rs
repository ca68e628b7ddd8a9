//! Channel gate, channel-last: `y[n, p, c] = x[n, p, c] * gate[n, c]`.
//!
//! In: `x [N, pixels, C]` and `gate [N, C]`. Out: `y`, which may be the memory of `x`. Used where a gate has no consumer to be folded into.

use super::{Argument, Family, KernelName, LayerKind, Parts, work_units};
use crate::codegen::elements::SINGLE;
use crate::codegen::{Count, Element, Emitter, R, VOp};
use crate::target::{Cost, Machine, Target};
use fornax_ir::types::DType;

/// What a gate computes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Gate {
    /// Type of the elements of the map; those of the gate are `f32`.
    pub element: DType,
    /// Images.
    pub batch: usize,
    /// Pixels of an image.
    pub pixels: usize,
    /// Channels.
    pub channels: usize,
}

/// Vectors per turn of the inner loop.
const UNROLL: usize = 4;
/// Bytes that one work unit may cover.
const WORK: usize = Machine::NOMINAL.bytes_in(8_192);

/// How: pixels of one work unit.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Schedule {
    /// Pixels per work unit; divides the pixels of an image.
    pub pixels: usize,
}

schedule_text!(Schedule, "Schedule" { "pixels": pixels });

impl Family for Gate {
    type Schedule = Schedule;

    const WORDS: &'static [&'static str] = &["gate"];

    fn kind(_name: &KernelName) -> LayerKind {
        LayerKind::Gate
    }

    fn kernel_name(&self) -> KernelName {
        KernelName::new(self.element, "gate").shape(&[
            ('n', &[self.batch]),
            ('p', &[self.pixels]),
            ('c', &[self.channels]),
        ])
    }

    fn read(name: &Parts<'_>) -> Option<Self> {
        let (batch, pixels) = (name.one(0, 'n')?, name.one(0, 'p')?);
        Some(Self { element: name.element()?, batch, pixels, channels: name.one(0, 'c')? })
    }

    fn arguments(&self) -> Vec<Argument> {
        let (element, count) = (self.element, self.batch * self.pixels * self.channels);
        vec![
            Argument::read("x", element, count),
            Argument::read("gate", DType::F32, self.batch * self.channels),
            Argument::write("y", element, count).in_place_of(0),
        ]
    }

    /// The largest divisor of the pixels whose work unit is no longer than `WORK`.
    fn schedule(&self, _target: &Target) -> Schedule {
        let most = (WORK / self.element.size() / self.channels.max(1)).clamp(1, self.pixels.max(1));
        let pixels = (1..=most).rev().find(|p| self.pixels.is_multiple_of(*p)).unwrap_or(1);
        Schedule { pixels }
    }

    fn chunks(&self, schedule: &Schedule) -> u32 {
        if self.channels == 0 { 0 } else { work_units(self.batch * self.pixels / schedule.pixels) }
    }

    fn flops(&self) -> u64 {
        (self.batch * self.pixels * self.channels) as u64
    }

    /// Where the result takes over the memory of the map, as it does in networks.
    fn cost(&self, _schedule: &Schedule, machine: &Machine) -> Cost {
        let map = self.element.size() * self.batch * self.pixels * self.channels;
        Cost { footprint: map as f64, ..Cost::of(self.flops(), self.bytes(), machine) }
    }

    fn emit(&self, schedule: &Schedule, e: &mut dyn Emitter) {
        let size = self.element.size();
        let [x, gate, y] = [0, 1, 2].map(|i| e.pointer(i));
        let (chunk, count) = (e.r(), e.r());
        e.begin(chunk);
        e.end(count);
        e.sub(count, count, chunk);
        e.repeat(Count::Register(count), &mut |e| {
            let (from, to, gates) = (e.r(), e.r(), e.r());
            e.div_imm(gates, chunk, (self.pixels / schedule.pixels) as u32);
            e.mul_imm(gates, gates, (self.channels * SINGLE) as i64);
            e.add(gates, gates, gate);
            e.mul_imm(from, chunk, (schedule.pixels * self.channels * size) as i64);
            e.add(to, from, y);
            e.add(from, from, x);
            e.repeat(Count::Times(schedule.pixels as u32), &mut |e| self.pixel(e, from, to, gates));
            [from, to, gates].into_iter().for_each(|r| e.free_r(r));
            e.add_imm(chunk, chunk, 1);
        });
    }
}

impl Gate {
    /// One pixel; `from` and `to` move on to the next.
    fn pixel(&self, e: &mut dyn Emitter, from: R, to: R, gates: R) {
        let (lanes, size) = (e.lanes(Element::F32), self.element.size());
        let (gate, turn) = (e.r(), UNROLL * lanes);
        e.copy(gate, gates);
        e.repeat(Count::Times((self.channels / turn) as u32), &mut |e| {
            self.multiply(e, [from, gate, to], turn);
            for (r, size) in [(from, size), (gate, SINGLE), (to, size)] {
                e.add_imm(r, r, (turn * size) as i64);
            }
        });
        let rest = self.channels % turn;
        self.multiply(e, [from, gate, to], rest);
        [from, to].into_iter().for_each(|r| e.add_imm(r, r, (rest * size) as i64));
        e.free_r(gate);
    }

    /// `to = from * gate` for `count` elements.
    fn multiply(&self, e: &mut dyn Emitter, [from, gate, to]: [R; 3], count: usize) {
        let (lanes, g, v) = (e.lanes(Element::F32), e.v(), e.v());
        for first in (0..count).step_by(lanes) {
            let (n, offset) = (lanes.min(count - first), first * self.element.size());
            e.load_f32(v, from.at(offset), self.element, n);
            e.load(g, gate.at(first * SINGLE), n);
            e.op(VOp::Mul, Element::F32, v, v, g);
            e.store_f32(v, to.at(offset), self.element, n);
        }
        [g, v].into_iter().for_each(|v| e.free_v(v));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn multiplies_every_pixel() {
        let cases = [(1, 49, 1152), (2, 1, 3), (3, 6, 17), (1, 1, 1)];
        testing::report(cases.into_iter().map(|(batch, pixels, channels)| {
            let s = Gate { element: DType::F32, batch, pixels, channels };
            let x = testing::values(1, batch * pixels * channels);
            let gate = testing::values(2, batch * channels);
            let expected: Vec<f64> = (0..x.len())
                .map(|i| f64::from(x[i] * gate[i / (pixels * channels) * channels + i % channels]))
                .collect();
            let found = testing::run(s.clone(), &[&x, &gate]);
            assert_eq!(testing::interpret(&s, &Schedule { pixels: 1 }, &[&x, &gate], 16), found, "{}", s.name());
            testing::mismatch(&s.name(), &found[0], &expected, |_| 0.0)
        }));
    }

    #[test]
    fn narrow_elements() {
        testing::report([(2, 5, 67), (1, 49, 16), (3, 1, 3)].into_iter().map(|(batch, pixels, channels)| {
            testing::narrow(|element| {
                let operands = [batch * pixels * channels, batch * channels];
                let operands = operands.iter().zip(1..).map(|(n, seed)| testing::values(seed, *n)).collect();
                (Gate { element, batch, pixels, channels }, operands)
            })
        }));
    }
}
