//! Convolution: `y = activation(conv(x, w) + bias + residual)`.
//!
//! Operands: `x [N, C, spatial…]`, `w [M, C / group, kernel…]`, then `bias [M]` if `bias`, then `residual` (the type of the
//! result) if `residual`. Result `[N, M, spatial…]`, each extent `(in + pads - dilation (k - 1) - 1) / stride + 1`.
//! Sums of integers wrap, as those of ONNX's ConvInteger; those of `i16`, bias and residual among them, are `i32`.
//! Epilogue order: bias, residual, `activation`; with `activation_first` the activation comes before the residual (Fused-MBConv, expansion 1).

use super::attributes::attributes;
use super::attributes::{Attr, AttrReader};
use super::error_bound::over_absolutes;
use super::literal::{Data, Literal};
use super::shapes::{
    check, checked, expect_activation, expect_dtype, expect_number, expect_operands, expect_rank, expect_type, sum_type,
};
use super::window::{Window, WindowAttrs, taps};
use super::{
    Binary, ConvTranspose, ConvWeightGradient, Decomposition, GradientContext, OneResult, Unary, UnaryGradient,
    gradient,
};
use crate::error::OpError;
use crate::scalar::{BinaryFn, UnaryFn};
use crate::types::{Shape, TensorType};

attributes! {
    /// Attributes of a convolution with any number of spatial axes.
    pub struct Conv {
        /// Stride of each spatial axis.
        pub strides: Vec<usize> = vec![1, 1],
        /// Padding: all begins, then all ends.
        pub pads: Vec<usize> = vec![0, 0, 0, 0],
        /// Dilation of each spatial axis.
        pub dilations: Vec<usize> = vec![1, 1],
        /// Number of groups.
        pub group: usize = 1,
        /// Whether a bias operand follows the weight.
        pub bias: bool = false,
        /// Whether the last operand is added to the result.
        pub residual: bool = false,
        /// Whether the activation applies before the residual is added.
        pub activation_first: bool = false,
        /// Activation of the result.
        pub activation: Option<UnaryFn> = None,
    }
}

impl Conv {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }

    /// The window of each spatial axis, for operands of types `x` and `w`. Checks ranks, channels and groups.
    pub fn windows(&self, x: &TensorType, w: &TensorType) -> Result<Vec<Window>, OpError> {
        expect_rank("x", 3, x)?;
        let rank = x.shape.rank();
        check(w.shape.rank() == rank, "w", || format!("rank {rank}"), || w.to_string())?;
        let (channels, filters, group) = (x.shape[1], w.shape[0], self.group);
        check(group > 0, "group", || "at least 1".into(), || group.to_string())?;
        check(channels % group == 0, "group", || format!("a divisor of {channels} channels"), || group.to_string())?;
        check(filters % group == 0, "group", || format!("a divisor of {filters} filters"), || group.to_string())?;
        check(w.shape[1] == channels / group, "w", || format!("{} channels", channels / group), || w.to_string())?;
        WindowAttrs {
            kernel: &w.shape[2..],
            strides: &self.strides,
            pads: &self.pads,
            dilations: &self.dilations,
            ceil_mode: false,
        }
        .windows(&x.shape[2..])
    }
}

impl Conv {
    /// The sums of products of `x` and `w`, for operands and a result of these types.
    fn sums<T: Copy + Default>(
        &self,
        x: &[T],
        w: &[T],
        [x_ty, w_ty, y_ty]: [&TensorType; 3],
        step: impl Fn(T, T, T) -> T + Copy,
    ) -> Result<Vec<T>, OpError> {
        let windows = self.windows(x_ty, w_ty)?;
        let stride = windows[windows.len() - 1].stride;
        let taps = taps(&windows);
        let plane = |shape: &Shape| shape[2..].iter().product::<usize>();
        let (elements, kernel, positions) = (plane(&x_ty.shape), plane(&w_ty.shape), plane(&y_ty.shape));
        let (channels, filters, inner) = (x_ty.shape[1], y_ty.shape[1], w_ty.shape[1]);
        let mut out = Vec::with_capacity(y_ty.shape.numel());
        for (n, m) in (0..y_ty.shape[0]).flat_map(|n| (0..filters).map(move |m| (n, m))) {
            let mut sums = vec![T::default(); positions];
            let first = n * channels + m / (filters / self.group) * inner;
            for c in 0..inner {
                let x = &x[(first + c) * elements..][..elements];
                let w = &w[(m * inner + c) * kernel..][..kernel];
                for tap in &taps {
                    for run in &tap.runs {
                        let sums = &mut sums[run.position..][..run.len];
                        add_scaled(sums, w[tap.index], &x[run.element..], stride, step);
                    }
                }
            }
            out.append(&mut sums);
        }
        Ok(out)
    }

    /// Adds bias and residual to the integer sums of a convolution of `inputs`, `positions` to a channel.
    fn finish_ints(&self, sums: &mut [i64], inputs: &[&Literal], positions: usize) -> Result<(), OpError> {
        if self.bias {
            let bias = inputs[2].ints("bias")?;
            for (sums, bias) in sums.chunks_mut(positions.max(1)).zip(bias.iter().cycle()) {
                sums.iter_mut().for_each(|sum| *sum = sum.wrapping_add(*bias));
            }
        }
        if self.residual {
            let residual = inputs[inputs.len() - 1].ints("residual")?;
            sums.iter_mut().zip(residual).for_each(|(sum, residual)| *sum = sum.wrapping_add(*residual));
        }
        Ok(())
    }

    /// Applies bias, residual and activation to the sums of a convolution of `inputs`, `positions` to a channel.
    fn finish(&self, sums: &mut [f64], inputs: &[&Literal], positions: usize) -> Result<(), OpError> {
        if self.bias {
            let bias = inputs[2].floats("bias")?;
            for (sums, bias) in sums.chunks_mut(positions.max(1)).zip(bias.iter().cycle()) {
                sums.iter_mut().for_each(|sum| *sum += bias);
            }
        }
        let act = |v: f64| self.activation.map_or(v, |function| function.eval(v));
        if !self.residual {
            sums.iter_mut().for_each(|sum| *sum = act(*sum));
            return Ok(());
        }
        for (sum, residual) in sums.iter_mut().zip(inputs[inputs.len() - 1].floats("residual")?) {
            *sum = if self.activation_first { act(*sum) + residual } else { act(*sum + residual) };
        }
        Ok(())
    }
}

/// `sums += w * x` by `step`, where the elements of `x` are `stride` apart.
fn add_scaled<T: Copy>(sums: &mut [T], w: T, x: &[T], stride: usize, step: impl Fn(T, T, T) -> T) {
    if stride == 1 {
        sums.iter_mut().zip(x).for_each(|(sum, x)| *sum = step(*sum, w, *x));
    } else {
        sums.iter_mut().zip(x.iter().step_by(stride)).for_each(|(sum, x)| *sum = step(*sum, w, *x));
    }
}

impl OneResult for Conv {
    fn name(&self) -> &'static str {
        "conv"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        expect_operands(inputs, 2 + usize::from(self.bias) + usize::from(self.residual))?;
        let (x, w) = (inputs[0], inputs[1]);
        expect_number("x", x)?;
        expect_dtype("w", x.dtype, w)?;
        let sum = sum_type(x.dtype);
        expect_activation("activation", self.activation, sum)?;
        let windows = self.windows(x, w)?;
        let result: Shape =
            [x.shape[0], w.shape[0]].into_iter().chain(windows.iter().map(|window| window.output)).collect();
        let result = checked(sum, result)?;
        if self.bias {
            expect_type("bias", sum, &w.shape[..1], inputs[2])?;
        }
        if self.residual {
            expect_type("residual", sum, &result.shape, inputs[inputs.len() - 1])?;
        }
        Ok(result)
    }

    fn magnitude(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        over_absolutes(inputs, |inputs| Self { activation: None, ..self.clone() }.evaluate(inputs))
    }

    fn terms(&self, inputs: &[&TensorType]) -> Result<usize, OpError> {
        self.infer(inputs)?;
        Ok(inputs[1].shape[1..].iter().product::<usize>() + usize::from(self.bias) + usize::from(self.residual))
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let types: Vec<_> = inputs.iter().map(|operand| &operand.ty).collect();
        let ty = self.infer(&types)?;
        if ty.shape.contains(&0) {
            return Literal::from_bytes(ty, &[]);
        }
        let positions = ty.shape[2..].iter().product();
        match (&inputs[0].data, &inputs[1].data) {
            (Data::Float(x), Data::Float(w)) => {
                let mut sums = self.sums(x, w, [types[0], types[1], &ty], |sum, w, x| sum + w * x)?;
                self.finish(&mut sums, inputs, positions)?;
                Ok(Literal::new_float(ty, sums))
            }
            _ => {
                let (x, w) = (inputs[0].ints("x")?, inputs[1].ints("w")?);
                let step = |sum: i64, w: i64, x: i64| sum.wrapping_add(w.wrapping_mul(x));
                let mut sums = self.sums(x, w, [types[0], types[1], &ty], step)?;
                self.finish_ints(&mut sums, inputs, positions)?;
                Ok(Literal::new_int(ty, sums))
            }
        }
    }

    fn macs(&self, inputs: &[&TensorType], output: &TensorType) -> u64 {
        inputs.get(1).map_or(0, |w| {
            w.shape.iter().skip(1).fold(output.shape.numel() as u64, |macs, extent| macs.saturating_mul(*extent as u64))
        })
    }

    fn gradient(&self, cx: &mut GradientContext<'_>) -> Result<(), OpError> {
        let mut dz = cx.dy()?;
        if let Some(function) = self.activation {
            dz = cx.op(UnaryGradient { function }, &[dz, cx.result(0)])?;
        }
        self.gradient_of_sums(cx, dz)
    }

    fn unfused(&self, inputs: &[&TensorType]) -> Result<Option<Decomposition>, OpError> {
        let outside = self.residual && self.activation_first;
        let Some(function) = self.activation.filter(|function| outside || !function.derivative_is_of_value()) else {
            return Ok(None);
        };
        let mut parts = Decomposition::over(inputs);
        let operands: Vec<usize> = (0..inputs.len() - usize::from(outside)).collect();
        let plain =
            Self { activation: None, activation_first: false, residual: self.residual && !outside, ..self.clone() };
        let sums = parts.step(plain, &operands)?;
        let mut result = parts.step(Unary { function }, &[sums])?;
        if outside {
            result = parts.step(Binary { function: BinaryFn::Add }, &[result, inputs.len() - 1])?;
        }
        Ok(Some(parts.with_results([result])))
    }
}

impl Conv {
    /// Sets the gradients of the operands from `dz`, that of what the activation is applied to.
    ///
    /// # Errors
    /// What shape rules say.
    pub fn gradient_of_sums(&self, cx: &mut GradientContext<'_>, dz: gradient::Value) -> Result<(), OpError> {
        let (x, w) = (cx.operand(0), cx.operand(1));
        if cx.wanted(0) {
            let windows = self.windows(cx.ty(x), cx.ty(w))?;
            let dx = cx.op(self.transposed(&windows), &[dz, w])?;
            cx.set(0, dx)?;
        }
        if cx.wanted(1) {
            let kernel = cx.shape(w).split_off(2);
            let dw = cx.op(ConvWeightGradient::of(self, &kernel), &[x, dz])?;
            cx.set(1, dw)?;
        }
        if self.bias && cx.wanted(2) {
            let db = cx.sum_channels(dz)?;
            cx.set(2, db)?;
        }
        let last = cx.operands() - 1;
        if self.residual && cx.wanted(last) {
            cx.set(last, dz)?;
        }
        Ok(())
    }

    /// The transposed convolution that takes a gradient of the result to one of the operand, for the convolution's own windows.
    pub fn transposed(&self, windows: &[Window]) -> ConvTranspose {
        ConvTranspose {
            strides: self.strides.clone(),
            pads: self.pads.iter().map(|pad| *pad as i64).collect(),
            dilations: self.dilations.clone(),
            output_padding: windows.iter().map(unseen).collect(),
            group: self.group,
            bias: false,
        }
    }
}

/// Elements at the end of an axis, padding included, that no window reaches because the next one would leave it.
fn unseen(window: &Window) -> usize {
    let reach = window.stride * (window.output - 1) + window.dilation * (window.kernel - 1) + 1;
    (window.input as i64 + window.begin + window.end - reach as i64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::DType;

    fn run(op: &Conv, inputs: &[&Literal]) -> (String, Vec<f64>) {
        let out = op.evaluate(inputs).unwrap();
        (out.ty.to_string(), out.to_f64())
    }

    #[test]
    fn padding_is_not_multiplied() {
        let x = Literal::from_f32([1, 1, 2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let w = Literal::from_f32([1, 1, 3, 3], &[f32::INFINITY, 1.0, 0.0, 10.0, 100.0, 0.0, 0.0, 0.0, 0.0]);
        let op = Conv { pads: vec![1, 1, 0, 0], ..Conv::default() };
        assert_eq!(run(&op, &[&x, &w]), ("f32[1,1,1,1]".into(), vec![100.0]));
        let op = Conv { pads: vec![1, 1, 1, 1], ..Conv::default() };
        assert_eq!(run(&op, &[&x, &w]).1, [100.0, 210.0, 301.0, f64::INFINITY]);
    }

    #[test]
    fn groups_strides_and_bias() {
        let x = Literal::from_f32([1, 2, 1, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        let w = Literal::from_f32([4, 1, 1, 1], &[1.0, 2.0, 3.0, 4.0]);
        let b = Literal::from_f32([4], &[0.0, 0.5, 0.0, -1.0]);
        let op = Conv { group: 2, strides: vec![3, 2], bias: true, ..Conv::default() };
        let expected = vec![1.0, 3.0, 2.5, 6.5, 12.0, 18.0, 15.0, 23.0];
        assert_eq!(run(&op, &[&x, &w, &b]), ("f32[1,4,1,2]".into(), expected));
    }

    #[test]
    fn the_residual_comes_before_or_after_the_activation() {
        let x = Literal::from_f32([2, 1, 1], &[1.0, -3.0]);
        let w = Literal::from_f32([1, 1, 1], &[1.0]);
        let r = Literal::from_f32([2, 1, 1], &[-2.0, 2.0]);
        let op = Conv {
            strides: vec![1],
            pads: vec![0, 0],
            dilations: vec![1],
            residual: true,
            activation: Some(UnaryFn::Relu),
            ..Conv::default()
        };
        assert_eq!(run(&op, &[&x, &w, &r]).1, [0.0, 0.0]);
        let op = Conv { activation_first: true, ..op };
        assert_eq!(run(&op, &[&x, &w, &r]).1, [-1.0, 2.0]);
    }

    #[test]
    fn sums_are_rounded_once() {
        let x = Literal::from_f32([1, 3, 1, 1], &[1e8, 1.0, -1e8]);
        let w = Literal::from_f32([1, 3, 1, 1], &[1.0, 1.0, 1.0]);
        assert_eq!(run(&Conv::default(), &[&x, &w]).1, [1.0]);
    }

    #[test]
    fn three_axes_and_dilation() {
        let x = Literal::from_f32([1, 1, 1, 3, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0]);
        let w = Literal::from_f32([1, 1, 1, 2, 2], &[1.0, 10.0, 100.0, 1000.0]);
        let op = Conv { strides: vec![1; 3], pads: vec![0; 6], dilations: vec![1, 2, 2], ..Conv::default() };
        assert_eq!(run(&op, &[&x, &w]), ("f32[1,1,1,1,1]".into(), vec![9731.0]));
    }

    #[test]
    fn empty_axes() {
        let x = Literal::from_f32([0, 3, 4, 4], &[]);
        let w = Literal::from_f32([2, 3, 1, 1], &[0.0; 6]);
        assert_eq!(run(&Conv::default(), &[&x, &w]), ("f32[0,2,4,4]".into(), vec![]));
        let (x, w) = (Literal::from_f32([1, 0, 1, 1], &[]), Literal::from_f32([1, 0, 1, 1], &[]));
        assert_eq!(run(&Conv::default(), &[&x, &w]).1, [0.0]);
    }

    #[test]
    fn sums_of_integers_wrap() {
        let i32s =
            |shape: &[usize], values: &[i64]| Literal::new_int(TensorType::new(DType::I32, shape), values.to_vec());
        let (x, w) = (i32s(&[1, 2, 1, 2], &[i64::from(i32::MAX), 3, 1, 5]), i32s(&[1, 2, 1, 1], &[2, 4]));
        let (b, r) = (i32s(&[1], &[10]), i32s(&[1, 1, 1, 2], &[0, 100]));
        let op = Conv { bias: true, residual: true, ..Conv::default() };
        let wrapped = i32::MAX.wrapping_mul(2).wrapping_add(14);
        assert_eq!(run(&op, &[&x, &w, &b, &r]), ("i32[1,1,1,2]".into(), vec![f64::from(wrapped), 136.0]));
        let op = Conv { activation: Some(UnaryFn::Relu), ..Conv::default() };
        assert_eq!(op.infer(&[&x.ty, &w.ty]).unwrap_err().field, "activation");
    }

    #[test]
    fn macs_count_products() {
        let (x, w) = (TensorType::f32([1, 32, 112, 112]), TensorType::f32([32, 1, 3, 3]));
        let op = Conv { pads: vec![1; 4], group: 32, ..Conv::default() };
        let y = op.infer(&[&x, &w]).unwrap();
        assert_eq!(op.macs(&[&x, &w], &y), 32 * 112 * 112 * 9);
    }

    #[test]
    fn operands_that_disagree_are_errors() {
        let f = |shape: &[usize]| TensorType::f32(shape);
        let field = |op: &Conv, inputs: &[&TensorType]| op.infer(inputs).unwrap_err().field;
        let (x, w, plain) = (f(&[1, 4, 5, 5]), f(&[6, 4, 3, 3]), Conv::default());
        assert_eq!(plain.infer(&[&x, &w]).unwrap().to_string(), "f32[1,6,3,3]");
        assert_eq!(field(&plain, &[&x]), "operands");
        assert_eq!(field(&plain, &[&f(&[1, 4]), &w]), "x");
        assert_eq!(field(&plain, &[&x, &f(&[6, 4, 3])]), "w");
        assert_eq!(field(&plain, &[&x, &f(&[6, 3, 3, 3])]), "w");
        assert_eq!(field(&plain, &[&x, &TensorType::new(crate::types::DType::F64, [6, 4, 3, 3])]), "w");
        assert_eq!(field(&Conv { group: 0, ..plain.clone() }, &[&x, &w]), "group");
        assert_eq!(field(&Conv { group: 3, ..plain.clone() }, &[&x, &w]), "group");
        assert_eq!(field(&Conv { group: 4, ..plain.clone() }, &[&x, &f(&[6, 1, 3, 3])]), "group");
        assert_eq!(field(&Conv { pads: vec![0, 0], ..plain.clone() }, &[&x, &w]), "pads");
        assert_eq!(field(&Conv { activation: Some(UnaryFn::Exp), ..plain.clone() }, &[&x, &w]), "activation");
        assert_eq!(field(&Conv { bias: true, ..plain.clone() }, &[&x, &w, &f(&[4])]), "bias");
        assert_eq!(field(&Conv { residual: true, ..plain.clone() }, &[&x, &w, &f(&[6, 3, 3])]), "residual");
        let huge = f(&[1 << 40, 4, 5, 5]);
        assert_eq!(field(&Conv { pads: vec![1 << 30; 4], ..plain }, &[&huge, &w]), "result");
    }
}
