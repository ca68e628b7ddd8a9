//! From a photo to the tensor a network expects.
//!
//! In: an [`Image`], and a [`Preprocess`] that the model's metadata, an [`ImageConvention`](crate::ImageConvention) or the caller made.
//! Out: a tensor `[n, C, H, W]` or `[n, H, W, C]` of `(pixel * scale - mean) / std`, rounded once. The steps are, in
//! this order: channels, crop (TensorFlow's way), resize, crop (PyTorch's way), normalisation.

use std::fmt;

use fornax_runtime::{DType, Tensor};

use super::filter::Interpolation;
use super::image::Image;
use super::resample::{Resampler, resize};
use crate::error::{Error, Result};

/// Order of the channels of the tensor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChannelOrder {
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
    /// One channel of luma.
    Gray,
}

/// Order of the axes of the tensor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Layout {
    /// Planes.
    Nchw,
    /// Interleaved channels.
    Nhwc,
}

/// What the image is resized to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resize {
    /// It is not.
    None,
    /// The short edge to this length; the long one keeps the aspect ratio, rounded down.
    ShortEdge(usize),
    /// This height and width, whatever the aspect ratio.
    Exact(usize, usize),
}

/// Which part of the image is used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Crop {
    /// All of it.
    None,
    /// This height and width from the centre of the resized image; offsets round half to even, as in Python.
    Center(usize, usize),
    /// Before the resize to side `s`, the central square of `s / (s + padding)` of the short edge; offsets round up.
    TfV1 {
        /// Pixels of margin, counted at the resized scale.
        padding: usize,
    },
    /// As [`Crop::TfV1`], but offsets round down.
    TfV2 {
        /// Pixels of margin, counted at the resized scale.
        padding: usize,
    },
}

/// How a photo becomes a tensor.
#[derive(Clone, PartialEq, Debug)]
pub struct Preprocess {
    /// Order of the channels.
    pub channel_order: ChannelOrder,
    /// Target of the resize.
    pub resize: Resize,
    /// Filter of the resize.
    pub interpolation: Interpolation,
    /// Whose arithmetic the resize follows.
    pub resampler: Resampler,
    /// The part that is used.
    pub crop: Crop,
    /// Factor on the pixels, which are 0 to 255.
    pub scale: f64,
    /// Subtracted from the scaled pixels, per channel of the tensor.
    pub mean: Vec<f64>,
    /// Divides the result, per channel of the tensor.
    pub std: Vec<f64>,
    /// Order of the axes.
    pub layout: Layout,
    /// `F32`, or `U8` for networks that take pixels as they are.
    pub dtype: DType,
}

impl Preprocess {
    /// Channels of the tensor.
    pub fn channels(&self) -> usize {
        if self.channel_order == ChannelOrder::Gray { 1 } else { 3 }
    }

    /// Fails if the settings contradict each other.
    pub fn check(&self) -> Result<()> {
        let wrong = |field: &str, expected: &str, found: String| Error::input(field, expected, found);
        let channels = self.channels();
        for (field, values) in [("mean", &self.mean), ("std", &self.std)] {
            if values.len() != channels || values.iter().any(|v| !v.is_finite()) {
                return Err(wrong(field, &format!("{channels} finite numbers"), format!("{values:?}")));
            }
        }
        if self.std.contains(&0.0) {
            return Err(wrong("std", "numbers other than 0", format!("{:?}", self.std)));
        }
        if !self.scale.is_finite() || self.scale == 0.0 {
            return Err(wrong("scale", "a finite number other than 0", self.scale.to_string()));
        }
        let sides = match (self.resize, self.crop) {
            (Resize::Exact(0, _) | Resize::Exact(_, 0) | Resize::ShortEdge(0), _) => Some("resize"),
            (_, Crop::Center(0, _) | Crop::Center(_, 0)) => Some("crop"),
            _ => None,
        };
        if let Some(field) = sides {
            return Err(wrong(field, "sides of at least 1", "0".into()));
        }
        if let (Crop::TfV1 { .. } | Crop::TfV2 { .. }, Resize::None | Resize::ShortEdge(_)) = (self.crop, self.resize) {
            return Err(wrong(
                "resize",
                "a height and width, for a crop that comes before it",
                self.resize.to_string(),
            ));
        }
        self.resampler.check(self.interpolation)?;
        match self.dtype {
            DType::F32 | DType::U8 => Ok(()),
            other => Err(wrong("dtype", "f32 or u8", other.to_string())),
        }
    }

    /// Height and width of the tensor, if the image does not decide them.
    pub fn size(&self) -> Option<(usize, usize)> {
        match (self.crop, self.resize) {
            (Crop::Center(h, w), _) | (_, Resize::Exact(h, w)) => Some((h, w)),
            _ => None,
        }
    }

    /// The tensor of a batch of images, which must come out at one size.
    ///
    /// # Errors
    /// [`Error::Input`] if the settings contradict each other, a crop exceeds an image, or the sizes differ.
    pub fn tensor(&self, images: &[Image]) -> Result<Tensor> {
        self.check()?;
        let channels = self.channels();
        let mut planes = Vec::with_capacity(images.len());
        for image in images {
            planes.push(self.pixels(image)?);
        }
        let size = |p: &Pixels| (p.height, p.width);
        let (height, width) = planes.first().map(size).unwrap_or((0, 0));
        if let Some(other) = planes.iter().map(size).find(|s| *s != (height, width)) {
            let found = format!("{height}x{width} and {}x{}", other.0, other.1);
            return Err(Error::input("images", "one size for all of a batch", found));
        }
        let shape = match self.layout {
            Layout::Nchw => [images.len(), channels, height, width],
            Layout::Nhwc => [images.len(), height, width, channels],
        };
        let values = planes.iter().flat_map(|p| self.normalised(p));
        if self.dtype == DType::U8 {
            let bytes: Vec<u8> = values.map(|v| v.round().clamp(0.0, 255.0) as u8).collect();
            return Ok(Tensor::from_bytes(DType::U8, shape, &bytes)?);
        }
        Ok(Tensor::from_f32(shape, &values.collect::<Vec<f32>>())?)
    }

    /// Crop and resize: the pixels that are normalised, three interleaved channels.
    fn pixels(&self, image: &Image) -> Result<Pixels> {
        let gray = (self.channel_order == ChannelOrder::Gray).then(|| image.to_gray());
        let image = gray.as_ref().unwrap_or(image);
        let (height, width) = (image.height(), image.width());
        let square = |padding: usize, round_up: usize| -> Result<Image> {
            let Resize::Exact(side, _) = self.resize else { return Ok(image.clone()) };
            let edge = (side as f64 / (side + padding) as f64 * height.min(width) as f64) as usize;
            let offset = |extent: usize| (extent - edge + round_up) / 2;
            image.crop(offset(height), offset(width), edge, edge)
        };
        let cropped = match self.crop {
            Crop::TfV1 { padding } => Some(square(padding, 1)?),
            Crop::TfV2 { padding } => Some(square(padding, 0)?),
            _ => None,
        };
        let image = cropped.as_ref().unwrap_or(image);
        let (to_height, to_width) = match self.resize {
            Resize::None => (height, width),
            Resize::Exact(h, w) => (h, w),
            Resize::ShortEdge(edge) if height <= width => (edge, (edge * width / height).max(1)),
            Resize::ShortEdge(edge) => ((edge * height / width).max(1), edge),
        };
        let values = resize(image, to_height, to_width, self.interpolation, self.resampler)?;
        let pixels = Pixels { height: to_height, width: to_width, values };
        match self.crop {
            Crop::Center(h, w) => pixels.center(h, w),
            _ => Ok(pixels),
        }
    }

    /// The photo at the size that it is resized to, in whole numbers, without a crop.
    #[cfg(feature = "train")]
    pub(crate) fn resized(&self, image: &Image) -> Result<Image> {
        let Pixels { height, width, values } = self.pixels(image)?;
        let bytes = values.into_iter().map(|value| value.round().clamp(0.0, 255.0) as u8).collect();
        Image::from_rgb(height, width, bytes)
    }

    /// The values of one image in the order of the tensor, from interleaved RGB values of 0 to 255.
    #[cfg(feature = "train")]
    pub(crate) fn normalise(&self, (height, width): (usize, usize), values: Vec<f32>) -> Vec<f32> {
        self.normalised(&Pixels { height, width, values })
    }

    /// The values of one image in the order of the tensor.
    fn normalised(&self, pixels: &Pixels) -> Vec<f32> {
        let channels = self.channels();
        let area = pixels.height * pixels.width;
        let source = |channel: usize| if self.channel_order == ChannelOrder::Bgr { 2 - channel } else { channel };
        let value = |pixel: usize, channel: usize| {
            let raw = f64::from(pixels.values[pixel * 3 + source(channel)]);
            ((raw * self.scale - self.mean[channel]) / self.std[channel]) as f32
        };
        let mut values = Vec::with_capacity(area * channels);
        match self.layout {
            Layout::Nchw => (0..channels).for_each(|c| values.extend((0..area).map(|p| value(p, c)))),
            Layout::Nhwc => (0..area).for_each(|p| values.extend((0..channels).map(|c| value(p, c)))),
        }
        values
    }
}

/// Interleaved RGB values, 0 to 255 but for the overshoot of an unrounded resize.
struct Pixels {
    height: usize,
    width: usize,
    values: Vec<f32>,
}

impl Pixels {
    fn center(self, height: usize, width: usize) -> Result<Self> {
        if height > self.height || width > self.width {
            let found = format!("{height}x{width} of {}x{}", self.height, self.width);
            return Err(Error::input("crop", "a part of the resized image", found));
        }
        let (top, left) = (half_to_even(self.height - height), half_to_even(self.width - width));
        let row = |y: usize| &self.values[((top + y) * self.width + left) * 3..][..width * 3];
        let values = (0..height).flat_map(row).copied().collect();
        Ok(Self { height, width, values })
    }
}

/// Half of `n`, rounded as Python's `round` does.
fn half_to_even(n: usize) -> usize {
    let half = n / 2;
    if n % 2 == 1 && half % 2 == 1 { half + 1 } else { half }
}

impl fmt::Display for Resize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("no resize"),
            Self::ShortEdge(edge) => write!(f, "short edge {edge}"),
            Self::Exact(h, w) => write!(f, "resize {h}x{w}"),
        }
    }
}

impl fmt::Display for Preprocess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let order = match self.channel_order {
            ChannelOrder::Rgb => "RGB",
            ChannelOrder::Bgr => "BGR",
            ChannelOrder::Gray => "gray",
        };
        write!(f, "{order}, ")?;
        if let Crop::TfV1 { padding } | Crop::TfV2 { padding } = self.crop {
            write!(f, "central square (padding {padding}), ")?;
        }
        write!(f, "{}", self.resize)?;
        if self.resize != Resize::None {
            write!(f, " ({}, {})", self.interpolation, self.resampler)?;
        }
        if let Crop::Center(h, w) = self.crop {
            write!(f, ", centre {h}x{w}")?;
        }
        let inverse = 1.0 / self.scale;
        if (inverse - inverse.round()).abs() < 1e-6 && inverse.round() > 1.0 {
            write!(f, ", scale 1/{}", inverse.round())?;
        } else {
            write!(f, ", scale {}", self.scale)?;
        }
        let layout = if self.layout == Layout::Nchw { "NCHW" } else { "NHWC" };
        write!(f, ", mean {:?}, std {:?}, {layout} {}", self.mean, self.std, self.dtype)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn offsets_round_as_python_does() {
        assert_eq!([0, 1, 2, 3, 4, 5, 7, 9].map(half_to_even), [0, 0, 1, 2, 2, 2, 4, 4]);
    }
}
