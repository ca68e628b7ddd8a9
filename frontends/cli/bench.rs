//! `bench`: latency, beside the peak of the same machine at the same time.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use fornax::{Result, Session, Tensor, tensors};
use serde_json::json;

use crate::model_options::{ModelArgs, ThreadArgs};
use crate::{Output, drive, inputs, progress};

/// Arguments of `bench`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub model: ModelArgs,
    #[command(flatten)]
    pub threads: ThreadArgs,
    /// Tensor file for an input, as for run; seeded noise by default.
    #[arg(long = "input", value_name = "[NAME=]FILE")]
    pub inputs: Vec<String>,
    /// Write the outputs of the first run: .npy for one, .npz by name for several.
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Seconds to measure for.
    #[arg(long, value_name = "S", default_value_t = 2.0, value_parser = seconds, allow_negative_numbers = true)]
    seconds: f64,
    /// Fewest runs to measure.
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    min_runs: u32,
    /// Answer requests on standard input: `run SECONDS MIN_RUNS` gives `lat MS:CPU_MS …`, after a first line
    /// `ready LOAD_S FIRST_S PEAK_RSS_KB BASE_RSS_KB`.
    #[arg(long, conflicts_with_all = ["seconds", "min_runs"])]
    drive: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    let value: Option<f64> = text.parse().ok();
    value.filter(|s| (0.0..=86_400.0).contains(s)).ok_or_else(|| "expected seconds, 0 to 86400".to_string())
}

/// Runs the verb.
pub fn run(args: &Args, out: &mut Output<'_>) -> Result<()> {
    if args.drive {
        return drive::run(args, out);
    }
    let model = args.model.open()?;
    if let Some(path) = &args.save {
        tensors::check_suffix(path, model.outputs().len())?;
    }
    let bindings = args.model.bindings(&model)?;
    let tensors = match args.inputs.is_empty() {
        true => inputs::noise(&model, &bindings)?,
        false => inputs::assign(inputs::read(&args.inputs)?, &model)?,
    };
    let bindings = inputs::bindings(&model, bindings, &tensors)?;
    let mut session = progress::during("compiling", || args.threads.session(&model, bindings))?;
    let input: Vec<&Tensor> = tensors.iter().collect();
    let mut outputs = session.run(&input)?;
    if let Some(path) = &args.save {
        let names = model.outputs();
        let named: Vec<(&str, &Tensor)> = names.iter().map(String::as_str).zip(&outputs).collect();
        tensors::save(path, &named)?;
    }
    let times = progress::during("measuring", || measure(args, &mut session, &input, &mut outputs))?;
    print(&session, times, out)
}

/// Milliseconds of each run after a warm-up of a fifth of the time.
fn measure(args: &Args, session: &mut Session, inputs: &[&Tensor], outputs: &mut [Tensor]) -> Result<Vec<f64>> {
    let length = Duration::from_secs_f64(args.seconds);
    let begun = Instant::now();
    for warm_up in 0.. {
        session.run_into(inputs, outputs)?;
        if warm_up >= 2 && begun.elapsed() >= length / 5 {
            break;
        }
    }
    let mut times = Vec::new();
    let begun = Instant::now();
    while times.len() < args.min_runs as usize || begun.elapsed() < length {
        let run = Instant::now();
        session.run_into(inputs, outputs)?;
        times.push(run.elapsed().as_secs_f64() * 1e3);
    }
    Ok(times)
}

fn print(session: &Session, mut times: Vec<f64>, out: &mut Output<'_>) -> Result<()> {
    let Some(compiled) = session.compiled() else { return Ok(()) };
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    let (median, min) = (at(0.5), times[0]);
    let threads = session.pool().threads();
    let gflops = 2.0 * compiled.stats().macs as f64 / (median * 1e6);
    let peak = fornax::runtime::peak_gflops() * threads as f64;
    let compile = compiled.compile_time().as_secs_f64() * 1e3;
    if out.json {
        return out.json(&json!({
            "version": 1,
            "median_ms": median,
            "min_ms": min,
            "compile_ms": compile,
            "gflops": gflops,
            "peak_gflops": peak,
            "threads": threads,
        }));
    }
    let plural = if threads == 1 { "" } else { "s" };
    writeln!(out.to, "median   {median:.3} ms on {threads} thread{plural}, {} runs", times.len())?;
    writeln!(out.to, "spread   min {min:.3}, 10 % {:.3}, 90 % {:.3}, max {:.3} ms", at(0.1), at(0.9), at(1.0))?;
    let share = 100.0 * gflops / peak;
    writeln!(
        out.to,
        "rate     {gflops:.1} GFLOP/s, {share:.0} % of the {peak:.1} GFLOP/s that multiply-adds reach now"
    )?;
    Ok(writeln!(out.to, "compile  {compile:.0} ms, {} kernels", compiled.kernels())?)
}
