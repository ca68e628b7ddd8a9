//! `profile`: where the time of a run goes.
//!
//! Every table adds up to the median run: its rows, those that `--top` leaves out, the time between steps, and what is left
//! because the median of a sum is not the sum of medians.

use std::path::PathBuf;

use clap::ValueEnum;
use fornax::report::profile::{self, Profile, Row};
use fornax::report::{Peaks, Rates, Scale, trace};
use fornax::{Result, Tensor, write_file};
use serde_json::{Value, json};

use crate::measured::{LengthArgs, MeasuredArgs, threads};
use crate::output::Output;
use crate::progress;

/// Nodes that a line of text names.
const NODES: usize = 2;
/// The most characters of a name in a line of text.
const NAME: usize = 72;

/// Arguments of `profile`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    measured: MeasuredArgs,
    #[command(flatten)]
    length: LengthArgs,
    /// Print this table only; kernels and kinds of layers by default. JSON has all of them.
    #[arg(long, value_name = "WHAT")]
    by: Option<By>,
    /// How many rows of a table of kernels or steps to print; the others are summed in one.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    /// Write the shortest of a few more runs as a Chrome trace (chrome://tracing, Perfetto): a track of steps, and one of
    /// kernel calls for each thread.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum By {
    /// Kernels by name.
    Kernel,
    /// Kinds of layers.
    Kind,
    /// Steps in order.
    Step,
}

/// Runs the verb.
pub fn run(args: &Args, out: &mut Output<'_>) -> Result<()> {
    let (model, given) = args.measured.open()?;
    let (mut session, tensors) = args.measured.session(&model, given)?;
    let input: Vec<&Tensor> = tensors.iter().collect();
    let (profile, peaks) = progress::during("measuring", || -> Result<_> {
        let peaks = Peaks::of(args.measured.model.precision());
        let profile = profile::measure(&mut session, &input, args.length.length(), args.length.min_runs as usize)?;
        Ok((profile, peaks.again()))
    })?;
    let count = session.pool().threads();
    let scale = Scale { wall_ns: profile.wall_ns, peak: peaks.best() * count as f64 };
    if let Some(path) = &args.trace {
        let timeline = profile::trace(&mut session, &input)?;
        write_file(path, &trace::chrome(&profile, &timeline, &scale))?;
    }
    if out.json {
        return out.json(&json(&profile, &scale, &peaks, count));
    }
    writeln!(out.to, "median   {:.3} ms on {}, {} runs", profile.wall_ns / 1e6, threads(count), profile.runs)?;
    writeln!(out.to, "peak     {peaks}")?;
    let top = args.top as usize;
    if matches!(args.by, None | Some(By::Kernel)) {
        table("kernel, nodes", profile.by_kernel(), top, &profile, &scale, out)?;
    }
    if matches!(args.by, None | Some(By::Kind)) {
        table("kind of layer", profile.by_kind(), usize::MAX, &profile, &scale, out)?;
    }
    if args.by == Some(By::Step) {
        table("step, kernel, node", by_step(&profile), top, &profile, &scale, out)?;
    }
    Ok(())
}

/// A row for every step, in order.
fn by_step(profile: &Profile) -> Vec<Row> {
    let row = |(at, step): (usize, &profile::StepTime)| Row {
        name: format!("{at} {}", step.kernel),
        kind: step.kind,
        calls: 1,
        ns: step.ns,
        flops: step.flops,
        bytes: step.bytes,
        nodes: step.nodes().to_vec(),
    };
    profile.steps.iter().enumerate().map(row).collect()
}

/// Prints the first `top` of `rows`, and what is missing to the length of a run.
fn table(
    title: &str,
    rows: Vec<Row>,
    top: usize,
    profile: &Profile,
    scale: &Scale,
    out: &mut Output<'_>,
) -> Result<()> {
    writeln!(out.to)?;
    writeln!(
        out.to,
        "{:>10} {:>7} {:>6} {:>8} {:>7} {:>7}  {title}",
        "ms", "share", "calls", "GFLOP/s", "peak", "GB/s"
    )?;
    let named = title.contains("node");
    for row in rows.iter().take(top) {
        let nodes = if named { nodes(row) } else { String::new() };
        line(row, &format!("{}{nodes}", shortened(&row.name)), scale, out)?;
    }
    if let Some(left) = rows.get(top..).filter(|left| !left.is_empty()) {
        let mut sum = Row { nodes: Vec::new(), ..left[0].clone() };
        for row in &left[1..] {
            sum.calls += row.calls;
            sum.ns += row.ns;
            sum.flops += row.flops;
            sum.bytes += row.bytes;
        }
        line(&sum, &format!("{} more", left.len()), scale, out)?;
    }
    for (ns, what) in
        [(profile.between_ns, "between steps"), (profile.jitter_ns, "jitter: the median run less the medians above")]
    {
        writeln!(out.to, "{:>10.3} {:>5.1} % {:>33}{what}", ns / 1e6, scale.percent(ns), "")?;
    }
    line(&Row { ns: profile.wall_ns, ..profile.total() }, "the median run", scale, out)
}

fn line(row: &Row, what: &str, scale: &Scale, out: &mut Output<'_>) -> Result<()> {
    let Rates { gflops, peak_percent, gb_per_s } = scale.rates(row.ns, row.flops, row.bytes);
    let (ms, share) = (row.ns / 1e6, scale.percent(row.ns));
    let calls = row.calls;
    Ok(writeln!(
        out.to,
        "{ms:>10.3} {share:>5.1} % {calls:>6} {gflops:>8.1} {peak_percent:>5.1} % {gb_per_s:>7.1}  {what}"
    )?)
}

/// The first nodes of a row, in brackets.
fn nodes(row: &Row) -> String {
    let mut text: Vec<String> = row.nodes.iter().take(NODES).map(|node| shortened(node)).collect();
    if row.nodes.len() > NODES {
        text.push(format!("{} more", row.nodes.len() - NODES));
    }
    format!("  [{}]", text.join(", "))
}

/// A name that fits in a line; a file may hold names of any length.
fn shortened(name: &str) -> String {
    match name.char_indices().nth(NAME) {
        Some((end, _)) => format!("{}…", &name[..end]),
        None => name.into(),
    }
}

fn json(profile: &Profile, scale: &Scale, peaks: &Peaks, threads: usize) -> Value {
    let figures = |mut value: Value, ns: f64, flops: u64, bytes: u64| {
        let rates = scale.rates(ns, flops, bytes);
        value["ms"] = (ns / 1e6).into();
        value["share_percent"] = scale.percent(ns).into();
        value["gflops"] = rates.gflops.into();
        value["peak_percent"] = rates.peak_percent.into();
        value["flops"] = flops.into();
        value["bytes"] = bytes.into();
        value["gb_per_s"] = rates.gb_per_s.into();
        value
    };
    let sum = |row: &Row, value: Value| figures(value, row.ns, row.flops, row.bytes);
    let kernel = |row: &Row| {
        let value = json!({"name": row.name, "kind": row.kind.name(), "calls": row.calls, "nodes": row.nodes});
        sum(row, value)
    };
    let kind = |row: &Row| sum(row, json!({"name": row.name, "calls": row.calls}));
    let step = |step: &profile::StepTime| {
        let value = json!({"kernel": step.kernel, "kind": step.kind.name(), "node": step.node, "nodes": step.nodes()});
        figures(value, step.ns, step.flops, step.bytes)
    };
    let total = profile.total();
    json!({
        "version": 1,
        "threads": threads,
        "runs": profile.runs,
        "wall_ms": profile.wall_ns / 1e6,
        "steps_ms": total.ns / 1e6,
        "between_ms": profile.between_ns / 1e6,
        "jitter_ms": profile.jitter_ns / 1e6,
        "gflops": scale.rates(profile.wall_ns, total.flops, 0).gflops,
        "peak_gflops": scale.peak,
        "peaks": peaks.json(),
        "kernels": profile.by_kernel().iter().map(kernel).collect::<Vec<_>>(),
        "kinds": profile.by_kind().iter().map(kind).collect::<Vec<_>>(),
        "steps": profile.steps.iter().map(step).collect::<Vec<_>>(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_names_are_cut() {
        assert_eq!(shortened("short"), "short");
        assert_eq!(shortened(&"ä".repeat(NAME)).chars().count(), NAME);
        assert_eq!(shortened(&"ä".repeat(500)).chars().count(), NAME + 1);
    }
}
