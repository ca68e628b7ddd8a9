//! Channel gate, channel-last: `y[n, p, c] = x[n, p, c] * gate[n, c]`.
//!
//! In: `x [N, pixels, C]` and `gate [N, C]`. Out: `y`, which may be the memory of `x`. Used where a gate has no consumer to be folded into.

use super::{Argument, Family};
use crate::codegen::{Count, Emitter, Lane, R, VOp};
use crate::target::Target;

/// What a gate computes.
#[derive(Clone, PartialEq, Debug)]
pub struct Gate {
    /// Images.
    pub batch: usize,
    /// Pixels of an image.
    pub pixels: usize,
    /// Channels.
    pub channels: usize,
}

/// How: pixels of one work unit.
#[derive(Clone, PartialEq, Debug)]
pub struct Schedule {
    /// Pixels per work unit; divides the pixels of an image.
    pub pixels: usize,
}

impl Family for Gate {
    type Schedule = Schedule;

    fn name(&self) -> String {
        format!("f32_gate_n{}p{}c{}", self.batch, self.pixels, self.channels)
    }

    fn arguments(&self) -> Vec<Argument> {
        let bytes = self.batch * self.pixels * self.channels * 4;
        vec![
            Argument::read("x", bytes),
            Argument::read("gate", self.batch * self.channels * 4),
            Argument::write("y", bytes).in_place_of(0),
        ]
    }

    /// The largest divisor of the pixels whose work unit moves at most 64 KB.
    fn schedule(&self, _target: &Target) -> Schedule {
        let most = (16384 / self.channels.max(1)).clamp(1, self.pixels.max(1));
        let pixels = (1..=most).rev().find(|p| self.pixels.is_multiple_of(*p)).unwrap_or(1);
        Schedule { pixels }
    }

    fn chunks(&self, schedule: &Schedule) -> u32 {
        if self.channels == 0 { 0 } else { (self.batch * self.pixels / schedule.pixels) as u32 }
    }

    fn flops(&self) -> u64 {
        (self.batch * self.pixels * self.channels) as u64
    }

    fn emit(&self, schedule: &Schedule, e: &mut dyn Emitter) {
        let [x, gate, y] = [0, 1, 2].map(|i| e.pointer(i));
        let (chunk, count) = (e.r(), e.r());
        e.begin(chunk);
        e.end(count);
        e.sub(count, count, chunk);
        let lanes = e.lanes();
        e.repeat(Count::Register(count), &mut |e| {
            let (from, to, gates) = (e.r(), e.r(), e.r());
            e.div_imm(gates, chunk, (self.pixels / schedule.pixels) as u32);
            e.mul_imm(gates, gates, (self.channels * 4) as i64);
            e.add(gates, gates, gate);
            e.mul_imm(from, chunk, (schedule.pixels * self.channels * 4) as i64);
            e.add(to, from, y);
            e.add(from, from, x);
            let full = self.channels / lanes;
            if full > 0 {
                e.repeat(Count::Times(full as u32), &mut |e| {
                    self.column(e, schedule, [from, gates, to], lanes);
                    [from, to, gates].into_iter().for_each(|r| e.add_imm(r, r, (lanes * 4) as i64));
                });
            }
            if !self.channels.is_multiple_of(lanes) {
                self.column(e, schedule, [from, gates, to], self.channels % lanes);
            }
            [from, to, gates].into_iter().for_each(|r| e.free_r(r));
            e.add_imm(chunk, chunk, 1);
        });
    }
}

impl Gate {
    /// One vector of channels of every pixel of a work unit.
    fn column(&self, e: &mut dyn Emitter, schedule: &Schedule, [from, gates, to]: [R; 3], lanes: usize) {
        let (g, v, read, write) = (e.v(), e.v(), e.r(), e.r());
        e.load(g, gates.at(0), lanes);
        e.copy(read, from);
        e.copy(write, to);
        e.repeat(Count::Times(schedule.pixels as u32), &mut |e| {
            e.load(v, read.at(0), lanes);
            e.op(VOp::Mul, Lane::F32, v, v, g);
            e.store(v, write.at(0), lanes);
            e.add_imm(read, read, (self.channels * 4) as i64);
            e.add_imm(write, write, (self.channels * 4) as i64);
        });
        [g, v].into_iter().for_each(|v| e.free_v(v));
        [read, write].into_iter().for_each(|r| e.free_r(r));
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
            let s = Gate { batch, pixels, channels };
            let x = testing::values(1, batch * pixels * channels);
            let gate = testing::values(2, batch * channels);
            let expected: Vec<f64> = (0..x.len())
                .map(|i| f64::from(x[i] * gate[i / (pixels * channels) * channels + i % channels]))
                .collect();
            testing::mismatch(&s.name(), &testing::run(s.clone(), &[&x, &gate])[0], &expected, |_| 0.0)
        }));
    }
}
