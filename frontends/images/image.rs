//! An image: upright interleaved RGB bytes.

use crate::error::{Error, Result};

/// An RGB image of 8 bits per channel, rows from the top, pixels from the left.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Image {
    height: usize,
    width: usize,
    pixels: Vec<u8>,
}

impl Image {
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
    fn refuses_pixels_that_are_no_image() {
        assert!(Image::from_rgb(2, 2, vec![0; 11]).is_err() && Image::from_rgb(0, 2, vec![]).is_err());
    }

    #[test]
    fn crops_and_grays() {
        let image = Image::from_rgb(2, 2, (0..12).collect()).unwrap();
        assert_eq!(image.crop(1, 1, 1, 1).unwrap().pixels(), [9, 10, 11]);
        assert!(image.crop(1, 1, 2, 1).is_err());
        assert_eq!(Image::from_rgb(1, 1, vec![255, 0, 0]).unwrap().to_gray().pixels(), [76, 76, 76]);
    }
}
