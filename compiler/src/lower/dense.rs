//! Matrix products as steps, and the gate of squeeze-and-excite that two of them make.
//!
//! In: rows in a row-major view, a matrix, perhaps a bias. Out: a matrix-vector step for few rows, a 1x1 convolution for many, after
//! the steps that pack what is no constant. Both start from the bias and add by input, ascending, so the choice changes no bit.

use super::context::Lowering;
use super::weights;
use crate::codegen::epilogue::Epilogue;
use crate::kernels::parts::function;
use crate::kernels::{Conv, Gemv, Mean, conv, packing};
use crate::plan::{AxisOrder, Operand, ViewId};
use fornax_ir::OpError;
use fornax_ir::scalar::UnaryFn;
use fornax_ir::types::{DType, TensorType};

/// Rows up to which a product runs at the bandwidth of its weights rather than at the rate of the arithmetic.
pub const FEW_ROWS: usize = 4;

/// The right operand of a product.
#[derive(Clone, Copy, Debug)]
pub struct Matrix {
    /// The operand that holds it.
    pub operand: usize,
    /// Whether it is stored `[N, K]` instead of `[K, N]`.
    pub transposed: bool,
    /// Power of two that its elements are multiplied by.
    pub factor: f32,
}

/// A product of rows with a matrix.
#[derive(Clone, Debug)]
pub struct Product {
    pub rows: usize,
    /// Inputs of each output.
    pub inputs: usize,
    /// Outputs of each row.
    pub outputs: usize,
    /// What follows the bias.
    pub epilogue: Epilogue,
}

impl Product {
    fn is_gemv(&self) -> bool {
        self.rows <= FEW_ROWS || self.inputs == 0
    }

    fn gemv(&self) -> Gemv {
        let Self { rows, inputs, outputs, .. } = *self;
        Gemv { element: DType::F32, weights: DType::F32, rows, inputs, outputs, activation: function(&self.epilogue) }
    }

    /// Whether there is a kernel: those for few rows have no epilogue but an activation.
    pub fn applies(&self) -> bool {
        !self.is_gemv() || self.epilogue == Epilogue::new(function(&self.epilogue), false, false)
    }

    /// Floats of the packed bias.
    pub fn bias_len(&self) -> usize {
        if self.is_gemv() { self.gemv().bias_len() } else { conv::padded(self.outputs) }
    }

    /// The kernel of `bf16` that stores `f32`, where the plan's precision lets it and the matrix is known.
    fn in_runs(&self, cx: &Lowering<'_>, matrix: Matrix) -> Option<Conv> {
        let Self { rows, inputs, outputs, .. } = *self;
        let known = cx.narrow && matrix.factor == 1.0 && weights::constant(cx, matrix.operand).is_some();
        let run = conv::runs(inputs).filter(|_| known);
        let spec = Conv::pointwise(rows, inputs, outputs, self.epilogue.clone());
        run.map(|run| Conv { element: DType::BF16, run: Some(run), stored: Some(DType::F32), ..spec })
    }

    /// Adds the step `y = epilogue(x matrix + bias)`, for which [`Self::applies`] holds; `maps` are those of the epilogue.
    ///
    /// # Errors
    /// If the matrix is not [`weights::usable`].
    pub fn lower(
        &self,
        cx: &mut Lowering<'_>,
        x: Operand,
        matrix: Matrix,
        bias: Operand,
        (y, maps): (ViewId, &[ViewId]),
    ) -> Result<(), OpError> {
        if self.is_gemv() {
            return gemv(cx, self.gemv(), x, matrix, bias, y);
        }
        let Self { rows, inputs, outputs, .. } = *self;
        if let (Some(spec), Operand::View(x)) = (self.in_runs(cx, matrix), x) {
            let x = cx.stored(x, AxisOrder::RowMajor, spec.element);
            let packing = if matrix.transposed { spec.weight_packing() } else { spec.matrix_packing() };
            let weights = weights::pack_as(cx, matrix.operand, packing, spec.element)?;
            let mut operands = vec![x.into(), weights, bias];
            operands.extend(maps.iter().chain([&y]).map(|view| Operand::from(*view)));
            cx.step(spec, &operands);
            return Ok(());
        }
        let packing = packing::panels([inputs, outputs], matrix.transposed, matrix.factor, conv::width(outputs));
        let weights = weights::pack(cx, matrix.operand, packing)?;
        let spec = Conv::pointwise(rows, inputs, outputs, self.epilogue.clone());
        let mut operands = vec![x, weights, bias];
        operands.extend(maps.iter().chain([&y]).map(|view| Operand::from(*view)));
        cx.step(spec, &operands);
        Ok(())
    }
}

/// Adds the step `y = activation(x matrix + bias)`.
///
/// # Errors
/// If the matrix is not [`weights::usable`].
pub fn gemv(
    cx: &mut Lowering<'_>,
    spec: Gemv,
    x: Operand,
    matrix: Matrix,
    bias: Operand,
    y: ViewId,
) -> Result<(), OpError> {
    let constant = weights::constant(cx, matrix.operand).is_some();
    let narrow = cx.narrow && constant && matrix.factor == 1.0 && spec.element == DType::F32;
    let spec = Gemv { weights: if narrow { DType::BF16 } else { spec.weights }, ..spec };
    let packing = spec.weight_packing(matrix.transposed, matrix.factor);
    let weights = weights::pack_as(cx, matrix.operand, packing, spec.weights)?;
    cx.step(spec, &[x, weights, bias, y.into()]);
    Ok(())
}

/// What a squeeze starts from.
#[derive(Clone, Copy, Debug)]
pub enum Squeeze {
    /// A channel-last map `[N, C, H, W]`.
    Map(ViewId),
    /// Sums over the rows of a map, `[N, rows, C]`, and the number of pixels of one image that they sum.
    RowSums(ViewId, usize),
}

/// Adds the steps of `gate(w2 act(w1 mean + b1) + b2)` and returns its view `[N, C]`. `operands` are the places of
/// `w1 [R, C, 1, 1]`, `b1 [R]`, `w2 [C, R, 1, 1]` and `b2 [C]` (see [`weights::usable`]); `functions` are act and
/// gate, `parts` the names of mean and products among the parts of the node.
///
/// # Errors
/// If a weight or bias is not usable.
pub fn squeeze_gate(
    cx: &mut Lowering<'_>,
    source: Squeeze,
    operands: [usize; 4],
    (functions, parts): ([UnaryFn; 2], [&str; 3]),
) -> Result<ViewId, OpError> {
    let [w1, b1, w2, b2] = operands;
    let (view, spec) = squeeze(cx, source)?;
    let (batch, channels) = (spec.batch, spec.channels);
    let reduced = cx.operand_type(b1).shape.numel();
    let means = cx.temp("mean", TensorType::f32([batch, channels]), AxisOrder::RowMajor);
    cx.part(&parts[..1]);
    cx.step(spec, &[view.into(), means.into()]);
    let mut x = means;
    let stages =
        [(w1, b1, [channels, reduced], "reduced", functions[0]), (w2, b2, [reduced, channels], "gate", functions[1])];
    for ((w, b, [inputs, outputs], name, function), part) in stages.into_iter().zip(&parts[1..]) {
        cx.part(&[part]);
        let spec =
            Gemv { element: DType::F32, weights: DType::F32, rows: batch, inputs, outputs, activation: Some(function) };
        let bias = weights::padded_bias(cx, Some(b), outputs, spec.bias_len())?;
        let y = cx.temp(name, TensorType::f32([batch, outputs]), AxisOrder::RowMajor);
        gemv(cx, spec, x.into(), Matrix { operand: w, transposed: true, factor: 1.0 }, bias, y)?;
        x = y;
    }
    Ok(x)
}

/// The mean of a squeeze, and the view it reads.
fn squeeze(cx: &Lowering<'_>, source: Squeeze) -> Result<(ViewId, Mean), OpError> {
    let (Squeeze::Map(view) | Squeeze::RowSums(view, _)) = source;
    let TensorType { shape, dtype } = &cx.plan.view(view).ty;
    // What is squeezed stays `f32`.
    let (element, input) = (DType::F32, *dtype);
    let mean = match (source, &shape[..]) {
        (Squeeze::Map(_), [batch, channels, rows, columns]) => {
            let count = rows * columns;
            Mean { element, input, batch: *batch, rows: *rows, columns: *columns, channels: *channels, count }
        }
        (Squeeze::RowSums(_, count), [batch, rows, channels]) => {
            Mean { element, input, batch: *batch, rows: *rows, columns: 1, channels: *channels, count }
        }
        _ => return Err(OpError::new("squeeze", "a map of two axes or its row sums", shape.to_string())),
    };
    Ok((view, mean))
}
