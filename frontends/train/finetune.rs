//! Fine-tuning: epochs of steps over photos, and what the network says of others after each.
//!
//! In: a classifier, photos to train and to validate on, and [`FinetuneOptions`]. Out: the classifier with other weights, for the classes
//! of the photos. The classifier's last layer begins as the best linear one over the features of the photos ([`mod@super::probe`]).
//! Batch norms keep their statistics. Images are taken one at a time and their gradients summed in order, so that memory does not
//! grow with the batch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use fornax_ir::graph::Graph;
use fornax_ir::inputs::Bindings;
use fornax_ir::training::{Norm, Optimiser, Setting, TrainingOptions};
use fornax_ir::types::{Constant, TensorType};
use fornax_runtime::{Pool, Tensor};

use super::augment::{Augment, Kind};
use super::classifier::{fitted, fresh};
use super::metrics::Evaluation;
use super::outputs::{features_of, probabilities};
use super::photos::Photos;
use super::probe::{Probe, probe};
use super::random::{Draw, Purpose};
use super::schedule::{Schedule, Shape};
use super::scope::Scope;
use super::step::{Rates, Step};
use crate::error::{Error, Result};
use crate::facade::{Head, Model, with_constants};

/// How a network is fine-tuned.
#[derive(Clone, Debug)]
pub struct FinetuneOptions {
    /// How much of it is trained.
    pub scope: Scope,
    /// How often each photo is seen.
    pub epochs: usize,
    /// Photos of a step of the optimiser.
    pub batch: usize,
    /// The highest learning rate.
    pub lr: f64,
    /// How the rate changes.
    pub schedule: Shape,
    /// Epochs in which it rises.
    pub warmup: f64,
    /// What turns gradients into steps.
    pub optimiser: Optimiser,
    /// Weight decay of what is no bias and no batch norm.
    pub weight_decay: f64,
    /// Share of the target that goes to all classes alike (Szegedy and others 2016).
    pub smoothing: f64,
    /// Share of the features that is dropped before the last layer.
    pub dropout: f64,
    /// How photos are changed.
    pub augment: Kind,
    /// Whether half of them are mirrored.
    pub flip: bool,
    /// Stop after so many epochs without a lower loss on the validation.
    pub patience: Option<usize>,
    /// What everything random is drawn from.
    pub seed: u64,
    /// Threads, which change no bit.
    pub threads: usize,
}

impl Default for FinetuneOptions {
    fn default() -> Self {
        Self {
            scope: Scope::All,
            epochs: 30,
            batch: 16,
            lr: 1e-3,
            schedule: Shape::Cosine,
            warmup: 1.0,
            optimiser: Optimiser::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
            weight_decay: 0.02,
            smoothing: 0.05,
            dropout: 0.2,
            augment: Kind::Light,
            flip: false,
            patience: None,
            seed: 0,
            threads: fornax_runtime::available_threads(),
        }
    }
}

/// An epoch that has been trained.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Epoch {
    /// Its number, from 1.
    pub number: usize,
    /// Mean loss of its photos as they were trained on.
    pub loss: f64,
    /// Share of them told right.
    pub accuracy: f64,
    /// Mean cross-entropy of the validation afterwards.
    pub val_loss: f64,
    /// Share of the validation told right afterwards.
    pub val_accuracy: f64,
    /// The last learning rate.
    pub lr: f64,
    /// How long it took, validation included.
    pub time: Duration,
}

/// Whether training goes on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// It does.
    Continue,
    /// It ends after the step under way.
    Stop,
}

/// What is told during training.
#[derive(Debug)]
pub enum Event<'a> {
    /// The linear classifier that the last layer begins with.
    Probed(&'a Probe),
    /// A step of the optimiser, `done` of `steps` of this epoch.
    Step {
        /// The epoch, from 1.
        epoch: usize,
        /// Steps done.
        done: usize,
        /// Steps of an epoch.
        steps: usize,
        /// Mean loss of the epoch so far.
        loss: f64,
    },
    /// The last of these epochs has ended; the step holds all that the next one begins with.
    Epoch(&'a [Epoch], &'a Step),
}

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

/// Fine-tunes `model`; `tell` hears of every step and may stop it, and `saved` is where an earlier run of the same options ended.
///
/// # Errors
/// [`Error::Usage`] or [`Error::Input`] if options, photos and network do not fit; [`Error::Mismatch`] if the loss is no number.
pub fn finetune(
    model: &Model,
    (train, val): (&Photos, &Photos),
    classes: &[String],
    options: &FinetuneOptions,
    saved: Option<Saved>,
    tell: &mut dyn FnMut(Event<'_>) -> Flow,
) -> Result<Finetuned> {
    check(options)?;
    let (graph, head) = network(model, train, classes.len())?;
    options.scope.names(&graph, &BTreeSet::new())?;
    let mut probed = None;
    if saved.is_none() || options.scope == Scope::Head {
        let samples = features_of(&model.pooled(), train, classes.len(), options.threads)?;
        probed = Some(probe(&samples, None, options.threads)?);
    }
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
    let (mut epochs, mut last) = (Vec::new(), None);
    if options.scope != Scope::Head && flow == Flow::Continue {
        let graph = with_constants(graph, &constants)?;
        let mut run = Run::new(&graph, &head, (train, val), classes.len(), options)?;
        if let Some(saved) = saved {
            run.step.restore_state(&saved.state)?;
            epochs = saved.epochs;
        }
        constants.extend(run.step.constants(false)?);
        while epochs.len() < options.epochs && flow == Flow::Continue && !stalled(&epochs, options.patience) {
            // Compiled for the validation, and not needed during an epoch.
            last = None;
            let begun = Instant::now();
            let (loss, accuracy, lr);
            (loss, accuracy, lr, flow) = run.epoch(epochs.len(), tell)?;
            constants.extend(run.step.constants(false)?);
            if flow == Flow::Stop {
                break;
            }
            let (trained, said) = evaluate(&constants)?;
            let (val_loss, val_accuracy) = (said.loss(), said.accuracy(1));
            last = Some((trained, said));
            let (number, time) = (epochs.len() + 1, begun.elapsed());
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

fn check(options: &FinetuneOptions) -> Result<()> {
    let wrong = |flag: &str, expected: &str, found: String| Err(Error::usage(flag, expected, found));
    let share = |value: f64| (0.0..1.0).contains(&value);
    match options {
        FinetuneOptions { lr, .. } if !(*lr > 0.0 && lr.is_finite()) => {
            wrong("--lr", "a number above 0", lr.to_string())
        }
        FinetuneOptions { batch: 0, .. } => wrong("--batch", "at least 1", "0".into()),
        FinetuneOptions { smoothing, .. } if !share(*smoothing) => {
            wrong("--smoothing", "a share from 0 to below 1", smoothing.to_string())
        }
        FinetuneOptions { dropout, .. } if !share(*dropout) => {
            wrong("--dropout", "a share from 0 to below 1", dropout.to_string())
        }
        FinetuneOptions { weight_decay, .. } if !(*weight_decay >= 0.0 && weight_decay.is_finite()) => {
            wrong("--weight-decay", "a number from 0", weight_decay.to_string())
        }
        _ => Ok(()),
    }
}

/// The graph for one image, and its last layer.
fn network(model: &Model, photos: &Photos, classes: usize) -> Result<(Graph, Head)> {
    if photos.is_empty() || classes < 2 {
        return Err(Error::input("photos", "some of at least two classes", format!("{} of {classes}", photos.len())));
    }
    let mut bindings = Bindings::default();
    let input = model.inputs().first().ok_or_else(|| Error::usage("model", "an input", "none"))?;
    bindings.shapes.insert(input.name.clone(), photos.tensor(0)?.shape().to_vec());
    let graph = model.graph(&bindings)?;
    let head = model.head(&graph)?;
    Ok((graph, head))
}

/// A run under way.
struct Run<'a> {
    step: Step,
    pool: Arc<Pool>,
    train: &'a Photos,
    classes: usize,
    options: &'a FinetuneOptions,
    augment: Augment,
    schedule: Schedule,
    /// Height and width of the input.
    size: (usize, usize),
}

impl<'a> Run<'a> {
    fn new(
        graph: &Graph,
        head: &Head,
        (train, _): (&'a Photos, &'a Photos),
        classes: usize,
        options: &'a FinetuneOptions,
    ) -> Result<Self> {
        let of_head = BTreeSet::from([head.weights.clone(), head.biases.clone()]);
        let names = options.scope.names(graph, &of_head)?;
        let training = TrainingOptions {
            trained: &|name| names.contains(name),
            norms: &|_| Norm::Fixed,
            momentum: 0.1,
            dropout: options.dropout > 0.0,
            drop_path: false,
            optimiser: options.optimiser,
            setting: &|_, ty: &TensorType| Setting {
                rate: 1.0,
                decay: if ty.shape.rank() > 1 { options.weight_decay } else { 0.0 },
            },
            clip: false,
            ema: false,
        };
        let pool = Arc::new(Pool::at_most(options.threads.max(1), false)?);
        let target = crate::facade::host()?;
        let step = Step::new(graph, &training, &target, Arc::clone(&pool))?;
        let shape = &step.inputs()[0].shape;
        let size = match (shape.len(), train.preprocess().layout) {
            (4, crate::images::Layout::Nchw) => (shape[2], shape[3]),
            (4, crate::images::Layout::Nhwc) => (shape[1], shape[2]),
            _ => return Err(Error::usage("model", "an input of images, of four axes", shape.to_string())),
        };
        let per_epoch = train.len().div_ceil(options.batch);
        let warmup = (options.warmup.max(0.0) * per_epoch as f64).round() as usize;
        let schedule =
            Schedule { shape: options.schedule, peak: options.lr, warmup, steps: per_epoch * options.epochs };
        let augment = Augment::of(options.augment, options.flip);
        Ok(Self { step, pool, train, classes, options, augment, schedule, size })
    }

    /// Trains an epoch, from 0: mean loss, share of photos told right, the last learning rate.
    fn epoch(&mut self, epoch: usize, tell: &mut dyn FnMut(Event<'_>) -> Flow) -> Result<(f64, f64, f64, Flow)> {
        let mut order: Vec<usize> = (0..self.train.len()).collect();
        Draw::new(self.options.seed, Purpose::Order, epoch as u64, 0).shuffle(&mut order);
        let steps = order.len().div_ceil(self.options.batch);
        let (mut loss, mut right, mut seen, mut lr) = (0.0, 0, 0, 0.0);
        for (at, batch) in order.chunks(self.options.batch).enumerate() {
            for (photo, values) in batch.iter().zip(self.images(batch, epoch)?) {
                let (own, correct) = self.image(*photo, &values, batch.len(), epoch)?;
                loss += own;
                right += usize::from(correct);
            }
            seen += batch.len();
            let number = epoch * steps + at;
            lr = self.schedule.rate(number);
            if !loss.is_finite() {
                let found = format!("{loss} at step {} of epoch {} with rate {lr:e}", at + 1, epoch + 1);
                return Err(Error::Mismatch { what: "loss".into(), expected: "a finite number".into(), found });
            }
            self.step.update(&Rates::new(lr, number as u64 + 1))?;
            let mean = loss / seen as f64;
            if tell(Event::Step { epoch: epoch + 1, done: at + 1, steps, loss: mean }) == Flow::Stop {
                return Ok((mean, right as f64 / seen as f64, lr, Flow::Stop));
            }
        }
        Ok((loss / seen as f64, right as f64 / seen as f64, lr, Flow::Continue))
    }

    /// The inputs of a batch, prepared on all threads.
    fn images(&self, batch: &[usize], epoch: usize) -> Result<Vec<Vec<f32>>> {
        let slots: Vec<Mutex<Option<Result<Vec<f32>>>>> = batch.iter().map(|_| Mutex::default()).collect();
        let prepare = |photo: usize| {
            let mut draw = Draw::new(self.options.seed, Purpose::Augment, epoch as u64, photo as u64);
            self.train.augmented(photo, &self.augment, self.size, &mut draw)
        };
        self.pool.run(batch.len() as u32, 1, &|begin, end, _| {
            for at in begin as usize..end as usize {
                *slots[at].lock().unwrap_or_else(PoisonError::into_inner) = Some(prepare(batch[at]));
            }
        });
        let all = slots.into_iter().filter_map(|slot| slot.into_inner().unwrap_or_else(PoisonError::into_inner));
        all.collect()
    }

    /// Adds the gradients of a photo; its loss, and whether it is told right.
    fn image(&mut self, photo: usize, values: &[f32], batch: usize, epoch: usize) -> Result<(f64, bool)> {
        let label = self.train.photos()[photo].class;
        let even = self.options.smoothing / self.classes as f64;
        let target =
            |class: usize| (even + if class == label { 1.0 - self.options.smoothing } else { 0.0 }) / batch as f64;
        let mut draw = Draw::new(self.options.seed, Purpose::Dropout, epoch as u64, photo as u64);
        let kept = (1.0 / (1.0 - self.options.dropout)) as f32;
        let mut tensors = Vec::with_capacity(self.step.inputs().len());
        for (at, port) in self.step.inputs().iter().enumerate() {
            let count = port.shape.numel();
            let values: Vec<f32> = match port.name.as_str() {
                _ if at == 0 => values.to_vec(),
                "targets" => (0..self.classes).map(|class| target(class) as f32).collect(),
                _ => (0..count).map(|_| if draw.unit() < self.options.dropout { 0.0 } else { kept }).collect(),
            };
            tensors.push(Tensor::from_f32(port.shape.clone(), &values)?);
        }
        let tensors: Vec<&Tensor> = tensors.iter().collect();
        let (loss, logits) = self.step.gradients(&tensors)?;
        let best = (0..logits.len()).fold(0, |best, class| if logits[class] > logits[best] { class } else { best });
        Ok((f64::from(loss.first().copied().unwrap_or(f32::NAN)) * batch as f64, best == label))
    }
}
