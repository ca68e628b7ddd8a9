//! The weights of a library: part of its file, or a file of their own with the same bytes.
//!
//! In: what the tables say of them. Out: the bytes, which begin and end at multiples of 64, and whose header fits.

use std::fmt::Display;
use std::io::ErrorKind;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use xxhash_rust::xxh64::xxh64;

use super::LibraryOptions;
use crate::artifact::{FORMAT_VERSION, Head, WEIGHTS_MAGIC, WeightsHead};
use crate::error::Error;
use crate::map::{MappedFile, Origin};

/// Weights that were found, and not yet looked at.
pub(super) enum Found {
    /// Part of the library.
    Embedded(Bytes),
    /// A file of their own.
    Apart(PathBuf, MappedFile),
}

/// Finds the weights for the library at `path`, whose own are `embedded`.
pub(super) fn find(path: &Path, embedded: Option<Bytes>, options: &LibraryOptions) -> Result<Found, Error> {
    let open = |file: &Path| Ok(Found::Apart(file.to_owned(), MappedFile::open(file, options.file_bytes)?));
    match (&options.weights, embedded) {
        (Some(file), _) => open(file),
        (None, Some(bytes)) => Ok(Found::Embedded(bytes)),
        (None, None) => {
            let beside = path.with_extension("weights");
            match open(&beside) {
                Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                    Err(Error::NoWeights { path: path.to_owned(), beside })
                }
                other => other,
            }
        }
    }
}

impl Found {
    /// The weights, if they fit what the tables say. No other hash covers a file of weights, so its own is always checked.
    pub fn check(&self, library: &Path, head: &Head, options: &LibraryOptions) -> Result<Bytes, Error> {
        match self {
            Found::Embedded(bytes) => check(library, head, bytes.clone(), options.check_weights),
            Found::Apart(path, file) => check(path, head, file.bytes().clone(), true),
        }
    }

    /// In which file they are and where; `library` is that of the library, `embedded` where they are in it.
    pub fn place(&self, library: &MappedFile, embedded: Option<Range<usize>>) -> Option<(Origin, Range<usize>)> {
        match self {
            Found::Embedded(_) => library.origin().zip(embedded),
            Found::Apart(_, file) => file.origin().map(|origin| (origin, 0..file.bytes().len())),
        }
    }

    /// True if this is a file whose weights are not those that the library was compiled with, and a process that was publishing both
    /// has now put another library in place of the open one, `library`. Waits for such a process.
    pub fn is_ahead_of(&self, library: &MappedFile, head: &Head) -> bool {
        let Found::Apart(_, file) = self else { return false };
        if WeightsHead::read(file.bytes()).is_some_and(|weights| weights.hash == head.weights_hash) {
            return false;
        }
        file.wait_for_writer();
        !library.is_current()
    }
}

/// The weights at `path`, if they fit what the tables say; `hash` reads them whole.
pub(super) fn check(path: &Path, head: &Head, bytes: Bytes, hash: bool) -> Result<Bytes, Error> {
    let wrong = |field, expected: &dyn Display, found: &dyn Display| {
        Err(Error::Weights { path: path.to_owned(), field, expected: expected.to_string(), found: found.to_string() })
    };
    let Some(weights) = WeightsHead::read(&bytes) else {
        return wrong("size", &head.weights_bytes, &bytes.len());
    };
    if weights.magic != WEIGHTS_MAGIC {
        return wrong("magic", &format_args!("{WEIGHTS_MAGIC:016x}"), &format_args!("{:016x}", weights.magic));
    }
    if weights.version != FORMAT_VERSION {
        return wrong("version", &FORMAT_VERSION, &weights.version);
    }
    if weights.layout != head.layout {
        let found = format!("{:016x}, that of another network or of another version of the compiler", weights.layout);
        return wrong("layout", &format_args!("{:016x}", head.layout), &found);
    }
    for found in [weights.bytes, bytes.len() as u64] {
        if found != head.weights_bytes {
            return wrong("size", &head.weights_bytes, &found);
        }
    }
    let WeightsHead { reserved, reserved_a, reserved_b, reserved_c, .. } = weights;
    if [reserved.into(), reserved_a, reserved_b, reserved_c] != [0; 4] {
        return wrong("reserved fields", &0, &"other values");
    }
    if hash {
        let found = xxh64(&bytes[WeightsHead::SIZE..], 0);
        if found != weights.hash {
            return wrong("hash", &format_args!("{:016x}", weights.hash), &format_args!("{found:016x}"));
        }
    }
    Ok(bytes)
}
