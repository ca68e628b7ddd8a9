//! `bench --drive`: measured by another program, which alternates several engines.
//!
//! After the first inference it prints `ready LOAD_S FIRST_S PEAK_RSS_KB BASE_RSS_KB`: seconds from opening the model
//! to a session, seconds of the first run, and the largest resident set after it and before the model was opened. Every
//! line `run SECONDS MIN_RUNS` is answered by `lat MS:CPU_MS …`, wall and process time of each run. Anything else, or
//! the end, ends it.

use std::io::BufRead;
use std::time::{Duration, Instant};

use fornax::{Error, Result, Session, Tensor, tensors};
use rustix::time::{ClockId, clock_gettime};

use crate::bench::Args;
use crate::{Output, inputs};

/// Runs the verb.
pub fn run(args: &Args, out: &mut Output<'_>) -> Result<()> {
    let given = inputs::read(&args.inputs)?;
    let base = peak_rss();
    let begun = Instant::now();
    let model = args.model.open()?;
    let tensors = match given.is_empty() {
        true => inputs::noise(&model, &args.model.bindings(&model)?)?,
        false => inputs::assign(given, &model)?,
    };
    let bindings = inputs::bindings(&model, args.model.bindings(&model)?, &tensors)?;
    let mut session = args.threads.session(&model, bindings)?;
    let load = begun.elapsed();
    let input: Vec<&Tensor> = tensors.iter().collect();
    let begun = Instant::now();
    let mut outputs = session.run(&input)?;
    let first = begun.elapsed();
    let peak = peak_rss();
    if let Some(path) = &args.save {
        let names = model.outputs();
        let named: Vec<(&str, &Tensor)> = names.iter().map(String::as_str).zip(&outputs).collect();
        tensors::save(path, &named)?;
    }
    writeln!(out.to, "ready {:.6} {:.6} {peak} {base}", load.as_secs_f64(), first.as_secs_f64())?;
    out.to.flush()?;
    for line in std::io::stdin().lock().lines() {
        let line = line.map_err(|e| Error::usage("standard input", "lines of text", e.to_string()))?;
        let words: Vec<&str> = line.split_whitespace().collect();
        let ["run", seconds, runs] = words[..] else { break };
        let request = || Error::usage("standard input", "run SECONDS MIN_RUNS", &line);
        let seconds: f64 = seconds.parse().map_err(|_| request())?;
        let runs: usize = runs.parse().map_err(|_| request())?;
        let length = Duration::try_from_secs_f64(seconds).map_err(|_| request())?;
        answer(&mut session, &input, &mut outputs, length, runs, out)?;
    }
    Ok(())
}

fn answer(
    session: &mut Session,
    inputs: &[&Tensor],
    outputs: &mut [Tensor],
    length: Duration,
    runs: usize,
    out: &mut Output<'_>,
) -> Result<()> {
    let begun = Instant::now();
    let mut times = Vec::new();
    while times.len() < runs || begun.elapsed() < length {
        let (wall, cpu) = (Instant::now(), cpu_ms());
        session.run_into(inputs, outputs)?;
        times.push((wall.elapsed().as_secs_f64() * 1e3, cpu_ms() - cpu));
    }
    write!(out.to, "lat")?;
    for (wall, cpu) in times {
        write!(out.to, " {wall:.4}:{cpu:.4}")?;
    }
    writeln!(out.to)?;
    Ok(out.to.flush()?)
}

/// Processor time of this process so far, in milliseconds.
fn cpu_ms() -> f64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
}

/// The largest resident set of this process so far, in kB; 0 if the system does not say.
fn peak_rss() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|n| n.parse().ok()).unwrap_or(0)
}
