//! A run under way: the compiled step, and the photos that it goes through.
//!
//! In: a graph for one image with a last layer for the classes, photos, and options. Out: epochs of steps over the
//! parameters, which the [`Step`] holds. How many images a call of the gradients program takes changes no bit, as their
//! gradients are summed one after the other; the last call of a batch is filled up with images whose targets are zero,
//! which add zeros.

use std::collections::BTreeSet;
use std::sync::Arc;

use fornax_ir::graph::Graph;
use fornax_runtime::{Pool, Tensor};

use super::batches::{Batches, Sample};
use super::events::{Event, Flow};
use super::options::FinetuneOptions;
use super::photos::Photos;
use super::schedule::Schedule;
use super::step::{Step, StepBound};
use crate::error::{Error, Result};
use crate::images::Layout;

/// A run under way.
pub(crate) struct Run<'a> {
    /// The step, and all that it changes.
    pub step: Step,
    batches: Batches<'a>,
    options: &'a FinetuneOptions,
    /// The rate of every step.
    pub schedule: Schedule,
}

/// What has been seen of an epoch.
#[derive(Clone, Copy, Default, Debug)]
pub(crate) struct Seen {
    /// Sum of the losses.
    loss: f64,
    /// Photos told right.
    right: usize,
    /// Photos.
    photos: usize,
    /// The last rate.
    pub lr: f64,
}

impl Seen {
    /// Mean loss.
    pub fn loss(&self) -> f64 {
        self.loss / self.photos.max(1) as f64
    }

    /// Share of photos told right.
    pub fn accuracy(&self) -> f64 {
        self.right as f64 / self.photos.max(1) as f64
    }
}

impl<'a> Run<'a> {
    /// Compiles the step of `graph`, for as many images as a call shall take, in which `head` are the last layer's
    /// constants.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the flag that does not fit the network or the photos; as [`Step::within`].
    pub fn new(
        graph: Graph,
        head: &BTreeSet<String>,
        train: &'a Photos,
        classes: usize,
        options: &'a FinetuneOptions,
        bound: StepBound,
    ) -> Result<Self> {
        let pool = Arc::new(Pool::at_most(options.threads.max(1), false)?);
        let target = crate::facade::host()?;
        let step =
            options.recipe.compiled(&graph, head, |training| Step::within(&graph, training, &target, pool, bound))?;
        // The step has its elements now.
        drop(graph);
        fornax_runtime::return_free_memory();
        let shape = &step.inputs()[0].shape;
        let size = match (shape.len(), train.preprocess().layout) {
            (4, Layout::Nchw) => (shape[2], shape[3]),
            (4, Layout::Nhwc) => (shape[1], shape[2]),
            _ => return Err(Error::usage("model", "an input of images, of four axes", shape.to_string())),
        };
        let batches = Batches::new(train, classes, size, options)?;
        let per_epoch = batches.steps();
        let warmup = (options.warmup * per_epoch as f64).round() as usize;
        let (peak, steps) = (options.lr.unwrap_or_default(), per_epoch * options.epochs);
        let schedule = Schedule { shape: options.schedule, peak, warmup, steps };
        Ok(Self { step, batches, options, schedule })
    }

    /// Trains an epoch, from 0; whether it was stopped.
    ///
    /// # Errors
    /// [`Error::Mismatch`] if the loss is no number; as [`Photos::augmented`].
    pub fn epoch(&mut self, epoch: usize, tell: &mut dyn FnMut(Event<'_>) -> Flow) -> Result<(Seen, Flow)> {
        let order = self.batches.order(epoch as u64);
        let steps = self.batches.steps();
        let Self { step, batches, options, schedule } = self;
        let mut stepper = Stepper { step, options, epoch: epoch as u64 };
        batches.samples(&order, epoch as u64, options.threads, |samples| {
            let mut seen = Seen::default();
            for (at, batch) in order.chunks(options.batch).enumerate() {
                stepper.batch(&mut (&mut *samples).take(batch.len()), batch.len(), &mut seen)?;
                let number = epoch * steps + at;
                seen.lr = schedule.rate(number);
                if !seen.loss.is_finite() {
                    let (loss, lr) = (seen.loss, seen.lr);
                    let found = format!("{loss} at step {} of epoch {} with rate {lr:e}", at + 1, epoch + 1);
                    return Err(Error::Mismatch { what: "loss".into(), expected: "a finite number".into(), found });
                }
                stepper.update(seen.lr, number as u64 + 1)?;
                let told = Event::Step { epoch: epoch + 1, done: at + 1, steps, loss: seen.loss() };
                if tell(told) == Flow::Stop {
                    return Ok((seen, Flow::Stop));
                }
            }
            Ok((seen, Flow::Continue))
        })
    }

    /// Steps at these rates, from the first photos of an epoch of its own on: the mean loss of each batch before its
    /// step. It ends early where `goes_on` says so.
    ///
    /// # Errors
    /// As [`Run::epoch`], but that any loss is taken.
    pub fn at_rates(&mut self, rates: &[f64], mut goes_on: impl FnMut(f64) -> bool) -> Result<()> {
        let (mut at, mut epoch) = (0, 0);
        while at < rates.len() {
            // Epochs that no training reaches.
            let number = u64::MAX - epoch;
            let order = self.batches.order(number);
            let Self { step, batches, options, .. } = self;
            let mut stepper = Stepper { step, options, epoch: number };
            let done = batches.samples(&order, number, options.threads, |samples| {
                for batch in order.chunks(options.batch) {
                    let Some(rate) = rates.get(at) else { return Ok(true) };
                    let mut seen = Seen::default();
                    stepper.batch(&mut (&mut *samples).take(batch.len()), batch.len(), &mut seen)?;
                    if !goes_on(seen.loss()) {
                        return Ok(true);
                    }
                    at += 1;
                    stepper.update(*rate, at as u64)?;
                }
                Ok(false)
            })?;
            if done {
                break;
            }
            epoch += 1;
        }
        Ok(())
    }
}

/// What takes one batch after the other.
struct Stepper<'a> {
    step: &'a mut Step,
    options: &'a FinetuneOptions,
    epoch: u64,
}

impl Stepper<'_> {
    /// Adds the gradients of a batch of `count` samples.
    fn batch(
        &mut self,
        samples: &mut dyn Iterator<Item = Result<Sample>>,
        count: usize,
        seen: &mut Seen,
    ) -> Result<()> {
        let images = self.step.images();
        let mut left = count;
        while left > 0 {
            let group = (&mut *samples).take(images.min(left)).collect::<Result<Vec<Sample>>>()?;
            if group.is_empty() {
                break;
            }
            left -= group.len();
            self.group(&group, count, seen)?;
        }
        Ok(())
    }

    /// Adds the gradients of the samples of one call.
    fn group(&mut self, group: &[Sample], batch: usize, seen: &mut Seen) -> Result<()> {
        let images = self.step.images();
        let keys: Vec<u64> = group.iter().map(|sample| sample.key).collect();
        let masks = self.options.recipe.masks(self.step, self.options.seed, self.epoch, &keys)?;
        let mut tensors = Vec::with_capacity(2);
        for (at, port) in self.step.inputs().iter().take(2).enumerate() {
            let mut values = Vec::with_capacity(port.shape.numel());
            group.iter().for_each(|sample| values.extend_from_slice([&sample.values, &sample.targets][at]));
            let each = values.len() / group.len().max(1);
            match at {
                // An image of the batch, of which all that is multiplied by zero is a number.
                0 => (group.len()..images).for_each(|_| values.extend_from_within(..each)),
                _ => values.resize(each * images, 0.0),
            }
            tensors.push(Tensor::from_f32(port.shape.clone(), &values)?);
        }
        let (losses, logits) = self.step.gradients(&tensors.iter().chain(&masks).collect::<Vec<_>>())?;
        let classes = (logits.len() / images).max(1);
        for ((sample, loss), logits) in group.iter().zip(losses).zip(logits.chunks_exact(classes)) {
            let best = (0..classes).fold(0, |best, class| if logits[class] > logits[best] { class } else { best });
            seen.loss += f64::from(*loss) * batch as f64;
            seen.right += usize::from(best == sample.label);
            seen.photos += 1;
        }
        Ok(())
    }

    /// Moves the parameters; `number` is that of the step, from 1.
    fn update(&mut self, lr: f64, number: u64) -> Result<()> {
        self.step.update(&self.options.recipe.rates(lr, number))?;
        Ok(())
    }
}
