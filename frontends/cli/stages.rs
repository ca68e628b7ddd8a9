//! `bench --time-passes`: where the time from the file to the first result goes.
//!
//! Opens, compiles and runs the model once, and prints the wall time of each stage: mapping and decoding the file,
//! import, every pass, lowering, code generation, installing the code, packing the weights, the session's memory and
//! threads, the first run. Stages that overlap on several threads each count in full; the total is the clock's.

use std::time::{Duration, Instant};

use fornax::Result;
use fornax::compiler::Times;
use serde_json::json;

use crate::inputs;
use crate::measured::MeasuredArgs;
use crate::output::Output;
use crate::process::peak_rss;

/// Runs the verb.
pub fn run(measured: &MeasuredArgs, out: &mut Output<'_>) -> Result<()> {
    let given = inputs::read(&measured.inputs)?;
    let begun = Instant::now();
    let model = inputs::open(&measured.model, &given)?;
    let mut stages = model.times().clone();
    let opened = begun.elapsed();
    let bindings = measured.model.bindings(&model)?;
    let tensors = match given.is_empty() {
        true => inputs::noise(&model, &bindings)?,
        false => inputs::assign(given, &model)?,
    };
    let bindings = inputs::bindings(&model, bindings, &tensors)?;
    let begun = Instant::now();
    let mut session = measured.threads.session(&model, bindings)?;
    let bound = begun.elapsed();
    if let Some(compiled) = session.compiled() {
        stages.extend(compiled.times());
        stages.add("session", bound.saturating_sub(compiled.compile_time()));
    }
    let begun = Instant::now();
    session.run(&tensors.iter().collect::<Vec<_>>())?;
    let first = begun.elapsed();
    stages.add("first run", first);
    print(&stages, opened + bound, first, out)
}

fn print(stages: &Times, load: Duration, first: Duration, out: &mut Output<'_>) -> Result<()> {
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    let peak = peak_rss();
    if out.json {
        let list: Vec<_> = stages.iter().map(|(name, time)| json!({"stage": name, "ms": ms(time)})).collect();
        let (load, total) = (ms(load), ms(load + first));
        return out
            .json(&json!({"version": 1, "stages": list, "load_ms": load, "total_ms": total, "peak_rss_kb": peak}));
    }
    for (name, time) in stages.iter() {
        writeln!(out.to, "{name:<20} {:9.3} ms", ms(time))?;
    }
    writeln!(out.to, "{:<20} {:9.3} ms, {:.3} ms without the first run", "total", ms(load + first), ms(load))?;
    Ok(writeln!(out.to, "{:<20} {:9.1} MB resident", "peak", peak as f64 / 1e3)?)
}
