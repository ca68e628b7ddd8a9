//! External tensor data: the only place that turns a name in a model file into a path.
//!
//! A location is accepted only if it is relative, has no `..`, and still lies beneath the model's folder after symbolic
//! links are followed; then the file is mapped once and tensors are slices of it.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};
use std::sync::Mutex;

use bytes::Bytes;

use crate::error::{Error, Result, short};
use crate::limits::Limits;
use crate::proto::TensorProto;

/// The external data files of one model.
pub(crate) struct ExternalFiles {
    folder: Option<PathBuf>,
    mapped: Mutex<BTreeMap<PathBuf, Bytes>>,
}

impl ExternalFiles {
    /// Files beneath `folder`; none may be opened without one.
    pub fn new(folder: Option<&Path>) -> Self {
        Self { folder: folder.map(Path::to_path_buf), mapped: Mutex::default() }
    }

    /// The `size` bytes that `tensor` refers to.
    pub fn read(&self, tensor: &TensorProto, place: &str, size: usize, limits: &Limits) -> Result<Bytes> {
        let entry = |key: &str| tensor.external_data.iter().find(|e| e.key == key).map(|e| e.value.as_str());
        let location = entry("location")
            .filter(|l| !l.is_empty())
            .ok_or_else(|| Error::tensor(place, "external location", "a file name", "none"))?;
        let offset = number(place, "external offset", entry("offset"))?.unwrap_or(0);
        let file = self.map(place, location, limits)?;
        let found = |what: &str| format!("{} bytes in {}", what, short(location));
        let rest = file.len().checked_sub(offset).ok_or_else(|| {
            Error::tensor(place, "external offset", found(&format!("at most {}", file.len())), offset.to_string())
        })?;
        let length = number(place, "external length", entry("length"))?.unwrap_or(size);
        if length != size {
            return Err(Error::tensor(place, "external length", format!("{size} bytes"), length.to_string()));
        }
        if length > rest {
            let expected = format!("{length} bytes from offset {offset}");
            return Err(Error::tensor(place, "external data", expected, found(&rest.to_string())));
        }
        Ok(file.slice(offset..offset + length))
    }

    /// The files that tensors were read from.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.mapped.lock().unwrap_or_else(std::sync::PoisonError::into_inner).keys().cloned().collect()
    }

    fn map(&self, place: &str, location: &str, limits: &Limits) -> Result<Bytes> {
        let path = self.resolve(place, location)?;
        let mut mapped = self.mapped.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        if let Some(bytes) = mapped.get(&path) {
            return Ok(bytes.clone());
        }
        let bytes = fornax_runtime::map_file(&path, limits.file_bytes)
            .map_err(|e| Error::tensor(place, "external location", "a readable regular file", e.to_string()))?;
        mapped.insert(path, bytes.clone());
        Ok(bytes)
    }

    /// The file that `location` names, with symbolic links followed.
    fn resolve(&self, place: &str, location: &str) -> Result<PathBuf> {
        let refuse = |expected: &str, found: String| Error::tensor(place, "external location", expected, found);
        let Some(folder) = &self.folder else {
            return Err(refuse("a model read from a file", "external data without a folder".into()));
        };
        let relative = Path::new(location);
        let plain = |c: Component<'_>| matches!(c, Component::Normal(_) | Component::CurDir);
        if location.contains('\0') || !relative.components().all(plain) {
            return Err(refuse("a path beneath the model's folder", short(location)));
        }
        let real = |path: &Path| {
            path.canonicalize().map_err(|e| refuse("a file that exists", format!("{}: {e}", short(location))))
        };
        let (folder, path) = (real(folder)?, real(&folder.join(relative))?);
        if !path.starts_with(&folder) {
            return Err(refuse("a path beneath the model's folder", format!("{}, a link out of it", short(location))));
        }
        if !path.is_file() {
            return Err(refuse("a regular file", short(location)));
        }
        Ok(path)
    }
}

/// A decimal number of the external data table.
fn number(place: &str, field: &str, text: Option<&str>) -> Result<Option<usize>> {
    text.map(|t| t.parse().map_err(|_| Error::tensor(place, field, "a number of bytes", short(t)))).transpose()
}
