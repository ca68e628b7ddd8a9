//! Lowering of `conv_transpose`: the kernels of convolutions, transposed; a loop nest where they do not apply.

use super::Lower;
use super::context::Lowering;
use super::convolve::{NEAR, axis};
use super::dense::{Matrix, Product};
use super::fallback::along;
use super::nests::{NestCall, View, expect_f32, float, index_table, packed};
use super::windows::plane;
use super::{depthwise, weights};
use crate::codegen::epilogue::Epilogue;
use crate::kernels::loops::nest::{Combine, Entry, Inst};
use crate::kernels::{self, conv};
use crate::plan::{AxisOrder, Operand, ViewId};
use fornax_ir::OpError;
use fornax_ir::ops::ConvTranspose;
use fornax_ir::ops::window::Window;

/// The kernel of a transposed convolution.
pub(super) enum Native {
    /// One filter per channel.
    Depthwise(kernels::Depthwise),
    /// Every pixel by itself.
    Product(Product),
    /// Everything else.
    Dense(kernels::Conv),
}

impl Lower for ConvTranspose {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        expect_f32("x", cx.ty.dtype)?;
        let windows = self.windows(cx.operand_type(0), cx.operand_type(1))?;
        match native(self, cx, &windows, &Epilogue::default()) {
            Some(kernel) => run(cx, kernel, self.bias.then_some(2), &[]),
            None => nest(self, cx, &windows),
        }
    }
}

/// The kernel, if there is one: at most two axes, weights that can be packed, nothing added around the result.
pub(super) fn native(op: &ConvTranspose, cx: &Lowering<'_>, windows: &[Window], epilogue: &Epilogue) -> Option<Native> {
    let (x, y) = (cx.operand_type(0), &cx.ty);
    let usable = weights::usable(cx, 1) && (!op.bias || weights::usable(cx, 2));
    if !usable || windows.iter().any(|window| window.begin < 0) {
        return None;
    }
    let (batch, channels, filters, groups) = (x.shape[0], x.shape[1], y.shape[1], op.group);
    if groups == channels
        && filters == channels
        && channels > 1
        && let Some(plane) = plane(windows)
        && let Some(spec) = depthwise::transposed(x, plane, epilogue.clone())
    {
        return Some(Native::Depthwise(spec));
    }
    let own = |w: &Window| (w.kernel, w.stride, w.begin, w.output) == (1, 1, 0, w.input);
    if groups == 1 && windows.iter().all(own) {
        let rows = batch * windows.iter().map(|w| w.input).product::<usize>();
        let product = Product { rows, inputs: channels, outputs: filters, epilogue: epilogue.clone() };
        return product.applies().then_some(Native::Product(product));
    }
    let [rows, columns] =
        plane(windows)?.map(axis).map(|axis| conv::Axis { input: axis.output, output: axis.input, ..axis });
    let far = (columns.input * channels).max(columns.output * filters * columns.stride);
    let (channels, filters) = (channels / groups, filters / groups);
    let flat = kernels::Conv::pointwise(1, channels, filters, epilogue.clone());
    let spec = kernels::Conv { batch, groups, rows, columns, transposed: true, ..flat };
    (far.saturating_mul(4) <= NEAR && spec.is_compact()).then_some(Native::Dense(spec))
}

/// Adds the steps of a kernel. `bias` and `maps` are operands: of the result's channels, and the maps of its epilogue in order.
pub(super) fn run(cx: &mut Lowering<'_>, kernel: Native, bias: Option<usize>, maps: &[usize]) -> Result<(), OpError> {
    let x = cx.operand_as(0, AxisOrder::ChannelsLast)?;
    let maps = maps.iter().map(|operand| cx.operand_as(*operand, AxisOrder::ChannelsLast));
    let maps: Vec<ViewId> = maps.collect::<Result<_, _>>()?;
    let y = cx.output(AxisOrder::ChannelsLast);
    match kernel {
        Native::Depthwise(spec) => _ = depthwise::depthwise(cx, spec, x, (1, bias), (y, &maps))?,
        Native::Product(product) => {
            let bias = weights::padded_bias(cx, bias, product.outputs, product.bias_len())?;
            let matrix = Matrix { operand: 1, transposed: false, factor: 1.0 };
            product.lower(cx, x.into(), matrix, bias, (y, &maps))?;
        }
        Native::Dense(spec) => {
            let weights = weights::pack(cx, 1, spec.weight_packing())?;
            let bias = weights::bias(cx, bias, spec.bias_packing())?;
            let mut operands = vec![x.into(), weights, bias];
            operands.extend(maps.into_iter().chain([y]).map(Operand::from));
            cx.step(spec, &operands);
        }
    }
    Ok(())
}

/// A loop nest for any rank, group and padding.
fn nest(op: &ConvTranspose, cx: &mut Lowering<'_>, windows: &[Window]) -> Result<(), OpError> {
    let (spatial, x) = (windows.len(), View::operand(cx, 0)?);
    // Taps, input channels, filters: the filters, innermost, fill a vector.
    let order: Vec<usize> = (2..spatial + 2).chain([0, 1]).collect();
    let w = packed(cx, 1, &order)?;
    let bias = if op.bias { Some(View::operand(cx, 2)?) } else { None };
    let out = cx.output(AxisOrder::ChannelsLast);
    let out = View::of(cx, out);
    let (channels, filters) = (w.shape[0] / op.group, w.shape[1]);
    let taps = windows.iter().map(|w| w.kernel);
    let head = [out.shape[0], op.group, filters];
    let extents: Vec<usize> =
        head.into_iter().chain(windows.iter().map(|w| w.input)).chain(taps).chain([channels]).collect();
    let (rank, first_tap) = (extents.len(), 3 + spatial);
    let by_filter = |stride: i64| [(1, stride * filters as i64), (2, stride)];
    let mut steps = vec![(0, out.strides[0])];
    steps.extend(by_filter(out.strides[1]));
    steps.extend((0..spatial).map(|d| (3 + d, out.strides[d + 2])));
    let mut call = NestCall::new("conv_transpose", &extents, spatial + 1, &out, along(rank, 0, &steps));
    let steps = [(0, x.strides[0]), (1, x.strides[1] * channels as i64), (rank - 1, x.strides[1])];
    let read = call.input("x", &x, along(rank, 0, &steps));
    for (d, window) in windows.iter().enumerate() {
        // Entry (position of the result, tap): the element of the operand that meets it there.
        let meets = |at: usize, tap: usize| {
            let first = at as i64 + window.begin - (tap * window.dilation) as i64;
            let element = first.div_euclid(window.stride as i64);
            let inside = first.rem_euclid(window.stride as i64) == 0 && (0..window.output as i64).contains(&element);
            if inside { element } else { -1 }
        };
        let pairs = (0..window.input).flat_map(|at| (0..window.kernel).map(move |tap| (at, tap)));
        let table = index_table(cx, &pairs.map(|(at, tap)| meets(at, tap)).collect::<Vec<_>>())?;
        let at = along(rank, 0, &[(3 + d, window.kernel as i64), (first_tap + d, 1)]);
        let table = call.table("source", &table, at, Entry::Skip);
        call.nest.inputs[read].lookups.push((table, x.strides[d + 2]));
    }
    let mut steps = by_filter(w.strides[1]).to_vec();
    steps[0] = (1, w.strides[0] * channels as i64);
    steps.push((rank - 1, w.strides[0]));
    steps.extend((0..spatial).map(|d| (first_tap + d, w.strides[d + 2])));
    let w = call.input("w", &w, along(rank, 0, &steps));
    let init = match &bias {
        Some(bias) => vec![Inst::Load(call.input("bias", bias, along(rank, 0, &by_filter(bias.strides[0]))))],
        None => vec![float(0.0)],
    };
    call.compute(init, vec![Inst::Load(read), Inst::Load(w)], Combine::SumProduct, Vec::new());
    call.run(cx);
    Ok(())
}
