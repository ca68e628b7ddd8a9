//! The weights of a library: part of its file, or a file of their own with the same bytes.
//!
//! In: what the tables say of them. Out: the bytes, which begin and end at multiples of 64, and whose header fits.

use std::fmt::Display;
use std::io::ErrorKind;
use std::path::Path;

use bytes::Bytes;
use xxhash_rust::xxh64::xxh64;

use super::LibraryOptions;
use crate::artifact::{FORMAT_VERSION, Head, WEIGHTS_MAGIC, WeightsHead};
use crate::error::Error;
use crate::map::map_file;

/// The weights for the library at `path`, whose own are `embedded`.
pub(super) fn find(
    path: &Path,
    head: &Head,
    embedded: Option<Bytes>,
    options: &LibraryOptions,
) -> Result<Bytes, Error> {
    match (&options.weights, embedded) {
        (Some(file), _) => open(file, head, options),
        (None, Some(bytes)) => check(path, head, bytes, options.check_weights),
        (None, None) => {
            let beside = path.with_extension("weights");
            match open(&beside, head, options) {
                Err(Error::Io { source, .. }) if source.kind() == ErrorKind::NotFound => {
                    Err(Error::NoWeights { path: path.to_owned(), beside })
                }
                other => other,
            }
        }
    }
}

/// Opens a file of weights. No other hash covers it, so its own is always checked.
fn open(path: &Path, head: &Head, options: &LibraryOptions) -> Result<Bytes, Error> {
    check(path, head, map_file(path, options.file_bytes)?, true)
}

fn check(path: &Path, head: &Head, bytes: Bytes, hash: bool) -> Result<Bytes, Error> {
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
