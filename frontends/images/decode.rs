//! Photos: JPEG, PNG, WebP, BMP, GIF (its first frame) or TIFF in, upright RGB pixels out. The content tells which, not the name.
//!
//! ```text
//! file ── first bytes ──▶ jpeg │ gif │ the image crate ──▶ pixels ── EXIF ──▶ upright ── to_rgb ──▶ Image
//! ```
//!
//! Pixels are those of Pillow's `convert("RGB")`: alpha is dropped, also that of palettes, grey is replicated, of 16 bits the upper 8 are
//! taken (of grey too, where Pillow takes the lower ones and makes all else white). They are its very bytes but for BMP of 16 bits and TIFF of
//! four inks or with JPEG inside, which may differ by 1. A file of another kind, a broken or truncated one, or one that would take more
//! than 512 MiB decoded is an error.

mod gif;
mod jpeg;
mod png;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fs::File;
use std::io::{Cursor, Read};
use std::path::Path;

use ::image::metadata::Orientation;
use ::image::{DynamicImage, ImageDecoder, ImageFormat, ImageReader, Limits, RgbImage};

use super::exif;
use super::image::Image;
use crate::error::{Error, Result};

/// The most bytes an image file may have, and that decoding it may take.
const LIMIT: u64 = 512 << 20;

/// The formats that are read, with the suffixes of their files.
const FORMATS: [(ImageFormat, &[&str]); 6] = [
    (ImageFormat::Jpeg, &["jpg", "jpeg"]),
    (ImageFormat::Png, &["png"]),
    (ImageFormat::WebP, &["webp"]),
    (ImageFormat::Bmp, &["bmp"]),
    (ImageFormat::Gif, &["gif"]),
    (ImageFormat::Tiff, &["tif", "tiff"]),
];

/// Pixels, and what turns them upright.
type Decoded = (DynamicImage, Orientation);

impl Image {
    /// Reads an image file: JPEG, PNG, WebP, BMP, GIF or TIFF.
    ///
    /// # Errors
    /// [`Error::File`] or [`Error::Runtime`] naming the path if there is no such image.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let bytes = fornax_runtime::map_file(path, LIMIT)?;
        let expected = "an image (JPEG, PNG, WebP, BMP, GIF or TIFF)";
        Self::decode(&bytes).map_err(|found| Error::file(path, format!("expected {expected}, found {found}")))
    }

    /// Decodes an image file in memory; the error says what is there instead.
    pub fn decode(bytes: &[u8]) -> Result<Self, String> {
        if bytes.is_empty() {
            return Err("an empty file".into());
        }
        let (mut image, orientation) = match format(bytes) {
            Some(ImageFormat::Jpeg) => jpeg::decode(bytes)?,
            Some(ImageFormat::Gif) => gif::decode(bytes)?,
            Some(format) => decode(bytes, format)?,
            None => return Err("another kind of file".into()),
        };
        image.apply_orientation(orientation);
        let rgb = to_rgb(image)?;
        let (width, height) = (rgb.width() as usize, rgb.height() as usize);
        Self::from_rgb(height, width, rgb.into_raw()).map_err(|_| "an image without pixels".into())
    }

    /// Whether the file at `path` is meant to be an image: its name says so, or its first bytes do.
    pub fn is_meant(path: impl AsRef<Path>) -> bool {
        let path = path.as_ref();
        let suffix = path.extension().and_then(|suffix| suffix.to_str()).unwrap_or_default().to_ascii_lowercase();
        let named = FORMATS.iter().any(|(_, suffixes)| suffixes.contains(&suffix.as_str()));
        named
            || File::open(path).is_ok_and(|file| {
                let mut begin = Vec::new();
                // Longer than what tells any of the formats.
                file.take(16).read_to_end(&mut begin).is_ok() && format(&begin).is_some()
            })
    }
}

/// The format that the first bytes tell, if it is one that is read.
fn format(bytes: &[u8]) -> Option<ImageFormat> {
    let found = ::image::guess_format(bytes).ok()?;
    FORMATS.iter().any(|(known, _)| *known == found).then_some(found)
}

fn decode(bytes: &[u8], format: ImageFormat) -> Result<Decoded, String> {
    let whole = if format == ImageFormat::Png { png::ended(bytes) } else { Cow::Borrowed(bytes) };
    let mut reader = ImageReader::with_format(Cursor::new(&whole[..]), format);
    let mut limits = Limits::default();
    limits.max_alloc = Some(LIMIT);
    reader.limits(limits);
    let mut decoder = reader.into_decoder().map_err(|e| one_line(&e))?;
    if decoder.total_bytes() > LIMIT {
        let (width, height) = decoder.dimensions();
        return Err(format!("{width}x{height} pixels, more than {LIMIT} bytes"));
    }
    let orientation = match format {
        // The file is what EXIF data are elsewhere.
        ImageFormat::Tiff => upright(Some(bytes)),
        _ => upright(decoder.exif_metadata().map_err(|e| one_line(&e))?.as_deref()),
    };
    Ok((DynamicImage::from_decoder(decoder).map_err(|e| one_line(&e))?, orientation))
}

/// What a decoder says, without the line breaks of some.
fn one_line(error: &::image::ImageError) -> String {
    error.to_string().split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What turns an image upright that has these EXIF data.
fn upright(exif: Option<&[u8]>) -> Orientation {
    exif.and_then(exif::orientation).and_then(Orientation::from_exif).unwrap_or(Orientation::NoTransforms)
}

/// The colours in 8 bits.
fn to_rgb(image: DynamicImage) -> Result<RgbImage, String> {
    let upper = |value: u16| (value >> 8) as u8;
    let (width, height) = (image.width(), image.height());
    let pixels: Vec<u8> = match image {
        DynamicImage::ImageRgb8(image) => return Ok(image),
        DynamicImage::ImageLuma8(image) => image.into_raw().into_iter().flat_map(|grey| [grey; 3]).collect(),
        DynamicImage::ImageLumaA8(image) => image.pixels().flat_map(|p| [p.0[0]; 3]).collect(),
        DynamicImage::ImageRgba8(image) => image.pixels().flat_map(|p| [p.0[0], p.0[1], p.0[2]]).collect(),
        DynamicImage::ImageLuma16(image) => image.pixels().flat_map(|p| [upper(p.0[0]); 3]).collect(),
        DynamicImage::ImageLumaA16(image) => image.pixels().flat_map(|p| [upper(p.0[0]); 3]).collect(),
        DynamicImage::ImageRgb16(image) => image.pixels().flat_map(|p| p.0.map(upper)).collect(),
        DynamicImage::ImageRgba16(image) => image.pixels().flat_map(|p| [p.0[0], p.0[1], p.0[2]].map(upper)).collect(),
        other => return Err(format!("pixels of {:?}, neither 8 nor 16 bits", other.color())),
    };
    RgbImage::from_raw(width, height, pixels).ok_or_else(|| "pixels of another size than the header says".into())
}
