//! `list-ops` and `list-passes`: what there is.

use fornax::Result;
use fornax::compiler::pipeline::PASSES;
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
