//! `probe`: the best linear classifier over a network's features.

use std::path::{Path, PathBuf};
use std::time::Instant;

use fornax::train::classifier::with_classifier;
use fornax::train::dataset::{Dataset, DatasetOptions, Validation};
use fornax::train::folder::{Form, expect_new, write_network, write_report};
use fornax::train::logistic::Samples;
use fornax::train::metrics::Evaluation;
use fornax::train::outputs::{features_of, probabilities};
use fornax::train::photos::Photos;
use fornax::train::probe::{HeldOut, Probe, probe};
use fornax::train::report::Report;
use fornax::{Error, Features, ImageInput, Model, Options, Result};
use serde_json::{Value, json};

use crate::dataset::validation;
use crate::image_options::ImageArgs;
use crate::model_options::ModelArgs;
use crate::output::Output;
use crate::train_options::PhotoArgs;

/// Arguments of `probe`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Folder with `train` and `val`, each with a folder of photos for each class; or with the classes themselves.
    photos: PathBuf,
    /// Photos for validation: a folder with the same classes, or a share of each class; by default the `val` in the folder, else 0.2.
    #[arg(long, value_name = "DIR|SHARE", value_parser = validation)]
    val: Option<Validation>,
    /// Folder to write: the network with this classifier as its last layer, in the forms that finetune writes it in, and a report.
    #[arg(short, long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Penalty on squared weights, or auto: the best of several by five-fold cross-validation.
    #[arg(long, value_name = "X", default_value = "auto", value_parser = l2)]
    l2: L2,
    #[command(flatten)]
    read: PhotoArgs,
    #[command(flatten)]
    image: ImageArgs,
}

/// A penalty; none is the best one.
#[derive(Clone, Copy)]
struct L2(Option<f64>);

fn l2(text: &str) -> Result<L2, String> {
    match text {
        "auto" => Ok(L2(None)),
        _ => text.parse().map(|number| L2(Some(number))).map_err(|_| "expected a number, or auto".into()),
    }
}

/// Runs the verb.
pub fn run(args: &Args, out: &mut Output<'_>) -> Result<()> {
    let dataset = Dataset::open(&args.photos, &DatasetOptions { validation: args.val.clone(), seed: 0 })?;
    dataset.notes.iter().for_each(|note| out.note(&format!("note: {note}")));
    let (model, extractor) = open(args, dataset.classes.len())?;
    if let Some(folder) = &args.output {
        expect_new(folder)?;
    }
    let (preprocess, source) = args.image.resolve(&model, &ImageInput::of(model.inputs())?)?;
    out.note(&format!("preprocess: {preprocess} ({source})"));
    let classes = dataset.classes.len();
    let training = args.read.load(dataset.training, &preprocess, out)?;
    let validation = args.read.load(dataset.validation, &preprocess, out)?;
    let begun = Instant::now();
    let threads = args.read.threads();
    let samples = |photos: &Photos| features_of(&extractor, photos, classes, threads);
    let (train, val) = (samples(&training)?, samples(&validation)?);
    let features = begun.elapsed();
    let found = probe(&train, args.l2.0, args.read.threads())?;
    let seconds = begun.elapsed().as_secs_f64();
    let accuracy = |samples: &Samples| 1.0 - samples.loss(&found.layer).1 as f64 / samples.len() as f64;
    let (on_train, on_val, loss) = (accuracy(&train), accuracy(&val), val.loss(&found.layer).0);
    let files = match &args.output {
        Some(folder) => write(args, folder, &model, &found, &dataset.classes, [&training, &validation])?,
        None => Vec::new(),
    };
    if out.json {
        let held_out: Vec<Value> = found.held_out.iter().map(json_of).collect();
        return out.json(&json!({
            "version": 1, "classes": dataset.classes, "features": found.layer.width, "l2": found.l2, "held_out": held_out,
            "train": {"photos": train.len(), "accuracy": on_train},
            "val": {"photos": val.len(), "accuracy": on_val, "cross_entropy": loss},
            "seconds": seconds, "feature_seconds": features.as_secs_f64(),
            "files": files.iter().map(|file| file.display().to_string()).collect::<Vec<_>>(),
        }));
    }
    if !found.held_out.is_empty() {
        writeln!(out.to, "{:>8}  {:>13}  {:>9}", "l2", "held-out loss", "accuracy")?;
    }
    for HeldOut { l2, loss, accuracy } in &found.held_out {
        let chosen = if *l2 == found.l2 { "  chosen" } else { "" };
        writeln!(out.to, "{l2:>8}  {loss:>13.4}  {:>7.1} %{chosen}", 100.0 * accuracy)?;
    }
    writeln!(
        out.to,
        "{} classes, {} features, {seconds:.1} s: train {:.1} % of {}, val {:.1} % of {} (cross-entropy {loss:.4})",
        classes,
        found.layer.width,
        100.0 * on_train,
        train.len(),
        100.0 * on_val,
        val.len()
    )?;
    files.iter().try_for_each(|file| Ok(writeln!(out.to, "{}", file.display())?))
}

/// The network, and what makes features of photos: it without its last layer. Where nothing is written, that is all that is needed.
fn open(args: &Args, classes: usize) -> Result<(Model, Model)> {
    if args.output.is_some() {
        let model = args.model.open_for(classes)?;
        if model.features().is_some() {
            return Err(Error::usage("--features", "none, for a network to be written", "features"));
        }
        let extractor = model.pooled();
        return Ok((model, extractor));
    }
    let model = args.model.open_with(Options { features: Some(Features::Pooled), ..Options::default() })?;
    if matches!(model.features(), Some(Features::Reductions(_))) {
        return Err(Error::usage("--features", "pooled", "reductions"));
    }
    Ok((model.clone(), model))
}

/// Writes the network with the classifier into the folder. The names of the files.
fn write(
    args: &Args,
    folder: &Path,
    model: &Model,
    found: &Probe,
    classes: &[String],
    [training, validation]: [&Photos; 2],
) -> Result<Vec<PathBuf>> {
    let trained = with_classifier(model, &found.layer, classes, training, args.read.threads())?;
    let probabilities = probabilities(&trained, validation, args.read.threads())?;
    let truth = validation.photos().iter().map(|photo| photo.class).collect();
    let evaluation = Evaluation::new(truth, probabilities, classes.len());
    let mut files = write_network(folder, &trained, &Form::ALL.map(|(form, _)| form))?;
    let network = args.model.file.model.display().to_string();
    let title = format!("A linear classifier over {network}");
    let mut settings = vec![("network".to_string(), network), ("l2".to_string(), found.l2.to_string())];
    let held_out = found.held_out.iter().find(|tried| tried.l2 == found.l2);
    settings.extend(held_out.map(|best| ("held-out accuracy".to_string(), format!("{:.1} %", 100.0 * best.accuracy))));
    let report = Report {
        title: &title,
        labels: classes,
        epochs: &[],
        evaluation: &evaluation,
        photos: validation,
        settings: &settings,
    };
    files.push(write_report(folder, &report)?);
    Ok(files)
}

fn json_of(tried: &HeldOut) -> Value {
    json!({"l2": tried.l2, "cross_entropy": tried.loss, "accuracy": tried.accuracy})
}
