//! Depthwise convolutions as steps, for every operator that holds one.
//!
//! In: windows over a channel-last map, weights `[C, 1, KH, KW]` and bias. Out: one step, and the view of its row sums.

use super::context::Lowering;
use super::weights;
use crate::codegen::epilogue::Epilogue;
use crate::kernels::Depthwise;
use crate::plan::{AxisOrder, Operand, ViewId};
use fornax_ir::OpError;
use fornax_ir::ops::window::Window;
use fornax_ir::types::TensorType;

/// The kernel for windows over rows and columns of `x [N, C, …]`, if there is one: a window and a row of bounded size.
pub fn spec(x: &TensorType, [h, w]: [Window; 2], epilogue: Epilogue) -> Option<Depthwise> {
    let &[batch, channels, ..] = &x.shape[..] else { return None };
    let pair = |f: fn(&Window) -> usize| [f(&h), f(&w)];
    let pads = [usize::try_from(h.begin).ok()?, usize::try_from(w.begin).ok()?];
    let spec = Depthwise {
        element: x.dtype,
        batch,
        channels,
        gaps: [0, 0],
        input: pair(|w| w.input),
        output: pair(|w| w.output),
        kernel: pair(|w| w.kernel),
        strides: pair(|w| w.stride),
        dilations: pair(|w| w.dilation),
        pads,
        epilogue,
        transposed: false,
        finish: None,
    };
    spec.applies().then_some(spec)
}

/// As [`spec`], of the transposed convolution of `x`: `windows` are those of the convolution from its result to `x`.
pub fn transposed(x: &TensorType, windows: [Window; 2], epilogue: Epilogue) -> Option<Depthwise> {
    let spec = spec(x, windows, epilogue)?;
    let (input, output) = (spec.output, spec.input);
    Some(Depthwise { input, output, transposed: true, ..spec }).filter(Depthwise::applies)
}

/// Adds the step `y = epilogue(conv(x, weight) + bias)`; `x`, `y` and the `maps` of the epilogue are channel-last. Operands `weight` and
/// `bias` are usable (see [`weights::usable`]). Returns the view of the sums over each row of `y`, `[N, OH, C]`, if the spec asks for
/// them.
///
/// # Errors
/// If `weight` or `bias` is not usable.
pub fn depthwise(
    cx: &mut Lowering<'_>,
    spec: Depthwise,
    x: ViewId,
    (weight, bias): (usize, Option<usize>),
    (y, maps): (ViewId, &[ViewId]),
) -> Result<Option<ViewId>, OpError> {
    let [weights, bias, zeros] = constants(cx, &spec, (weight, bias))?;
    let mut operands = vec![x.into(), weights, bias, zeros, y.into()];
    operands.extend(maps.iter().copied().map(Operand::from));
    let sums = sums(cx, &spec);
    operands.extend(sums.map(Operand::from));
    cx.step(spec, &operands);
    Ok(sums)
}

/// The packed weights, the padded bias and the row of zeros.
///
/// # Errors
/// As [`depthwise`].
pub fn constants(
    cx: &mut Lowering<'_>,
    spec: &Depthwise,
    (weight, bias): (usize, Option<usize>),
) -> Result<[Operand; 3], OpError> {
    let weights = weights::pack_as(cx, weight, spec.weight_packing(), spec.element)?;
    let bias = weights::padded_bias(cx, bias, spec.channels, spec.tap_stride())?;
    Ok([weights, bias, cx.zeros(spec.input[1] * spec.channels * spec.element.size())])
}

/// A view for the sums over each row, if the spec asks for them.
pub fn sums(cx: &mut Lowering<'_>, spec: &Depthwise) -> Option<ViewId> {
    let ty = TensorType::f32([spec.batch, spec.output[0], spec.channels]);
    spec.epilogue.sum().then(|| cx.temp("sums", ty, AxisOrder::RowMajor))
}
