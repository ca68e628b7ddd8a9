//! Resampling. The result's shape is given; `scales` are ONNX's (given, or out / in), which the coordinate rule uses.

use super::Operation;
use super::attributes::{Attr, AttrReader};
use super::attributes::{attributes, word_attr};
use super::literal::Literal;
use super::shapes::{check, checked, expect_len, expect_number, expect_operands};
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::types::TensorType;

/// Interpolation between samples.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ResizeMode {
    /// Nearest sample.
    Nearest,
    /// Linear along each axis.
    Linear,
    /// Cubic along each axis.
    Cubic,
}
word_attr!(ResizeMode { Nearest = "nearest", Linear = "linear", Cubic = "cubic" });

/// From an output coordinate to an input coordinate.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CoordinateMode {
    /// `(x + 0.5) / scale - 0.5`
    HalfPixel,
    /// As `half_pixel`, with the origin kept symmetric when the scaled extent is not an integer.
    HalfPixelSymmetric,
    /// As `half_pixel`, 0 where the output extent is 1.
    PytorchHalfPixel,
    /// `x (in - 1) / (out - 1)`
    AlignCorners,
    /// `x / scale`
    Asymmetric,
    /// `(x + 0.5) / scale` (ONNX 10's `tf_half_pixel_for_nn`)
    TfHalfPixelForNn,
    /// The region of interest is stretched over the output.
    TfCropAndResize,
}
word_attr!(CoordinateMode {
    HalfPixel = "half_pixel", HalfPixelSymmetric = "half_pixel_symmetric", PytorchHalfPixel = "pytorch_half_pixel",
    AlignCorners = "align_corners", Asymmetric = "asymmetric", TfHalfPixelForNn = "tf_half_pixel_for_nn",
    TfCropAndResize = "tf_crop_and_resize",
});

/// Rounding of `nearest`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum NearestMode {
    /// Halves go down.
    RoundPreferFloor,
    /// Halves go up.
    RoundPreferCeil,
    /// Down.
    Floor,
    /// Up.
    Ceil,
}
word_attr!(NearestMode {
    RoundPreferFloor = "round_prefer_floor", RoundPreferCeil = "round_prefer_ceil", Floor = "floor", Ceil = "ceil",
});

attributes! {
    /// Attributes of a resampling; lists have one entry per axis of the operand.
    pub struct Resize {
        /// Interpolation.
        pub mode: ResizeMode = ResizeMode::Nearest,
        /// Coordinate rule.
        pub coordinates: CoordinateMode = CoordinateMode::HalfPixel,
        /// Rounding of `nearest`.
        pub nearest: NearestMode = NearestMode::RoundPreferFloor,
        /// Shape of the result.
        pub shape: Vec<usize> = vec![],
        /// Scale of each axis.
        pub scales: Vec<f64> = vec![],
        /// Region of interest: all starts, then all ends, normalised (only `tf_crop_and_resize`).
        pub roi: Vec<f32> = vec![],
        /// Coefficient a of `cubic`.
        pub cubic_a: f32 = -0.75,
        /// Leave samples outside the input out of the weights.
        pub exclude_outside: bool = false,
        /// Stretch the filter when scaling down.
        pub antialias: bool = false,
        /// Value outside the region of interest.
        pub extrapolation: f32 = 0.0,
    }
}

impl Resize {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl Operation for Resize {
    fn name(&self) -> &'static str {
        "resize"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        expect_operands(inputs, 1)?;
        let (x, rank) = (inputs[0], inputs[0].shape.rank());
        expect_number("x", x)?;
        expect_len("shape", rank, self.shape.len())?;
        expect_len("scales", rank, self.scales.len())?;
        let scales = self.scales.iter().all(|scale| scale.is_finite() && *scale > 0.0);
        check(scales, "scales", || "positive numbers".into(), || format!("{:?}", self.scales))?;
        if self.coordinates == CoordinateMode::TfCropAndResize {
            expect_len("roi", 2 * rank, self.roi.len())?;
            check(self.roi.iter().all(|v| v.is_finite()), "roi", || "numbers".into(), || format!("{:?}", self.roi))?;
        }
        let smooth = self.mode != ResizeMode::Nearest || !self.antialias;
        check(smooth, "antialias", || "false with nearest".into(), || "true".into())?;
        let sampled = x.shape.iter().zip(&self.shape).all(|(input, output)| *input > 0 || *output == 0);
        check(sampled, "shape", || format!("no samples of the empty axes of {x}"), || format!("{:?}", self.shape))?;
        checked(x.dtype, self.shape.clone())
    }

    fn evaluate(&self, _inputs: &[&Literal]) -> Result<Literal, OpError> {
        Err(OpError::new("operator", "an evaluator", "none"))
    }

    fn lower(&self, _cx: &mut Lowering<'_>) -> Result<(), OpError> {
        Err(OpError::new("operator", "a native kernel", "none"))
    }
}
