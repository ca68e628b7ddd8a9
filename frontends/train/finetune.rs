//! Fine-tuning: epochs of steps over photos, and what the network says of others after each.
//!
//! In: a classifier, photos to train and to validate on, and [`FinetuneOptions`]. Out: the classifier with other
//! weights, for the classes of the photos. The head comes first: the classifier's last layer begins as the best linear
//! one over the features of the photos ([`mod@super::probe`]), which is where any number of epochs of that layer alone
//! would lead.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use fornax_ir::graph::Graph;
use fornax_ir::inputs::Bindings;
use fornax_ir::types::Constant;

use super::classifier::{fitted, fresh};
pub use super::events::{Epoch, Event, Flow};
use super::metrics::Evaluation;
use super::mirrored::judge;
pub use super::options::{Balance, FinetuneOptions, Flip, MicroBatch, Norms};
use super::outputs::{features_of, features_of_mirrored, probabilities};
use super::photos::Photos;
use super::probe::probe;
use super::run::Run;
use super::scope::{Layers, Scope};
use super::sound::expect_sound;
use super::step::Step;
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
    /// [`Step::save_state`] after the last of them.
    pub state: Vec<u8>,
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
    let evaluate = |constants: &BTreeMap<String, Constant>| -> Result<(Model, Evaluation)> {
        let model = model.retrained(constants.clone(), metadata.clone(), classes.len());
        let probabilities = probabilities(&model, val, options.threads)?;
        let labels = val.photos().iter().map(|photo| photo.class).collect();
        Ok((model, Evaluation::new(labels, probabilities, classes.len())))
    };
    let mut flow = probed.as_ref().map_or(Flow::Continue, |probed| tell(Event::Probed(probed)));
    if let Some(found) = mirrored.filter(|_| flow == Flow::Continue) {
        flow = tell(Event::Mirrored(&found));
    }
    let (mut epochs, mut last) = (Vec::new(), None);
    if options.recipe.scope != Scope::Head && flow == Flow::Continue {
        let graph = calls(graph, options, |images| Ok(network(model, train, images)?.0))?;
        let graph = with_constants(graph, &constants)?;
        let mut run = Run::new(&graph, &of_head, train, classes.len(), options)?;
        if options.lr.is_none() {
            run.schedule.peak = range::rate(&mut run)?;
            flow = tell(Event::Rate(run.schedule.peak));
        }
        if let Some(saved) = saved {
            run.step.restore_state(&saved.state)?;
            epochs = saved.epochs;
        }
        // Taken from the step when they are needed, as they are as large as the network.
        let trained = |step: &Step| -> Result<BTreeMap<String, Constant>> {
            let own = step.constants(options.recipe.ema.is_some())?;
            Ok(constants.clone().into_iter().chain(own).collect())
        };
        while epochs.len() < options.epochs && flow == Flow::Continue && !stalled(&epochs, options.patience) {
            // Compiled for the validation, and not needed during an epoch.
            last = None;
            let begun = Instant::now();
            let seen;
            (seen, flow) = run.epoch(epochs.len(), tell)?;
            if flow == Flow::Stop {
                break;
            }
            let (model, said) = evaluate(&trained(&run.step)?)?;
            let (val_loss, val_accuracy) = (said.loss(), said.accuracy(1));
            last = Some((model, said));
            let (number, time) = (epochs.len() + 1, begun.elapsed());
            let (loss, accuracy, lr) = (seen.loss(), seen.accuracy(), seen.lr);
            epochs.push(Epoch { number, loss, accuracy, val_loss, val_accuracy, lr, time });
            flow = tell(Event::Epoch(&epochs, &run.step));
        }
        if last.is_none() {
            constants = trained(&run.step)?;
        }
    }
    let (model, evaluation) = last.map_or_else(|| evaluate(&constants), Ok)?;
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

/// The graph for as many images as a call of the gradients program takes; `one` is that for one image.
fn calls(one: Graph, options: &FinetuneOptions, graph: impl Fn(usize) -> Result<Graph>) -> Result<Graph> {
    match (options.recipe.norms, options.micro_batch) {
        (Norms::Trained, _) => graph(options.batch),
        (_, MicroBatch::Of(1)) => Ok(one),
        (_, MicroBatch::Of(images)) => graph(images.min(options.batch)),
        // As many as threads: steps of one image are too short for several threads to share, and more images leave the caches.
        (_, MicroBatch::Auto) => match options.threads.clamp(1, options.batch) {
            1 => Ok(one),
            // A network that is for one image only takes one at a time.
            images => graph(images).or(Ok(one)),
        },
    }
}
