//! Transposed convolution: `y = conv_transpose(x, w) + bias`.
//!
//! Operands: `x [N, C, spatial…]`, `w [C, M / group, kernel…]`, then `bias [M]` if `bias`. Each extent of the result is
//! `stride (in - 1) + output_padding + dilation (k - 1) + 1 - pads`.

use super::Operation;
use super::attributes::attributes;
use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::shapes::{
    check, checked, expect_dtype, expect_float, expect_len, expect_operands, expect_rank, expect_type,
};
use super::window::{LIMIT, Window, expect_steps, taps};
use crate::error::OpError;
use crate::plan::lowering::Lowering;
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

impl Operation for ConvTranspose {
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

    fn lower(&self, _cx: &mut Lowering<'_>) -> Result<(), OpError> {
        Err(OpError::new("operator", "a native kernel", "none"))
    }
}
