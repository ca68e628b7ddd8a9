//! Finds the note that Fornax writes into an ELF file.
//!
//! In: the bytes of any file. Out: the note with its place, from a shared library for this architecture, or the first field
//! that says the file is none.

use std::ops::Range;
use std::path::Path;

use crate::artifact::{FORMAT_VERSION, FORMAT_WITH_STATE, FORMAT_WITH_STEP, NOTE_NAME, NOTE_TYPE, Note};
use crate::error::Error;

/// First bytes of every ELF file.
pub(super) const MAGIC: [u8; 4] = *b"\x7fELF";
/// Size of the ELF header.
const HEADER: usize = 64;
/// Size of a program header.
const PROGRAM_HEADER: usize = 56;
/// `ET_DYN`, the type of a shared library.
const SHARED: u16 = 3;
/// `PT_NOTE`, the type of a segment of notes.
const SEGMENT_OF_NOTES: u32 = 4;
/// Notes to look at in a file: more than any real file has, so that a foreign one is told soon.
const MAX_NOTES: usize = 4096;

/// Machines by their number in ELF.
const MACHINES: [(u16, &str); 2] = [(62, "x86-64"), (183, "aarch64")];
/// The machine that this is.
const MACHINE: u16 = if cfg!(target_arch = "x86_64") { 62 } else { 183 };

/// The note, and what of the file led there.
pub(super) struct Found {
    pub note: Note,
    /// Where [`Note`] is in the file.
    pub at: Range<usize>,
    /// Where the program headers are in the file.
    pub program_headers: Range<usize>,
}

impl Found {
    /// Where the ELF header is in the file.
    pub const HEADER: Range<usize> = 0..HEADER;
}

/// The note of the library at `path` with these bytes.
pub(super) fn find(path: &Path, bytes: &[u8]) -> Result<Found, Error> {
    let program_headers = check_header(path, bytes)?;
    let segments = bytes[program_headers.clone()].chunks_exact(PROGRAM_HEADER);
    let mut notes = segments.filter_map(|header| notes_of(bytes, header)).flatten().take(MAX_NOTES);
    let ours =
        |note: &RawNote<'_>| note.kind == NOTE_TYPE && note.name.strip_suffix(b"\0") == Some(NOTE_NAME.as_bytes());
    let Some(RawNote { description, at, .. }) = notes.find(ours) else {
        return Err(foreign(path, "notes", format!("one named {NOTE_NAME}"), "none".to_owned()));
    };
    match first(description, 0).map(u32::from_le_bytes) {
        Some(FORMAT_VERSION | FORMAT_WITH_STATE | FORMAT_WITH_STEP) => {}
        version => {
            let found = version.map_or("none".to_owned(), |version| version.to_string());
            let expected = format!("{FORMAT_VERSION}, {FORMAT_WITH_STATE} or {FORMAT_WITH_STEP}");
            return Err(foreign(path, "version of the format", expected, found));
        }
    }
    match Note::read(description) {
        Some(note) if description.len() == Note::SIZE => Ok(Found { note, at: at..at + Note::SIZE, program_headers }),
        _ => {
            let (expected, found) = (format!("{} bytes", Note::SIZE), format!("{} bytes", description.len()));
            Err(foreign(path, "description of the note", expected, found))
        }
    }
}

/// Checks the ELF header and says where the program headers are.
fn check_header(path: &Path, bytes: &[u8]) -> Result<Range<usize>, Error> {
    let wrong = |field, expected: &str, found: String| Err(foreign(path, field, expected.to_owned(), found));
    if !bytes.starts_with(&MAGIC) {
        return wrong("first bytes", "7f 45 4c 46, an ELF file", hexadecimal(&bytes[..bytes.len().min(4)]));
    }
    let Some(header) = bytes.first_chunk::<HEADER>() else {
        return wrong("ELF header", "64 bytes", format!("{} bytes", bytes.len()));
    };
    let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
    if header[4] != 2 {
        return wrong("ELF class", "2, 64 bits", header[4].to_string());
    }
    if header[5] != 1 {
        return wrong("ELF byte order", "1, little-endian", header[5].to_string());
    }
    if half(16) != SHARED {
        return wrong("ELF type", "3, a shared library", half(16).to_string());
    }
    if half(18) != MACHINE {
        return wrong("ELF machine", &machine_name(MACHINE), machine_name(half(18)));
    }
    if usize::from(half(54)) != PROGRAM_HEADER {
        return wrong("size of an ELF program header", "56", half(54).to_string());
    }
    let offset = first(header, 32).map(u64::from_le_bytes).and_then(|offset| usize::try_from(offset).ok());
    let begin = offset.unwrap_or(usize::MAX);
    let end = begin.checked_add(usize::from(half(56)) * PROGRAM_HEADER);
    match end {
        Some(end) if end <= bytes.len() => Ok(begin..end),
        _ => {
            let expected = format!("inside the file of {} bytes", bytes.len());
            wrong("ELF program headers", &expected, format!("{} at {begin}", half(56)))
        }
    }
}

/// The notes of the segment that a program header describes, if it is one of notes inside the file.
fn notes_of<'a>(file: &'a [u8], header: &[u8]) -> Option<Notes<'a>> {
    let kind = u32::from_le_bytes(first(header, 0)?);
    let offset = usize::try_from(u64::from_le_bytes(first(header, 8)?)).ok()?;
    let size = usize::try_from(u64::from_le_bytes(first(header, 32)?)).ok()?;
    let segment = file.get(offset..offset.checked_add(size)?)?;
    (kind == SEGMENT_OF_NOTES).then_some(Notes { segment, position: 0, offset })
}

/// One note.
struct RawNote<'a> {
    kind: u32,
    name: &'a [u8],
    description: &'a [u8],
    /// Where the description is in the file.
    at: usize,
}

/// The notes of a segment, up to its end or the first that does not fit.
struct Notes<'a> {
    segment: &'a [u8],
    position: usize,
    /// Where the segment is in the file.
    offset: usize,
}

impl<'a> Iterator for Notes<'a> {
    type Item = RawNote<'a>;

    fn next(&mut self) -> Option<RawNote<'a>> {
        let word = |index: usize| first(self.segment, self.position + 4 * index).map(u32::from_le_bytes);
        let (name_bytes, description_bytes, kind) = (word(0)? as usize, word(1)? as usize, word(2)?);
        let name_at = self.position + 12;
        let at = name_at.checked_add(name_bytes)?.checked_next_multiple_of(4)?;
        let end = at.checked_add(description_bytes)?;
        let name = self.segment.get(name_at..name_at + name_bytes)?;
        let description = self.segment.get(at..end)?;
        self.position = end.checked_next_multiple_of(4)?;
        Some(RawNote { kind, name, description, at: self.offset + at })
    }
}

/// The `N` bytes at `at`.
fn first<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

fn foreign(path: &Path, field: &'static str, expected: String, found: String) -> Error {
    Error::NotALibrary { path: path.to_owned(), field, expected, found }
}

fn machine_name(number: u16) -> String {
    let known = MACHINES.iter().find(|(machine, _)| *machine == number);
    known.map_or_else(|| format!("machine {number}"), |(_, name)| (*name).to_owned())
}

fn hexadecimal(bytes: &[u8]) -> String {
    match bytes {
        [] => "nothing".to_owned(),
        _ => bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" "),
    }
}
