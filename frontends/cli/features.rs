//! `features`: pooled embeddings of a folder of images.
//!
//! Every processor decodes, prepares and runs images of its own; the rows are in the order of the file names.

use std::io::{IsTerminal, stderr};
use std::path::{Path, PathBuf};
use std::time::Instant;

use fornax::train::outputs::rows;
use fornax::{Error, Features, Image, ImageInput, Model, Options, Preprocess, Result, Tensor, tensors};
use indicatif::ProgressBar;
use serde_json::json;

use crate::image_options::ImageArgs;
use crate::inputs;
use crate::model_options::{ModelArgs, bound_inputs, refuse_overwrite, refuse_overwrite_of};
use crate::output::Output;

/// Arguments of `features`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Folder of images; folders in it are searched too.
    folder: PathBuf,
    /// File to write: .npy, or .safetensors with the tensor `features` and the names of the images as metadata `files`.
    #[arg(short, long, value_name = "FILE")]
    output: PathBuf,
    /// Write the names of the images, one per line, in the order of the rows.
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
    /// Threads; all processors by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
    #[command(flatten)]
    image: ImageArgs,
}

/// Runs the verb.
pub fn run(args: &Args, out: &mut Output<'_>) -> Result<()> {
    if !["npy", "safetensors"].iter().any(|suffix| args.output.extension().is_some_and(|own| own == *suffix)) {
        return Err(Error::usage("--output", "suffix .npy or .safetensors", args.output.display().to_string()));
    }
    let files = images(&args.folder)?;
    let model = args.model.open_with(Options { features: Some(Features::Pooled), ..Options::default() })?;
    if matches!(model.features(), Some(Features::Reductions(_))) {
        return Err(Error::usage("--features", "pooled", "reductions"));
    }
    let written = std::iter::once(&args.output).chain(&args.list).map(PathBuf::as_path);
    refuse_overwrite(&model, written.clone())?;
    refuse_overwrite_of(&files, written)?;
    let input = ImageInput::of(&bound_inputs(&model, &args.model.bindings(&model)?))?;
    let (preprocess, source) = args.image.resolve(&model, &input)?;
    out.note(&format!("preprocess: {preprocess} ({source})"));
    let threads = args.threads.map_or_else(fornax::runtime::available_threads, usize::from).min(files.len());
    let begun = Instant::now();
    let rows = embed(args, &model, &preprocess, &files, threads)?;
    let seconds = begun.elapsed().as_secs_f64();
    let width = rows.first().map_or(0, Vec::len);
    let flat: Vec<f32> = rows.concat();
    let tensor = Tensor::from_f32([files.len(), width], &flat)?;
    let names: Vec<String> = files.iter().map(|file| file.display().to_string()).collect();
    if let Some(path) = &args.list {
        fornax::write_file(path, (names.join("\n") + "\n").as_bytes())?;
    }
    save(&args.output, &tensor, &names)?;
    let (path, rate) = (args.output.display().to_string(), files.len() as f64 / seconds);
    if out.json {
        return out.json(
            &json!({"version": 1, "path": path, "images": files.len(), "features": width, "images_per_s": rate}),
        );
    }
    Ok(writeln!(out.to, "{path}  f32[{},{width}], {rate:.0} images/s on {threads} threads", files.len())?)
}

/// The image files of a folder and those in it, by name.
fn images(folder: &Path) -> Result<Vec<PathBuf>> {
    let failed =
        |path: &Path, e: std::io::Error| Error::File { path: path.into(), message: format!("cannot read: {e}") };
    let (mut open, mut found) = (vec![folder.to_path_buf()], Vec::new());
    while let Some(path) = open.pop() {
        for entry in std::fs::read_dir(&path).map_err(|e| failed(&path, e))? {
            let entry = entry.map_err(|e| failed(&path, e))?;
            let (path, kind) = (entry.path(), entry.file_type().map_err(|e| failed(&path, e))?);
            if kind.is_dir() {
                open.push(path);
            } else if Image::is_meant(&path) {
                found.push(path);
            }
        }
    }
    if found.is_empty() {
        return Err(Error::usage("folder", "images in it", folder.display().to_string()));
    }
    found.sort();
    Ok(found)
}

/// The features of each file.
fn embed(
    args: &Args,
    model: &Model,
    preprocess: &Preprocess,
    files: &[PathBuf],
    threads: usize,
) -> Result<Vec<Vec<f32>>> {
    let bar = if stderr().is_terminal() { ProgressBar::new(files.len() as u64) } else { ProgressBar::hidden() };
    let first = preprocess.tensor(&[Image::open(&files[0])?])?;
    let bindings = inputs::bindings(model, args.model.bindings(model)?, &[first])?;
    let tensor = |at: usize| preprocess.tensor(&[Image::open(&files[at])?]);
    let rows = rows(model, &bindings, (files.len(), threads), &tensor, &|| bar.inc(1));
    bar.finish_and_clear();
    rows
}

fn save(path: &Path, features: &Tensor, names: &[String]) -> Result<()> {
    if path.extension().is_some_and(|suffix| suffix == "safetensors") {
        return tensors::save_safetensors(path, &[("features", features)], &[("files", &json!(names).to_string())]);
    }
    tensors::save(path, &[("features", features)])
}
