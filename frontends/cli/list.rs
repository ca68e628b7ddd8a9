//! `list-ops`, `list-passes` and `targets`: what there is.

use fornax::compiler::pipeline::PASSES;
use fornax::compiler::target::NAMES;
use fornax::runtime::{CpuFeatures, available_threads, model_name};
use fornax::{Result, Target};
use serde_json::json;

use crate::Output;

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

/// Prints the passes in the order they run.
pub fn passes(out: &mut Output<'_>) -> Result<()> {
    if out.json {
        let list: Vec<_> = PASSES.iter().map(|pass| json!({"name": pass.name, "about": pass.about})).collect();
        return out.json(&json!({"version": 1, "passes": list}));
    }
    for pass in PASSES {
        writeln!(out.to, "{:<22} {}", pass.name, pass.about)?;
    }
    Ok(())
}

/// Prints the targets, with the vectors that their kernels use, and which of them this machine is.
pub fn targets(out: &mut Output<'_>) -> Result<()> {
    let host = Target::host().map(|target| target.to_string()).ok();
    let lanes = |name: &str| name.parse().map_or(0, |target: Target| target.lanes());
    let is_host = |name: &str| host.as_deref() == Some(name);
    let (cpu, features) = (model_name(), CpuFeatures::detect());
    if out.json {
        let target = |name: &&str| json!({"name": name, "vector_bits": 32 * lanes(name), "host": is_host(name)});
        let list: Vec<_> = NAMES.iter().map(target).collect();
        return out.json(&json!({"version": 1, "host": host, "cpu": cpu, "features": features.names(),
            "threads": available_threads(), "targets": list}));
    }
    for name in NAMES {
        let mark = if is_host(name) { "  this machine" } else { "" };
        writeln!(out.to, "{name:<12} {:>3}-bit vectors{mark}", 32 * lanes(name))?;
    }
    Ok(writeln!(out.to, "processor    {cpu}, {} threads ({features})", available_threads())?)
}
