//! Windowed maximum and average. `x [N, C, spatial…]`; extents as in convolution, rounded up where `ceil_mode`
//! (a window must start inside the input or its begin padding). A window that meets padding alone gives the least element of the
//! type, as an average 0.

use super::attributes::{Attr, AttrReader};
use super::attributes::{attributes, word_attr};
use super::literal::{Data, Literal};
use super::reduce::{int_range, ordered};
use super::shapes::{checked, expect_float, expect_number, expect_operands, expect_rank};
use super::window::{Tap, Window, WindowAttrs, taps};
use super::{ConvTranspose, GradientContext, MaxPool, MaxPoolGradient, OneResult};
use crate::error::OpError;
use crate::scalar::BinaryFn;
use crate::types::{Shape, TensorType};

/// What a window computes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PoolKind {
    /// Largest; padding never wins.
    Max,
    /// Mean over the elements inside, or over the whole window where `count_include_pad`.
    Average,
}
word_attr!(PoolKind { Max = "max", Average = "average" });

attributes! {
    /// Attributes of a pooling window.
    pub struct Pool {
        /// What a window computes.
        pub kind: PoolKind = PoolKind::Max,
        /// Window extents.
        pub kernel: Vec<usize> = vec![1, 1],
        /// Stride of each spatial axis.
        pub strides: Vec<usize> = vec![1, 1],
        /// Padding: all begins, then all ends.
        pub pads: Vec<usize> = vec![0, 0, 0, 0],
        /// Dilation of each spatial axis.
        pub dilations: Vec<usize> = vec![1, 1],
        /// Round extents up.
        pub ceil_mode: bool = false,
        /// Whether padding counts in an average.
        pub count_include_pad: bool = false,
    }
}

impl Pool {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }

    /// The window of each spatial axis, for an operand of type `x`.
    pub fn windows(&self, x: &TensorType) -> Result<Vec<Window>, OpError> {
        expect_rank("x", 3, x)?;
        WindowAttrs {
            kernel: &self.kernel,
            strides: &self.strides,
            pads: &self.pads,
            dilations: &self.dilations,
            ceil_mode: self.ceil_mode,
        }
        .windows(&x.shape[2..])
    }

    /// Number of elements along one axis that the average at position `at` counts.
    pub fn along(&self, window: &Window, at: usize) -> usize {
        if !self.count_include_pad {
            return window.taps_at(at).len();
        }
        let input = window.input + window.begin as usize + window.end as usize;
        Window { input, begin: 0, end: 0, ..*window }.taps_at(at).len()
    }

    /// Number of elements that the average at each position of a plane divides by.
    fn counts(&self, windows: &[Window], positions: &[usize]) -> Vec<usize> {
        windows.iter().zip(positions).fold(vec![1], |counts, (window, positions)| {
            let along: Vec<_> = (0..*positions).map(|at| self.along(window, at)).collect();
            counts.iter().flat_map(|count| along.iter().map(move |n| count * n)).collect()
        })
    }
}

impl OneResult for Pool {
    fn name(&self) -> &'static str {
        "pool"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        expect_operands(inputs, 1)?;
        let x = inputs[0];
        match self.kind {
            PoolKind::Max => expect_number("x", x)?,
            PoolKind::Average => expect_float("x", x)?,
        }
        let windows = self.windows(x)?;
        checked(
            x.dtype,
            x.shape[..2].iter().copied().chain(windows.iter().map(|window| window.output)).collect::<Shape>(),
        )
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let types: Vec<_> = inputs.iter().map(|operand| &operand.ty).collect();
        let ty = self.infer(&types)?;
        if ty.shape.contains(&0) {
            return Literal::from_bytes(ty, &[]);
        }
        let windows = self.windows(types[0])?;
        let plane = |shape: &Shape| shape[2..].iter().product::<usize>();
        let planes = Planes {
            count: ty.shape[0] * ty.shape[1],
            elements: plane(&types[0].shape),
            positions: plane(&ty.shape),
            stride: windows[windows.len() - 1].stride,
            taps: taps(&windows),
        };
        match (&inputs[0].data, self.kind) {
            (Data::Float(x), PoolKind::Max) => {
                let out = planes.fold(x, f64::NEG_INFINITY, |a, b| BinaryFn::Max.eval(a, b));
                Ok(Literal::new_float(ty, out))
            }
            (Data::Int(x), _) => {
                let dtype = ty.dtype;
                let max = |a, b| if ordered(dtype, b) > ordered(dtype, a) { b } else { a };
                Ok(Literal::new_int(ty, planes.fold(x, int_range(dtype).0, max)))
            }
            (Data::Float(x), PoolKind::Average) => {
                let mut out = planes.fold(x, 0.0, |a, b| a + b);
                let counts = self.counts(&windows, &ty.shape[2..]);
                let counted = out.iter_mut().zip(counts.iter().cycle()).filter(|(_, count)| **count > 0);
                counted.for_each(|(sum, count)| *sum /= *count as f64);
                Ok(Literal::new_float(ty, out))
            }
        }
    }

    fn gradient(&self, cx: &mut GradientContext<'_>) -> Result<(), OpError> {
        let (dy, x, shape) = (cx.dy()?, cx.operand(0), cx.shape(cx.operand(0)));
        if self.kind == PoolKind::Max {
            let found = MaxPool {
                kernel: self.kernel.clone(),
                strides: self.strides.clone(),
                pads: self.pads.clone(),
                dilations: self.dilations.clone(),
                ceil_mode: self.ceil_mode,
                column_major: false,
            };
            let gradient = MaxPoolGradient::of(&found, &shape[2..]);
            let indices = cx.ops(found, &[x])?[1];
            let dx = cx.op(gradient, &[dy, indices])?;
            return cx.set(0, dx);
        }
        let (windows, dtype) = (self.windows(cx.ty(x))?, cx.ty(x).dtype);
        let positions: Vec<usize> = windows.iter().map(|window| window.output).collect();
        let shares = self.counts(&windows, &positions).iter().map(|count| 1.0 / (*count).max(1) as f64).collect();
        let extents: Vec<usize> = [1, 1].into_iter().chain(positions).collect();
        let shares = cx.floats(dtype, &extents, shares);
        let share = cx.mul(dy, shares)?;
        if windows.iter().all(|window| window.output == 1 && window.taps_at(0).len() == window.input) {
            let dx = cx.expand(share, &shape)?;
            return cx.set(0, dx);
        }
        // Every window adds its share to each element that it meets: a transposed convolution of ones.
        let beyond = |window: &Window| {
            let reach = window.stride * (window.output - 1) + window.dilation * (window.kernel - 1) + 1;
            window.input as i64 + window.begin - reach as i64
        };
        let begins = windows.iter().map(|window| window.begin);
        let op = ConvTranspose {
            strides: self.strides.clone(),
            pads: begins.chain(windows.iter().map(|window| (-beyond(window)).max(0))).collect(),
            dilations: self.dilations.clone(),
            output_padding: windows.iter().map(|window| beyond(window).max(0) as usize).collect(),
            group: shape[1],
            bias: false,
        };
        let filters: Vec<usize> = [shape[1], 1].into_iter().chain(self.kernel.iter().copied()).collect();
        let ones = cx.floats(dtype, &filters, vec![1.0; filters.iter().product()]);
        let dx = cx.op(op, &[share, ones])?;
        cx.set(0, dx)
    }
}

/// The planes of an operand under pooling.
struct Planes {
    /// Number of planes.
    count: usize,
    /// Elements of a plane of the operand.
    elements: usize,
    /// Window positions of a plane.
    positions: usize,
    /// Stride of the last axis.
    stride: usize,
    /// Taps of the window.
    taps: Vec<Tap>,
}

impl Planes {
    /// Folds the elements of each window, taps row-major, from `start`.
    fn fold<T: Copy>(&self, x: &[T], start: T, fold: impl Fn(T, T) -> T) -> Vec<T> {
        let mut out = vec![start; self.count * self.positions];
        for plane in 0..self.count {
            let x = &x[plane * self.elements..][..self.elements];
            let out = &mut out[plane * self.positions..][..self.positions];
            for run in self.taps.iter().flat_map(|tap| &tap.runs) {
                let elements = x[run.element..].iter().step_by(self.stride);
                out[run.position..][..run.len].iter_mut().zip(elements).for_each(|(out, x)| *out = fold(*out, *x));
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::DType;

    fn pool(kind: PoolKind, kernel: [usize; 2], strides: [usize; 2], pads: [usize; 4]) -> Pool {
        Pool { kind, kernel: kernel.into(), strides: strides.into(), pads: pads.into(), ..Pool::default() }
    }

    fn run(op: &Pool, x: &Literal) -> (String, Vec<f64>) {
        let out = op.evaluate(&[x]).unwrap();
        (out.ty.to_string(), out.to_f64())
    }

    #[test]
    fn padding_never_wins() {
        let x = Literal::from_f32([1, 1, 2, 2], &[-1.0, -2.0, -3.0, -4.0]);
        let op = pool(PoolKind::Max, [2, 2], [1, 2], [1, 1, 1, 1]);
        assert_eq!(run(&op, &x), ("f32[1,1,3,2]".into(), vec![-1.0, -2.0, -1.0, -2.0, -3.0, -4.0]));
        let bytes = Literal::new_int(TensorType::new(DType::I8, [1, 1, 1, 2]), vec![-100, -128]);
        let op = pool(PoolKind::Max, [1, 2], [1, 1], [0, 0, 0, 1]);
        assert_eq!(run(&op, &bytes).1, [-100.0, -128.0]);
        let large = Literal::new_int(TensorType::new(DType::U64, [1, 1, 1, 2]), vec![1, -1]);
        assert_eq!(op.evaluate(&[&large]).unwrap().ints("y").unwrap(), [-1, -1]);
    }

    #[test]
    fn a_nan_wins() {
        let x = Literal::from_f32([1, 1, 1, 3], &[f32::NAN, 1.0, 2.0]);
        let (_, y) = run(&pool(PoolKind::Max, [1, 2], [1, 1], [0; 4]), &x);
        assert!(y[0].is_nan() && y[1] == 2.0);
    }

    #[test]
    fn averages_count_padding_on_request() {
        let x = Literal::from_f32([1, 1, 1, 3], &[3.0, 6.0, 9.0]);
        let mut op = pool(PoolKind::Average, [1, 3], [1, 2], [0, 1, 0, 1]);
        assert_eq!(run(&op, &x), ("f32[1,1,1,2]".into(), vec![4.5, 7.5]));
        op.count_include_pad = true;
        assert_eq!(run(&op, &x).1, [3.0, 5.0]);
    }

    #[test]
    fn a_partial_window_divides_by_what_it_covers() {
        let x = Literal::from_f32([1, 1, 1, 5], &[1.0, 2.0, 3.0, 4.0, 5.0]);
        let mut op = pool(PoolKind::Average, [1, 3], [1, 3], [0; 4]);
        op.ceil_mode = true;
        assert_eq!(run(&op, &x), ("f32[1,1,1,2]".into(), vec![2.0, 4.5]));
        // Beyond the end padding nothing counts, also where padding does.
        op.count_include_pad = true;
        assert_eq!(run(&op, &x).1, [2.0, 4.5]);
    }

    #[test]
    fn a_window_over_padding_alone_is_empty() {
        let x = Literal::from_f32([1, 1, 1, 1], &[8.0]);
        let op = pool(PoolKind::Average, [1, 1], [1, 1], [0, 1, 0, 0]);
        assert_eq!(run(&op, &x).1, [0.0, 8.0]);
        let op = pool(PoolKind::Max, [1, 1], [1, 1], [0, 1, 0, 0]);
        assert_eq!(run(&op, &x).1, [f64::NEG_INFINITY, 8.0]);
    }

    #[test]
    fn dilated_windows_and_wide_strides() {
        let x = Literal::from_f32([1, 1, 6], &[5.0, 1.0, 2.0, 3.0, 9.0, 4.0]);
        let op = Pool { kernel: vec![2], strides: vec![3], pads: vec![0, 0], dilations: vec![2], ..Pool::default() };
        assert_eq!(run(&op, &x), ("f32[1,1,2]".into(), vec![5.0, 4.0]));
    }

    #[test]
    fn operands_that_do_not_fit_are_errors() {
        let field = |op: &Pool, x: &TensorType| op.infer(&[x]).unwrap_err().field;
        let x = TensorType::f32([1, 1, 4, 4]);
        assert_eq!(field(&pool(PoolKind::Max, [5, 1], [1, 1], [0; 4]), &x), "x");
        assert_eq!(field(&pool(PoolKind::Max, [0, 1], [1, 1], [0; 4]), &x), "kernel");
        assert_eq!(field(&pool(PoolKind::Max, [1, 1], [1, 1], [0; 4]), &TensorType::f32([4, 4])), "x");
        assert_eq!(field(&pool(PoolKind::Max, [1, 1], [1, 1], [0; 4]), &TensorType::f32([1, 4, 4])), "kernel");
        let integers = TensorType::new(DType::I32, [1, 1, 4, 4]);
        assert_eq!(field(&pool(PoolKind::Average, [1, 1], [1, 1], [0; 4]), &integers), "x");
        let empty = Literal::from_f32([0, 3, 4, 4], &[]);
        assert_eq!(run(&pool(PoolKind::Average, [2, 2], [2, 2], [0; 4]), &empty).0, "f32[0,3,2,2]");
    }
}
