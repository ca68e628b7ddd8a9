//! Checkpoints of PyTorch 1.6 and later: a zip archive of stored members, `NAME/data.pkl` and `NAME/data/KEY` for each storage.
//!
//! In: the file. Out: what its pickle builds, and each storage as a slice of the file. Checksums are not compared: `torch.save` may leave
//! them out.

use std::collections::HashMap;
use std::io::Cursor;

use bytes::Bytes;
use zip::{CompressionMethod, ZipArchive};

use super::Pickled;
use super::error::{CheckpointError, Result};
use super::object::Objects;
use super::pickle;

/// The first bytes of a zip archive.
pub(super) const MAGIC: &[u8] = b"PK\x03\x04";

/// Reads an archive.
///
/// # Errors
/// [`CheckpointError`] if it is none of a checkpoint, or was written by a machine of the other byte order.
pub(super) fn read(file: &Bytes) -> Result<Pickled> {
    let members = members(file)?;
    let pickled = members.keys().filter(|name| name.ends_with("data.pkl")).min_by_key(|name| name.len());
    let Some(folder) = pickled.and_then(|name| name.strip_suffix("data.pkl")) else {
        let first = members.keys().min().map_or("no file".to_string(), |name| format!("`{}`", name.escape_debug()));
        return Err(CheckpointError::content("zip archive", "`data.pkl`, as in a PyTorch checkpoint", first));
    };
    if let Some(order) = members.get(&format!("{folder}byteorder"))
        && order[..] != b"little"[..]
    {
        let found = String::from_utf8_lossy(&order[..order.len().min(20)]).escape_debug().to_string();
        return Err(CheckpointError::content("byteorder", "little", found));
    }
    let mut objects = Objects::new(members[&format!("{folder}data.pkl")].clone());
    let (root, _) = pickle::load(&mut objects, 0)?;
    let storages = format!("{folder}data/");
    let storages =
        members.into_iter().filter_map(|(name, data)| Some((name.strip_prefix(&storages)?.to_string(), data)));
    Ok(Pickled { storages: storages.collect(), objects, root })
}

/// Every member, as a slice of the file.
fn members(file: &Bytes) -> Result<HashMap<String, Bytes>> {
    let wrong = |found: String| CheckpointError::content("zip archive", "a whole one of a PyTorch checkpoint", found);
    let mut archive = ZipArchive::new(Cursor::new(&file[..])).map_err(|e| wrong(e.to_string()))?;
    if archive.file_names().flatten().any(|name| name.ends_with("/constants.pkl")) {
        return Err(CheckpointError::Script);
    }
    let mut members = HashMap::new();
    for index in 0..archive.len() {
        let member = archive.by_index_raw(index).map_err(|e| wrong(e.to_string()))?;
        let name = member.name().map_err(|e| wrong(e.to_string()))?.into_owned();
        if member.compression() != CompressionMethod::Stored || member.encrypted() {
            let found = format!("`{}`, compressed or encrypted", name.escape_debug());
            return Err(CheckpointError::content("zip archive", "members that are stored as they are", found));
        }
        let range = member.data_start().zip(Some(member.size())).and_then(|(start, size)| {
            let start = usize::try_from(start).ok()?;
            let end = start.checked_add(usize::try_from(size).ok()?)?;
            (end <= file.len()).then_some(start..end)
        });
        let range = range.ok_or_else(|| wrong(format!("`{}` outside the file", name.escape_debug())))?;
        members.insert(name, file.slice(range));
    }
    Ok(members)
}
