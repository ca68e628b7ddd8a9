//! `export`: a model as an ONNX file.

use std::path::PathBuf;

use fornax::{Dim, InputDecl, Result};
use serde_json::json;

use crate::model_options::{ModelArgs, refuse_overwrite};
use crate::output::Output;

/// Arguments of `export`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// File to write.
    #[arg(short, long, value_name = "FILE.onnx")]
    output: PathBuf,
    /// Fold batch norms into the weights, and drop what changes nothing.
    #[arg(long)]
    fold: bool,
    /// Fix the batch to 1 (or to --dim batch=N) where the model leaves it open.
    #[arg(long)]
    fixed_batch: bool,
}

/// Runs the verb.
pub fn run(args: &Args, out: &mut Output<'_>) -> Result<()> {
    let model = args.model.open()?;
    let bindings = args.model.bindings(&model)?;
    refuse_overwrite(&model, [args.output.as_path()])?;
    let named = |input: &InputDecl| matches!(input.dims.first(), Some(Dim::Symbol(_) | Dim::Unknown));
    let open = !args.fixed_batch && !bindings.dims.contains_key("batch") && model.inputs().iter().all(named);
    let bytes = model.export(&bindings, args.fold, open)?;
    fornax::write_file(&args.output, &bytes)?;
    let path = args.output.display().to_string();
    if out.json {
        return out.json(&json!({"version": 1, "path": path, "bytes": bytes.len()}));
    }
    Ok(writeln!(out.to, "{path}  {} bytes", bytes.len())?)
}
