//! The orientation that EXIF data asks for.
//!
//! In: a TIFF header and its first directory, of either byte order, as image files hold it. Out: the orientation, if there
//! is one. Written out because the decoders' own readers take it in one integer type only; cameras write others too.

/// The tag of the orientation.
const ORIENTATION: u32 = 0x112;

/// The orientation, 1 to 8; none if the data have none or are malformed.
pub(crate) fn orientation(exif: &[u8]) -> Option<u8> {
    let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    let big_endian = match tiff.get(..2)? {
        b"MM" => true,
        b"II" => false,
        _ => return None,
    };
    let number = |at: usize, bytes: usize| -> Option<u32> {
        let field = tiff.get(at..at.checked_add(bytes)?)?;
        let add = |sum: u32, byte: &u8| sum << 8 | u32::from(*byte);
        Some(if big_endian { field.iter().fold(0, add) } else { field.iter().rev().fold(0, add) })
    };
    if number(2, 2)? != 42 {
        return None;
    }
    let directory = usize::try_from(number(4, 4)?).ok()?;
    let entries = (0..number(directory, 2)? as usize).map(|entry| directory.saturating_add(2 + 12 * entry));
    for entry in entries {
        if number(entry, 2)? != ORIENTATION {
            continue;
        }
        // One byte, short or long, signed or not.
        let bytes = match number(entry + 2, 2)? {
            1 | 6 => 1,
            3 | 8 => 2,
            4 | 9 => 4,
            _ => return None,
        };
        let value = if number(entry + 4, 4)? == 1 { number(entry + 8, bytes)? } else { return None };
        return u8::try_from(value).ok().filter(|value| (1..=8).contains(value));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory of one other entry and the orientation, in an integer type of a code and a size.
    fn tiff(big_endian: bool, (code, bytes): (u16, usize), count: u32, value: u32) -> Vec<u8> {
        let ordered = |value: u32, bytes: usize| {
            let mut field = value.to_le_bytes()[..bytes].to_vec();
            if big_endian {
                field.reverse();
            }
            field
        };
        let mut out = if big_endian { b"MM".to_vec() } else { b"II".to_vec() };
        for (value, bytes) in [(42, 2), (8, 4), (2, 2), (0x10f, 2), (2, 2), (1, 4), (0, 4)] {
            out.extend(ordered(value, bytes));
        }
        out.extend(
            [ordered(ORIENTATION, 2), ordered(code.into(), 2), ordered(count, 4), ordered(value, bytes)].concat(),
        );
        out.resize(8 + 2 + 24, 0);
        out
    }

    #[test]
    fn every_integer_type_in_either_order() {
        for big_endian in [false, true] {
            for form in [(1, 1), (3, 2), (4, 4), (6, 1), (8, 2), (9, 4)] {
                assert_eq!(orientation(&tiff(big_endian, form, 1, 6)), Some(6), "{form:?}");
            }
            assert_eq!(orientation(&[b"Exif\0\0", &tiff(big_endian, (4, 4), 1, 8)[..]].concat()), Some(8));
        }
    }

    #[test]
    fn what_is_no_orientation() {
        let whole = tiff(false, (4, 4), 1, 6);
        for length in 0..whole.len() {
            assert_eq!(orientation(&whole[..length]), None, "{length}");
        }
        for (form, count, value) in
            [((4, 4), 1, 0), ((4, 4), 1, 9), ((4, 4), 1, 0x0001_0006), ((4, 4), 2, 6), ((5, 4), 1, 6)]
        {
            assert_eq!(orientation(&tiff(true, form, count, value)), None);
        }
        assert_eq!(orientation(b"II*\0\xff\xff\xff\xff"), None);
    }
}
