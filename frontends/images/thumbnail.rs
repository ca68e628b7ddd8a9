//! A small JPEG of a photo, to be shown and not to be computed with.
//!
//! In: an image. Out: a JPEG file in memory whose longer side is at most the one asked for.

use libjpeg_turbo_rs::{PixelFormat, Subsampling, compress};

use super::filter::Interpolation;
use super::image::Image;
use super::resample::{Resampler, resize};
use crate::error::{Error, Result};

/// Quality of the JPEG, of 100.
const QUALITY: u8 = 80;

impl Image {
    /// The image as a JPEG file of at most `side` x `side` pixels, its aspect kept.
    ///
    /// # Errors
    /// [`Error::Input`] if the encoder refuses it.
    pub fn thumbnail(&self, side: usize) -> Result<Vec<u8>> {
        let (height, width) = (self.height(), self.width());
        let longer = height.max(width);
        let fitted = |extent: usize| if longer <= side { extent } else { (extent * side / longer).max(1) };
        let (to_height, to_width) = (fitted(height), fitted(width));
        let values = resize(self, to_height, to_width, Interpolation::Bicubic, Resampler::Pillow)?;
        let pixels: Vec<u8> = values.into_iter().map(|value| value.round().clamp(0.0, 255.0) as u8).collect();
        compress(&pixels, to_width, to_height, PixelFormat::Rgb, QUALITY, Subsampling::S420)
            .map_err(|e| Error::input("thumbnail", "an image that can be encoded", e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thumbnails_are_small_and_look_like_the_photo() {
        let photo = Image::open("examples/photos/stop.jpg").unwrap();
        let bytes = photo.thumbnail(40).unwrap();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("small.jpg"), &bytes).unwrap();
        let small = Image::open(folder.path().join("small.jpg")).unwrap();
        assert!(small.height().max(small.width()) == 40 && bytes.len() < 4000, "{} bytes", bytes.len());
        let mean =
            |image: &Image| image.pixels().iter().map(|p| f64::from(*p)).sum::<f64>() / image.pixels().len() as f64;
        assert!((mean(&photo) - mean(&small)).abs() < 3.0);
        let pixel = Image::from_rgb(1, 1, vec![9, 8, 7]).unwrap();
        assert!(pixel.thumbnail(40).unwrap().starts_with(&[0xff, 0xd8]));
        let line = Image::from_rgb(1, 900, vec![7; 2700]).unwrap();
        assert!(line.thumbnail(40).is_ok());
    }
}
