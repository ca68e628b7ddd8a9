//! The command line: `fornax VERB MODEL …`, one file per verb.
//!
//! Results go to standard output, everything else to standard error. Whatever goes wrong is one line that says what was
//! expected, and an exit code: 1 model or input, 2 usage, 3 mismatch, 4 unsupported, 5 limit exceeded. A reader that
//! goes away is no error.

mod bench;
mod choose;
mod compile;
mod dataset;
mod eval;
mod export;
mod features;
mod finetune;
mod head;
mod image_options;
mod inputs;
mod inspect;
mod list;
mod measured;
mod model_options;
mod output;
mod probe;
mod process;
mod profile;
mod progress;
mod run;
mod scale;
mod stages;
mod stdio;
mod train_options;

use std::error::Error as _;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;

use clap::error::ErrorKind;
use clap::{CommandFactory, Parser, Subcommand};
use fornax::Error;

use crate::output::Output;

/// Turns neural networks into native code.
#[derive(Parser)]
#[command(name = "fornax", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
    /// Print JSON instead of text.
    #[arg(long, global = true)]
    json: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// Compile a model to a shared library, an object file or a static library that runs without the compiler.
    Compile(Box<compile::Args>),
    /// Scale a family of networks: a table over phi, or the largest member within a budget.
    Scale(Box<scale::Args>),
    /// Look at a folder of photos by class: counts, broken files, duplicates, leaks.
    Dataset(Box<dataset::Args>),
    /// Write the pooled features of a folder of images.
    Features(Box<features::Args>),
    /// Write a model as an ONNX file.
    Export(Box<export::Args>),
    /// Train a network on photos in folders of classes.
    Finetune(Box<finetune::Args>),
    /// Fit the best linear classifier over a network's features of photos, and say how good it is.
    Probe(Box<probe::Args>),
    /// Measure how good a classifier is on photos in folders of classes.
    Eval(Box<eval::Args>),
    /// Compare networks on photos and on this machine: accuracy of a linear classifier, latency, the front of both.
    Choose(Box<choose::Args>),
    /// Put another classifier into a compiled library, without compiling.
    Head(Box<head::Args>),
    /// Run a model on images or tensors.
    Run(Box<run::Args>),
    /// Show a model: summary, statistics, passes, plan, code.
    #[command(alias = "dump")]
    Inspect(Box<inspect::Args>),
    /// Measure latency.
    Bench(Box<bench::Args>),
    /// Measure where the time goes: by kernel, by kind of layer, step by step.
    Profile(Box<profile::Args>),
    /// List the ONNX operators that are imported.
    ListOps,
    /// List the passes in the order they run.
    ListPasses,
    /// List the presets: networks that are models by their name.
    ListPresets,
    /// List the CPU levels that models are compiled for, and which of them this machine has.
    Targets,
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    let mut to = BufWriter::new(io::stdout().lock());
    let mut out = Output { json: cli.json, to: &mut to };
    let result = match &cli.verb {
        Verb::Compile(args) => compile::run(args, &mut out),
        Verb::Scale(args) => scale::run(args, &mut out),
        Verb::Dataset(args) => dataset::run(args, &mut out),
        Verb::Features(args) => features::run(args, &mut out),
        Verb::Export(args) => export::run(args, &mut out),
        Verb::Finetune(args) => finetune::run(args, &mut out),
        Verb::Probe(args) => probe::run(args, &mut out),
        Verb::Eval(args) => eval::run(args, &mut out),
        Verb::Choose(args) => choose::run(args, &mut out),
        Verb::Head(args) => head::run(args, &mut out),
        Verb::Run(args) => run::run(args, &mut out),
        Verb::Inspect(args) => inspect::run(args, &mut out),
        Verb::Bench(args) => bench::run(args, &mut out),
        Verb::Profile(args) => profile::run(args, &mut out),
        Verb::ListOps => list::operators(&mut out),
        Verb::ListPasses => list::passes(&mut out),
        Verb::ListPresets => list::presets(&mut out),
        Verb::Targets => list::targets(&mut out),
    };
    match result.and_then(|()| Ok(to.flush()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Output(error)) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let mut line = error.to_string();
            let mut source = error.source();
            while let Some(inner) = source {
                line.push_str(&format!(": {inner}"));
                source = inner.source();
            }
            let parts: Vec<&str> = line.lines().map(str::trim).collect();
            _ = writeln!(io::stderr(), "error: {}", parts.join("; ").replace(":; ", ": "));
            ExitCode::from(error.exit_code())
        }
    }
}

/// Help and version as they are; a usage error as one line.
fn refuse(error: &clap::Error) -> ExitCode {
    if !error.use_stderr() || error.kind() == ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand {
        _ = error.print();
        return ExitCode::from(u8::from(error.use_stderr()) * 2);
    }
    let text = error.to_string();
    let paragraph = text.split("\n\n").next().unwrap_or_default();
    let mut line = paragraph.split_whitespace().collect::<Vec<_>>().join(" ");
    if error.kind() == ErrorKind::InvalidSubcommand {
        let verbs: Vec<String> = Cli::command().get_subcommands().map(|verb| verb.get_name().to_string()).collect();
        line.push_str(&format!(" (expected one of {})", verbs.join(", ")));
    }
    _ = writeln!(io::stderr(), "{line}; see `fornax --help`");
    ExitCode::from(2)
}
