//! A squeeze-and-excite gate on the weights of the 1x1 convolution behind it: `y[m, k] = w[m, k] * gate[k]`.
//!
//! In: weights as [`super::Conv::weight_packing`] orders them, for each image one gate per input channel. Out: weights in the same order, a
//! set for each image. Cheaper than a pass
//! over the activations where there are more pixels than output channels; rounds in another place, so it is a choice of the plan.

use super::conv::{PANEL, padded, width};
use super::{Argument, Family, KernelName, LayerKind};
use crate::codegen::{Count, Element, Emitter, R, VOp};
use crate::target::{Machine, Target};
use fornax_ir::types::DType;

/// A gate over packed 1x1 weights.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ScaleWeights {
    /// Images: gates and sets of weights.
    pub batch: usize,
    /// Output channels.
    pub filters: usize,
    /// Input channels: one gate each.
    pub channels: usize,
}

/// Panels per chunk.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Schedule {
    /// Panels of one work unit.
    pub panels: usize,
}

/// Weights that one work unit may cover.
const WORK: usize = Machine::NOMINAL.bytes_in(8_192) / 4;

schedule_text!(Schedule, "Schedule" { "panels": panels });

impl Family for ScaleWeights {
    type Schedule = Schedule;

    const WORDS: &'static [&'static str] = &["scale_weights"];

    fn kind(_name: &KernelName) -> LayerKind {
        LayerKind::Gate
    }

    fn kernel_name(&self) -> KernelName {
        KernelName::new(DType::F32, "scale_weights").shape(&[
            ('n', &[self.batch]),
            ('c', &[self.channels]),
            ('m', &[self.filters]),
        ])
    }

    fn arguments(&self) -> Vec<Argument> {
        let weights = padded(self.filters) * self.channels * 4;
        vec![
            Argument::read("weights", weights),
            Argument::read("gate", self.batch * self.channels * 4),
            Argument::write("y", self.batch * weights),
        ]
    }

    /// A work unit is as long as `WORK`, or one panel.
    fn schedule(&self, _target: &Target) -> Schedule {
        Schedule { panels: (WORK / PANEL / self.channels.max(1)).max(1) }
    }

    fn chunks(&self, schedule: &Schedule) -> u32 {
        if self.batch * self.channels == 0 { 0 } else { self.panels().div_ceil(schedule.panels) as u32 }
    }

    fn flops(&self) -> u64 {
        (self.batch * padded(self.filters) * self.channels) as u64
    }

    fn emit(&self, schedule: &Schedule, e: &mut dyn Emitter) {
        let [w, gate, y] = [0, 1, 2].map(|i| e.pointer(i));
        let (first, count, last) = (e.r(), e.r(), e.r());
        e.begin(first);
        e.mul_imm(first, first, schedule.panels as i64);
        e.end(count);
        e.mul_imm(count, count, schedule.panels as i64);
        e.set(last, self.panels() as i64);
        e.min(count, count, last);
        e.sub(count, count, first);
        e.mul_imm(first, first, (4 * width(self.filters) * self.channels) as i64);
        e.add(w, w, first);
        e.add(y, y, first);
        let (from, to) = (e.r(), e.r());
        e.repeat(Count::Times(self.batch as u32), &mut |e| {
            e.copy(from, w);
            e.copy(to, y);
            e.repeat(Count::Register(count), &mut |e| self.panel(e, [from, gate, to]));
            e.add_imm(gate, gate, (4 * self.channels) as i64);
            e.add_imm(y, y, (4 * padded(self.filters) * self.channels) as i64);
        });
    }
}

impl ScaleWeights {
    fn panels(&self) -> usize {
        padded(self.filters) / width(self.filters)
    }

    /// One panel; `w` and `y` move on behind it.
    fn panel(&self, e: &mut dyn Emitter, [w, gate, y]: [R; 3]) {
        let (at, scale, value, lanes) = (e.r(), e.v(), e.v(), e.lanes(Element::F32));
        let width = width(self.filters);
        e.copy(at, gate);
        e.repeat(Count::Times(self.channels as u32), &mut |e| {
            e.broadcast(scale, at.at(0));
            for column in (0..width).step_by(lanes) {
                e.load(value, w.at(4 * column as i32), width - column);
                e.op(VOp::Mul, Element::F32, value, value, scale);
                e.store(value, y.at(4 * column as i32), width - column);
            }
            e.add_imm(at, at, 4);
            e.add_imm(w, w, 4 * width as i64);
            e.add_imm(y, y, 4 * width as i64);
        });
        e.free_r(at);
        e.free_v(scale);
        e.free_v(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::epilogue::Epilogue;
    use crate::kernels::Conv;
    use crate::kernels::testing::{packed, run, run_interpreted, values};

    #[test]
    fn every_weight_meets_the_gate_of_its_channel() {
        for (batch, filters, channels) in [(1, 1, 1), (2, 8, 3), (1, 16, 5), (3, 24, 96), (1, 40, 1100), (2, 33, 2)] {
            let spec = ScaleWeights { batch, filters, channels };
            let (weights, gates) = (values(1, filters * channels), values(2, batch * channels));
            let conv = Conv::pointwise(1, channels, filters, Epilogue::default());
            let packed = |w: &[f32]| packed(&conv.weight_packing(), w);
            let scaled = |gate: &[f32]| {
                packed(&weights.iter().zip(gate.iter().cycle()).map(|(w, g)| w * g).collect::<Vec<f32>>())
            };
            let expected: Vec<f32> = gates.chunks_exact(channels).flat_map(scaled).collect();
            let inputs: [&[f32]; 2] = [&packed(&weights), &gates];
            assert_eq!(run(spec.clone(), &inputs)[0], expected, "{}", spec.name());
            assert_eq!(run_interpreted(spec.clone(), &inputs, 16)[0], expected, "{}", spec.name());
        }
    }
}
