//! `scale`: a family over phi, or the largest member within a budget.

use std::path::{Path, PathBuf};

use fornax::report::{LatencyProbe, Measurement, chart};
use fornax::scaling::architecture::Architecture;
use fornax::scaling::count::count;
use fornax::scaling::growth::{bases, grow, pareto};
use fornax::scaling::published::published;
use fornax::scaling::solve::{Budget, Candidate, Measured, Solution, solve};
use fornax::scaling::spec::Spec;
use fornax::{Error, Limits, Result};
use serde_json::{Value, json};

use crate::model_options::refuse_overwrite_of;
use crate::output::Output;
use crate::{measured, progress};

/// Arguments of `scale`.
#[derive(clap::Args)]
pub struct Args {
    /// Spec (.toml) or preset whose family it is.
    #[arg(default_value = "efficientnet-b0")]
    family: PathBuf,
    /// Members to show: FROM:TO or FROM:TO:STEP.
    #[arg(long, value_name = "RANGE", default_value = "0:7", value_parser = range, allow_hyphen_values = true)]
    phi: Range,
    /// Find the largest member with at most so many parameters, such as 8M.
    #[arg(long, value_name = "N", value_parser = quantity)]
    params: Option<f64>,
    /// … multiply-accumulates of one image, such as 2G.
    #[arg(long, value_name = "N", value_parser = quantity)]
    macs: Option<f64>,
    /// … memory for intermediate values, such as 4MB.
    #[arg(long, value_name = "BYTES", value_parser = quantity)]
    arena: Option<f64>,
    /// … time of one image here, such as 10ms; every candidate is compiled and measured.
    #[arg(long, value_name = "TIME", value_parser = milliseconds)]
    latency: Option<f64>,
    /// List the bases whose cost at phi 1 is within 0.1 of 2, in steps of 0.05, by the counts of their members.
    #[arg(long, conflicts_with_all = ["params", "macs", "arena", "latency", "output", "chart"])]
    grid: bool,
    /// Do not compile and measure the members, only count them.
    #[arg(long, conflicts_with_all = ["params", "macs", "arena", "latency"])]
    count: bool,
    /// Threads to measure on.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1024))]
    threads: u16,
    /// Write the member found, or the last of the table, as a spec.
    #[arg(short, long, value_name = "FILE.toml")]
    output: Option<PathBuf>,
    /// Draw MACs against latency.
    #[arg(long, value_name = "FILE.svg", conflicts_with_all = ["count", "params", "macs", "arena", "latency"])]
    chart: Option<PathBuf>,
}

/// Networks beyond these are not measured in the search for a budget; they count as too large for any.
const MOST_PARAMS: u64 = 500_000_000;
const MOST_MACS: u64 = 500_000_000_000;

/// Values of phi.
#[derive(Clone, Copy)]
struct Range {
    from: f64,
    to: f64,
    step: f64,
}

fn range(text: &str) -> Result<Range, String> {
    let numbers: Result<Vec<f64>, _> = text.split(':').map(str::parse).collect();
    let range = match numbers.as_deref() {
        Ok([from]) => Range { from: *from, to: *from, step: 1.0 },
        Ok([from, to]) => Range { from: *from, to: *to, step: 1.0 },
        Ok([from, to, step]) => Range { from: *from, to: *to, step: *step },
        _ => return Err("expected FROM:TO or FROM:TO:STEP".into()),
    };
    let count = (range.to - range.from) / range.step;
    match range.step > 0.0 && (0.0..=200.0).contains(&count) {
        true => Ok(range),
        false => Err("expected FROM below TO, a STEP above 0, and at most 200 steps".into()),
    }
}

/// A number with k, M or G after it, or Ki, Mi or Gi; a B after that is dropped.
fn quantity(text: &str) -> Result<f64, String> {
    let bare = text.trim().trim_end_matches('B');
    let (bare, base) = bare.strip_suffix('i').map_or((bare, 1000f64), |bare| (bare, 1024f64));
    let power = bare.chars().last().and_then(|c| "KMG".find(c.to_ascii_uppercase()));
    let (number, factor) = match power {
        Some(power) => (&bare[..bare.len() - 1], base.powi(power as i32 + 1)),
        None => (bare, 1.0),
    };
    let value = number.parse::<f64>().ok().map(|n| n * factor).filter(|n| *n >= 1.0 && n.is_finite());
    value.ok_or_else(|| "expected a number such as 8M or 4MiB".to_string())
}

/// A time such as `10ms` or `0.5s`, in milliseconds.
pub fn milliseconds(text: &str) -> Result<f64, String> {
    let (number, factor) = match text.strip_suffix("ms") {
        Some(number) => (number, 1.0),
        None => (text.strip_suffix('s').ok_or("expected a time such as 10ms")?, 1e3),
    };
    let value = number.parse::<f64>().ok().map(|n| n * factor).filter(|n| *n > 0.0 && n.is_finite());
    value.ok_or_else(|| "expected a time such as 10ms".to_string())
}

/// Runs the verb.
pub fn run(args: &Args, out: &mut Output<'_>) -> Result<()> {
    let spec = open(&args.family)?;
    spec.resolve()?.warnings.iter().for_each(|warning| out.warn(warning));
    let written = args.output.iter().chain(&args.chart).map(PathBuf::as_path);
    refuse_overwrite_of(std::slice::from_ref(&args.family), written)?;
    if args.grid {
        return grid(&spec, out);
    }
    let whole = |limit: Option<f64>| limit.map(|limit| limit as u64);
    let (params, macs, arena_bytes) = (whole(args.params), whole(args.macs), whole(args.arena));
    let budget = Budget { params, macs, arena_bytes, latency_ms: args.latency };
    if budget == Budget::default() { table(args, &spec, out) } else { within(args, &spec, &budget, out) }
}

/// The spec of a file, or of a preset.
fn open(family: &Path) -> Result<Spec> {
    let spec = fornax::open_spec(family, Limits::default().file_bytes)?;
    spec.ok_or_else(|| Error::usage("family", "a spec (.toml) or a preset", family.display().to_string()))
}

/// A member of a family.
struct Member {
    phi: f64,
    spec: Spec,
    architecture: Architecture,
    measured: Option<Measurement>,
}

fn table(args: &Args, family: &Spec, out: &mut Output<'_>) -> Result<()> {
    let Range { from, to, step } = args.phi;
    // Phi is shown to thousandths, and is what is shown.
    let phis = (0..=((to - from) / step + 1e-9) as usize).map(|k| ((from + k as f64 * step) * 1e3).round() / 1e3);
    let probe = (!args.count).then(|| LatencyProbe::new(usize::from(args.threads)));
    let mut members = Vec::new();
    for phi in phis {
        let spec = grow(family, phi);
        let mut architecture = spec.resolve()?.architecture;
        architecture.name = format!("{}_phi{phi}", family.name);
        let measure =
            |probe: LatencyProbe| progress::during(&format!("measuring phi {phi}"), || probe.measure(&architecture));
        let measured = probe.map(measure).transpose()?;
        members.push(Member { phi, spec, architecture, measured });
    }
    let best = best(&members);
    if let (Some(path), Some(last)) = (&args.output, members.last()) {
        fornax::write_file(path, last.spec.to_toml().as_bytes())?;
    }
    if let Some(path) = &args.chart {
        let point = |(at, member): (usize, &Member)| {
            let measured = member.measured.as_ref()?;
            let label = format!("phi {}", member.phi);
            Some(chart::Point {
                x: measured.stats.macs as f64 / 1e9,
                y: measured.latency_ms,
                label,
                best: best.contains(&at),
            })
        };
        let points: Vec<chart::Point> = members.iter().enumerate().filter_map(point).collect();
        let title = format!("{}: latency on {}", family.name, measured::threads(usize::from(args.threads)));
        fornax::write_file(path, chart::svg(&title, "GMACs", "ms", &points).as_bytes())?;
    }
    if out.json {
        let rows: Vec<Value> = members.iter().map(Member::json).collect();
        return out.json(
            &json!({"version": 1, "family": family.name, "threads": args.threads, "members": rows, "pareto": best}),
        );
    }
    let measured = if args.count { "" } else { "       arena     weights  predicted   measured" };
    writeln!(out.to, "phi     width  depth  side      params          MACs{measured}")?;
    // The first network tells how far above the floor this machine runs.
    let ratio = members.first().and_then(|member| member.measured.as_ref()).map(|m| m.latency_ms / m.floor_ms);
    for (at, member) in members.iter().enumerate() {
        let star = if best.contains(&at) && !args.count { " *" } else { "" };
        writeln!(out.to, "{}{star}", member.line(ratio)?)?;
    }
    if !args.count {
        writeln!(out.to, "* no other member does as much in less time")?;
    }
    published_lines(args, family, out)
}

/// Members that do most for their time: no other has as many multiply-accumulates and less latency.
fn best(members: &[Member]) -> Vec<usize> {
    let cost = |member: &Member| {
        let measured = member.measured.as_ref()?;
        Some([-(measured.stats.macs as f64), measured.latency_ms])
    };
    pareto(&members.iter().filter_map(cost).collect::<Vec<_>>())
}

impl Member {
    fn line(&self, ratio: Option<f64>) -> Result<String> {
        let scale = self.spec.multipliers()?;
        let counts = count(&self.architecture, self.architecture.side);
        let mut line = format!(
            "{:<7} {:5.3}  {:5.3}  {:4}  {:>10}  {:>12}",
            self.phi,
            scale.width,
            scale.depth,
            scale.side,
            counts.params,
            counts.macs.total()
        );
        if let (Some(measured), Some(ratio)) = (&self.measured, ratio) {
            let (arena, weights) = (measured.stats.arena_bytes as f64 / 1e6, measured.stats.weights_bytes as f64 / 1e6);
            let (predicted, latency) = (measured.floor_ms * ratio, measured.latency_ms);
            line += &format!("  {arena:7.2} MB  {weights:7.2} MB  {predicted:6.2} ms  {latency:6.2} ms");
        }
        Ok(line)
    }

    fn json(&self) -> Value {
        let counts = count(&self.architecture, self.architecture.side);
        let mut value = json!({"phi": self.phi, "side": self.architecture.side, "params": counts.params, "macs": counts.macs.total()});
        if let Some(measured) = &self.measured {
            value["arena_bytes"] = measured.stats.arena_bytes.into();
            value["weights_bytes"] = measured.stats.weights_bytes.into();
            value["latency_ms"] = measured.latency_ms.into();
            value["floor_ms"] = measured.floor_ms.into();
            value["compile_ms"] = measured.compile_ms.into();
        }
        value
    }
}

fn published_lines(args: &Args, family: &Spec, out: &mut Output<'_>) -> Result<()> {
    // A spec of the same name is another network.
    let preset = args.family.extension().is_none();
    let figures = if preset { published(&family.name) } else { Vec::new() };
    if figures.is_empty() {
        return Ok(writeln!(out.to, "accuracy: no published figures for {}, and none can be predicted", family.name)?);
    }
    let list: Vec<String> = figures.iter().map(|figure| format!("{} % ({})", figure.top1, figure.recipe)).collect();
    Ok(writeln!(
        out.to,
        "accuracy of {}, published, ImageNet top-1: {}; of other members nothing is known",
        family.name,
        list.join(", ")
    )?)
}

fn within(args: &Args, family: &Spec, budget: &Budget, out: &mut Output<'_>) -> Result<()> {
    let probe = LatencyProbe::new(usize::from(args.threads));
    let mut measure = |architecture: &Architecture| -> Result<Measured> {
        let counts = count(architecture, architecture.side);
        if counts.params > MOST_PARAMS || counts.macs.total() > MOST_MACS {
            // Beyond what is worth compiling to know that it does not fit.
            return Ok(Measured { arena_bytes: Some(u64::MAX), latency_ms: Some(f64::INFINITY) });
        }
        let measured = probe.measure(architecture)?;
        Ok(Measured { arena_bytes: Some(measured.stats.arena_bytes as u64), latency_ms: Some(measured.latency_ms) })
    };
    let solution: Solution = progress::during("searching", || solve(family, budget, &mut measure))?;
    if let Some(path) = &args.output {
        fornax::write_file(path, solution.spec.to_toml().as_bytes())?;
    }
    if out.json {
        let others = [&solution.next_phi, &solution.next_side].map(|next| next.as_ref().map(candidate_json));
        return out.json(&json!({
            "version": 1,
            "chosen": candidate_json(&solution.chosen),
            "unraised": candidate_json(&solution.unraised),
            "next_phi": others[0],
            "next_side": others[1],
            "measurements": solution.measurements,
            "spec": solution.spec.to_toml(),
        }));
    }
    writeln!(out.to, "chosen     {}", candidate(&solution.chosen))?;
    if solution.unraised.multipliers.side != solution.chosen.multipliers.side {
        writeln!(out.to, "           from side {}, raised while it fits", solution.unraised.multipliers.side)?;
    }
    for (what, next) in [("next phi", &solution.next_phi), ("next side", &solution.next_side)] {
        if let Some(next) = next {
            let reasons: Vec<String> = next.excess.iter().map(ToString::to_string).collect();
            writeln!(out.to, "{what:<10} {}: {}", candidate(next), reasons.join(", "))?;
        }
    }
    let stages = solution.chosen.architecture.stages.iter();
    let rows: Vec<String> =
        stages.map(|stage| format!("{}x{}", stage.len(), stage.last().map_or(0, |block| block.output))).collect();
    writeln!(out.to, "stages     stem {}, {}", solution.chosen.architecture.stem.output, rows.join(" "))?;
    if let Some(path) = &args.output {
        writeln!(out.to, "spec       {}", path.display())?;
    }
    Ok(())
}

fn candidate(candidate: &Candidate) -> String {
    let scale = candidate.multipliers;
    let mut text = format!(
        "phi {:.2} (width {:.4}, depth {:.4}, side {}): {} parameters, {} MACs",
        candidate.phi, scale.width, scale.depth, scale.side, candidate.cost.params, candidate.cost.macs
    );
    if let Some(Measured { arena_bytes: Some(arena), latency_ms: Some(latency) }) = candidate.cost.measured {
        text += &format!(", arena {:.2} MB, {latency:.2} ms here", arena as f64 / 1e6);
    }
    text
}

fn candidate_json(candidate: &Candidate) -> Value {
    let (scale, measured) = (candidate.multipliers, candidate.cost.measured.unwrap_or_default());
    json!({
        "phi": candidate.phi, "width": scale.width, "depth": scale.depth, "side": scale.side,
        "params": candidate.cost.params, "macs": candidate.cost.macs,
        "arena_bytes": measured.arena_bytes, "latency_ms": measured.latency_ms,
        "excess": candidate.excess.iter().map(ToString::to_string).collect::<Vec<_>>(),
    })
}

/// The bases of the papers' grid search, by the counts of what they make of the family at phi 1.
fn grid(family: &Spec, out: &mut Output<'_>) -> Result<()> {
    let mut rows = Vec::new();
    for scaling in bases(20, 2.0, 0.1) {
        let mut spec = grow(family, 1.0);
        spec.scaling = Some(scaling.clone());
        let architecture = spec.resolve()?.architecture;
        let counts = count(&architecture, architecture.side);
        rows.push((scaling, architecture.side, counts.params, counts.macs.total()));
    }
    rows.sort_by_key(|(.., macs)| *macs);
    if out.json {
        let row = |(scaling, side, params, macs): &(fornax::scaling::spec::Scaling, usize, u64, u64)| {
            json!({"depth": scaling.depth_base, "width": scaling.width_base, "resolution": scaling.resolution_base,
                "cost": scaling.growth(), "side": side, "params": params, "macs": macs})
        };
        return out.json(&json!({"version": 1, "bases": rows.iter().map(row).collect::<Vec<_>>()}));
    }
    writeln!(out.to, "depth  width  resolution   cost  side      params          MACs")?;
    for (scaling, side, params, macs) in &rows {
        let (depth, width, resolution) = (scaling.depth_base, scaling.width_base, scaling.resolution_base);
        writeln!(
            out.to,
            "{depth:5.2}  {width:5.2}  {resolution:10.2}  {:5.3}  {side:4}  {params:>10}  {macs:>12}",
            scaling.growth()
        )?;
    }
    let note = "which of them is the most accurate is found by training them; nothing here predicts it";
    Ok(writeln!(out.to, "{} bases; {note}", rows.len())?)
}
