//! Photos: PNG or JPEG in, upright RGB pixels out.
//!
//! EXIF orientation is applied, alpha is dropped, grey is replicated, 16 bits become 8. JPEG decodes to the very bytes
//! of libjpeg-turbo, on which networks are trained. A file of another kind, a broken or truncated one, or one that would
//! take more than 512 MiB decoded is an error.

use std::borrow::Cow;
use std::io::Cursor;
use std::path::Path;

use ::image::metadata::Orientation;
use ::image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};
use libjpeg_turbo_rs::{DecodeLimits, Decoder as JpegDecoder, PixelFormat};

use super::exif;
use super::image::Image;
use crate::error::{Error, Result};

/// The most bytes an image file may have, and that decoding it may take.
const LIMIT: u64 = 512 << 20;

/// The most scans a progressive JPEG may have; encoders write about ten, and each one is a pass over the image.
const SCANS: usize = 100;

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
        let (mut image, orientation) = match ::image::guess_format(bytes) {
            Ok(ImageFormat::Jpeg) => decode_jpeg(bytes)?,
            Ok(ImageFormat::Png) => decode_png(bytes)?,
            _ => return Err("another kind of file".into()),
        };
        image.apply_orientation(orientation);
        let rgb = image.into_rgb8();
        let (width, height) = (rgb.width() as usize, rgb.height() as usize);
        Self::from_rgb(height, width, rgb.into_raw()).map_err(|_| "an image without pixels".into())
    }
}

fn decode_png(bytes: &[u8]) -> Result<(DynamicImage, Orientation), String> {
    let bytes = ended(bytes);
    let mut reader = ImageReader::with_format(Cursor::new(&bytes[..]), ImageFormat::Png);
    let mut limits = Limits::default();
    limits.max_alloc = Some(LIMIT);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|e| e.to_string())?;
    if decoder.total_bytes() > LIMIT {
        let (width, height) = decoder.dimensions();
        return Err(format!("{width}x{height} pixels, more than {LIMIT} bytes"));
    }
    let orientation = upright(decoder.exif_metadata().map_err(|e| e.to_string())?.as_deref());
    Ok((DynamicImage::from_decoder(decoder).map_err(|e| e.to_string())?, orientation))
}

/// What turns an image upright that has these EXIF data.
fn upright(exif: Option<&[u8]>) -> Orientation {
    exif.and_then(exif::orientation).and_then(Orientation::from_exif).unwrap_or(Orientation::NoTransforms)
}

/// A PNG file with its end: other readers take files whose last chunk is missing or cut off once the pixels are whole.
fn ended(bytes: &[u8]) -> Cow<'_, [u8]> {
    const SIGNATURE: usize = 8;
    const END: &[u8] = b"\0\0\0\0IEND\xae\x42\x60\x82";
    let (mut at, mut pixels) = (SIGNATURE, false);
    while let Some((header, _)) = bytes.get(at..).and_then(|rest| rest.split_first_chunk::<8>()) {
        let [a, b, c, d, ref kind @ ..] = *header;
        // Length and kind, the data, a checksum.
        let next = at.saturating_add(12).saturating_add(u32::from_be_bytes([a, b, c, d]) as usize);
        if kind == b"IEND" && next <= bytes.len() {
            return bytes.into();
        }
        if next > bytes.len() {
            break;
        }
        pixels |= kind == b"IDAT";
        at = next;
    }
    match bytes.get(..at) {
        Some(whole) if pixels => [whole, END].concat().into(),
        _ => bytes.into(),
    }
}

fn decode_jpeg(bytes: &[u8]) -> Result<(DynamicImage, Orientation), String> {
    let limits = DecodeLimits { max_memory: Some(LIMIT), max_scans: SCANS, ..DecodeLimits::default() };
    let decoder = JpegDecoder::new_with_limits(bytes, limits).map_err(|e| e.to_string())?;
    check_frame(&decoder)?;
    let orientation = upright(decoder.exif_data());
    let found = decoder.with_output_format(PixelFormat::Rgb).decode_image().map_err(|e| e.to_string())?;
    let image = u32::try_from(found.width).ok().zip(u32::try_from(found.height).ok());
    let image = image.and_then(|(width, height)| RgbImage::from_raw(width, height, found.data));
    Ok((image.ok_or("pixels of another size than the header says")?.into(), orientation))
}

/// Admits 8 bits, at least one pixel, and channels of full size but for two chroma channels that are equally
/// subsampled. The decoder panics on some of the other combinations, which no camera writes.
fn check_frame(decoder: &JpegDecoder<'_>) -> Result<(), String> {
    let frame = decoder.header();
    if frame.precision != 8 || frame.is_lossless {
        return Err(format!("a lossless JPEG or one of {} bits", frame.precision));
    }
    if frame.width == 0 || frame.height == 0 {
        return Err("an image without pixels".into());
    }
    let steps: Vec<_> = frame.components.iter().map(|c| (c.horizontal_sampling, c.vertical_sampling)).collect();
    let divides = |part: (u8, u8), whole: (u8, u8)| {
        let one = |part, whole| matches!(whole, 1..=4) && part != 0 && whole % part == 0;
        one(part.0, whole.0) && one(part.1, whole.1)
    };
    let usual = match steps[..] {
        [_] => true,
        [luma, blue, red] => blue == red && divides(blue, luma),
        [luma, blue, red, black] => black == luma && blue == red && divides(blue, luma),
        _ => false,
    };
    if usual { Ok(()) } else { Err(format!("a JPEG with channels sampled {steps:?}")) }
}

#[cfg(test)]
mod tests {
    use libjpeg_turbo_rs::Subsampling;

    use super::*;

    #[test]
    fn refuses_what_is_no_image() {
        assert_eq!(Image::decode(b"").unwrap_err(), "an empty file");
        assert_eq!(Image::decode(b"hello, world").unwrap_err(), "another kind of file");
        assert!(Image::decode(b"\x89PNG\r\n\x1a\n garbage").is_err());
    }

    #[test]
    fn refuses_more_pixels_than_memory() {
        // A header of 100000 x 100000 pixels and hardly any data.
        let png =
            b"\x89\x50\x4e\x47\x0d\x0a\x1a\x0a\x00\x00\x00\x0d\x49\x48\x44\x52\x00\x01\x86\xa0\x00\x01\x86\xa0\x08\
            \x02\x00\x00\x00\x27\x30\x9c\x9f\x00\x00\x00\x11\x49\x44\x41\x54\x78\x9c\x63\x60\x18\x05\xa3\x60\x14\
            \x0c\x77\x00\x00\x03\xe8\x00\x01\xb3\xa6\xd3\x46\x00\x00\x00\x00\x49\x45\x4e\x44\xae\x42\x60\x82";
        assert!(Image::decode(png).unwrap_err().starts_with("100000x100000 pixels"));
    }

    /// A JPEG 16 pixels wide and 8 high, chroma subsampled both ways.
    fn photo() -> Vec<u8> {
        let pixels: Vec<u8> = (0..16 * 8 * 3u32).map(|i| (i * 37 % 256) as u8).collect();
        libjpeg_turbo_rs::compress(&pixels, 16, 8, PixelFormat::Rgb, 90, Subsampling::S420).unwrap()
    }

    #[test]
    fn refuses_truncated_and_unusual_jpegs() {
        let jpeg = photo();
        // Without its last two bytes, the end marker, the image is still whole.
        for length in 0..jpeg.len() - 2 {
            assert!(Image::decode(&jpeg[..length]).is_err_and(|e| !e.contains('\n')), "{length} bytes");
        }
        // Of each channel the frame header has a number, the sampling factors and a table.
        let frame = jpeg.windows(2).position(|w| w == [0xff, 0xc0]).unwrap();
        for (channel, factors) in [(1, 0x22), (2, 0x21), (1, 0x33)] {
            let mut jpeg = jpeg.clone();
            jpeg[frame + 11 + 3 * channel] = factors;
            let error = Image::decode(&jpeg).unwrap_err();
            assert!(error.starts_with("a JPEG with channels sampled"), "{error}");
        }
        let mut flat = jpeg.clone();
        flat[frame + 5..frame + 7].fill(0);
        assert!(Image::decode(&flat).is_err());
        let mut huge = jpeg;
        huge[frame + 5..frame + 9].fill(0xf0);
        assert!(Image::decode(&huge).unwrap_err().contains("exceeds limit"));
    }

    #[test]
    fn pngs_without_an_end() {
        let pixels: Vec<u8> = (0..5 * 4 * 3).map(|i| i * 3).collect();
        let mut png = Vec::new();
        let image = RgbImage::from_raw(5, 4, pixels.clone()).unwrap();
        image.write_to(&mut Cursor::new(&mut png), ImageFormat::Png).unwrap();
        let end = png.len() - 12;
        for length in end..=png.len() {
            assert_eq!(
                Image::decode(&png[..length]).map(|image| image.pixels().to_vec()),
                Ok(pixels.clone()),
                "{length}"
            );
        }
        for length in 0..end {
            assert!(Image::decode(&png[..length]).is_err(), "{length}");
        }
    }

    #[test]
    fn exif_turns_the_image_upright() {
        let jpeg = photo();
        let upright = Image::decode(&jpeg).unwrap();
        assert_eq!((upright.height(), upright.width()), (8, 16));
        // One entry of a little-endian TIFF directory: tag 0x112, one 16-bit value, 6 for a quarter turn.
        let tiff = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        // The same as one 32-bit value.
        let long = b"II*\0\x08\0\0\0\x01\0\x12\x01\x04\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        for tiff in [tiff, long] {
            let segment = [&b"\xff\xe1\0"[..], &[tiff.len() as u8 + 8], b"Exif\0\0", tiff].concat();
            let mut jpeg = jpeg.clone();
            jpeg.splice(2..2, segment);
            let turned = Image::decode(&jpeg).unwrap();
            assert_eq!((turned.height(), turned.width()), (16, 8));
        }
    }
}
