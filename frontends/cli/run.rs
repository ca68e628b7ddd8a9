//! `run`: a model on photos or tensors.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use fornax::classify::{self, Class};
use fornax::{Error, Image, ImageInput, Model, Result, Session, Tensor, tensors};
use serde_json::json;

use crate::image_options::ImageArgs;
use crate::inputs::Given;
use crate::model_options::{ModelArgs, ThreadArgs, bound_inputs};
use crate::output::Output;
use crate::{inputs, progress};

/// Arguments of `run`.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("what").args(["images", "inputs"]))]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Image file to classify; repeatable.
    #[arg(long = "image", value_name = "FILE", num_args = 1..)]
    images: Vec<PathBuf>,
    /// Tensor file (.npy, .npz, .safetensors, .pb), for the input NAME if given; repeatable.
    #[arg(long = "input", value_name = "[NAME=]FILE", conflicts_with = "images")]
    inputs: Vec<String>,
    /// Write the outputs: .npy for one, .npz by name for several.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Names of the classes, one per line, instead of the model's own.
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// How many classes to show.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    #[command(flatten)]
    threads: ThreadArgs,
    #[command(flatten)]
    image: ImageArgs,
}

/// Runs the verb.
pub fn run(args: &Args, out: &mut Output<'_>) -> Result<()> {
    let given = inputs::read(&args.inputs)?;
    let model = inputs::open(&args.model, &given)?;
    if let Some(path) = &args.save {
        tensors::check_suffix(path, model.outputs().len())?;
    }
    let labels = match &args.labels {
        Some(path) => Some(classify::read_labels(path)?),
        None => model.labels()?,
    };
    if model.features().is_some() && args.save.is_none() && !args.images.is_empty() {
        return Err(Error::usage("--features", "--save, as features are no classes", "none"));
    }
    if args.images.is_empty() && args.inputs.is_empty() && !model.inputs().is_empty() {
        return Err(Error::usage("input", "--image or --input", "neither"));
    }
    if args.images.is_empty() {
        on_tensors(args, given, &model, labels, out)
    } else {
        on_images(args, &model, labels, out)
    }
}

fn on_images(args: &Args, model: &Model, labels: Option<Vec<String>>, out: &mut Output<'_>) -> Result<()> {
    let base = args.model.bindings(model)?;
    let input = ImageInput::of(&bound_inputs(model, &base))?;
    let (preprocess, source) = args.image.resolve(model, &input)?;
    out.note(&format!("preprocess: {preprocess} ({source})"));
    // Images are run one by one, so that each may have its own size, unless the model takes a fixed number at once.
    let at_once = input.batch.unwrap_or(1).max(1);
    let mut session: Option<Session> = None;
    let (mut results, mut outputs, mut time) = (Vec::new(), Vec::new(), Duration::ZERO);
    let mut labels = labels;
    progress::during(&format!("running {} images", args.images.len()), || -> Result<()> {
        for paths in args.images.chunks(at_once) {
            let mut images = paths.iter().map(Image::open).collect::<Result<Vec<_>>>()?;
            let last = images[images.len() - 1].clone();
            images.resize(at_once, last);
            let tensor = preprocess.tensor(&images)?;
            let tensors = [tensor];
            if session.is_none() {
                let bindings = inputs::bindings(model, base.clone(), &tensors)?;
                session = Some(args.threads.session(model, bindings)?);
            }
            let Some(session) = &mut session else { continue };
            let begun = Instant::now();
            let ran = session.run(&[&tensors[0]])?;
            time += begun.elapsed();
            let what = paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ");
            let tops = tops(args, session, &ran, &mut labels, &what, out)?;
            results.extend(paths.iter().cloned().zip(tops));
            if args.save.is_some() {
                outputs.push(ran);
            }
        }
        Ok(())
    })?;
    if let (Some(path), false) = (&args.save, outputs.is_empty()) {
        save(path, model, &joined(outputs)?)?;
    }
    print_classes(&results, out)?;
    if let Some(session) = &session {
        report(session, time / results.len().div_ceil(at_once).max(1) as u32, out);
    }
    Ok(())
}

/// The most likely classes of each image of a run, named `what` in warnings; classes whose score is NaN are left out.
fn tops(
    args: &Args,
    session: &Session,
    ran: &[Tensor],
    labels: &mut Option<Vec<String>>,
    what: &str,
    out: &Output<'_>,
) -> Result<Vec<Vec<Class>>> {
    let (Some(compiled), Some(first)) = (session.compiled(), ran.first()) else { return Ok(Vec::new()) };
    if session.model().features().is_some() {
        return Ok(vec![Vec::new(); first.shape().first().copied().unwrap_or(0)]);
    }
    let scores = session.model().scores(compiled)?;
    let probabilities = match classify::probabilities(first, scores) {
        // What is saved need not be of classes, unless labels say so.
        Err(_) if args.save.is_some() && labels.is_none() => {
            warn_of_nans(what, &first.to_f64_vec(), out);
            return Ok(vec![Vec::new(); first.shape().first().copied().unwrap_or(0)]);
        }
        probabilities => probabilities?,
    };
    let classes = probabilities.first().map_or(0, Vec::len);
    if let Some(given) = labels.take() {
        *labels = Some(classify::fit_labels(given, classes)?);
    }
    warn_of_nans(&format!("{what}: scores"), &probabilities.concat(), out);
    let top = |p: &Vec<f64>| {
        let mut top = classify::top(p, args.top as usize, labels.as_deref());
        top.retain(|class| !class.score.is_nan());
        top
    };
    Ok(probabilities.iter().map(top).collect())
}

/// A line on standard error if some of `values` are not numbers.
fn warn_of_nans(what: &str, values: &[f64], out: &Output<'_>) {
    let count = values.iter().filter(|value| value.is_nan()).count();
    if count > 0 {
        out.warn(&format!("{}: {count} of {} values are NaN", what.escape_debug(), values.len()));
    }
}

fn print_classes(results: &[(PathBuf, Vec<Class>)], out: &mut Output<'_>) -> Result<()> {
    if out.json {
        let class = |c: &Class| json!({"index": c.index, "label": c.label, "score": c.score});
        let result = |(path, top): &(PathBuf, Vec<Class>)| {
            let top: Vec<_> = top.iter().map(class).collect();
            json!({"image": path.to_string_lossy(), "top": top})
        };
        return out.json(&json!({"version": 1, "results": results.iter().map(result).collect::<Vec<_>>()}));
    }
    let name = |class: &Class| class.label.clone().unwrap_or_else(|| format!("class {}", class.index));
    let names: Vec<String> = results.iter().flat_map(|(_, top)| top).map(name).collect();
    let width = column(names.iter().map(String::as_str));
    for (path, top) in results {
        writeln!(out.to, "{}", path.display())?;
        for class in top {
            writeln!(out.to, "  {:<width$} {:5.1} %", name(class), class.score * 100.0)?;
        }
    }
    Ok(())
}

fn on_tensors(
    args: &Args,
    given: Vec<Given>,
    model: &Model,
    labels: Option<Vec<String>>,
    out: &mut Output<'_>,
) -> Result<()> {
    let tensors = inputs::assign(given, model)?;
    let bindings = inputs::bindings(model, args.model.bindings(model)?, &tensors)?;
    let mut session = progress::during("compiling", || args.threads.session(model, bindings))?;
    let begun = Instant::now();
    let ran = progress::during("running", || session.run(&tensors.iter().collect::<Vec<_>>()))?;
    let time = begun.elapsed();
    if let Some(path) = &args.save {
        save(path, model, &ran)?;
    }
    // Labels say that the first output is of classes; without them it may be anything.
    let tops = match labels {
        Some(labels) => {
            let what = model.outputs().into_iter().next().unwrap_or_default();
            tops(args, &session, &ran, &mut Some(labels), &what, out)?
        }
        None => Vec::new(),
    };
    print_tensors(model, &ran, &tops, out)?;
    report(&session, time, out);
    Ok(())
}

/// Width of a column of names. A file may hold names of any length; longer ones stick out.
fn column<'a>(names: impl Iterator<Item = &'a str>) -> usize {
    names.map(|name| name.chars().count()).max().unwrap_or(0).min(40)
}

fn print_tensors(model: &Model, ran: &[Tensor], tops: &[Vec<Class>], out: &mut Output<'_>) -> Result<()> {
    let names = model.outputs();
    let width = column(names.iter().map(String::as_str));
    let mut list = Vec::new();
    for (name, tensor) in names.iter().zip(ran) {
        let values = tensor.to_f64_vec();
        warn_of_nans(name, &values, out);
        let min = values.iter().copied().fold(f64::INFINITY, f64::min);
        let max = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        if out.json {
            let (dtype, shape) = (tensor.dtype().name(), tensor.shape().to_vec());
            list.push(json!({"name": name, "dtype": dtype, "shape": shape, "min": min, "max": max, "mean": mean}));
        } else {
            let ty = format!("{}{}", tensor.dtype(), tensor.shape());
            writeln!(out.to, "{name:<width$}  {ty}  min {min:.6}  max {max:.6}  mean {mean:.6}")?;
        }
    }
    if out.json {
        return out.json(&json!({"version": 1, "outputs": list}));
    }
    let images: Vec<_> = tops.iter().enumerate().map(|(i, top)| (format!("image {i}").into(), top.clone())).collect();
    print_classes(&images, out)
}

fn save(path: &Path, model: &Model, ran: &[Tensor]) -> Result<()> {
    let names = model.outputs();
    let named: Vec<(&str, &Tensor)> = names.iter().map(String::as_str).zip(ran).collect();
    tensors::save(path, &named)
}

/// The outputs of several runs, one after the other along axis 0.
fn joined(mut runs: Vec<Vec<Tensor>>) -> Result<Vec<Tensor>> {
    if runs.len() == 1 {
        return Ok(runs.remove(0));
    }
    let count = runs.first().map_or(0, Vec::len);
    let mut outputs = Vec::with_capacity(count);
    for index in 0..count {
        let parts: Vec<&Tensor> = runs.iter().map(|run| &run[index]).collect();
        let mut shape = parts[0].shape().to_vec();
        let same = parts.iter().all(|part| part.shape().get(1..) == shape.get(1..));
        let Some(first) = shape.first_mut().filter(|_| same) else {
            let found = parts.iter().map(|part| part.shape().to_string()).collect::<Vec<_>>().join(" and ");
            return Err(Error::usage("--save", "outputs of one shape for all images", found));
        };
        *first = parts.iter().map(|part| part.shape()[0]).sum();
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.bytes()).copied().collect();
        outputs.push(Tensor::from_bytes(parts[0].dtype(), shape, &bytes)?);
    }
    Ok(outputs)
}

fn report(session: &Session, time: Duration, out: &Output<'_>) {
    let Some(compiled) = session.compiled() else { return };
    let threads = session.pool().threads();
    let verb = if session.model().library().is_some() { "loaded" } else { "compiled" };
    out.note(&format!(
        "{verb} {} kernels in {:.0} ms; a run took {:.2} ms on {threads} thread{}",
        compiled.kernels(),
        compiled.compile_time().as_secs_f64() * 1e3,
        time.as_secs_f64() * 1e3,
        if threads == 1 { "" } else { "s" },
    ));
}
