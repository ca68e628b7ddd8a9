//! A training step as a library: a network that learns where no compiler is.
//!
//! In: a classifier, what is trained of it, and by what. Out: files as of any compiled model, with functions that predict, sum up gradients, update
//! and export parameters (`docs/artifact.md`). The programs are those of [`super::step::Step`], with batch norms fixed and without masks, and so
//! are their bits.

use std::collections::{BTreeMap, BTreeSet};

use fornax_compiler::aot::{Rate, StepSpec};
use fornax_compiler::pipeline::CompileOptions;
use fornax_ir::graph::Graph;
use fornax_ir::training::{Norm, Optimiser, Setting, Training, TrainingOptions};
use fornax_ir::types::TensorType;

use super::classifier::fresh;
use super::scope::Scope;
use super::step::options_of_graphs;
use crate::error::{Error, Result};
use crate::facade::{ArtifactOptions, Artifacts, Emit, Model, StepParts, with_constants};

/// What a library trains, and how.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct LibraryOptions {
    /// How much of the network is trained.
    pub scope: Scope,
    /// Classes of a new last layer, whose weights begin at zero; none: the network's own stays.
    pub classes: Option<usize>,
    /// What turns gradients into steps.
    pub optimiser: Optimiser,
    /// Weight decay of what is no bias and no batch norm.
    pub weight_decay: f64,
}

impl Default for LibraryOptions {
    fn default() -> Self {
        let optimiser = Optimiser::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 };
        Self { scope: Scope::Head, classes: None, optimiser, weight_decay: 0.0 }
    }
}

/// Compiles the training step of `model` for the one set of shapes in `options`; a run takes as many images as these say.
///
/// # Errors
/// [`Error::Usage`] if there are several sets of shapes, no linear layer at the end where one is needed, or fewer than two classes;
/// [`Error::Graph`] as [`Training::new`]; as [`Model::artifacts`].
pub fn artifacts(
    model: &Model,
    trained: &LibraryOptions,
    options: &ArtifactOptions,
    emit: &[Emit],
) -> Result<Artifacts> {
    let [bindings] = &options.bindings[..] else {
        let found = options.bindings.len().to_string();
        return Err(Error::usage("--dim", "one set of shapes for a training step", found));
    };
    if !(trained.weight_decay >= 0.0 && trained.weight_decay.is_finite()) {
        return Err(Error::usage("--weight-decay", "a number from 0", trained.weight_decay.to_string()));
    }
    let mut metadata = model.metadata().clone();
    // The step's outputs are logits, whatever the network ends in.
    metadata.remove("scores");
    let mut graph = model.graph(bindings)?;
    let mut of_head = BTreeSet::new();
    if trained.scope == Scope::Head || trained.classes.is_some() {
        let head = model.head(&graph)?;
        match trained.classes {
            Some(classes) if classes < 2 => {
                return Err(Error::usage("--classes", "at least two to tell apart", classes.to_string()));
            }
            Some(classes) if classes != head.classes => {
                graph = with_constants(graph, &fresh(&head, classes, None))?;
                metadata.remove("labels");
            }
            _ => {}
        }
        of_head.extend([head.weights, head.biases]);
    }
    let names = trained.scope.names(&graph, &of_head)?;
    let (optimiser, decay) = (trained.optimiser, trained.weight_decay);
    let training = Training::new(
        &graph,
        &TrainingOptions {
            trained: &|name| names.contains(name),
            norms: &|_| Norm::Fixed,
            momentum: 0.1,
            dropout: false,
            drop_path: false,
            optimiser,
            setting: &|_, ty: &TensorType| Setting { rate: 1.0, decay: if ty.shape.rank() > 1 { decay } else { 0.0 } },
            clip: false,
            ema: false,
        },
    )?;
    let spec = spec(&graph, &training, optimiser, decay)?;
    let Training { predict, gradients, update, .. } = training;
    let compile = CompileOptions { exact: model.options().exact, ..options_of_graphs() };
    model.step_artifacts(StepParts { graphs: [predict, gradients, update], spec, metadata, compile }, options, emit)
}

/// What the parts of a step are besides graphs.
fn spec(graph: &Graph, training: &Training, optimiser: Optimiser, decay: f64) -> Result<StepSpec> {
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
        about: about(optimiser, decay),
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
