//! Resampling. The result's shape is given; `scales` are ONNX's (given, or out / in), which the coordinate rule uses.

use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::Operation;
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::types::TensorType;
use super::attributes::{attributes, word_attr};

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

    fn infer(&self, _inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        Err(OpError::new("operator", "a shape rule", "none"))
    }

    fn evaluate(&self, _inputs: &[&Literal]) -> Result<Literal, OpError> {
        Err(OpError::new("operator", "an evaluator", "none"))
    }

    fn lower(&self, _cx: &mut Lowering<'_>) -> Result<(), OpError> {
        Err(OpError::new("operator", "a native kernel", "none"))
    }
}
