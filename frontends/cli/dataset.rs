//! `fornax dataset`: what a folder of photos by class holds, and what is wrong with it.

use std::io::{IsTerminal, stderr};
use std::path::PathBuf;

use fornax::Result;
use fornax::train::dataset::{Dataset, DatasetOptions, Findings, Group, NEAR, Photo, Validation};
use indicatif::ProgressBar;
use serde_json::{Value, json};

use crate::output::Output;

/// What to look at.
#[derive(clap::Args)]
pub struct Args {
    /// Folder with a folder of photos for each class, or with two such, train and val.
    folder: PathBuf,
    /// Photos for validation: a folder with the same classes, or a share of each class, such as 0.2.
    #[arg(long, value_name = "DIR|SHARE", value_parser = validation)]
    val: Option<Validation>,
    /// Seed of the share that is drawn for validation.
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// Threads that read photos; one per CPU by default.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: Option<u16>,
}

/// A number, or a folder.
fn validation(text: &str) -> std::result::Result<Validation, std::convert::Infallible> {
    Ok(text.parse().map_or_else(|_| Validation::Folder(text.into()), Validation::Share))
}

/// Runs the verb.
pub fn run(args: &Args, out: &mut Output<'_>) -> Result<()> {
    let dataset = Dataset::open(&args.folder, &DatasetOptions { validation: args.val.clone(), seed: args.seed })?;
    let count = dataset.photos().count();
    let threads = args.threads.map_or_else(fornax::runtime::available_threads, usize::from).min(count);
    let bar = if stderr().is_terminal() { ProgressBar::new(count as u64) } else { ProgressBar::hidden() };
    let findings = dataset.check(threads, || bar.inc(1));
    bar.finish_and_clear();
    dataset.notes.iter().for_each(|note| out.note(&format!("note: {note}")));
    let photos: Vec<&Photo> = dataset.photos().collect();
    if out.json { out.json(&report(&dataset, &photos, &findings)) } else { print(&dataset, &photos, &findings, out) }
}

fn name(dataset: &Dataset, photo: &Photo) -> String {
    dataset.relative(&photo.path).display().to_string()
}

/// A name without line breaks and control characters.
fn one_line(name: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    name.chars().map(shown).collect()
}

fn report(dataset: &Dataset, photos: &[&Photo], findings: &Findings) -> Value {
    let name = |at: usize| name(dataset, photos[at]);
    let group = |group: &Group| {
        let names: Vec<String> = group.photos.iter().map(|at| name(*at)).collect();
        json!({"photos": names, "leak": group.leak, "conflict": group.conflict})
    };
    let groups = |groups: &[Group]| groups.iter().map(group).collect::<Vec<_>>();
    let counts = dataset.counts().into_iter().zip(&dataset.classes);
    let classes: Vec<Value> = counts.map(|((t, v), name)| json!({"name": name, "train": t, "val": v})).collect();
    let broken: Vec<Value> =
        findings.broken.iter().map(|broken| json!({"photo": name(broken.photo), "message": broken.message})).collect();
    json!({
        "version": 1, "path": dataset.root, "photos": photos.len(), "train": dataset.training.len(), "val": dataset.validation.len(),
        "val_folder": dataset.validation_folder, "classes": classes, "broken": broken, "equal": groups(&findings.equal),
        "near": groups(&findings.near), "near_bits": NEAR, "notes": dataset.notes,
    })
}

fn print(dataset: &Dataset, photos: &[&Photo], findings: &Findings, out: &mut Output<'_>) -> Result<()> {
    let (train, val) = (dataset.training.len(), dataset.validation.len());
    let drawn = match &dataset.validation_folder {
        Some(folder) => format!("in {}", folder.display()),
        None => "drawn".to_string(),
    };
    let (root, classes) = (dataset.root.display(), dataset.classes.len());
    writeln!(
        out.to,
        "{root}  {classes} classes, {} photos: {train} to train, {val} to validate ({drawn})",
        photos.len()
    )?;
    let width = dataset.classes.iter().map(|name| name.chars().count()).max().unwrap_or(0).max(5);
    writeln!(out.to, "{:width$}  {:>6}  {:>6}", "class", "train", "val")?;
    for (class, (train, val)) in dataset.classes.iter().zip(dataset.counts()) {
        writeln!(out.to, "{class:width$}  {train:>6}  {val:>6}")?;
    }
    let name = |at: usize| one_line(&name(dataset, photos[at]));
    for broken in &findings.broken {
        writeln!(out.to, "broken  {}: {}", name(broken.photo), broken.message)?;
    }
    for (what, groups) in [("equal", &findings.equal), ("near ", &findings.near)] {
        for group in groups {
            let names: Vec<String> = group.photos.iter().map(|at| name(*at)).collect();
            let leak = if group.leak { ", LEAK: to train and to validate" } else { "" };
            let conflict = if group.conflict { ", of several classes" } else { "" };
            writeln!(out.to, "{what}   {}{leak}{conflict}", names.join("  "))?;
        }
    }
    let leaks = findings.equal.iter().chain(&findings.near).filter(|group| group.leak).count();
    let [broken, equal, near] = [findings.broken.len(), findings.equal.len(), findings.near.len()];
    Ok(writeln!(
        out.to,
        "{broken} broken, {equal} groups of equal files, {near} of near duplicates, {leaks} of these leaks"
    )?)
}
