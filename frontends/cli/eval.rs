//! `eval`: how good a classifier is on photos whose classes are known.

use std::fmt::Write as _;
use std::path::PathBuf;

use fornax::train::dataset::Dataset;
use fornax::train::metrics::Evaluation;
use fornax::train::outputs::probabilities;
use fornax::train::photos::Photos;
use fornax::train::report::Report;
use fornax::{Bindings, Error, ImageInput, Model, Result, classify};
use serde_json::{Value, json};

use crate::image_options::ImageArgs;
use crate::model_options::{ModelArgs, refuse_overwrite, refuse_overwrite_of};
use crate::output::Output;
use crate::train_options::PhotoArgs;

/// Arguments of `eval`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Folder with a folder of photos for each class, by the model's labels; or with `train` and `val`, of which `val` is taken.
    photos: PathBuf,
    /// Names of the classes, one per line, instead of the model's own.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Write photo, class, prediction and the probability of each class as lines of comma-separated values.
    #[arg(long, value_name = "FILE.csv")]
    predictions: Option<PathBuf>,
    /// Write a page with the confusion matrix, the classes, the calibration and the worst photos; it needs no other file.
    #[arg(long, value_name = "FILE.html")]
    html: Option<PathBuf>,
    #[command(flatten)]
    read: PhotoArgs,
    #[command(flatten)]
    image: ImageArgs,
}

/// Runs the verb.
pub fn run(args: &Args, out: &mut Output<'_>) -> Result<()> {
    args.model.refuse_shapes()?;
    let model = args.model.open()?;
    let (classes, photos) = Dataset::labelled(&args.photos)?;
    let written = args.predictions.iter().chain(&args.html).map(PathBuf::as_path);
    refuse_overwrite(&model, written.clone())?;
    let files: Vec<PathBuf> = photos.iter().map(|photo| photo.path.clone()).collect();
    refuse_overwrite_of(&files, written)?;
    let (preprocess, source) = args.image.resolve(&model, &ImageInput::of(model.inputs())?)?;
    out.note(&format!("preprocess: {preprocess} ({source})"));
    let photos = args.read.load(photos, &preprocess, out)?;
    let (labels, evaluation) = evaluate(args, &model, &classes, &photos)?;
    if let Some(path) = &args.predictions {
        fornax::write_file(path, predictions(&labels, &photos, &evaluation).as_bytes())?;
    }
    if let Some(path) = &args.html {
        fornax::write_file(path, page(args, &model, &labels, &photos, &evaluation)?.as_bytes())?;
    }
    if out.json {
        return out.json(&summary(&labels, &photos, &evaluation));
    }
    Ok(write!(out.to, "{}", table(&labels, &evaluation))?)
}

/// The page.
fn page(args: &Args, model: &Model, labels: &[String], photos: &Photos, evaluation: &Evaluation) -> Result<String> {
    let network = args.model.file.model.display().to_string();
    let settings = [
        ("network".to_string(), network.clone()),
        ("name".to_string(), model.name(&Bindings::default())?),
        ("photos".to_string(), args.photos.display().to_string()),
        ("preprocess".to_string(), photos.preprocess().to_string()),
    ];
    let (title, epochs, settings) = (&*format!("Evaluation of {network}"), &[][..], &settings[..]);
    Ok(Report { title, labels, epochs, evaluation, photos, settings }.html())
}

/// Class names in the order of the outputs, and what the model says of the photos.
fn evaluate(args: &Args, model: &Model, classes: &[String], photos: &Photos) -> Result<(Vec<String>, Evaluation)> {
    let probabilities = probabilities(model, photos, args.read.threads())?;
    let width = probabilities.first().map_or(0, Vec::len);
    let given = match &args.labels {
        Some(path) => Some(classify::read_labels(path)?),
        None => model.labels()?,
    };
    let labels = match given {
        Some(labels) => classify::fit_labels(labels, width)?,
        // Without names, folders are classes in their order.
        None => classify::fit_labels(classes.to_vec(), width)?,
    };
    let number = |name: &String| {
        let expected = || format!("classes of the model ({})", shortened(&labels));
        let at = labels.iter().position(|label| label == name);
        at.ok_or_else(|| Error::usage(args.photos.display().to_string(), expected(), name.clone()))
    };
    let numbers = classes.iter().map(number).collect::<Result<Vec<usize>>>()?;
    let truth = photos.photos().iter().map(|photo| numbers[photo.class]).collect();
    Ok((labels, Evaluation::new(truth, probabilities, width)))
}

/// The first names of many.
fn shortened(labels: &[String]) -> String {
    let more = if labels.len() > 8 { ", …" } else { "" };
    labels.iter().take(8).cloned().collect::<Vec<_>>().join(", ") + more
}

/// Lines for people: the whole, then each class that has photos.
fn table(labels: &[String], e: &Evaluation) -> String {
    let mut text = String::new();
    let percent = |share: Option<f64>| share.map_or("-".to_string(), |share| format!("{:.1} %", 100.0 * share));
    _ = writeln!(
        text,
        "{} photos: top-1 {:.1} %, top-5 {:.1} %, cross-entropy {:.4}, calibration error {:.1} %\n",
        e.len(),
        100.0 * e.accuracy(1),
        100.0 * e.accuracy(5),
        e.loss(),
        100.0 * e.calibration_error()
    );
    let width = labels.iter().map(|label| label.chars().count()).max().unwrap_or(0).max(5);
    _ = writeln!(
        text,
        "{:<width$}  {:>6}  {:>8}  {:>9}  most often taken for",
        "class", "photos", "recall", "precision"
    );
    for ((class, figures), row) in e.by_class().iter().enumerate().zip(e.confusion()) {
        if figures.photos == 0 && figures.taken == 0 {
            continue;
        }
        let others = row.iter().enumerate().filter(|(other, count)| *other != class && **count > 0);
        let other = others.max_by_key(|(other, count)| (**count, std::cmp::Reverse(*other)));
        let other = other.map_or(String::new(), |(other, count)| format!("{} ({count})", labels[other]));
        let (recall, precision) = (percent(figures.recall()), percent(figures.precision()));
        let line = format!("{:<width$}  {:>6}  {recall:>8}  {precision:>9}  {other}", labels[class], figures.photos);
        _ = writeln!(text, "{}", line.trim_end());
    }
    text
}

fn summary(labels: &[String], photos: &Photos, e: &Evaluation) -> Value {
    let classes: Vec<Value> = labels
        .iter()
        .zip(e.by_class())
        .map(|(label, of)| {
            json!({"label": label, "photos": of.photos, "recall": of.recall(), "precision": of.precision(), "f1": of.f1()})
        })
        .collect();
    json!({
        "version": 1, "photos": e.len(), "top1": e.accuracy(1), "top5": e.accuracy(5), "cross_entropy": e.loss(),
        "calibration_error": e.calibration_error(), "classes": classes, "confusion": e.confusion(),
        "skipped": photos.skipped.iter().map(|(path, _)| path.display().to_string()).collect::<Vec<_>>(),
    })
}

/// One line per photo, after one of names.
fn predictions(labels: &[String], photos: &Photos, e: &Evaluation) -> String {
    let names: Vec<String> = labels.iter().map(|label| field(label)).collect();
    let mut text = format!("photo,class,prediction,{}\n", names.join(","));
    for (at, (photo, probabilities)) in photos.photos().iter().zip(e.probabilities()).enumerate() {
        let path = field(&photo.path.display().to_string());
        _ = write!(text, "{path},{},{}", names[e.labels()[at]], names[e.answer(at)]);
        probabilities.iter().for_each(|p| _ = write!(text, ",{p:.6}"));
        text.push('\n');
    }
    text
}

/// A field of comma-separated values (RFC 4180).
fn field(text: &str) -> String {
    if text.contains([',', '"', '\n', '\r']) { format!("\"{}\"", text.replace('"', "\"\"")) } else { text.into() }
}
