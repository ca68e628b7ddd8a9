//! The options that say which model, for which shapes, within which bounds, on how many threads.

use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use clap::Args;
use fornax::scaling::architecture::Padding;
use fornax::scaling::spec::MAX_INPUT_CHANNELS;
use fornax::{
    Bindings, Dim, Error, Features, InputDecl, LibrarySource, Limits, Model, Options, Precision, Result, ScaledOptions,
    Session, SessionOptions, Target,
};

/// Which model, and for which shapes.
#[derive(Args)]
pub struct ModelArgs {
    #[command(flatten)]
    pub file: FileArgs,
    /// Value for a symbolic dimension, or for an axis of an input (x.2=224); `batch` is axis 0 of every input, and 1 by default. A batch of
    /// 1 that the file fixes is opened again, where the network allows it.
    #[arg(long = "dim", value_name = "NAME=N", value_parser = pair::<usize>)]
    dims: Vec<(String, usize)>,
    /// Shape of an input that leaves it open: x=1x3x224x224.
    #[arg(long = "shape", value_name = "INPUT=NxN", value_parser = shape)]
    shapes: Vec<(String, Vec<usize>)>,
    /// CPU level to compile for (see targets), or native: that of this machine.
    #[arg(long, value_name = "NAME", default_value = "native")]
    cpu: Cpu,
    /// Weights: of a spec or preset a state dict (safetensors, or a PyTorch checkpoint), random ones by default; of a compiled library its weights file,
    /// by default the embedded ones or those in the file next to it.
    #[arg(long, value_name = "FILE")]
    weights: Option<PathBuf>,
    #[command(flatten)]
    scaled: ScaledArgs,
    /// Check the hash of the weights that a compiled library holds, too.
    #[arg(long)]
    check: bool,
}

/// What a spec or preset leaves open.
#[derive(Args, Clone)]
#[command(next_help_heading = "Specs and presets")]
pub struct ScaledArgs {
    /// Seed of random weights.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Outputs of the classifier; its weights are random unless the state dict has as many.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    classes: Option<u32>,
    /// Channels of the input; the stem of a state dict for 3 is adapted as timm does: summed for 1, else repeated.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=MAX_INPUT_CHANNELS as i64))]
    channels: Option<u32>,
    /// Tensors of the state dict to leave out, by name: a pattern with *, ? and [...]. May be given more than once.
    #[arg(long, value_name = "PATTERN")]
    ignore: Vec<String>,
    /// Resolution of the input: its side, or height and width.
    #[arg(long, visible_alias = "resolution", value_name = "N|HxW", value_parser = side)]
    side: Option<(usize, usize)>,
    /// Epsilon of batch norms, instead of that of the source of the weights.
    #[arg(long, value_name = "X", value_parser = eps)]
    eps: Option<f64>,
    /// Padding of strided convolutions, instead of that of the source of the weights: same or symmetric.
    #[arg(long, value_name = "NAME", value_parser = padding)]
    padding: Option<Padding>,
    /// Features to compute instead of the outputs: pooled (the input of the final linear layer; of ONNX files too), the last
    /// feature maps at these strides, such as 4,8,16,32, or stage: those at strides 2 to 32.
    #[arg(long, value_name = "WHAT", value_parser = features)]
    features: Option<Features>,
}

/// `N` or `HxW`.
fn side(text: &str) -> Result<(usize, usize), String> {
    let number = |text: &str| text.parse::<usize>().ok().filter(|n| (1..=16384).contains(n));
    let (height, width) = text.split_once('x').unwrap_or((text, text));
    number(height).zip(number(width)).ok_or_else(|| "expected pixels, 1 to 16384, or HxW".to_string())
}

fn eps(text: &str) -> Result<f64, String> {
    let value: Option<f64> = text.parse().ok();
    value.filter(|eps| *eps > 0.0 && *eps <= 1.0).ok_or_else(|| "expected a number above 0, up to 1".to_string())
}

fn padding(text: &str) -> Result<Padding, String> {
    match text {
        "same" => Ok(Padding::Same),
        "symmetric" => Ok(Padding::Symmetric),
        _ => Err("expected same or symmetric".to_string()),
    }
}

fn features(text: &str) -> Result<Features, String> {
    if text == "pooled" {
        return Ok(Features::Pooled);
    }
    if text == "stage" {
        return Ok(Features::Reductions(vec![2, 4, 8, 16, 32]));
    }
    let numbers: Result<Vec<usize>, _> = text.split(',').map(str::parse).collect();
    numbers.map(Features::Reductions).map_err(|_| "expected pooled, stage, or reductions such as 4,8,16,32".to_string())
}

impl ScaledArgs {
    /// The options for a spec or preset with these `weights`.
    pub fn apply(&self, weights: Option<PathBuf>, options: &mut Options) {
        options.scaled = ScaledOptions {
            weights,
            seed: self.seed.unwrap_or(0),
            classes: self.classes.map(|n| n as usize),
            channels: self.channels.map(|n| n as usize),
            ignore: self.ignore.clone(),
            side: self.side,
            eps: self.eps,
            padding: self.padding,
        };
        options.features = self.features.clone().or(options.features.take());
    }

    /// Outputs of the classifier, where they were given.
    pub fn classes(&self) -> Option<usize> {
        self.classes.map(|classes| classes as usize)
    }

    /// Refuses what only a spec or preset takes, of a verb that exchanges the classifier of any model itself.
    pub fn check_besides_classes(&self, model: &Model) -> Result<()> {
        Self { classes: None, ..self.clone() }.check(model)
    }

    /// Refuses what only a spec or preset takes.
    pub fn check(&self, model: &Model) -> Result<()> {
        let given = [
            (self.seed.is_some(), "--seed"),
            (self.classes.is_some(), "--classes"),
            (self.channels.is_some(), "--channels"),
            (!self.ignore.is_empty(), "--ignore"),
            (self.side.is_some(), "--side"),
            (self.eps.is_some(), "--eps"),
            (self.padding.is_some(), "--padding"),
        ];
        match given.iter().find(|(given, _)| *given && model.architecture().is_none()) {
            Some((_, flag)) => Err(Error::usage(*flag, "a spec or preset", model.path().display().to_string())),
            None => Ok(()),
        }
    }
}

/// Which file, and how much it may ask for.
#[derive(Args)]
pub struct FileArgs {
    /// ONNX file, spec (.toml), preset such as efficientnet-b0, or compiled library.
    pub model: PathBuf,
    /// Bound on what a file may ask for: file_bytes, nodes, tensor_elements, rank, fold_elements, depth or arena_bytes.
    #[arg(long = "limit", value_name = "NAME=N", value_parser = pair::<u64>)]
    limits: Vec<(String, u64)>,
    /// Value of an input of an ONNX file, which is none of its inputs then: shape=1,77,8. Booleans are 0 or 1.
    #[arg(long = "value", value_name = "INPUT=N,N", value_parser = value)]
    values: Vec<(String, Vec<f64>)>,
    /// Compute every value as it is defined, more slowly: without the Winograd form of convolutions, which rounds differently and lets an
    /// outlier or an infinity reach elements that do not depend on it.
    #[arg(long)]
    pub exact: bool,
    /// What convolutions compute in: f32, or bf16, which rounds maps and weights to 8 bits and is faster where the CPU has AMX.
    #[arg(long, value_name = "f32|bf16", default_value = "f32")]
    pub precision: Precision,
}

/// `NAME=VALUE`.
fn pair<T: std::str::FromStr>(text: &str) -> Result<(String, T), String> {
    let (name, value) = text.rsplit_once('=').ok_or("expected NAME=N")?;
    Ok((name.to_string(), value.parse().map_err(|_| format!("expected a whole number after `=`, found `{value}`"))?))
}

/// `INPUT=NxN`; nothing after `=` is a scalar.
pub fn shape(text: &str) -> Result<(String, Vec<usize>), String> {
    let (name, shape) = text.rsplit_once('=').ok_or("expected INPUT=NxN, such as x=1x3x224x224")?;
    let extents: Result<Vec<usize>, _> = shape.split('x').filter(|_| !shape.is_empty()).map(str::parse).collect();
    let extents = extents.map_err(|_| format!("expected extents such as 1x3x224x224 after `=`, found `{shape}`"))?;
    Ok((name.to_string(), extents))
}

/// `INPUT=N,N`; nothing after `=` is an empty list.
fn value(text: &str) -> Result<(String, Vec<f64>), String> {
    let (name, list) = text.rsplit_once('=').ok_or("expected INPUT=N,N, such as shape=1,77,8")?;
    let numbers: Result<Vec<f64>, _> = list.split(',').filter(|_| !list.is_empty()).map(|n| n.trim().parse()).collect();
    let numbers = numbers.map_err(|_| format!("expected numbers such as 1,77,8 after `=`, found `{list}`"))?;
    Ok((name.to_string(), numbers))
}

/// A CPU level to compile for; none is this machine's own.
#[derive(Clone)]
struct Cpu(Option<Target>);

impl std::str::FromStr for Cpu {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Ok(Self(if text == "native" { None } else { Some(text.parse()?) }))
    }
}

impl FileArgs {
    /// Refuses another precision than that of training.
    pub fn expect_single(&self) -> Result<()> {
        match self.precision {
            Precision::F32 => Ok(()),
            other => Err(Error::usage("--precision", "f32, which networks are trained in", other.to_string())),
        }
    }

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
        options.exact = self.exact;
        options.precision = self.precision;
        options.fixed = self.values.clone();
        let model = Model::open_with(&self.model, &options)?;
        if !self.values.is_empty() && (model.library().is_some() || model.architecture().is_some()) {
            return Err(Error::usage("--value", "an ONNX file", self.model.display().to_string()));
        }
        if self.precision != Precision::F32 && model.library().is_some() {
            let expected = "a model to compile (a library has been compiled in one precision)";
            return Err(Error::usage("--precision", expected, self.model.display().to_string()));
        }
        if self.exact && model.library().is_some() {
            let expected = "a model to compile (a library has been compiled: with or without it)";
            return Err(Error::usage("--exact", expected, self.model.display().to_string()));
        }
        Ok(model)
    }
}

impl ModelArgs {
    /// Opens the model, to be compiled for the target asked for.
    pub fn open(&self) -> Result<Model> {
        self.open_with(Options::default())
    }

    /// The precision asked for.
    pub fn precision(&self) -> Precision {
        self.file.precision
    }

    /// The seed given, or 0.
    pub fn seed(&self) -> u64 {
        self.scaled.seed.unwrap_or(0)
    }

    /// [`Self::open`], to be trained for so many classes; the seed is also that of the training.
    pub fn open_for(&self, classes: usize) -> Result<Model> {
        if let Some(given) = self.scaled.classes.filter(|given| *given as usize != classes) {
            return Err(Error::usage("--classes", format!("{classes}, one for each folder"), given.to_string()));
        }
        self.refuse_shapes()?;
        self.file.expect_single()?;
        let scaled = ScaledArgs { classes: u32::try_from(classes).ok(), ..self.scaled.clone() };
        let model = self.open_scaled(&scaled, Options::default())?;
        let own = ScaledArgs { classes: None, seed: None, ..self.scaled.clone() };
        own.check(&model)?;
        if model.library().is_some() {
            let expected = "an ONNX file, a spec or a preset, as a library cannot be trained";
            return Err(Error::usage("model", expected, self.file.model.display().to_string()));
        }
        Ok(model)
    }

    /// Refuses shapes of inputs, for verbs whose photos give them.
    pub fn refuse_shapes(&self) -> Result<()> {
        match self.shapes.first() {
            Some((name, _)) => Err(Error::usage("--shape", "none, as the photos give it", format!("one for {name}"))),
            None => Ok(()),
        }
    }

    /// [`Self::open`] with other defaults.
    pub fn open_with(&self, options: Options) -> Result<Model> {
        let model = self.open_scaled(&self.scaled, options)?;
        self.scaled.check(&model)?;
        Ok(model)
    }

    fn open_scaled(&self, scaled: &ScaledArgs, options: Options) -> Result<Model> {
        let library = LibrarySource { weights: self.weights.clone(), check_weights: self.check };
        let mut options = Options { target: self.cpu.0.clone(), library, ..options };
        scaled.apply(self.weights.clone(), &mut options);
        let model = self.file.open(options)?;
        let found = || self.file.model.display().to_string();
        if self.check && model.library().is_none() {
            return Err(Error::usage("--check", "a compiled library", found()));
        }
        if self.weights.is_some() && model.library().is_none() && model.architecture().is_none() {
            return Err(Error::usage("--weights", "a spec, a preset or a compiled library", found()));
        }
        // Standard error may be closed.
        model.notes().iter().for_each(|note| _ = writeln!(io::stderr(), "note: {}: {note}", self.file.model.display()));
        Ok(model)
    }

    /// The values given for the symbolic dimensions of `model`.
    pub fn bindings(&self, model: &Model) -> Result<Bindings> {
        let known = dimensions(model);
        let mut bindings = Bindings::default();
        for (name, size) in &self.dims {
            check_dimension(model, &known, name)?;
            bindings.dims.insert(name.clone(), *size);
        }
        bind_shapes(model, &self.shapes, &mut bindings)?;
        Ok(bindings)
    }
}

/// Adds the shapes given for inputs of `model` to `bindings`.
pub fn bind_shapes(model: &Model, shapes: &[(String, Vec<usize>)], bindings: &mut Bindings) -> Result<()> {
    let names = || model.inputs().iter().map(|input| input.name.as_str()).collect::<Vec<_>>().join(", ");
    for (name, shape) in shapes {
        if !model.inputs().iter().any(|input| input.name == *name) {
            return Err(Error::usage("--shape", format!("an input of the model ({})", names()), name.as_str()));
        }
        if bindings.shapes.insert(name.clone(), shape.clone()).is_some_and(|other| other != *shape) {
            return Err(Error::usage("--shape", "one shape for each input", format!("two for {name}")));
        }
    }
    Ok(())
}

/// The inputs of `model` with what `bindings` give of their shapes.
pub fn bound_inputs(model: &Model, bindings: &Bindings) -> Vec<InputDecl> {
    let extent = |input: &InputDecl, axis: usize, dim: &Dim| {
        let by_axis = bindings.dims.get(&format!("{}.{axis}", input.name));
        let by_name = match dim {
            Dim::Symbol(name) => bindings.dims.get(name),
            Dim::Known(1) if axis == 0 => bindings.dims.get("batch"),
            _ => None,
        };
        by_axis.or(by_name).map_or_else(|| dim.clone(), |extent| Dim::Known(*extent))
    };
    let bound = |input: &InputDecl| match bindings.shapes.get(&input.name) {
        Some(shape) => {
            InputDecl { dims: shape.iter().map(|n| Dim::Known(*n)).collect(), ranked: true, ..input.clone() }
        }
        None => {
            let dims = input.dims.iter().enumerate().map(|(axis, dim)| extent(input, axis, dim)).collect();
            InputDecl { dims, ..input.clone() }
        }
    };
    model.inputs().iter().map(bound).collect()
}

/// Refuses to write over what `model` was read from.
pub fn refuse_overwrite<'p>(model: &Model, paths: impl IntoIterator<Item = &'p Path>) -> Result<()> {
    refuse_overwrite_of(&model.files(), paths)
}

/// Refuses to write over the files that were `read`.
pub fn refuse_overwrite_of<'p>(read: &[PathBuf], paths: impl IntoIterator<Item = &'p Path>) -> Result<()> {
    let identity = |path: &Path| std::fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let read: Vec<_> = read.iter().filter_map(|path| identity(path)).collect();
    match paths.into_iter().find(|path| identity(path).is_some_and(|own| read.contains(&own))) {
        Some(path) => {
            Err(Error::usage("output", "another file than the model or its data", path.display().to_string()))
        }
        None => Ok(()),
    }
}

/// Names of the dimensions that `--dim` may give, without axes of inputs.
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

/// Refuses a name that is neither among `known` nor an axis of an input.
pub fn check_dimension(model: &Model, known: &[String], name: &str) -> Result<()> {
    let axis = |input: &InputDecl| {
        let axis = name.strip_prefix(&input.name).and_then(|rest| rest.strip_prefix('.'));
        axis.and_then(|axis| axis.parse::<usize>().ok()).is_some_and(|axis| axis < input.dims.len())
    };
    if known.iter().any(|other| other == name) || model.inputs().iter().any(axis) {
        return Ok(());
    }
    let expected = format!("a dimension of the model ({}), or an axis of an input such as x.2", known.join(", "));
    Err(Error::usage("--dim", expected, name))
}

/// What is odd about a model, on standard error, which may be closed.
pub fn note_all(model: &Model, notes: &[String]) {
    notes.iter().for_each(|note| _ = writeln!(io::stderr(), "note: {}: {note}", model.path().display()));
}

/// How many threads.
#[derive(Args)]
pub struct ThreadArgs {
    /// Threads to run on; one per CPU by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Write /tmp/perf-PID.map, by which perf and other profilers know the kernels in memory by name.
    #[arg(long)]
    perf_map: bool,
    /// Bind each thread to a processor of its own, on distinct cores as far as these go. So it is without this option where there
    /// is a thread for every processor; fewer are left to the system, as others may run on the same processors.
    #[arg(long)]
    pin: bool,
}

impl ThreadArgs {
    /// A session that is compiled for `bindings`, on pinned threads where they are asked for or fill the affinity mask.
    pub fn session(&self, model: &Model, bindings: Bindings) -> Result<Session> {
        let threads = self.threads.map_or_else(fornax::runtime::available_threads, usize::from);
        let pin = self.pin || threads == fornax::runtime::allowed_cpus().len();
        let session = model.session(&SessionOptions { threads, pin, bindings })?;
        if let Some(compiled) = session.compiled() {
            note_all(model, compiled.notes());
        }
        let given = session.pool().threads();
        if given < threads {
            // Standard error may be closed.
            _ = writeln!(io::stderr(), "warning: threads: {threads} wanted, the system gives {given}");
        }
        if let (true, Some(compiled)) = (self.perf_map, session.compiled()) {
            let path = format!("/tmp/perf-{}.map", std::process::id());
            fornax::write_private_file(&path, compiled.program().perf_map().as_bytes())?;
        }
        if let Some(cpu) = session.pool().caller_cpu() {
            // A refusal costs speed only.
            let _ = fornax::runtime::pin_current_thread(cpu);
        }
        Ok(session)
    }
}
