//! Resizing, as the frameworks that trained the networks do it.
//!
//! Pillow's way (timm, torchvision) antialiases and rounds to 8 bits between the passes and after them. TensorFlow's
//! ways take samples without antialiasing and stay in floating point: today's with half-pixel centres and a = -0.5, the
//! legacy one (which the reference EfficientNets were trained with) without them and a = -0.75.

use std::fmt;

use super::filter::{Interpolation, cubic};
use super::image::Image;
use super::pillow::{self, Passes};
use crate::error::{Error, Result};

/// The most pixels a resized image may have.
const MOST_PIXELS: usize = 1 << 25;

/// Whose arithmetic a resize follows.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Resampler {
    /// Pillow from 13.0 on: antialiased, 8 bits.
    Pillow,
    /// Pillow up to 12: the same but for photos of which the height shrinks much more than the width.
    Pillow12,
    /// `tf.image.resize`: half-pixel centres, no antialiasing.
    Tf,
    /// TensorFlow 1: no half-pixel centres, no antialiasing.
    TfLegacy,
}

impl Resampler {
    /// Every resampler with its name.
    pub const NAMES: &[(&str, Self)] =
        &[("pillow", Self::Pillow), ("pillow-12", Self::Pillow12), ("tf", Self::Tf), ("tf-legacy", Self::TfLegacy)];

    /// Fails if it does not know the filter.
    pub(crate) fn check(self, interpolation: Interpolation) -> Result<()> {
        use Interpolation::{Bicubic, Bilinear, Nearest};
        match (self, interpolation) {
            (Self::Pillow | Self::Pillow12, _) | (_, Nearest | Bilinear | Bicubic) => Ok(()),
            (_, other) => {
                let expected = format!("nearest, bilinear or bicubic for the {self} resampler");
                Err(Error::input("interpolation", expected, other.to_string()))
            }
        }
    }
}

impl fmt::Display for Resampler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES.iter().find(|(_, value)| value == self).map_or("", |(name, _)| name))
    }
}

/// The image at another size: interleaved RGB values of 0 to 255, whole numbers for Pillow's way.
pub(crate) fn resize(
    image: &Image,
    height: usize,
    width: usize,
    interpolation: Interpolation,
    resampler: Resampler,
) -> Result<Vec<f32>> {
    if (height, width) == (image.height(), image.width()) {
        return Ok(image.pixels().iter().map(|p| f32::from(*p)).collect());
    }
    resampler.check(interpolation)?;
    if height.checked_mul(width).is_none_or(|n| n > MOST_PIXELS) {
        return Err(Error::input("resize", format!("at most {MOST_PIXELS} pixels"), format!("{height}x{width}")));
    }
    match (resampler, interpolation) {
        (Resampler::Pillow | Resampler::Pillow12, Interpolation::Nearest) => {
            Ok(pillow::nearest(image, height, width).into_iter().map(f32::from).collect())
        }
        (Resampler::Pillow | Resampler::Pillow12, _) => {
            let passes = if resampler == Resampler::Pillow { Passes::BySize } else { Passes::RowsFirst };
            let resized = pillow::resize(image, height, width, interpolation, passes);
            Ok(resized.into_iter().map(f32::from).collect())
        }
        _ => Ok(sampled(image, height, width, interpolation, resampler == Resampler::TfLegacy)),
    }
}

/// The source pixels of one output pixel along an axis, with their weights.
struct Taps {
    index: [usize; 4],
    weight: [f64; 4],
}

fn sampled(image: &Image, height: usize, width: usize, interpolation: Interpolation, legacy: bool) -> Vec<f32> {
    let columns: Vec<Taps> = (0..width).map(|x| taps(x, image.width(), width, interpolation, legacy)).collect();
    let rows: Vec<Taps> = (0..height).map(|y| taps(y, image.height(), height, interpolation, legacy)).collect();
    let at = |y: usize, x: usize, c: usize| f64::from(image.pixels()[(y * image.width() + x) * 3 + c]);
    let mut out = Vec::with_capacity(height * width * 3);
    for row in &rows {
        for column in &columns {
            for channel in 0..3 {
                let line =
                    |y: usize| -> f64 { (0..4).map(|j| column.weight[j] * at(y, column.index[j], channel)).sum() };
                out.push((0..4).map(|i| row.weight[i] * line(row.index[i])).sum::<f64>() as f32);
            }
        }
    }
    out
}

fn taps(at: usize, from: usize, to: usize, interpolation: Interpolation, legacy: bool) -> Taps {
    let ratio = from as f64 / to as f64;
    let source = if legacy { at as f64 * ratio } else { (at as f64 + 0.5) * ratio - 0.5 };
    let inside = |i: f64| i.clamp(0.0, (from - 1) as f64) as usize;
    let (floor, t) = (source.floor(), source - source.floor());
    match interpolation {
        Interpolation::Bilinear => {
            Taps { index: [inside(floor), inside(floor + 1.0), 0, 0], weight: [1.0 - t, t, 0.0, 0.0] }
        }
        Interpolation::Bicubic => {
            let a = if legacy { -0.75 } else { -0.5 };
            let offsets = [-1.0, 0.0, 1.0, 2.0];
            let mut weight = offsets.map(|o: f64| cubic(t - o, a));
            if !legacy {
                // Pixels outside the image have no weight; the others share it.
                let outside = |o: f64| !(0.0..=(from - 1) as f64).contains(&(floor + o));
                for (w, _) in weight.iter_mut().zip(offsets).filter(|(_, o)| outside(*o)) {
                    *w = 0.0;
                }
                let sum: f64 = weight.iter().sum();
                weight = weight.map(|w| w / sum);
            }
            Taps { index: offsets.map(|o| inside(floor + o)), weight }
        }
        _ => {
            let nearest = if legacy { floor } else { ((at as f64 + 0.5) * ratio).floor() };
            Taps { index: [inside(nearest), 0, 0, 0], weight: [1.0, 0.0, 0.0, 0.0] }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn taps_sum_to_one_and_stay_inside() {
        for (_, interpolation) in Interpolation::NAMES {
            for (from, to) in [(1, 4), (7, 3), (5, 5), (3, 17)] {
                for (at, legacy) in (0..to).flat_map(|at| [(at, false), (at, true)]) {
                    let taps = taps(at, from, to, *interpolation, legacy);
                    assert!((taps.weight.iter().sum::<f64>() - 1.0).abs() < 1e-12);
                    assert!(taps.index.iter().all(|i| *i < from));
                }
            }
        }
    }

    #[test]
    fn tensorflow_knows_three_filters() {
        assert!(Resampler::Tf.check(Interpolation::Lanczos).is_err());
        assert!(Resampler::Pillow.check(Interpolation::Lanczos).is_ok());
    }
}
