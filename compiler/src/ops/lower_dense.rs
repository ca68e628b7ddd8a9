//! Matrix products of few rows as steps, and the gate of squeeze-and-excite that two of them make.
//!
//! In: rows in a row-major slot, a constant matrix, perhaps a constant bias. Out: matrix-vector steps.

use super::weights;
use crate::error::OpError;
use crate::kernels::{Gemv, Mean};
use crate::plan::lowering::Lowering;
use crate::plan::{ConstId, Layout, SlotId};
use crate::scalar::UnaryFn;
use crate::types::TensorType;

/// Rows up to which a product runs at the bandwidth of its weights rather than at the rate of the arithmetic.
pub const FEW_ROWS: usize = 4;

/// A constant matrix.
#[derive(Clone, Copy, Debug)]
pub struct Matrix {
    /// The operand that holds it.
    pub operand: usize,
    /// Whether it is stored `[N, K]` instead of `[K, N]`.
    pub transposed: bool,
    /// Power of two that its elements are multiplied by.
    pub factor: f32,
}

/// Adds the step `y = then(x matrix + bias)`.
///
/// # Errors
/// If the matrix is no known `f32` constant.
pub fn gemv(
    cx: &mut Lowering<'_>,
    spec: Gemv,
    x: SlotId,
    matrix: Matrix,
    bias: ConstId,
    y: SlotId,
) -> Result<(), OpError> {
    let Matrix { operand, transposed, factor } = matrix;
    let order = if transposed { "nk" } else { "kn" };
    let packing = format!("panels of {} {order}{}x{} times {factor}", Gemv::PANEL, spec.inputs, spec.outputs);
    let packer = spec.clone();
    let weights = weights::pack(cx, operand, &packing, spec.weight_len(), move |from, to| {
        let (k_step, n_step) = if transposed { (1, packer.inputs) } else { (packer.outputs, 1) };
        let scaled = |element: [u8; 4]| (f32::from_le_bytes(element) * factor).to_le_bytes();
        packer.pack(|k, n| scaled(from[k * k_step + n * n_step]), to);
    })?;
    cx.step(spec, &[x.into(), weights.into(), bias.into(), y.into()]);
    Ok(())
}

/// What a squeeze starts from.
#[derive(Clone, Copy, Debug)]
pub enum Squeeze {
    /// A channel-last map `[N, C, H, W]`.
    Map(SlotId),
    /// Sums over the rows of a map, `[N, rows, C]`, and the pixels of one image behind them.
    RowSums(SlotId, usize),
}

/// Adds the steps of `gate(w2 act(w1 mean + b1) + b2)` and returns its slot `[N, C]`. `operands` are the places of
/// `w1 [R, C, 1, 1]`, `b1 [R]`, `w2 [C, R, 1, 1]` and `b2 [C]`, known constants (see [`weights::constant`]); `functions` are act and gate.
///
/// # Errors
/// If a weight or bias is no known `f32` constant.
pub fn squeeze_gate(
    cx: &mut Lowering<'_>,
    source: Squeeze,
    operands: [usize; 4],
    functions: [UnaryFn; 2],
) -> Result<SlotId, OpError> {
    let [w1, b1, w2, b2] = operands;
    let (slot, spec) = squeeze(cx, source)?;
    let (batch, channels) = (spec.batch, spec.channels);
    let reduced = cx.operand_type(b1).shape.numel();
    let means = cx.temp("mean", TensorType::f32([batch, channels]), Layout::RowMajor);
    cx.step(spec, &[slot.into(), means.into()]);
    let mut x = means;
    let stages =
        [(w1, b1, [channels, reduced], "reduced", functions[0]), (w2, b2, [reduced, channels], "gate", functions[1])];
    for (w, b, [inputs, outputs], name, function) in stages {
        let spec = Gemv { rows: batch, inputs, outputs, then: Some(function) };
        let bias = weights::bias(cx, Some(b), spec.bias_len())?;
        let y = cx.temp(name, TensorType::f32([batch, outputs]), Layout::RowMajor);
        gemv(cx, spec, x, Matrix { operand: w, transposed: true, factor: 1.0 }, bias, y)?;
        x = y;
    }
    Ok(x)
}

/// The mean behind a squeeze, and the slot it reads.
fn squeeze(cx: &Lowering<'_>, source: Squeeze) -> Result<(SlotId, Mean), OpError> {
    let (Squeeze::Map(slot) | Squeeze::RowSums(slot, _)) = source;
    let shape = &cx.plan.slot(slot).ty.shape;
    let mean = match (source, &shape[..]) {
        (Squeeze::Map(_), [batch, channels, rows, columns]) => {
            Mean { batch: *batch, rows: *rows, columns: *columns, channels: *channels, count: rows * columns }
        }
        (Squeeze::RowSums(_, count), [batch, rows, channels]) => {
            Mean { batch: *batch, rows: *rows, columns: 1, channels: *channels, count }
        }
        _ => return Err(OpError::new("squeeze", "a map of two axes or its row sums", shape.to_string())),
    };
    Ok((slot, mean))
}
