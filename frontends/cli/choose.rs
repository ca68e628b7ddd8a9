//! `choose`: which network for these photos on this machine, before any is trained.
//!
//! In: photos by class, and networks with weights. Out: for each network, at each size, the accuracy of a linear
//! classifier over its features (cross-validated, as `probe` finds it) and its latency (as `bench` finds it); the front
//! of those that nothing else beats in both; and the one within a budget.

mod networks;
mod page;

use std::path::PathBuf;

use fornax::scaling::growth::pareto;
use fornax::train::dataset::{Dataset, DatasetOptions, Photo};
use fornax::train::outputs::features_of;
use fornax::train::probe::probe;
use fornax::{Bindings, Error, ImageConvention, Model, Result, Session, SessionOptions, Tensor};
use serde_json::{Value, json};

use self::networks::Network;
use crate::measured::{self, LengthArgs, seconds};
use crate::model_options::refuse_overwrite_of;
use crate::output::Output;
use crate::scale::milliseconds;
use crate::train_options::PhotoArgs;
use crate::{bench, inputs, progress};

/// Arguments of `choose`.
#[derive(clap::Args)]
pub struct Args {
    /// Folder with `train` and `val`, each with a folder of photos for each class; or with the classes themselves.
    /// Those to train on are used.
    photos: PathBuf,
    /// Networks: ONNX files, specs (.toml), presets, folders of runs, or folders of these.
    #[arg(required = true, value_name = "NETWORK")]
    networks: Vec<PathBuf>,
    /// Weights of a preset or spec. May be given more than once.
    #[arg(long, value_name = "NETWORK=FILE", value_parser = of_network::<PathBuf>)]
    weights: Vec<(String, PathBuf)>,
    /// How a network wants photos prepared, if its file does not say it: a convention as of run --preprocess. May be
    /// given more than once.
    #[arg(long, value_name = "NETWORK=NAME", value_parser = convention)]
    preprocess: Vec<(String, ImageConvention)>,
    /// Sides of the input to try, for networks that have none of their own: specs and presets.
    #[arg(long, value_name = "N,…", value_delimiter = ',', value_parser = clap::value_parser!(u32).range(8..=4096))]
    sizes: Vec<u32>,
    /// The longest that one image may take, such as 5ms: names the most accurate network within it.
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    latency: Option<f64>,
    /// Write a page with a chart of accuracy against latency; it needs no other file.
    #[arg(long, value_name = "FILE.html")]
    html: Option<PathBuf>,
    /// Seconds to measure each latency for.
    #[arg(long, value_name = "S", default_value_t = 2.0, value_parser = seconds)]
    seconds: f64,
    #[command(flatten)]
    read: PhotoArgs,
}

/// `NETWORK=VALUE`.
fn of_network<T: std::str::FromStr>(text: &str) -> Result<(String, T), String> {
    let (network, value) = text.rsplit_once('=').ok_or("expected NETWORK=VALUE")?;
    Ok((network.to_string(), value.parse().map_err(|_| "expected NETWORK=VALUE".to_string())?))
}

fn convention(text: &str) -> Result<(String, ImageConvention), String> {
    let (network, name) = of_network::<String>(text)?;
    let names = ImageConvention::NAMES;
    let found = names.iter().find(|(known, _)| *known == name).map(|(_, convention)| (network, *convention));
    found.ok_or_else(|| {
        let names: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
        format!("expected NETWORK= and one of {}", names.join(", "))
    })
}

/// What was found of a network at a size.
struct Row {
    network: Network,
    side: usize,
    features: usize,
    /// Share of the photos that were held out and told right.
    accuracy: f64,
    l2: f64,
    /// Median of one image.
    latency_ms: f64,
    /// Nothing else is at least as good both ways.
    front: bool,
    chosen: bool,
}

/// Runs the verb.
pub fn run(args: &Args, out: &mut Output<'_>) -> Result<()> {
    let dataset = Dataset::open(&args.photos, &DatasetOptions::default())?;
    dataset.notes.iter().for_each(|note| out.note(&format!("note: {note}")));
    let networks = networks::all(args)?;
    let mut read: Vec<PathBuf> = networks.iter().flat_map(Network::files).collect();
    read.extend(dataset.photos().map(|photo| photo.path.clone()));
    refuse_overwrite_of(&read, args.html.as_deref())?;
    let mut rows = Vec::new();
    for network in networks {
        match measure(args, &network, &dataset.training, dataset.classes.len(), out) {
            Ok(row) => rows.push(row),
            // Whatever else lies in a folder of networks is no reason to say nothing of the others.
            Err(error) if network.found => out.warn(&format!("left out: {}: {error}", network.label)),
            Err(error) => return Err(error),
        }
    }
    if rows.is_empty() {
        return Err(Error::usage("networks", "at least one classifier of photos", "none"));
    }
    mark(&mut rows, args.latency);
    let chosen = rows.iter().find(|row| row.chosen).map(|row| row.network.command(args, row.side));
    if let Some(path) = &args.html {
        let html = page::html(args, &rows, &dataset.classes, dataset.training.len(), chosen.as_deref());
        fornax::write_file(path, html.as_bytes())?;
    }
    match out.json {
        true => out.json(&json_of(args, &rows, &dataset, chosen.as_deref()))?,
        false => print(args, &rows, chosen.as_deref(), out)?,
    }
    match (args.latency, chosen) {
        (Some(limit), None) => {
            let fastest = rows.iter().map(|row| row.latency_ms).fold(f64::INFINITY, f64::min);
            let (expected, found) = (format!("a network of at most {limit} ms"), format!("{fastest:.3} ms and more"));
            Err(Error::Mismatch { what: "latency".into(), expected, found })
        }
        _ => Ok(()),
    }
}

/// Marks the front, and the most accurate network within the limit: of equals the fastest.
fn mark(rows: &mut [Row], limit: Option<f64>) {
    let costs: Vec<[f64; 2]> = rows.iter().map(|row| [-row.accuracy, row.latency_ms]).collect();
    pareto(&costs).into_iter().for_each(|at| rows[at].front = true);
    let within = |row: &&mut Row| limit.is_some_and(|limit| row.latency_ms <= limit);
    let better =
        |a: &&mut Row, b: &&mut Row| a.accuracy.total_cmp(&b.accuracy).then(b.latency_ms.total_cmp(&a.latency_ms));
    if let Some(best) = rows.iter_mut().filter(within).max_by(better) {
        best.chosen = true;
    }
}

/// Accuracy and latency of a network.
fn measure(args: &Args, network: &Network, photos: &[Photo], classes: usize, out: &Output<'_>) -> Result<Row> {
    let model = network.open()?;
    let extractor = model.pooled();
    // A network without a classifier is known before any photo is read.
    extractor.graph(&network.bindings(&model)?)?;
    let (preprocess, source) = network.preprocess(&model)?;
    out.note(&format!("{}: preprocess: {preprocess} ({source})", network.label));
    let threads = args.read.threads();
    let photos = args.read.load(photos.to_vec(), &preprocess, out)?;
    let samples = progress::during(&network.label, || features_of(&extractor, &photos, classes, threads))?;
    let found = probe(&samples, None, threads)?;
    let accuracy = found.held_out.iter().find(|tried| tried.l2 == found.l2).map_or(0.0, |tried| tried.accuracy);
    let shape = photos.tensor(0)?;
    let side = shape.shape().iter().skip(1).copied().filter(|extent| *extent > 3).min().unwrap_or(0);
    let latency_ms = latency(args, &model, &network.bindings(&model)?)?;
    let (features, l2, network) = (found.layer.width, found.l2, network.clone());
    Ok(Row { network, side, features, accuracy, l2, latency_ms, front: false, chosen: false })
}

/// The median of one image, as `bench` measures it.
fn latency(args: &Args, model: &Model, bindings: &Bindings) -> Result<f64> {
    let threads = args.read.threads();
    let length = LengthArgs { seconds: args.seconds, min_runs: 10 };
    let measure = || -> Result<f64> {
        let tensors = inputs::noise(model, bindings)?;
        let pin = threads == fornax::runtime::allowed_cpus().len();
        let mut session: Session = model.session(&SessionOptions { threads, pin, bindings: bindings.clone() })?;
        if let Some(cpu) = session.pool().caller_cpu() {
            // A refusal costs speed only.
            let _ = fornax::runtime::pin_current_thread(cpu);
        }
        let given: Vec<&Tensor> = tensors.iter().collect();
        session.run(&given)?;
        let mut outputs = session.room()?;
        let times = bench::measure(&length, &mut session, &given, &mut outputs)?;
        Ok(times[times.len() / 2])
    };
    // On a thread of its own: what is bound to a processor is not unbound.
    let measured = std::thread::scope(|scope| scope.spawn(measure).join());
    measured.unwrap_or_else(|_| Err(Error::usage("latency", "a measurement", "none")))
}

fn print(args: &Args, rows: &[Row], chosen: Option<&str>, out: &mut Output<'_>) -> Result<()> {
    let width = rows.iter().map(|row| row.network.label.chars().count()).max().unwrap_or(0).max(7);
    writeln!(out.to, "{:<width$}  {:>5}  {:>8}  {:>8}  {:>10}", "network", "side", "features", "accuracy", "latency")?;
    for row in rows {
        let star = if row.front { " *" } else { "" };
        let (label, accuracy) = (&row.network.label, 100.0 * row.accuracy);
        writeln!(
            out.to,
            "{label:<width$}  {:>5}  {:>8}  {accuracy:>6.1} %  {:>7.3} ms{star}",
            row.side, row.features, row.latency_ms
        )?;
    }
    writeln!(
        out.to,
        "* no other network is as accurate in as little time; accuracy of a linear classifier, held out; one image on {}",
        measured::threads(args.read.threads())
    )?;
    match chosen {
        Some(command) => Ok(writeln!(out.to, "{command}")?),
        None => Ok(()),
    }
}

fn json_of(args: &Args, rows: &[Row], dataset: &Dataset, chosen: Option<&str>) -> Value {
    let row = |row: &Row| {
        json!({
            "network": row.network.label, "path": row.network.path.display().to_string(), "side": row.side,
            "features": row.features, "accuracy": row.accuracy, "l2": row.l2, "latency_ms": row.latency_ms,
            "front": row.front, "chosen": row.chosen,
        })
    };
    json!({
        "version": 1, "photos": dataset.training.len(), "classes": dataset.classes, "threads": args.read.threads(),
        "machine": fornax::report::page::machine(), "networks": rows.iter().map(row).collect::<Vec<_>>(),
        "latency_limit_ms": args.latency, "command": chosen,
    })
}
