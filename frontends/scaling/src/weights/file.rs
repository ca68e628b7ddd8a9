//! A state dict in a file, mapped: safetensors, or a PyTorch checkpoint. The content tells which, not the name.
//!
//! In: a path or bytes. Out: named tensors as slices of the bytes, without a copy. Counters of training are left out, and wrapper prefixes
//! that all other names share are taken off; the names of the file are kept for messages and origins.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use glob::Pattern;
use safetensors::{Dtype, SafeTensors};

use super::error::{Error, Result};
use super::schemes::Scheme;
use super::torch;

/// Prefixes that training code wraps around every name, `_orig_mod.` by `torch.compile`, `ema.` for averaged weights.
const WRAPPERS: [&str; 8] = ["module.", "model.", "state_dict.", "backbone.", "encoder.", "_orig_mod.", "net.", "ema."];

/// Last parts of the names of what training counts: batches of a batch norm, updates of an average.
const COUNTERS: [&str; 3] = ["num_batches_tracked", "num_updates", "n_averaged"];

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
    notes: Vec<String>,
}

impl StateDict {
    /// Maps the state dict at `path`, of at most `limit` bytes.
    ///
    /// # Errors
    /// [`Error::File`] if it cannot be mapped, and those of [`Self::from_bytes`].
    pub fn open(path: &Path, limit: u64) -> Result<Self> {
        let bytes = fornax_runtime::map_file(path, limit)
            .map_err(|e| Error::File { path: path.to_owned(), message: e.to_string() })?;
        Self::from_bytes(path.display().to_string(), bytes)
    }

    /// Reads the bytes of a state dict; `source_name` names it in messages.
    ///
    /// # Errors
    /// [`Error::NotSafetensors`] if it is of no known kind, or a safetensors file with a malformed header, [`Error::Checkpoint`] for a PyTorch
    /// checkpoint that cannot be read.
    pub fn from_bytes(source_name: impl Into<String>, bytes: Bytes) -> Result<Self> {
        let source_name = source_name.into();
        // A length comes first, then text: no pickle and no archive looks so.
        let safetensors = bytes.get(8) == Some(&b'{');
        let (tensors, notes) = if !safetensors && torch::may_be(&bytes) {
            match torch::read(&bytes) {
                Ok(checkpoint) => (checkpoint.tensors, checkpoint.notes),
                Err(error) => return Err(Error::Checkpoint { source_name, error }),
            }
        } else {
            match safetensors_of(&bytes) {
                Ok(tensors) => (tensors, Vec::new()),
                Err(e) => {
                    let message = other_kind(&bytes).map_or(e, String::from);
                    return Err(Error::NotSafetensors { source_name, message });
                }
            }
        };
        let counts = |name: &str| COUNTERS.contains(&name.rsplit('.').next().unwrap_or_default());
        let tensors = tensors.into_iter().filter(|(name, _)| !counts(name)).collect();
        Ok(Self { source_name, tensors: unwrapped(tensors), notes })
    }

    /// The state dict without the tensors whose names, with or without wrapper prefixes, match one of the glob `patterns` (`*`, `?`, `[…]`).
    ///
    /// # Errors
    /// [`Error::Pattern`] for what is no pattern, or matches no tensor.
    pub fn without(mut self, patterns: &[String]) -> Result<Self> {
        for text in patterns {
            let wrong = |expected, found: String| Error::Pattern {
                source_name: self.source_name.clone(),
                pattern: text.clone(),
                expected,
                found,
            };
            let pattern = Pattern::new(text).map_err(|e| wrong("a glob pattern", e.msg.to_string()))?;
            let matches = |name: &str, tensor: &Tensor| pattern.matches(name) || pattern.matches(&tensor.origin);
            let before = self.tensors.len();
            let kept = self.tensors.iter().filter(|(name, tensor)| !matches(name, tensor));
            let kept: BTreeMap<String, Tensor> = kept.map(|(name, tensor)| (name.clone(), tensor.clone())).collect();
            if kept.len() == before {
                let first: Vec<&str> = self.tensors.values().take(3).map(|tensor| &tensor.origin[..]).collect();
                return Err(wrong("one that matches a tensor", format!("{}, …", first.join(", "))));
            }
            self.notes.push(format!("{} tensors that match `{text}` left out", before - kept.len()));
            self.tensors = kept;
        }
        self.tensors = unwrapped(self.tensors);
        Ok(self)
    }

    /// Which state dict of a checkpoint was taken, and what was left out, a line each.
    pub fn notes(&self) -> &[String] {
        &self.notes
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

/// The tensors of a safetensors file.
fn safetensors_of(bytes: &Bytes) -> Result<BTreeMap<String, Tensor>, String> {
    let (header, metadata) = SafeTensors::read_metadata(bytes).map_err(|e| e.to_string())?;
    let data = bytes.slice(header + size_of::<u64>()..);
    let mut tensors = BTreeMap::new();
    for (origin, info) in metadata.tensors() {
        let (start, end) = info.data_offsets;
        if start > end || end > data.len() {
            return Err(format!("{origin}: offsets outside the file"));
        }
        let (shape, bytes) = (info.shape.clone(), data.slice(start..end));
        tensors.insert(origin.clone(), Tensor { origin, dtype: info.dtype, shape, bytes });
    }
    Ok(tensors)
}

/// What files are that people take for state dicts, by their first bytes.
fn other_kind(bytes: &[u8]) -> Option<&'static str> {
    const KINDS: [(usize, &[u8], &str); 5] = [
        (0, b"\x89HDF\r\n", "HDF5, as Keras writes; docs/designing.md says how to save these weights as safetensors"),
        (0, b"version https://git-lfs", "a pointer of Git LFS; `git lfs pull` fetches the file"),
        (0, b"\x1f\x8b", "a file that gzip compressed; gunzip it first"),
        (257, b"ustar", "a tar archive, as the first versions of PyTorch wrote; torch.save it anew"),
        (0, b"<", "a text in HTML or XML: a web page instead of the download?"),
    ];
    let known = KINDS.iter().find(|(at, magic, _)| bytes.get(*at..).is_some_and(|rest| rest.starts_with(magic)));
    known.map(|(_, _, kind)| *kind)
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
