//! Domains of operators and the versions that a model or function imports of them.

use std::collections::BTreeMap;

use crate::error::{Error, Result, short};
use crate::proto::OperatorSetId;

/// Newest version of the standard operator set that is read.
const NEWEST_OPSET: i64 = 28;

/// Opset versions by domain, the standard domain as the empty name.
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
        if let Some(other) = opsets.insert(domain.to_string(), import.version)
            && other != import.version
        {
            let found = format!("{other} and {}", import.version);
            return Err(Error::model(place, format!("opset of domain {}", show_domain(domain)), "one version", found));
        }
    }
    Ok(opsets)
}

/// The domain with the long name of the standard one shortened to nothing.
pub(crate) fn standard_domain(domain: &str) -> &str {
    if domain == "ai.onnx" { "" } else { domain }
}

/// The domain as a message shows it.
pub(crate) fn show_domain(domain: &str) -> String {
    if domain.is_empty() { "ai.onnx".into() } else { short(domain) }
}
