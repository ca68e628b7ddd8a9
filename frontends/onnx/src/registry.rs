//! (operator, version range) to import function.

use crate::context::ImportFn;

/// The import function of an operator at an opset version.
pub(crate) fn lookup(_domain: &str, _op_type: &str, _version: i64) -> Option<ImportFn> {
    None
}

/// Name, domain and first version of every operator that is imported.
pub fn operators() -> Vec<(&'static str, &'static str, i64)> {
    Vec::new()
}
