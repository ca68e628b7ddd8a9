//! Photos: PNG or JPEG in, upright interleaved RGB bytes out.
//!
//! EXIF orientation is applied, alpha is dropped, grey is replicated, 16 bits become 8. A file of another kind, a
//! broken one, or one that would take more than 512 MiB decoded is an error.

use std::io::Cursor;
use std::path::Path;

use image::{DynamicImage, ImageDecoder, ImageReader, Limits};

use crate::error::{Error, Result};

/// The most bytes an image file may have, and that decoding it may take.
const LIMIT: u64 = 512 << 20;

/// An RGB image of 8 bits per channel, rows from the top, pixels from the left.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    height: usize,
    width: usize,
    pixels: Vec<u8>,
}

impl Image {
    /// Reads a PNG or JPEG file.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Runtime`] naming the path if there is no such image.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = fornax_runtime::map_file(path, LIMIT)?;
        Self::decode(&bytes).map_err(|found| Error::file(path, format!("expected a PNG or JPEG image, found {found}")))
    }

    /// Decodes a PNG or JPEG file in memory; the error says what is there instead.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        if bytes.is_empty() {
            return Err("an empty file".into());
        }
        let mut reader = ImageReader::new(Cursor::new(bytes)).with_guessed_format().map_err(|e| e.to_string())?;
        if reader.format().is_none() {
            return Err("another kind of file".into());
        }
        let mut limits = Limits::default();
        limits.max_alloc = Some(LIMIT);
        reader.limits(limits);
        let mut decoder = reader.into_decoder().map_err(|e| e.to_string())?;
        let orientation = decoder.orientation().map_err(|e| e.to_string())?;
        let mut image = DynamicImage::from_decoder(decoder).map_err(|e| e.to_string())?;
        image.apply_orientation(orientation);
        let rgb = image.into_rgb8();
        let (width, height) = (rgb.width() as usize, rgb.height() as usize);
        if width == 0 || height == 0 {
            return Err("an image without pixels".into());
        }
        Ok(Self { height, width, pixels: rgb.into_raw() })
    }

    /// An image over interleaved RGB bytes, `height * width * 3` of them; at least one pixel.
    pub fn from_rgb(height: usize, width: usize, pixels: Vec<u8>) -> Result<Self> {
        let expected = height.checked_mul(width).and_then(|n| n.checked_mul(3)).filter(|n| *n > 0);
        if expected != Some(pixels.len()) {
            let found = format!("{} bytes for {height}x{width}", pixels.len());
            return Err(Error::input("pixels", "3 bytes for each of at least one pixel", found));
        }
        Ok(Self { height, width, pixels })
    }

    /// Height in pixels.
    pub fn height(&self) -> usize {
        self.height
    }

    /// Width in pixels.
    pub fn width(&self) -> usize {
        self.width
    }

    /// Interleaved RGB bytes.
    pub fn pixels(&self) -> &[u8] {
        &self.pixels
    }

    /// A box of the image.
    pub(crate) fn crop(&self, top: usize, left: usize, height: usize, width: usize) -> Result<Self> {
        if height == 0 || width == 0 || top + height > self.height || left + width > self.width {
            let found = format!("{height}x{width} at ({top}, {left}) of {}x{}", self.height, self.width);
            return Err(Error::input("crop", "a part of the image", found));
        }
        let row = |y: usize| &self.pixels[((top + y) * self.width + left) * 3..][..width * 3];
        Ok(Self { height, width, pixels: (0..height).flat_map(row).copied().collect() })
    }

    /// The same image with luma in all three channels (ITU-R 601, in Pillow's fixed point).
    pub(crate) fn to_gray(&self) -> Self {
        let luma = |p: &[u8; 3]| {
            let [r, g, b] = p.map(u32::from);
            [((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8; 3]
        };
        Self { pixels: self.pixels.as_chunks::<3>().0.iter().flat_map(luma).collect(), ..*self }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_no_image() {
        assert_eq!(Image::decode(b"").unwrap_err(), "an empty file");
        assert_eq!(Image::decode(b"hello, world").unwrap_err(), "another kind of file");
        assert!(Image::decode(b"\x89PNG\r\n\x1a\n garbage").is_err());
        assert!(Image::from_rgb(2, 2, vec![0; 11]).is_err() && Image::from_rgb(0, 2, vec![]).is_err());
    }

    #[test]
    fn exif_turns_the_image_upright() {
        let mut jpeg = Vec::new();
        let flat = image::RgbImage::from_pixel(16, 8, image::Rgb([200, 100, 50]));
        image::codecs::jpeg::JpegEncoder::new(&mut jpeg).encode_image(&flat).unwrap();
        let upright = Image::decode(&jpeg).unwrap();
        assert_eq!((upright.height(), upright.width()), (8, 16));
        // One entry of a little-endian TIFF directory: tag 0x112, one 16-bit value, 6 for a quarter turn.
        let tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        let segment = [&b"\xff\xe1\0"[..], &[tiff.len() as u8 + 8], b"Exif\0\0", tiff].concat();
        jpeg.splice(2..2, segment);
        let turned = Image::decode(&jpeg).unwrap();
        assert_eq!((turned.height(), turned.width()), (16, 8));
    }

    #[test]
    fn crops_and_grays() {
        let image = Image::from_rgb(2, 2, (0..12).collect()).unwrap();
        assert_eq!(image.crop(1, 1, 1, 1).unwrap().pixels(), [9, 10, 11]);
        assert!(image.crop(1, 1, 2, 1).is_err());
        assert_eq!(Image::from_rgb(1, 1, vec![255, 0, 0]).unwrap().to_gray().pixels(), [76, 76, 76]);
    }
}
