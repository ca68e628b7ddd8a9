//! Domains of operators and the versions that a model or function imports of them.

use std::collections::BTreeMap;

use crate::error::{Error, Result, short};
use crate::proto::OperatorSetId;

/// Newest version of the standard operator set that is read.
const NEWEST_OPSET: i64 = 28;

/// Opset versions by domain, the standard domain as the empty name. Of several imports of a domain the last counts, as in onnxruntime.
pub(crate) fn opsets(place: &str, imports: &[OperatorSetId]) -> Result<BTreeMap<String, i64>> {
    let mut opsets = BTreeMap::new();
    for import in imports {
        let domain = standard_domain(&import.domain);
        let newest = if domain.is_empty() { NEWEST_OPSET } else { i64::MAX };
        if !(1..=newest).contains(&import.version) {
            let range = if domain.is_empty() { format!("1 to {NEWEST_OPSET}") } else { "1 or more".into() };
            let field = format!("opset version of domain {}", show_domain(domain));
            return Err(Error::model(place, field, range, import.version.to_string()));
        }
        opsets.insert(domain.to_string(), import.version);
    }
    Ok(opsets)
}

/// A note for each domain that is imported with different versions.
pub(crate) fn imported_twice(imports: &[OperatorSetId]) -> Vec<String> {
    let mut versions: BTreeMap<&str, Vec<i64>> = BTreeMap::new();
    imports.iter().for_each(|i| versions.entry(standard_domain(&i.domain)).or_default().push(i.version));
    let mut notes = Vec::new();
    for (domain, versions) in versions {
        if let Some(last) = versions.last().filter(|last| versions.iter().any(|version| version != *last)) {
            notes.push(format!("domain {} is imported as {versions:?}; the last counts, {last}", show_domain(domain)));
        }
    }
    notes
}

/// The domain with the long name of the standard one shortened to nothing.
pub(crate) fn standard_domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

/// The domain as a message shows it.
pub(crate) fn show_domain(domain: &str) -> String {
    if domain.is_empty() { "ai.onnx".into() } else { short(domain) }
}
