//! What of a network is trained, and by what: the part of a training that a step is compiled for.
//!
//! In: a classifier and a [`Recipe`]. Out: its training graphs, or the [`Step`] that runs them. Batch norms keep their statistics, and nothing
//! is masked, so that the bits of a step depend on images, targets and rates alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use fornax_ir::graph::Graph;
use fornax_ir::inputs::Bindings;
use fornax_ir::training::{Norm, Optimiser, Setting, Training, TrainingOptions};
use fornax_ir::types::TensorType;
use fornax_runtime::Pool;

use super::scope::{Layers, Scope};
use super::step::Step;
use crate::error::{Error, Result};
use crate::facade::Model;

/// What of a network is trained, and by what.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Recipe {
    /// How much of it is trained.
    pub scope: Scope,
    /// What turns gradients into steps.
    pub optimiser: Optimiser,
    /// Weight decay of what is neither a bias nor of a batch norm.
    pub weight_decay: f64,
}

impl Default for Recipe {
    /// All of it, by AdamW with its usual betas, without weight decay.
    fn default() -> Self {
        let optimiser = Optimiser::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
        Self { scope: Scope::All, optimiser, weight_decay: 0.0 }
    }
}

impl Recipe {
    /// Compiles the step of `model` for this machine; `bindings` say how many images a call of [`Step::gradients`] takes, 1 where they leave it
    /// open. Threads change no bit.
    ///
    /// # Errors
    /// [`Error::Usage`] if the weight decay is no number from 0, the network has fewer stages than are to be trained, or does not end in a
    /// linear layer where only that is; [`Error::Model`] if dimensions stay open; [`Error::Graph`] naming every operator without a gradient.
    pub fn step(&self, model: &Model, bindings: &Bindings, threads: usize) -> Result<Step> {
        let graph = model.graph(bindings)?;
        let pool = Arc::new(Pool::at_most(threads.max(1), false)?);
        self.with_options(model, &graph, |options| Step::new(&graph, options, &crate::facade::host()?, pool))
    }

    /// The training graphs of `graph`, which is one of `model`.
    pub(super) fn training(&self, model: &Model, graph: &Graph) -> Result<Training> {
        self.with_options(model, graph, |options| Ok(Training::new(graph, options)?))
    }

    /// Calls `run` with the options that this recipe comes to for `graph`.
    fn with_options<T>(
        &self,
        model: &Model,
        graph: &Graph,
        run: impl FnOnce(&TrainingOptions<'_>) -> Result<T>,
    ) -> Result<T> {
        let decay = self.weight_decay;
        if !(decay >= 0.0 && decay.is_finite()) {
            return Err(Error::usage("--weight-decay", "a number from 0", decay.to_string()));
        }
        let mut of_head = BTreeSet::new();
        if self.scope == Scope::Head {
            let head = model.head(graph)?;
            of_head.extend([head.weights, head.biases]);
        }
        let names = Layers::new(graph, &of_head)?.names(self.scope)?;
        run(&TrainingOptions {
            trained: &|name| names.contains(name),
            norms: &|_| Norm::Fixed,
            momentum: 0.1,
            dropout: false,
            drop_path: false,
            optimiser: self.optimiser,
            setting: &|_, ty: &TensorType| Setting { rate: 1.0, decay: decay_of(decay, ty) },
            clip: false,
            ema: false,
        })
    }
}

/// The weight decay of a parameter of type `ty`, given that of weights: none for what has one axis, biases and batch norms.
pub(super) fn decay_of(weights: f64, ty: &TensorType) -> f64 {
    if ty.shape.rank() > 1 { weights } else { 0.0 }
}
