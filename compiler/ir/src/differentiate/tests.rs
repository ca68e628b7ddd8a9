//! Gradients against central differences of the reference evaluator, in `f64`: every rule by itself, and random networks.

mod differences;
mod random;
mod rules;
mod structure;
