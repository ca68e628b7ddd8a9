//! Lowering of `batch_statistics`: sums along the last axis, and of those sums; once for the mean, once for the squared distances
//! from it. Partial sums keep the error small and give threads something to share.

use super::Lower;
use super::context::Lowering;
use super::nests::{NestCall, View, expect_f32, float};
use crate::kernels::loops::nest::{Affine, Combine, Inst, Program};
use crate::plan::AxisOrder;
use fornax_ir::OpError;
use fornax_ir::ops::BatchStatistics;
use fornax_ir::scalar::BinaryFn;
use fornax_ir::types::TensorType;

impl Lower for BatchStatistics {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        expect_f32("x", cx.ty.dtype)?;
        let x = View::operand(cx, 0)?;
        let mean = cx.output_of(0, AxisOrder::RowMajor);
        let mean = View::of(cx, mean);
        average(cx, "mean", &x, None, &mean);
        if cx.results[1].used {
            let variance = cx.output_of(1, AxisOrder::RowMajor);
            let variance = View::of(cx, variance);
            average(cx, "variance", &x, Some(&mean), &variance);
        }
        Ok(())
    }
}

/// Averages the elements of each channel into `out`, or their squared distances from `mean`.
fn average(cx: &mut Lowering<'_>, name: &'static str, x: &View, mean: Option<&View>, out: &View) {
    let count: usize = x.shape.iter().enumerate().filter(|(axis, _)| *axis != 1).map(|(_, extent)| extent).product();
    let sum = vec![float(0.0)];
    let divide = vec![Inst::Accumulated, float(count as f32), Inst::Binary(BinaryFn::Div, 0, 1)];
    let terms = |call: &mut NestCall, by_channel: Affine| -> Program {
        let Some(mean) = mean else { return vec![Inst::Load(0)] };
        call.input("mean", mean, by_channel);
        vec![Inst::Load(0), Inst::Load(1), Inst::Binary(BinaryFn::Sub, 0, 1), Inst::Binary(BinaryFn::Mul, 2, 2)]
    };
    let rank = x.shape.len();
    if rank == 2 {
        let mut call = NestCall::new(name, &[x.shape[1], x.shape[0]], 1, out, Affine::new(0, [1, 0]));
        call.input("x", x, Affine::new(0, [x.strides[1], x.strides[0]]));
        let body = terms(&mut call, Affine::new(0, [1, 0]));
        call.compute(sum, body, Combine::Sum, divide);
        call.run(cx);
        return;
    }
    let rows = TensorType::f32(&x.shape[..rank - 1]);
    let order = cx.order(0);
    let view = cx.temp(name, rows, order);
    let sums = View::of(cx, view);
    let mut write = sums.strides.clone();
    write.push(0);
    let mut call = NestCall::new("row_sum", &x.shape, 1, &sums, Affine::new(0, write));
    call.input("x", x, Affine::new(0, x.strides.clone()));
    let mut by_channel = vec![0; rank];
    by_channel[1] = 1;
    let body = terms(&mut call, Affine::new(0, by_channel));
    call.compute(sum.clone(), body, Combine::Sum, Vec::new());
    call.run(cx);
    // Channels, then all else.
    let order = || std::iter::once(1).chain((0..rank - 1).filter(|axis| *axis != 1));
    let extents: Vec<usize> = order().map(|axis| sums.shape[axis]).collect();
    let mut write = vec![0; extents.len()];
    write[0] = 1;
    let mut call = NestCall::new(name, &extents, extents.len() - 1, out, Affine::new(0, write));
    call.input("sums", &sums, Affine::new(0, order().map(|axis| sums.strides[axis]).collect::<Vec<_>>()));
    call.compute(sum, vec![Inst::Load(0)], Combine::Sum, divide);
    call.run(cx);
}
