//! A squeeze-and-excite gate on the weights of the 1x1 convolution after it: `y[m, k] = w[m, k] * gate[k]`.
//!
//! In: weights as [`super::Conv::weight_packing`] orders them, for each image one gate per input channel. Out: weights in the same order, a
//! set for each image. Cheaper than a pass
//! over the activations where there are more pixels than output channels; rounds in another place, so it is a choice of the plan.

use super::conv::{PANEL, padded, width};
use super::{Argument, Family, KernelName, LayerKind, Parts, work_units};
use crate::codegen::{Count, Element, Emitter, R, VOp};
use crate::target::{Machine, Target};
use fornax_ir::types::DType;

/// A gate over packed 1x1 weights.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ScaleWeights {
    /// Type of the elements of weights and gates.
    pub element: DType,
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

/// Bytes of weights that one work unit may cover.
const WORK: usize = Machine::NOMINAL.bytes_in(8_192);

schedule_text!(Schedule, "Schedule" { "panels": panels });

impl Family for ScaleWeights {
    type Schedule = Schedule;

    const WORDS: &'static [&'static str] = &["scale_weights"];

    fn kind(_name: &KernelName) -> LayerKind {
        LayerKind::Gate
    }

    fn kernel_name(&self) -> KernelName {
        KernelName::new(self.element, "scale_weights").shape(&[
            ('n', &[self.batch]),
            ('c', &[self.channels]),
            ('m', &[self.filters]),
        ])
    }

    fn read(name: &Parts<'_>) -> Option<Self> {
        let (batch, filters) = (name.one(0, 'n')?, name.one(0, 'm')?);
        Some(Self { element: name.element()?, batch, filters, channels: name.one(0, 'c')? })
    }

    fn arguments(&self) -> Vec<Argument> {
        let (element, weights) = (self.element, padded(self.filters) * self.channels);
        vec![
            Argument::read("weights", element, weights),
            Argument::read("gate", element, self.batch * self.channels),
            Argument::write("y", element, self.batch * weights),
        ]
    }

    /// A work unit is as long as `WORK`, or one panel.
    fn schedule(&self, _target: &Target) -> Schedule {
        Schedule { panels: (WORK / self.element.size() / PANEL / self.channels.max(1)).max(1) }
    }

    fn chunks(&self, schedule: &Schedule) -> u32 {
        if self.batch * self.channels == 0 { 0 } else { work_units(self.panels().div_ceil(schedule.panels)) }
    }

    fn flops(&self) -> u64 {
        (self.batch * padded(self.filters) * self.channels) as u64
    }

    fn emit(&self, schedule: &Schedule, e: &mut dyn Emitter) {
        let size = self.element.size();
        let [w, gate, y] = [0, 1, 2].map(|i| e.pointer(i));
        let (first, count, last) = (e.r(), e.r(), e.r());
        e.begin(first);
        e.mul_imm(first, first, schedule.panels as i64);
        e.end(count);
        e.mul_imm(count, count, schedule.panels as i64);
        e.set(last, self.panels() as i64);
        e.min(count, count, last);
        e.sub(count, count, first);
        e.mul_imm(first, first, (size * width(self.filters) * self.channels) as i64);
        e.add(w, w, first);
        e.add(y, y, first);
        let (from, to) = (e.r(), e.r());
        e.repeat(Count::Times(self.batch as u32), &mut |e| {
            e.copy(from, w);
            e.copy(to, y);
            e.repeat(Count::Register(count), &mut |e| self.panel(e, [from, gate, to]));
            e.add_imm(gate, gate, (size * self.channels) as i64);
            e.add_imm(y, y, (size * padded(self.filters) * self.channels) as i64);
        });
    }
}

impl ScaleWeights {
    fn panels(&self) -> usize {
        padded(self.filters) / width(self.filters)
    }

    /// One panel; `w` and `y` move on after it.
    fn panel(&self, e: &mut dyn Emitter, [w, gate, y]: [R; 3]) {
        let (at, scale, value, lanes) = (e.r(), e.v(), e.v(), e.lanes(Element::F32));
        let (width, element, size) = (width(self.filters), self.element, self.element.size());
        e.copy(at, gate);
        e.repeat(Count::Times(self.channels as u32), &mut |e| {
            e.broadcast_f32(scale, at.at(0), element);
            for column in (0..width).step_by(lanes) {
                e.load_f32(value, w.at(size * column), element, width - column);
                e.op(VOp::Mul, Element::F32, value, value, scale);
                e.store_f32(value, y.at(size * column), element, width - column);
            }
            e.add_imm(at, at, size as i64);
            e.add_imm(w, w, (size * width) as i64);
            e.add_imm(y, y, (size * width) as i64);
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
    use crate::kernels::testing::{narrow, packed, report, run, run_interpreted, values};

    #[test]
    fn narrow_elements() {
        report([(1, 1, 1), (2, 8, 3), (3, 24, 96), (2, 33, 2)].into_iter().map(|(batch, filters, channels)| {
            narrow(|element| {
                let spec = ScaleWeights { element, batch, filters, channels };
                (spec, vec![values(1, padded(filters) * channels), values(2, batch * channels)])
            })
        }));
    }

    #[test]
    fn every_weight_meets_the_gate_of_its_channel() {
        for (batch, filters, channels) in [(1, 1, 1), (2, 8, 3), (1, 16, 5), (3, 24, 96), (1, 40, 1100), (2, 33, 2)] {
            let spec = ScaleWeights { element: DType::F32, batch, filters, channels };
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
