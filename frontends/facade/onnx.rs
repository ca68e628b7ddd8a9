//! An ONNX file as the source of a model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use fornax_compiler::Times;
use fornax_ir::graph::Graph;
use fornax_ir::inputs::{Bindings, InputDecl};
use fornax_onnx::{OnnxFile, Outline};

use super::options::{Features, Options};
use super::pooled::{POOLED, pooled};
use super::source::Source;
use crate::error::{Error, Result};

/// An ONNX file, decoded.
pub(crate) struct OnnxModel {
    path: PathBuf,
    bytes: Bytes,
    file: OnnxFile,
    metadata: BTreeMap<String, String>,
    features: Option<Features>,
}

impl OnnxModel {
    /// Maps and decodes a file.
    ///
    /// # Errors
    /// [`Error::Runtime`] or [`Error::Model`] naming the path.
    pub fn open(path: &Path, options: &Options, times: &mut Times) -> Result<Self> {
        let bytes = times.stage("map", || fornax_runtime::map_file(path, options.limits.file_bytes))?;
        let folder = path.parent().map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p });
        Self::decode(path, bytes, folder, options, times)
    }

    /// Decodes a file in memory, called `path` in errors; external data is in `folder`, if there may be any.
    ///
    /// # Errors
    /// [`Error::Model`] naming the path.
    pub fn decode(
        path: &Path,
        bytes: Bytes,
        folder: Option<&Path>,
        options: &Options,
        times: &mut Times,
    ) -> Result<Self> {
        let path = path.to_path_buf();
        let read = || {
            let mut file = OnnxFile::from_bytes(bytes.clone(), folder, &options.limits)?;
            options.fed.iter().try_for_each(|name| file.feed(name))?;
            options.fixed.iter().try_for_each(|(name, numbers)| file.fix(name, numbers)).map(|()| file)
        };
        match times.stage("decode", read) {
            Ok(file) => {
                let (metadata, features) = (file.metadata(), options.features.clone());
                Ok(Self { path, bytes, file, metadata, features })
            }
            Err(error) => Err(Error::Model { path, error: Box::new(error) }),
        }
    }
}

impl Source for OnnxModel {
    fn inputs(&self) -> &[InputDecl] {
        self.file.inputs()
    }

    fn outputs(&self) -> Vec<String> {
        if self.features.is_some() { vec![POOLED.to_string()] } else { self.file.outputs() }
    }

    fn defaults(&self) -> Vec<String> {
        self.file.defaults()
    }

    fn outline(&self) -> Option<Outline> {
        Some(self.file.outline())
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    fn graph(&self, bindings: &Bindings) -> Result<Graph> {
        let located = |e| Error::Model { path: self.path.clone(), error: Box::new(e) };
        let graph = self.file.import(bindings).map_err(located)?;
        match self.features {
            Some(Features::Pooled) => pooled(graph),
            Some(Features::Reductions(_)) => {
                let found = format!("an ONNX file ({})", self.path.display());
                Err(Error::usage("--features", "pooled, or a spec or preset", found))
            }
            None => Ok(graph),
        }
    }

    fn hash(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64(&self.bytes)
    }

    fn release_pages(&self) {
        fornax_runtime::release_pages(&self.bytes);
    }

    fn files(&self) -> Vec<PathBuf> {
        self.file.external_files()
    }
}
