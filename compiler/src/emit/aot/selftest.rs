//! What a library's self test must compute.

use fornax_runtime::artifact::Sample;

use super::Compiled;
use crate::error::Result;

/// Outputs of the first binding on made-up inputs.
#[derive(Clone, PartialEq, Debug)]
pub struct Selftest {
    /// Hash of all outputs.
    pub hash: u64,
    /// Some of the values.
    pub samples: Vec<Sample>,
}

/// Runs the first binding on a level with fused multiply-add, if this machine has one that gives the library's bits.
///
/// # Errors
/// [`crate::Error::Runtime`] if memory cannot be had.
pub fn measure(_compiled: &Compiled<'_>, _threads: usize) -> Result<Option<Selftest>> {
    Ok(None)
}
