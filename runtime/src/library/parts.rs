//! The parts of a library's file, and the hash that guards them.
//!
//! In: the note and the file it is in. Out: ranges that lie inside the file and apart from each other. Nothing else of the
//! file is read before both hold.

use std::ops::Range;
use std::path::Path;

use xxhash_rust::xxh64::Xxh64;

use super::damaged;
use super::elf::Found;
use crate::abi::ALIGN;
use crate::artifact::{Note, WeightsHead};
use crate::error::Error;

/// What kernels and weights begin at a multiple of.
const PAGE: u64 = 4096;

/// Where the parts are in the file.
pub(super) struct Parts {
    pub tables: Range<usize>,
    pub kernels: Range<usize>,
    /// Nothing if they are in a file of their own.
    pub weights: Option<Range<usize>>,
}

/// Checks the ranges that the note states and the hash of the file.
pub(super) fn check(path: &Path, file: &[u8], found: &Found) -> Result<Parts, Error> {
    let Note { tables, tables_bytes, kernels, kernels_bytes, weights, weights_bytes, hash, .. } = found.note;
    let inside = |field: &str, offset: u64, bytes: u64| range(path, file.len(), field, offset, bytes);
    let parts = Parts {
        tables: inside("tables", tables, tables_bytes)?,
        kernels: inside("kernels", kernels, kernels_bytes)?,
        weights: if weights_bytes == 0 { None } else { Some(inside("weights", weights, weights_bytes)?) },
    };
    for (field, offset) in [("offset of the kernels", kernels), ("offset of the weights", weights)] {
        if !offset.is_multiple_of(PAGE) {
            return Err(damaged(path, field, format_args!("a multiple of {PAGE}"), offset));
        }
    }
    if weights_bytes == 0 && weights != 0 {
        return Err(damaged(path, "offset of the weights", "0, as their size is", weights));
    }
    if !weights_bytes.is_multiple_of(ALIGN as u64) {
        return Err(damaged(path, "size of the weights", format_args!("a multiple of {ALIGN}"), weights_bytes));
    }
    let guarded = found.note.guarded_bytes;
    if guarded > weights_bytes || (guarded < WeightsHead::SIZE as u64 && weights_bytes != 0) {
        let expected = format_args!("{} to {weights_bytes}", WeightsHead::SIZE);
        return Err(damaged(path, "guarded size of the weights", expected, guarded));
    }
    check_apart(path, found, &parts)?;
    let computed = hash_of(file, found, &parts);
    if computed != hash {
        return Err(damaged(path, "hash", format_args!("{hash:016x}"), format_args!("{computed:016x}")));
    }
    Ok(parts)
}

fn range(path: &Path, file_bytes: usize, field: &str, offset: u64, bytes: u64) -> Result<Range<usize>, Error> {
    match offset.checked_add(bytes) {
        // Both fit a `usize`, as the size of the file does.
        Some(end) if end <= file_bytes as u64 => Ok(offset as usize..end as usize),
        _ => {
            let expected = format_args!("inside the file of {file_bytes} bytes");
            Err(damaged(path, field, expected, format_args!("{bytes} bytes at {offset}")))
        }
    }
}

/// Fails if two parts overlap: what lies among the weights is not in the hash.
fn check_apart(path: &Path, found: &Found, parts: &Parts) -> Result<(), Error> {
    let mut all = vec![
        ("ELF header", Found::HEADER),
        ("ELF program headers", found.program_headers.clone()),
        ("note", found.at.clone()),
        ("tables", parts.tables.clone()),
        ("kernels", parts.kernels.clone()),
    ];
    all.extend(parts.weights.clone().map(|weights| ("weights", weights)));
    all.retain(|(_, range)| !range.is_empty());
    all.sort_by_key(|(_, range)| range.start);
    for pair in all.windows(2) {
        let [(first, a), (second, b)] = pair else { continue };
        if b.start < a.end {
            let expected = format_args!("at least {}, the end of the {first}", a.end);
            return Err(damaged(path, format!("offset of the {second}"), expected, b.start));
        }
    }
    Ok(())
}

/// The hash of the file as [`Note::hash`] defines it.
fn hash_of(file: &[u8], found: &Found, parts: &Parts) -> u64 {
    let field = found.at.start + std::mem::offset_of!(Note, hash);
    let field = (field..field + size_of::<u64>(), &[0; size_of::<u64>()][..]);
    let constants = parts.weights.as_ref().map(|range| {
        // `check` has seen that it is at most the size of the weights.
        (range.start + found.note.guarded_bytes as usize..range.end, &[][..])
    });
    let mut replaced: Vec<(Range<usize>, &[u8])> = constants.into_iter().chain([field]).collect();
    replaced.sort_by_key(|(range, _)| range.start);
    let mut hash = Xxh64::new(0);
    let mut position = 0;
    for (range, by) in replaced {
        hash.update(&file[position..range.start]);
        hash.update(by);
        position = range.end;
    }
    hash.update(&file[position..]);
    hash.digest()
}
