//! Compound-scaled networks: from a spec, a preset or a budget to a graph.
//!
//! ```text
//! spec.toml, preset ──▶ Spec ── scale (width, depth, side) ──▶ Architecture ──▶ counts: parameters, MACs, shapes
//!                        ▲                                        │
//!              budget ── solve                                    └── build, with weights from a state dict or a seed ──▶ ir::Graph
//! ```
//!
//! A [`spec`] says what a family is made of and how it grows; an [`architecture::Architecture`] is one network of it, every
//! channel count and repeat resolved. Nothing after it rounds or scales.

pub mod architecture;
pub mod build;
pub mod count;
pub mod growth;
pub mod layers;
pub mod parameters;
pub mod published;
pub mod rounding;
pub mod solve;
pub mod spec;
mod suggest;
pub mod weights;

pub use spec::presets;
pub use weights::random;
