//! An opened model, compiled for each set of shapes when it is first asked for.
//!
//! In: a model file. Out: [`Compiled`] programs, of which the few used last are kept. A [`Model`] is a handle: clones
//! share the file and the programs, on any thread.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use fornax_compiler::emit::jit;
use fornax_compiler::ir::{Graph, NodeId};
use fornax_compiler::lower::lower;
use fornax_compiler::pipeline::{self, Optimised, optimise};
use fornax_compiler::plan::Plan;
use fornax_compiler::target::Target;
use fornax_compiler::times::Times;
use fornax_onnx::{Bindings, InputDecl, OnnxFile};
use fornax_runtime::{Library, LibraryOptions, Port, Shape};
use fornax_scaling::architecture::Architecture;
use fornax_scaling::spec::Spec;

use crate::classify::Scores;
use crate::compiled::Compiled;
use crate::error::{Error, Result};
use crate::features;
use crate::metadata;
use crate::options::{Features, LibrarySource, Options};
use crate::precompiled::Precompiled;
use crate::preprocess::Preprocess;
use crate::scaled::{Scaled, open_spec};
use crate::session::{Session, SessionOptions};
use crate::stats::{Counts, Stats};

/// How many programs a model keeps.
const KEPT: usize = 4;

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
    source: Source,
    metadata: BTreeMap<String, String>,
    times: Times,
    options: Options,
    /// The programs used last, latest first.
    cache: Mutex<Vec<Entry>>,
}

/// Where programs come from.
enum Source {
    /// They are compiled.
    Onnx { bytes: Bytes, file: Box<OnnxFile> },
    /// They are in a compiled library.
    Library(Precompiled),
    /// They are compiled from a spec.
    Scaled(Box<Scaled>),
}

struct Entry {
    /// What was asked for and led here.
    asked: Vec<Bindings>,
    compiled: Arc<Compiled>,
}

impl Model {
    /// Opens an ONNX file, to be compiled for this machine, or a library that was compiled for its kind.
    ///
    /// # Errors
    /// [`Error`] naming the path, and what was expected of its contents.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &Options::default())
    }

    /// Opens an ONNX file or a compiled library.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn open_with(path: impl AsRef<Path>, options: &Options) -> Result<Self> {
        let path = path.as_ref();
        let mut times = Times::default();
        if Library::is_library(path) {
            return Self::load(path, options, times);
        }
        if let Some(spec) = open_spec(path, options.limits.file_bytes)? {
            return Self::from_spec(&spec, path.to_path_buf(), options);
        }
        let bytes = times.stage("map", || fornax_runtime::map_file(path, options.limits.file_bytes))?;
        let folder = path.parent().map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p });
        Self::decode(path.to_path_buf(), bytes, folder, options, times)
    }

    /// Opens an ONNX model in memory. Its tensors must all be inside.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn from_bytes(bytes: impl Into<Bytes>, options: &Options) -> Result<Self> {
        Self::decode("model".into(), bytes.into(), None, options, Times::default())
    }

    /// The network of a spec, called `path` in errors.
    ///
    /// # Errors
    /// [`Error::Spec`], [`Error::Weights`] naming what does not fit.
    pub fn from_spec(spec: &Spec, path: PathBuf, options: &Options) -> Result<Self> {
        let mut times = Times::default();
        let bytes = options.limits.file_bytes;
        let scaled = times.stage("spec", || Scaled::new(spec, &options.scaled, options.features.as_ref(), bytes))?;
        let (metadata, options) = (scaled.metadata.clone(), options.clone());
        let source = Source::Scaled(Box::new(scaled));
        Ok(Self(Arc::new(Inner { path, source, metadata, times, options, cache: Mutex::default() })))
    }

    /// A network with random weights.
    ///
    /// # Errors
    /// [`Error::Build`] if the options do not fit it.
    pub fn from_architecture(architecture: Architecture, options: &Options) -> Result<Self> {
        let path = PathBuf::from(&architecture.name);
        let scaled = Scaled::random(architecture, &options.scaled, options.features.as_ref())?;
        let (metadata, options) = (BTreeMap::new(), options.clone());
        let source = Source::Scaled(Box::new(scaled));
        Ok(Self(Arc::new(Inner { path, source, metadata, times: Times::default(), options, cache: Mutex::default() })))
    }

    fn load(path: &Path, options: &Options, mut times: Times) -> Result<Self> {
        let LibrarySource { weights, check_weights } = options.library.clone();
        let library = LibraryOptions { check_weights, weights, file_bytes: options.limits.file_bytes };
        let library = times.stage("load", || Library::open_with(path, &library))?;
        let precompiled = times.stage("signature", || Precompiled::new(library, options.target.as_ref()))?;
        let (metadata, options, path) = (precompiled.signature.metadata.clone(), options.clone(), path.to_path_buf());
        let source = Source::Library(precompiled);
        Ok(Self(Arc::new(Inner { path, source, metadata, times, options, cache: Mutex::default() })))
    }

    fn decode(path: PathBuf, bytes: Bytes, folder: Option<&Path>, options: &Options, mut times: Times) -> Result<Self> {
        match times.stage("decode", || OnnxFile::from_bytes(bytes.clone(), folder, &options.limits)) {
            Ok(file) => {
                let (metadata, options) = (file.metadata(), options.clone());
                let source = Source::Onnx { bytes, file: Box::new(file) };
                Ok(Self(Arc::new(Inner { path, source, metadata, times, options, cache: Mutex::default() })))
            }
            Err(error) => Err(Error::Model { path, error: Box::new(error) }),
        }
    }

    /// The file it was opened from.
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Its inputs as declared, open dimensions included.
    pub fn inputs(&self) -> &[InputDecl] {
        match &self.0.source {
            Source::Onnx { file, .. } => file.inputs(),
            Source::Library(library) => &library.inputs,
            Source::Scaled(scaled) => &scaled.inputs,
        }
    }

    /// Names of its outputs.
    pub fn outputs(&self) -> Vec<String> {
        match &self.0.source {
            Source::Onnx { .. } if self.0.options.features.is_some() => vec![features::POOLED.to_string()],
            Source::Onnx { file, .. } => file.outputs(),
            Source::Library(library) => library.outputs.clone(),
            Source::Scaled(scaled) => scaled.output_names.clone(),
        }
    }

    /// Its key-value metadata.
    pub fn metadata(&self) -> &BTreeMap<String, String> {
        &self.0.metadata
    }

    /// Names of the classes, if the metadata has them (`labels`).
    ///
    /// # Errors
    /// [`Error::Input`] if the entry is not a JSON list of strings.
    pub fn labels(&self) -> Result<Option<Vec<String>>> {
        metadata::labels(&self.0.metadata)
    }

    /// How a photo becomes its input, if the metadata says so (`preprocess`).
    ///
    /// # Errors
    /// [`Error::Input`] if the entry has unknown keys or values.
    pub fn preprocess(&self) -> Result<Option<Preprocess>> {
        metadata::preprocess(&self.0.metadata)
    }

    /// What was chosen where a spec or its weights leave it open, a line each.
    pub fn notes(&self) -> &[String] {
        match &self.0.source {
            Source::Scaled(scaled) => &scaled.notes,
            Source::Onnx { .. } | Source::Library(_) => &[],
        }
    }

    /// The network of a spec or preset.
    pub fn architecture(&self) -> Option<&Architecture> {
        match &self.0.source {
            Source::Scaled(scaled) => Some(scaled.architecture()),
            Source::Onnx { .. } | Source::Library(_) => None,
        }
    }

    /// How it was opened.
    pub(crate) fn options(&self) -> &Options {
        &self.0.options
    }

    /// Whether it computes something else than its outputs.
    pub fn features(&self) -> Option<&Features> {
        self.0.options.features.as_ref()
    }

    /// The files that it was read from: the model, its external data, its state dict.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = vec![self.0.path.clone()];
        files.extend(self.0.options.scaled.weights.clone());
        if let Source::Onnx { file, .. } = &self.0.source {
            files.extend(file.external_files());
        }
        files
    }

    /// The library that it was opened from, if it is one.
    pub fn library(&self) -> Option<&Library> {
        match &self.0.source {
            Source::Onnx { .. } | Source::Scaled(_) => None,
            Source::Library(precompiled) => Some(&precompiled.library),
        }
    }

    /// Name of the network.
    ///
    /// # Errors
    /// As [`Model::graph`].
    pub fn name(&self, bindings: &Bindings) -> Result<String> {
        match &self.0.source {
            Source::Onnx { .. } => Ok(self.graph(bindings)?.name.clone()),
            Source::Scaled(scaled) => Ok(scaled.architecture().name.clone()),
            Source::Library(precompiled) => Ok(precompiled.signature.name.clone()),
        }
    }

    /// Types and shapes of the inputs for `bindings`.
    ///
    /// # Errors
    /// As [`Model::graph`].
    pub fn input_ports(&self, bindings: &Bindings) -> Result<Vec<Port>> {
        let file = match &self.0.source {
            Source::Onnx { .. } | Source::Scaled(_) => self.graph(bindings)?,
            Source::Library(precompiled) => {
                return Ok(precompiled.library.inputs(precompiled.find(bindings)?).to_vec());
            }
        };
        let port = |(input, id): (&InputDecl, &NodeId)| {
            let ty = &file.node(*id).ty;
            Port { name: input.name.clone(), dtype: ty.dtype, shape: ty.shape.clone() }
        };
        Ok(self.inputs().iter().zip(file.inputs()).map(port).collect())
    }

    /// Hash of the model's file.
    pub(crate) fn source_hash(&self) -> u64 {
        match &self.0.source {
            Source::Onnx { bytes, .. } => xxhash_rust::xxh3::xxh3_64(bytes),
            Source::Library(_) => 0,
            Source::Scaled(scaled) => xxhash_rust::xxh3::xxh3_64(format!("{:?}", scaled.architecture()).as_bytes()),
        }
    }

    /// Gives the pages of the model's file back to the system; they are read again where needed.
    pub(crate) fn release_pages(&self) {
        if let Source::Onnx { bytes, .. } = &self.0.source {
            fornax_runtime::release_pages(bytes);
        }
    }

    /// The machine it is compiled for.
    ///
    /// # Errors
    /// [`Error::Usage`] if that is this machine, and it is of no supported architecture.
    pub fn target(&self) -> Result<Target> {
        if let Source::Library(precompiled) = &self.0.source {
            return precompiled.level().parse().map_err(|e| Error::input("level of the library", "a target", e));
        }
        match &self.0.options.target {
            Some(target) => Ok(target.clone()),
            None => Target::host().map_err(|found| Error::usage("architecture", "x86_64 or aarch64", found)),
        }
    }

    /// The time it took to open.
    pub fn times(&self) -> &Times {
        &self.0.times
    }

    /// The graph as imported.
    ///
    /// # Errors
    /// [`Error::Model`] if dimensions stay open, or an operator is not supported.
    pub fn graph(&self, bindings: &Bindings) -> Result<Graph> {
        match &self.0.source {
            Source::Onnx { file, .. } => {
                let located = |e| Error::Model { path: self.0.path.clone(), error: Box::new(e) };
                let graph = file.import(bindings).map_err(located)?;
                match self.0.options.features {
                    Some(Features::Pooled) => features::pooled(graph),
                    Some(Features::Reductions(_)) => {
                        let found = format!("an ONNX file ({})", self.0.path.display());
                        Err(Error::usage("--features", "pooled, or a spec or preset", found))
                    }
                    None => Ok(graph),
                }
            }
            Source::Scaled(scaled) => scaled.graph(bindings),
            Source::Library(_) => {
                let found = format!("a compiled library ({})", self.0.path.display());
                Err(Error::usage("model", "an ONNX file, which has a graph", found))
            }
        }
    }

    /// The graph after the passes, or after the one named `after`, with the remarks of all that ran.
    ///
    /// # Errors
    /// As [`Model::graph`]; [`Error::Compiler`] if a pass fails or has no such name.
    pub fn optimised(&self, bindings: &Bindings, after: Option<&str>) -> Result<Optimised> {
        self.run_passes(self.graph(bindings)?, after)
    }

    pub(crate) fn run_passes(&self, graph: Graph, after: Option<&str>) -> Result<Optimised> {
        let verify = self.0.options.verify;
        let options = pipeline::Options { verify, after: after.map(str::to_string), ..Default::default() };
        Ok(optimise(graph, &options)?)
    }

    /// The plan: kernel calls, memory, constants.
    ///
    /// # Errors
    /// As [`Model::optimised`]; [`Error::Compiler`] if a node has no kernel, [`Error::Limit`] if the arena is too
    /// large.
    pub fn plan(&self, bindings: &Bindings) -> Result<Plan> {
        let optimised = self.optimised(bindings, None)?;
        self.lowered(&optimised.graph, &self.target()?)
    }

    pub(crate) fn lowered(&self, graph: &Graph, target: &Target) -> Result<Plan> {
        let plan = lower(graph, target)?;
        let (limit, needed) = (self.0.options.arena_bytes, plan.arena_bytes as u64);
        if needed > limit {
            return Err(Error::Limit { what: "arena bytes", limit, needed });
        }
        Ok(plan)
    }

    /// What the model amounts to: parameters, operations, memory.
    ///
    /// # Errors
    /// As [`Model::plan`].
    pub fn stats(&self, bindings: &Bindings) -> Result<Stats> {
        if let Source::Library(precompiled) = &self.0.source {
            return Ok(precompiled.signature.stats[precompiled.find(bindings)?].clone());
        }
        let graph = self.graph(bindings)?;
        let counts = Counts::of(&graph)?;
        let optimised = self.run_passes(graph, None)?;
        Ok(Stats::new(&counts, &optimised.graph, &self.lowered(&optimised.graph, &self.target()?)?))
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
        let begun = Instant::now();
        let mut times = Times::default();
        if let Source::Library(precompiled) = &self.0.source {
            let compiled = Arc::new(Compiled::from_library(precompiled, bindings, self.0.options.arena_bytes, begun)?);
            return Ok(self.keep(bindings, compiled));
        }
        let graph = times.stage("import", || self.graph(bindings))?;
        let shapes: Vec<Shape> = graph.inputs().iter().map(|id| graph.node(*id).ty.shape.clone()).collect();
        let same = |entry: &Entry| entry.compiled.inputs().iter().map(|port| &port.shape).eq(shapes.iter());
        if let Some(found) = self.lookup(same) {
            let mut cache = self.0.cache.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(entry) = cache.first_mut().filter(|entry| Arc::ptr_eq(&entry.compiled, &found)) {
                entry.asked.push(bindings.clone());
            }
            return Ok(found);
        }
        let compiled = Arc::new(self.compile(graph, begun, times, threads)?);
        Ok(self.keep(bindings, compiled))
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

    fn compile(&self, graph: Graph, begun: Instant, mut times: Times, threads: usize) -> Result<Compiled> {
        let target = self.target()?;
        let host = Target::host().map_err(|found| Error::usage("architecture", "x86_64 or aarch64", found))?;
        if !target.runs_here() {
            let found = target.to_string();
            return Err(Error::usage("target", format!("one that this machine ({host}) can run"), found));
        }
        let counts = times.stage("count", || Counts::of(&graph))?;
        let optimised = self.run_passes(graph, None)?;
        optimised.snapshots.iter().for_each(|snapshot| times.add(snapshot.pass, snapshot.time));
        let plan = times.stage("lower", || self.lowered(&optimised.graph, &target))?;
        // What decoding has touched: packing reads the file from its beginning and gives it back as it goes.
        times.stage("release", || self.release_pages());
        let program = jit::compile_on(threads, &plan, &mut times)?;
        self.release_pages();
        let (scores, stats) = times.stage("summary", || {
            (crate::stats::scores(&optimised.graph), Stats::new(&counts, &optimised.graph, &plan))
        });
        let kernels = fornax_compiler::emit::distinct(&plan).0.len();
        Ok(Compiled { program: Arc::new(program), scores, kernels, stats, times, time: begun.elapsed() })
    }

    /// What the first output is: as the metadata says (`output`), else as the network ends.
    ///
    /// # Errors
    /// [`Error::Input`] if the metadata entry is unknown.
    pub fn scores(&self, compiled: &Compiled) -> Result<Scores> {
        Ok(metadata::scores(&self.0.metadata)?.unwrap_or(compiled.scores))
    }

    /// A session on threads and memory of its own. It compiles at once if the options leave no dimension open, else for
    /// the shapes of the first run.
    ///
    /// # Errors
    /// As [`Model::bind`]; [`Error::Runtime`] if threads or memory cannot be had.
    pub fn session(&self, options: &SessionOptions) -> Result<Session> {
        Session::new(self.clone(), options)
    }
}

impl std::fmt::Debug for Model {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Model({})", self.0.path.display())
    }
}
