//! Reductions over axes.

use super::attributes::{Attr, AttrReader};
use super::attributes::{attributes, word_attr};
use super::gradient::no_rule;
use super::literal::{Data, Literal};
use super::shapes::{broadcast_offsets, check, checked, expect_axis, expect_float, expect_number, expect_operands};
use super::{GradientContext, OneResult};
use crate::error::OpError;
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

impl OneResult for Reduce {
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

    fn gradient(&self, cx: &mut GradientContext<'_>) -> Result<(), OpError> {
        let (x, shape) = (cx.operand(0), cx.shape(cx.operand(0)));
        let kept: Vec<usize> =
            (0..shape.len()).map(|axis| if self.axes.contains(&axis) { 1 } else { shape[axis] }).collect();
        let (dy, y) = (cx.dy()?, cx.result(0));
        let (dy, y) = (cx.reshape(dy, &kept)?, cx.reshape(y, &kept)?);
        let dx = match self.kind {
            ReduceKind::Sum => dy,
            ReduceKind::Mean => {
                let count: usize = self.axes.iter().map(|axis| shape[*axis]).product();
                let count = cx.number(dy, count as f64);
                cx.div(dy, count)?
            }
            ReduceKind::Max | ReduceKind::Min => {
                // Equal elements share.
                let (equal, one) = (cx.binary(BinaryFn::Equal, x, y)?, cx.number(dy, 1.0));
                let ones = cx.masked(equal, one)?;
                let count = cx.sum(ones, self.axes.clone(), true)?;
                let part = cx.div(dy, count)?;
                cx.mul(ones, part)?
            }
            ReduceKind::L1 => {
                let sign = cx.unary(UnaryFn::Sign, x)?;
                cx.mul(dy, sign)?
            }
            ReduceKind::L2 => {
                let zero = cx.number(y, 0.0);
                let (none, part) = (cx.binary(BinaryFn::Equal, y, zero)?, cx.div(dy, y)?);
                let part = cx.choose(none, zero, part)?;
                cx.mul(x, part)?
            }
            ReduceKind::SumSquare => {
                let twice = cx.times(dy, 2.0)?;
                cx.mul(x, twice)?
            }
            ReduceKind::LogSum => {
                let sum = cx.unary(UnaryFn::Exp, y)?;
                cx.div(dy, sum)?
            }
            ReduceKind::LogSumExp => {
                let distance = cx.sub(x, y)?;
                let share = cx.unary(UnaryFn::Exp, distance)?;
                cx.mul(dy, share)?
            }
            ReduceKind::Prod => return Err(no_rule("reduce {kind=prod}")),
        };
        let dx = cx.expand(dx, &shape)?;
        cx.set(0, dx)
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
