//! Checkpoints of PyTorch 1.6 and later: a zip archive of stored members, `NAME/data.pkl` and `NAME/data/KEY` for each storage.
//!
//! In: the file. Out: what its pickle builds, and each storage as a slice of the file. Checksums are not compared: `torch.save` may leave
//! them out.

use std::collections::HashMap;

use bytes::Bytes;

use super::Pickled;
use super::directory::{self, Entry};
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
    let entries = directory::entries(file).ok_or_else(|| no_archive("a cut or broken directory".into()))?;
    // A script is told from its members before it is refused for their compression.
    if entries.iter().any(|entry| entry.name.ends_with(b"/constants.pkl")) {
        return Err(CheckpointError::Script);
    }
    let slice = |entry: &Entry<'_>| {
        let name = String::from_utf8_lossy(entry.name).into_owned();
        let shown = name.escape_debug();
        if !entry.stored {
            let found = format!("`{shown}`, compressed or encrypted");
            return Err(CheckpointError::content("zip archive", "members that are stored as they are", found));
        }
        let range = directory::range(file, entry).ok_or_else(|| no_archive(format!("`{shown}` outside the file")))?;
        Ok((name, file.slice(range)))
    };
    entries.iter().map(slice).collect()
}

fn no_archive(found: String) -> CheckpointError {
    CheckpointError::content("zip archive", "a whole one of a PyTorch checkpoint", found)
}
