//! `finetune`: from photos in folders of classes to a network that tells them apart.

use std::io::{IsTerminal, Write, stderr};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fornax::ir::training::Optimiser;
use fornax::train::augment::Kind;
use fornax::train::dataset::{Dataset, DatasetOptions, Validation};
use fornax::train::finetune::{Event, FinetuneOptions, Finetuned, Flow, finetune};
use fornax::train::folder::Folder;
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
use crate::train_options::PhotoArgs;

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
    /// Photos for validation: a folder with the same classes, or a share of each class; by default the `val` in the folder, else 0.2.
    #[arg(long, value_name = "DIR|SHARE", value_parser = validation)]
    val: Option<Validation>,
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
    /// What is trained: head, top:N (the last N stages) or all. The last layer begins as the best linear classifier over the features.
    #[arg(long, value_name = "WHAT", default_value = "all")]
    train: Scope,
    /// How often each photo is seen.
    #[arg(long, value_name = "N", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    epochs: u32,
    /// Photos of a step.
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch: u32,
    /// The highest learning rate.
    #[arg(long, value_name = "X", default_value_t = 1e-3)]
    lr: f64,
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
    /// Share of the target that goes to all classes alike.
    #[arg(long, value_name = "X", default_value_t = 0.05)]
    smoothing: f64,
    /// Share of the features that is dropped before the last layer.
    #[arg(long, value_name = "X", default_value_t = 0.2)]
    dropout: f64,
    /// How photos are changed: none, or light (another crop, another light).
    #[arg(long, value_name = "NAME", default_value = "light")]
    augment: Kind,
    /// Mirror half of the photos. Not for digits, text, or what has a left and a right.
    #[arg(long)]
    flip: bool,
    /// Stop after so many epochs without a lower loss on the validation.
    #[arg(long, value_name = "N")]
    patience: Option<u16>,
}

/// An optimiser with its usual settings.
pub fn optimizer(text: &str) -> Result<Optimiser, String> {
    Ok(match text {
        "adamw" => Optimiser::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
        "sgd" => Optimiser::Sgd { momentum: 0.9, nesterov: true },
        "rmsprop-tf" => Optimiser::RmspropTf { decay: 0.9, momentum: 0.9, epsilon: 1e-3 },
        "lion" => Optimiser::Lion { beta1: 0.9, beta2: 0.99 },
        _ => return Err("expected adamw, sgd, rmsprop-tf or lion".into()),
    })
}

impl Args {
    fn options(&self) -> FinetuneOptions {
        let TrainingArgs { train, epochs, batch, lr, schedule, warmup, optimizer, .. } = self.training;
        let TrainingArgs { weight_decay, smoothing, dropout, augment, flip, patience, .. } = self.training;
        FinetuneOptions {
            scope: train,
            epochs: epochs as usize,
            batch: batch as usize,
            lr,
            schedule,
            warmup,
            optimiser: optimizer,
            weight_decay,
            smoothing,
            dropout,
            augment,
            flip,
            patience: patience.map(usize::from),
            seed: self.model.seed(),
            threads: self.read.threads(),
        }
    }
}

/// Runs the verb.
pub fn run(args: &Args, out: &mut Output<'_>) -> Result<()> {
    let options = args.options();
    let dataset = Dataset::open(&args.photos, &DatasetOptions { validation: args.val.clone(), seed: options.seed })?;
    dataset.notes.iter().for_each(|note| out.note(&format!("note: {note}")));
    let model = args.model.open_for(dataset.classes.len())?;
    let (preprocess, source) = args.image.resolve(&model, &ImageInput::of(model.inputs())?)?;
    out.note(&format!("preprocess: {preprocess} ({source})"));
    let train = args.read.load(dataset.training, &preprocess, out)?;
    let val = args.read.load(dataset.validation, &preprocess, out)?;
    let photos = [train.photos(), val.photos()];
    let folder = Folder::open(&args.output, &model, photos, &options, args.resume)?;
    let saved = if args.resume { folder.saved()? } else { None };
    let mut watch = Watch::new(&folder, &options, out.json);
    let result = finetune(&model, (&train, &val), &dataset.classes, &options, saved, &mut |event| watch.hear(&event));
    watch.bar.finish_and_clear();
    let done = result?;
    if let Some(error) = watch.failed.take() {
        return Err(error);
    }
    let files = folder.write_model(&done, &dataset.classes, &val)?;
    report(args, &done, &files, out)
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
    let example = args.output.join("model.so");
    Ok(writeln!(out.to, "try: fornax run {} --image PHOTO", example.display())?)
}

/// Shows how it goes, keeps what a later run goes on from, and listens to Ctrl-C.
struct Watch<'a> {
    folder: &'a Folder,
    of: usize,
    bar: ProgressBar,
    quiet: bool,
    failed: Option<Error>,
    /// Set by the first Ctrl-C: the step under way is the last. The second one ends the process.
    interrupted: Arc<AtomicBool>,
}

impl<'a> Watch<'a> {
    fn new(folder: &'a Folder, options: &FinetuneOptions, quiet: bool) -> Self {
        let interrupted = Arc::new(AtomicBool::new(false));
        // Without a handler Ctrl-C ends the process, and the last checkpoint is there.
        let _ = flag::register_conditional_shutdown(SIGINT, 130, Arc::clone(&interrupted));
        let _ = flag::register(SIGINT, Arc::clone(&interrupted));
        let bar = if stderr().is_terminal() { ProgressBar::new(0) } else { ProgressBar::hidden() };
        let style = ProgressStyle::with_template("{prefix} {bar:30} {pos}/{len} {msg} {eta} left in the epoch");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { folder, of: options.epochs, bar, quiet, failed: None, interrupted }
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
                if let Err(error) = self.folder.save(epochs, &step.save_state()) {
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
