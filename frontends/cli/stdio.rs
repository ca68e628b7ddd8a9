//! `bench --stdio`: measured by another program, which alternates several engines.
//!
//! After the first inference it prints `ready LOAD_S FIRST_S PEAK_RSS_KB BASE_RSS_KB`: seconds from opening the model
//! to a session, seconds of the first run, and the largest resident set after it and before the model was opened. Every
//! line `run SECONDS MIN_RUNS` is answered by `lat MS:CPU_MS …`, wall and process time of each run, and any other line by
//! `error TEXT`, on one line each. The end of standard input ends it.
//!
//! The wall time of a run is that of the inference alone. Between two of them lies one look at the processor clock (a system
//! call, under a microsecond), whose time is in the process time of a run; so the wall times add up to what the asking
//! program waits, less the answer's way.

use std::io::BufRead;
use std::path::Path;
use std::time::{Duration, Instant};

use fornax::{Error, Result, Session, Tensor, tensors};

use crate::inputs;
use crate::measured::{self, MeasuredArgs};
use crate::output::Output;
use crate::process::{cpu_ms, peak_rss};

/// The most characters of a request that an answer repeats.
const REPEATED: usize = 60;

/// Runs the verb.
pub fn run(measured: &MeasuredArgs, save: Option<&Path>, out: &mut Output<'_>) -> Result<()> {
    let given = inputs::read(&measured.inputs)?;
    let base = peak_rss();
    let begun = Instant::now();
    let model = inputs::open(&measured.model, &given)?;
    let bindings = measured.model.bindings(&model)?;
    let tensors = match given.is_empty() {
        true => inputs::noise(&model, &bindings)?,
        false => inputs::assign(given, &model)?,
    };
    let mut session = measured.threads.session(&model, inputs::bindings(&model, bindings, &tensors)?)?;
    let load = begun.elapsed();
    let input: Vec<&Tensor> = tensors.iter().collect();
    let begun = Instant::now();
    let ran = session.run(&input)?;
    let first = begun.elapsed();
    let peak = peak_rss();
    if let Some(path) = save {
        let names = model.outputs();
        let named: Vec<(&str, &Tensor)> = names.iter().map(String::as_str).zip(&ran).collect();
        tensors::save(path, &named)?;
    }
    let mut outputs = session.room()?;
    writeln!(out.to, "ready {:.6} {:.6} {peak} {base}", load.as_secs_f64(), first.as_secs_f64())?;
    out.to.flush()?;
    let (mut stdin, mut line, mut times) = (std::io::stdin().lock(), Vec::new(), Vec::new());
    loop {
        line.clear();
        let read = stdin.read_until(b'\n', &mut line);
        if read.map_err(|e| Error::usage("standard input", "lines of text", e.to_string()))? == 0 {
            return Ok(());
        }
        match request(&String::from_utf8_lossy(&line)) {
            Ok((length, runs)) => {
                times.clear();
                measure(&mut session, &input, &mut outputs, length, runs, &mut times)?;
                answer(&times, out)?;
            }
            Err(text) => writeln!(out.to, "error {text}")?,
        }
        out.to.flush()?;
    }
}

/// Reads `run SECONDS MIN_RUNS`; else what to answer.
fn request(line: &str) -> Result<(Duration, usize), String> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let refused = || {
        let mut found: String = words.join(" ").escape_debug().take(REPEATED).collect();
        if found.is_empty() {
            found.push_str("an empty line");
        }
        format!("expected run SECONDS MIN_RUNS, found {found}")
    };
    let ["run", seconds, runs] = words[..] else { return Err(refused()) };
    let (seconds, runs) = measured::seconds(seconds).ok().zip(runs.parse().ok()).ok_or_else(refused)?;
    Ok((Duration::from_secs_f64(seconds), runs))
}

/// Wall and process milliseconds of each run, into `times`.
fn measure(
    session: &mut Session,
    inputs: &[&Tensor],
    outputs: &mut [Tensor],
    length: Duration,
    runs: usize,
    times: &mut Vec<(f64, f64)>,
) -> Result<()> {
    let mut cpu = cpu_ms();
    let begun = Instant::now();
    let mut ended = begun;
    while times.len() < runs || ended - begun < length {
        let run = Instant::now();
        session.run_into(inputs, outputs)?;
        ended = Instant::now();
        let before = std::mem::replace(&mut cpu, cpu_ms());
        times.push(((ended - run).as_secs_f64() * 1e3, cpu - before));
    }
    Ok(())
}

fn answer(times: &[(f64, f64)], out: &mut Output<'_>) -> Result<()> {
    write!(out.to, "lat")?;
    for (wall, cpu) in times {
        write!(out.to, " {wall:.4}:{cpu:.4}")?;
    }
    Ok(writeln!(out.to)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests() {
        assert_eq!(request("run 0.5 3\n"), Ok((Duration::from_millis(500), 3)));
        assert_eq!(request("  run  0 0\r\n"), Ok((Duration::ZERO, 0)));
        for line in ["", "\n", "stop", "run", "run 1", "run 1 2 3", "run -1 2", "run nan 2", "run inf 2", "run 1 -2"] {
            let text = request(line).unwrap_err();
            assert!(text.starts_with("expected run SECONDS MIN_RUNS, found ") && !text.ends_with(' '), "{text}");
        }
        let long = request(&"x\u{7}".repeat(1000)).unwrap_err();
        assert!(long.len() < 200 && !long.contains('\u{7}'), "{long}");
    }
}
