//! The `.npz` format: a zip archive of `.npy` files.

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
