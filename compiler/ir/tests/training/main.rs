//! Training graphs on the reference evaluator, in `f64`: gradients against central differences of the network's own loss, steps against
//! the optimisers' formulas written out.

mod gradients;
mod network;
mod refusals;
mod steps;
