//! JPEG files, to the very bytes of libjpeg-turbo, on which networks are trained; those of four inks as Pillow converts them.

use ::image::RgbImage;
use libjpeg_turbo_rs::{DecodeLimits, Decoder, PixelFormat};

use super::{Decoded, LIMIT, upright};

/// The most scans a progressive JPEG may have; encoders write about ten, and each one is a pass over the image.
const SCANS: usize = 100;

/// The pixels, and what turns them upright.
pub(super) fn decode(bytes: &[u8]) -> Result<Decoded, String> {
    let limits = DecodeLimits { max_memory: Some(LIMIT), max_scans: SCANS, ..DecodeLimits::default() };
    let decoder = Decoder::new_with_limits(bytes, limits).map_err(|e| e.to_string())?;
    check_frame(&decoder)?;
    let orientation = upright(decoder.exif_data());
    let found = decoder.with_output_format(PixelFormat::Rgb).decode_image().map_err(|e| e.to_string())?;
    let image = u32::try_from(found.width).ok().zip(u32::try_from(found.height).ok());
    let image = image.and_then(|(width, height)| RgbImage::from_raw(width, height, found.data));
    Ok((image.ok_or("pixels of another size than the header says")?.into(), orientation))
}

/// Admits 8 bits, at least one pixel, and channels of full size but for two chroma channels that are equally
/// subsampled. The decoder panics on some of the other combinations, which no camera writes.
fn check_frame(decoder: &Decoder<'_>) -> Result<(), String> {
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
pub(super) mod tests {
    use libjpeg_turbo_rs::Subsampling;

    use super::super::Image;
    use super::*;

    /// A JPEG 16 pixels wide and 8 high, chroma subsampled both ways.
    pub(in super::super) fn photo() -> Vec<u8> {
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
}
