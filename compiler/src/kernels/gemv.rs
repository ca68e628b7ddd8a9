//! Matrix-vector product: `y = activation(x w + bias)` for a few rows `x`; squeeze-and-excite's projections and the classifier.
//!
//! In: `x [rows, K]`, weights in panels `[N / 32][K][32]`, the last one zero-filled, bias `[N rounded up to 32]`. Out: `y [rows, N]`.
//! Each output starts from the bias and adds its products by input, ascending, by FMA. A work unit is some panels for all rows, so
//! every weight is read once: the kernel runs at the bandwidth of the memory that the weights are in.

use super::parts::function;
use super::{Argument, Family, KernelName, LayerKind, Parts, packing, work_units};
use crate::codegen::elements::SINGLE;
use crate::codegen::epilogue::{Epilogue, Maps, Output};
use crate::codegen::{Count, Element, Emitter, R, V};
use crate::target::{Machine, Target};
use fornax_ir::scalar::UnaryFn;
use fornax_ir::types::DType;
use fornax_runtime::packing::Packing;

/// What a matrix-vector product computes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Gemv {
    /// Type of the elements of `x` and `y`.
    pub element: DType,
    /// Type of the weights: that, or `bf16`, which moves half as many bytes.
    pub weights: DType,
    /// Rows of `x` and `y`.
    pub rows: usize,
    /// Inputs of each output.
    pub inputs: usize,
    /// Outputs of each row.
    pub outputs: usize,
    /// Activation.
    pub activation: Option<UnaryFn>,
}

/// How: inputs per step of the inner loop, and panels per work unit.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Schedule {
    /// Unrolled inputs.
    pub unroll: usize,
    /// Panels of one work unit.
    pub panels: usize,
}

/// Bytes of weights that pay for claiming a work unit.
const WORK: usize = Machine::NOMINAL.bytes_in(16_384);

impl Gemv {
    /// Outputs of one panel.
    pub const PANEL: usize = 32;

    /// Elements of the packed weights.
    pub fn weight_len(&self) -> usize {
        self.outputs.div_ceil(Self::PANEL) * self.inputs * Self::PANEL
    }

    /// Floats of the packed bias.
    pub fn bias_len(&self) -> usize {
        self.outputs.next_multiple_of(Self::PANEL)
    }

    /// How a matrix `[N, K]` (`by_output`) or `[K, N]` is packed.
    pub fn weight_packing(&self, by_output: bool, factor: f32) -> Packing {
        packing::panels([self.inputs, self.outputs], by_output, factor, Self::PANEL)
    }

    fn epilogue(&self) -> Epilogue {
        Epilogue::new(self.activation, false, false)
    }
}

schedule_text!(Schedule, "Schedule" { "unroll": unroll, "panels": panels });

impl Family for Gemv {
    type Schedule = Schedule;

    const WORDS: &'static [&'static str] = &["gemv"];

    fn kind(_name: &KernelName) -> LayerKind {
        LayerKind::Gemv
    }

    fn kernel_name(&self) -> KernelName {
        KernelName::new(self.element, "gemv")
            .shape(&[('m', &[self.rows]), ('k', &[self.inputs]), ('n', &[self.outputs])])
            .word_if(self.weights != self.element, "narrow")
            .bias(&self.epilogue())
    }

    fn read(name: &Parts<'_>) -> Option<Self> {
        let (rows, inputs, outputs) = (name.one(0, 'm')?, name.one(0, 'k')?, name.one(0, 'n')?);
        let element = name.element()?;
        let weights = if name.has("narrow") { DType::BF16 } else { element };
        Some(Self { element, weights, rows, inputs, outputs, activation: function(name.epilogues.first()?) })
    }

    fn arguments(&self) -> Vec<Argument> {
        vec![
            Argument::read("x", self.element, self.rows * self.inputs),
            Argument::read("weights", self.weights, self.weight_len()),
            Argument::read("bias", DType::F32, self.bias_len()),
            Argument::write("y", self.element, self.rows * self.outputs),
        ]
    }

    fn schedule(&self, _target: &Target) -> Schedule {
        let panel = self.rows * self.inputs * Self::PANEL;
        Schedule { unroll: 4.min(self.inputs.max(1)), panels: (WORK / self.weights.size()).div_ceil(panel.max(1)) }
    }

    fn chunks(&self, schedule: &Schedule) -> u32 {
        if self.rows == 0 { 0 } else { work_units(self.outputs.div_ceil(Self::PANEL).div_ceil(schedule.panels)) }
    }

    fn flops(&self) -> u64 {
        2 * (self.rows * self.inputs * self.outputs) as u64
    }

    fn emit(&self, schedule: &Schedule, e: &mut dyn Emitter) {
        let [x, weights, bias, y] = [0, 1, 2, 3].map(|i| e.pointer(i));
        let (panels, size) = (self.outputs.div_ceil(Self::PANEL), self.element.size());
        let tail = self.outputs - (panels - 1) * Self::PANEL;
        let (panel, count, limit) = (e.r(), e.r(), e.r());
        e.begin(panel);
        e.mul_imm(panel, panel, schedule.panels as i64);
        e.end(count);
        e.mul_imm(count, count, schedule.panels as i64);
        e.set(limit, panels as i64);
        e.min(count, count, limit);
        e.sub(count, count, panel);
        e.repeat(Count::Register(count), &mut |e| {
            let (w, b, out) = (e.r(), e.r(), e.r());
            e.mul_imm(w, panel, (self.inputs * Self::PANEL * self.weights.size()) as i64);
            e.add(w, w, weights);
            e.mul_imm(b, panel, (Self::PANEL * size) as i64);
            e.add(out, b, y);
            if size != SINGLE {
                e.mul_imm(b, panel, (Self::PANEL * SINGLE) as i64);
            }
            e.add(b, b, bias);
            e.set(limit, panels as i64 - 1);
            if panels > 1 {
                e.if_less(panel, limit, &mut |e| self.panel(e, schedule, [x, w, b, out], Self::PANEL));
            }
            e.add_imm(limit, limit, -1);
            e.if_less(limit, panel, &mut |e| self.panel(e, schedule, [x, w, b, out], tail));
            [w, b, out].into_iter().for_each(|r| e.free_r(r));
            e.add_imm(panel, panel, 1);
        });
    }
}

impl Gemv {
    /// All rows of one panel with `width` live outputs; the vectors of a panel that hold none are left out.
    fn panel(&self, e: &mut dyn Emitter, schedule: &Schedule, at: [R; 4], width: usize) {
        let (lanes, size) = (e.lanes(Element::F32), self.element.size());
        let vectors = width.div_ceil(lanes);
        let most = e.budget().saturating_sub(3).max(1);
        let per_pass = vectors.min(most);
        let [x, w, b, y] = at;
        let (from, to) = (copy(e, x), copy(e, y));
        e.repeat(Count::Times(self.rows as u32), &mut |e| {
            let mut done = 0;
            while done < vectors {
                let n = per_pass.min(vectors - done);
                self.pass(e, schedule, [from, w, b, to], (done, n), width);
                done += n;
            }
            e.add_imm(from, from, (self.inputs * size) as i64);
            e.add_imm(to, to, (self.outputs * size) as i64);
        });
        [from, to].into_iter().for_each(|r| e.free_r(r));
    }

    /// Vectors `first..first + n` of one row of one panel.
    fn pass(
        &self,
        e: &mut dyn Emitter,
        schedule: &Schedule,
        [x, w, b, y]: [R; 4],
        (first, n): (usize, usize),
        width: usize,
    ) {
        let (lanes, element, size) = (e.lanes(Element::F32), self.element, self.element.size());
        let accumulators: Vec<V> = (0..n).map(|_| e.v()).collect();
        for (i, acc) in accumulators.iter().enumerate() {
            e.load(*acc, b.at((first + i) * lanes * SINGLE), lanes);
        }
        let (from, weights) = (copy(e, x), copy(e, w));
        let step = |e: &mut dyn Emitter, k: usize| {
            let (value, weight) = (e.v(), e.v());
            e.broadcast_f32(value, from.at(k * size), element);
            for (i, acc) in accumulators.iter().enumerate() {
                let at = weights.at((k * Self::PANEL + (first + i) * lanes) * self.weights.size());
                e.load_f32(weight, at, self.weights, lanes);
                e.fma(*acc, weight, value);
            }
            [value, weight].into_iter().for_each(|v| e.free_v(v));
        };
        let unroll = schedule.unroll;
        if self.inputs >= unroll {
            e.repeat(Count::Times((self.inputs / unroll) as u32), &mut |e| {
                (0..unroll).for_each(|k| step(e, k));
                e.add_imm(from, from, (unroll * size) as i64);
                e.add_imm(weights, weights, (unroll * Self::PANEL * self.weights.size()) as i64);
            });
        }
        (0..self.inputs % unroll).for_each(|k| step(e, k));
        let output = |(i, acc): (usize, &V)| {
            let first = (first + i) * lanes;
            let to = y.at(first * size);
            Output { value: *acc, to, lanes: lanes.min(width - first), maps: Maps::default(), sum: None }
        };
        let outputs: Vec<Output> = accumulators.iter().enumerate().map(output).collect();
        self.epilogue().store(e, element, &outputs);
        accumulators.into_iter().for_each(|v| e.free_v(v));
        [from, weights].into_iter().for_each(|r| e.free_r(r));
    }
}

fn copy(e: &mut dyn Emitter, from: R) -> R {
    let r = e.r();
    e.copy(r, from);
    r
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn agrees_with_the_definition_on_awkward_shapes() {
        let cases = [
            (1, 1280, 1000),
            (1, 96, 4),
            (2, 3, 17),
            (1, 1, 1),
            (4, 10, 33),
            (9, 6, 40),
            (2, 0, 5),
            (1, 48, 1152),
            (3, 5, 64),
        ];
        testing::report(cases.into_iter().map(|(rows, inputs, outputs)| {
            let s = Gemv { element: DType::F32, weights: DType::F32, rows, inputs, outputs, activation: None };
            let x = testing::values(1, rows * inputs);
            let w = testing::values(2, inputs * outputs);
            let mut bias = testing::values(3, outputs);
            let sum = |i: usize, f: fn(f64) -> f64| -> f64 {
                let (m, n) = (i / outputs, i % outputs);
                let products = (0..inputs).map(|k| f(f64::from(x[m * inputs + k]) * f64::from(w[k * outputs + n])));
                f(f64::from(bias[n])) + products.sum::<f64>()
            };
            let expected: Vec<f64> = (0..rows * outputs).map(|i| sum(i, |v| v)).collect();
            let sizes: Vec<f64> = (0..rows * outputs).map(|i| sum(i, f64::abs)).collect();
            let packed = testing::packed(&s.weight_packing(false, 1.0), &w);
            assert_eq!(packed.len(), s.weight_len());
            bias.resize(s.bias_len(), 0.0);
            let out = testing::run(s.clone(), &[&x, &packed, &bias]);
            testing::mismatch(&s.name(), &out[0], &expected, |i| (inputs + 8) as f64 * 2f64.powi(-24) * sizes[i])
        }));
    }

    fn spec(element: DType, (rows, inputs, outputs): (usize, usize, usize)) -> Gemv {
        Gemv { element, weights: element, rows, inputs, outputs, activation: Some(UnaryFn::Sigmoid) }
    }

    fn operands(s: &Gemv) -> [Vec<f32>; 3] {
        let operands = [s.rows * s.inputs, s.weight_len(), s.bias_len()];
        [0, 1, 2].map(|i| testing::values(i as u64, operands[i]))
    }

    #[test]
    fn narrow_elements() {
        testing::report([(1, 40, 100), (2, 7, 33), (5, 3, 31)].into_iter().map(|shape| {
            testing::narrow(|element| {
                let s = spec(element, shape);
                let operands = operands(&s).into();
                (s, operands)
            })
        }));
    }

    /// Weights of `bf16` give, bit by bit, what the same numbers as `f32` give.
    #[test]
    fn narrow_weights() {
        testing::report([(1, 40, 100), (2, 7, 33)].into_iter().map(|shape| {
            let s = spec(DType::F32, shape);
            let [x, w, bias] = operands(&s);
            let w = testing::rounded(DType::BF16, &w);
            let expected = testing::run(s.clone(), &[&x, &w, &bias]);
            let narrow = Gemv { weights: DType::BF16, ..s };
            let same = testing::run(narrow.clone(), &[&x, &w, &bias]) == expected
                && testing::run_interpreted(narrow.clone(), &[&x, &w, &bias], 16) == expected;
            (!same).then(|| format!("{}: other bits than f32", narrow.name()))
        }));
    }

    #[test]
    fn no_schedule_changes_a_bit() {
        let cases = [(1, 40, 100), (2, 7, 33), (5, 3, 31), (1, 1, 200)];
        testing::report(cases.into_iter().map(|(rows, inputs, outputs)| {
            let s = spec(DType::F32, (rows, inputs, outputs));
            let [x, w, bias] = operands(&s);
            let own = testing::run(s.clone(), &[&x, &w, &bias]);
            [(1, 1, 4), (3, 2, 8), (5, 9, 16)].into_iter().find_map(|(unroll, panels, lanes)| {
                let found = testing::interpret(&s, &Schedule { unroll, panels }, &[&x, &w, &bias], lanes);
                (found != own).then(|| format!("{}: unroll {unroll}, {panels} panels, {lanes} lanes", s.name()))
            })
        }));
    }
}
