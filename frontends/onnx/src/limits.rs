//! Bounds on what a model file may make the importer do.

use crate::error::{Error, Result};

/// Elements of the widest type, 8 bytes, that an address space holds.
const MOST_ELEMENTS: u64 = isize::MAX as u64 / 8;

/// Bounds with defaults far above real networks and far below what would exhaust a machine.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Size of the model file and of each external data file, in bytes.
    pub file_bytes: u64,
    /// Nodes, counted after functions are inlined.
    pub nodes: u64,
    /// Elements of any one value: input, constant or intermediate.
    pub tensor_elements: u64,
    /// Axes of any one value.
    pub rank: u64,
    /// Elements read and written by constant folding over the whole import.
    pub fold_elements: u64,
    /// Depth of functions that call functions and of graphs inside graphs.
    pub depth: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            file_bytes: 1 << 36,
            nodes: 1 << 17,
            tensor_elements: 1 << 32,
            rank: 16,
            fold_elements: 1 << 22,
            depth: 32,
        }
    }
}

impl Limits {
    /// Fails unless `needed` is within `allowed`, the value of the field `limit`.
    pub(crate) fn check(place: &str, limit: &'static str, allowed: u64, needed: u64) -> Result<()> {
        if needed <= allowed {
            return Ok(());
        }
        Err(Error::Limit { place: crate::error::short(place), limit, allowed, needed })
    }

    /// Fails if a shape has too many axes or elements.
    pub(crate) fn check_shape(&self, place: &str, shape: &[usize]) -> Result<()> {
        Self::check(place, "rank", self.rank, shape.len() as u64)?;
        // A zero among the axes makes any product zero: the others are still bounded. Whatever the limit, bytes are addressable.
        let elements = shape.iter().filter(|d| **d != 0).fold(1u64, |n, d| n.saturating_mul(*d as u64));
        Self::check(place, "tensor_elements", self.tensor_elements.min(MOST_ELEMENTS), elements)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_limit_is_beyond_the_address_space() {
        let limits = Limits { tensor_elements: u64::MAX, ..Limits::default() };
        assert!(limits.check_shape("x", &[1 << 40, 0, 1 << 20]).is_err());
        assert!(limits.check_shape("x", &[1 << 40, 0, 1 << 40]).is_err());
        assert!(limits.check_shape("x", &[1 << 40, 0, 1 << 19]).is_ok());
    }
}
