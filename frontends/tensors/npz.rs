//! The `.npz` format: a zip archive of `.npy` files, stored as they are or compressed by deflate, bzip2 or LZMA.

use std::io::{Cursor, Read, Write};

use fornax_runtime::Tensor;
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipArchive, ZipWriter};

use super::named::NamedTensor;
use super::npy;

/// Every `.npy` file of an archive, which together take at most `limit` bytes, by name without the suffix.
pub(super) fn parse(bytes: &[u8], limit: u64) -> Result<Vec<NamedTensor>, String> {
    let expected = |e: &dyn std::fmt::Display| format!("expected a .npz archive: {e}");
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(|e| expected(&e))?;
    let mut tensors = Vec::new();
    let mut left = limit;
    for index in 0..archive.len() {
        let file = archive.by_index(index).map_err(|e| expected(&e))?;
        let name = file.name().map_err(|e| expected(&e))?.into_owned();
        let Some(name) = name.strip_suffix(".npy").map(str::to_string) else { continue };
        let mut content = Vec::new();
        // The size that the archive claims is not trusted: what comes out of the stream counts.
        file.take(left.saturating_add(1)).read_to_end(&mut content).map_err(|e| format!("{name}: {e}"))?;
        left = left
            .checked_sub(content.len() as u64)
            .ok_or_else(|| format!("expected at most {limit} bytes of tensors"))?;
        let tensor = npy::parse(&content).map_err(|e| format!("{name}: {e}"))?;
        tensors.push(NamedTensor { name: Some(name), tensor });
    }
    if tensors.is_empty() {
        return Err("expected an archive of .npy files, found none".into());
    }
    Ok(tensors)
}

/// The most bytes of a name in an archive, which counts them in 16 bits.
const LONGEST_NAME: usize = 1 << 12;

/// An uncompressed archive of the tensors; the same bytes every time. A name that does not fit, or is taken, becomes
/// `output_K`.
pub(super) fn format(tensors: &[(&str, &Tensor)]) -> Result<Vec<u8>, String> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (index, (name, tensor)) in tensors.iter().enumerate() {
        let fits = name.len() <= LONGEST_NAME && !tensors[..index].iter().any(|(other, _)| other == name);
        let name = if fits { (*name).to_string() } else { format!("output_{index}") };
        let bytes = npy::format(tensor);
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(bytes.len() > (1 << 31))
            .last_modified_time(zip::DateTime::default());
        writer.start_file(format!("{name}.npy"), options).map_err(|e| e.to_string())?;
        writer.write_all(&bytes).map_err(|e| e.to_string())?;
    }
    Ok(writer.finish().map_err(|e| e.to_string())?.into_inner())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `zipfile` of Python 3 with ZIP_BZIP2 and ZIP_LZMA over `numpy.save` of [1.5, -2] in f32, under the name `x.npy`.
    const COMPRESSED: [&[u8]; 2] = [
        b"\x50\x4b\x03\x04\x2e\x00\x00\x00\x0c\x00\x00\x00\x21\x00\xd6\x43\x4b\x05\x78\x00\x00\x00\x88\x00\x00\x00\x05\
            \x00\x00\x00\x78\x2e\x6e\x70\x79\x42\x5a\x68\x39\x31\x41\x59\x26\x53\x59\x5c\x8a\x89\x6c\x00\x00\x27\x5f\xa4\
            \x60\x10\x40\xe4\x14\x54\x81\x03\x42\x20\xaf\x45\xdd\x0a\x08\x00\x40\x00\x20\x00\x54\x35\x47\xa4\x01\x90\x03\
            \x40\x64\x7a\x47\xa8\x45\x3c\x93\x40\x3d\x4d\x32\x01\x90\x32\x69\xa1\xa0\x91\x02\x0c\x8e\x35\x02\x8c\x04\x84\
            \x94\xf7\x0a\x62\x33\x25\x49\x5b\x19\xcd\x34\x00\x48\x9b\x2d\xda\xe8\x70\xb7\xfc\x4b\xf9\x50\x1d\xc8\xa3\x07\
            \x81\x41\xa8\x80\x92\x96\x18\x6e\xa4\x3f\x17\x72\x45\x38\x50\x90\x5c\x8a\x89\x6c\x50\x4b\x01\x02\x2e\x03\x2e\
            \x00\x00\x00\x0c\x00\x00\x00\x21\x00\xd6\x43\x4b\x05\x78\x00\x00\x00\x88\x00\x00\x00\x05\x00\x00\x00\x00\x00\
            \x00\x00\x00\x00\x00\x00\x80\x01\x00\x00\x00\x00\x78\x2e\x6e\x70\x79\x50\x4b\x05\x06\x00\x00\x00\x00\x01\x00\
            \x01\x00\x33\x00\x00\x00\x9b\x00\x00\x00\x00\x00",
        b"\x50\x4b\x03\x04\x3f\x00\x02\x00\x0e\x00\x00\x00\x21\x00\xd6\x43\x4b\x05\x5d\x00\x00\x00\x88\x00\x00\x00\x05\
            \x00\x00\x00\x78\x2e\x6e\x70\x79\x09\x04\x05\x00\x5d\x00\x00\x80\x00\x00\x49\x93\x86\xa4\xde\xd3\x82\x79\x6a\
            \x5b\x0d\x23\x38\x36\xab\x9d\x9d\x4c\x4d\xee\xe3\x6d\xc3\x1d\xeb\x67\x22\x66\xee\x1c\xa4\x40\xba\xf8\x99\xd7\
            \x49\x27\x26\xe2\x17\x2d\x79\x69\x33\x39\x6e\x47\x25\x36\xbc\xfc\xfc\x95\x08\x97\xf8\x12\x77\x15\x5c\xd2\x10\
            \xc1\x61\xba\x56\xa2\x10\x89\xd8\x0f\xda\xb5\xa2\x30\x73\x3f\xff\xf1\x0e\x20\x00\x50\x4b\x01\x02\x3f\x03\x3f\
            \x00\x02\x00\x0e\x00\x00\x00\x21\x00\xd6\x43\x4b\x05\x5d\x00\x00\x00\x88\x00\x00\x00\x05\x00\x00\x00\x00\x00\
            \x00\x00\x00\x00\x00\x00\x80\x01\x00\x00\x00\x00\x78\x2e\x6e\x70\x79\x50\x4b\x05\x06\x00\x00\x00\x00\x01\x00\
            \x01\x00\x33\x00\x00\x00\x80\x00\x00\x00\x00\x00",
    ];

    #[test]
    fn archives_of_every_compression() {
        let expected = Tensor::from_f32([2], &[1.5, -2.0]).unwrap();
        for bytes in COMPRESSED {
            assert_eq!(
                parse(bytes, 1 << 10).unwrap(),
                [NamedTensor { name: Some("x".into()), tensor: expected.clone() }]
            );
            assert!(parse(bytes, 100).unwrap_err().contains("at most 100 bytes"));
            for length in 0..bytes.len() {
                assert!(parse(&bytes[..length], 1 << 10).is_err(), "{length} bytes");
            }
        }
    }
}
