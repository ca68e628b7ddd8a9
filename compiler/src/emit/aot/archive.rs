//! A static library of one object file.
//!
//! In: an object file. Out: a Unix archive with an index of its symbols; member and archive carry no date and no owner.

use std::io::Cursor;

use ar_archive_writer::{ArchiveKind, DEFAULT_OBJECT_READER, NewArchiveMember, write_archive_to_stream};

use crate::error::{Error, Result};

/// An archive that holds `object` under `name`.
///
/// # Errors
/// [`Error::Codegen`] if the object has no symbols that can be read: a bug of ours.
pub fn write(name: &str, object: &[u8]) -> Result<Vec<u8>> {
    let mut out = Cursor::new(Vec::new());
    let member = NewArchiveMember::new(object, &DEFAULT_OBJECT_READER, name.to_string());
    write_archive_to_stream(&mut out, &[member], ArchiveKind::Gnu, false, None)
        .map_err(|e| Error::Codegen { function: name.into(), message: e.to_string() })?;
    Ok(out.into_inner())
}
