//! A training step as a library: a network that learns where no compiler is.
//!
//! In: a classifier and a [`Recipe`]. Out: files as of any compiled model, with functions that predict, sum up gradients, update
//! and export parameters (`docs/artifact.md`). The programs are those of [`super::step::Step`], rates and masks those of the recipe, and so are
//! their bits.

use std::collections::BTreeMap;

use fornax_compiler::aot::{Mask, Rate, StepSpec};
use fornax_compiler::pipeline::CompileOptions;
use fornax_ir::graph::Graph;
use fornax_ir::training::{Optimiser, Training};

use super::recipe::{Norms, Recipe};
use super::step::{averaged, options_of_graphs};
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
    let input = training.predict.inputs().first().map(|id| training.predict.ty(*id).shape.to_vec());
    let images = input.and_then(|shape| shape.first().copied()).filter(|images| *images > 0);
    let images = images.ok_or_else(|| Error::usage("model", "an input of images", "none"))?;
    let masks = training.gradients.inputs().iter().filter_map(|id| {
        let elements = training.gradients.ty(*id).shape.numel();
        let mask = recipe.mask(training.gradients.name_of(*id), elements / images, training.blocks.len())?;
        Some(Mask { purpose: mask.purpose as u64, first: mask.first, count: mask.count, rate: mask.rate })
    });
    Ok(StepSpec {
        images,
        masks: masks.collect(),
        rates: training.update.inputs().iter().map(|id| rate(training.update.name_of(*id), recipe)).collect(),
        initialised: initialised(&training.gradients, recipe.optimiser),
        exported: exported(graph, training, recipe),
        about: about(recipe),
    })
}

/// What an input of the update is.
fn rate(name: &str, recipe: &Recipe) -> Rate {
    match (name, recipe.optimiser) {
        ("correction1", Optimiser::AdamW { beta1, .. }) => Rate::Correction(beta1),
        ("correction2", Optimiser::AdamW { beta2, .. }) => Rate::Correction(beta2),
        ("clip", _) => Rate::Clip(recipe.clip.unwrap_or(f64::INFINITY).min(f64::from(f32::MAX)) as f32),
        ("ema", _) => Rate::Average(recipe.ema.unwrap_or_default()),
        _ => Rate::Learning,
    }
}

/// The variables that make up the trained network, averages where there are any, and the names that they have in the model's file.
fn exported(graph: &Graph, training: &Training, recipe: &Recipe) -> Vec<(String, String)> {
    let mut origins = BTreeMap::new();
    for id in graph.ids() {
        let node = graph.node(id);
        if let Some(origin) = node.constant().and_then(|constant| constant.origins.first()) {
            origins.insert(node.name.as_str(), origin.clone());
        }
    }
    let held = |name: &String| if recipe.ema.is_some() { averaged(name) } else { name.clone() };
    let names = training.parameters.iter().chain(&training.running);
    names.map(|name| (held(name), origins.get(name.as_str()).unwrap_or(name).clone())).collect()
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

/// What updates the parameters, in words.
fn about(recipe: &Recipe) -> String {
    let name = match recipe.optimiser {
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
    let mut parts =
        vec![name, format!("weight decay {} on what is neither a bias nor of a batch norm", recipe.weight_decay)];
    if recipe.layer_decay != 1.0 {
        parts.push(format!("each stage at {} of the rate of the one after it", recipe.layer_decay));
    }
    parts.extend(recipe.clip.map(|norm| format!("gradients clipped to the norm {norm}")));
    if recipe.dropout > 0.0 {
        parts.push(format!("a share of {} of the features dropped", recipe.dropout));
    }
    if recipe.drop_path > 0.0 {
        parts.push(format!(
            "the branch of the last residual block skipped for a share of {} of the images",
            recipe.drop_path
        ));
    }
    if recipe.norms == Norms::Trained {
        parts.push("batch norms by the statistics of the images of a run".into());
    }
    parts.extend(recipe.ema.map(|share| format!("averages of the parameters, of which the old keep up to {share}")));
    parts.join(", ")
}
