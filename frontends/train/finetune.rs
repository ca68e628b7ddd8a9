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

pub use super::events::{Epoch, Event, Flow};
use super::logistic::{Linear, Samples};
use super::metrics::Evaluation;
pub use super::options::{Balance, FinetuneOptions, MicroBatch, Norms};
use super::outputs::{outputs, probabilities};
use super::photos::Photos;
use super::probe::probe;
use super::run::Run;
use super::scope::{Layers, Scope};
use super::sound::expect_sound;
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
    if options.norms == Norms::Trained && options.batch > train.len() {
        let expected = format!("at most the {} photos, as --bn train leaves out incomplete batches", train.len());
        return Err(Error::usage("--batch", expected, options.batch.to_string()));
    }
    let (graph, head) = network(model, train, 1)?;
    expect_sound(&graph)?;
    let of_head = BTreeSet::from([head.weights.clone(), head.biases.clone()]);
    Layers::new(&graph, &of_head)?.names(options.scope)?;
    let renewed;
    let (model, graph) = match options.norms {
        Norms::Statistics => {
            let found = statistics::over(train, options, &of_head, |images| Ok(network(model, train, images)?.0))?;
            renewed = model.retrained(found.clone(), BTreeMap::new(), head.classes);
            (&renewed, with_constants(graph, &found)?)
        }
        Norms::Fixed | Norms::Trained => (model, graph),
    };
    let mut probed = None;
    if saved.is_none() || options.scope == Scope::Head || options.lr.is_none() {
        let rows = outputs(&model.pooled(), train, options.threads)?;
        let labels = train.photos().iter().map(|photo| photo.class).collect();
        let samples = Samples::new(rows.concat(), rows.first().map_or(0, Vec::len), labels, classes.len())?;
        probed = Some(probe(&samples, None, options.threads)?);
    }
    let mut constants = fresh_head(&head, classes.len(), probed.as_ref().map(|probed| &probed.layer));
    let metadata = BTreeMap::from([("labels".to_string(), serde_json::json!(classes).to_string())]);
    let evaluate = |constants: &BTreeMap<String, Constant>| -> Result<(Model, Evaluation)> {
        let model = model.retrained(constants.clone(), metadata.clone(), classes.len());
        let probabilities = probabilities(&model, val, options.threads)?;
        let labels = val.photos().iter().map(|photo| photo.class).collect();
        Ok((model, Evaluation::new(labels, probabilities, classes.len())))
    };
    let mut flow = probed.as_ref().map_or(Flow::Continue, |probed| tell(Event::Probed(probed)));
    let (mut epochs, mut last) = (Vec::new(), None);
    if options.scope != Scope::Head && flow == Flow::Continue {
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
        let averaged = options.ema.is_some();
        constants.extend(run.step.constants(averaged)?);
        while epochs.len() < options.epochs && flow == Flow::Continue && !stalled(&epochs, options.patience) {
            // Compiled for the validation, and not needed during an epoch.
            last = None;
            let begun = Instant::now();
            let seen;
            (seen, flow) = run.epoch(epochs.len(), tell)?;
            constants.extend(run.step.constants(averaged)?);
            if flow == Flow::Stop {
                break;
            }
            let (trained, said) = evaluate(&constants)?;
            let (val_loss, val_accuracy) = (said.loss(), said.accuracy(1));
            last = Some((trained, said));
            let (number, time) = (epochs.len() + 1, begun.elapsed());
            let (loss, accuracy, lr) = (seen.loss(), seen.accuracy(), seen.lr);
            epochs.push(Epoch { number, loss, accuracy, val_loss, val_accuracy, lr, time });
            flow = tell(Event::Epoch(&epochs, &run.step));
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

/// Elements of a network's maps that keep the threads busy for long enough: more images share a call of a network with
/// fewer.
const BUSY: usize = 1 << 22;
/// The most images of a call that nobody asked for.
const MOST: usize = 16;

/// The graph for as many images as a call of the gradients program takes; `one` is that for one image.
fn calls(one: Graph, options: &FinetuneOptions, graph: impl Fn(usize) -> Result<Graph>) -> Result<Graph> {
    match (options.norms, options.micro_batch) {
        (Norms::Trained, _) => graph(options.batch),
        (_, MicroBatch::Of(1)) => Ok(one),
        (_, MicroBatch::Of(images)) => graph(images.min(options.batch)),
        (_, MicroBatch::Auto) => {
            let elements: usize =
                one.ids().filter(|id| one.node(*id).op().is_some()).map(|id| one.ty(id).shape.numel()).sum();
            let images = (BUSY / elements.max(1)).min(options.batch.min(MOST)).max(1);
            // A network that is for one image only takes one at a time.
            if images == 1 { Ok(one) } else { graph(images).or(Ok(one)) }
        }
    }
}

/// The constants of a last layer of `classes` classes: those of `layer`, else zeros.
fn fresh_head(head: &Head, classes: usize, layer: Option<&Linear>) -> BTreeMap<String, Constant> {
    let features = head.features;
    let weight =
        |class: usize, feature: usize| layer.map_or(0.0, |layer| layer.weights[class * features + feature] as f32);
    let weights: Vec<f32> = if head.by_feature {
        (0..features).flat_map(|f| (0..classes).map(move |c| (c, f))).map(|(c, f)| weight(c, f)).collect()
    } else {
        (0..classes).flat_map(|c| (0..features).map(move |f| (c, f))).map(|(c, f)| weight(c, f)).collect()
    };
    let biases: Vec<f32> = (0..classes).map(|class| layer.map_or(0.0, |layer| layer.biases[class] as f32)).collect();
    let resized = |shape: &[usize]| -> Vec<usize> {
        let mut shape = shape.to_vec();
        if let Some(extent) = shape.iter_mut().find(|extent| **extent == head.classes) {
            *extent = classes;
        }
        shape
    };
    let mut shape = head.shape.clone();
    shape[usize::from(head.by_feature)] = classes;
    let weights = Constant::from_f32(shape, &weights);
    let biases = Constant::from_f32(resized(&head.bias_shape), &biases);
    BTreeMap::from([(head.weights.clone(), weights), (head.biases.clone(), biases)])
}
