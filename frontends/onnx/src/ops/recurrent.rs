//! Recurrent layers: RNN, GRU and LSTM, step by step.
//!
//! In: a sequence of known length, `[steps, batch, size]`. Out: one matrix product for what all steps take from the sequence, then for every
//! step a small product with the state and the gates, in the order of ONNX's equations. Steps past the end of a sequence leave the state as
//! it is and give zeros.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::{Concat, Gemm, Slice, Where};
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::{Constant, DType, Payload, TensorType};

use crate::context::Context;
use crate::error::Result;

use super::support::{binary, extent, int_constant, reshape, transpose, unary, with_scalar};

/// Steps of all directions that a layer may be written out for.
const MOST_STEPS: usize = 1 << 14;

/// A function of a gate and its parameters.
#[derive(Clone, Copy)]
enum Activation {
    Function(UnaryFn),
    /// `alpha x + beta`
    Affine(f32, f32),
    /// `alpha tanh(beta x)`
    ScaledTanh(f32, f32),
}

/// What the three operators share.
struct Layer {
    steps: usize,
    batch: usize,
    hidden: usize,
    /// Gates of a cell: blocks of `hidden` rows of the weights.
    gates: usize,
    /// Whether the batch is the first axis of what the node reads and gives.
    batch_first: bool,
    clip: Option<f32>,
    /// `[steps * batch, size]`
    x: ValueId,
    /// The lengths of the sequences of a batch, `[batch, 1]`, where some may be shorter.
    lengths: Option<ValueId>,
}

/// One direction of a layer.
struct Direction {
    reverse: bool,
    activations: Vec<Activation>,
    /// Factors of the state in each block of gates, `[n * hidden, hidden]`.
    recurrence: Vec<ValueId>,
    /// Factors of the sequence, `[gates * hidden, size]`, and what is added to the product.
    weights: (ValueId, Option<ValueId>),
    /// What is added to the last block's product with the state, `[hidden]`.
    bias: Option<ValueId>,
    /// States `[batch, hidden]` to begin with.
    states: Vec<ValueId>,
    /// Factors of the cell state in the gates, `[hidden]` each.
    peepholes: Option<[ValueId; 3]>,
}

/// The states after a step from those before it and what the step takes from the sequence, `[batch, gates * hidden]`.
type Cell<'c> = &'c dyn Fn(&mut Context<'_>, &Layer, &Direction, ValueId, &[ValueId]) -> Result<Vec<ValueId>>;

/// `RNN`.
pub(crate) fn rnn(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    layer(cx, (&[1], 1), &["Tanh"], &[5], &|cx, layer, own, x, states| {
        let sum = affine(cx, own.recurrence[0], states[0], Some(x))?;
        Ok(vec![activate(cx, layer, own.activations[0], sum)?])
    })
}

/// `GRU`: gates z, r, h.
pub(crate) fn gru(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let reset_after = cx.version() >= 3 && cx.attrs().flag("linear_before_reset", false)?;
    let merged = if reset_after { 2 } else { 3 };
    layer(cx, (&[2, 1], merged), &["Sigmoid", "Tanh"], &[5], &move |cx, layer, own, x, states| {
        let (n, f, g) = (layer.hidden, own.activations[0], own.activations[1]);
        let (both, last) = (own.recurrence[0], own.recurrence[1]);
        let of_x = slice(cx, x, 1, 0, 2 * n)?;
        let gates = affine(cx, both, states[0], Some(of_x))?;
        let gates = activate(cx, layer, f, gates)?;
        let (z, r) = (slice(cx, gates, 1, 0, n)?, slice(cx, gates, 1, n, n)?);
        let of_x = slice(cx, x, 1, 2 * n, n)?;
        let sum = if reset_after {
            let product = affine(cx, last, states[0], own.bias)?;
            let kept = binary(cx, BinaryFn::Mul, r, product)?;
            binary(cx, BinaryFn::Add, of_x, kept)?
        } else {
            let kept = binary(cx, BinaryFn::Mul, r, states[0])?;
            affine(cx, last, kept, Some(of_x))?
        };
        let new = activate(cx, layer, g, sum)?;
        // (1 - z) h + z H
        let one = cx.scalar_like(z, 1.0)?;
        let rest = binary(cx, BinaryFn::Sub, one, z)?;
        let new = binary(cx, BinaryFn::Mul, rest, new)?;
        let old = binary(cx, BinaryFn::Mul, z, states[0])?;
        Ok(vec![binary(cx, BinaryFn::Add, new, old)?])
    })
}

/// `LSTM`: gates i, o, f, c.
pub(crate) fn lstm(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let coupled = cx.attrs().flag("input_forget", false)?;
    layer(cx, (&[4], 4), &["Sigmoid", "Tanh", "Tanh"], &[5, 6], &move |cx, layer, own, x, states| {
        let (n, [f, g, h]) = (layer.hidden, [0, 1, 2].map(|i| own.activations[i]));
        let gates = affine(cx, own.recurrence[0], states[0], Some(x))?;
        let gate = |cx: &mut Context<'_>, at: usize, peephole: Option<(usize, ValueId)>, function| -> Result<ValueId> {
            let mut sum = slice(cx, gates, 1, at * n, n)?;
            if let (Some(factors), Some((which, cell))) = (own.peepholes, peephole) {
                let seen = binary(cx, BinaryFn::Mul, factors[which], cell)?;
                sum = binary(cx, BinaryFn::Add, sum, seen)?;
            }
            activate(cx, layer, function, sum)
        };
        let i = gate(cx, 0, Some((0, states[1])), f)?;
        let forget = if coupled {
            let one = cx.scalar_like(i, 1.0)?;
            binary(cx, BinaryFn::Sub, one, i)?
        } else {
            gate(cx, 2, Some((2, states[1])), f)?
        };
        let c = gate(cx, 3, None, g)?;
        let (kept, taken) = (binary(cx, BinaryFn::Mul, forget, states[1])?, binary(cx, BinaryFn::Mul, i, c)?);
        let cell = binary(cx, BinaryFn::Add, kept, taken)?;
        let o = gate(cx, 1, Some((1, cell)), f)?;
        let shown = apply(cx, h, cell)?;
        Ok(vec![binary(cx, BinaryFn::Mul, o, shown)?, cell])
    })
}

/// A layer of cells with blocks of so many gates, of which the first `merged` add the bias of the state's product to the sequence's; `defaults`
/// are the functions of a direction, `initial` the inputs of the first states.
fn layer(
    cx: &mut Context<'_>,
    (blocks, merged): (&[usize], usize),
    defaults: &[&str],
    initial: &[usize],
    cell: Cell<'_>,
) -> Result<Vec<ValueId>> {
    let gates = blocks.iter().sum::<usize>();
    let batch_first = cx.version() >= 14 && cx.attrs().flag("layout", false)?;
    let (x, w, r) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let (&[first, second, size], &[directions, rows, hidden]) = (&cx.shape(x)[..], &cx.shape(r)[..]) else {
        let found = format!("{} and {}", cx.ty(x), cx.ty(r));
        return Err(cx.error("X and R", "three axes each", found));
    };
    let (steps, batch) = if batch_first { (second, first) } else { (first, second) };
    let stated = extent(cx, "hidden_size", cx.attrs().int("hidden_size", hidden as i64)?)?;
    let kinds = ["forward", "reverse", "bidirectional"];
    let direction = cx.attrs().string("direction", "forward")?;
    let reversed: &[bool] = match direction.to_ascii_lowercase().as_str() {
        "forward" => &[false],
        "reverse" => &[true],
        "bidirectional" => &[false, true],
        other => return Err(cx.error("direction", kinds.join(", "), other)),
    };
    let expect = |cx: &Context<'_>, field: &str, value: ValueId, shape: &[usize]| match cx.shape(value)[..] == *shape {
        true => Ok(()),
        false => Err(cx.error(field, format!("shape {shape:?}"), cx.ty(value).to_string())),
    };
    if directions != reversed.len() || stated != hidden || rows != gates * hidden {
        let expected = format!("shape [{}, {}, {stated}]", reversed.len(), gates * stated);
        return Err(cx.error("R", expected, cx.ty(r).to_string()));
    }
    expect(cx, "W", w, &[directions, rows, size])?;
    let total = steps.saturating_mul(directions);
    if total > MOST_STEPS {
        return Err(cx.unsupported(format!("{total} steps, of at most {MOST_STEPS}")));
    }
    let clip = if cx.attrs().has("clip") { Some(cx.attrs().require_float("clip")?) } else { None };
    let in_order = if batch_first { transpose(cx, x, vec![1, 0, 2])? } else { x };
    let lengths = lengths(cx, steps, batch)?;
    let x = reshape(cx, in_order, vec![steps * batch, size])?;
    let layer = Layer { steps, batch, hidden, gates, batch_first, clip, x, lengths };
    let activations = activations(cx, defaults, directions)?;
    let (bias, peepholes) = (cx.optional(3), if gates == 4 { cx.optional(7) } else { None });
    if let Some(bias) = bias {
        expect(cx, "B", bias, &[directions, 2 * rows])?;
    }
    if let Some(peepholes) = peepholes {
        expect(cx, "P", peepholes, &[directions, 3 * hidden])?;
    }
    let mut begin = Vec::with_capacity(initial.len());
    for slot in initial {
        let Some(state) = cx.optional(*slot) else {
            begin.push(None);
            continue;
        };
        let wanted = if batch_first { [batch, directions, hidden] } else { [directions, batch, hidden] };
        expect(cx, if *slot == 5 { "initial_h" } else { "initial_c" }, state, &wanted)?;
        begin.push(Some(if batch_first { transpose(cx, state, vec![1, 0, 2])? } else { state }));
    }
    let mut results = Vec::with_capacity(directions);
    for (at, (reverse, activations)) in reversed.iter().zip(activations).enumerate() {
        let (mut of_x, mut of_state) = (None, None);
        if let Some(bias) = bias {
            let bias = part(cx, bias, at)?;
            let first = merged * hidden;
            let (sequence, state) = (rows_of(cx, bias, 0, rows)?, rows_of(cx, bias, rows, rows)?);
            let parts = [rows_of(cx, sequence, 0, first)?, rows_of(cx, state, 0, first)?];
            let mut sum = binary(cx, BinaryFn::Add, parts[0], parts[1])?;
            if merged < gates {
                let rest = rows_of(cx, sequence, first, rows - first)?;
                sum = cx.emit(Concat { axis: 0 }, &[sum, rest])?;
                of_state = Some(rows_of(cx, state, first, rows - first)?);
            }
            of_x = Some(sum);
        }
        let factors = part(cx, r, at)?;
        let (mut recurrence, mut first) = (Vec::new(), 0);
        for block in blocks {
            recurrence.push(rows_of(cx, factors, first * hidden, block * hidden)?);
            first += block;
        }
        let own = Direction {
            reverse: *reverse,
            activations,
            recurrence,
            weights: (part(cx, w, at)?, of_x),
            bias: of_state,
            states: begin.iter().map(|state| first_state(cx, &layer, *state, at)).collect::<Result<_>>()?,
            peepholes: match peepholes {
                Some(peepholes) => {
                    let own = part(cx, peepholes, at)?;
                    let each = |cx: &mut Context<'_>, which: usize| rows_of(cx, own, which * hidden, hidden);
                    Some([each(cx, 0)?, each(cx, 1)?, each(cx, 2)?])
                }
                None => None,
            },
        };
        results.push(unroll(cx, &layer, &own, cell)?);
    }
    finish(cx, &layer, results)
}

/// What a direction gives: every step's result `[1, 1, batch, hidden]`, and the last states `[batch, hidden]`.
struct Unrolled {
    shown: Vec<ValueId>,
    states: Vec<ValueId>,
}

/// The steps of one direction.
fn unroll(cx: &mut Context<'_>, layer: &Layer, own: &Direction, cell: Cell<'_>) -> Result<Unrolled> {
    let Layer { steps, batch, hidden, gates, .. } = *layer;
    let all = affine(cx, own.weights.0, layer.x, own.weights.1)?;
    let all = reshape(cx, all, vec![steps, batch, gates * hidden])?;
    let mut states = own.states.clone();
    let mut shown = vec![None; steps];
    for number in 0..steps {
        let at = if own.reverse { steps - 1 - number } else { number };
        let x = slice(cx, all, 0, at, 1)?;
        let x = reshape(cx, x, vec![batch, gates * hidden])?;
        let mut new = cell(cx, layer, own, x, &states)?;
        let mut y = new[0];
        if let Some(lengths) = layer.lengths {
            let at = cx.scalar_like(lengths, at as f64)?;
            let within = binary(cx, BinaryFn::Less, at, lengths)?;
            for (new, old) in new.iter_mut().zip(&states) {
                *new = cx.emit(Where {}, &[within, *new, *old])?;
            }
            let zero = cx.scalar_like(y, 0.0)?;
            y = cx.emit(Where {}, &[within, y, zero])?;
        }
        states = new;
        shown[at] = Some(reshape(cx, y, vec![1, 1, batch, hidden])?);
    }
    Ok(Unrolled { shown: shown.into_iter().flatten().collect(), states })
}

/// The outputs `Y`, `Y_h` and, for cells that have one, `Y_c`.
fn finish(cx: &mut Context<'_>, layer: &Layer, results: Vec<Unrolled>) -> Result<Vec<ValueId>> {
    let Layer { batch, hidden, .. } = *layer;
    let mut out = Vec::new();
    let join = |cx: &mut Context<'_>, parts: &[ValueId], axis: usize| match parts {
        [only] => Ok(*only),
        parts => cx.emit(Concat { axis }, parts),
    };
    let wanted = cx.output_count();
    let named = |cx: &Context<'_>, at: usize| cx.node.output.get(at).is_some_and(|name| !name.is_empty());
    let mut shown = Vec::new();
    for result in &results {
        shown.push(match result.shown.is_empty() || !named(cx, 0) {
            // Nothing reads it, or there is none.
            true => empty(cx, &[0, 1, batch, hidden]),
            false => join(cx, &result.shown, 0)?,
        });
    }
    let y = join(cx, &shown, 1)?;
    out.push(if layer.batch_first { transpose(cx, y, vec![2, 0, 1, 3])? } else { y });
    let count = results.first().map_or(0, |result| result.states.len());
    for state in 0..count.min(wanted.saturating_sub(1)) {
        let mut parts = Vec::new();
        for result in &results {
            parts.push(reshape(cx, result.states[state], vec![1, batch, hidden])?);
        }
        let all = join(cx, &parts, 0)?;
        out.push(if layer.batch_first { transpose(cx, all, vec![1, 0, 2])? } else { all });
    }
    Ok(out)
}

/// A constant without elements.
fn empty(cx: &mut Context<'_>, shape: &[usize]) -> ValueId {
    int_constant(cx, DType::F32, shape.to_vec(), &[])
}

/// The state of a direction to begin with; zeros where none is given.
fn first_state(cx: &mut Context<'_>, layer: &Layer, given: Option<ValueId>, direction: usize) -> Result<ValueId> {
    if let Some(given) = given {
        return part(cx, given, direction);
    }
    let count = layer.batch * layer.hidden;
    cx.charge(count as u64)?;
    let dtype = cx.ty(layer.x).dtype;
    Ok(int_constant(cx, dtype, vec![layer.batch, layer.hidden], &vec![0; count]))
}

/// Input `sequence_lens` as `[batch, 1]`; `None` where every sequence is known to have all steps.
fn lengths(cx: &mut Context<'_>, steps: usize, batch: usize) -> Result<Option<ValueId>> {
    let Some(lengths) = cx.optional(4) else { return Ok(None) };
    if cx.shape(lengths)[..] != [batch] {
        return Err(cx.error("sequence_lens", format!("shape [{batch}]"), cx.ty(lengths).to_string()));
    }
    if cx.constant(lengths).is_some() {
        let known = cx.const_list(lengths, "sequence_lens")?;
        if let Some(wrong) = known.iter().find(|length| !(0..=steps as i64).contains(length)) {
            return Err(cx.error("sequence_lens", format!("lengths up to {steps}"), wrong.to_string()));
        }
        if known.iter().all(|length| *length == steps as i64) {
            return Ok(None);
        }
    }
    Ok(Some(reshape(cx, lengths, vec![batch, 1])?))
}

/// Part `at` along the first axis, without that axis.
fn part(cx: &mut Context<'_>, x: ValueId, at: usize) -> Result<ValueId> {
    let rest = cx.shape(x)[1..].to_vec();
    let one = rows_of(cx, x, at, 1)?;
    reshape(cx, one, rest)
}

/// `count` parts along the first axis from `first` on. Of a constant they are the same bytes.
fn rows_of(cx: &mut Context<'_>, x: ValueId, first: usize, count: usize) -> Result<ValueId> {
    let mut shape = cx.shape(x).to_vec();
    if let Some(constant) = cx.constant(x)
        && let Payload::Bytes(bytes) = &constant.payload
        && shape[0] != count
    {
        let each = bytes.len() / shape[0];
        let (bytes, dtype) = (bytes.slice(first * each..(first + count) * each), constant.ty.dtype);
        shape[0] = count;
        return Ok(cx.add_constant(Constant::from_bytes(TensorType::new(dtype, shape), bytes)));
    }
    slice(cx, x, 0, first, count)
}

/// `size` elements along an axis from `start` on.
fn slice(cx: &mut Context<'_>, x: ValueId, axis: usize, start: usize, size: usize) -> Result<ValueId> {
    let mut sizes = cx.shape(x).to_vec();
    if sizes[axis] == size {
        return Ok(x);
    }
    let mut starts = vec![0; sizes.len()];
    (starts[axis], sizes[axis]) = (start, size);
    cx.emit(Slice { starts, steps: Vec::new(), sizes }, &[x])
}

/// `x weights^T + addend`
fn affine(cx: &mut Context<'_>, weights: ValueId, x: ValueId, addend: Option<ValueId>) -> Result<ValueId> {
    let operands: Vec<ValueId> = [x, weights].into_iter().chain(addend).collect();
    cx.emit(Gemm { trans_b: true, bias: addend.is_some(), ..Gemm::default() }, &operands)
}

/// A gate's function of its sum, which is clipped first where the layer says so.
fn activate(cx: &mut Context<'_>, layer: &Layer, activation: Activation, sum: ValueId) -> Result<ValueId> {
    let sum = match layer.clip {
        Some(clip) => unary(cx, UnaryFn::Clip(-clip, clip), sum)?,
        None => sum,
    };
    apply(cx, activation, sum)
}

fn apply(cx: &mut Context<'_>, activation: Activation, x: ValueId) -> Result<ValueId> {
    match activation {
        Activation::Function(function) => unary(cx, function, x),
        Activation::Affine(alpha, beta) => {
            let scaled = with_scalar(cx, BinaryFn::Mul, x, f64::from(alpha))?;
            with_scalar(cx, BinaryFn::Add, scaled, f64::from(beta))
        }
        Activation::ScaledTanh(alpha, beta) => {
            let scaled = with_scalar(cx, BinaryFn::Mul, x, f64::from(beta))?;
            let tanh = unary(cx, UnaryFn::Tanh, scaled)?;
            with_scalar(cx, BinaryFn::Mul, tanh, f64::from(alpha))
        }
    }
}

/// The functions of each direction. Alphas and betas go to those that have them, one after the other.
fn activations(cx: &Context<'_>, defaults: &[&str], directions: usize) -> Result<Vec<Vec<Activation>>> {
    let attributes = cx.attrs();
    let names = match attributes.strings("activations")? {
        Some(names) if names.len() != defaults.len() * directions => {
            let expected = format!("{} names", defaults.len() * directions);
            return Err(cx.error("activations", expected, names.len().to_string()));
        }
        Some(names) => names,
        None => defaults.repeat(directions),
    };
    let mut alphas = attributes.floats("activation_alpha")?.unwrap_or_default().into_iter();
    let mut betas = attributes.floats("activation_beta")?.unwrap_or_default().into_iter();
    let mut found = Vec::with_capacity(names.len());
    for name in names {
        let mut alpha = |default: f32| alphas.next().unwrap_or(default);
        let mut beta = |default: f32| betas.next().unwrap_or(default);
        found.push(match name.to_ascii_lowercase().as_str() {
            "relu" => Activation::Function(UnaryFn::Relu),
            "tanh" => Activation::Function(UnaryFn::Tanh),
            "sigmoid" => Activation::Function(UnaryFn::Sigmoid),
            "softsign" => Activation::Function(UnaryFn::Softsign),
            "softplus" => Activation::Function(UnaryFn::Softplus),
            "leakyrelu" => Activation::Function(UnaryFn::LeakyRelu(alpha(0.01))),
            "thresholdedrelu" => Activation::Function(UnaryFn::ThresholdedRelu(alpha(1.0))),
            "elu" => Activation::Function(UnaryFn::Elu(alpha(1.0))),
            "hardsigmoid" => Activation::Function(UnaryFn::HardSigmoid(alpha(0.2), beta(0.5))),
            "affine" => Activation::Affine(alpha(1.0), beta(0.0)),
            "scaledtanh" => Activation::ScaledTanh(alpha(1.0), beta(1.0)),
            _ => return Err(cx.error("activations", "functions that ONNX names for recurrent layers", name)),
        });
    }
    Ok(found.chunks(defaults.len()).map(<[Activation]>::to_vec).collect())
}
