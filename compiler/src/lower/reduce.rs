//! Lowering of `reduce`.

use super::Lower;
use super::context::Lowering;
use super::nests::{NestCall, View, expect_float, expect_native, extremes, number};
use crate::kernels::Mean;
use crate::kernels::loops::nest::{Affine, Combine, Inst};
use crate::plan::AxisOrder;
use fornax_ir::OpError;
use fornax_ir::ops::Reduce;
use fornax_ir::ops::reduce::ReduceKind;
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::{DType, TensorType};

impl Lower for Reduce {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        if let Some(spec) = mean_over_pixels(self, cx.operand_type(0)) {
            let input = cx.stored_type(0);
            let spec = Mean { input, ..spec };
            let x = cx.operand_stored(0, AxisOrder::ChannelsLast, input)?;
            let y = cx.output(AxisOrder::ChannelsLast);
            cx.step(spec, &[x.into(), y.into()]);
            return Ok(());
        }
        let (x, dtype) = (View::operand(cx, 0)?, cx.ty.dtype);
        expect_native("x", dtype)?;
        if matches!(self.kind, ReduceKind::L2 | ReduceKind::LogSum | ReduceKind::LogSumExp) {
            expect_float("x", dtype)?;
        }
        let order = if self.keepdims { cx.order(0) } else { AxisOrder::RowMajor };
        let out = cx.output(order);
        let out = View::of(cx, out);
        let mut sums = Sums::new(self, &x, &out);
        if self.kind == ReduceKind::LogSumExp {
            let ty = TensorType::new(dtype, cx.ty.shape.clone());
            let shift = cx.temp("shift", ty, order);
            let shift = View::of(cx, shift);
            sums.shift(cx, &shift);
            sums.log_sum_exp(&shift);
        } else {
            sums.fold(self.kind, dtype);
        }
        sums.call.run(cx);
        Ok(())
    }
}

/// The loop nest of a reduction: kept axes, then reduced ones.
struct Sums {
    call: NestCall,
    extents: Vec<usize>,
    reduced: usize,
    count: usize,
    x: View,
    read: Affine,
    write: Affine,
}

impl Sums {
    fn new(op: &Reduce, x: &View, out: &View) -> Self {
        let kept: Vec<usize> = (0..x.shape.len()).filter(|axis| !op.axes.contains(axis)).collect();
        let order = || kept.iter().chain(&op.axes);
        let extents: Vec<usize> = order().map(|axis| x.shape[*axis]).collect();
        let read = Affine::new(0, order().map(|axis| x.strides[*axis]).collect::<Vec<_>>());
        let mut write: Vec<i64> = match op.keepdims {
            true => kept.iter().map(|axis| out.strides[*axis]).collect(),
            false => out.strides.clone(),
        };
        write.resize(extents.len(), 0);
        let (reduced, write) = (op.axes.len(), Affine::new(0, write));
        let name = format!("reduce_{}", op.kind.word());
        let mut call = NestCall::new(&name, &extents, reduced, out, write.clone());
        call.input("x", x, read.clone());
        let count = op.axes.iter().map(|axis| x.shape[*axis]).product();
        Self { call, extents, reduced, count, x: x.clone(), read, write }
    }

    /// Every kind that is one sum.
    fn fold(&mut self, kind: ReduceKind, dtype: DType) {
        let number = |value: f64| number(dtype, value);
        let [least, most] = extremes(dtype);
        let (init, combine) = match kind {
            ReduceKind::Max => (least, Combine::Max),
            ReduceKind::Min => (most, Combine::Min),
            ReduceKind::Prod => (number(1.0), Combine::Prod),
            ReduceKind::L2 | ReduceKind::SumSquare => (number(0.0), Combine::SumProduct),
            _ => (number(0.0), Combine::Sum),
        };
        let mut body = vec![Inst::Load(0)];
        match kind {
            ReduceKind::L1 => body.push(Inst::Unary(UnaryFn::Abs, 0)),
            ReduceKind::L2 | ReduceKind::SumSquare => body.push(Inst::Load(0)),
            _ => {}
        }
        let mut finish = vec![Inst::Accumulated];
        match kind {
            ReduceKind::Mean => finish.extend([number(self.count as f64), Inst::Binary(BinaryFn::Div, 0, 1)]),
            ReduceKind::L2 => finish.push(Inst::Unary(UnaryFn::Sqrt, 0)),
            ReduceKind::LogSum => finish.push(Inst::Unary(UnaryFn::Log, 0)),
            _ => {}
        }
        self.call.compute(vec![init], body, combine, finish);
    }

    /// Stores the largest elements, or 0 where they are infinite.
    fn shift(&self, cx: &mut Lowering<'_>, shift: &View) {
        let mut call = NestCall::new("largest", &self.extents, self.reduced, shift, self.write.clone());
        call.input("x", &self.x, self.read.clone());
        let finish = vec![
            Inst::Accumulated,
            Inst::Binary(BinaryFn::Sub, 0, 0),
            Inst::Binary(BinaryFn::Equal, 1, 1),
            number(self.x.dtype, 0.0),
            Inst::Unary(UnaryFn::IsNan, 0),
            Inst::Binary(BinaryFn::Or, 2, 4),
            Inst::Select(5, 0, 3),
        ];
        call.compute(vec![extremes(self.x.dtype)[0]], vec![Inst::Load(0)], Combine::Max, finish);
        call.run(cx);
    }

    /// The logarithm of the sum of exponentials of what is left after the shift, plus the shift.
    fn log_sum_exp(&mut self, shift: &View) {
        self.call.input("shift", shift, self.write.clone());
        let body = vec![Inst::Load(0), Inst::Load(1), Inst::Binary(BinaryFn::Sub, 0, 1), Inst::Unary(UnaryFn::Exp, 2)];
        let finish =
            vec![Inst::Accumulated, Inst::Unary(UnaryFn::Log, 0), Inst::Load(1), Inst::Binary(BinaryFn::Add, 1, 2)];
        self.call.compute(vec![number(self.x.dtype, 0.0)], body, Combine::Sum, finish);
    }
}

/// The kernel for a mean over every axis from the third on, of an `f32` operand that has elements.
fn mean_over_pixels(op: &Reduce, x: &TensorType) -> Option<Mean> {
    let [batch, channels, rows, rest @ ..] = &x.shape[..] else { return None };
    let pixels = op.axes.iter().copied().eq(2..x.shape.rank());
    let columns = rest.iter().product();
    let fits = pixels && op.kind == ReduceKind::Mean && x.dtype == DType::F32 && x.shape.numel() > 0;
    let (element, input, count) = (x.dtype, x.dtype, rows * columns);
    fits.then_some(Mean { element, input, batch: *batch, rows: *rows, columns, channels: *channels, count })
}
