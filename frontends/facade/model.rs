//! An opened model, compiled for each set of shapes when it is first asked for.
//!
//! In: a model file. Out: [`Compiled`] programs, of which the few used last are kept. A [`Model`] is a handle: clones
//! share the file and the programs, on any thread.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use fornax_compiler::pipeline::{Optimised, Planned};
use fornax_compiler::{Plan, Target, Times};
use fornax_ir::graph::Graph;
use fornax_ir::inputs::{Bindings, InputDecl};
use fornax_ir::types::Constant;
use fornax_onnx::Outline;
use fornax_runtime::{Library, Port, Shape};
use fornax_scaling::architecture::Architecture;
use fornax_scaling::spec::Spec;

use super::compile;
use super::compiled::Compiled;
use super::library::LibraryModel;
use super::metadata;
use super::onnx::OnnxModel;
use super::options::{Features, Options};
use super::source::Source;
use super::spec::{SpecModel, open_spec};
use super::stats::Stats;
use crate::classify::Scores;
use crate::error::{Error, Result};
use crate::images::Preprocess;

/// How many programs a model keeps.
const KEPT: usize = 4;

/// The files that hold the network of a run's folder, first come first.
const IN_FOLDER: [&str; 2] = ["model.toml", "model.onnx"];

/// The folder that a file is in.
fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
}

/// A model file, opened and checked.
///
/// ```
/// let model = fornax::Model::open("examples/signs.onnx")?;
/// assert_eq!(model.inputs()[0].name, "image");
/// assert_eq!(model.outputs(), ["logits"]);
/// assert_eq!(model.labels()?.map(|labels| labels.len()), Some(12));
/// # Ok::<(), fornax::Error>(())
/// ```
#[derive(Clone)]
pub struct Model(Arc<Inner>);

struct Inner {
    path: PathBuf,
    source: Box<dyn Source>,
    times: Times,
    options: Options,
    /// The programs used last, latest first.
    cache: Mutex<Vec<Entry>>,
}

struct Entry {
    /// What was asked for and led here.
    asked: Vec<Bindings>,
    compiled: Arc<Compiled>,
}

impl Model {
    /// Opens an ONNX file, to be compiled for this machine, or a library that was compiled for its kind.
    ///
    /// An ONNX file may come from anyone. A library is native code, which sessions run as it is: like any shared library it must come from
    /// whom one trusts, and nobody may change it in place while it is in use ([`Library`] says what is checked). Files of weights
    /// are mapped, not read: replace them, but do not write into them.
    ///
    /// # Errors
    /// [`Error`] naming the path, and what was expected of its contents.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &Options::default())
    }

    /// Opens an ONNX file, a spec or preset, a compiled library, or the network in the folder of a run: its `model.toml`, else its `model.onnx`.
    ///
    /// # Errors
    /// As [`Model::open`]; [`Error::File`] for a folder without either.
    pub fn open_with(path: impl AsRef<Path>, options: &Options) -> Result<Self> {
        let path = path.as_ref();
        if path.is_dir() {
            let network = IN_FOLDER.map(|name| path.join(name)).into_iter().find(|file| file.is_file());
            let expected = format!("expected a model, or a folder with {}", IN_FOLDER.join(" or "));
            return Self::open_with(network.ok_or_else(|| Error::file(path, expected))?, options);
        }
        let mut times = Times::default();
        let source: Box<dyn Source> = if Library::is_library(path) {
            Box::new(LibraryModel::open(path, options, &mut times)?)
        } else if let Some(spec) = open_spec(path, options.limits.file_bytes)? {
            Box::new(times.stage("spec", || SpecModel::new(&spec, folder_of(path), options))?)
        } else {
            Box::new(OnnxModel::open(path, options, &mut times)?)
        };
        Ok(Self::of(path.to_path_buf(), source, options, times))
    }

    /// Opens an ONNX model in memory. Its tensors must all be inside.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn from_bytes(bytes: impl Into<Bytes>, options: &Options) -> Result<Self> {
        let (path, mut times) = (PathBuf::from("model"), Times::default());
        let source = OnnxModel::decode(&path, bytes.into(), None, options, &mut times)?;
        Ok(Self::of(path, Box::new(source), options, times))
    }

    /// The network of a spec, called `path` in errors.
    ///
    /// # Errors
    /// [`Error::Spec`], [`Error::Weights`] naming what does not fit.
    pub fn from_spec(spec: &Spec, path: PathBuf, options: &Options) -> Result<Self> {
        let mut times = Times::default();
        let source = times.stage("spec", || SpecModel::new(spec, folder_of(&path), options))?;
        Ok(Self::of(path, Box::new(source), options, times))
    }

    /// A network with random weights.
    ///
    /// # Errors
    /// [`Error::Build`] if the options do not fit it.
    pub fn from_architecture(architecture: Architecture, options: &Options) -> Result<Self> {
        let path = PathBuf::from(&architecture.name);
        Ok(Self::of(path, Box::new(SpecModel::random(architecture, options)?), options, Times::default()))
    }

    fn of(path: PathBuf, source: Box<dyn Source>, options: &Options, times: Times) -> Self {
        Self(Arc::new(Inner { path, source, times, options: options.clone(), cache: Mutex::default() }))
    }

    /// A model made of another one.
    #[cfg(feature = "train")]
    pub(crate) fn derived(from: &Model, source: Box<dyn Source>) -> Self {
        Self::of(from.path().to_path_buf(), source, from.options(), from.times().clone())
    }

    /// The file it was opened from.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// What it was read from.
    pub(crate) fn source(&self) -> &dyn Source {
        &*self.0.source
    }

    /// How it was opened.
    pub(crate) fn options(&self) -> &Options {
        &self.0.options
    }

    /// Its inputs as declared, open dimensions included.
    pub fn inputs(&self) -> &[InputDecl] {
        self.source().inputs()
    }

    /// Names of its outputs.
    pub fn outputs(&self) -> Vec<String> {
        self.source().outputs()
    }

    /// Inputs that have a value in the file: [`Options::fed`] makes them inputs that are given.
    pub fn defaults(&self) -> Vec<String> {
        self.source().defaults()
    }

    /// What an ONNX file holds whatever the shapes are: for those that leave dimensions open.
    pub fn outline(&self) -> Option<Outline> {
        self.source().outline()
    }

    /// Its key-value metadata.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        self.source().metadata()
    }

    /// Names of the classes, if the metadata has them (`labels`).
    ///
    /// # Errors
    /// [`Error::Input`] if the entry is not a JSON list of strings.
    pub fn labels(&self) -> Result<Option<Vec<String>>> {
        metadata::labels(self.metadata())
    }

    /// How a photo becomes its input, if the metadata says so (`preprocess`).
    ///
    /// # Errors
    /// [`Error::Input`] if the entry has unknown keys or values.
    pub fn preprocess(&self) -> Result<Option<Preprocess>> {
        metadata::preprocess(self.metadata())
    }

    /// What was chosen where a spec or its weights leave it open, a line each.
    pub fn notes(&self) -> &[String] {
        self.source().notes()
    }

    /// The network of a spec or preset.
    pub fn architecture(&self) -> Option<&Architecture> {
        self.source().architecture()
    }

    /// Whether it computes something else than its outputs.
    pub fn features(&self) -> Option<&Features> {
        self.options().features.as_ref()
    }

    /// The files that it was read from: the model, its external data, its state dict.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = vec![self.0.path.clone()];
        files.extend(self.source().files());
        files
    }

    /// The library that it was opened from, if it is one.
    pub fn library(&self) -> Option<&Library> {
        self.source().library()
    }

    /// Name of the network.
    ///
    /// # Errors
    /// As [`Model::graph`].
    pub fn name(&self, bindings: &Bindings) -> Result<String> {
        self.source().name(bindings)
    }

    /// Types and shapes of the inputs for `bindings`.
    ///
    /// # Errors
    /// As [`Model::graph`].
    pub fn input_ports(&self, bindings: &Bindings) -> Result<Vec<Port>> {
        self.source().input_ports(bindings)
    }

    /// The machine it is compiled for.
    ///
    /// # Errors
    /// [`Error::Usage`] if that is this machine, and it is of no supported architecture.
    pub fn target(&self) -> Result<Target> {
        self.source().target(self.options())
    }

    /// The time it took to open.
    pub fn times(&self) -> &Times {
        &self.0.times
    }

    /// The graph as imported.
    ///
    /// # Errors
    /// [`Error::Model`] if dimensions stay open, or an operator is not supported; [`Error::Usage`] for a compiled library.
    pub fn graph(&self, bindings: &Bindings) -> Result<Graph> {
        self.source().graph(bindings)
    }

    /// The graph after the graph passes, or after the one named `after`, with the remarks of all that ran.
    ///
    /// # Errors
    /// As [`Model::graph`]; [`Error::Compiler`] if a pass fails or has no such name.
    pub fn optimised(&self, bindings: &Bindings, after: Option<&str>) -> Result<Optimised> {
        compile::optimise(self.graph(bindings)?, after, self.options())
    }

    /// Graph and plan after every stage before emission, or after the one named `after` ([`fornax_compiler::pipeline::stages`]).
    ///
    /// # Errors
    /// As [`Model::plan`]; [`Error::Compiler`] if a stage fails or has no such name.
    pub fn planned(&self, bindings: &Bindings, after: Option<&str>) -> Result<Planned> {
        compile::planned(self.graph(bindings)?, &[self.target()?], after, self.options())
    }

    /// The plan: kernel calls, memory, constants.
    ///
    /// # Errors
    /// As [`Model::optimised`]; [`Error::Compiler`] if a node has no kernel, [`Error::Limit`] if the arena is too
    /// large.
    pub fn plan(&self, bindings: &Bindings) -> Result<Plan> {
        Ok(self.planned(bindings, None)?.plans.swap_remove(0))
    }

    /// What the model amounts to: parameters, operations, memory.
    ///
    /// # Errors
    /// As [`Model::plan`].
    pub fn stats(&self, bindings: &Bindings) -> Result<Stats> {
        self.source().stats(bindings, self.options())
    }

    /// The program for the shapes that `bindings` give, compiled if it is not among those kept.
    ///
    /// # Errors
    /// As [`Model::plan`]; [`Error::Usage`] if the target is not a machine like this one.
    pub fn bind(&self, bindings: &Bindings) -> Result<Arc<Compiled>> {
        self.bind_on(fornax_runtime::available_threads(), bindings)
    }

    /// [`Self::bind`], compiling on at most `threads` threads.
    pub(crate) fn bind_on(&self, threads: usize, bindings: &Bindings) -> Result<Arc<Compiled>> {
        if let Some(found) = self.lookup(|entry| entry.asked.contains(bindings)) {
            return Ok(found);
        }
        if let Some(compiled) = self.source().program(bindings, self.options())? {
            return Ok(self.keep(bindings, Arc::new(compiled)));
        }
        let (begun, mut times) = (Instant::now(), Times::default());
        let graph = times.stage("import", || self.graph(bindings))?;
        let shapes: Vec<Shape> = graph.inputs().iter().map(|id| graph.node(*id).ty.shape.clone()).collect();
        let named = self.inputs().iter().enumerate();
        let values = named.filter_map(|(at, input)| Some((at, bindings.values.get(&input.name)?.clone())));
        let values: Vec<(usize, Constant)> = values.collect();
        let same = |entry: &Entry| {
            let (compiled, own) = (&entry.compiled, entry.compiled.inputs().iter().map(|port| &port.shape));
            own.eq(shapes.iter()) && compiled.values == values
        };
        if let Some(found) = self.lookup(same) {
            let mut cache = self.0.cache.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(entry) = cache.first_mut().filter(|entry| Arc::ptr_eq(&entry.compiled, &found)) {
                entry.asked.push(bindings.clone());
            }
            return Ok(found);
        }
        let (target, release) = (self.target()?, || self.source().release_pages());
        let compiled = compile::compile(graph, &target, self.options(), threads, release, (begun, times))?;
        let compiled = Compiled { values, ..compiled };
        Ok(self.keep(bindings, Arc::new(compiled)))
    }

    fn keep(&self, bindings: &Bindings, compiled: Arc<Compiled>) -> Arc<Compiled> {
        let mut cache = self.0.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.insert(0, Entry { asked: vec![bindings.clone()], compiled: Arc::clone(&compiled) });
        cache.truncate(KEPT);
        compiled
    }

    /// The kept program that `fits`, which becomes the one used last.
    fn lookup(&self, fits: impl Fn(&Entry) -> bool) -> Option<Arc<Compiled>> {
        let mut cache = self.0.cache.lock().unwrap_or_else(PoisonError::into_inner);
        let at = cache.iter().position(fits)?;
        cache[..=at].rotate_right(1);
        Some(Arc::clone(&cache[0].compiled))
    }

    /// What the first output is: as the metadata says (`output`), else as the network ends.
    ///
    /// # Errors
    /// [`Error::Input`] if the metadata entry is unknown.
    pub fn scores(&self, compiled: &Compiled) -> Result<Scores> {
        Ok(metadata::scores(self.metadata())?.unwrap_or(compiled.scores))
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Model({})", self.0.path.display())
    }
}
