//! Reductions over axes.

use super::nests::{Call, View, expect_f32, expect_native, float};
use crate::codegen::loops::{Affine, Combine, Inst};
use super::Operation;
use super::attributes::{Attr, AttrReader};
use super::attributes::{attributes, word_attr};
use super::literal::{Data, Literal};
use super::shapes::{broadcast_offsets, check, checked, expect_axis, expect_float, expect_number, expect_operands};
use crate::error::OpError;
use crate::kernels::Mean;
use crate::plan::Layout;
use crate::plan::lowering::Lowering;
use crate::scalar::{BinaryFn, UnaryFn};
use crate::types::{DType, Shape, TensorType};

/// What a reduction computes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ReduceKind {
    /// Sum.
    Sum,
    /// Sum over the count.
    Mean,
    /// Largest.
    Max,
    /// Smallest.
    Min,
    /// Product.
    Prod,
    /// Sum of absolute values.
    L1,
    /// Square root of the sum of squares.
    L2,
    /// Sum of squares.
    SumSquare,
    /// Logarithm of the sum.
    LogSum,
    /// Logarithm of the sum of exponentials, shifted by the largest.
    LogSumExp,
}
word_attr!(ReduceKind {
    Sum = "sum", Mean = "mean", Max = "max", Min = "min", Prod = "prod", L1 = "l1", L2 = "l2",
    SumSquare = "sum_square", LogSum = "log_sum", LogSumExp = "log_sum_exp",
});

attributes! {
    /// Attributes of a reduction.
    pub struct Reduce {
        /// What it computes.
        pub kind: ReduceKind = ReduceKind::Sum,
        /// Axes to reduce, ascending; empty: none (the importer expands ONNX's "all").
        pub axes: Vec<usize> = vec![],
        /// Whether reduced axes stay with extent 1.
        pub keepdims: bool = true,
    }
}

impl Reduce {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl Reduce {
    /// The `len` results over floating-point elements; element `i` belongs to result `at[i]`, `count` to each.
    fn floats(&self, x: &[f64], at: &[usize], len: usize, count: usize) -> Vec<f64> {
        let fold = |start: f64, step: &dyn Fn(f64, f64) -> f64| {
            let mut out = vec![start; len];
            x.iter().zip(at).for_each(|(x, at)| out[*at] = step(out[*at], *x));
            out
        };
        let each = |mut values: Vec<f64>, function: &dyn Fn(f64) -> f64| {
            values.iter_mut().for_each(|v| *v = function(*v));
            values
        };
        let largest = || fold(f64::NEG_INFINITY, &|a, x| BinaryFn::Max.eval(a, x));
        let squares = || fold(0.0, &|a, x| a + x * x);
        let sum = || fold(0.0, &|a, x| a + x);
        match self.kind {
            ReduceKind::Sum => sum(),
            ReduceKind::Mean => each(sum(), &|v| v / count as f64),
            ReduceKind::Max => largest(),
            ReduceKind::Min => fold(f64::INFINITY, &|a, x| BinaryFn::Min.eval(a, x)),
            ReduceKind::Prod => fold(1.0, &|a, x| a * x),
            ReduceKind::L1 => fold(0.0, &|a, x| a + x.abs()),
            ReduceKind::L2 => each(squares(), &f64::sqrt),
            ReduceKind::SumSquare => squares(),
            ReduceKind::LogSum => each(sum(), &libm::log),
            ReduceKind::LogSumExp => {
                let shifts = each(largest(), &|v| if v.is_infinite() { 0.0 } else { v });
                let mut out = vec![0.0; len];
                x.iter().zip(at).for_each(|(x, at)| out[*at] += libm::exp(x - shifts[*at]));
                out.iter().zip(shifts).map(|(sum, shift)| libm::log(*sum) + shift).collect()
            }
        }
    }

    /// As [`Self::floats`], over integers: sums wrap, means and roots lose their fraction, the mean of nothing is 0.
    fn ints(&self, x: &[i64], at: &[usize], ty: &TensorType, count: usize) -> Vec<i64> {
        let dtype = ty.dtype;
        let (least, most) = int_range(dtype);
        let fold = |start: i64, step: &dyn Fn(i64, i64) -> i64| {
            let mut out = vec![start; ty.shape.numel()];
            x.iter().zip(at).for_each(|(x, at)| out[*at] = step(out[*at], *x));
            out
        };
        let divided = |v: i64| match dtype {
            DType::U64 => (v as u64).checked_div(count as u64).map_or(0, |v| v as i64),
            _ => v.checked_div(count as i64).unwrap_or(0),
        };
        let root =
            |v: i64| if dtype == DType::U64 { (v as u64).isqrt() as i64 } else { v.checked_isqrt().unwrap_or(0) };
        let squares = || fold(0, &|a, x| a.wrapping_add(x.wrapping_mul(x)));
        let sum = || fold(0, &|a, x| a.wrapping_add(x));
        match self.kind {
            ReduceKind::Sum | ReduceKind::LogSum | ReduceKind::LogSumExp => sum(),
            ReduceKind::Mean => sum().into_iter().map(divided).collect(),
            ReduceKind::Max => fold(least, &|a, x| if ordered(dtype, x) > ordered(dtype, a) { x } else { a }),
            ReduceKind::Min => fold(most, &|a, x| if ordered(dtype, x) < ordered(dtype, a) { x } else { a }),
            ReduceKind::Prod => fold(1, &i64::wrapping_mul),
            ReduceKind::L1 if dtype == DType::U64 => sum(),
            ReduceKind::L1 => fold(0, &|a, x| a.wrapping_add(x.wrapping_abs())),
            ReduceKind::L2 => squares().into_iter().map(root).collect(),
            ReduceKind::SumSquare => squares(),
        }
    }
}

impl Operation for Reduce {
    fn name(&self) -> &'static str {
        "reduce"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        expect_operands(inputs, 1)?;
        let x = inputs[0];
        match self.kind {
            ReduceKind::Max | ReduceKind::Min => {}
            ReduceKind::LogSum | ReduceKind::LogSumExp => expect_float("x", x)?,
            _ => expect_number("x", x)?,
        }
        self.axes.iter().try_for_each(|axis| expect_axis(*axis, x.shape.rank()))?;
        let ascending = self.axes.windows(2).all(|pair| pair[0] < pair[1]);
        check(ascending, "axes", || "ascending axes".into(), || format!("{:?}", self.axes))?;
        let extent = |axis: usize| match self.axes.contains(&axis) {
            true => self.keepdims.then_some(1),
            false => Some(x.shape[axis]),
        };
        checked(x.dtype, (0..x.shape.rank()).filter_map(extent).collect::<Shape>())
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let x = inputs[0];
        let ty = self.infer(&[&x.ty])?;
        let kept = |axis: usize| if self.axes.contains(&axis) { 1 } else { x.ty.shape[axis] };
        let kept: Vec<_> = (0..x.ty.shape.rank()).map(kept).collect();
        // The result element that each operand element belongs to.
        let at = broadcast_offsets(&kept, &x.ty.shape);
        let count = self.axes.iter().map(|axis| x.ty.shape[*axis]).product();
        match &x.data {
            Data::Float(values) => {
                Ok(Literal::new_float(ty.clone(), self.floats(values, &at, ty.shape.numel(), count)))
            }
            Data::Int(values) => Ok(Literal::new_int(ty.clone(), self.ints(values, &at, &ty, count))),
        }
    }

    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        if let Some(spec) = self.mean_over_pixels(cx.operand_type(0)) {
            let x = cx.operand_as(0, Layout::ChannelsLast)?;
            let y = cx.output(Layout::ChannelsLast);
            cx.step(spec, &[x.into(), y.into()]);
            return Ok(());
        }
        let (x, dtype) = (View::operand(cx, 0)?, cx.ty.dtype);
        expect_native("x", dtype)?;
        if matches!(self.kind, ReduceKind::L2 | ReduceKind::LogSum | ReduceKind::LogSumExp) {
            expect_f32("x", dtype)?;
        }
        let layout = if self.keepdims { cx.layout(0) } else { Layout::RowMajor };
        let out = cx.output(layout);
        let out = View::slot(cx, out);
        let mut sums = Sums::new(self, &x, &out);
        if self.kind == ReduceKind::LogSumExp {
            let ty = TensorType::new(dtype, cx.ty.shape.clone());
            let shift = cx.temp("shift", ty, layout);
            let shift = View::slot(cx, shift);
            sums.shift(cx, &shift);
            sums.log_sum_exp(&shift);
        } else {
            sums.fold(self.kind, dtype);
        }
        sums.call.run(cx);
        Ok(())
    }
}

impl Reduce {
    /// The kernel for a mean over every axis from the third on, of an `f32` operand that has elements.
    fn mean_over_pixels(&self, x: &TensorType) -> Option<Mean> {
        let [batch, channels, rows, rest @ ..] = &x.shape[..] else { return None };
        let pixels = self.axes.iter().copied().eq(2..x.shape.rank());
        let columns = rest.iter().product();
        let fits = pixels && self.kind == ReduceKind::Mean && x.dtype == DType::F32 && x.shape.numel() > 0;
        fits.then_some(Mean { batch: *batch, rows: *rows, columns, channels: *channels, count: rows * columns })
    }
}

/// An integer element such that signed comparison orders elements of type `dtype`.
pub fn ordered(dtype: DType, v: i64) -> i64 {
    if dtype == DType::U64 { v ^ i64::MIN } else { v }
}

/// The smallest and the largest element of an integer type or bool.
pub fn int_range(dtype: DType) -> (i64, i64) {
    match dtype {
        DType::Bool => (0, 1),
        DType::U8 => (0, i64::from(u8::MAX)),
        DType::U16 => (0, i64::from(u16::MAX)),
        DType::U32 => (0, i64::from(u32::MAX)),
        DType::U64 => (0, u64::MAX as i64),
        DType::I8 => (i64::from(i8::MIN), i64::from(i8::MAX)),
        DType::I16 => (i64::from(i16::MIN), i64::from(i16::MAX)),
        DType::I32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        _ => (i64::MIN, i64::MAX),
    }
}

/// The loop nest of a reduction: kept axes, then reduced ones.
struct Sums {
    call: Call,
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
        let mut call = Call::new(&name, &extents, reduced, out, write.clone());
        call.input("x", x, read.clone());
        let count = op.axes.iter().map(|axis| x.shape[*axis]).product();
        Self { call, extents, reduced, count, x: x.clone(), read, write }
    }

    /// Every kind that is one sum.
    fn fold(&mut self, kind: ReduceKind, dtype: DType) {
        let number = |value: f32| if dtype == DType::F32 { float(value) } else { Inst::Int(value as i64) };
        let (least, most) = match dtype {
            DType::F32 => (float(f32::NEG_INFINITY), float(f32::INFINITY)),
            _ => (Inst::Int(int_range(dtype).0), Inst::Int(int_range(dtype).1)),
        };
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
            ReduceKind::Mean if dtype == DType::F32 => {
                finish.extend([float(self.count as f32), Inst::Binary(BinaryFn::Div, 0, 1)]);
            }
            ReduceKind::Mean => finish.extend([Inst::Int(self.count as i64), Inst::Binary(BinaryFn::Div, 0, 1)]),
            ReduceKind::L2 => finish.push(Inst::Unary(UnaryFn::Sqrt, 0)),
            ReduceKind::LogSum => finish.push(Inst::Unary(UnaryFn::Log, 0)),
            _ => {}
        }
        self.call.compute(vec![init], body, combine, finish);
    }

    /// Stores the largest elements, or 0 where they are infinite.
    fn shift(&self, cx: &mut Lowering<'_>, shift: &View) {
        let mut call = Call::new("largest", &self.extents, self.reduced, shift, self.write.clone());
        call.input("x", &self.x, self.read.clone());
        let finish = vec![
            Inst::Accumulated,
            Inst::Binary(BinaryFn::Sub, 0, 0),
            Inst::Binary(BinaryFn::Equal, 1, 1),
            float(0.0),
            Inst::Unary(UnaryFn::IsNan, 0),
            Inst::Binary(BinaryFn::Or, 2, 4),
            Inst::Select(5, 0, 3),
        ];
        call.compute(vec![float(f32::NEG_INFINITY)], vec![Inst::Load(0)], Combine::Max, finish);
        call.run(cx);
    }

    /// The logarithm of the sum of exponentials of what is left after the shift, plus the shift.
    fn log_sum_exp(&mut self, shift: &View) {
        self.call.input("shift", shift, self.write.clone());
        let body =
            vec![Inst::Load(0), Inst::Load(1), Inst::Binary(BinaryFn::Sub, 0, 1), Inst::Unary(UnaryFn::Exp, 2)];
        let finish = vec![
            Inst::Accumulated,
            Inst::Unary(UnaryFn::Log, 0),
            Inst::Load(1),
            Inst::Binary(BinaryFn::Add, 1, 2),
        ];
        self.call.compute(vec![float(0.0)], body, Combine::Sum, finish);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(kind: ReduceKind, axes: &[usize], x: &Literal) -> (String, Vec<f64>) {
        let out = Reduce { kind, axes: axes.into(), keepdims: false }.evaluate(&[x]).unwrap();
        (out.ty.to_string(), out.to_f64())
    }

    #[test]
    fn kinds() {
        let x = Literal::from_f32([2, 2], &[1.0, -2.0, 3.0, 4.0]);
        let rows = |kind| run(kind, &[1], &x).1;
        assert_eq!(rows(ReduceKind::Sum), [-1.0, 7.0]);
        assert_eq!(rows(ReduceKind::Mean), [-0.5, 3.5]);
        assert_eq!(rows(ReduceKind::Max), [1.0, 4.0]);
        assert_eq!(rows(ReduceKind::Min), [-2.0, 3.0]);
        assert_eq!(rows(ReduceKind::Prod), [-2.0, 12.0]);
        assert_eq!(rows(ReduceKind::L1), [3.0, 7.0]);
        assert_eq!(rows(ReduceKind::L2), [f64::from(5f64.sqrt() as f32), 5.0]);
        assert_eq!(rows(ReduceKind::SumSquare), [5.0, 25.0]);
        assert!(rows(ReduceKind::LogSum)[0].is_nan());
        assert_eq!(rows(ReduceKind::LogSum)[1], f64::from(7f64.ln() as f32));
        let sum = (1f64.exp() + (-2f64).exp()).ln();
        assert!((rows(ReduceKind::LogSumExp)[0] - sum).abs() < 1e-7);
    }

    #[test]
    fn axes_and_shapes() {
        let x = Literal::from_f32([2, 1, 2], &[1.0, 2.0, 3.0, 4.0]);
        assert_eq!(run(ReduceKind::Sum, &[0, 2], &x), ("f32[1]".into(), vec![10.0]));
        assert_eq!(run(ReduceKind::Sum, &[0, 1, 2], &x), ("f32[]".into(), vec![10.0]));
        assert_eq!(run(ReduceKind::SumSquare, &[], &x).1, [1.0, 4.0, 9.0, 16.0]);
        assert_eq!(run(ReduceKind::Sum, &[], &Literal::from_f32([], &[3.0])).1, [3.0]);
        let op = Reduce { axes: vec![0], ..Reduce::default() };
        assert_eq!(op.infer(&[&x.ty]).unwrap().to_string(), "f32[1,1,2]");
        assert_eq!(Reduce { axes: vec![3], ..Reduce::default() }.infer(&[&x.ty]).unwrap_err().field, "axis");
        assert_eq!(Reduce { axes: vec![1, 1], ..Reduce::default() }.infer(&[&x.ty]).unwrap_err().field, "axes");
    }

    #[test]
    fn nothing_reduces_to_the_neutral_element() {
        let x = Literal::from_f32([2, 0], &[]);
        assert_eq!(run(ReduceKind::Max, &[1], &x).1, [f64::NEG_INFINITY; 2]);
        assert_eq!(run(ReduceKind::Prod, &[1], &x).1, [1.0; 2]);
        assert_eq!(run(ReduceKind::LogSumExp, &[1], &x).1, [f64::NEG_INFINITY; 2]);
        assert!(run(ReduceKind::Mean, &[1], &x).1[0].is_nan());
        assert_eq!(run(ReduceKind::Sum, &[0], &x), ("f32[0]".into(), vec![]));
        let x = Literal::new_int(TensorType::new(DType::U8, [0]), vec![]);
        assert_eq!(run(ReduceKind::Min, &[0], &x).1, [255.0]);
        assert_eq!(run(ReduceKind::Mean, &[0], &x).1, [0.0]);
    }

    #[test]
    fn infinite_exponents() {
        let x = Literal::from_f32([3, 2], &[f32::INFINITY, 0.0, f32::NEG_INFINITY, f32::NEG_INFINITY, 1000.0, 1000.0]);
        let y = run(ReduceKind::LogSumExp, &[1], &x).1;
        assert_eq!(y[..2], [f64::INFINITY, f64::NEG_INFINITY]);
        assert_eq!(y[2], f64::from((1000.0 + 2f64.ln()) as f32));
    }

    #[test]
    fn integers() {
        let i32s = |v: &[i64]| Literal::new_int(TensorType::new(DType::I32, [v.len()]), v.into());
        assert_eq!(run(ReduceKind::Sum, &[0], &i32s(&[i64::from(i32::MAX), 1])).1, [f64::from(i32::MIN)]);
        assert_eq!(run(ReduceKind::Mean, &[0], &i32s(&[-3, 0])).1, [-1.0]);
        assert_eq!(run(ReduceKind::L2, &[0], &i32s(&[2, 2])).1, [2.0]);
        assert_eq!(run(ReduceKind::L1, &[0], &i32s(&[-2, 2])).1, [4.0]);
        let u64s = Literal::new_int(TensorType::new(DType::U64, [2]), vec![-1, 1]);
        assert_eq!(run(ReduceKind::Max, &[0], &u64s).1, [u64::MAX as f64]);
        assert_eq!(run(ReduceKind::Min, &[0], &u64s).1, [1.0]);
        let bools = Literal::new_int(TensorType::new(DType::Bool, [2]), vec![1, 0]);
        assert_eq!(run(ReduceKind::Max, &[0], &bools), ("bool[]".into(), vec![1.0]));
        let op = Reduce { kind: ReduceKind::Sum, axes: vec![0], keepdims: true };
        assert_eq!(op.infer(&[&bools.ty]).unwrap_err().field, "x");
        let op = Reduce { kind: ReduceKind::LogSum, ..op };
        assert_eq!(op.infer(&[&u64s.ty]).unwrap_err().field, "x");
    }
}
