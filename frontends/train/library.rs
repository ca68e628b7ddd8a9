//! A training step as a library: a network that learns where no compiler is.
//!
//! In: a classifier and a [`Recipe`]. Out: files as of any compiled model, with functions that predict, sum up gradients, update
//! and export parameters (`docs/artifact.md`). The programs are those of [`super::step::Step`], with batch norms fixed and without masks, and so
//! are their bits.

use std::collections::BTreeMap;

use fornax_compiler::aot::{Rate, StepSpec};
use fornax_compiler::pipeline::CompileOptions;
use fornax_ir::graph::Graph;
use fornax_ir::training::{Optimiser, Training};

use super::recipe::Recipe;
use super::step::options_of_graphs;
use crate::error::{Error, Result};
use crate::facade::{ArtifactOptions, Artifacts, Emit, Model, StepParts};

/// Compiles the training step of `model` for the one set of shapes in `options`; a run takes as many images as these say.
///
/// # Errors
/// [`Error::Usage`] if there are several sets of shapes; as [`Recipe::step`] and [`Model::artifacts`].
pub fn artifacts(model: &Model, recipe: &Recipe, options: &ArtifactOptions, emit: &[Emit]) -> Result<Artifacts> {
    let [bindings] = &options.bindings[..] else {
        let found = options.bindings.len().to_string();
        return Err(Error::usage("--dim", "one set of shapes for a training step", found));
    };
    let graph = model.graph(bindings)?;
    let training = recipe.training(model, &graph)?;
    let spec = spec(&graph, &training, recipe)?;
    let mut metadata = model.metadata().clone();
    // The step's outputs are logits, whatever the network ends in.
    metadata.remove("output");
    let Training { predict, gradients, update, .. } = training;
    let compile = CompileOptions { exact: model.options().exact, ..options_of_graphs() };
    model.step_artifacts(StepParts { graphs: [predict, gradients, update], spec, metadata, compile }, options, emit)
}

/// What the parts of a step are besides graphs.
fn spec(graph: &Graph, training: &Training, recipe: &Recipe) -> Result<StepSpec> {
    let Recipe { optimiser, weight_decay, .. } = *recipe;
    let input = training.predict.inputs().first().map(|id| training.predict.ty(*id).shape.to_vec());
    let images = input.and_then(|shape| shape.first().copied()).filter(|images| *images > 0);
    let images = images.ok_or_else(|| Error::usage("model", "an input of images", "none"))?;
    let rates = training.update.inputs().iter().map(|id| match (training.update.name_of(*id), optimiser) {
        ("correction1", Optimiser::AdamW { beta1, .. }) => Rate::Correction(beta1),
        ("correction2", Optimiser::AdamW { beta2, .. }) => Rate::Correction(beta2),
        _ => Rate::Learning,
    });
    let mut origins = BTreeMap::new();
    for id in graph.ids() {
        let node = graph.node(id);
        if let Some(origin) = node.constant().and_then(|constant| constant.origins.first()) {
            origins.insert(node.name.as_str(), origin.clone());
        }
    }
    let exported = training.parameters.iter().map(|name| {
        let origin = origins.get(name.as_str()).unwrap_or(name);
        (name.clone(), origin.clone())
    });
    Ok(StepSpec {
        images,
        rates: rates.collect(),
        initialised: initialised(&training.gradients, optimiser),
        exported: exported.collect(),
        about: about(optimiser, weight_decay),
    })
}

/// How many of the first variables of a gradients graph begin with elements of their own: the sums of gradients, and most states of
/// optimisers, begin with zeros.
fn initialised(gradients: &Graph, optimiser: Optimiser) -> usize {
    let zeros: Vec<&str> =
        optimiser.states().iter().filter(|(_, first)| *first == 0.0).map(|(state, _)| *state).collect();
    let is_zero = |id: &fornax_ir::graph::NodeId| {
        let node = gradients.node(*id);
        let state = node.variable().and_then(|variable| variable.name.split_once('.')).map(|(state, _)| state);
        node.mnemonic() == "state" && state.is_some_and(|state| state == "grad" || zeros.contains(&state))
    };
    gradients.variables().iter().rposition(|id| !is_zero(id)).map_or(0, |last| last + 1)
}

/// An optimiser in words.
fn about(optimiser: Optimiser, decay: f64) -> String {
    let name = match optimiser {
        Optimiser::Sgd { momentum, nesterov } => {
            format!("SGD with momentum {momentum}{}", if nesterov { " as Nesterov has it" } else { "" })
        }
        Optimiser::AdamW { beta1, beta2, epsilon } => {
            format!("AdamW with betas {beta1} and {beta2}, epsilon {epsilon:e}")
        }
        Optimiser::RmspropTf { decay, momentum, epsilon } => {
            format!("RMSprop as TensorFlow has it with decay {decay}, momentum {momentum}, epsilon {epsilon:e}")
        }
        Optimiser::Lion { beta1, beta2 } => format!("Lion with betas {beta1} and {beta2}"),
    };
    format!("{name}, weight decay {decay} on what is neither a bias nor of a batch norm")
}
