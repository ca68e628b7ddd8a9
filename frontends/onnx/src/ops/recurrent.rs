//! Recurrent layers, step by step: RNN, GRU, LSTM.
//!
//! In: a sequence of known length. Out: the chain of its steps. What depends on the inputs only is one product for all steps; a step
//! is a product with the state before it, element-wise functions, and the state after it. Entries of a batch whose sequence is shorter keep their
//! state from its end on, and give zeros.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::{Concat, Gemm, Slice, Where};
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::DType;

use crate::context::Context;
use crate::error::Result;

use super::support::{binary, expand, extent, int_constant, reshape, transpose, unary, with_scalar};

/// A function of a gate.
#[derive(Clone, Copy)]
enum Gate {
    Of(UnaryFn),
    Affine(f32, f32),
    ScaledTanh(f32, f32),
}

impl Gate {
    /// The functions of a direction, `count` of each, from the attributes.
    fn all(cx: &Context<'_>, defaults: &[&str], directions: usize) -> Result<Vec<Self>> {
        let given = cx.attrs().strings("activations")?;
        let names: Vec<&str> = match &given {
            Some(names) if names.len() == defaults.len() * directions => names.to_vec(),
            Some(names) => {
                let expected = format!("{} names", defaults.len() * directions);
                return Err(cx.error("activations", expected, names.len().to_string()));
            }
            None => defaults.repeat(directions),
        };
        let alphas = cx.attrs().floats("activation_alpha")?.unwrap_or_default();
        let betas = cx.attrs().floats("activation_beta")?.unwrap_or_default();
        let (mut alphas, mut betas) = (alphas.into_iter(), betas.into_iter());
        names.into_iter().map(|name| Self::named(cx, name, &mut alphas, &mut betas)).collect()
    }

    fn named(
        cx: &Context<'_>,
        name: &str,
        alphas: &mut impl Iterator<Item = f32>,
        betas: &mut impl Iterator<Item = f32>,
    ) -> Result<Self> {
        let mut alpha = |default: f32| alphas.next().unwrap_or(default);
        let mut beta = |default: f32| betas.next().unwrap_or(default);
        Ok(Self::Of(match name.to_ascii_lowercase().as_str() {
            "relu" => UnaryFn::Relu,
            "tanh" => UnaryFn::Tanh,
            "sigmoid" => UnaryFn::Sigmoid,
            "softsign" => UnaryFn::Softsign,
            "softplus" => UnaryFn::Softplus,
            "leakyrelu" => UnaryFn::LeakyRelu(alpha(0.01)),
            "thresholdedrelu" => UnaryFn::ThresholdedRelu(alpha(1.0)),
            "elu" => UnaryFn::Elu(alpha(1.0)),
            "hardsigmoid" => UnaryFn::HardSigmoid(alpha(0.2), beta(0.5)),
            "affine" => return Ok(Self::Affine(alpha(1.0), beta(0.0))),
            "scaledtanh" => return Ok(Self::ScaledTanh(alpha(1.0), beta(1.0))),
            _ => return Err(cx.error("activations", "the name of an activation", crate::error::short(name))),
        }))
    }

    fn apply(self, cx: &mut Context<'_>, x: ValueId) -> Result<ValueId> {
        match self {
            Self::Of(function) => unary(cx, function, x),
            Self::Affine(alpha, beta) => {
                let scaled = with_scalar(cx, BinaryFn::Mul, x, f64::from(alpha))?;
                with_scalar(cx, BinaryFn::Add, scaled, f64::from(beta))
            }
            Self::ScaledTanh(alpha, beta) => {
                let inner = with_scalar(cx, BinaryFn::Mul, x, f64::from(beta))?;
                let inner = unary(cx, UnaryFn::Tanh, inner)?;
                with_scalar(cx, BinaryFn::Mul, inner, f64::from(alpha))
            }
        }
    }
}

/// What the three layers have in common.
struct Layer {
    /// `[steps, batch, inputs]`.
    x: ValueId,
    steps: usize,
    batch: usize,
    /// Elements of the state.
    hidden: usize,
    /// Gates of a step.
    gates: usize,
    /// For each direction, whether it runs from the end.
    reversed: Vec<bool>,
    functions: Vec<Gate>,
    clip: Option<f32>,
    /// Length of each sequence of the batch, `[batch, 1]`, where they differ.
    lengths: Option<ValueId>,
    /// Whether the batch is the first axis of inputs and outputs.
    batch_first: bool,
}

/// The weights of a direction.
struct Weights {
    /// `[gates * hidden, inputs]` and `[gates * hidden, hidden]`.
    input: ValueId,
    state: ValueId,
    /// `[gates * hidden]` each: beside the inputs and beside the state.
    biases: Option<[ValueId; 2]>,
    /// `[3 * hidden]`.
    peepholes: Option<ValueId>,
}

impl Layer {
    fn of(cx: &mut Context<'_>, gates: usize, functions: &[&str]) -> Result<Self> {
        let batch_first = cx.attrs().flag("layout", false)?;
        let mut x = cx.input(0)?;
        if cx.shape(x).rank() != 3 {
            return Err(cx.error("X", "rank 3", cx.ty(x).to_string()));
        }
        if batch_first {
            x = transpose(cx, x, vec![1, 0, 2])?;
        }
        let [steps, batch, inputs] = cx.shape(x)[..] else { return Err(cx.error("X", "rank 3", "another")) };
        let reversed = match cx.attrs().string("direction", "forward")? {
            "forward" => vec![false],
            "reverse" => vec![true],
            "bidirectional" => vec![false, true],
            other => return Err(cx.error("direction", "forward, reverse or bidirectional", other)),
        };
        let state = cx.shape(cx.input(2)?).to_vec();
        let hidden = match cx.attrs().has("hidden_size") {
            true => extent(cx, "hidden_size", cx.attrs().require_int("hidden_size")?)?,
            false => state.last().copied().unwrap_or(0),
        };
        for (slot, field, columns) in [(1, "W", inputs), (2, "R", hidden)] {
            let wanted = [reversed.len(), gates.saturating_mul(hidden), columns];
            let given = cx.input(slot)?;
            if cx.shape(given)[..] != wanted {
                return Err(cx.error(field, format!("shape {wanted:?}"), cx.ty(given).to_string()));
            }
        }
        cx.charge(steps as u64)?;
        let clip = match cx.attrs().has("clip") {
            true => Some(cx.attrs().require_float("clip")?.abs()),
            false => None,
        };
        let lengths = lengths(cx, steps, batch)?;
        let functions = Gate::all(cx, functions, reversed.len())?;
        Ok(Self { x, steps, batch, hidden, gates, reversed, functions, clip, lengths, batch_first })
    }

    /// The weights of direction `d`; peepholes are operand 7 of an LSTM.
    fn weights(&self, cx: &mut Context<'_>, d: usize, peepholes: bool) -> Result<Weights> {
        let (rows, columns) = (self.gates * self.hidden, cx.shape(cx.input(1)?)[2]);
        let input = direction(cx, 1, d, vec![rows, columns])?;
        let state = direction(cx, 2, d, vec![rows, self.hidden])?;
        let of = |cx: &mut Context<'_>, slot: usize, field: &str, parts: usize| -> Result<Option<ValueId>> {
            let Some(given) = cx.optional(slot) else { return Ok(None) };
            let wanted = [self.reversed.len(), parts * self.hidden];
            if cx.shape(given)[..] != wanted {
                return Err(cx.error(field, format!("shape {wanted:?}"), cx.ty(given).to_string()));
            }
            direction(cx, slot, d, vec![parts * self.hidden]).map(Some)
        };
        let biases = match of(cx, 3, "B", 2 * self.gates)? {
            None => None,
            Some(both) => Some([part(cx, both, 0, rows)?, part(cx, both, rows, rows)?]),
        };
        let peepholes = if peepholes { of(cx, 7, "P", 3)? } else { None };
        Ok(Weights { input, state, biases, peepholes })
    }

    /// The state before the first step in direction `d`, from operand `slot` or zeros: `[batch, hidden]`.
    fn initial(&self, cx: &mut Context<'_>, slot: usize, field: &str, d: usize) -> Result<ValueId> {
        let shape = vec![self.batch, self.hidden];
        let Some(given) = cx.optional(slot) else {
            let zero = cx.scalar_like(self.x, 0.0)?;
            return expand(cx, zero, shape);
        };
        let wanted = match self.batch_first {
            false => [self.reversed.len(), self.batch, self.hidden],
            true => [self.batch, self.reversed.len(), self.hidden],
        };
        if cx.shape(given)[..] != wanted {
            return Err(cx.error(field, format!("shape {wanted:?}"), cx.ty(given).to_string()));
        }
        if !self.batch_first {
            return direction(cx, slot, d, shape);
        }
        let one = cx.emit(
            Slice { starts: vec![0, d, 0], steps: Vec::new(), sizes: vec![self.batch, 1, self.hidden] },
            &[given],
        )?;
        reshape(cx, one, shape)
    }

    /// What the gates of all steps get from the inputs: `[steps, batch, gates * hidden]`.
    fn projected(&self, cx: &mut Context<'_>, weights: &Weights, bias: Option<ValueId>) -> Result<ValueId> {
        let inputs = cx.shape(self.x)[2];
        let rows = reshape(cx, self.x, vec![self.steps * self.batch, inputs])?;
        let op = Gemm { trans_b: true, bias: bias.is_some(), ..Gemm::default() };
        let operands: Vec<ValueId> = [rows, weights.input].into_iter().chain(bias).collect();
        let all = cx.emit(op, &operands)?;
        reshape(cx, all, vec![self.steps, self.batch, self.gates * self.hidden])
    }

    /// The part of step `t`: `[batch, gates * hidden]`.
    fn at_step(&self, cx: &mut Context<'_>, projected: ValueId, t: usize) -> Result<ValueId> {
        let width = self.gates * self.hidden;
        let op = Slice { starts: vec![t, 0, 0], steps: Vec::new(), sizes: vec![1, self.batch, width] };
        let one = cx.emit(op, &[projected])?;
        reshape(cx, one, vec![self.batch, width])
    }

    /// Gate `gate` of values side by side: `[batch, hidden]`.
    fn gate(&self, cx: &mut Context<'_>, all: ValueId, gate: usize) -> Result<ValueId> {
        let op = Slice { starts: vec![0, gate * self.hidden], steps: Vec::new(), sizes: vec![self.batch, self.hidden] };
        cx.emit(op, &[all])
    }

    /// The function number `at` of direction `d` of a clipped value.
    fn activate(&self, cx: &mut Context<'_>, d: usize, at: usize, x: ValueId) -> Result<ValueId> {
        let clipped = match self.clip {
            Some(clip) => unary(cx, UnaryFn::Clip(-clip, clip), x)?,
            None => x,
        };
        self.functions[d * self.functions.len() / self.reversed.len() + at].apply(cx, clipped)
    }

    /// Whether step `t` is within each sequence, where they differ: `[batch, 1]`.
    fn within(&self, cx: &mut Context<'_>, t: usize) -> Result<Option<ValueId>> {
        let Some(lengths) = self.lengths else { return Ok(None) };
        let step = int_constant(cx, cx.ty(lengths).dtype, Vec::new(), &[t as i64]);
        binary(cx, BinaryFn::Less, step, lengths).map(Some)
    }

    /// Runs all directions: `step` makes the states after a step of those before it and the gates' inputs, the first of them the output. The results are `Y` and
    /// the last states.
    fn run(
        &self,
        cx: &mut Context<'_>,
        states: &[(usize, &str)],
        prepare: &dyn Fn(&mut Context<'_>, usize) -> Result<(Weights, ValueId)>,
        step: &dyn Fn(&mut Context<'_>, &Step<'_>) -> Result<Vec<ValueId>>,
    ) -> Result<Vec<ValueId>> {
        let (mut outputs, mut last) = (Vec::new(), vec![Vec::new(); states.len()]);
        for (d, reversed) in self.reversed.iter().enumerate() {
            let (weights, projected) = prepare(cx, d)?;
            let initial = states.iter().map(|(slot, field)| self.initial(cx, *slot, field, d));
            let mut state = initial.collect::<Result<Vec<ValueId>>>()?;
            let mut pieces = vec![None; self.steps];
            for i in 0..self.steps {
                let t = if *reversed { self.steps - 1 - i } else { i };
                let inputs = self.at_step(cx, projected, t)?;
                let mut after = step(cx, &Step { direction: d, inputs, state: &state, weights: &weights })?;
                let mut output = after[0];
                if let Some(within) = self.within(cx, t)? {
                    for (new, old) in after.iter_mut().zip(&state) {
                        *new = cx.emit(Where {}, &[within, *new, *old])?;
                    }
                    let zero = cx.scalar_like(output, 0.0)?;
                    output = cx.emit(Where {}, &[within, output, zero])?;
                }
                state = after;
                pieces[t] = Some(reshape(cx, output, vec![1, 1, self.batch, self.hidden])?);
            }
            let pieces: Vec<ValueId> = pieces.into_iter().flatten().collect();
            outputs.push(joined(cx, &pieces, 0)?);
            for (all, value) in last.iter_mut().zip(state) {
                all.push(reshape(cx, value, vec![1, self.batch, self.hidden])?);
            }
        }
        let mut y = joined(cx, &outputs, 1)?;
        if self.batch_first {
            y = transpose(cx, y, vec![2, 0, 1, 3])?;
        }
        let mut results = vec![y];
        for all in last {
            let all = joined(cx, &all, 0)?;
            results.push(if self.batch_first { transpose(cx, all, vec![1, 0, 2])? } else { all });
        }
        Ok(results)
    }
}

/// What a step sees.
struct Step<'a> {
    direction: usize,
    /// What its gates get from the inputs.
    inputs: ValueId,
    /// The states before it.
    state: &'a [ValueId],
    weights: &'a Weights,
}

/// Values one after the other along an axis.
fn joined(cx: &mut Context<'_>, parts: &[ValueId], axis: usize) -> Result<ValueId> {
    match parts {
        [] => Err(cx.unsupported("a sequence without steps")),
        [only] => Ok(*only),
        parts => cx.emit(Concat { axis }, parts),
    }
}

/// The part of direction `d` of an operand, in `shape`.
fn direction(cx: &mut Context<'_>, slot: usize, d: usize, shape: Vec<usize>) -> Result<ValueId> {
    let x = cx.input(slot)?;
    let mut sizes = cx.shape(x).to_vec();
    if sizes[0] == 1 {
        return reshape(cx, x, shape);
    }
    let mut starts = vec![0; sizes.len()];
    (starts[0], sizes[0]) = (d, 1);
    let one = cx.emit(Slice { starts, steps: Vec::new(), sizes }, &[x])?;
    reshape(cx, one, shape)
}

/// `count` elements of a vector.
fn part(cx: &mut Context<'_>, v: ValueId, start: usize, count: usize) -> Result<ValueId> {
    cx.emit(Slice { starts: vec![start], steps: Vec::new(), sizes: vec![count] }, &[v])
}

/// The lengths of the sequences, `[batch, 1]`; none where they are all known to be whole.
fn lengths(cx: &mut Context<'_>, steps: usize, batch: usize) -> Result<Option<ValueId>> {
    let Some(given) = cx.optional(4) else { return Ok(None) };
    if cx.shape(given)[..] != [batch] {
        return Err(cx.error("sequence_lens", format!("shape [{batch}]"), cx.ty(given).to_string()));
    }
    if cx.constant(given).is_some() {
        let known = cx.const_ints(given, "sequence_lens")?;
        if let Some(wrong) = known.iter().find(|n| !(0..=steps as i64).contains(*n)) {
            return Err(cx.error("sequence_lens", format!("lengths up to {steps}"), wrong.to_string()));
        }
        if known.iter().all(|n| *n == steps as i64) {
            return Ok(None);
        }
    }
    debug_assert!(cx.ty(given).dtype == DType::I32);
    reshape(cx, given, vec![batch, 1]).map(Some)
}

/// The sum of both biases, `[gates * hidden]`.
fn both(cx: &mut Context<'_>, weights: &Weights) -> Result<Option<ValueId>> {
    let Some([input, state]) = weights.biases else { return Ok(None) };
    binary(cx, BinaryFn::Add, input, state).map(Some)
}

/// What the gates get from inputs and state: `state R^T + inputs`.
fn gates(cx: &mut Context<'_>, state: ValueId, weights: ValueId, inputs: ValueId) -> Result<ValueId> {
    cx.emit(Gemm { trans_b: true, bias: true, ..Gemm::default() }, &[state, weights, inputs])
}

/// `RNN`: `h' = f(W x + R h + b)`.
pub(crate) fn rnn(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let layer = Layer::of(cx, 1, &["Tanh"])?;
    let prepare = |cx: &mut Context<'_>, d: usize| {
        let weights = layer.weights(cx, d, false)?;
        let bias = both(cx, &weights)?;
        let projected = layer.projected(cx, &weights, bias)?;
        Ok((weights, projected))
    };
    layer.run(cx, &[(5, "initial_h")], &prepare, &|cx, step| {
        let sum = gates(cx, step.state[0], step.weights.state, step.inputs)?;
        Ok(vec![layer.activate(cx, step.direction, 0, sum)?])
    })
}

/// `LSTM`; gates in the order input, output, forget, cell.
pub(crate) fn lstm(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let layer = Layer::of(cx, 4, &["Sigmoid", "Tanh", "Tanh"])?;
    let coupled = cx.attrs().flag("input_forget", false)?;
    let prepare = |cx: &mut Context<'_>, d: usize| {
        let weights = layer.weights(cx, d, true)?;
        let bias = both(cx, &weights)?;
        let projected = layer.projected(cx, &weights, bias)?;
        Ok((weights, projected))
    };
    layer.run(cx, &[(5, "initial_h"), (6, "initial_c")], &prepare, &|cx, step| {
        let (d, cell) = (step.direction, step.state[1]);
        let all = gates(cx, step.state[0], step.weights.state, step.inputs)?;
        // What gate number `peephole` sees of the cell, in the order input, output, forget.
        let peep = |cx: &mut Context<'_>, gate: ValueId, cell: ValueId, peephole: usize| {
            let Some(all) = step.weights.peepholes else { return Ok(gate) };
            let weight = part(cx, all, peephole * layer.hidden, layer.hidden)?;
            let seen = binary(cx, BinaryFn::Mul, cell, weight)?;
            binary(cx, BinaryFn::Add, gate, seen)
        };
        let input = layer.gate(cx, all, 0)?;
        let input = peep(cx, input, cell, 0)?;
        let input = layer.activate(cx, d, 0, input)?;
        let forget = if coupled {
            let one = cx.scalar_like(input, 1.0)?;
            binary(cx, BinaryFn::Sub, one, input)?
        } else {
            let forget = layer.gate(cx, all, 2)?;
            let forget = peep(cx, forget, cell, 2)?;
            layer.activate(cx, d, 0, forget)?
        };
        let new = layer.gate(cx, all, 3)?;
        let new = layer.activate(cx, d, 1, new)?;
        let (kept, added) = (binary(cx, BinaryFn::Mul, forget, cell)?, binary(cx, BinaryFn::Mul, input, new)?);
        let cell = binary(cx, BinaryFn::Add, kept, added)?;
        let output = layer.gate(cx, all, 1)?;
        let output = peep(cx, output, cell, 1)?;
        let output = layer.activate(cx, d, 0, output)?;
        let shown = layer.functions[d * 3 + 2].apply(cx, cell)?;
        Ok(vec![binary(cx, BinaryFn::Mul, output, shown)?, cell])
    })
}

/// `GRU`; gates in the order update, reset, hidden.
pub(crate) fn gru(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let layer = Layer::of(cx, 3, &["Sigmoid", "Tanh"])?;
    let before = cx.attrs().int("linear_before_reset", 0)? != 0;
    let hidden = layer.hidden;
    let prepare = |cx: &mut Context<'_>, d: usize| {
        let weights = layer.weights(cx, d, false)?;
        // The bias beside the state is reset, too, where the product is.
        let bias = match (before, weights.biases) {
            (true, Some([input, state])) => {
                let gates = part(cx, state, 0, 2 * hidden)?;
                let zero = cx.scalar_like(gates, 0.0)?;
                let zeros = expand(cx, zero, vec![hidden])?;
                let state = cx.emit(Concat { axis: 0 }, &[gates, zeros])?;
                Some(binary(cx, BinaryFn::Add, input, state)?)
            }
            _ => both(cx, &weights)?,
        };
        let projected = layer.projected(cx, &weights, bias)?;
        Ok((weights, projected))
    };
    layer.run(cx, &[(5, "initial_h")], &prepare, &|cx, step| {
        let (d, state) = (step.direction, step.state[0]);
        let rows = |cx: &mut Context<'_>, start: usize, count: usize| {
            let op = Slice { starts: vec![start, 0], steps: Vec::new(), sizes: vec![count, hidden] };
            cx.emit(op, &[step.weights.state])
        };
        let columns = |cx: &mut Context<'_>, start: usize, count: usize| {
            let op = Slice { starts: vec![0, start], steps: Vec::new(), sizes: vec![layer.batch, count] };
            cx.emit(op, &[step.inputs])
        };
        let (weights, inputs) = (rows(cx, 0, 2 * hidden)?, columns(cx, 0, 2 * hidden)?);
        let both = gates(cx, state, weights, inputs)?;
        let (update, reset) = (layer.gate(cx, both, 0)?, layer.gate(cx, both, 1)?);
        let (update, reset) = (layer.activate(cx, d, 0, update)?, layer.activate(cx, d, 0, reset)?);
        let (weights, inputs) = (rows(cx, 2 * hidden, hidden)?, columns(cx, 2 * hidden, hidden)?);
        let sum = if before {
            let bias = match step.weights.biases {
                Some([_, bias]) => part(cx, bias, 2 * hidden, hidden)?,
                None => cx.scalar_like(state, 0.0)?,
            };
            let bias = expand(cx, bias, vec![layer.batch, hidden])?;
            let product = gates(cx, state, weights, bias)?;
            let product = binary(cx, BinaryFn::Mul, reset, product)?;
            binary(cx, BinaryFn::Add, product, inputs)?
        } else {
            let kept = binary(cx, BinaryFn::Mul, reset, state)?;
            gates(cx, kept, weights, inputs)?
        };
        let new = layer.activate(cx, d, 1, sum)?;
        // (1 - z) h' + z h.
        let one = cx.scalar_like(update, 1.0)?;
        let rest = binary(cx, BinaryFn::Sub, one, update)?;
        let (new, old) = (binary(cx, BinaryFn::Mul, rest, new)?, binary(cx, BinaryFn::Mul, update, state)?);
        Ok(vec![binary(cx, BinaryFn::Add, new, old)?])
    })
}
