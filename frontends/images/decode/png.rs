//! PNG files without an end.

use std::borrow::Cow;

/// A PNG file with its end: other readers take files whose last chunk is missing or cut off once the pixels are whole.
pub(super) fn ended(bytes: &[u8]) -> Cow<'_, [u8]> {
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

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use ::image::{ImageFormat, RgbImage};

    use super::super::Image;

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
}
