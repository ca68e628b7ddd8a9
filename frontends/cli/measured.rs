//! A model that is about to be measured: opened, compiled, its inputs at hand.

use std::time::Duration;

use fornax::{Model, Result, Session, Tensor};

use crate::inputs::Given;
use crate::model_options::{ModelArgs, ThreadArgs};
use crate::{inputs, progress};

/// What is measured, and on how many threads.
#[derive(clap::Args)]
pub struct MeasuredArgs {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub threads: ThreadArgs,
    /// Tensor file for an input, as for run; seeded random values by default.
    #[arg(long = "input", value_name = "[NAME=]FILE")]
    pub inputs: Vec<String>,
}

/// For how long.
#[derive(clap::Args)]
pub struct LengthArgs {
    /// Seconds to measure for.
    #[arg(long, value_name = "S", default_value_t = 2.0, value_parser = seconds, allow_negative_numbers = true)]
    pub seconds: f64,
    /// Minimum number of runs.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub min_runs: u32,
}

impl LengthArgs {
    /// The length as a duration.
    pub fn length(&self) -> Duration {
        Duration::from_secs_f64(self.seconds)
    }
}

/// Seconds, as many as a measurement may take.
pub fn seconds(text: &str) -> Result<f64, String> {
    let value: Option<f64> = text.parse().ok();
    value.filter(|s| (0.0..=86_400.0).contains(s)).ok_or_else(|| "expected seconds, 0 to 86400".to_string())
}

impl MeasuredArgs {
    /// Opens the model, for the inputs given.
    pub fn open(&self) -> Result<(Model, Vec<Given>)> {
        let given = inputs::read(&self.inputs)?;
        Ok((inputs::open(&self.model, &given)?, given))
    }

    /// A session for `model`, and its inputs: those given, if any are.
    pub fn session(&self, model: &Model, given: Vec<Given>) -> Result<(Session, Vec<Tensor>)> {
        let bindings = self.model.bindings(model)?;
        let tensors = match given.is_empty() {
            true => inputs::noise(model, &bindings)?,
            false => inputs::assign(given, model)?,
        };
        let bindings = inputs::bindings(model, bindings, &tensors)?;
        let session = progress::during("compiling", || self.threads.session(model, bindings))?;
        Ok((session, tensors))
    }
}

/// `1 thread`, `2 threads`.
pub fn threads(count: usize) -> String {
    format!("{count} thread{}", if count == 1 { "" } else { "s" })
}
