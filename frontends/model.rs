//! An opened model, compiled for each set of shapes when it is first asked for.
//!
//! In: a model file. Out: [`Compiled`] programs, of which the few used last are kept. A [`Model`] is a handle: clones
//! share the file and the programs, on any thread.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fornax_compiler::emit::jit;
use fornax_compiler::ir::Graph;
use fornax_compiler::passes::lower::lower;
use fornax_compiler::pipeline::{self, Optimised, optimise};
use fornax_compiler::plan::Plan;
use fornax_compiler::target::Target;
use fornax_compiler::times::Times;
use fornax_onnx::{Bindings, InputDecl, Limits, OnnxFile};
use fornax_runtime::{Port, Program, Shape};

use crate::classify::Scores;
use crate::error::{Error, Result};
use crate::metadata;
use crate::preprocess::Preprocess;
use crate::session::{Session, SessionOptions};
use crate::stats::{Counts, Stats};

/// How many programs a model keeps.
const KEPT: usize = 4;

/// How to open and compile a model.
#[derive(Clone, Debug)]
pub struct Options {
    /// The machine to compile for; `None` is this one.
    pub target: Option<Target>,
    /// Bounds on the file and its import.
    pub limits: Limits,
    /// The most bytes an arena may have.
    pub arena_bytes: u64,
    /// Verify the graph between passes.
    pub verify: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { target: None, limits: Limits::default(), arena_bytes: 1 << 34, verify: false }
    }
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
    bytes: Bytes,
    file: OnnxFile,
    metadata: BTreeMap<String, String>,
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

/// A model compiled for one set of shapes.
pub struct Compiled {
    program: Arc<Program>,
    stats: Stats,
    scores: Scores,
    kernels: usize,
    times: Times,
    time: Duration,
}

impl Model {
    /// Opens an ONNX file, to be compiled for this machine.
    ///
    /// # Errors
    /// [`Error`] naming the path, and what was expected of its contents.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(path, &Options::default())
    }

    /// Opens an ONNX file.
    ///
    /// # Errors
    /// As [`Model::open`].
    pub fn open_with(path: impl AsRef<Path>, options: &Options) -> Result<Self> {
        let path = path.as_ref();
        let mut times = Times::default();
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

    fn decode(path: PathBuf, bytes: Bytes, folder: Option<&Path>, options: &Options, mut times: Times) -> Result<Self> {
        match times.stage("decode", || OnnxFile::from_bytes(bytes.clone(), folder, &options.limits)) {
            Ok(file) => {
                let (metadata, options) = (file.metadata(), options.clone());
                Ok(Self(Arc::new(Inner { path, bytes, file, metadata, times, options, cache: Mutex::default() })))
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
        self.0.file.inputs()
    }

    /// Names of its outputs.
    pub fn outputs(&self) -> Vec<String> {
        self.0.file.outputs()
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

    /// The machine it is compiled for.
    ///
    /// # Errors
    /// [`Error::Usage`] if that is this machine, and it is of no supported architecture.
    pub fn target(&self) -> Result<Target> {
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
        self.0.file.import(bindings).map_err(|e| Error::Model { path: self.0.path.clone(), error: Box::new(e) })
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
        let mut cache = self.0.cache.lock().unwrap_or_else(PoisonError::into_inner);
        cache.insert(0, Entry { asked: vec![bindings.clone()], compiled: Arc::clone(&compiled) });
        cache.truncate(KEPT);
        Ok(compiled)
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
        times.stage("release", || fornax_runtime::release_pages(&self.0.bytes));
        let program = jit::compile_on(threads, &plan, &mut times)?;
        fornax_runtime::release_pages(&self.0.bytes);
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

impl Compiled {
    /// Name, type and shape of each input.
    pub fn inputs(&self) -> &[Port] {
        self.program.inputs()
    }

    /// Name, type and shape of each output.
    pub fn outputs(&self) -> &[Port] {
        self.program.outputs()
    }

    /// The program, for a session of one's own making.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// Parameters, operations, memory.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Number of distinct kernels.
    pub fn kernels(&self) -> usize {
        self.kernels
    }

    /// The stages from the decoded file to callable code.
    pub fn times(&self) -> &Times {
        &self.times
    }

    /// From the decoded file to callable code.
    pub fn compile_time(&self) -> Duration {
        self.time
    }
}

impl std::fmt::Debug for Compiled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Compiled({} steps, {} kernels)", self.program.steps().len(), self.kernels)
    }
}
