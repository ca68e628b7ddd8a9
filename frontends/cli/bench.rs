//! `bench`: latency, and the FMA peak of the same machine at the same time.

use std::path::PathBuf;
use std::time::Instant;

use fornax::report::Peaks;
use fornax::{Error, Precision, Result, Session, Target, Tensor, tensors};
use serde_json::json;

use crate::measured::{LengthArgs, MeasuredArgs, threads};
use crate::output::Output;
use crate::{progress, stages, stdio};

/// Arguments of `bench`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    measured: MeasuredArgs,
    /// Write the outputs of the first run: .npy for one, .npz by name for several.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    #[command(flatten)]
    length: LengthArgs,
    /// Fail with exit code 3 if the median run reaches less than PCT % of the FMA peak of its threads. The peak is
    /// measured before and after; the better one counts.
    #[arg(long, value_name = "PCT", value_parser = percent, allow_negative_numbers = true)]
    assert_peak: Option<f64>,
    /// Answer requests on standard input: `run SECONDS MIN_RUNS` gives `lat MS:CPU_MS …`, after a first line
    /// `ready LOAD_S FIRST_S PEAK_RSS_KB BASE_RSS_KB`; any other line gives `error TEXT`.
    #[arg(long, alias = "drive", conflicts_with_all = ["seconds", "min_runs", "assert_peak"])]
    stdio: bool,
    /// Show instead where the time from the file to the first result goes, stage by stage.
    #[arg(long, conflicts_with_all = ["seconds", "min_runs", "assert_peak", "stdio", "save"])]
    time_passes: bool,
}

fn percent(text: &str) -> Result<f64, String> {
    let value: Option<f64> = text.parse().ok();
    value.filter(|p| *p > 0.0 && *p <= 100.0).ok_or_else(|| "expected a percentage above 0, up to 100".to_string())
}

/// Runs the verb.
pub fn run(args: &Args, out: &mut Output<'_>) -> Result<()> {
    if args.stdio {
        return stdio::run(&args.measured, args.save.as_deref(), out);
    }
    if args.time_passes {
        return stages::run(&args.measured, out);
    }
    let (model, given) = args.measured.open()?;
    if let Some(path) = &args.save {
        tensors::check_suffix(path, model.outputs().len())?;
    }
    let (mut session, tensors) = args.measured.session(&model, given)?;
    let input: Vec<&Tensor> = tensors.iter().collect();
    let ran = session.run(&input)?;
    if let Some(path) = &args.save {
        let names = model.outputs();
        let named: Vec<(&str, &Tensor)> = names.iter().map(String::as_str).zip(&ran).collect();
        tensors::save(path, &named)?;
    }
    let mut outputs = session.room()?;
    let (times, peaks) = progress::during("measuring", || -> Result<_> {
        let peaks = Peaks::of(args.measured.model.precision());
        let times = measure(&args.length, &mut session, &input, &mut outputs)?;
        Ok((times, peaks.again()))
    })?;
    Figures::new(&session, times, peaks).print(args.assert_peak, &session, out)?;
    if !out.json && model.library().is_none() && args.measured.model.precision() == Precision::F32 && has_tiles() {
        writeln!(
            out.to,
            "bf16     this CPU multiplies bf16 by tiles (AMX): --precision bf16 rounds maps and weights to it"
        )?;
    }
    Ok(())
}

/// Whether this machine has tile registers.
fn has_tiles() -> bool {
    Target::host().is_ok_and(|host| host.level.vectors.tiles)
}

/// Milliseconds of each run after a warm-up of a fifth of the time, shortest first.
pub fn measure(
    args: &LengthArgs,
    session: &mut Session,
    inputs: &[&Tensor],
    outputs: &mut [Tensor],
) -> Result<Vec<f64>> {
    let length = args.length();
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
    times.sort_by(f64::total_cmp);
    Ok(times)
}

/// What was measured.
struct Figures {
    /// Milliseconds of each run, shortest first.
    times: Vec<f64>,
    threads: usize,
    peaks: Peaks,
    /// Rate of the median run, two operations per multiply-accumulate of the model.
    gflops: f64,
    /// Peak of all threads.
    peak: f64,
}

impl Figures {
    fn new(session: &Session, times: Vec<f64>, peaks: Peaks) -> Self {
        let threads = session.pool().threads();
        let macs = session.compiled().map_or(0, |compiled| compiled.stats().macs);
        let peak = peaks.best() * threads as f64;
        let mut figures = Self { times, threads, peaks, gflops: 0.0, peak };
        figures.gflops = 2.0 * macs as f64 / (figures.at(0.5) * 1e6);
        figures
    }

    /// The time that a `share` of the runs do not exceed.
    fn at(&self, share: f64) -> f64 {
        self.times[((self.times.len() - 1) as f64 * share).round() as usize]
    }

    /// The rate as a percentage of the peak.
    fn reached(&self) -> f64 {
        100.0 * self.gflops / self.peak
    }

    /// Prints the figures; an error if they miss `asserted`, in percent of the peak.
    fn print(&self, asserted: Option<f64>, session: &Session, out: &mut Output<'_>) -> Result<()> {
        let (compile, kernels) = session
            .compiled()
            .map_or((0.0, 0), |compiled| (compiled.compile_time().as_secs_f64() * 1e3, compiled.kernels()));
        let missed = asserted.filter(|percent| self.reached() < *percent);
        if out.json {
            let mut value = json!({
                "version": 1,
                "median_ms": self.at(0.5),
                "min_ms": self.at(0.0),
                "compile_ms": compile,
                "gflops": self.gflops,
                "peak_gflops": self.peak,
                "threads": self.threads,
                "peaks": self.peaks.json(),
            });
            if let Some(percent) = asserted {
                let ok = missed.is_none();
                value["assert_peak"] = json!({"percent": percent, "reached": self.reached(), "ok": ok});
            }
            out.json(&value)?;
        } else {
            let ([median, min, max], [low, high]) =
                ([0.5, 0.0, 1.0].map(|s| self.at(s)), [0.1, 0.9].map(|s| self.at(s)));
            writeln!(out.to, "median   {median:.3} ms on {}, {} runs", threads(self.threads), self.times.len())?;
            writeln!(out.to, "spread   min {min:.3}, 10 % {low:.3}, 90 % {high:.3}, max {max:.3} ms")?;
            let (rate, share, peak) = (self.gflops, self.reached(), self.peak);
            writeln!(out.to, "rate     {rate:.1} GFLOP/s, {share:.0} % of the FMA peak of {peak:.1} GFLOP/s")?;
            writeln!(out.to, "peak     {}", self.peaks)?;
            writeln!(out.to, "compile  {compile:.0} ms, {kernels} kernels")?;
        }
        match missed {
            Some(percent) => {
                let expected = format!("at least {percent} % of the FMA peak ({:.1} GFLOP/s)", self.peak);
                let found = format!("{:.1} % ({:.1} GFLOP/s)", self.reached(), self.gflops);
                Err(Error::Mismatch { what: "median run".into(), expected, found })
            }
            None => Ok(()),
        }
    }
}
