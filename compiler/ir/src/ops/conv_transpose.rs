//! Transposed convolution: `y = conv_transpose(x, w) + bias`.
//!
//! Operands: `x [N, C, spatial…]`, `w [C, M / group, kernel…]`, then `bias [M]` if `bias`. Each extent of the result is
//! `stride (in - 1) + output_padding + dilation (k - 1) + 1 - pads`.

use super::attributes::attributes;
use super::attributes::{Attr, AttrReader};
use super::error_bound::over_absolutes;
use super::literal::Literal;
use super::pad::PadMode;
use super::shapes::{
    check, checked, expect_dtype, expect_float, expect_len, expect_operands, expect_rank, expect_type,
};
use super::window::{LIMIT, Window, expect_steps, taps};
use super::{Conv, ConvWeightGradient, GradientContext, OneResult, Pad};
use crate::error::OpError;
use crate::types::{Shape, TensorType};

attributes! {
    /// Attributes of a transposed convolution.
    pub struct ConvTranspose {
        /// Stride of each spatial axis.
        pub strides: Vec<usize> = vec![1, 1],
        /// Padding taken off the result: all begins, then all ends. May be negative (an `output_shape` larger than the natural one).
        pub pads: Vec<i64> = vec![0, 0, 0, 0],
        /// Dilation of each spatial axis.
        pub dilations: Vec<usize> = vec![1, 1],
        /// Extra rows at the end of each axis.
        pub output_padding: Vec<usize> = vec![0, 0],
        /// Number of groups.
        pub group: usize = 1,
        /// Whether a bias operand follows the weight.
        pub bias: bool = false,
    }
}

impl ConvTranspose {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }

    /// The window of each spatial axis of the convolution that this one transposes: `input` is an extent of the result,
    /// `output` one of `x`. Checks ranks, channels and groups.
    pub fn windows(&self, x: &TensorType, w: &TensorType) -> Result<Vec<Window>, OpError> {
        expect_rank("x", 3, x)?;
        let (rank, channels, group) = (x.shape.rank(), x.shape[1], self.group);
        check(w.shape.rank() == rank, "w", || format!("rank {rank}"), || w.to_string())?;
        check(w.shape[0] == channels, "w", || format!("{channels} channels"), || w.to_string())?;
        check(group > 0, "group", || "at least 1".into(), || group.to_string())?;
        check(channels % group == 0, "group", || format!("a divisor of {channels} channels"), || group.to_string())?;
        let spatial = rank - 2;
        expect_steps(&w.shape[2..], &self.strides, &self.dilations, spatial)?;
        expect_len("pads", 2 * spatial, self.pads.len())?;
        expect_len("output_padding", spatial, self.output_padding.len())?;
        (0..spatial).map(|axis| self.window(x.shape[axis + 2], w.shape[axis + 2], axis)).collect()
    }

    fn window(&self, output: usize, kernel: usize, axis: usize) -> Result<Window, OpError> {
        let (stride, dilation, extra) = (self.strides[axis], self.dilations[axis], self.output_padding[axis]);
        let (begin, end) = (self.pads[axis], self.pads[axis + self.pads.len() / 2]);
        let bounds = -(LIMIT as i64)..=LIMIT as i64;
        let bounded = bounds.contains(&begin) && bounds.contains(&end);
        check(bounded, "pads", || format!("entries within {LIMIT}"), || format!("{:?}", self.pads))?;
        check(extra <= LIMIT, "output_padding", || format!("at most {LIMIT}"), || extra.to_string())?;
        check((1..=LIMIT).contains(&output), "x", || format!("extents from 1 to {LIMIT}"), || output.to_string())?;
        let natural = stride as i64 * (output as i64 - 1) + extra as i64 + dilation as i64 * (kernel as i64 - 1) + 1;
        let input = natural.checked_sub(begin).and_then(|rest| rest.checked_sub(end));
        let input = input.and_then(|input| usize::try_from(input).ok()).filter(|input| *input <= LIMIT);
        let input = input.ok_or_else(|| {
            OpError::new("pads", format!("a result extent from 0 to {LIMIT}"), format!("{natural} - {begin} - {end}"))
        })?;
        Ok(Window { input, output, kernel, stride, dilation, begin, end })
    }
}

impl OneResult for ConvTranspose {
    fn name(&self) -> &'static str {
        "conv_transpose"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        expect_operands(inputs, 2 + usize::from(self.bias))?;
        let (x, w) = (inputs[0], inputs[1]);
        expect_float("x", x)?;
        expect_dtype("w", x.dtype, w)?;
        let windows = self.windows(x, w)?;
        let filters = w.shape[1].checked_mul(self.group);
        let filters = filters.ok_or_else(|| OpError::new("group", "fewer filters", self.group.to_string()))?;
        if self.bias {
            expect_type("bias", x.dtype, &[filters], inputs[2])?;
        }
        checked(
            x.dtype,
            [x.shape[0], filters].into_iter().chain(windows.iter().map(|window| window.input)).collect::<Shape>(),
        )
    }

    fn magnitude(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        over_absolutes(inputs, |inputs| self.evaluate(inputs))
    }

    fn terms(&self, inputs: &[&TensorType]) -> Result<usize, OpError> {
        self.infer(inputs)?;
        let w = &inputs[1].shape;
        Ok(w[0] / self.group * w[2..].iter().product::<usize>() + usize::from(self.bias))
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let types: Vec<_> = inputs.iter().map(|operand| &operand.ty).collect();
        let ty = self.infer(&types)?;
        if ty.shape.contains(&0) {
            return Ok(Literal::new_float(ty, Vec::new()));
        }
        let (x, w) = (inputs[0].floats("x")?, inputs[1].floats("w")?);
        let windows = self.windows(types[0], types[1])?;
        let stride = windows[windows.len() - 1].stride;
        let taps = taps(&windows);
        let plane = |shape: &Shape| shape[2..].iter().product::<usize>();
        let (positions, kernel, elements) = (plane(&types[0].shape), plane(&types[1].shape), plane(&ty.shape));
        let (channels, filters) = (types[0].shape[1], ty.shape[1]);
        let (inner, outer) = (channels / self.group, types[1].shape[1]);
        let mut out = Vec::with_capacity(ty.shape.numel());
        for (n, m) in (0..ty.shape[0]).flat_map(|n| (0..filters).map(move |m| (n, m))) {
            let bias = if self.bias { inputs[2].floats("bias")?[m] } else { 0.0 };
            let mut sums = vec![bias; elements];
            let (group, filter) = (m / outer, m % outer);
            for c in group * inner..(group + 1) * inner {
                let x = &x[(n * channels + c) * positions..][..positions];
                let w = &w[(c * outer + filter) * kernel..][..kernel];
                for tap in &taps {
                    for run in &tap.runs {
                        let sums = sums[run.element..].iter_mut().step_by(stride);
                        let x = &x[run.position..][..run.len];
                        sums.zip(x).for_each(|(sum, x)| *sum += w[tap.index] * x);
                    }
                }
            }
            out.append(&mut sums);
        }
        Ok(Literal::new_float(ty, out))
    }

    fn macs(&self, inputs: &[&TensorType], output: &TensorType) -> u64 {
        let [x, w, ..] = inputs else { return 0 };
        let filters = output.shape.get(1).map_or(0, |filters| filters / self.group.max(1));
        let kernel = w.shape.iter().skip(2);
        [filters].iter().chain(kernel).fold(x.shape.numel() as u64, |macs, extent| macs.saturating_mul(*extent as u64))
    }

    fn gradient(&self, cx: &mut GradientContext<'_>) -> Result<(), OpError> {
        let (mut dy, x, w) = (cx.dy()?, cx.operand(0), cx.operand(1));
        if self.bias && cx.wanted(2) {
            let db = cx.sum_channels(dy)?;
            cx.set(2, db)?;
        }
        let spatial = self.strides.len();
        // Padding that was added and rows that no window reaches are cropped, so that a convolution has the extents of `x`.
        let (mut crop, mut pads) = (vec![0; 2 * (spatial + 2)], vec![0; 2 * spatial]);
        for axis in 0..spatial {
            let beyond = self.output_padding[axis] - self.output_padding[axis] % self.strides[axis];
            let ends = [self.pads[axis], self.pads[axis + spatial] - beyond as i64];
            for (side, end) in ends.into_iter().enumerate() {
                crop[side * (spatial + 2) + axis + 2] = end.min(0);
                pads[side * spatial + axis] = usize::try_from(end).unwrap_or(0);
            }
        }
        if crop.iter().any(|pad| *pad != 0) {
            dy = cx.op(Pad { mode: PadMode::Constant, pads: crop, value: 0.0 }, &[dy])?;
        }
        let conv = Conv {
            strides: self.strides.clone(),
            pads,
            dilations: self.dilations.clone(),
            group: self.group,
            ..Conv::default()
        };
        if cx.wanted(1) {
            let kernel = cx.shape(w).split_off(2);
            let dw = cx.op(ConvWeightGradient::of(&conv, &kernel), &[dy, x])?;
            cx.set(1, dw)?;
        }
        if cx.wanted(0) {
            let dx = cx.op(conv, &[dy, w])?;
            cx.set(0, dx)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(op: &ConvTranspose, inputs: &[&Literal]) -> (String, Vec<f64>) {
        let out = op.evaluate(inputs).unwrap();
        (out.ty.to_string(), out.to_f64())
    }

    #[test]
    fn each_element_spreads_over_its_window() {
        let x = Literal::from_f32([1, 1, 1, 2], &[1.0, 2.0]);
        let w = Literal::from_f32([1, 1, 1, 3], &[1.0, 10.0, 100.0]);
        let op = ConvTranspose::default();
        assert_eq!(run(&op, &[&x, &w]), ("f32[1,1,1,4]".into(), vec![1.0, 12.0, 120.0, 200.0]));
        let op = ConvTranspose { strides: vec![1, 3], ..op };
        assert_eq!(run(&op, &[&x, &w]).1, [1.0, 10.0, 100.0, 2.0, 20.0, 200.0]);
        let op = ConvTranspose { strides: vec![1, 4], output_padding: vec![0, 1], ..op };
        assert_eq!(run(&op, &[&x, &w]).1, [1.0, 10.0, 100.0, 0.0, 2.0, 20.0, 200.0, 0.0]);
    }

    #[test]
    fn padding_is_taken_off_and_added_where_negative() {
        let x = Literal::from_f32([1, 1, 2, 1], &[1.0, 2.0]);
        let w = Literal::from_f32([1, 1, 2, 1], &[1.0, 10.0]);
        let b = Literal::from_f32([1], &[0.5]);
        let op = ConvTranspose { pads: vec![1, 0, 0, 0], bias: true, ..ConvTranspose::default() };
        assert_eq!(run(&op, &[&x, &w, &b]), ("f32[1,1,2,1]".into(), vec![12.5, 20.5]));
        let op = ConvTranspose { pads: vec![-1, 0, -1, 0], ..op };
        assert_eq!(run(&op, &[&x, &w, &b]).1, [0.5, 1.5, 12.5, 20.5, 0.5]);
    }

    #[test]
    fn groups_have_their_own_filters() {
        let x = Literal::from_f32([1, 2, 1, 1], &[1.0, 2.0]);
        let w = Literal::from_f32([2, 2, 1, 1], &[1.0, 10.0, 100.0, 1000.0]);
        let op = ConvTranspose { group: 2, ..ConvTranspose::default() };
        assert_eq!(run(&op, &[&x, &w]), ("f32[1,4,1,1]".into(), vec![1.0, 10.0, 200.0, 2000.0]));
        let types = [&x.ty, &w.ty];
        assert_eq!(op.macs(&types, &op.infer(&types).unwrap()), 4);
    }

    #[test]
    fn operands_that_disagree_are_errors() {
        let f = |shape: &[usize]| TensorType::f32(shape);
        let field = |op: &ConvTranspose, inputs: &[&TensorType]| op.infer(inputs).unwrap_err().field;
        let (x, w, plain) = (f(&[1, 4, 5, 5]), f(&[4, 6, 3, 3]), ConvTranspose::default());
        assert_eq!(plain.infer(&[&x, &w]).unwrap().to_string(), "f32[1,6,7,7]");
        assert_eq!(field(&plain, &[&x, &f(&[6, 4, 3, 3])]), "w");
        assert_eq!(field(&ConvTranspose { group: 3, ..plain.clone() }, &[&x, &w]), "group");
        assert_eq!(field(&ConvTranspose { pads: vec![9, 0, 0, 0], ..plain.clone() }, &[&x, &w]), "pads");
        assert_eq!(field(&ConvTranspose { pads: vec![i64::MIN, 0, 0, 0], ..plain.clone() }, &[&x, &w]), "pads");
        assert_eq!(
            field(&ConvTranspose { output_padding: vec![usize::MAX, 0], ..plain.clone() }, &[&x, &w]),
            "output_padding"
        );
        assert_eq!(field(&ConvTranspose { strides: vec![1], ..plain.clone() }, &[&x, &w]), "strides");
        assert_eq!(field(&ConvTranspose { bias: true, ..plain.clone() }, &[&x, &w, &f(&[4])]), "bias");
        assert_eq!(field(&plain, &[&f(&[1, 4, 0, 5]), &w]), "x");
        let far = f(&[1, 4, 5, 1 << 30]);
        assert_eq!(field(&ConvTranspose { strides: vec![1, LIMIT], ..plain }, &[&far, &w]), "pads");
    }
}
