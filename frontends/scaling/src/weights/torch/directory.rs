//! The directory of a zip archive, also one of more than 4 GiB.
//!
//! In: a file. Out: names of members and where their bytes are. Read here rather than by a crate, since nothing is decompressed: members of a
//! checkpoint are stored as they are, and are used in place. Layout: PKWARE's APPNOTE, 4.3.
//!
//! ```text
//! header, bytes of a member │ … │ directory: an entry for each │ [its 64-bit end, and where that is] │ end: where the directory is
//! ```

use std::ops::Range;

/// Marks of the parts.
const LOCAL: u32 = 0x0403_4b50;
const ENTRY: u32 = 0x0201_4b50;
const END: u32 = 0x0605_4b50;
const END_64: u32 = 0x0606_4b50;
const LOCATOR_64: u32 = 0x0706_4b50;

/// Sizes of the parts without names, extra fields and comments.
const LOCAL_BYTES: usize = 30;
const ENTRY_BYTES: usize = 46;
const END_BYTES: usize = 22;
const LOCATOR_BYTES: usize = 20;

/// The extra field with what exceeds 32 bits.
const WIDE: u64 = 1;

/// A member.
pub(super) struct Entry<'a> {
    pub name: &'a [u8],
    /// Whether its bytes are in the file as they are.
    pub stored: bool,
    size: u64,
    /// Where its header is.
    header: u64,
}

/// Little-endian numbers of a file; none beyond its end.
fn number<const N: usize>(file: &[u8], at: usize) -> Option<u64> {
    let bytes = file.get(at..)?.first_chunk::<N>()?;
    Some(bytes.iter().rev().fold(0, |sum, byte| sum << 8 | u64::from(*byte)))
}

fn place<const N: usize>(file: &[u8], at: usize) -> Option<usize> {
    usize::try_from(number::<N>(file, at)?).ok()
}

fn is(file: &[u8], at: usize, mark: u32) -> bool {
    number::<4>(file, at) == Some(mark.into())
}

/// The members in the order of the directory; none if the file has no whole directory.
pub(super) fn entries(file: &[u8]) -> Option<Vec<Entry<'_>>> {
    let last = file.len().checked_sub(END_BYTES)?;
    // A comment of at most 16 bits of length follows.
    let whole = |at: &usize| is(file, *at, END) && place::<2>(file, at + 20) == Some(last - at);
    let end = (last.saturating_sub(usize::from(u16::MAX))..=last).rev().find(whole)?;
    let locator = end.checked_sub(LOCATOR_BYTES).filter(|at| is(file, *at, LOCATOR_64));
    let (count, mut at) = match locator {
        Some(locator) => {
            let end = place::<8>(file, locator + 8).filter(|at| is(file, *at, END_64))?;
            (place::<8>(file, end.checked_add(32)?)?, place::<8>(file, end.checked_add(48)?)?)
        }
        None => (place::<2>(file, end + 10)?, place::<4>(file, end + 16)?),
    };
    let mut entries = Vec::new();
    for _ in 0..count {
        let (entry, next) = entry(file, at)?;
        entries.push(entry);
        at = next;
    }
    Some(entries)
}

/// The entry of the directory at `at`, and where the next one is.
fn entry(file: &[u8], at: usize) -> Option<(Entry<'_>, usize)> {
    let head = file.get(at..at.checked_add(ENTRY_BYTES)?).filter(|head| is(head, 0, ENTRY))?;
    let [name, extra, comment] = [28, 30, 32].map(|at| place::<2>(head, at));
    let rest = file.get(at + ENTRY_BYTES..)?;
    let (name, rest) = rest.split_at_checked(name?)?;
    let (extra, rest) = rest.split_at_checked(extra?)?;
    let next = file.len() - rest.get(comment?..)?.len();
    let (flags, method) = (number::<2>(head, 8)?, number::<2>(head, 10)?);
    let mut wide = wide(extra);
    // Where 32 bits are all ones, the extra field has 64, in this order.
    let mut exact = |at: usize| match number::<4>(head, at)? {
        0xffff_ffff => {
            let value = number::<8>(wide, 0)?;
            wide = &wide[8..];
            Some(value)
        }
        narrow => Some(narrow),
    };
    let (size, packed, header) = (exact(24)?, exact(20)?, exact(42)?);
    let stored = method == 0 && flags & 1 == 0 && size == packed;
    Some((Entry { name, stored, size, header }, next))
}

/// The content of the extra field of 64-bit numbers; nothing if there is none.
fn wide(mut extra: &[u8]) -> &[u8] {
    while let (Some(kind), Some(len)) = (number::<2>(extra, 0), place::<2>(extra, 2)) {
        let Some((field, rest)) = extra[4..].split_at_checked(len) else { break };
        if kind == WIDE {
            return field;
        }
        extra = rest;
    }
    &[]
}

/// Where the bytes of a stored member are; none if not inside the file.
pub(super) fn range(file: &[u8], entry: &Entry<'_>) -> Option<Range<usize>> {
    let header = usize::try_from(entry.header).ok().filter(|at| is(file, *at, LOCAL))?;
    let names = place::<2>(file, header + 26)?.checked_add(place::<2>(file, header + 28)?)?;
    let start = header.checked_add(LOCAL_BYTES)?.checked_add(names)?;
    let end = start.checked_add(usize::try_from(entry.size).ok()?)?;
    (end <= file.len()).then_some(start..end)
}
