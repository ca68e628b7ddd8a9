//! Padding (or, where negative, cropping) of each axis.

use super::attributes::{Attr, AttrReader, attributes, word_attr};
use super::literal::Literal;
use super::shapes::{checked, expect_len, offsets, operands, strides};
use super::{GradientContext, OneResult};
use crate::error::OpError;
use crate::types::{Shape, TensorType};

/// What padding contains.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum PadMode {
    /// A constant.
    Constant,
    /// The nearest element.
    Edge,
    /// Mirror images, the edge not repeated.
    Reflect,
    /// The other end.
    Wrap,
}
word_attr!(PadMode { Constant = "constant", Edge = "edge", Reflect = "reflect", Wrap = "wrap" });

attributes! {
    /// Attributes of a padding.
    pub struct Pad {
        /// What padding contains.
        pub mode: PadMode = PadMode::Constant,
        /// All begins, then all ends, over all axes.
        pub pads: Vec<i64> = vec![],
        /// The constant.
        pub value: f64 = 0.0,
    }
}

impl Pad {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }

    /// The elements of an axis of `extent` that cropping leaves: the first, and how many.
    fn kept(&self, axis: usize, extent: usize) -> Option<(usize, usize)> {
        let crop = |pad: i64| usize::try_from(pad.min(0).unsigned_abs()).ok();
        let (begin, end) = (crop(self.pads[axis])?, crop(self.pads[axis + self.pads.len() / 2])?);
        Some((begin, extent.checked_sub(begin)?.checked_sub(end)?))
    }

    /// Extent of the result along an axis of `extent`.
    fn extent(&self, axis: usize, extent: usize) -> Result<usize, OpError> {
        let (begin, end) = (self.pads[axis], self.pads[axis + self.pads.len() / 2]);
        let found = || format!("{begin} and {end} at axis {axis}");
        let (_, kept) = self
            .kept(axis, extent)
            .ok_or_else(|| OpError::new("pads", format!("to crop at most the extent {extent}"), found()))?;
        let padding = [begin, end].map(|pad| usize::try_from(pad).unwrap_or(0));
        if kept == 0 && self.mode != PadMode::Constant && padding != [0, 0] {
            return Err(OpError::new("pads", format!("elements to {} from", self.mode.word()), found()));
        }
        let total = kept.checked_add(padding[0]).and_then(|sum| sum.checked_add(padding[1]));
        total.ok_or_else(|| OpError::new("pads", "an addressable result", found()))
    }

    /// The element of an axis of `extent` that element `i` of the result copies; `None` for the constant.
    pub fn source(&self, axis: usize, extent: usize, i: usize) -> Option<usize> {
        let (first, kept) = self.kept(axis, extent)?;
        let (at, last) = (i as i64 - self.pads[axis].max(0), kept as i64 - 1);
        let within = match self.mode {
            PadMode::Constant => (0..=last).contains(&at).then_some(at)?,
            PadMode::Edge => at.clamp(0, last),
            PadMode::Reflect if last == 0 => 0,
            PadMode::Reflect => last - (at.rem_euclid(2 * last) - last).abs(),
            PadMode::Wrap => at.rem_euclid(last + 1),
        };
        Some(first + within as usize)
    }
}

impl OneResult for Pad {
    fn name(&self) -> &'static str {
        "pad"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        let [x] = operands(inputs)?;
        let rank = x.shape.rank();
        expect_len("pads", 2 * rank, self.pads.len())?;
        if !x.dtype.is_float() && self.value.fract() != 0.0 {
            return Err(OpError::new("value", "a whole number", self.value.to_string()));
        }
        let extents = (0..rank).map(|axis| self.extent(axis, x.shape[axis])).collect::<Result<Vec<_>, _>>()?;
        checked(x.dtype, extents)
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let [x] = operands(inputs)?;
        let extents = &x.ty.shape;
        let shape = (0..extents.rank()).map(|axis| self.extent(axis, extents[axis])).collect::<Result<Shape, _>>()?;
        let strides = strides(extents);
        let source = offsets(&shape, |axis, i| Some(self.source(axis, extents[axis], i)? * strides[axis]));
        Ok(x.gather_elements(shape, self.value, |i| source[i]))
    }

    fn gradient(&self, cx: &mut GradientContext<'_>) -> Result<(), OpError> {
        let (mut dx, shape) = (cx.dy()?, cx.shape(cx.operand(0)));
        if self.mode == PadMode::Constant {
            let pads = self.pads.iter().map(|pad| -pad).collect();
            dx = cx.op(Self { mode: PadMode::Constant, pads, value: 0.0 }, &[dx])?;
            return cx.set(0, dx);
        }
        for (axis, extent) in shape.iter().enumerate() {
            if self.pads[axis] != 0 || self.pads[axis + shape.len()] != 0 {
                let source = |i: usize| self.source(axis, *extent, i).map(|at| (at, 1.0)).into_iter().collect();
                let rows: Vec<_> = (0..cx.ty(dx).shape[axis]).map(source).collect();
                dx = cx.spread(dx, axis, *extent, &rows)?;
            }
        }
        cx.set(0, dx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::DType;

    /// `x` with its only axis padded.
    fn pad(mode: PadMode, begin: i64, end: i64, x: &[f32]) -> Result<Vec<f64>, OpError> {
        let op = Pad { mode, pads: vec![begin, end], value: -1.0 };
        let x = Literal::from_f32([x.len()], x);
        let ty = op.infer(&[&x.ty])?;
        let y = op.evaluate(&[&x])?;
        assert_eq!(y.ty, ty);
        Ok(y.to_f64())
    }

    #[test]
    fn each_mode_fills_both_sides() {
        let x = [1., 2., 3.];
        assert_eq!(pad(PadMode::Constant, 1, 2, &x).unwrap(), [-1., 1., 2., 3., -1., -1.]);
        assert_eq!(pad(PadMode::Edge, 1, 2, &x).unwrap(), [1., 1., 2., 3., 3., 3.]);
        assert_eq!(pad(PadMode::Reflect, 2, 2, &x).unwrap(), [3., 2., 1., 2., 3., 2., 1.]);
        assert_eq!(pad(PadMode::Wrap, 1, 2, &x).unwrap(), [3., 1., 2., 3., 1., 2.]);
    }

    #[test]
    fn padding_may_exceed_the_extent() {
        assert_eq!(pad(PadMode::Reflect, 5, 0, &[1., 2., 3.]).unwrap(), [2., 1., 2., 3., 2., 1., 2., 3.]);
        assert_eq!(pad(PadMode::Reflect, 1, 2, &[4.]).unwrap(), [4.; 4]);
        assert_eq!(pad(PadMode::Wrap, 0, 5, &[1., 2.]).unwrap(), [1., 2., 1., 2., 1., 2., 1.]);
    }

    #[test]
    fn negative_padding_crops_before_the_rest_is_filled() {
        let x = [1., 2., 3., 4.];
        assert_eq!(pad(PadMode::Constant, -1, -2, &x).unwrap(), [2.]);
        assert_eq!(pad(PadMode::Constant, -2, 1, &x).unwrap(), [3., 4., -1.]);
        assert_eq!(pad(PadMode::Reflect, 1, -1, &x).unwrap(), [2., 1., 2., 3.]);
        assert_eq!(pad(PadMode::Wrap, 1, -1, &x).unwrap(), [3., 1., 2., 3.]);
        assert_eq!(pad(PadMode::Edge, -2, -2, &x).unwrap(), Vec::<f64>::new());
        assert_eq!(pad(PadMode::Constant, -3, -2, &x).unwrap_err().field, "pads");
        assert_eq!(pad(PadMode::Constant, i64::MIN, 0, &x).unwrap_err().field, "pads");
    }

    #[test]
    fn begins_of_all_axes_come_before_ends() {
        let x = Literal::from_f32([1, 2], &[1., 2.]);
        let op = Pad { pads: vec![1, 0, 0, 1], ..Pad::default() };
        assert_eq!(op.evaluate(&[&x]), Ok(Literal::from_f32([2, 3], &[0., 0., 0., 1., 2., 0.])));
    }

    #[test]
    fn only_a_constant_fills_an_empty_axis() {
        assert_eq!(pad(PadMode::Constant, 1, 1, &[]).unwrap(), [-1., -1.]);
        assert_eq!(pad(PadMode::Edge, 0, 0, &[]).unwrap(), Vec::<f64>::new());
        for mode in [PadMode::Edge, PadMode::Reflect, PadMode::Wrap] {
            assert_eq!(pad(mode, 1, 0, &[]).unwrap_err().field, "pads");
            assert_eq!(pad(mode, -1, 1, &[5.]).unwrap_err().field, "pads");
        }
    }

    #[test]
    fn attributes_are_checked() {
        let x = TensorType::new(DType::I32, [2]);
        let infer = |pads: &[i64], value| Pad { pads: pads.to_vec(), value, ..Pad::default() }.infer(&[&x]);
        assert_eq!(infer(&[1], 0.0).unwrap_err().field, "pads");
        assert_eq!(infer(&[1, 1], 0.5).unwrap_err().field, "value");
        assert_eq!(infer(&[1, 1], f64::INFINITY).unwrap_err().field, "value");
        assert_eq!(infer(&[i64::MAX, i64::MAX], 1.0).unwrap_err().field, "pads");
        assert_eq!(infer(&[i64::MAX, 0], 1.0).unwrap_err().field, "result");
        let scalar = Literal::from_f32([], &[1.]);
        assert_eq!(Pad::default().evaluate(&[&scalar]), Ok(scalar));
    }
}
