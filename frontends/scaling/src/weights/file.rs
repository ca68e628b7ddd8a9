//! A state dict in a safetensors file, mapped.
//!
//! In: a path or bytes. Out: named tensors as slices of the bytes, without a copy. Wrapper prefixes that all names share are
//! taken off; the names of the file are kept for messages and origins.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use safetensors::{Dtype, SafeTensors};

use super::error::{Error, Result};
use super::schemes::Scheme;

/// Prefixes that training code wraps around every name, `_orig_mod.` by `torch.compile`, `ema.` for averaged weights.
const WRAPPERS: [&str; 8] = ["module.", "model.", "state_dict.", "backbone.", "encoder.", "_orig_mod.", "net.", "ema."];

/// A tensor of a file.
#[derive(Clone, Debug)]
pub(super) struct Tensor {
    /// Name in the file.
    pub origin: String,
    pub dtype: Dtype,
    pub shape: Vec<usize>,
    pub bytes: Bytes,
}

/// A state dict.
#[derive(Clone, Debug)]
pub struct StateDict {
    /// The file, for messages.
    pub source_name: String,
    pub(super) tensors: BTreeMap<String, Tensor>,
}

impl StateDict {
    /// Maps the safetensors file at `path`, of at most `limit` bytes.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be mapped, [`Error::NotSafetensors`] if its header is malformed.
    pub fn open(path: &Path, limit: u64) -> Result<Self> {
        let bytes = fornax_runtime::map_file(path, limit)
            .map_err(|e| Error::File { path: path.to_owned(), message: e.to_string() })?;
        Self::from_bytes(path.display().to_string(), bytes)
    }

    /// Reads the bytes of a safetensors file; `source_name` names it in messages.
    ///
    /// # Errors
    /// [`Error::NotSafetensors`] if the header is malformed.
    pub fn from_bytes(source_name: impl Into<String>, bytes: Bytes) -> Result<Self> {
        let source_name = source_name.into();
        let malformed = |message: String| Error::NotSafetensors { source_name: source_name.clone(), message };
        let (header, metadata) = SafeTensors::read_metadata(&bytes).map_err(|e| malformed(e.to_string()))?;
        let data = bytes.slice(header + size_of::<u64>()..);
        let mut tensors = BTreeMap::new();
        for (origin, info) in metadata.tensors() {
            let (start, end) = info.data_offsets;
            if start > end || end > data.len() {
                return Err(malformed(format!("{origin}: offsets outside the file")));
            }
            let (shape, bytes) = (info.shape.clone(), data.slice(start..end));
            tensors.insert(origin.clone(), Tensor { origin, dtype: info.dtype, shape, bytes });
        }
        Ok(Self { source_name, tensors: unwrapped(tensors) })
    }

    /// Names of the tensors without wrapper prefixes, sorted.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.tensors.keys().map(String::as_str)
    }

    /// Shape of a tensor.
    pub fn shape(&self, name: &str) -> Option<&[usize]> {
        self.tensors.get(name).map(|tensor| &tensor.shape[..])
    }

    /// Number of tensors.
    pub fn len(&self) -> usize {
        self.tensors.len()
    }

    /// Whether there is no tensor.
    pub fn is_empty(&self) -> bool {
        self.tensors.is_empty()
    }

    /// The naming scheme, by names that only one scheme has.
    ///
    /// # Errors
    /// [`Error::Scheme`] if no scheme has them.
    pub fn scheme(&self) -> Result<Scheme> {
        Scheme::detect(|name| self.tensors.contains_key(name), || self.names()).ok_or_else(|| {
            let first: Vec<&str> = self.names().take(3).collect();
            let found = if first.is_empty() { "no tensor".into() } else { format!("{}, …", first.join(", ")) };
            let expected = Scheme::ALL.map(Scheme::name).join(", ");
            Error::Scheme { source_name: self.source_name.clone(), expected, found }
        })
    }
}

/// The same tensors without the prefixes that all their names carry.
fn unwrapped(mut tensors: BTreeMap<String, Tensor>) -> BTreeMap<String, Tensor> {
    while let Some(prefix) = WRAPPERS.iter().find(|prefix| tensors.keys().all(|name| name.starts_with(**prefix))) {
        if tensors.is_empty() {
            break;
        }
        let strip = |(name, tensor): (String, Tensor)| (name[prefix.len()..].to_string(), tensor);
        tensors = tensors.into_iter().map(strip).collect();
    }
    tensors
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prefixes_of_all_names_are_taken_off() {
        let names = |prefix: &str, names: [&str; 2]| {
            let tensor = |name: &str| Tensor {
                origin: name.to_string(),
                dtype: Dtype::F32,
                shape: Vec::new(),
                bytes: Bytes::new(),
            };
            let named = names.map(|name| format!("{prefix}{name}"));
            let tensors = named.iter().map(|name| (name.clone(), tensor(name))).collect();
            unwrapped(tensors).into_keys().collect::<Vec<_>>()
        };
        for prefix in ["_orig_mod.", "net.", "ema.", "module.", "ema.module.", "_orig_mod.model.", "state_dict.net."] {
            assert_eq!(names(prefix, ["bn1.bias", "conv_stem.weight"]), ["bn1.bias", "conv_stem.weight"], "{prefix}");
        }
        // One that not all names have is a part of the name.
        assert_eq!(names("", ["ema.bias", "net.weight"]), ["ema.bias", "net.weight"]);
    }
}
