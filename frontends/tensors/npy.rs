//! The `.npy` format: a header in the form of a Python dictionary, then the elements.
//!
//! Read here rather than by a crate because the ones there are multiply the extents unchecked and parse nested literals
//! by recursion, so a hostile header ends the process.

use fornax_runtime::{DType, Tensor};

const MAGIC: &[u8] = b"\x93NUMPY";

/// What a header says.
#[derive(Debug, PartialEq)]
struct Header {
    dtype: DType,
    big_endian: bool,
    fortran_order: bool,
    shape: Vec<usize>,
}

/// The tensor of a `.npy` file.
pub(super) fn parse(bytes: &[u8]) -> Result<Tensor, String> {
    let (text, data) = split(bytes).ok_or("expected a .npy file, found another kind of file or a cut one")?;
    let header = header(text).map_err(|e| format!(".npy header: {e}"))?;
    let mut tensor = super::named::tensor(header.dtype, header.shape, data)?;
    if header.big_endian {
        for element in tensor.bytes_mut().chunks_exact_mut(header.dtype.size()) {
            element.reverse();
        }
    }
    if header.fortran_order { row_major(&tensor) } else { Ok(tensor) }
}

/// The header's text and the data after it.
fn split(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let rest = bytes.strip_prefix(MAGIC)?;
    let (version, rest) = rest.split_at_checked(2)?;
    let (length, rest) = match version[0] {
        1 => rest.split_first_chunk::<2>().map(|(n, rest)| (usize::from(u16::from_le_bytes(*n)), rest))?,
        2 | 3 => rest.split_first_chunk::<4>().map(|(n, rest)| (u32::from_le_bytes(*n) as usize, rest))?,
        _ => return None,
    };
    let (text, data) = rest.split_at_checked(length)?;
    Some((std::str::from_utf8(text).ok()?, data))
}

fn header(text: &str) -> Result<Header, String> {
    let descr = value(text, "descr")?;
    let descr = descr.strip_prefix(['\'', '"']).and_then(|rest| rest.split(['\'', '"']).next());
    let descr = descr.ok_or("expected `descr` to be a plain element type")?;
    let dtype = dtype(descr.trim_start_matches(['<', '>', '|', '='])).ok_or_else(|| {
        format!("expected an element type of booleans, integers or floats, found `{}`", descr.escape_debug())
    })?;
    let order = value(text, "fortran_order")?;
    let fortran_order = order.starts_with("True");
    if !fortran_order && !order.starts_with("False") {
        return Err("expected `fortran_order` to be True or False".into());
    }
    let shape = value(text, "shape")?.strip_prefix('(').and_then(|rest| rest.split_once(')'));
    let (extents, _) = shape.ok_or("expected `shape` to be a tuple")?;
    let extents = extents.split(',').map(str::trim).filter(|extent| !extent.is_empty());
    let shape = extents.map(|extent| extent.parse().map_err(|_| format!("expected an extent, found `{extent}`")));
    let shape = shape.collect::<Result<Vec<usize>, String>>()?;
    Ok(Header { dtype, big_endian: descr.starts_with('>'), fortran_order, shape })
}

/// What follows a key of the dictionary.
fn value<'a>(text: &'a str, key: &str) -> Result<&'a str, String> {
    let found = ['\'', '"'].iter().find_map(|quote| text.split_once(&format!("{quote}{key}{quote}")));
    let value = found.and_then(|(_, rest)| rest.trim_start().strip_prefix(':')).map(str::trim_start);
    value.ok_or_else(|| format!("expected the key `{key}`"))
}

fn dtype(code: &str) -> Option<DType> {
    Some(match code {
        "b1" | "?" => DType::Bool,
        "i1" => DType::I8,
        "u1" => DType::U8,
        "i2" => DType::I16,
        "u2" => DType::U16,
        "i4" => DType::I32,
        "u4" => DType::U32,
        "i8" => DType::I64,
        "u8" => DType::U64,
        "f2" => DType::F16,
        "f4" => DType::F32,
        "f8" => DType::F64,
        "V2" => DType::BF16,
        _ => return None,
    })
}

/// The elements of a column-major tensor in row-major order.
fn row_major(tensor: &Tensor) -> Result<Tensor, String> {
    let (shape, size) = (tensor.shape(), tensor.dtype().size());
    let mut out = Tensor::zeros(tensor.dtype(), shape).map_err(|e| e.to_string())?;
    let mut index = vec![0usize; shape.rank()];
    for element in out.bytes_mut().chunks_exact_mut(size) {
        let at = index.iter().zip(shape.iter()).rev().fold(0, |at, (i, extent)| at * extent + i);
        element.copy_from_slice(&tensor.bytes()[at * size..][..size]);
        for axis in (0..index.len()).rev() {
            index[axis] += 1;
            if index[axis] < shape[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
    Ok(out)
}

/// A `.npy` file of a tensor. NumPy has no bf16: its bits are written as words of no type, as ml_dtypes does.
pub(super) fn format(tensor: &Tensor) -> Vec<u8> {
    let descr = match tensor.dtype() {
        DType::Bool => "|b1",
        DType::I8 => "|i1",
        DType::U8 => "|u1",
        DType::I16 => "<i2",
        DType::U16 => "<u2",
        DType::I32 => "<i4",
        DType::U32 => "<u4",
        DType::I64 => "<i8",
        DType::U64 => "<u8",
        DType::F16 => "<f2",
        DType::BF16 => "<V2",
        DType::F32 => "<f4",
        DType::F64 => "<f8",
    };
    let extents: Vec<String> = tensor.shape().iter().map(usize::to_string).collect();
    let comma = if extents.len() == 1 { "," } else { "" };
    let mut text =
        format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({}{comma}), }}", extents.join(", "));
    // Version 1 counts the header in 16 bits, which a rank of thousands would exceed; version 2 always fits.
    let total = MAGIC.len() + 2 + 4 + text.len() + 1;
    text.push_str(&" ".repeat(total.next_multiple_of(64) - total));
    text.push('\n');
    let mut out = Vec::with_capacity(total + 64 + tensor.bytes().len());
    out.extend_from_slice(MAGIC);
    out.extend_from_slice(&[2, 0]);
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text.as_bytes());
    out.extend_from_slice(tensor.bytes());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut out = [MAGIC, &[1, 0], &(header.len() as u16).to_le_bytes(), header.as_bytes()].concat();
        out.extend_from_slice(data);
        out
    }

    #[test]
    fn orders_and_endianness() {
        let header = "{'descr': '>i2', 'fortran_order': True, 'shape': (2, 3), }\n";
        let data: Vec<u8> = [1i16, 4, 2, 5, 3, 6].iter().flat_map(|v| v.to_be_bytes()).collect();
        let expected = Tensor::from_slice([2, 3], &[1i16, 2, 3, 4, 5, 6]).unwrap();
        assert_eq!(parse(&file(header, &data)).unwrap(), expected);
        let scalar = "{\"shape\": (), \"descr\": \"|b1\", \"fortran_order\": False}";
        assert_eq!(parse(&file(scalar, &[7])).unwrap().bytes(), [1]);
    }

    #[test]
    fn hostile_headers() {
        for header in [
            "{'descr': '<f4', 'fortran_order': False, 'shape': (4294967296, 4294967296, 4294967296), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999999999999,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (-1,), }",
            "{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }",
            "{'descr': '|O', 'fortran_order': False, 'shape': (1,), }",
            "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }",
            "{'descr': '<f4', 'fortran_order': 2, 'shape': (1,), }",
            "{'descr': '<f4', 'shape': (1,), }",
            "((((((((((((",
        ] {
            assert!(parse(&file(header, &[0; 4])).is_err(), "{header}");
        }
    }

    #[test]
    fn headers_are_aligned() {
        for rank in 0..40 {
            let tensor = Tensor::zeros(DType::F32, vec![1; rank]).unwrap();
            let bytes = format(&tensor);
            assert_eq!((bytes.len() - 4) % 64, 0);
            assert_eq!(parse(&bytes).unwrap(), tensor);
        }
    }
}
