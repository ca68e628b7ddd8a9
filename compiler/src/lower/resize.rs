//! Resampling as loop nests: index tables for nearest samples; one weighted sum per axis for interpolation.

use super::Lower;
use super::context::Lowering;
use super::fallback::along;
use super::nests::{NestCall, View, expect_native, factors, float, index_table, number};
use crate::kernels::loops::nest::{Affine, Combine, Entry, Inst, Program};
use fornax_ir::OpError;
use fornax_ir::ops::resize::{Resize, ResizeMode};
use fornax_ir::scalar::UnaryFn;
use fornax_ir::types::{DType, TensorType};

impl Lower for Resize {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let op = self;
        let x = View::operand(cx, 0)?;
        let ty = cx.operand_type(0).clone();
        let order = cx.order(0);
        let out = cx.output(order);
        let out = View::of(cx, out);
        if op.mode == ResizeMode::Nearest {
            return lower_nearest(op, cx, &ty, &x, &out);
        }
        if !matches!(ty.dtype, DType::F32 | DType::I8 | DType::U8 | DType::I16 | DType::U16) {
            return Err(OpError::new("x", "native element type f32, i8, u8, i16 or u16", ty.dtype.name()));
        }
        let axes: Vec<usize> = (0..op.shape.len()).filter(|axis| !op.keeps(&ty, *axis)).collect();
        let outside = axes.iter().any(|axis| (0..op.shape[*axis]).any(|i| op.source(&ty, *axis, i).is_none()));
        let mut from = x;
        for (i, axis) in axes.iter().enumerate() {
            let last = i + 1 == axes.len() && !outside;
            let mut shape = from.shape.clone();
            shape[*axis] = op.shape[*axis];
            let to = if last {
                out.clone()
            } else {
                let view = cx.temp(&format!("axis{axis}"), TensorType::f32(shape), order);
                View::of(cx, view)
            };
            lower_axis(op, cx, &ty, *axis, &from, &to)?;
            from = to;
        }
        if axes.is_empty() || outside {
            lower_outside(op, cx, &ty, &from, &out)?;
        }
        Ok(())
    }
}

/// The nearest sample along every axis, through index tables; outside the region of interest the extrapolation value.
fn lower_nearest(op: &Resize, cx: &mut Lowering<'_>, ty: &TensorType, x: &View, out: &View) -> Result<(), OpError> {
    let rank = x.shape.len();
    let picks = |axis: usize| -> Vec<i64> {
        let pick = |at: f64| op.pick(at, x.shape[axis]) as i64;
        (0..op.shape[axis]).map(|i| op.source(ty, axis, i).map_or(-1, pick)).collect()
    };
    let tables: Vec<(usize, Vec<i64>)> =
        (0..rank).filter(|axis| !op.keeps(ty, *axis)).map(|axis| (axis, picks(axis))).collect();
    let whole = tables.iter().all(|(_, picks)| picks.iter().all(|at| *at >= 0));
    let (x, out) = if whole { (x.clone().moved(), out.clone().moved()) } else { (x.clone(), out.clone()) };
    if !whole {
        expect_native("x", ty.dtype)?;
    }
    let mut call = NestCall::new("resize_nearest", &op.shape, 0, &out, Affine::new(0, out.strides.clone()));
    let mut read = x.strides.clone();
    tables.iter().for_each(|(axis, _)| read[*axis] = 0);
    let input = call.input("x", &x, Affine::new(0, read));
    for (axis, picks) in tables {
        let table = index_table(cx, &picks)?;
        // Without samples outside, a table is only an index.
        let entry = if whole { Entry::Wrap(x.shape[axis]) } else { Entry::Skip };
        let table = call.table("source", &table, along(rank, 0, &[(axis, 1)]), entry);
        call.nest.inputs[input].lookups.push((table, x.strides[axis]));
    }
    let fill = vec![number(x.dtype, op.extrapolation.into())];
    call.compute(fill, vec![Inst::Load(input)], Combine::Last, Vec::new());
    call.run(cx);
    Ok(())
}

/// Interpolates along one axis: a weighted sum of the samples of each coordinate.
fn lower_axis(
    op: &Resize,
    cx: &mut Lowering<'_>,
    ty: &TensorType,
    axis: usize,
    from: &View,
    to: &View,
) -> Result<(), OpError> {
    let extent = from.shape[axis];
    let sources = (0..op.shape[axis]).map(|i| op.source(ty, axis, i).unwrap_or(0.0));
    let taps: Vec<Vec<(usize, f64)>> = sources.map(|at| op.taps(at, extent, axis)).collect();
    let most = taps.iter().map(Vec::len).max().unwrap_or(0);
    let padded = |tap: &Vec<(usize, f64)>, k: usize| tap.get(k).filter(|(_, weight)| *weight != 0.0).copied();
    let views = || taps.iter().flat_map(|tap| (0..most).map(move |k| padded(tap, k)));
    let table = index_table(cx, &views().map(|s| s.map_or(-1, |(at, _)| at as i64)).collect::<Vec<_>>())?;
    let weights = factors(cx, views().map(|s| s.map_or(0.0, |(_, weight)| weight as f32)).collect());
    let extents = [&to.shape[..], &[most]].concat();
    let rank = extents.len();
    let mut call = NestCall::new("resize", &extents, 1, to, Affine::new(0, [&to.strides[..], &[0]].concat()));
    let mut read = [&from.strides[..], &[0]].concat();
    read[axis] = 0;
    let input = call.input("x", from, Affine::new(0, read));
    let view = along(rank, 0, &[(axis, most as i64), (rank - 1, 1)]);
    let weight = call.input("weights", &weights, view.clone());
    let table = call.table("source", &table, view, Entry::Skip);
    call.nest.inputs[input].lookups.push((table, from.strides[axis]));
    let mut body = vec![Inst::Load(input)];
    if from.dtype != DType::F32 {
        body.push(Inst::ToFloat(0));
    }
    // The last two values are the factors of the sum.
    body.push(Inst::Load(weight));
    call.compute(vec![float(0.0)], body, Combine::SumProduct, rounded(vec![Inst::Accumulated], to.dtype));
    call.run(cx);
    Ok(())
}

/// Copies what was interpolated, with the extrapolation value outside the region of interest.
fn lower_outside(op: &Resize, cx: &mut Lowering<'_>, ty: &TensorType, from: &View, out: &View) -> Result<(), OpError> {
    let rank = op.shape.len();
    let mut call = NestCall::new("resize_outside", &op.shape, 0, out, Affine::new(0, out.strides.clone()));
    call.input("x", from, Affine::new(0, from.strides.clone()));
    for axis in (0..rank).filter(|axis| !op.keeps(ty, *axis)) {
        let inside = |i: usize| if op.source(ty, axis, i).is_some() { 0 } else { -1 };
        let table = index_table(cx, &(0..op.shape[axis]).map(inside).collect::<Vec<_>>())?;
        call.table("inside", &table, along(rank, 0, &[(axis, 1)]), Entry::Skip);
    }
    let program = |first: Inst| if from.dtype == out.dtype { vec![first] } else { rounded(vec![first], out.dtype) };
    let fill =
        if from.dtype == DType::F32 { float(op.extrapolation) } else { number(out.dtype, op.extrapolation.into()) };
    call.compute(program(fill), program(Inst::Load(0)), Combine::Last, Vec::new());
    call.run(cx);
    Ok(())
}

/// Rounds the `f32` that a program ends in to elements of `dtype`, halves to even.
fn rounded(mut program: Program, dtype: DType) -> Program {
    if dtype != DType::F32 {
        let last = program.len() - 1;
        program.extend([Inst::Unary(UnaryFn::Round, last), Inst::ToInt(dtype, last + 1)]);
    }
    program
}
