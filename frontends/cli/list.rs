//! `list-ops`, `list-passes`, `list-presets` and `targets`: what there is.

use fornax::compiler::pipeline::{Stage, stages};
use fornax::runtime::{CpuFeatures, available_threads, model_name};
use fornax::scaling::count::count;
use fornax::scaling::presets;
use fornax::{Result, Target};
use serde_json::json;

use crate::output::Output;

/// Prints the ONNX operators that are imported, with the first version of each.
pub fn operators(out: &mut Output<'_>) -> Result<()> {
    let mut operators = fornax::operators();
    operators.sort_unstable();
    let domain = |domain: &str| if domain.is_empty() { "ai.onnx".to_string() } else { domain.to_string() };
    if out.json {
        let list: Vec<_> = operators
            .iter()
            .map(|(name, d, since)| json!({"name": name, "domain": domain(d), "since": since}))
            .collect();
        return out.json(&json!({"version": 1, "operators": list}));
    }
    for (name, d, since) in operators {
        writeln!(out.to, "{name:<28} {} {since}", domain(d))?;
    }
    Ok(())
}

/// Prints the stages of a compilation in the order they run, with what they work on.
pub fn passes(out: &mut Output<'_>) -> Result<()> {
    if out.json {
        let stage = |stage: Stage| json!({"name": stage.name, "about": stage.about, "form": stage.form.name()});
        return out.json(&json!({"version": 1, "passes": stages().map(stage).collect::<Vec<_>>()}));
    }
    for Stage { name, about, form } in stages() {
        writeln!(out.to, "{name:<22} {:<14} {about}", form.name())?;
    }
    Ok(())
}

/// Prints the presets with the side of their input, their parameters and multiply-accumulates.
pub fn presets(out: &mut Output<'_>) -> Result<()> {
    let mut list = Vec::new();
    for name in presets::names()? {
        let architecture = presets::spec(name)?.resolve()?.architecture;
        let counts = count(&architecture, architecture.side);
        list.push((name, architecture.side, counts.params, counts.macs.total()));
    }
    if out.json {
        let row = |(name, side, params, macs): &(&String, usize, u64, u64)| json!({"name": name, "side": side, "params": params, "macs": macs});
        return out.json(&json!({"version": 1, "presets": list.iter().map(row).collect::<Vec<_>>()}));
    }
    for (name, side, params, macs) in list {
        let (params, macs) = (params as f64 / 1e6, macs as f64 / 1e9);
        writeln!(out.to, "{name:<32} {side:>4}  {params:8.2} M parameters  {macs:8.3} GMACs")?;
    }
    Ok(())
}

/// Prints the targets, with the vectors that their kernels use, and which of them this machine is.
pub fn targets(out: &mut Output<'_>) -> Result<()> {
    let host = Target::host().ok();
    let is_host = |target: &Target| host.as_ref().is_some_and(|host| host.level == target.level);
    let (cpu, features) = (model_name(), CpuFeatures::detect());
    if out.json {
        let target = |target: Target| {
            json!({"name": target.to_string(), "about": target.level.about, "vector_bits": 32 * target.lanes(),
                "runs_here": target.runs_here(), "host": is_host(&target)})
        };
        let list: Vec<_> = Target::all().map(target).collect();
        let host = host.as_ref().map(ToString::to_string);
        return out.json(&json!({"version": 1, "host": host, "cpu": cpu, "features": features.names(),
            "threads": available_threads(), "targets": list}));
    }
    for target in Target::all() {
        let mark = match (is_host(&target), target.runs_here()) {
            (true, _) => "  (this machine)",
            (_, true) => "",
            _ => "  (does not run here)",
        };
        writeln!(out.to, "{:<12} {}{mark}", target.to_string(), target.level.about)?;
    }
    Ok(writeln!(out.to, "processor    {cpu}, {} threads ({features})", available_threads())?)
}
