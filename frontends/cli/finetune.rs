//! `finetune`: from photos in folders of classes to a network that tells them apart.

use std::io::{IsTerminal, Write, stderr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fornax::ir::training::Optimiser;
use fornax::train::augment::Kind;
use fornax::train::dataset::{Dataset, DatasetOptions, Photo, Validation};
use fornax::train::finetune::{Balance, Event, FinetuneOptions, Finetuned, Flip, Flow, MicroBatch, Norms, finetune};
use fornax::train::folder::{Folder, Form};
use fornax::train::mix::Mix;
use fornax::train::options;
use fornax::train::recipe::Recipe;
use fornax::train::schedule::Shape;
use fornax::train::scope::Scope;
use fornax::{Error, ImageInput, Result};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::json;
use signal_hook::consts::SIGINT;
use signal_hook::flag;

use crate::dataset::validation;
use crate::image_options::ImageArgs;
use crate::model_options::ModelArgs;
use crate::output::Output;
use crate::train_options::{PhotoArgs, size};

/// How many photos that are there twice are listed.
const LISTED: usize = 8;

/// Arguments of `finetune`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Folder with `train` and `val`, each with a folder of photos for each class; or with the classes themselves.
    photos: PathBuf,
    /// Folder to write: the network (.onnx, .safetensors, of a spec or preset .toml, compiled), a report, the log, and what --resume goes on from.
    #[arg(short, long, value_name = "DIR")]
    output: PathBuf,
    /// Photos for validation: a folder with the same classes, or a share of each class; by default the `val` in the
    /// folder, else 0.2.
    #[arg(long, value_name = "DIR|SHARE", value_parser = validation)]
    val: Option<Validation>,
    /// Forms in which the network is written: onnx, safetensors (with the spec of a spec or preset), so (with its header). What begins with the
    /// folder of this run takes the ONNX file or the spec.
    #[arg(long, value_name = "FORMS", value_delimiter = ',', default_value = "onnx,safetensors,so")]
    emit: Vec<Form>,
    /// Go on from where the run in --output ended.
    #[arg(long)]
    resume: bool,
    #[command(flatten)]
    training: TrainingArgs,
    #[command(flatten)]
    read: PhotoArgs,
    #[command(flatten)]
    image: ImageArgs,
}

/// How it is trained.
#[derive(clap::Args)]
#[command(next_help_heading = "Training")]
struct TrainingArgs {
    /// What is trained: all, top:N (the last N stages) or head. The head comes first in any case: the last layer begins
    /// as the best linear classifier over the features, and head ends there.
    #[arg(long, value_name = "WHAT", default_value = "all")]
    train: Scope,
    /// Batch norms: fixed (they keep their statistics), train (they use the batch's, running averages follow) or stats
    /// (statistics are taken anew over the photos before training, then fixed).
    #[arg(long, value_name = "NAME", default_value = "fixed")]
    bn: Norms,
    /// How often each photo is seen.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    epochs: u32,
    /// Photos of a step.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    /// Photos that are computed at once, a number or auto. It changes memory and time, and no bit.
    #[arg(long, value_name = "N|auto", default_value = "auto")]
    micro_batch: MicroBatch,
    /// The most memory of the process, such as 200MB, photos in --photo-cache apart: fewer photos are computed at once, and values are computed
    /// again instead of kept. It changes time, and no bit.
    #[arg(long, value_name = "SIZE", value_parser = size)]
    memory: Option<u64>,
    /// The highest learning rate; auto looks for one by a short test.
    #[arg(long, value_name = "X|auto", default_value = "0.001", value_parser = rate)]
    lr: Rate,
    /// How the rate changes: cosine, onecycle or constant.
    #[arg(long, value_name = "NAME", default_value = "cosine")]
    schedule: Shape,
    /// Epochs in which the rate rises.
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    warmup: f64,
    /// What turns gradients into steps: adamw, sgd (with Nesterov's momentum), rmsprop-tf or lion.
    #[arg(long, value_name = "NAME", default_value = "adamw", value_parser = optimizer)]
    optimizer: Optimiser,
    /// Weight decay of what is neither a bias nor of a batch norm.
    #[arg(long, value_name = "X", default_value_t = 0.02)]
    weight_decay: f64,
    /// Factor on the rate of each stage from the last layer down: 0.8 trains early stages more slowly.
    #[arg(long, value_name = "X", default_value_t = 1.0)]
    layer_decay: f64,
    /// Cut gradients to this norm, over all parameters together.
    #[arg(long, value_name = "X")]
    clip: Option<f64>,
    /// Validate and write averages of the parameters over the steps, of which the old ones keep up to this share, such
    /// as 0.99.
    #[arg(long, value_name = "X")]
    ema: Option<f64>,
    /// Share of the target that goes to all classes alike.
    #[arg(long, value_name = "X", default_value_t = 0.05)]
    smoothing: f64,
    /// Share of the features that is dropped before the last layer.
    #[arg(long, value_name = "X", default_value_t = 0.2)]
    dropout: f64,
    /// Share of the images that skip the last residual block's branch; of the blocks before it proportionally fewer.
    #[arg(long, value_name = "X", default_value_t = 0.0)]
    drop_path: f64,
    /// Classes of unequal size: none, weights (rare ones count more) or sampler (rare ones come more often).
    #[arg(long, value_name = "NAME", default_value = "none")]
    balance: Balance,
    /// Blend photos with others, by shares of the beta distribution with this parameter, such as 0.2.
    #[arg(long, value_name = "A", default_value_t = 0.0)]
    mixup: f64,
    /// Put boxes of other photos into photos, of sizes by the beta distribution with this parameter, such as 1.
    #[arg(long, value_name = "A", default_value_t = 0.0)]
    cutmix: f64,
    /// How photos are changed: none, light (another crop, another light) or rand (another crop, RandAugment, random
    /// erasing).
    #[arg(long, value_name = "NAME", default_value = "light")]
    augment: Kind,
    /// Least and largest part of a photo's area that a crop takes; 0.6:1 by default.
    #[arg(long, value_name = "A:B", value_parser = parts)]
    crop_scale: Option<(f64, f64)>,
    /// Mirror half of the photos: auto (where a classifier that has seen no mirror image tells these as well as photos), on or off.
    #[arg(long, value_name = "auto|on|off", default_value = "auto")]
    flip: Flip,
    /// Stop after so many epochs without a lower loss on the validation.
    #[arg(long, value_name = "N")]
    patience: Option<u16>,
}

/// A learning rate; none is to be found.
#[derive(Clone, Copy)]
struct Rate(Option<f64>);

fn rate(text: &str) -> Result<Rate> {
    options::lr(text).map(Rate)
}

fn parts(text: &str) -> Result<(f64, f64), String> {
    let parts = text.split_once(':').and_then(|(least, most)| Some((least.parse().ok()?, most.parse().ok()?)));
    parts.ok_or_else(|| "expected A:B, such as 0.35:1".into())
}

/// Optimisers with their usual settings.
pub const OPTIMIZERS: [(&str, Optimiser); 4] = [
    ("adamw", Optimiser::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 }),
    ("sgd", Optimiser::Sgd { momentum: 0.9, nesterov: true }),
    ("rmsprop-tf", Optimiser::RmspropTf { decay: 0.9, momentum: 0.9, epsilon: 1e-3 }),
    ("lion", Optimiser::Lion { beta1: 0.9, beta2: 0.99 }),
];

/// The optimiser of a name.
pub fn optimizer(text: &str) -> Result<Optimiser, String> {
    let found = OPTIMIZERS.iter().find(|(name, _)| *name == text);
    found.map(|(_, optimiser)| *optimiser).ok_or_else(|| "expected adamw, sgd, rmsprop-tf or lion".into())
}

impl Args {
    fn options(&self) -> FinetuneOptions {
        let own = &self.training;
        FinetuneOptions {
            recipe: Recipe {
                scope: own.train,
                norms: own.bn,
                optimiser: own.optimizer,
                weight_decay: own.weight_decay,
                layer_decay: own.layer_decay,
                clip: own.clip,
                ema: own.ema,
                dropout: own.dropout,
                drop_path: own.drop_path,
            },
            epochs: own.epochs as usize,
            batch: own.batch as usize,
            micro_batch: own.micro_batch,
            lr: own.lr.0,
            schedule: own.schedule,
            warmup: own.warmup,
            smoothing: own.smoothing,
            balance: own.balance,
            mix: Mix { mixup: own.mixup, cutmix: own.cutmix },
            augment: own.augment,
            crop_scale: own.crop_scale,
            flip: own.flip,
            patience: own.patience.map(usize::from),
            seed: self.model.seed(),
            memory: own.memory,
            threads: self.read.threads(),
        }
    }
}

/// Runs the verb.
pub fn run(args: &Args, out: &mut Output<'_>) -> Result<()> {
    let options = args.options();
    options.check()?;
    fornax::runtime::keep_large_memory_apart();
    let dataset = Dataset::open(&args.photos, &DatasetOptions { validation: args.val.clone(), seed: options.seed })?;
    dataset.notes.iter().for_each(|note| out.note(&format!("note: {note}")));
    outside(&args.output, &args.photos)?;
    duplicates(&dataset, options.threads).iter().for_each(|line| out.warn(line));
    let model = args.model.open_for(dataset.classes.len())?;
    let (preprocess, source) = args.image.resolve(&model, &ImageInput::of(model.inputs())?)?;
    out.note(&format!("preprocess: {preprocess} ({source})"));
    let train = args.read.load(dataset.training, &preprocess, out)?;
    let val = args.read.load(dataset.validation, &preprocess, out)?;
    let photos = [train.photos(), val.photos()];
    let folder = Folder::open(&args.output, &model, photos, &options, args.resume)?;
    let saved = if args.resume { folder.saved()? } else { None };
    let mut watch = Watch::new(&folder, &dataset.classes, &options, out.json);
    let result = finetune(&model, (&train, &val), &dataset.classes, &options, saved, &mut |event| watch.hear(&event));
    watch.bar.finish_and_clear();
    let done = result?;
    if let Some(error) = watch.failed.take() {
        return Err(error);
    }
    let files = folder.write_model(&done, &dataset.classes, &val, &args.emit)?;
    report(args, &done, &files, out)
}

/// Fails if the folder of a run is among the photos, where it would be taken for a class.
fn outside(output: &Path, photos: &Path) -> Result<()> {
    let there = |path: &Path| {
        path.ancestors()
            .find_map(|part| if part.as_os_str().is_empty() { Path::new(".") } else { part }.canonicalize().ok())
    };
    let inside =
        there(output).zip(photos.canonicalize().ok()).is_some_and(|(output, photos)| output.starts_with(photos));
    if !inside {
        return Ok(());
    }
    let expected = format!("a folder outside that of the photos, {}", photos.display());
    Err(Error::usage("--output", expected, output.display().to_string()))
}

/// A line for each photo that is there twice and should not be: for training and for validation, or of several classes.
fn duplicates(dataset: &Dataset, threads: usize) -> Vec<String> {
    let photos: Vec<&Photo> = dataset.photos().collect();
    let mut lines = Vec::new();
    for group in dataset.equal(threads).into_iter().filter(|group| group.leak || group.conflict) {
        let why = match (group.leak, group.conflict) {
            (true, false) => "both to train and to validate",
            (false, _) => "of several classes",
            (true, true) => "both to train and to validate, and of several classes",
        };
        let names: Vec<String> =
            group.photos.iter().map(|at| dataset.relative(&photos[*at].path).display().to_string()).collect();
        lines.push(format!("the same photo, {why}: {}", names.join("  ")));
    }
    let more = lines.len().saturating_sub(LISTED);
    lines.truncate(LISTED);
    if more > 0 {
        lines.push(format!("and {more} more photos like these; `fornax dataset` lists all"));
    }
    lines
}

fn report(args: &Args, done: &Finetuned, files: &[PathBuf], out: &mut Output<'_>) -> Result<()> {
    let accuracy = done.evaluation.accuracy(1);
    if out.json {
        let files: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
        return out.json(&json!({
            "version": 1, "epochs": done.epochs.len(), "stopped": done.stopped, "val_accuracy": accuracy,
            "val_loss": done.evaluation.loss(), "files": files,
        }));
    }
    let photos = done.evaluation.len();
    let stopped = if done.stopped { "stopped; --resume goes on; " } else { "" };
    writeln!(out.to, "{stopped}{} epochs, validation {:.1} % of {photos}", done.epochs.len(), 100.0 * accuracy)?;
    files.iter().try_for_each(|file| writeln!(out.to, "{}", file.display()))?;
    let runs = ["so", "onnx", "toml"].map(|suffix| args.output.join("model").with_extension(suffix));
    let example = runs.iter().find(|path| files.contains(path));
    example.map_or(Ok(()), |path| Ok(writeln!(out.to, "try: fornax run {} --image PHOTO", path.display())?))
}

/// Shows how it goes, keeps what a later run goes on from, and listens to Ctrl-C.
struct Watch<'a> {
    folder: &'a Folder,
    classes: &'a [String],
    of: usize,
    bar: ProgressBar,
    quiet: bool,
    failed: Option<Error>,
    /// Set by the first Ctrl-C: the step under way is the last. The second one ends the process.
    interrupted: Arc<AtomicBool>,
}

impl<'a> Watch<'a> {
    fn new(folder: &'a Folder, classes: &'a [String], options: &FinetuneOptions, quiet: bool) -> Self {
        let interrupted = Arc::new(AtomicBool::new(false));
        // Without a handler Ctrl-C ends the process, and the last checkpoint is there.
        let _ = flag::register_conditional_shutdown(SIGINT, 130, Arc::clone(&interrupted));
        let _ = flag::register(SIGINT, Arc::clone(&interrupted));
        let bar = if stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} {msg} {eta} left in the epoch");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { folder, classes, of: options.epochs, bar, quiet, failed: None, interrupted }
    }

    fn hear(&mut self, event: &Event<'_>) -> Flow {
        match event {
            Event::Probed(probe) => {
                // Before the first epoch rather than after it.
                if let Err(error) = self.folder.make() {
                    self.failed = Some(error);
                    return Flow::Stop;
                }
                let best = probe.held_out.iter().find(|tried| tried.l2 == probe.l2);
                if let Some(best) = best {
                    self.say(&format!("linear classifier: {:.1} % held out, l2 {}", 100.0 * best.accuracy, best.l2));
                }
            }
            Event::Mirrored(found) => self.say(&found.line(self.classes)),
            Event::Rate(rate) => self.say(&format!("learning rate: {rate:.2e}")),
            Event::Step { epoch, done, steps, loss } => {
                self.bar.set_length(*steps as u64);
                self.bar.set_position(*done as u64);
                self.bar.set_prefix(format!("epoch {epoch}/{}", self.of));
                self.bar.set_message(format!("loss {loss:.4}"));
            }
            Event::Epoch(epochs, step) => {
                let Some(epoch) = epochs.last() else { return Flow::Continue };
                self.say(&format!(
                    "epoch {:>3}/{}  loss {:.4}  train {:.1} %  val loss {:.4}  val {:.1} %  {:.1} s",
                    epoch.number,
                    self.of,
                    epoch.loss,
                    100.0 * epoch.accuracy,
                    epoch.val_loss,
                    100.0 * epoch.val_accuracy,
                    epoch.time.as_secs_f64()
                ));
                if let Err(error) = self.folder.save(epochs, step.state_parts()) {
                    self.failed = Some(error);
                    return Flow::Stop;
                }
            }
        }
        if self.interrupted.load(Ordering::Relaxed) { Flow::Stop } else { Flow::Continue }
    }

    fn say(&self, line: &str) {
        if self.quiet {
            return;
        }
        // The bar is drawn anew below the line.
        self.bar.suspend(|| _ = writeln!(stderr(), "{line}"));
    }
}
