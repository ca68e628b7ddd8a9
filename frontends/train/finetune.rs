//! Fine-tuning: epochs of steps over photos, and what the network says of others after each.
//!
//! In: a classifier, photos to train and to validate on, and [`FinetuneOptions`]. Out: the classifier with other
//! weights, for the classes of the photos. The head comes first: the classifier's last layer begins as the best linear
//! one over the features of the photos ([`mod@super::probe`]), which is where any number of epochs of that layer alone
//! would lead.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use bytes::Bytes;
use fornax_ir::graph::Graph;
use fornax_ir::inputs::Bindings;

use super::batches::Batches;
use super::classifier::{fitted, fresh};
pub use super::events::{Epoch, Event, Flow};
use super::memory::Budget;
use super::metrics::Evaluation;
use super::mirrored::judge;
pub use super::options::{Balance, FinetuneOptions, Flip, MicroBatch, Norms};
use super::outputs::{features_of, features_of_mirrored, probabilities};
use super::photos::Photos;
use super::probe::probe;
use super::run::Run;
use super::scope::{Layers, Scope};
use super::sound::expect_sound;
use super::step::StepBound;
use super::validation::evaluated;
use super::{range, statistics};
use crate::error::{Error, Result};
use crate::facade::{Head, Model, with_constants};

/// A network that has been fine-tuned.
#[derive(Debug)]
pub struct Finetuned {
    /// The network.
    pub model: Model,
    /// Its epochs.
    pub epochs: Vec<Epoch>,
    /// What it says of the validation.
    pub evaluation: Evaluation,
    /// Whether it was stopped before its last epoch.
    pub stopped: bool,
}

/// What a run has left behind to go on from.
#[derive(Clone, Debug, Default)]
pub struct Saved {
    /// Epochs that were done.
    pub epochs: Vec<Epoch>,
    /// [`super::step::Step::save_state`] after the last of them.
    pub state: Bytes,
}

/// Fine-tunes `model`; `tell` hears of every step and may stop it, and `saved` is where an earlier run of the same
/// options ended.
///
/// # Errors
/// [`Error::Usage`] or [`Error::Input`] if options, photos and network do not fit; [`Error::Mismatch`] if the loss is no
/// number.
pub fn finetune(
    model: &Model,
    (train, val): (&Photos, &Photos),
    classes: &[String],
    options: &FinetuneOptions,
    saved: Option<Saved>,
    tell: &mut dyn FnMut(Event<'_>) -> Flow,
) -> Result<Finetuned> {
    options.check()?;
    if train.is_empty() || classes.len() < 2 {
        let found = format!("{} of {}", train.len(), classes.len());
        return Err(Error::input("photos", "some of at least two classes", found));
    }
    if options.recipe.norms == Norms::Trained && options.batch > train.len() {
        let expected = format!("at most the {} photos, as --bn train leaves out incomplete batches", train.len());
        return Err(Error::usage("--batch", expected, options.batch.to_string()));
    }
    let (graph, head) = network(model, train, 1)?;
    expect_sound(&graph)?;
    let of_head = BTreeSet::from([head.weights.clone(), head.biases.clone()]);
    Layers::new(&graph, &of_head)?.names(options.recipe.scope)?;
    let renewed;
    let (model, graph) = match options.recipe.norms {
        Norms::Statistics => {
            let found = statistics::over(train, options, &of_head, |images| Ok(network(model, train, images)?.0))?;
            renewed = model.retrained(found.clone(), BTreeMap::new(), head.classes);
            (&renewed, with_constants(graph, &found)?)
        }
        Norms::Fixed | Norms::Trained => (model, graph),
    };
    let (mut probed, mut mirrored) = (None, None);
    if saved.is_none() || options.recipe.scope == Scope::Head || options.lr.is_none() || options.judges_flips() {
        let samples = features_of(&model.pooled(), train, classes.len(), options.threads)?;
        let found = probe(&samples, None, options.threads)?;
        if options.judges_flips() {
            let images = features_of_mirrored(&model.pooled(), train, classes.len(), options.threads)?;
            mirrored = Some(judge(&samples, &images, found.l2, options.threads));
        }
        probed = Some(found);
    }
    let flip = mirrored.as_ref().map_or(options.flip, |found| if found.flips() { Flip::On } else { Flip::Off });
    let options = &FinetuneOptions { flip, ..options.clone() };
    let mut constants = match &probed {
        Some(probed) => fitted(model, &head, &probed.layer, classes, train, options.threads)?,
        None => fresh(&head, classes.len(), None),
    };
    let metadata = model.metadata_for(classes, train.preprocess())?;
    let mut flow = probed.as_ref().map_or(Flow::Continue, |probed| tell(Event::Probed(probed)));
    if let Some(found) = mirrored.filter(|_| flow == Flow::Continue) {
        flow = tell(Event::Mirrored(&found));
    }
    let (mut epochs, mut evaluation) = (Vec::new(), None);
    if options.recipe.scope != Scope::Head && flow == Flow::Continue {
        let budget = Budget::new(options, graph, [train, val]);
        let graph = |images| with_constants(network(model, train, images)?.0, &constants);
        let mut run = within(&budget, options, train, graph, |graph, bound| {
            Run::new(graph, &of_head, train, classes.len(), options, bound)
        })?;
        if options.lr.is_none() {
            run.schedule.peak = range::rate(&mut run)?;
            flow = tell(Event::Rate(run.schedule.peak));
        }
        if let Some(saved) = saved {
            run.step.restore_state(&saved.state)?;
            epochs = saved.epochs;
        }
        while epochs.len() < options.epochs && flow == Flow::Continue && !stalled(&epochs, options.patience) {
            evaluation = None;
            let begun = Instant::now();
            let seen;
            (seen, flow) = run.epoch(epochs.len(), tell)?;
            if flow == Flow::Stop {
                break;
            }
            let said = evaluated(&mut run.step, val, classes.len(), options.threads)?;
            let (val_loss, val_accuracy) = (said.loss(), said.accuracy(1));
            evaluation = Some(said);
            let (number, time) = (epochs.len() + 1, begun.elapsed());
            let (loss, accuracy, lr) = (seen.loss(), seen.accuracy(), seen.lr);
            epochs.push(Epoch { number, loss, accuracy, val_loss, val_accuracy, lr, time });
            flow = tell(Event::Epoch(&epochs, &run.step));
        }
        if evaluation.is_none() {
            evaluation = Some(evaluated(&mut run.step, val, classes.len(), options.threads)?);
        }
        // What follows needs the parameters alone, a copy of them.
        run.step.release_arena();
        constants.extend(run.step.constants(options.recipe.ema.is_some())?);
    }
    let model = model.retrained(constants, metadata, classes.len());
    let evaluation = match evaluation {
        Some(evaluation) => evaluation,
        None => {
            let labels = val.photos().iter().map(|photo| photo.class).collect();
            Evaluation::new(labels, probabilities(&model, val, options.threads)?, classes.len())
        }
    };
    Ok(Finetuned { model, epochs, evaluation, stopped: flow == Flow::Stop })
}

/// Whether the loss of the validation has not fallen for so many epochs.
fn stalled(epochs: &[Epoch], patience: Option<usize>) -> bool {
    let best = epochs.iter().min_by(|a, b| a.val_loss.total_cmp(&b.val_loss));
    best.zip(patience).is_some_and(|(best, patience)| epochs.len() - best.number >= patience)
}

/// The graph for calls of `images` images, and its last layer.
fn network(model: &Model, photos: &Photos, images: usize) -> Result<(Graph, Head)> {
    let mut bindings = Bindings::default();
    let input = model.inputs().first().ok_or_else(|| Error::usage("model", "an input", "none"))?;
    let mut shape = photos.tensor(0)?.shape().to_vec();
    shape[0] = images;
    bindings.shapes.insert(input.name.clone(), shape);
    let graph = model.graph(&bindings)?;
    let head = model.head(&graph)?;
    Ok((graph, head))
}

/// A run within a budget, of calls of as many images as make it fast. `network` is the graph for calls of so many.
///
/// # Errors
/// [`Error::Usage`] naming the least that is possible; as `run`.
fn within<'a>(
    budget: &Budget,
    options: &FinetuneOptions,
    photos: &Photos,
    network: impl Fn(usize) -> Result<Graph>,
    run: impl Fn(Graph, StepBound) -> Result<Run<'a>>,
) -> Result<Run<'a>> {
    let (auto, mut images) = match (options.recipe.norms, options.micro_batch) {
        (Norms::Trained, _) => (false, options.batch),
        (_, MicroBatch::Of(images)) => (false, images.min(options.batch)),
        // Steps of one image are too short for several threads to share, and more images leave the caches.
        (_, MicroBatch::Auto) => (true, options.threads.clamp(1, options.batch)),
    };
    let of_one = photos.tensor(0)?.bytes().len() as u64;
    loop {
        let less = auto && images > 1;
        let graph = match network(images) {
            // A network that is for one image only takes one at a time.
            Err(_) if less => {
                images = 1;
                continue;
            }
            graph => graph?,
        };
        let samples = of_one * Batches::waiting(options, images) as u64;
        match run(graph, budget.left(samples, less)) {
            Err(Error::Limit { .. }) if less => images = if images > 3 { images / 2 } else { images - 1 },
            Err(Error::Limit { needed, .. }) => return Err(budget.refusal(samples, needed, images)),
            made => return made,
        }
    }
}
