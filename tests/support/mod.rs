//! What several test files share: where test data lives, and networks written through an independent ONNX implementation.
#![allow(dead_code, reason = "each test file uses its own part")]

pub mod efficientnet;
pub mod onnx;
pub mod resnet;

use std::path::PathBuf;

/// The folder of the committed demo.
pub fn examples() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// A file or folder of the shared test data (`FORNAX_SHARED`, by default next to the repository); `None`, loudly, if it is missing.
pub fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("FORNAX_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let found = root.join(path);
    if found.exists() {
        return Some(found);
    }
    eprintln!("SKIPPED: {} is not there; set FORNAX_SHARED to the shared test data", found.display());
    None
}
