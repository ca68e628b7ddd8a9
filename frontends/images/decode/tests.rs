//! Whole files, against the pixels that Pillow gives.

use super::jpeg::tests::photo;
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
    let png = b"\x89\x50\x4e\x47\x0d\x0a\x1a\x0a\x00\x00\x00\x0d\x49\x48\x44\x52\x00\x01\x86\xa0\x00\x01\x86\xa0\x08\
        \x02\x00\x00\x00\x27\x30\x9c\x9f\x00\x00\x00\x11\x49\x44\x41\x54\x78\x9c\x63\x60\x18\x05\xa3\x60\x14\
        \x0c\x77\x00\x00\x03\xe8\x00\x01\xb3\xa6\xd3\x46\x00\x00\x00\x00\x49\x45\x4e\x44\xae\x42\x60\x82";
    assert!(Image::decode(png).unwrap_err().starts_with("100000x100000 pixels"));
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

/// Every image of `tests/photos`, written by `tools/photos_of_pillow.py`.
#[test]
fn pixels_are_those_of_pillow() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/photos");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let Ok(expected) = std::fs::read(format!("{}.rgb", path.display())) else { continue };
        let image = Image::open(&path).unwrap();
        let (sides, pixels) = expected.split_at(8);
        let side = |at: usize| u32::from_le_bytes(sides[at..at + 4].try_into().unwrap()) as usize;
        assert_eq!((image.height(), image.width()), (side(0), side(4)), "{}", path.display());
        assert_eq!(image.pixels(), pixels, "{}", path.display());
        count += 1;
    }
    assert_eq!(count, PHOTOS);
}

/// Files of `tests/photos` but for those of pixels.
const PHOTOS: usize = 31;

/// Whatever the bytes are, decoding ends in an image or an error of one line.
#[test]
fn cut_and_damaged_files_do_no_harm() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/photos");
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|suffix| suffix == "rgb") {
            continue;
        }
        let whole = std::fs::read(&path).unwrap();
        let check =
            |bytes: &[u8]| assert!(!Image::decode(bytes).is_err_and(|e| e.contains('\n')), "{}", path.display());
        (0..whole.len()).for_each(|length| check(&whole[..length]));
        for (at, draw) in fornax_ir::types::random_values(5, whole.len()).into_iter().enumerate() {
            let mut bytes = whole.clone();
            bytes[at] = ((draw + 1.0) * 128.0) as u8;
            check(&bytes);
        }
    }
}

#[test]
fn content_tells_the_format_and_names_tell_the_intent() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        std::fs::write(folder.path().join(name), bytes).unwrap();
        folder.path().join(name)
    };
    let gif = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/photos/whole.gif")).unwrap();
    let misnamed = file("a.jpg", &gif);
    assert!(Image::is_meant(&misnamed) && Image::open(&misnamed).is_ok());
    assert!(Image::is_meant(file("b", &gif)) && Image::is_meant(file("c.TIFF", b"")));
    assert!(!Image::is_meant(file("d.txt", b"hello, world")) && !Image::is_meant(folder.path()));
    let error = Image::open(folder.path().join("d.txt")).unwrap_err().to_string();
    assert!(
        error.ends_with("expected an image (JPEG, PNG, WebP, BMP, GIF or TIFF), found another kind of file"),
        "{error}"
    );
}

#[test]
fn screens_of_many_pixels_are_refused() {
    let mut gif = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/photos/whole.gif")).unwrap();
    gif[6..10].fill(0xff);
    assert!(Image::decode(&gif).unwrap_err().starts_with("65535x65535 pixels"));
    let mut bmp = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/photos/rgb.bmp")).unwrap();
    bmp[18..26].copy_from_slice(&[0xff, 0xff, 0, 0, 0xff, 0xff, 0, 0]);
    assert!(Image::decode(&bmp).is_err());
}
