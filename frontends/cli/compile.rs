//! `compile`: a model to files that run without the compiler.

use std::path::{Path, PathBuf};
use std::time::Instant;

use fornax::compiler::{clif, disassembly, distinct_kernels};
use fornax::ir::training::Optimiser;
use fornax::runtime::Arch;
use fornax::train::library::artifacts;
use fornax::train::recipe::{Norms, Recipe};
use fornax::train::scope::Scope;
use fornax::{ArtifactOptions, Artifacts, Bindings, Emit, Error, Model, Options, Precision, Result, Target};
use serde_json::json;

use crate::finetune::{OPTIMIZERS, optimizer};
use crate::model_options::{FileArgs, ScaledArgs, bind_shapes, check_dimension, dimensions, refuse_overwrite, shape};
use crate::output::Output;
use crate::progress;

/// Arguments of `compile`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    file: FileArgs,
    /// Library to write; the other files are named after it, with their own suffix instead of `.so`. MODEL.so by default.
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Symbol prefix; the output's name by default.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// What to write: so, a, obj, header, weights, ir, plan, clif, asm.
    #[arg(long, value_name = "KINDS", value_delimiter = ',', default_value = "so,header")]
    emit: Vec<Kind>,
    /// CPU levels to compile for: multi (all of the architecture, chosen at run time), native (that of this machine), or a name
    /// (see targets).
    #[arg(long, value_name = "NAME", default_value = "multi")]
    cpu: String,
    /// Target triple: x86_64-unknown-linux-gnu or aarch64-unknown-linux-gnu; this machine's by default.
    #[arg(long, value_name = "TRIPLE")]
    target: Option<String>,
    /// Value for a symbolic dimension, or for an axis of an input (x.2=224); several, separated by commas, compile a shape specialization
    /// each, over the same weights. A batch of 1 that the file fixes is opened again, where the network allows it.
    #[arg(long = "dim", value_name = "NAME=N[,N]", value_parser = extents)]
    dims: Vec<(String, Vec<usize>)>,
    /// Shape of an input that leaves it open: x=1x3x224x224.
    #[arg(long = "shape", value_name = "INPUT=NxN", value_parser = shape)]
    shapes: Vec<(String, Vec<usize>)>,
    /// Where the weights go: embed (the default), or file (next to the library, with the suffix .weights); and, for a spec or
    /// preset, the state dict (.safetensors) they come from.
    #[arg(long, value_name = "WHERE|FILE")]
    weights: Vec<PathBuf>,
    #[command(flatten)]
    scaled: ScaledArgs,
    #[command(flatten)]
    step: StepArgs,
    /// Threads to compile on; one per CPU by default. The files do not depend on it.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    /// Show where the time goes.
    #[arg(long)]
    time_passes: bool,
}

/// What of the network the library trains.
#[derive(clap::Args)]
#[command(next_help_heading = "Training step")]
struct StepArgs {
    /// Compile a training step instead: functions that predict, update parameters and export them. What is trained: head, top:N (the
    /// last N stages) or all. With --classes N the last layer begins anew, for N classes.
    #[arg(long, value_name = "WHAT")]
    train: Option<Scope>,
    /// What turns gradients into steps: adamw, sgd (with Nesterov's momentum), rmsprop-tf or lion.
    #[arg(long, value_name = "NAME", default_value = "adamw", value_parser = optimizer, requires = "train")]
    optimizer: Optimiser,
    /// Weight decay of what is neither a bias nor of a batch norm.
    #[arg(long, value_name = "X", default_value_t = 0.0, requires = "train")]
    weight_decay: f64,
    /// Factor on the rate of each stage from the last layer down.
    #[arg(long, value_name = "X", default_value_t = 1.0, requires = "train")]
    layer_decay: f64,
    /// Batch norms: fixed (they keep their statistics) or train (they use those of the images of a run, of which --dim says how many; running averages
    /// follow).
    #[arg(long, value_name = "NAME", default_value = "fixed", requires = "train")]
    bn: Norms,
    /// Cut gradients to this norm, over all parameters together.
    #[arg(long, value_name = "X", requires = "train")]
    clip: Option<f64>,
    /// Predict with averages of the parameters over the steps, of which the old ones keep up to this share, and export them.
    #[arg(long, value_name = "X", requires = "train")]
    ema: Option<f64>,
    /// Share of the features that is dropped before the last layer, drawn from the seed, epoch and key of each image.
    #[arg(long, value_name = "X", default_value_t = 0.0, requires = "train")]
    dropout: f64,
    /// Share of the images that skip the last residual block's branch; of the blocks before it proportionally fewer.
    #[arg(long, value_name = "X", default_value_t = 0.0, requires = "train")]
    drop_path: f64,
}

/// A kind of output.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Artifact(Emit),
    Ir,
    Plan,
    Clif,
    Asm,
}

/// Those that are text for people.
const TEXTS: [(Kind, &str); 4] = [(Kind::Ir, "ir"), (Kind::Plan, "plan"), (Kind::Clif, "clif"), (Kind::Asm, "asm")];

impl std::str::FromStr for Kind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match TEXTS.iter().find(|(_, name)| *name == text) {
            Some((kind, _)) => Ok(*kind),
            None => text.parse().map(Self::Artifact).map_err(|e| format!("{e}, ir, plan, clif, asm")),
        }
    }
}

impl Kind {
    fn suffix(self) -> &'static str {
        match self {
            Self::Artifact(emit) => emit.suffix(),
            text => TEXTS.iter().find(|(kind, _)| *kind == text).map_or("", |(_, name)| name),
        }
    }
}

/// `NAME=N[,N]`.
fn extents(text: &str) -> Result<(String, Vec<usize>), String> {
    let (name, values) = text.rsplit_once('=').ok_or("expected NAME=N or NAME=N,N")?;
    let number = |value: &str| value.parse().map_err(|_| format!("expected whole numbers after `=`, found `{values}`"));
    Ok((name.to_string(), values.split(',').map(number).collect::<Result<_, _>>()?))
}

/// Runs the verb.
pub fn run(args: &Args, out: &mut Output<'_>) -> Result<()> {
    let begun = Instant::now();
    let targets = targets(args)?;
    let (embed, weights) = weights(&args.weights)?;
    let mut options = Options { target: targets.last().cloned(), ..Options::default() };
    args.scaled.apply(weights.clone(), &mut options);
    let model = args.file.open(options)?;
    match args.step.train {
        Some(_) => {
            args.file.expect_single()?;
            args.scaled.check_besides_classes(&model)?;
        }
        None => args.scaled.check(&model)?,
    }
    if weights.is_some() && model.architecture().is_none() {
        return Err(Error::usage("--weights FILE", "a spec or preset", args.file.model.display().to_string()));
    }
    model.notes().iter().for_each(|note| out.note(&format!("note: {}: {note}", args.file.model.display())));
    if model.library().is_some() {
        let found = format!("a compiled library ({})", args.file.model.display());
        return Err(Error::usage("model", "an ONNX file", found));
    }
    let classes = args.scaled.classes().filter(|_| args.step.train.is_some());
    let model = classes.map_or(Ok(model.clone()), |classes| model.for_classes(classes, None))?;
    let bindings = bindings(args, &model)?;
    let stem = Path::new(args.file.model.file_stem().unwrap_or_default());
    let output = args.output.clone().unwrap_or_else(|| with_suffix(stem, "so"));
    if output.is_dir() || output.as_os_str().as_encoded_bytes().ends_with(b"/") {
        return Err(Error::usage("--output", "the path of a file", format!("a folder ({})", output.display())));
    }
    let options = ArtifactOptions {
        name: args.name.clone().map_or_else(|| identifier(&output), Ok)?,
        targets,
        bindings,
        embed,
        threads: args.threads.map_or(0, usize::from),
        flags: flags(args),
    };
    let mut kinds = args.emit.clone();
    let code = |kind: &Kind| matches!(kind, Kind::Artifact(emit) if emit.holds_code());
    if !options.embed && kinds.iter().any(code) {
        kinds.push(Kind::Artifact(Emit::Weights));
    }
    kinds.sort_by_key(|kind| kind.suffix());
    kinds.dedup();
    let emit: Vec<Emit> =
        kinds.iter().filter_map(|kind| if let Kind::Artifact(emit) = kind { Some(*emit) } else { None }).collect();
    if let Some(text) = kinds.iter().find(|kind| args.step.train.is_some() && !matches!(kind, Kind::Artifact(_))) {
        return Err(Error::usage("--emit", "so, a, obj, header or weights with --train", text.suffix()));
    }
    let mut result = progress::during("compiling", || match args.step.train {
        Some(scope) => artifacts(&model, &args.step.recipe(scope), &options, &emit),
        None => model.artifacts(&options, &emit),
    })?;
    result.notes.iter().for_each(|note| out.note(&format!("note: {}: {note}", args.file.model.display())));
    let mut texts = Vec::new();
    for kind in kinds.iter().filter(|kind| !matches!(kind, Kind::Artifact(_))) {
        texts.push((with_suffix(&base(&output), kind.suffix()), text(*kind, &model, &options)?));
    }
    let writing = Instant::now();
    let written = write(&model, &output, &result, &texts)?;
    result.times.add("write", writing.elapsed());
    report(args, &result, &written, begun, out)
}

impl StepArgs {
    fn recipe(&self, scope: Scope) -> Recipe {
        Recipe {
            scope,
            norms: self.bn,
            optimiser: self.optimizer,
            weight_decay: self.weight_decay,
            layer_decay: self.layer_decay,
            clip: self.clip,
            ema: self.ema,
            dropout: self.dropout,
            drop_path: self.drop_path,
        }
    }

    /// As they were given.
    fn flags(&self, classes: Option<usize>) -> Vec<String> {
        let Some(train) = self.train else { return Vec::new() };
        let mut flags = vec![format!("--train={train}"), format!("--weight-decay={}", self.weight_decay)];
        let named = OPTIMIZERS.iter().find(|(_, optimiser)| *optimiser == self.optimizer);
        flags.extend(named.map(|(name, _)| format!("--optimizer={name}")));
        flags.extend((self.bn == Norms::Trained).then(|| "--bn=train".to_string()));
        for (flag, value, default) in [
            ("layer-decay", Some(self.layer_decay), Some(1.0)),
            ("clip", self.clip, None),
            ("ema", self.ema, None),
            ("dropout", Some(self.dropout), Some(0.0)),
            ("drop-path", Some(self.drop_path), Some(0.0)),
        ] {
            flags.extend(value.filter(|_| value != default).map(|value| format!("--{flag}={value}")));
        }
        flags.extend(classes.map(|classes| format!("--classes={classes}")));
        flags
    }
}

/// Whether the weights are embedded, and the state dict they come from.
fn weights(given: &[PathBuf]) -> Result<(bool, Option<PathBuf>)> {
    let place = |path: &&PathBuf| path.as_os_str() == "embed" || path.as_os_str() == "file";
    let (places, files): (Vec<_>, Vec<_>) = given.iter().partition(place);
    if places.len() > 1 || files.len() > 1 {
        let found: Vec<String> = given.iter().map(|path| path.display().to_string()).collect();
        return Err(Error::usage("--weights", "embed or file, and at most one state dict", found.join(", ")));
    }
    Ok((places.first().is_none_or(|place| place.as_os_str() == "embed"), files.first().map(|path| path.to_path_buf())))
}

/// The levels to compile for.
fn targets(args: &Args) -> Result<Vec<Target>> {
    let host = || Target::host().map_err(|found| Error::usage("architecture", "x86_64 or aarch64", found));
    let arch = match args.target.as_deref() {
        None => match args.cpu.parse::<Target>() {
            Ok(target) => target.arch(),
            Err(_) => host()?.arch(),
        },
        // The files import nothing, so they are the same for every C library.
        Some("x86_64-unknown-linux-gnu" | "x86_64-unknown-linux-musl") => Arch::X86_64,
        Some("aarch64-unknown-linux-gnu" | "aarch64-unknown-linux-musl") => Arch::Aarch64,
        Some(other) => {
            return Err(Error::usage("--target", "x86_64-unknown-linux-gnu or aarch64-unknown-linux-gnu", other));
        }
    };
    let target = match args.cpu.as_str() {
        "multi" => return Ok(Target::multi(arch)),
        "native" => host()?,
        name => name.parse().map_err(|_| {
            let names: Vec<String> = Target::all().map(|target| target.to_string()).collect();
            Error::usage("--cpu", format!("multi, native or one of {}", names.join(", ")), name)
        })?,
    };
    if target.arch() != arch {
        return Err(Error::usage(
            "--cpu",
            format!("a CPU level of --target {}", args.target.as_deref().unwrap_or("")),
            target.to_string(),
        ));
    }
    // What is known of this machine's caches stays out of the file.
    Ok(vec![Target::new(target.level)])
}

/// Every combination of the extents given, the last dimension varying first.
fn bindings(args: &Args, model: &Model) -> Result<Vec<Bindings>> {
    let known = dimensions(model);
    let mut all = vec![Bindings::default()];
    bind_shapes(model, &args.shapes, &mut all[0])?;
    for (name, values) in &args.dims {
        check_dimension(model, &known, name)?;
        let with = |bindings: &Bindings, value: &usize| {
            let mut bindings = bindings.clone();
            bindings.dims.insert(name.clone(), *value);
            bindings
        };
        all = all.iter().flat_map(|bindings| values.iter().map(move |value| with(bindings, value))).collect();
    }
    for (number, bindings) in all.iter().enumerate() {
        if all[..number].contains(bindings) {
            return Err(Error::usage("--dim", "different sets of shapes", format!("{:?} twice", bindings.dims)));
        }
    }
    Ok(all)
}

/// The output's name as a C identifier.
fn identifier(output: &Path) -> Result<String> {
    let base = base(output);
    let Some(stem) = base.file_name().and_then(|stem| stem.to_str()) else {
        let found = output.display().to_string();
        return Err(Error::usage("--name", "a C identifier, as the output's name is none", found));
    };
    let name: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    if name.is_empty() {
        return Err(Error::usage("--output", "the path of a file", output.display().to_string()));
    }
    let digit = name.starts_with(|c: char| c.is_ascii_digit());
    Ok(if digit { format!("_{name}") } else { name })
}

/// The options that shape the code, as they were given.
fn flags(args: &Args) -> Vec<String> {
    let embed = weights(&args.weights).is_ok_and(|(embed, _)| embed);
    let mut flags = vec![format!("--cpu={}", args.cpu), format!("--weights={}", if embed { "embed" } else { "file" })];
    flags.extend(args.file.exact.then(|| "--exact".to_string()));
    let precision = args.file.precision;
    flags.extend((precision != Precision::F32).then(|| format!("--precision={precision}")));
    flags.extend(args.step.flags(args.scaled.classes()));
    flags.extend(args.target.iter().map(|target| format!("--target={target}")));
    flags.extend(args.dims.iter().map(|(name, values)| {
        let values: Vec<String> = values.iter().map(usize::to_string).collect();
        format!("--dim={name}={}", values.join(","))
    }));
    flags.extend(args.shapes.iter().map(|(name, shape)| {
        let extents: Vec<String> = shape.iter().map(usize::to_string).collect();
        format!("--shape={name}={}", extents.join("x"))
    }));
    flags
}

/// The first binding on its last level, as text.
fn text(kind: Kind, model: &Model, options: &ArtifactOptions) -> Result<String> {
    let bindings = &options.bindings[0];
    if kind == Kind::Ir {
        return Ok(model.optimised(bindings, None)?.graph.to_string());
    }
    let plan = model.plan(bindings)?;
    if kind == Kind::Plan {
        return Ok(plan.to_string());
    }
    let mut text = String::new();
    for kernel in distinct_kernels(&plan).0 {
        if kind == Kind::Clif {
            text.push_str(&clif(kernel, &plan.target)?);
        } else {
            text.push_str(&format!("{}:\n{}", kernel.name, disassembly(kernel, &plan.target)?));
        }
        text.push('\n');
    }
    Ok(text)
}

/// A path with a suffix after what it has.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_os_string();
    path.push(format!(".{suffix}"));
    path.into()
}

/// The output without the suffix of a file that is written here.
fn base(output: &Path) -> PathBuf {
    let known = |suffix: &str| Emit::ALL.iter().any(|(.., s)| *s == suffix) || TEXTS.iter().any(|(_, s)| *s == suffix);
    match output.extension().and_then(|suffix| suffix.to_str()) {
        Some(suffix) if known(suffix) => output.with_extension(""),
        _ => output.to_path_buf(),
    }
}

/// Path of the shared library: the output itself, unless that has another file's suffix.
fn library(output: &Path) -> PathBuf {
    let base = base(output);
    let own = base == output || output.extension().is_some_and(|suffix| suffix == Emit::So.suffix());
    if own { output.to_path_buf() } else { with_suffix(&base, Emit::So.suffix()) }
}

/// The order in which files appear: the weights before the library that needs them, and that last, when all it goes with is there.
fn order(path: &Path) -> u8 {
    match path.extension().and_then(|suffix| suffix.to_str()) {
        Some("weights") => 0,
        Some("h" | "ir" | "plan" | "clif" | "asm") => 1,
        _ => 2,
    }
}

/// Writes all files, or none.
fn write(
    model: &Model,
    output: &Path,
    result: &Artifacts,
    texts: &[(PathBuf, String)],
) -> Result<Vec<(PathBuf, usize)>> {
    let mut files: Vec<(PathBuf, Vec<&[u8]>)> = Vec::new();
    for file in &result.files {
        let path = if file.kind == Emit::So { library(output) } else { with_suffix(&base(output), file.kind.suffix()) };
        files.push((path, file.parts.iter().map(|part| &part[..]).collect()));
    }
    files.extend(texts.iter().map(|(path, text)| (path.clone(), vec![text.as_bytes()])));
    refuse_overwrite(model, files.iter().map(|(path, _)| path.as_path()))?;
    let mut list: Vec<(&Path, &[&[u8]])> = files.iter().map(|(path, parts)| (path.as_path(), &parts[..])).collect();
    list.sort_by_key(|(path, _)| order(path));
    fornax::write_files(&list)?;
    Ok(files.iter().map(|(path, parts)| (path.clone(), parts.iter().map(|part| part.len()).sum())).collect())
}

fn report(
    args: &Args,
    result: &Artifacts,
    written: &[(PathBuf, usize)],
    begun: Instant,
    out: &mut Output<'_>,
) -> Result<()> {
    let ms = begun.elapsed().as_secs_f64() * 1e3;
    if out.json {
        let files: Vec<_> =
            written.iter().map(|(path, bytes)| json!({"path": path.display().to_string(), "bytes": bytes})).collect();
        let stages: Vec<_> =
            result.times.iter().map(|(stage, time)| json!({"stage": stage, "ms": time.as_secs_f64() * 1e3})).collect();
        return out.json(&json!({
            "version": 1,
            "files": files,
            "kernels": result.kernels,
            "kernel_bytes": result.kernel_bytes,
            "weights_bytes": result.weights_bytes,
            "arena_bytes": result.arena_bytes,
            "compile_ms": ms,
            "stages": stages,
        }));
    }
    for (path, bytes) in written {
        writeln!(out.to, "{:<28} {bytes:>12} bytes", path.display())?;
    }
    let (kernels, code, weights) = (result.kernels, result.kernel_bytes, result.weights_bytes);
    if kernels > 0 {
        writeln!(out.to, "{:<28} {kernels} kernels of {code} bytes, weights of {weights} bytes", "holds")?;
    }
    writeln!(out.to, "{:<28} {ms:.0} ms", "compiled in")?;
    for (stage, time) in result.times.iter().filter(|_| args.time_passes) {
        writeln!(out.to, "  {stage:<26} {:9.3} ms", time.as_secs_f64() * 1e3)?;
    }
    Ok(())
}
