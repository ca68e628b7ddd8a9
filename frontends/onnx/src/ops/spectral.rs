//! Signals: windows, MelWeightMatrix, DFT and STFT.
//!
//! Windows and filter banks are constants. A transform is the product with a constant matrix of cosines and sines, computed in `f64` and rounded once.

use std::f64::consts::PI;

use fornax_ir::graph::ValueId;
use fornax_ir::ops::literal::Literal;
use fornax_ir::ops::pad::PadMode;
use fornax_ir::ops::{Gather, MatMul, Pad, Slice};
use fornax_ir::scalar::BinaryFn;
use fornax_ir::types::{DType, TensorType};

use crate::context::Context;
use crate::error::Result;

use super::support::{axis, binary, dtype, extent, int_constant, reshape, transpose};

/// A constant of numbers, rounded to a type.
fn table(cx: &mut Context<'_>, ty: DType, shape: Vec<usize>, values: Vec<f64>) -> Result<ValueId> {
    cx.charge(values.len() as u64)?;
    let ty = TensorType::new(ty, shape);
    let literal = match ty.dtype.is_float() {
        true => Literal::new_float(ty, values),
        false => Literal::new_int(ty, values.into_iter().map(|v| v as i64).collect()),
    };
    Ok(cx.add_constant(literal.to_constant()))
}

/// A window of cosines of whole multiples: the sum of `weights[k] cos(2 pi k i / n)`, with alternating signs.
fn window(cx: &mut Context<'_>, weights: &[f64]) -> Result<Vec<ValueId>> {
    let size = extent(cx, "size", cx.const_int(cx.input(0)?, "size")?)?;
    let ty = dtype(cx, "output_datatype", cx.attrs().int("output_datatype", 1)?)?;
    cx.charge(size as u64)?;
    let periodic = cx.attrs().flag("periodic", true)?;
    let period = if periodic { size as f64 } else { size as f64 - 1.0 };
    let value = |i: usize| {
        let term = |(k, weight): (usize, &f64)| {
            let sign = if k.is_multiple_of(2) { 1.0 } else { -1.0 };
            sign * weight * (2.0 * PI * k as f64 * i as f64 / period).cos()
        };
        weights.iter().enumerate().map(term).sum::<f64>()
    };
    let values = (0..size).map(|i| if size == 1 { 1.0 } else { value(i) }).collect();
    Ok(vec![table(cx, ty, vec![size], values)?])
}

/// `HannWindow`.
pub(crate) fn hann_window(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    window(cx, &[0.5, 0.5])
}

/// `HammingWindow`, of the exact weights 25/46 and 21/46.
pub(crate) fn hamming_window(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    window(cx, &[25.0 / 46.0, 21.0 / 46.0])
}

/// `BlackmanWindow`.
pub(crate) fn blackman_window(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    window(cx, &[0.42, 0.5, 0.08])
}

/// `MelWeightMatrix`: triangles over the bins of a spectrum, between centres that are even on the mel scale (2595 log10(1 + f / 700)).
pub(crate) fn mel_weight_matrix(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let whole = |cx: &Context<'_>, slot: usize, field: &str| extent(cx, field, cx.const_int(cx.input(slot)?, field)?);
    let bands = whole(cx, 0, "num_mel_bins")?;
    let length = whole(cx, 1, "dft_length")?;
    let rate = whole(cx, 2, "sample_rate")?;
    let edge = |cx: &Context<'_>, slot: usize, field: &str| cx.const_f64(cx.input(slot)?, field);
    let (low, high) = (edge(cx, 3, "lower_edge_hertz")?, edge(cx, 4, "upper_edge_hertz")?);
    let ty = dtype(cx, "output_datatype", cx.attrs().int("output_datatype", 1)?)?;
    if rate == 0 || bands == usize::MAX {
        return Err(cx.error("sample_rate", "1 or more", rate.to_string()));
    }
    let bins = length / 2 + 1;
    cx.charge((bins as u64).saturating_mul(bands as u64))?;
    let mel = |hertz: f64| 2595.0 * (1.0 + hertz / 700.0).log10();
    let (first, last) = (mel(low), mel(high));
    let step = (last - first) / (bands as f64 + 2.0);
    let bin = |i: usize| {
        let hertz = 700.0 * (10f64.powf((first + i as f64 * step) / 2595.0) - 1.0);
        ((length as f64 + 1.0) * hertz / rate as f64).floor().max(0.0) as usize
    };
    let mut values = vec![0.0; bins * bands];
    for band in 0..bands {
        let (lower, centre, higher) = (bin(band), bin(band + 1), bin(band + 2));
        let rising = centre.saturating_sub(lower);
        let falling = higher.saturating_sub(centre);
        if rising == 0 && centre < bins {
            values[centre * bands + band] = 1.0;
        }
        for at in lower..=centre.min(bins.saturating_sub(1)) {
            if rising > 0 {
                values[at * bands + band] = (at - lower) as f64 / rising as f64;
            }
        }
        for at in centre..higher.min(bins) {
            if falling > 0 {
                values[at * bands + band] = (higher - at) as f64 / falling as f64;
            }
        }
    }
    Ok(vec![table(cx, ty, vec![bins, bands], values)?])
}

/// A transform of a length.
#[derive(Clone, Copy)]
struct Transform {
    /// Length of the period.
    length: usize,
    /// How many elements come out.
    bins: usize,
    inverse: bool,
}

/// The last two axes `[n, 1]` (real) or `[n, 2]` of `x` transformed to `[bins, 2]`.
fn transformed(cx: &mut Context<'_>, x: ValueId, t: Transform) -> Result<ValueId> {
    let shape = cx.shape(x).to_vec();
    let [.., n, parts] = shape[..] else { return Err(cx.error("input", "rank 2 or more", cx.ty(x).to_string())) };
    let (rows, columns) = (n.saturating_mul(parts), t.bins.saturating_mul(2));
    cx.charge((rows as u64).saturating_mul(columns as u64))?;
    let mut values = vec![0.0; rows * columns];
    let (sign, scale) = if t.inverse { (1.0, 1.0 / t.length as f64) } else { (-1.0, 1.0) };
    for i in 0..n {
        for k in 0..t.bins {
            // Whole turns go before the angle is rounded.
            let turn = ((i as u128 * k as u128) % t.length as u128) as f64 / t.length as f64;
            let (sine, cosine) = (sign * (2.0 * PI * turn).sin() * scale, (2.0 * PI * turn).cos() * scale);
            values[i * parts * columns + 2 * k] = cosine;
            values[i * parts * columns + 2 * k + 1] = sine;
            if parts == 2 {
                values[(i * 2 + 1) * columns + 2 * k] = -sine;
                values[(i * 2 + 1) * columns + 2 * k + 1] = cosine;
            }
        }
    }
    let ty = cx.ty(x).dtype;
    let matrix = table(cx, ty, vec![rows, columns], values)?;
    let outer = &shape[..shape.len() - 2];
    let flat = reshape(cx, x, [outer, &[rows]].concat())?;
    let y = cx.emit(MatMul {}, &[flat, matrix])?;
    reshape(cx, y, [outer, &[t.bins, 2]].concat())
}

/// The real signal `[length, 1]` whose spectrum has the last two axes of `x` as its first half; the other half is its mirror.
fn of_one_side(cx: &mut Context<'_>, x: ValueId, length: usize) -> Result<ValueId> {
    let shape = cx.shape(x).to_vec();
    let [.., bins, parts] = shape[..] else { return Err(cx.error("input", "rank 2 or more", cx.ty(x).to_string())) };
    let rows = bins.saturating_mul(parts);
    cx.charge((rows as u64).saturating_mul(length as u64))?;
    let mut values = vec![0.0; rows * length];
    for k in 0..bins {
        let weight = if k == 0 || 2 * k == length { 1.0 } else { 2.0 } / length as f64;
        for i in 0..length {
            let turn = ((i as u128 * k as u128) % length as u128) as f64 / length as f64;
            values[k * parts * length + i] = weight * (2.0 * PI * turn).cos();
            if parts == 2 {
                values[(k * 2 + 1) * length + i] = -weight * (2.0 * PI * turn).sin();
            }
        }
    }
    let ty = cx.ty(x).dtype;
    let matrix = table(cx, ty, vec![rows, length], values)?;
    let outer = &shape[..shape.len() - 2];
    let flat = reshape(cx, x, [outer, &[rows]].concat())?;
    let y = cx.emit(MatMul {}, &[flat, matrix])?;
    reshape(cx, y, [outer, &[length, 1]].concat())
}

/// `DFT` along an axis of a real or complex signal, cut or filled with zeros to a length.
pub(crate) fn dft(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let rank = cx.shape(x).rank();
    if rank < 2 || !matches!(cx.shape(x).last(), Some(1 | 2)) {
        return Err(cx.error("input", "rank 2 or more, with 1 or 2 parts last", cx.ty(x).to_string()));
    }
    let given = match (cx.version(), cx.optional(2)) {
        (..20, _) => cx.attrs().int("axis", 1)?,
        (_, Some(id)) => cx.const_int(id, "axis")?,
        (_, None) => -2,
    };
    let at = axis(cx, "axis", given, rank)?;
    if at == rank - 1 {
        return Err(cx.error("axis", "another than the last, of parts", given.to_string()));
    }
    let (inverse, onesided) = (cx.attrs().flag("inverse", false)?, cx.attrs().flag("onesided", false)?);
    let n = cx.shape(x)[at];
    let length = match cx.optional(1) {
        None if inverse && onesided => 2 * n.saturating_sub(1),
        None => n,
        Some(id) => extent(cx, "dft_length", cx.const_int(id, "dft_length")?)?,
    };
    if length == 0 {
        return Err(cx.error("dft_length", "1 or more", "0"));
    }
    let half = length / 2 + 1;
    let x = fitted(cx, x, at, if inverse && onesided { half } else { length })?;
    // The axis goes before the parts.
    let mut perm: Vec<usize> = (0..rank).collect();
    perm[at..rank - 1].rotate_left(1);
    let moved = transpose(cx, x, perm)?;
    let bins = if onesided { half } else { length };
    let y = match inverse && onesided {
        true => of_one_side(cx, moved, length)?,
        false => transformed(cx, moved, Transform { length, bins, inverse })?,
    };
    let mut back: Vec<usize> = (0..rank).collect();
    back[at..rank - 1].rotate_right(1);
    Ok(vec![transpose(cx, y, back)?])
}

/// `x` cut or filled with zeros to a length along an axis.
fn fitted(cx: &mut Context<'_>, x: ValueId, axis: usize, length: usize) -> Result<ValueId> {
    let mut shape = cx.shape(x).to_vec();
    let n = shape[axis];
    if n > length {
        shape[axis] = length;
        return cx.emit(Slice { starts: vec![0; shape.len()], steps: Vec::new(), sizes: shape }, &[x]);
    }
    if n == length {
        return Ok(x);
    }
    let mut pads = vec![0; 2 * shape.len()];
    pads[axis + shape.len()] = (length - n) as i64;
    cx.emit(Pad { mode: PadMode::Constant, pads, value: 0.0 }, &[x])
}

/// `STFT`: transforms of frames of a signal, each times a window.
pub(crate) fn stft(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (signal, window) = (cx.input(0)?, cx.optional(2));
    let step = extent(cx, "frame_step", cx.const_int(cx.input(1)?, "frame_step")?)?;
    let (batch, samples, parts) = match cx.shape(signal)[..] {
        [batch, samples] => (batch, samples, 1),
        [batch, samples, parts @ (1 | 2)] => (batch, samples, parts),
        _ => return Err(cx.error("signal", "[n, samples], with 1 or 2 parts last", cx.ty(signal).to_string())),
    };
    let length = match (cx.optional(3), window) {
        (Some(id), _) => extent(cx, "frame_length", cx.const_int(id, "frame_length")?)?,
        (None, Some(window)) => cx.shape(window).numel(),
        (None, None) => samples,
    };
    if step == 0 || length == 0 || length > samples {
        return Err(cx.error("frame_length", format!("1 to {samples}, in steps of 1 or more"), length.to_string()));
    }
    let onesided = cx.attrs().flag("onesided", true)?;
    if onesided && parts == 2 {
        return Err(cx.error("onesided", "0 for a complex signal", "1"));
    }
    let frames = (samples - length) / step + 1;
    cx.charge((frames as u64).saturating_mul(length as u64))?;
    let places: Vec<i64> = (0..frames).flat_map(|f| (0..length).map(move |i| (f * step + i) as i64)).collect();
    let places = int_constant(cx, DType::I64, vec![frames, length], &places);
    let signal = reshape(cx, signal, vec![batch, samples, parts])?;
    let mut cut = cx.emit(Gather { axis: 1 }, &[signal, places])?;
    if let Some(window) = window {
        if cx.shape(window)[..] != [length] {
            return Err(cx.error("window", format!("shape [{length}]"), cx.ty(window).to_string()));
        }
        let window = reshape(cx, window, vec![1, 1, length, 1])?;
        cut = binary(cx, BinaryFn::Mul, cut, window)?;
    }
    let bins = if onesided { length / 2 + 1 } else { length };
    Ok(vec![transformed(cx, cut, Transform { length, bins, inverse: false })?])
}
