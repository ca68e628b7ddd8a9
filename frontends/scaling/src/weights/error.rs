//! What can be wrong with a file of weights.

use std::path::PathBuf;

use super::torch::CheckpointError;

/// Faults listed before the rest is only counted.
const LISTED: usize = 20;

/// What can be wrong with a file of weights.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be opened or mapped.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system or the runtime said.
        message: String,
    },
    /// The bytes are neither a safetensors file nor a PyTorch checkpoint.
    #[error("{source_name}: not a safetensors file or a PyTorch checkpoint: {message}")]
    NotSafetensors {
        /// The file.
        source_name: String,
        /// What is wrong.
        message: String,
    },
    /// A PyTorch checkpoint cannot be read.
    #[error("{source_name}: {error}")]
    Checkpoint {
        /// The file.
        source_name: String,
        /// What is wrong.
        error: CheckpointError,
    },
    /// A pattern of tensors to be left out is none, or there are no such tensors.
    #[error("{source_name}: pattern `{pattern}`: expected {expected}, found {found}")]
    Pattern {
        /// The file.
        source_name: String,
        /// The pattern.
        pattern: String,
        /// What would fit.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// No naming scheme is recognised.
    #[error("{source_name}: naming scheme: expected one of {expected}, found {found}")]
    Scheme {
        /// The file.
        source_name: String,
        /// The schemes.
        expected: String,
        /// The first names of the file.
        found: String,
    },
    /// Tensors are missing, unexpected or misshapen.
    #[error("{source_name}: does not fit {architecture} in {scheme} naming:{}", listed(faults))]
    Mismatch {
        /// The file.
        source_name: String,
        /// Name of the architecture.
        architecture: String,
        /// The naming scheme.
        scheme: &'static str,
        /// All faults, one line each.
        faults: Vec<String>,
    },
    /// A parameter is too large to be made.
    #[error("{parameter}: elements: allowed {allowed}, needed {needed}")]
    TooLarge {
        /// Canonical name.
        parameter: String,
        /// The bound.
        allowed: usize,
        /// What the architecture asks for.
        needed: usize,
    },
    /// A parameter that the source was not bound to.
    #[error("parameter {0}: expected one of the bound architecture, found none")]
    Unknown(String),
}

/// Result of loading weights.
pub type Result<T, E = Error> = std::result::Result<T, E>;

fn listed(faults: &[String]) -> String {
    let mut text: String = faults.iter().take(LISTED).map(|fault| format!("\n  {fault}")).collect();
    if faults.len() > LISTED {
        text.push_str(&format!("\n  and {} more", faults.len() - LISTED));
    }
    text
}
