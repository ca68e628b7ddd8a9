//! Windows as the kernels take them: two axes, and no padding where a kernel wants none.
//!
//! In: the windows of a convolution over `x [N, C, …]`. Out: [`plane`], windows over rows and columns of the same elements; [`written_out`], the
//! same windows over a map that holds its padding, and [`pad`], the step that makes it. Invariant: the windows meet the same elements in the
//! same order.

use super::context::Lowering;
use super::nests::number;
use super::nests::{NestCall, View};
use crate::kernels::loops::nest::{Affine, Combine, Inst};
use crate::plan::{AxisOrder, ViewId};
use fornax_ir::ops::window::Window;
use fornax_ir::types::TensorType;

/// An axis of one element.
const POINT: Window = Window { input: 1, output: 1, kernel: 1, stride: 1, dilation: 1, begin: 0, end: 0 };

/// Rows and columns of windows over one or two axes: what lies along one axis lies along the columns.
pub fn plane(windows: &[Window]) -> Option<[Window; 2]> {
    match *windows {
        [columns] => Some([POINT, columns]),
        [rows, columns] if is_point(&columns) && !is_point(&rows) => Some([POINT, rows]),
        [rows, columns] => Some([rows, columns]),
        _ => None,
    }
}

fn is_point(window: &Window) -> bool {
    (window.input, window.output, window.kernel, window.coordinate(0, 0)) == (1, 1, 1, 0)
}

/// The same window over an axis that begins with the first element that a tap meets and ends with the last, padding included.
pub fn written_out(window: Window) -> Window {
    let last = |count: usize, step: usize| count.saturating_sub(1).saturating_mul(step);
    let input =
        last(window.output, window.stride).saturating_add(last(window.kernel, window.dilation)).saturating_add(1);
    Window { input, begin: 0, end: 0, ..window }
}

/// Whether [`pad`] has something to copy: along both axes some coordinate of [`written_out`] windows is one of the input's.
pub fn meets(plane: &[Window; 2]) -> bool {
    plane.iter().all(|window| {
        let last = written_out(*window).input as i64 - 1 - window.begin;
        last >= 0 && -window.begin < window.input as i64
    })
}

/// Adds the step that copies `x` into a channel-last map `[N, C, H, W]` in which [`written_out`] windows of `plane` meet what those of
/// `plane` meet in `x`, and zeros where they meet padding.
pub fn pad(cx: &mut Lowering<'_>, x: ViewId, plane: &[Window; 2]) -> ViewId {
    let from = View::of(cx, x).moved();
    let padded = plane.map(|window| written_out(window).input);
    let shape = [from.shape[0], from.shape[1], padded[0], padded[1]];
    let to = cx.temp("padded", TensorType::new(cx.plan.view(x).ty.dtype, shape), AxisOrder::ChannelsLast);
    let target = View::of(cx, to).moved();
    // Columns are the axis that is more than a point.
    let moved: Vec<usize> = (2..from.shape.len()).collect();
    let columns = moved.iter().rev().find(|axis| from.shape[**axis] == plane[1].input).copied();
    let rows = moved.iter().find(|axis| Some(**axis) != columns).copied();
    let stride = |axis: Option<usize>| axis.map_or(0, |axis| from.strides[axis]);
    let strides = [from.strides[0], from.strides[1], stride(rows), stride(columns)];
    let base = -(plane[0].begin * strides[2] + plane[1].begin * strides[3]);
    let mut call = NestCall::new("pad", &shape, 0, &target, Affine::new(0, target.strides.clone()));
    let input = call.input("x", &from, Affine::new(base, strides));
    for (axis, window) in plane.iter().enumerate() {
        let along: Vec<i64> = (0..4).map(|other| i64::from(other == axis + 2)).collect();
        call.guard(Affine::new(-window.begin, along), window.input);
    }
    call.compute(vec![number(from.dtype, 0.0)], vec![Inst::Load(input)], Combine::Last, Vec::new());
    call.run(cx);
    to
}
