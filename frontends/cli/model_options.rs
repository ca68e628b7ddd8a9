//! The options that say which model, for which shapes, within which bounds, on how many threads.

use std::path::PathBuf;

use clap::Args;
use fornax::{Bindings, Dim, Error, LibrarySource, Limits, Model, Options, Result, Session, SessionOptions, Target};

/// Which model, and for which shapes.
#[derive(Args)]
pub struct ModelArgs {
    #[command(flatten)]
    pub file: FileArgs,
    /// Extent of an open dimension; `batch` is axis 0 of every input, and 1 by default.
    #[arg(long = "dim", value_name = "NAME=N", value_parser = pair::<usize>)]
    dims: Vec<(String, usize)>,
    /// Processor to compile for (see targets), or native: this one.
    #[arg(long, value_name = "NAME", default_value = "native", visible_alias = "target")]
    cpu: Cpu,
    /// File with the weights of a compiled library; by default those it holds, or those beside it.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    /// Check the hash of the weights that a compiled library holds, too.
    #[arg(long)]
    check: bool,
}

/// Which file, and how much it may ask for.
#[derive(Args)]
pub struct FileArgs {
    /// ONNX file, or library compiled from one.
    pub model: PathBuf,
    /// Bound on what a file may ask for: file_bytes, nodes, tensor_elements, rank, fold_elements, depth or arena_bytes.
    #[arg(long = "limit", value_name = "NAME=N", value_parser = pair::<u64>)]
    limits: Vec<(String, u64)>,
}

/// `NAME=VALUE`.
fn pair<T: std::str::FromStr>(text: &str) -> Result<(String, T), String> {
    let (name, value) = text.rsplit_once('=').ok_or("expected NAME=N")?;
    Ok((name.to_string(), value.parse().map_err(|_| format!("expected a whole number after `=`, found `{value}`"))?))
}

/// A processor to compile for; none is this machine's own.
#[derive(Clone)]
struct Cpu(Option<Target>);

impl std::str::FromStr for Cpu {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(if text == "native" { None } else { Some(text.parse()?) }))
    }
}

impl FileArgs {
    /// Opens the model with the options given, within the bounds asked for.
    pub fn open(&self, mut options: Options) -> Result<Model> {
        for (name, value) in &self.limits {
            let Limits { file_bytes, nodes, tensor_elements, rank, fold_elements, depth, .. } = &mut options.limits;
            let limit = match name.as_str() {
                "file_bytes" => file_bytes,
                "nodes" => nodes,
                "tensor_elements" => tensor_elements,
                "rank" => rank,
                "fold_elements" => fold_elements,
                "depth" => depth,
                "arena_bytes" => &mut options.arena_bytes,
                other => {
                    let expected = "file_bytes, nodes, tensor_elements, rank, fold_elements, depth or arena_bytes";
                    return Err(Error::usage("--limit", expected, other));
                }
            };
            *limit = *value;
        }
        Model::open_with(&self.model, &options)
    }
}

impl ModelArgs {
    /// Opens the model, to be compiled for the target asked for.
    pub fn open(&self) -> Result<Model> {
        self.open_with(Options::default())
    }

    /// [`Self::open`] with other defaults.
    pub fn open_with(&self, options: Options) -> Result<Model> {
        let library = LibrarySource { weights: self.weights.clone(), check_weights: self.check };
        let model = self.file.open(Options { target: self.cpu.0.clone(), library, ..options })?;
        if model.library().is_none() && (self.weights.is_some() || self.check) {
            return Err(Error::usage(
                "--weights and --check",
                "a compiled library",
                self.file.model.display().to_string(),
            ));
        }
        Ok(model)
    }

    /// The sizes given for the open dimensions of `model`.
    pub fn bindings(&self, model: &Model) -> Result<Bindings> {
        let known = dimensions(model);
        let mut bindings = Bindings::default();
        for (name, size) in &self.dims {
            check_dimension(&known, name)?;
            bindings.dims.insert(name.clone(), *size);
        }
        Ok(bindings)
    }
}

/// Names of the dimensions that `--dim` may give.
pub fn dimensions(model: &Model) -> Vec<String> {
    let mut known = vec!["batch".to_string()];
    for dim in model.inputs().iter().flat_map(|input| &input.dims) {
        if let Dim::Symbol(name) = dim
            && !known.contains(name)
        {
            known.push(name.clone());
        }
    }
    known
}

/// Refuses a name that is not among `known`.
pub fn check_dimension(known: &[String], name: &str) -> Result<()> {
    if known.iter().any(|other| other == name) {
        return Ok(());
    }
    Err(Error::usage("--dim", format!("a dimension of the model ({})", known.join(", ")), name))
}

/// How many threads.
#[derive(Args)]
pub struct ThreadArgs {
    /// Threads to run on; all processors by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Write /tmp/perf-PID.map, by which perf and other profilers know the kernels in memory by name.
    #[arg(long)]
    perf_map: bool,
}

impl ThreadArgs {
    /// A session that is compiled for `bindings`, on pinned threads where the affinity mask has enough processors.
    pub fn session(&self, model: &Model, bindings: Bindings) -> Result<Session> {
        let threads = self.threads.map_or(0, usize::from);
        let session = model.session(&SessionOptions { threads, pin: true, bindings })?;
        if let (true, Some(compiled)) = (self.perf_map, session.compiled()) {
            let path = format!("/tmp/perf-{}.map", std::process::id());
            fornax::write_file(&path, compiled.program().perf_map().as_bytes())?;
        }
        if let Some(cpu) = session.pool().caller_cpu() {
            // A refusal costs speed only.
            let _ = fornax::runtime::pin_current_thread(cpu);
        }
        Ok(session)
    }
}
