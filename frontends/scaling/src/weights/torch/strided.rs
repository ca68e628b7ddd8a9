//! The elements of a tensor, from its storage: an offset, a shape, and a stride for each axis.
//!
//! In: a [`TensorRef`] and the bytes of its storage. Out: row-major elements, as a slice of the file where they lie so, else copied. Invariant:
//! nothing outside the storage is read, and what is copied is bounded by the size of the file.

use bytes::Bytes;
use safetensors::Dtype;

use super::super::file::Tensor;
use super::error::{CheckpointError, Result};
use super::object::{Objects, TensorRef};

/// The most axes of a tensor.
const RANK: usize = 64;

/// A tensor's axes, in elements.
struct Axes {
    offset: usize,
    shape: Vec<usize>,
    strides: Vec<usize>,
}

/// The tensor called `name`. `storage` gives the bytes of a storage by its key; `copies_left` are the bytes that may still be copied.
///
/// # Errors
/// [`CheckpointError`] naming the tensor, if it is not inside its storage, or what would be copied exceeds the bound.
pub(super) fn tensor(
    objects: &Objects,
    name: &str,
    tensor: TensorRef,
    storage: impl Fn(&str) -> Option<Bytes>,
    copies_left: &mut usize,
) -> Result<Tensor> {
    let whole = objects.storages[tensor.storage];
    let wrong = |what: &str, expected: String, found: String| {
        CheckpointError::content(format!("tensor {name}, {what}"), expected, found)
    };
    let dtype = tensor.dtype.or(whole.dtype);
    let dtype = dtype.ok_or_else(|| wrong("element type", "one".into(), "none".into()))?;
    let size = width(Some(dtype));
    let key = String::from_utf8_lossy(&objects.file[whole.key.range()]);
    let bytes = storage(&key).ok_or_else(|| wrong("storage", "one of the file".into(), format!("`{key}`")))?;
    // The length of a storage of bytes counts these, and that of others elements.
    let unit = width(whole.dtype);
    let part = whole.start.checked_mul(unit).zip(whole.numel.checked_mul(unit));
    let part =
        part.and_then(|(start, len)| bytes.get(start..start.checked_add(len)?).map(|part| bytes.slice_ref(part)));
    let part = part.ok_or_else(|| {
        let expected = format!("{} elements from {} on, of {unit} bytes", whole.numel, whole.start);
        wrong("storage", expected, format!("{} bytes", bytes.len()))
    })?;
    let axes = axes(objects, name, tensor)?;
    let available = part.len() / size;
    let (numel, end) = axes.extent().filter(|(_, end)| *end <= available).ok_or_else(|| {
        let Axes { offset, shape, strides } = &axes;
        let found = format!("offset {offset}, shape {shape:?}, strides {strides:?}");
        wrong("place", format!("one within the {available} elements of its storage"), found)
    })?;
    let elements = if numel == 0 {
        Bytes::new()
    } else if axes.is_row_major() {
        part.slice(axes.offset * size..end * size)
    } else {
        let needed = numel.checked_mul(size).filter(|needed| needed <= copies_left);
        *copies_left -= needed.ok_or(CheckpointError::Limit {
            what: "bytes of tensors that do not lie in order in their storages",
            limit: *copies_left,
        })?;
        axes.gathered(&part, size, numel)
    };
    Ok(Tensor { origin: name.to_string(), dtype, shape: axes.shape, bytes: elements })
}

fn axes(objects: &Objects, name: &str, tensor: TensorRef) -> Result<Axes> {
    let numbers = |what: &str, value| {
        let what = || format!("tensor {name}, {what}");
        let items = objects.items(value).filter(|items| items.len() <= RANK);
        let items = items.ok_or_else(|| {
            CheckpointError::content(what(), format!("at most {RANK} numbers"), objects.describe(value))
        })?;
        items.iter().map(|item| objects.whole(*item, what)).collect::<Result<Vec<usize>>>()
    };
    let (shape, strides) = (numbers("shape", tensor.shape)?, numbers("strides", tensor.strides)?);
    if shape.len() != strides.len() {
        let what = format!("tensor {name}, strides");
        return Err(CheckpointError::content(what, format!("{} of them", shape.len()), strides.len().to_string()));
    }
    let offset = objects.whole(tensor.offset, || format!("tensor {name}, offset"))?;
    Ok(Axes { offset, shape, strides })
}

impl Axes {
    /// The number of elements, and the place after the last one; none if they overflow.
    fn extent(&self) -> Option<(usize, usize)> {
        let numel = if self.shape.contains(&0) {
            0
        } else {
            self.shape.iter().try_fold(1usize, |n, extent| n.checked_mul(*extent))?
        };
        if numel == 0 {
            return Some((0, 0));
        }
        let steps = self.shape.iter().zip(&self.strides);
        let last = steps.map(|(extent, stride)| (extent - 1).checked_mul(*stride));
        let last = last.into_iter().try_fold(self.offset, |at, step| at.checked_add(step?))?;
        Some((numel, last.checked_add(1)?))
    }

    fn is_row_major(&self) -> bool {
        let mut expected = 1;
        self.shape.iter().zip(&self.strides).rev().all(|(extent, stride)| {
            let fits = *extent == 1 || *stride == expected;
            expected *= extent;
            fits
        })
    }

    /// The elements of `size` bytes in row-major order.
    fn gathered(&self, storage: &[u8], size: usize, numel: usize) -> Bytes {
        let mut out = Vec::with_capacity(numel * size);
        let (mut index, mut at) = (vec![0; self.shape.len()], self.offset);
        for _ in 0..numel {
            out.extend_from_slice(&storage[at * size..][..size]);
            for axis in (0..index.len()).rev() {
                index[axis] += 1;
                if index[axis] < self.shape[axis] {
                    at += self.strides[axis];
                    break;
                }
                at -= (index[axis] - 1) * self.strides[axis];
                index[axis] = 0;
            }
        }
        out.into()
    }
}

/// Bytes of an element of a storage; 1 if it has no type of its own.
pub(super) fn width(dtype: Option<Dtype>) -> usize {
    dtype.map_or(1, |dtype| dtype.bitsize() / 8)
}
