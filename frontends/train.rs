//! Training: from photos in folders to a network that tells them apart.
//!
//! In: a [`crate::Model`], photos of known classes. Out: the same network with other weights. Everything that is drawn at random is a
//! function of seed, epoch and photo, and every sum has an order of its own, so that a run gives the same bits on every CPU of one
//! architecture, on any number of threads, and when it is resumed.
//!
//! [`mod@finetune`] is the whole loop. Whoever wants it in their own hands takes its parts: [`recipe::Recipe`] says what is trained, and makes a
//! [`step::Step`], which sums up gradients and moves parameters. Photos come from a [`dataset::Dataset`] by way of [`photos::Photos`], or tensors
//! from anywhere else:
//!
//! ```
//! use fornax::train::recipe::Recipe;
//! use fornax::train::scope::Scope;
//! use fornax::train::step::Rates;
//! use fornax::{Bindings, Model, Tensor};
//!
//! let model = Model::open("examples/signs.onnx")?.for_classes(2, None)?;
//! let recipe = Recipe { scope: Scope::Head, ..Recipe::default() };
//! let mut step = recipe.step(&model, &Bindings::default(), 1)?;
//!
//! // A dark picture and a light one. The weight of a class is 1 over the batch where the picture shows it.
//! let picture = |value: f32| Tensor::from_f32([1, 3, 96, 96], &vec![value; 3 * 96 * 96]);
//! let batch = [
//!     (picture(-1.0)?, Tensor::from_f32([1, 2], &[0.5, 0.0])?),
//!     (picture(1.0)?, Tensor::from_f32([1, 2], &[0.0, 0.5])?),
//! ];
//! let mut losses = Vec::new();
//! for number in 1..=10 {
//!     let mut loss = 0.0;
//!     for (image, targets) in &batch {
//!         let (own, _logits) = step.gradients(&[image, targets])?;
//!         loss += own[0];
//!     }
//!     losses.push(loss);
//!     step.update(&Rates::new(0.1, number))?;
//! }
//! assert!(losses[9] < losses[0] / 2.0);
//!
//! // The same bytes go on where these ended, after a break or in another process.
//! let saved = step.save_state();
//! let mut other = recipe.step(&model, &Bindings::default(), 2)?;
//! other.restore_state(&saved)?;
//! assert_eq!(other.variable("classifier.1.bias")?, step.variable("classifier.1.bias")?);
//!
//! // The network with these weights runs, is exported and compiled like any other.
//! let trained = model.with_weights(step.constants(false)?)?;
//! let mut session = trained.session(&Default::default())?;
//! let scores = session.run(&[&batch[1].0])?;
//! let scores = scores[0].as_f32().unwrap_or_default();
//! assert!(scores[1] > scores[0]);
//! # Ok::<(), fornax::Error>(())
//! ```
//!
//! [`library::artifacts`] compiles such a step for devices without a compiler.

pub mod augment;
mod batches;
pub mod classifier;
pub mod dataset;
pub mod events;
pub mod finetune;
mod fitting;
pub mod folder;
pub mod library;
pub mod logistic;
pub mod masks;
mod memory;
pub mod metrics;
pub mod mirrored;
pub mod mix;
pub mod options;
pub mod outputs;
mod parallel;
pub mod photos;
pub mod probe;
pub mod random;
pub mod range;
pub mod recipe;
pub mod report;
mod run;
pub mod schedule;
pub mod scope;
mod sound;
pub mod statistics;
pub mod step;
#[cfg(test)]
mod testing;
mod validation;
