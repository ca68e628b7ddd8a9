//! `head`: another classifier into a compiled library, without compiling.

use std::path::{Path, PathBuf};
use std::time::Instant;

use fornax::{Artifact, Draft, Emit, Error, Model, Result};
use serde_json::json;

use crate::model_options::refuse_overwrite;
use crate::output::Output;

/// Arguments of `head`.
#[derive(clap::Args)]
pub struct Args {
    /// Compiled library.
    library: PathBuf,
    /// Network with the new classifier: the folder of a run (finetune --train head, probe -o), or an ONNX file. All its
    /// other layers are those of the network that the library was compiled from.
    #[arg(long, value_name = "DIR|FILE")]
    weights: PathBuf,
    /// Library to write; the one that is there by default. Its weights go next to it where they are in a file of their
    /// own.
    #[arg(short, long, value_name = "PATH")]
    output: Option<PathBuf>,
    /// Threads; all processors by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

/// Runs the verb.
pub fn run(args: &Args, out: &mut Output<'_>) -> Result<()> {
    let begun = Instant::now();
    let library = Model::open(&args.library)?;
    let output = args.output.as_ref().unwrap_or(&args.library);
    if output.is_dir() {
        return Err(Error::usage("--output", "the path of a file", format!("a folder ({})", output.display())));
    }
    let threads = args.threads.map_or_else(fornax::runtime::available_threads, usize::from);
    // Most of the new library is the old one: it is on its way to the disk while the rest is computed.
    let old = library.library().map(|library| library.sections()).filter(|sections| sections.embedded);
    let draft = old.map(|sections| Draft::begin(output, sections.file.clone()));
    let (trained, files) = exchanged(&library, &args.weights, output, threads)?;
    let named: Vec<(PathBuf, &Artifact)> = files.iter().map(|file| (path_of(output, file.kind), file)).collect();
    refuse_overwrite(&trained, named.iter().map(|(path, _)| path.as_path()))?;
    let parts: Vec<Vec<&[u8]>> =
        named.iter().map(|(_, file)| file.parts.iter().map(|part| &part[..]).collect()).collect();
    let list: Vec<(&Path, &[&[u8]])> =
        named.iter().zip(&parts).map(|((path, _), parts)| (path.as_path(), &parts[..])).collect();
    match draft {
        Some(draft) => draft.write_files(&list)?,
        None => fornax::write_files(&list)?,
    }
    let ms = begun.elapsed().as_secs_f64() * 1e3;
    let labels = trained.labels()?;
    if out.json {
        let files: Vec<String> = named.iter().map(|(path, _)| path.display().to_string()).collect();
        return out.json(&json!({"version": 1, "files": files, "labels": labels, "ms": ms}));
    }
    for (path, _) in &named {
        writeln!(out.to, "{}", path.display())?;
    }
    let labels = labels.map_or(String::new(), |labels| format!(" of {}", shortened(&labels)));
    Ok(writeln!(out.to, "another classifier{labels} in {ms:.0} ms")?)
}

/// The network at `weights`, and the library with its last layer. A run holds the network as file and as spec, and the library was compiled from either.
fn exchanged(library: &Model, weights: &Path, output: &Path, threads: usize) -> Result<(Model, Vec<Artifact>)> {
    let forms = ["model.onnx", "model.toml"].map(|name| weights.join(name));
    let mut forms: Vec<PathBuf> = forms.into_iter().filter(|form| form.is_file()).collect();
    if forms.is_empty() {
        forms.push(weights.to_path_buf());
    }
    let attempt = |form: &PathBuf| -> Result<(Model, Vec<Artifact>)> {
        let trained = Model::open(form)?;
        let files = library.with_head_of(&trained, output, threads)?;
        Ok((trained, files))
    };
    let first = attempt(&forms[0]);
    match forms.get(1).filter(|_| first.is_err()).map(attempt) {
        Some(Ok(second)) => Ok(second),
        _ => first,
    }
}

fn path_of(output: &Path, kind: Emit) -> PathBuf {
    if kind == Emit::So { output.to_path_buf() } else { output.with_extension(kind.suffix()) }
}

/// The first names of many.
fn shortened(labels: &[String]) -> String {
    let more = if labels.len() > 8 { ", …" } else { "" };
    labels.iter().take(8).cloned().collect::<Vec<_>>().join(", ") + more
}
