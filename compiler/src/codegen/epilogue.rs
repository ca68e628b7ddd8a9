//! What happens to an accumulator between the last multiply-add and memory.
//!
//! In: finished accumulators (the bias is what they start from). Out: stored results. An [`Epilogue`] is part of a kernel's spec:
//! an ordered list of steps, printed in the kernel's name. Any producer calls [`Epilogue::store`] at its store point, so adding an
//! activation touches no kernel.

use super::{Element, Emitter, Mem, R, V, VOp, math};
use crate::target::Machine;
use fornax_ir::scalar::UnaryFn::{self, Abs, Clip, HardSigmoid, HardSwish, LeakyRelu, Neg, Relu};
use fornax_ir::types::DType;

/// Most outputs that go through the steps all together on 4 lanes. An activation is a long chain of dependent operations: seven at a
/// time hide its latency, at the price of a few spills (depthwise with SiLU takes a fifth less time than in pairs).
const TOGETHER: usize = 8;
/// Outputs of a larger set that go through the steps together on 4 lanes: enough to share constants, few enough to stay in registers.
const GROUP: usize = 2;
/// Registers that an activation needs for each output, its value among them, and for all of them; most need no more than SiLU.
const ACTIVATION: (usize, usize) = (4, 2);
/// The same where the activation's slope is kept.
const WITH_SLOPE: (usize, usize) = (5, 3);

/// Multiply-adds in whose time a function of the exponential is evaluated (measured: 8 to 17, a division among them).
const TRANSCENDENTAL: u64 = 12;

/// Bytes of a map that stay in a cache.
const NEAR: usize = 1 << 18;

/// One step.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum EpilogueOp {
    /// Adds the element of another tensor at the same place.
    Residual,
    /// Multiplies by the element of another tensor at the same place.
    Factor,
    /// Multiplies by the derivative of a function at the element of another tensor at the same place.
    Derivative(UnaryFn),
    /// Applies a function.
    Apply(UnaryFn),
    /// Applies a function and stores its derivative into another tensor at the same place; see [`UnaryFn::with_slope`].
    ApplyWithSlope(UnaryFn),
    /// Adds the value to a running sum; the sum over a row's pixels for a squeeze.
    Sum,
}

/// A map of the results' shape and order that an epilogue reads or writes besides the results.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Map {
    /// What is added.
    Residual,
    /// What is multiplied by.
    Factor,
    /// Where a derivative is taken.
    At,
    /// Where slopes go.
    Slope,
}

/// Something for each [`Map`] that an epilogue has.
pub type Maps<T> = [Option<T>; 4];

impl Map {
    /// All of them, those that are written last.
    pub const ALL: [Self; 4] = [Self::Residual, Self::Factor, Self::At, Self::Slope];

    /// What stands there, as an argument of a kernel.
    pub fn name(self) -> &'static str {
        match self {
            Self::Residual => "residual",
            Self::Factor => "factor",
            Self::At => "at",
            Self::Slope => "slope",
        }
    }
}

impl EpilogueOp {
    /// The map that the step reads or writes.
    fn map(self) -> Option<Map> {
        match self {
            Self::Residual => Some(Map::Residual),
            Self::Factor => Some(Map::Factor),
            Self::Derivative(_) => Some(Map::At),
            Self::ApplyWithSlope(_) => Some(Map::Slope),
            Self::Apply(_) | Self::Sum => None,
        }
    }

    /// The step that `words` begin with, and how many of them it takes.
    fn read(words: &[&str]) -> Option<(Self, usize)> {
        match *words.first()? {
            "add" => return Some((Self::Residual, 1)),
            "times" => return Some((Self::Factor, 1)),
            "sum" => return Some((Self::Sum, 1)),
            first @ ("slope" | "derivative") => {
                let (Self::Apply(function), used) = Self::read(&words[1..])? else { return None };
                let step = if first == "slope" { Self::ApplyWithSlope } else { Self::Derivative };
                return Some((step(function), used + 1));
            }
            _ => {}
        }
        // Names of functions have one or two words, then parameters.
        let lengths = [2, 1].into_iter().flat_map(|named| [2, 1, 0].map(|parameters| (named, parameters)));
        lengths.filter(|(named, parameters)| named + parameters <= words.len()).find_map(|(named, parameters)| {
            let read = words[named..named + parameters].iter().map(|word| word.parse().ok());
            let read: Vec<f32> = read.collect::<Option<_>>()?;
            let function = UnaryFn::from_spelling(&words[..named].join("_"), &read)?;
            Some((Self::Apply(function), named + parameters))
        })
    }
}

/// Steps in order.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Epilogue(Vec<EpilogueOp>);

/// One accumulator on its way to memory.
#[derive(Clone, Copy, Debug)]
pub struct Output {
    /// The accumulator; its value is gone afterwards.
    pub value: V,
    /// Where the result goes.
    pub to: Mem,
    /// How many of its lanes exist.
    pub lanes: usize,
    /// The elements of other maps at the same place.
    pub maps: Maps<Mem>,
    /// The running sum of [`EpilogueOp::Sum`]. Lanes that do not exist hold undefined bytes.
    pub sum: Option<V>,
}

impl Epilogue {
    /// Residual and activation in ONNX order: residual first unless `activation_first`.
    pub fn new(activation: Option<UnaryFn>, residual: bool, activation_first: bool) -> Self {
        let mut steps: Vec<EpilogueOp> = residual.then_some(EpilogueOp::Residual).into_iter().collect();
        if let Some(activation) = activation {
            steps.insert(if activation_first { 0 } else { steps.len() }, EpilogueOp::Apply(activation));
        }
        Self(steps)
    }

    /// The same steps with one more at the end.
    pub fn then(mut self, step: EpilogueOp) -> Self {
        self.0.push(step);
        self
    }

    /// The steps, in order.
    pub fn steps(&self) -> &[EpilogueOp] {
        &self.0
    }

    /// The maps that outputs need in [`Output::maps`], in the order of [`Map::ALL`].
    pub fn maps(&self) -> impl Iterator<Item = Map> {
        Map::ALL.into_iter().filter(|map| self.0.iter().any(|step| step.map() == Some(*map)))
    }

    /// Pointers to its maps, which are the kernel's arguments from `first` on.
    pub fn pointers(&self, e: &mut dyn Emitter, first: usize) -> Maps<R> {
        let mut pointers = Maps::default();
        for (i, map) in self.maps().enumerate() {
            pointers[map as usize] = Some(e.pointer(first + i));
        }
        pointers
    }

    /// Whether maps take part that no cache has, of results of so many bytes: those of a training step, where all that the backward half
    /// reads has left the caches meanwhile. Kernels then ask for what a tile reads and writes before they compute it.
    pub fn is_far(&self, bytes: usize) -> bool {
        bytes > NEAR && self.maps().any(|map| map != Map::Residual)
    }

    /// Whether a residual is added.
    pub fn residual(&self) -> bool {
        self.0.contains(&EpilogueOp::Residual)
    }

    /// Whether outputs need [`Output::sum`].
    pub fn sum(&self) -> bool {
        self.0.contains(&EpilogueOp::Sum)
    }

    /// Multiply-adds that could begin while so many outputs go through the steps, in vectors.
    pub fn slots(&self, outputs: u64, machine: &Machine) -> f64 {
        let step = |step: &EpilogueOp| match step {
            EpilogueOp::Residual | EpilogueOp::Factor | EpilogueOp::Sum => 1,
            EpilogueOp::Derivative(_) => 4,
            EpilogueOp::ApplyWithSlope(_) => TRANSCENDENTAL + 4,
            EpilogueOp::Apply(Relu | Abs | Neg) => 1,
            EpilogueOp::Apply(Clip(..)) => 2,
            EpilogueOp::Apply(LeakyRelu(_) | HardSigmoid(..) | HardSwish) => 4,
            EpilogueOp::Apply(_) => TRANSCENDENTAL,
        };
        outputs as f64 / machine.lanes as f64 * self.0.iter().map(step).sum::<u64>() as f64
    }

    /// The steps as a suffix of a kernel's name: `_add_silu`, `_clip_0_6`, or nothing.
    pub fn suffix(&self) -> String {
        let function = |before: &str, f: &UnaryFn| {
            let (name, parameters) = f.spelling();
            parameters.iter().fold(format!("{before}_{name}"), |text, p| format!("{text}_{p}"))
        };
        let word = |step: &EpilogueOp| match step {
            EpilogueOp::Residual => "_add".into(),
            EpilogueOp::Factor => "_times".into(),
            EpilogueOp::Sum => "_sum".into(),
            EpilogueOp::Derivative(f) => function("_derivative", f),
            EpilogueOp::ApplyWithSlope(f) => function("_slope", f),
            EpilogueOp::Apply(f) => function("", f),
        };
        self.0.iter().map(word).collect()
    }

    /// The steps that words spell, as [`Epilogue::suffix`] writes them, and how many of the words they take.
    pub fn read(words: &[&str]) -> (Self, usize) {
        let (mut steps, mut at) = (Vec::new(), 0);
        while let Some((step, used)) = EpilogueOp::read(&words[at..]) {
            steps.push(step);
            at += used;
        }
        (Self(steps), at)
    }

    /// Applies the steps to each output and stores it; results and residuals are elements of type `element`. Sums grow in the order
    /// of `outputs`, by values that are not rounded yet.
    pub fn store(&self, e: &mut dyn Emitter, element: DType, outputs: &[Output]) {
        for group in outputs.chunks(self.together(e, outputs.len())) {
            for step in &self.0 {
                apply(e, *step, element, group);
            }
            for output in group {
                e.store_f32(output.value, output.to, element, output.lanes);
            }
        }
    }

    /// How many of `outputs` go through the steps together; at least 1.
    ///
    /// Wide vectors take as many as an activation leaves in registers, in groups that are as even as they get. Outputs that wait may
    /// have to leave the registers, once for each store.
    fn together(&self, e: &dyn Emitter, outputs: usize) -> usize {
        if e.lanes(Element::F32) <= 4 {
            return if outputs <= TOGETHER { TOGETHER } else { GROUP };
        }
        let needs = |step: &EpilogueOp| match step {
            EpilogueOp::ApplyWithSlope(_) => WITH_SLOPE,
            EpilogueOp::Apply(Relu | Clip(..)) | EpilogueOp::Residual | EpilogueOp::Factor | EpilogueOp::Sum => (1, 2),
            EpilogueOp::Apply(_) | EpilogueOp::Derivative(_) => ACTIVATION,
        };
        let (each, shared) = self.0.iter().map(needs).max().unwrap_or((1, 2));
        let most = (e.budget().saturating_sub(shared) / each).max(1);
        outputs.div_ceil(outputs.div_ceil(most).max(1)).max(1)
    }
}

fn apply(e: &mut dyn Emitter, step: EpilogueOp, element: DType, group: &[Output]) {
    let mem = |output: &Output| step.map().and_then(|map| output.maps[map as usize]);
    let values: Vec<V> = group.iter().map(|output| output.value).collect();
    match step {
        EpilogueOp::Residual | EpilogueOp::Factor => {
            let op = if step == EpilogueOp::Residual { VOp::Add } else { VOp::Mul };
            for output in group {
                if let Some(from) = mem(output) {
                    let other = e.v();
                    e.load_f32(other, from, element, output.lanes);
                    e.op(op, Element::F32, output.value, output.value, other);
                    e.free_v(other);
                }
            }
        }
        EpilogueOp::Derivative(f) => {
            let load = |output: &Output| {
                let at = e.v();
                mem(output).into_iter().for_each(|from| e.load_f32(at, from, element, output.lanes));
                at
            };
            let at: Vec<V> = group.iter().map(load).collect();
            math::derivative(e, f, &at);
            for (value, slope) in values.iter().zip(at) {
                e.op(VOp::Mul, Element::F32, *value, *value, slope);
                e.free_v(slope);
            }
        }
        EpilogueOp::Apply(f) => math::unary_to(e, f, element, &values),
        EpilogueOp::ApplyWithSlope(f) => {
            let slopes = math::with_slope(e, f, &values);
            for (output, slope) in group.iter().zip(slopes) {
                mem(output).into_iter().for_each(|to| e.store_f32(slope, to, element, output.lanes));
                e.free_v(slope);
            }
        }
        EpilogueOp::Sum => {
            for output in group {
                if let Some(sum) = output.sum {
                    e.op(VOp::Add, Element::F32, sum, sum, output.value);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::soft;

    /// The stored value and the running sum of one accumulator that holds `x`, with residual `r`.
    fn apply(epilogue: &Epilogue, x: f32, r: f32) -> [f32; 2] {
        let bytes = |v: f32| v.to_le_bytes().to_vec();
        let mut buffers = [bytes(x), bytes(r), bytes(0.0), bytes(0.0), Vec::new()];
        soft::run(4, (0, 1), &mut buffers, |e| {
            let (value, sum) = (e.v(), e.constant(100.0));
            let [from, residual, to, total] = [0, 1, 2, 3].map(|i| e.pointer(i));
            e.load(value, from.at(0), 1);
            let maps = Map::ALL.map(|map| (map != Map::Slope).then(|| residual.at(0)));
            let output = Output { value, to: to.at(0), lanes: 1, maps, sum: Some(sum) };
            epilogue.store(e, DType::F32, &[output]);
            e.store(sum, total.at(0), 1);
        });
        [2, 3].map(|i| f32::from_le_bytes(buffers[i][..].try_into().unwrap()))
    }

    #[test]
    fn wide_vectors_keep_an_activation_in_registers() {
        // The interpreted machine has 14 registers to keep.
        let together = |activation, lanes, outputs| {
            let mut size = 0;
            let epilogue = Epilogue::new(activation, true, false);
            soft::run(lanes, (0, 1), &mut [Vec::new()], |e| size = epilogue.together(e, outputs));
            size
        };
        let silu = Some(UnaryFn::Silu);
        assert_eq!([1, 2, 12, 28].map(|n| together(silu, 16, n)), [1, 2, 3, 3]);
        assert_eq!([1, 12, 28].map(|n| together(None, 8, n)), [1, 12, 10]);
        assert_eq!([7, 10].map(|n| together(silu, 4, n)), [TOGETHER, GROUP]);
    }

    #[test]
    fn steps_run_in_order_and_print_so() {
        let relu = Some(UnaryFn::Relu);
        for (epilogue, suffix, expected) in [
            (Epilogue::default(), "", [-3.0, 100.0]),
            (Epilogue::new(relu, true, false), "_add_relu", [0.0, 100.0]),
            (Epilogue::new(relu, true, true), "_relu_add", [2.0, 100.0]),
            (Epilogue::new(Some(UnaryFn::Clip(-1.0, 6.0)), false, false), "_clip_-1_6", [-1.0, 100.0]),
            (Epilogue::new(None, true, false).then(EpilogueOp::Sum), "_add_sum", [-1.0, 99.0]),
        ] {
            assert_eq!(apply(&epilogue, -3.0, 2.0), expected, "{suffix}");
            assert_eq!(epilogue.suffix(), suffix);
        }
    }
}
