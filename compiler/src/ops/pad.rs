//! Padding (or, where negative, cropping) of each axis.

use super::Operation;
use super::attributes::{Attr, AttrReader};
use super::attributes::{attributes, word_attr};
use super::literal::Literal;
use super::shapes::{checked, expect_len, offsets, operands, strides};
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::types::Shape;
use crate::types::TensorType;

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
    fn source(&self, axis: usize, extent: usize, i: usize) -> Option<usize> {
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

impl Operation for Pad {
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

    fn lower(&self, _cx: &mut Lowering<'_>) -> Result<(), OpError> {
        Err(OpError::new("operator", "a native kernel", "none"))
    }
}
