//! A static library of one object file.
//!
//! In: an [`ObjectImage`]. Out: a Unix archive with an index of its symbols; member and archive carry no date and no owner.

use std::io::Cursor;

use ar_archive_writer::{ArchiveKind, DEFAULT_OBJECT_READER, NewArchiveMember, write_archive_to_stream};

use super::ObjectImage;
use super::object_file::write_object;
use crate::error::{Error, Result};

/// The bytes of a static library.
///
/// # Errors
/// As [`write_object`]; [`Error::Codegen`] if the object has no symbols that can be read: a bug of ours.
pub fn write_archive(image: &ObjectImage) -> Result<Vec<u8>> {
    let (name, object) = (format!("{}.o", image.prefix), write_object(image)?);
    let mut out = Cursor::new(Vec::new());
    let member = NewArchiveMember::new(&object, &DEFAULT_OBJECT_READER, name.clone());
    write_archive_to_stream(&mut out, &[member], ArchiveKind::Gnu, false, None)
        .map_err(|e| Error::Codegen { function: name, message: e.to_string() })?;
    Ok(out.into_inner())
}
