//! Loop nests for the operators that have kernel families of their own: every case that those do not cover.
//!
//! In: operands of any order, constant or not. Out: one nest per sum. Accumulation follows the order of the fast families: from the
//! bias, taps in order, then input channels ascending, by multiply-add.

use super::context::Lowering;
use super::nests::{
    NestCall, View, expect_f32, expect_float, expect_function, expect_native, extremes, factors, float, number, packed,
};
use crate::kernels::loops::nest::{Affine, Combine, Inst, Program};
use crate::plan::AxisOrder;
use fornax_ir::OpError;
use fornax_ir::ops::conv::Conv;
use fornax_ir::ops::gemm::Gemm;
use fornax_ir::ops::matmul::Product;
use fornax_ir::ops::pool::{Pool, PoolKind};
use fornax_ir::ops::softmax::Softmax;
use fornax_ir::ops::squeeze_excite::SqueezeExcite;
use fornax_ir::ops::window::Window;
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::{DType, TensorType};

/// An affine function over `rank` axes from the axes that move it.
pub(super) fn along(rank: usize, base: i64, steps: &[(usize, i64)]) -> Affine {
    let mut strides = vec![0; rank];
    steps.iter().for_each(|(axis, step)| strides[*axis] += step);
    Affine::new(base, strides)
}

/// Appends a function of the last value.
fn with_activation(mut program: Program, function: Option<UnaryFn>) -> Program {
    if let Some(function) = function {
        program.push(Inst::Unary(function, program.len() - 1));
    }
    program
}

/// Reads `x` under windows: position axes from `first`, tap axes from `taps`, with the tests for padding.
fn windowed(
    call: &mut NestCall,
    x: &View,
    windows: &[Window],
    first: usize,
    taps: usize,
    steps: &[(usize, i64)],
) -> usize {
    let rank = call.nest.extents.len();
    let mut at = along(rank, 0, steps);
    for (d, window) in windows.iter().enumerate() {
        let coordinate =
            along(rank, -window.begin, &[(first + d, window.stride as i64), (taps + d, window.dilation as i64)]);
        let stride = x.strides[d + 2];
        at.base += coordinate.base * stride;
        at.strides.iter_mut().zip(&coordinate.strides).for_each(|(at, step)| *at += step * stride);
        call.guard(coordinate, window.input);
    }
    call.input("x", x, at)
}

/// A convolution of any rank and group, of any native type.
pub fn conv(cx: &mut Lowering<'_>, op: &Conv) -> Result<(), OpError> {
    let windows = op.windows(cx.operand_type(0), cx.operand_type(1))?;
    let x = View::operand(cx, 0)?;
    let residual = if op.residual { Some(View::operand(cx, cx.count() - 1)?) } else { None };
    let out = cx.output(AxisOrder::ChannelsLast);
    let out = View::of(cx, out);
    convolve(cx, op, &windows, [&x, &out], (1, op.bias.then_some(2)), residual)
}

/// A convolution of views, with operands `weight` and `bias`.
pub fn convolve(
    cx: &mut Lowering<'_>,
    op: &Conv,
    windows: &[Window],
    [x, out]: [&View; 2],
    (weight, bias): (usize, Option<usize>),
    residual: Option<View>,
) -> Result<(), OpError> {
    let dtype = out.dtype;
    expect_native("x", dtype)?;
    op.activation.map(|function| expect_function(function, dtype)).transpose()?;
    let spatial = windows.len();
    // Taps, input channels, filters: the filters, innermost, fill a vector.
    let order: Vec<usize> = (2..spatial + 2).chain([1, 0]).collect();
    let w = packed(cx, weight, &order)?;
    let bias = bias.map(|bias| View::operand(cx, bias)).transpose()?;
    let (channels, filters) = (w.shape[1], w.shape[0] / op.group);
    let positions = windows.iter().map(|w| w.output);
    let taps = windows.iter().map(|w| w.kernel);
    let extents: Vec<usize> =
        [out.shape[0], op.group, filters].into_iter().chain(positions).chain(taps).chain([channels]).collect();
    let (rank, first_tap) = (extents.len(), 3 + spatial);
    let by_filter = |stride: i64| [(1, stride * filters as i64), (2, stride)];
    let place = |view: &View| {
        let mut steps = vec![(0, view.strides[0])];
        steps.extend(by_filter(view.strides[1]));
        steps.extend((0..spatial).map(|d| (3 + d, view.strides[d + 2])));
        along(rank, 0, &steps)
    };
    let mut call = NestCall::new("conv", &extents, spatial + 1, out, place(out));
    let steps = [(0, x.strides[0]), (1, x.strides[1] * channels as i64), (rank - 1, x.strides[1])];
    let x = windowed(&mut call, x, windows, 3, first_tap, &steps);
    let mut steps = by_filter(w.strides[0]).to_vec();
    steps.push((rank - 1, w.strides[1]));
    steps.extend((0..spatial).map(|d| (first_tap + d, w.strides[d + 2])));
    let w = call.input("w", &w, along(rank, 0, &steps));
    let init = match &bias {
        Some(bias) => vec![Inst::Load(call.input("bias", bias, along(rank, 0, &by_filter(bias.strides[0]))))],
        None => vec![number(dtype, 0.0)],
    };
    let mut finish = vec![Inst::Accumulated];
    if op.activation_first {
        finish = with_activation(finish, op.activation);
    }
    if let Some(residual) = &residual {
        let residual = call.input("residual", residual, place(residual));
        let last = finish.len() - 1;
        finish.extend([Inst::Load(residual), Inst::Binary(BinaryFn::Add, last, last + 1)]);
    }
    if !op.activation_first {
        finish = with_activation(finish, op.activation);
    }
    call.compute(init, vec![Inst::Load(x), Inst::Load(w)], Combine::SumProduct, finish);
    call.run(cx);
    Ok(())
}

/// Windowed maximum or average of any rank.
pub fn pool(cx: &mut Lowering<'_>, op: &Pool) -> Result<(), OpError> {
    let dtype = cx.ty.dtype;
    expect_native("x", dtype)?;
    let windows = op.windows(cx.operand_type(0))?;
    let (spatial, x, order) = (windows.len(), View::operand(cx, 0)?, cx.order(0));
    let out = cx.output(order);
    let out = View::of(cx, out);
    let taps = windows.iter().map(|w| w.kernel);
    let extents: Vec<usize> = out.shape.iter().copied().chain(taps).collect();
    let rank = extents.len();
    let mut at = out.strides.clone();
    at.resize(rank, 0);
    let mut call = NestCall::new(op.kind.word(), &extents, spatial, &out, Affine::new(0, at));
    let x = windowed(&mut call, &x, &windows, 2, 2 + spatial, &[(0, x.strides[0]), (1, x.strides[1])]);
    if op.kind == PoolKind::Max {
        call.compute(vec![extremes(dtype)[0]], vec![Inst::Load(x)], Combine::Max, Vec::new());
        call.run(cx);
        return Ok(());
    }
    // The count of elements is a product over axes; a window without any gives 0.
    let mut finish = vec![float(1.0)];
    for (d, window) in windows.iter().enumerate() {
        let counts: Vec<f32> = (0..window.output).map(|at| op.along(window, at).max(1) as f32).collect();
        let counts = factors(cx, counts);
        let count = call.input("count", &counts, along(rank, 0, &[(2 + d, 1)]));
        let last = finish.len() - 1;
        finish.extend([Inst::Load(count), Inst::Binary(BinaryFn::Mul, last, last + 1)]);
    }
    if dtype == DType::F64 {
        finish.push(Inst::ToDouble(finish.len() - 1));
    }
    let last = finish.len() - 1;
    finish.extend([Inst::Accumulated, Inst::Binary(BinaryFn::Div, last + 1, last)]);
    call.compute(vec![number(dtype, 0.0)], vec![Inst::Load(x)], Combine::Sum, finish);
    call.run(cx);
    Ok(())
}

/// A general matrix product of any native type.
pub fn gemm(cx: &mut Lowering<'_>, op: &Gemm) -> Result<(), OpError> {
    let dtype = cx.ty.dtype;
    expect_native("a", dtype)?;
    op.activation.map(|function| expect_function(function, dtype)).transpose()?;
    let (m, k, n) = op.extents(cx.operand_type(0), cx.operand_type(1))?;
    let a = View::operand(cx, 0)?;
    let b = if op.trans_b { packed(cx, 1, &[1, 0])? } else { View::operand(cx, 1)? };
    let c = if op.bias { Some(View::operand(cx, 2)?) } else { None };
    let out = cx.output(AxisOrder::RowMajor);
    let out = View::of(cx, out);
    let mut call = NestCall::new("gemm", &[m, n, k], 1, &out, along(3, 0, &[(0, out.strides[0]), (1, out.strides[1])]));
    let (row, column) = if op.trans_a { (1, 0) } else { (0, 1) };
    let a = call.input("a", &a, along(3, 0, &[(0, a.strides[row]), (2, a.strides[column])]));
    let (row, column) = if op.trans_b { (1, 0) } else { (0, 1) };
    let b = call.input("b", &b, along(3, 0, &[(2, b.strides[row]), (1, b.strides[column])]));
    let c = c.map(|c| {
        let strides = c.broadcast(2);
        call.input("c", &c, along(3, 0, &[(0, strides[0]), (1, strides[1])]))
    });
    let mut init = vec![number(dtype, 0.0)];
    let mut finish = vec![Inst::Accumulated];
    match c {
        Some(c) if op.alpha == 1.0 && op.beta == 1.0 => init = vec![Inst::Load(c)],
        Some(c) => finish.extend([
            number(dtype, op.alpha.into()),
            Inst::Load(c),
            number(dtype, op.beta.into()),
            Inst::Binary(BinaryFn::Mul, 2, 3),
            Inst::Fma(0, 1, 4),
        ]),
        None if op.alpha != 1.0 => {
            finish.extend([number(dtype, op.alpha.into()), Inst::Binary(BinaryFn::Mul, 0, 1)]);
        }
        None => {}
    }
    call.compute(init, vec![Inst::Load(a), Inst::Load(b)], Combine::SumProduct, with_activation(finish, op.activation));
    call.run(cx);
    Ok(())
}

/// A matrix product with NumPy semantics, of any native type.
pub fn matmul(cx: &mut Lowering<'_>) -> Result<(), OpError> {
    let dtype = cx.ty.dtype;
    expect_native("a", dtype)?;
    let product = Product::new(cx.operand_type(0), cx.operand_type(1))?;
    let (a, b) = (View::operand(cx, 0)?, View::operand(cx, 1)?);
    let out = cx.output(AxisOrder::RowMajor);
    let out = View::of(cx, out);
    let batch = product.batch.rank();
    let extents: Vec<usize> = product.batch.iter().copied().chain([product.m, product.n, product.k]).collect();
    let rank = extents.len();
    // Strides over [batch…, m, n, k] of an operand whose last axes are these.
    let place = |view: &View, axes: &[usize]| {
        let (lead, last) = view.strides.split_at(view.strides.len() - axes.len());
        let lead = View { shape: view.shape[..lead.len()].to_vec(), strides: lead.to_vec(), ..view.clone() };
        let mut strides = lead.broadcast(batch);
        strides.resize(rank, 0);
        axes.iter().zip(last).for_each(|(axis, stride)| strides[batch + axis] = *stride);
        Affine::new(0, strides)
    };
    let matrix: Vec<usize> =
        (0..2).filter(|axis| !(*axis == 0 && product.row || *axis == 1 && product.column)).collect();
    let mut call = NestCall::new("matmul", &extents, 1, &out, place(&out, &matrix));
    let at = place(&a, if product.row { &[2] } else { &[0, 2] });
    let a = call.input("a", &a, at);
    let at = place(&b, if product.column { &[2] } else { &[2, 1] });
    let b = call.input("b", &b, at);
    let body = vec![Inst::Load(a), Inst::Load(b)];
    call.compute(vec![number(dtype, 0.0)], body, Combine::SumProduct, Vec::new());
    call.run(cx);
    Ok(())
}

/// Softmax along any axis: the largest element, the sum of exponentials, then the quotients.
pub fn softmax(cx: &mut Lowering<'_>, op: &Softmax) -> Result<(), OpError> {
    let dtype = cx.ty.dtype;
    expect_float("x", dtype)?;
    let (x, order, shape) = (View::operand(cx, 0)?, cx.order(0), cx.ty.shape.to_vec());
    let line = shape[op.axis];
    let mut lines = shape.clone();
    lines[op.axis] = 1;
    let ty = TensorType::new(dtype, lines.clone());
    let [largest, sum] = ["largest", "sum"].map(|name| cx.temp(name, ty.clone(), AxisOrder::RowMajor));
    let [largest, sum] = [largest, sum].map(|view| View::of(cx, view));
    let out = cx.output(order);
    let out = View::of(cx, out);
    let rank = shape.len();
    let extents: Vec<usize> = lines.iter().copied().chain([line]).collect();
    // Over [lines…, the axis]: the axis itself has extent 1 among the lines.
    let of_line = |view: &View| Affine::new(0, [view.broadcast(rank), vec![0]].concat());
    let of_element = |view: &View| {
        let mut strides = view.strides.clone();
        let step = std::mem::take(&mut strides[op.axis]);
        strides.push(step);
        Affine::new(0, strides)
    };
    let mut call = NestCall::new("largest", &extents, 1, &largest, of_line(&largest));
    call.input("x", &x, of_element(&x));
    call.compute(vec![extremes(dtype)[0]], vec![Inst::Load(0)], Combine::Max, Vec::new());
    call.run(cx);
    let shifted = vec![Inst::Load(0), Inst::Load(1), Inst::Binary(BinaryFn::Sub, 0, 1)];
    let mut call = NestCall::new("sum_exp", &extents, 1, &sum, of_line(&sum));
    call.input("x", &x, of_element(&x));
    call.input("largest", &largest, of_line(&largest));
    call.compute(
        vec![number(dtype, 0.0)],
        with_activation(shifted.clone(), Some(UnaryFn::Exp)),
        Combine::Sum,
        Vec::new(),
    );
    call.run(cx);
    let name = if op.log { "log_softmax" } else { "softmax" };
    let mut call = NestCall::new(name, &shape, 0, &out, Affine::new(0, out.strides.clone()));
    call.input("x", &x, Affine::new(0, x.strides.clone()));
    call.input("largest", &largest, Affine::new(0, largest.broadcast(rank)));
    call.input("sum", &sum, Affine::new(0, sum.broadcast(rank)));
    let mut body = shifted;
    let (element, total, function) = match op.log {
        true => (Inst::Load(2), Inst::Unary(UnaryFn::Log, 3), BinaryFn::Sub),
        false => (Inst::Unary(UnaryFn::Exp, 2), Inst::Load(2), BinaryFn::Div),
    };
    body.extend([element, total, if op.log { Inst::Binary(function, 2, 4) } else { Inst::Binary(function, 3, 4) }]);
    call.compute(Vec::new(), body, Combine::Last, Vec::new());
    call.run(cx);
    Ok(())
}

/// Squeeze-and-excite: means, two small products, the gate.
pub fn squeeze_excite(cx: &mut Lowering<'_>, op: &SqueezeExcite) -> Result<(), OpError> {
    expect_f32("x", cx.ty.dtype)?;
    let (x, order, shape) = (View::operand(cx, 0)?, cx.order(0), cx.ty.shape.to_vec());
    let [batch, channels, height, width] = shape[..] else { return Err(OpError::new("x", "rank 4", "another")) };
    let reduced = cx.operand_type(1).shape[0];
    let mut vector = |name: &str, len: usize| {
        let view = cx.temp(name, TensorType::f32(vec![batch, len]), AxisOrder::RowMajor);
        View::of(cx, view)
    };
    let [mean, hidden, gate] =
        [("mean", channels), ("hidden", reduced), ("gate", channels)].map(|(name, len)| vector(name, len));
    let extents = [batch, channels, height, width];
    let mut call = NestCall::new("mean", &extents, 2, &mean, along(4, 0, &[(0, mean.strides[0]), (1, 1)]));
    call.input("x", &x, Affine::new(0, x.strides.clone()));
    let pixels = (height * width) as f32;
    let finish = vec![Inst::Accumulated, float(pixels), Inst::Binary(BinaryFn::Div, 0, 1)];
    call.compute(vec![float(0.0)], vec![Inst::Load(0)], Combine::Sum, finish);
    call.run(cx);
    for (first, from, to, function) in [(1, &mean, &hidden, op.activation), (3, &hidden, &gate, op.gate)] {
        let (w, bias) = (packed(cx, first, &[1, 0, 2, 3])?, View::operand(cx, first + 1)?);
        let extents = [batch, to.shape[1], from.shape[1]];
        let mut call = NestCall::new("dense", &extents, 1, to, along(3, 0, &[(0, to.strides[0]), (1, 1)]));
        call.input("x", from, along(3, 0, &[(0, from.strides[0]), (2, 1)]));
        call.input("w", &w, along(3, 0, &[(1, w.strides[0]), (2, w.strides[1])]));
        call.input("bias", &bias, along(3, 0, &[(1, 1)]));
        let finish = with_activation(vec![Inst::Accumulated], Some(function));
        call.compute(vec![Inst::Load(2)], vec![Inst::Load(0), Inst::Load(1)], Combine::SumProduct, finish);
        call.run(cx);
    }
    let out = cx.output(order);
    let out = View::of(cx, out);
    let mut call = NestCall::new("gate", &shape, 0, &out, Affine::new(0, out.strides.clone()));
    call.input("x", &x, Affine::new(0, x.strides.clone()));
    call.input("gate", &gate, along(4, 0, &[(0, gate.strides[0]), (1, 1)]));
    call.compute(
        Vec::new(),
        vec![Inst::Load(0), Inst::Load(1), Inst::Binary(BinaryFn::Mul, 0, 1)],
        Combine::Last,
        Vec::new(),
    );
    call.run(cx);
    Ok(())
}
