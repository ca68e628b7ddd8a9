//! Checkpoints before PyTorch 1.6, and with `_use_new_zipfile_serialization=False`: pickles one after the other, then the storages.
//!
//! ```text
//! pickle: magic number │ pickle: protocol 1001 │ pickle: of the machine │ pickle: the object │ pickle: keys │ count, elements │ count, …
//! ```
//!
//! In: the file. Out: what the fourth pickle builds, and each storage as a slice of the file.

use std::collections::HashMap;

use bytes::Bytes;

use super::Pickled;
use super::error::{CheckpointError, Result};
use super::object::{Objects, Value};
use super::pickle;
use super::strided::width;

/// The magic number, as the pickle's integer holds it.
const MAGIC: &[u8] = b"\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19";
/// The version of the layout.
const PROTOCOL: i64 = 1001;

/// Reads a file.
///
/// # Errors
/// [`CheckpointError`] if it is no checkpoint, cut, or was written by a machine of the other byte order.
pub(super) fn read(file: &Bytes) -> Result<Pickled> {
    let mut objects = Objects::new(file.clone());
    let (magic, at) = pickle::load(&mut objects, 0)?;
    if !matches!(magic, Value::Long(span) if file[span.range()] == *MAGIC) {
        let expected = "the magic number of a PyTorch checkpoint (torch.save)";
        return Err(CheckpointError::content("first pickle", expected, objects.describe(magic)));
    }
    let (protocol, at) = pickle::load(&mut objects, at)?;
    if protocol != Value::Int(PROTOCOL) {
        return Err(CheckpointError::content("protocol", PROTOCOL.to_string(), objects.describe(protocol)));
    }
    let (machine, at) = pickle::load(&mut objects, at)?;
    if objects.get(machine, "little_endian") != Some(Value::Bool(true)) {
        return Err(CheckpointError::content("little_endian", "true", "another value"));
    }
    let (root, at) = pickle::load(&mut objects, at)?;
    let (keys, at) = pickle::load(&mut objects, at)?;
    let storages = storages(&objects, keys, at)?;
    Ok(Pickled { objects, root, storages })
}

/// The storages from `at` on, in the order of their keys. The first to refer to one says the type of its elements.
fn storages(objects: &Objects, keys: Value, mut at: usize) -> Result<HashMap<String, Bytes>> {
    let file = &objects.file;
    let mut widths = HashMap::new();
    for storage in &objects.storages {
        widths.entry(&file[storage.key.range()]).or_insert(width(storage.dtype));
    }
    let keys = objects.items(keys);
    let keys = keys.ok_or_else(|| CheckpointError::content("storages", "a list of their keys", "another value"))?;
    let mut storages = HashMap::new();
    for key in keys {
        let name = objects.text(*key).unwrap_or_default();
        let width = widths.get(name.as_bytes()).copied();
        let width =
            width.ok_or_else(|| CheckpointError::content("storages", "keys of tensors", objects.describe(*key)))?;
        let cut = || {
            let left = file.len().saturating_sub(at);
            CheckpointError::content(format!("storage {name}"), "a count and as many elements", format!("{left} bytes"))
        };
        let (count, _) = file.get(at..).and_then(|rest| rest.split_first_chunk()).ok_or_else(cut)?;
        let start = at + size_of::<u64>();
        let len = usize::try_from(u64::from_le_bytes(*count)).ok().and_then(|count| count.checked_mul(width));
        let end = len.and_then(|len| start.checked_add(len)).filter(|end| *end <= file.len()).ok_or_else(cut)?;
        storages.insert(name.to_string(), file.slice(start..end));
        at = end;
    }
    Ok(storages)
}
