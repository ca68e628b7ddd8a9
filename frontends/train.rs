//! Training: from photos in folders to a network that tells them apart.
//!
//! In: a [`crate::Model`], photos of known classes. Out: the same network with other weights. Everything that is drawn at random is a
//! function of seed, epoch and photo, and every sum has an order of its own, so that a run gives the same bits on every CPU of one
//! architecture, on any number of threads, and when it is resumed.

pub mod augment;
mod batches;
pub mod dataset;
pub mod events;
pub mod finetune;
pub mod folder;
pub mod logistic;
pub mod metrics;
pub mod mix;
pub mod options;
pub mod outputs;
mod parallel;
pub mod photos;
pub mod probe;
pub mod random;
pub mod range;
mod run;
pub mod schedule;
pub mod scope;
mod sound;
pub mod statistics;
pub mod step;
