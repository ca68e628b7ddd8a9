//! The gradient of a convolution's weights: `dw[m, c, k] = sum over n, p of x[n, g C / group + c, p stride + k dilation - pad] dy[n, m, p]`,
//! `g` being the group of filter `m`; positions in the padding count nothing.
//!
//! Operands: `x [N, C, spatial…]`, the operand of the convolution; `dy [N, M, out…]`, the gradient of its result; then, if `gate`,
//! `gate [N, C, 1…]`, which multiplies `x`: what a squeeze-and-excite has gated need not be kept; then, if `accumulate`, `sum [M, C / group, kernel…]`, which is added. Result `[M, C / group, kernel…]`, the shape of the weights.

use super::attributes::attributes;
use super::attributes::{Attr, AttrReader};
use super::decomposition::Decomposition;
use super::error_bound::over_absolutes;
use super::literal::Literal;
use super::shapes::{check, checked, expect_dtype, expect_float, expect_operands, expect_rank, expect_type};
use super::window::{Window, taps};
use super::{Binary, Conv, GradientContext, OneResult, Reshape, Slice, Transpose};
use crate::error::OpError;
use crate::scalar::BinaryFn;
use crate::types::{Shape, TensorType};

attributes! {
    /// Attributes of the gradient of a convolution's weights: the convolution's, and the spatial extents of its weights.
    pub struct ConvWeightGradient {
        /// Spatial extents of the weights.
        pub kernel: Vec<usize> = vec![1, 1],
        /// Stride of each spatial axis.
        pub strides: Vec<usize> = vec![1, 1],
        /// Padding: all begins, then all ends.
        pub pads: Vec<usize> = vec![0, 0, 0, 0],
        /// Dilation of each spatial axis.
        pub dilations: Vec<usize> = vec![1, 1],
        /// Number of groups.
        pub group: usize = 1,
        /// Whether the operand of the convolution is `x` times an operand.
        pub gate: bool = false,
        /// Whether the last operand is added to the result.
        pub accumulate: bool = false,
    }
}

impl ConvWeightGradient {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }

    /// That of the weights, of spatial extents `kernel`, of `conv`.
    pub fn of(conv: &Conv, kernel: &[usize]) -> Self {
        Self {
            kernel: kernel.to_vec(),
            strides: conv.strides.clone(),
            pads: conv.pads.clone(),
            dilations: conv.dilations.clone(),
            group: conv.group,
            gate: false,
            accumulate: false,
        }
    }

    /// The convolution whose weights it is about, without bias, residual and activation.
    pub fn conv(&self) -> Conv {
        Conv {
            strides: self.strides.clone(),
            pads: self.pads.clone(),
            dilations: self.dilations.clone(),
            group: self.group,
            ..Conv::default()
        }
    }

    /// The type of the weights and the window of each spatial axis, for operands of types `x` and `dy`. Checks ranks, channels, groups
    /// and the extents of `dy`.
    pub fn windows(&self, x: &TensorType, dy: &TensorType) -> Result<(TensorType, Vec<Window>), OpError> {
        expect_rank("x", 3, x)?;
        check(dy.shape.rank() == x.shape.rank(), "dy", || format!("rank {}", x.shape.rank()), || dy.to_string())?;
        check(self.group > 0, "group", || "at least 1".into(), || self.group.to_string())?;
        let head = [dy.shape[1], x.shape[1] / self.group];
        let weights = checked(x.dtype, head.into_iter().chain(self.kernel.iter().copied()).collect::<Shape>())?;
        let windows = self.conv().windows(x, &weights).map_err(|error| match error.field.as_str() {
            "w" => OpError { field: "kernel".into(), ..error },
            _ => error,
        })?;
        let result: Shape = [x.shape[0], dy.shape[1]].into_iter().chain(windows.iter().map(|w| w.output)).collect();
        expect_type("dy", x.dtype, &result, dy)?;
        Ok((weights, windows))
    }
}

impl OneResult for ConvWeightGradient {
    fn name(&self) -> &'static str {
        "conv_weight_gradient"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        expect_operands(inputs, 2 + usize::from(self.gate) + usize::from(self.accumulate))?;
        let (x, dy) = (inputs[0], inputs[1]);
        expect_float("x", x)?;
        expect_dtype("dy", x.dtype, dy)?;
        let (weights, _) = self.windows(x, dy)?;
        if self.gate {
            let shape: Shape = x.shape[..2].iter().copied().chain(x.shape[2..].iter().map(|_| 1)).collect();
            expect_type("gate", x.dtype, &shape, inputs[2])?;
        }
        if self.accumulate {
            expect_type("sum", x.dtype, &weights.shape, inputs[inputs.len() - 1])?;
        }
        Ok(weights)
    }

    fn magnitude(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        over_absolutes(inputs, |inputs| self.evaluate(inputs))
    }

    fn terms(&self, inputs: &[&TensorType]) -> Result<usize, OpError> {
        self.infer(inputs)?;
        let dy = &inputs[1].shape;
        Ok(dy[0] * dy[2..].iter().product::<usize>() + usize::from(self.accumulate))
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let types: Vec<_> = inputs.iter().map(|operand| &operand.ty).collect();
        let ty = self.infer(&types)?;
        let (x, dy) = (inputs[0].floats("x")?, inputs[1].floats("dy")?);
        let mut sums = match self.accumulate {
            true => inputs[inputs.len() - 1].floats("sum")?.to_vec(),
            false => vec![0.0; ty.shape.numel()],
        };
        if ty.shape.contains(&0) || types[1].shape.contains(&0) {
            return Ok(Literal::new_float(ty, sums));
        }
        let (_, windows) = self.windows(types[0], types[1])?;
        let (stride, taps) = (windows[windows.len() - 1].stride, taps(&windows));
        let plane = |shape: &Shape| shape[2..].iter().product::<usize>();
        let (elements, positions, kernel) = (plane(&types[0].shape), plane(&types[1].shape), plane(&ty.shape));
        let (channels, filters, inner) = (types[0].shape[1], ty.shape[0], ty.shape[1]);
        let gated: Vec<f64> = match self.gate {
            true => {
                let gate = inputs[2].floats("gate")?;
                x.iter().enumerate().map(|(i, x)| x * gate[i / elements]).collect()
            }
            false => Vec::new(),
        };
        let x = if self.gate { &gated[..] } else { x };
        for (n, m) in (0..types[0].shape[0]).flat_map(|n| (0..filters).map(move |m| (n, m))) {
            let dy = &dy[(n * filters + m) * positions..][..positions];
            let first = n * channels + m / (filters / self.group) * inner;
            for c in 0..inner {
                let x = &x[(first + c) * elements..][..elements];
                let sums = &mut sums[(m * inner + c) * kernel..][..kernel];
                for tap in &taps {
                    for run in &tap.runs {
                        let x = x[run.element..].iter().step_by(stride);
                        let products = dy[run.position..][..run.len].iter().zip(x).map(|(dy, x)| dy * x);
                        sums[tap.index] += products.sum::<f64>();
                    }
                }
            }
        }
        Ok(Literal::new_float(ty, sums))
    }

    fn macs(&self, inputs: &[&TensorType], output: &TensorType) -> u64 {
        let [_, dy, ..] = inputs else { return 0 };
        let weights = output.shape.iter().skip(1);
        weights.fold(dy.shape.numel() as u64, |macs, extent| macs.saturating_mul(*extent as u64))
    }

    /// A convolution of `x`, its channels as images and its images as channels, whose weights are `dy`: stride and dilation change roles.
    fn decompose(&self, inputs: &[&TensorType]) -> Result<Option<Decomposition>, OpError> {
        let (weights, windows) = self.windows(inputs[0], inputs[1])?;
        let (x, spatial) = (&inputs[0].shape, windows.len());
        let axes = |head: &[usize]| head.iter().copied().chain(head.len()..head.len() + spatial).collect::<Vec<_>>();
        let with_extents = |head: &[usize]| head.iter().chain(&x[2..]).copied().collect::<Vec<_>>();
        let mut parts = Decomposition::over(inputs);
        let (images, group, inner) = (x[0], self.group, x[1] / self.group);
        let mut channels = 0;
        if self.gate {
            channels = parts.step(Binary { function: BinaryFn::Mul }, &[0, 2])?;
        }
        if group > 1 {
            channels = parts.step(Reshape { shape: with_extents(&[images, group, inner]) }, &[channels])?;
            channels = parts.step(Transpose { perm: axes(&[2, 1, 0]) }, &[channels])?;
            channels = parts.step(Reshape { shape: with_extents(&[inner, group * images]) }, &[channels])?;
        } else {
            channels = parts.step(Transpose { perm: axes(&[1, 0]) }, &[channels])?;
        }
        let filters = parts.step(Transpose { perm: axes(&[1, 0]) }, &[1])?;
        let conv = Conv { strides: self.dilations.clone(), dilations: self.strides.clone(), ..self.conv() };
        let mut sums = parts.step(conv, &[channels, filters])?;
        let wanted = [inner, weights.shape[0]].into_iter().chain(self.kernel.iter().copied()).collect::<Vec<_>>();
        if parts.ty(sums).shape[..] != wanted[..] {
            // The last windows of a strided convolution may end before its operand does.
            let slice = Slice { starts: vec![0; wanted.len()], sizes: wanted, ..Slice::default() };
            sums = parts.step(slice, &[sums])?;
        }
        let mut result = parts.step(Transpose { perm: axes(&[1, 0]) }, &[sums])?;
        if self.accumulate {
            result = parts.step(Binary { function: BinaryFn::Add }, &[result, inputs.len() - 1])?;
        }
        Ok(Some(parts.with_results([result])))
    }

    fn unfused(&self, inputs: &[&TensorType]) -> Result<Option<Decomposition>, OpError> {
        if !self.gate {
            return Ok(None);
        }
        let mut parts = Decomposition::over(inputs);
        let x = parts.step(Binary { function: BinaryFn::Mul }, &[0, 2])?;
        let operands: Vec<usize> = [x, 1].into_iter().chain(3..inputs.len()).collect();
        let result = parts.step(Self { gate: false, ..self.clone() }, &operands)?;
        Ok(Some(parts.with_results([result])))
    }

    fn gradient(&self, cx: &mut GradientContext<'_>) -> Result<(), OpError> {
        let (dw, x, dy) = (cx.dy()?, cx.operand(0), cx.operand(1));
        if cx.wanted(0) {
            // What the convolution's own rule says of its operand, with `dw` as the weights.
            let (weights, windows) = self.windows(cx.ty(x), cx.ty(dy))?;
            debug_assert_eq!(&weights, cx.ty(dw));
            let transpose = self.conv().transposed(&windows);
            let dx = cx.op(transpose, &[dy, dw])?;
            cx.set(0, dx)?;
        }
        if cx.wanted(1) {
            let ddy = cx.op(self.conv(), &[x, dw])?;
            cx.set(1, ddy)?;
        }
        if self.accumulate && cx.wanted(2) {
            cx.set(2, dw)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::Op;
    use crate::ops::decomposition::evaluate;
    use crate::types::random_values;

    fn run(op: &ConvWeightGradient, inputs: &[&Literal]) -> (String, Vec<f64>) {
        let out = op.evaluate(inputs).unwrap();
        (out.ty.to_string(), out.to_f64())
    }

    #[test]
    fn each_weight_sums_what_it_met() {
        let x = Literal::from_f32([1, 1, 1, 4], &[1.0, 2.0, 3.0, 4.0]);
        let dy = Literal::from_f32([1, 1, 1, 2], &[1.0, 10.0]);
        let op = ConvWeightGradient { kernel: vec![1, 3], ..ConvWeightGradient::default() };
        assert_eq!(run(&op, &[&x, &dy]), ("f32[1,1,1,3]".into(), vec![21.0, 32.0, 43.0]));
        let op = ConvWeightGradient { strides: vec![1, 2], pads: vec![0, 1, 0, 0], ..op };
        assert_eq!(run(&op, &[&x, &dy]).1, [20.0, 31.0, 42.0]);
        let sum = Literal::from_f32([1, 1, 1, 3], &[0.5, 1.0, -1.0]);
        let op = ConvWeightGradient { accumulate: true, ..op };
        assert_eq!(run(&op, &[&x, &dy, &sum]).1, [20.5, 32.0, 41.0]);
    }

    #[test]
    fn gates_are_of_images_and_channels() {
        let x = Literal::from_f32([2, 2, 1], &[1.0, 2.0, 3.0, 4.0]);
        let (dy, gate) =
            (Literal::from_f32([2, 1, 1], &[1.0, 10.0]), Literal::from_f32([2, 2, 1], &[1.0, 0.5, 2.0, 3.0]));
        let op = ConvWeightGradient {
            kernel: vec![1],
            strides: vec![1],
            pads: vec![0; 2],
            dilations: vec![1],
            gate: true,
            ..ConvWeightGradient::default()
        };
        assert_eq!(run(&op, &[&x, &dy, &gate]).1, [61.0, 121.0]);
        let parts = evaluate(&Op::from(op.clone()), &[&x, &dy, &gate]).unwrap().unwrap();
        assert_eq!(parts[0].to_f64(), [61.0, 121.0]);
        assert_eq!(op.infer(&[&x.ty, &dy.ty, &dy.ty]).unwrap_err().field, "gate");
    }

    #[test]
    fn images_are_summed_and_groups_are_not() {
        let x = Literal::from_f32([2, 2, 1], &[1.0, 2.0, 3.0, 4.0]);
        let dy = Literal::from_f32([2, 2, 1], &[1.0, 10.0, 100.0, 1000.0]);
        let one = ConvWeightGradient {
            kernel: vec![1],
            strides: vec![1],
            pads: vec![0; 2],
            dilations: vec![1],
            ..ConvWeightGradient::default()
        };
        assert_eq!(run(&one, &[&x, &dy]), ("f32[2,2,1]".into(), vec![301.0, 402.0, 3010.0, 4020.0]));
        let two = ConvWeightGradient { group: 2, ..one.clone() };
        assert_eq!(run(&two, &[&x, &dy]), ("f32[2,1,1]".into(), vec![301.0, 4020.0]));
        let types = [&x.ty, &dy.ty];
        assert_eq!(one.macs(&types, &one.infer(&types).unwrap()), 8);
        assert_eq!((two.macs(&types, &two.infer(&types).unwrap()), two.terms(&types).unwrap()), (4, 2));
        assert_eq!(two.magnitude(&[&x, &dy]).unwrap().to_f64(), [301.0, 4020.0]);
    }

    #[test]
    fn it_is_a_convolution_in_other_terms() {
        let cases = [
            ([2, 3, 5, 4], 4, ConvWeightGradient { kernel: vec![3, 2], ..ConvWeightGradient::default() }),
            (
                [3, 4, 7, 8],
                4,
                ConvWeightGradient { kernel: vec![3, 3], strides: vec![2, 3], group: 4, ..Default::default() },
            ),
            (
                [1, 4, 7, 6],
                6,
                ConvWeightGradient { kernel: vec![2, 3], dilations: vec![2, 1], group: 2, ..Default::default() },
            ),
            (
                [2, 2, 6, 5],
                3,
                ConvWeightGradient {
                    kernel: vec![3, 3],
                    strides: vec![2, 2],
                    pads: vec![0, 1, 1, 1],
                    ..Default::default()
                },
            ),
            ([0, 2, 6, 5], 3, ConvWeightGradient { kernel: vec![3, 3], accumulate: true, ..Default::default() }),
            (
                [2, 2, 4, 4],
                2,
                ConvWeightGradient { kernel: vec![1, 1], strides: vec![2, 2], accumulate: true, ..Default::default() },
            ),
        ];
        for (seed, (shape, filters, op)) in cases.into_iter().enumerate() {
            let whole = |ty: &TensorType, seed: usize| {
                let values = random_values(seed as u64, ty.shape.numel());
                Literal::new_float(ty.clone(), values.iter().map(|v| (f64::from(*v) * 8.0).round()).collect())
            };
            let x = whole(&TensorType::f32(shape), seed);
            let weights: Vec<usize> = [filters, shape[1] / op.group].into_iter().chain(op.kernel.clone()).collect();
            let weights = TensorType::f32(weights);
            let dy = whole(&op.conv().infer(&[&x.ty, &weights]).unwrap(), seed + 10);
            let sum = whole(&weights, seed + 20);
            let inputs = if op.accumulate { vec![&x, &dy, &sum] } else { vec![&x, &dy] };
            let whole = op.evaluate(&inputs).unwrap();
            let parts = evaluate(&Op::from(op.clone()), &inputs).unwrap();
            assert_eq!(parts, Some(vec![whole.clone()]), "{op:?}");
            assert_eq!(whole.ty, weights, "{op:?}");
        }
    }

    #[test]
    fn operands_that_disagree_are_errors() {
        let f = |shape: &[usize]| TensorType::f32(shape);
        let field = |op: &ConvWeightGradient, inputs: &[&TensorType]| op.infer(inputs).unwrap_err().field;
        let (x, dy) = (f(&[2, 4, 5, 5]), f(&[2, 6, 3, 3]));
        let plain = ConvWeightGradient { kernel: vec![3, 3], ..ConvWeightGradient::default() };
        assert_eq!(plain.infer(&[&x, &dy]).unwrap().to_string(), "f32[6,4,3,3]");
        assert_eq!(field(&plain, &[&x]), "operands");
        assert_eq!(field(&plain, &[&f(&[2, 4]), &dy]), "x");
        assert_eq!(field(&plain, &[&x, &f(&[2, 6, 3])]), "dy");
        assert_eq!(field(&plain, &[&x, &f(&[1, 6, 3, 3])]), "dy");
        assert_eq!(field(&plain, &[&x, &f(&[2, 6, 3, 2])]), "dy");
        assert_eq!(field(&ConvWeightGradient { group: 0, ..plain.clone() }, &[&x, &dy]), "group");
        assert_eq!(field(&ConvWeightGradient { group: 3, ..plain.clone() }, &[&x, &dy]), "group");
        assert_eq!(field(&ConvWeightGradient { kernel: vec![3], ..plain.clone() }, &[&x, &dy]), "kernel");
        assert_eq!(field(&ConvWeightGradient { kernel: vec![3, 0], ..plain.clone() }, &[&x, &dy]), "kernel");
        assert_eq!(field(&ConvWeightGradient { pads: vec![0], ..plain.clone() }, &[&x, &dy]), "pads");
        assert_eq!(field(&ConvWeightGradient { accumulate: true, ..plain }, &[&x, &dy, &f(&[6, 4, 3, 1])]), "sum");
    }
}
