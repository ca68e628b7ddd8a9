//! The portable form of a network: a graph of operators with static shapes, before any target is known.
//!
//! In: what a frontend built. Out: what [`crate::passes`] rewrote, still the same form. Invariants, which [`verify`] checks
//! between passes: operand slots are dense, every type is what the operator's shape rule says, names are unique, no cycle.

pub mod graph;

pub use graph::{Graph, Kind, Node, NodeId};
