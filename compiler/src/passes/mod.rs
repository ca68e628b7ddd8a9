//! Passes.
pub mod lower;
