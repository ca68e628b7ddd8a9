//! Convolutions as steps, for every operator that holds one: which kernel family computes it, and how its weights are packed.
//!
//! In: a convolution, its weights and bias named by their operand numbers, and views for everything else. Out: one step, after those that
//! pack weights and bias which are no constants.

use super::context::Lowering;
use super::{dense, depthwise, discrete, weights, windows};
use crate::codegen::elements::in_pairs;
use crate::codegen::epilogue::Epilogue;
use crate::kernels::{self, ScaleWeights, conv, winograd};
use crate::plan::{AxisOrder, Operand, ViewId};
use fornax_ir::ops::Conv;
use fornax_ir::ops::window::Window;
use fornax_ir::types::{DType, TensorType};
use fornax_ir::{OpError, Verdict};

/// Most input channels that are read from a row-major image as they are.
pub const FEW_CHANNELS: usize = 4;
/// Most bytes of a row-major image or of a channel-last row: they are addressed by 32-bit displacements.
pub const NEAR: usize = 1 << 28;

/// A convolution within an operator.
#[derive(Debug)]
pub struct ConvCall<'a> {
    pub op: &'a Conv,
    /// Type of its input.
    pub x: &'a TensorType,
    /// Operand that holds its weights.
    pub weights: usize,
    /// Operand that holds its bias.
    pub bias: Option<usize>,
    /// Type of its result.
    pub y: &'a TensorType,
}

/// The kernel of a convolution.
#[derive(Clone, Debug)]
pub enum ConvKernel {
    /// One filter per channel.
    Depthwise(kernels::Depthwise),
    /// A few pixels under one tap.
    Gemv(kernels::Gemv),
    /// Three by three taps, where the transforms pay.
    Winograd(winograd::Choice),
    /// Everything else.
    Dense(kernels::Conv),
    /// One of these over the input with its padding written out, whose windows these are.
    Padded(Box<ConvKernel>, [Window; 2]),
}

/// Slots that only some convolutions have.
#[derive(Clone, Copy, Default, Debug)]
pub struct FusedOperands {
    /// Added to the result; channel-last.
    pub residual: Option<ViewId>,
    /// Where the slopes of the activation go; channel-last.
    pub slope: Option<ViewId>,
    /// Factors of each image's input channels, `[N, C]`, that the packed weights take on.
    pub gate: Option<ViewId>,
}

impl ConvCall<'_> {
    /// The kernel for an input in `order`; `None` for what these families do not cover: weights that are neither known nor computed as `f32`, other
    /// element types, more than two spatial axes.
    pub fn native(&self, cx: &Lowering<'_>, order: AxisOrder) -> Result<Option<ConvKernel>, OpError> {
        let usable = weights::usable(cx, self.weights) && self.bias.is_none_or(|bias| weights::usable(cx, bias));
        let pairs = in_pairs(self.x.dtype);
        if !(self.x.dtype == DType::F32 || pairs) || !usable {
            return Ok(None);
        }
        let Some(plane) = windows::plane(&self.op.windows(self.x, cx.operand_type(self.weights))?) else {
            return Ok(None);
        };
        let narrow = cx.narrow && self.x.dtype == DType::F32 && weights::constant(cx, self.weights).is_some();
        if narrow {
            return Ok(self.narrow(cx, order, plane));
        }
        if let Some(kernel) = self.over(cx, order, plane) {
            return Ok(Some(kernel));
        }
        // A window wider than the code that is written out for those at the edges. Where zeros are padding, they are multiplied.
        let written = plane.map(windows::written_out);
        let finite =
            windows::meets(&plane) && (pairs || weights::constant(cx, self.weights).is_some_and(weights::are_finite));
        let padded = || self.over(cx, AxisOrder::ChannelsLast, written);
        let kernel = if finite && written != plane { padded() } else { None };
        Ok(kernel.map(|kernel| ConvKernel::Padded(Box::new(kernel), plane)))
    }

    /// As [`Self::over`], of maps that may be rounded to `bf16`. Padding is written out where that lets tile registers multiply, for every target:
    /// what it adds to a sum, +0 for each run, takes its sign from a zero.
    fn narrow(&self, cx: &Lowering<'_>, order: AxisOrder, plane: [Window; 2]) -> Option<ConvKernel> {
        let kernel = self.over(cx, order, plane)?.narrowed();
        let (ConvKernel::Dense(spec), written) = (&kernel, plane.map(windows::written_out)) else {
            return Some(kernel);
        };
        let wants = spec.run.is_some() && !conv::multiplies_by_tiles(spec);
        if wants
            && written != plane
            && windows::meets(&plane)
            && weights::constant(cx, self.weights).is_some_and(weights::are_finite)
        {
            let padded = self.over(cx, AxisOrder::ChannelsLast, written).map(ConvKernel::narrowed);
            if let Some(padded @ ConvKernel::Dense(_)) = padded {
                return Some(ConvKernel::Padded(Box::new(padded), plane));
            }
        }
        Some(kernel)
    }

    /// The kernel for windows over rows and columns of an input in `order`.
    fn over(&self, cx: &Lowering<'_>, order: AxisOrder, plane: [Window; 2]) -> Option<ConvKernel> {
        let ([rows, columns], pairs) = (plane.map(axis), in_pairs(self.x.dtype));
        let (op, groups) = (self.op, self.op.group);
        let (batch, channels, filters) = (self.x.shape[0], self.x.shape[1], self.y.shape[1]);
        if groups == channels && filters == channels && channels > 1 && !op.residual {
            let spec = depthwise::spec(self.x, plane, Epilogue::new(op.activation, false, false));
            return spec.map(ConvKernel::Depthwise);
        }
        let pixels = batch * rows.output * columns.output;
        let own = rows == conv::Axis::plain(rows.input) && columns == conv::Axis::plain(columns.input);
        let rows_of_x = order == AxisOrder::ChannelsLast;
        if own && !pairs && groups == 1 && rows_of_x && !op.residual && pixels <= dense::FEW_ROWS {
            let (element, activation) = (self.x.dtype, op.activation);
            let spec = kernels::Gemv {
                element,
                weights: element,
                rows: pixels,
                inputs: channels,
                outputs: filters,
                activation,
            };
            return Some(ConvKernel::Gemv(spec));
        }
        let input = match order {
            AxisOrder::RowMajor => conv::Input::RowMajor,
            AxisOrder::ChannelsLast => conv::Input::ChannelsLast,
        };
        let near =
            |axis: &conv::Axis, channels: usize| (axis.input * channels * axis.stride).max(axis.output * filters);
        if near(&columns, channels).saturating_mul(4) > NEAR {
            return None;
        }
        let (channels, filters) = (channels / groups, filters / groups);
        let epilogue = Epilogue::new(op.activation, op.residual, op.activation_first);
        let spec = kernels::Conv {
            element: self.x.dtype,
            batch,
            groups,
            channels,
            filters,
            weights_per_image: false,
            transposed: false,
            rows,
            columns,
            input,
            epilogue,
            finish: None,
            run: None,
            stored: None,
        };
        let inexact = winograd::choose(&spec)
            .filter(|_| !cx.narrow)
            .filter(|choice| choice.pays() && self.needs_exact(cx).is_none());
        if let Some(choice) = inexact {
            return Some(ConvKernel::Winograd(choice));
        }
        let fits = spec.is_compact() && spec.takes_elements();
        fits.then(|| ConvKernel::Dense(spec.flattened()))
    }

    /// Why no algorithm may compute it that rounds differently from the definition, if there is a reason.
    fn needs_exact(&self, cx: &Lowering<'_>) -> Option<&'static str> {
        // Only the compiler transforms filters: as those of constants are, in f64.
        let Some(weights) = weights::constant(cx, self.weights) else { return Some("its weights are computed") };
        if cx.exact {
            return Some("only exact algorithms are asked for");
        }
        if cx.discrete && discrete::is_piecewise_linear(self.op.activation) {
            return Some("a discontinuous function reads its result");
        }
        weights::are_integers(weights).then_some("its weights are integers")
    }

    /// The order to read an input in that is in order `present`: as it is, if it is a row-major image of few channels.
    pub fn input_order(&self, present: AxisOrder) -> AxisOrder {
        let few = self.x.shape[1] <= FEW_CHANNELS && self.op.group == 1 && self.x.bytes() <= NEAR;
        let few = few && !in_pairs(self.x.dtype);
        let image = !AxisOrder::coincide(&self.x.shape);
        if present == AxisOrder::RowMajor && few && image { AxisOrder::RowMajor } else { AxisOrder::ChannelsLast }
    }

    /// Adds the step from `x` to `y`, whose elements are of the types that [`ConvKernel::elements`] says. Returns the view of the sums over the rows of `y`, if a depthwise `kernel` asks for them.
    ///
    /// # Errors
    /// If weights or bias are not known.
    pub fn lower(
        &self,
        cx: &mut Lowering<'_>,
        kernel: ConvKernel,
        [x, y]: [ViewId; 2],
        extra: FusedOperands,
    ) -> Result<Option<ViewId>, OpError> {
        match kernel {
            ConvKernel::Depthwise(spec) => {
                let maps: Vec<ViewId> = extra.slope.into_iter().collect();
                depthwise::depthwise(cx, spec, x, (self.weights, self.bias), (y, &maps))
            }
            ConvKernel::Gemv(spec) => {
                let bias = weights::padded_bias(cx, self.bias, spec.outputs, spec.bias_len())?;
                let matrix = dense::Matrix { operand: self.weights, transposed: true, factor: 1.0 };
                dense::gemv(cx, spec, x.into(), matrix, bias, y)?;
                Ok(None)
            }
            ConvKernel::Winograd(choice) => {
                self.winograd(cx, choice, [x, y], extra)?;
                Ok(None)
            }
            ConvKernel::Dense(spec) => {
                self.dense(cx, spec, [x, y], extra)?;
                Ok(None)
            }
            ConvKernel::Padded(kernel, plane) => {
                cx.remark(Verdict::Made, "padding written out: for windows as wide", &[]);
                let x = windows::pad(cx, x, &plane);
                self.lower(cx, *kernel, [x, y], extra)
            }
        }
    }

    fn winograd(
        &self,
        cx: &mut Lowering<'_>,
        winograd::Choice { spec, gain }: winograd::Choice,
        [x, y]: [ViewId; 2],
        extra: FusedOperands,
    ) -> Result<(), OpError> {
        let m = spec.tile.outputs();
        cx.remark(Verdict::Made, format!("winograd {m}x{m} by the cost of its shapes"), &[("times as fast", gain)]);
        let weights = weights::pack(cx, self.weights, spec.weight_packing())?;
        let bias = weights::padded_bias(cx, self.bias, spec.filters, winograd::padded(spec.filters))?;
        let mut operands = vec![x.into(), weights, bias];
        operands.extend(extra.residual.map(Operand::from));
        operands.push(y.into());
        cx.step(spec, &operands);
        Ok(())
    }

    fn dense(
        &self,
        cx: &mut Lowering<'_>,
        spec: kernels::Conv,
        [x, y]: [ViewId; 2],
        extra: FusedOperands,
    ) -> Result<(), OpError> {
        if let Some(choice) = winograd::choose(&spec).filter(|_| spec.element == DType::F32) {
            let why = self.needs_exact(cx).filter(|_| choice.pays());
            let text = why.map_or("winograd by the cost of its shapes".into(), |why| format!("winograd: {why}"));
            if why.is_some() || weights::constant(cx, self.weights).is_some() {
                cx.remark(Verdict::Declined, text, &[("times as fast", choice.gain)]);
            }
        }
        if cx.narrow && spec.run.is_none() {
            let why = match spec.input {
                conv::Input::RowMajor => "it reads a network's input".into(),
                _ if spec.groups > 1 => format!("{} groups", spec.groups),
                _ => format!("{} channels have no even divisor from 8 to 32", spec.channels),
            };
            cx.remark(Verdict::Declined, format!("sums of bf16 in runs, f32 instead: {why}"), &[]);
        }
        let mut weights = weights::pack_as(cx, self.weights, spec.weight_packing(), spec.element)?;
        let bias = weights::bias(cx, self.bias, spec.bias_packing())?;
        if let Some(gate) = extra.gate {
            let batch = self.x.shape[0];
            let scale = ScaleWeights { element: spec.element, batch, filters: spec.filters, channels: spec.channels };
            let ty = TensorType::f32([batch * conv::padded(spec.filters) * spec.channels]);
            let scaled = cx.temp("weights", ty, AxisOrder::RowMajor);
            cx.step(scale, &[weights, gate.into(), scaled.into()]);
            weights = scaled.into();
        }
        let mut operands = vec![x.into(), weights, bias];
        operands.extend(extra.residual.into_iter().chain(extra.slope).map(Operand::from));
        operands.push(y.into());
        cx.step(spec, &operands);
        Ok(())
    }
}

impl ConvKernel {
    /// The same kernel over maps of `bf16`, where there is one; of a network's input, which stays as it is, the result alone.
    fn narrowed(self) -> Self {
        let element = DType::BF16;
        match self {
            Self::Depthwise(spec) => Self::Depthwise(kernels::Depthwise { element, ..spec }),
            Self::Dense(spec) if spec.input == conv::Input::RowMajor => {
                Self::Dense(kernels::Conv { stored: Some(element), ..spec })
            }
            Self::Dense(spec) => {
                let run = conv::runs(spec.channels).filter(|_| spec.groups == 1);
                Self::Dense(kernels::Conv { element, run, ..spec })
            }
            other => other,
        }
    }

    /// The types of the elements of its input and of its result.
    pub fn elements(&self) -> [DType; 2] {
        match self {
            Self::Depthwise(spec) => [spec.element, spec.result()],
            Self::Gemv(spec) => [spec.element; 2],
            Self::Winograd(choice) => [choice.spec.element; 2],
            Self::Dense(spec) => [spec.element, spec.result()],
            Self::Padded(kernel, _) => kernel.elements(),
        }
    }
}

/// A spatial axis as the kernels see it.
pub fn axis(w: Window) -> conv::Axis {
    conv::Axis {
        input: w.input,
        output: w.output,
        kernel: w.kernel,
        stride: w.stride,
        dilation: w.dilation,
        begin: w.begin.max(0) as usize,
    }
}
