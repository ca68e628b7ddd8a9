//! The photos of an epoch as the gradients program takes them: in which order, changed and mixed how, with which
//! targets.
//!
//! In: photos and options. Out: [`Sample`]s in order, made while the caller works on those before. Everything of a
//! sample is a function of seed, epoch and photo (and, where photos are mixed, of those in its batch), so that it does
//! not matter who makes it, or when.

use std::sync::mpsc::sync_channel;

use super::augment::Augment;
use super::mix::Geometry;
use super::options::{Balance, FinetuneOptions, Norms};
use super::photos::Photos;
use super::random::{Draw, Purpose};
use crate::error::Result;

/// Samples that each thread makes in advance.
const AHEAD: usize = 2;

/// A photo's place in an epoch.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Turn {
    /// The photo.
    photo: usize,
    /// The photo, or a number beyond all photos where it has its turn again in the same epoch: what is drawn for it is
    /// another thing then.
    key: u64,
}

/// An image and what is to be said of it.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// The values of the input.
    pub values: Vec<f32>,
    /// A weight for every class, over the photos of the batch.
    pub targets: Vec<f32>,
    /// The class of which it has most.
    pub label: usize,
    /// What is drawn for it goes by this number.
    pub key: u64,
}

/// The photos of a training.
pub(crate) struct Batches<'a> {
    photos: &'a Photos,
    options: &'a FinetuneOptions,
    augment: Augment,
    geometry: Geometry,
    /// How much the loss counts each class.
    weights: Vec<f64>,
}

impl<'a> Batches<'a> {
    /// Of `photos` of `classes` classes, for an input of height and width `size`.
    ///
    /// # Errors
    /// As [`FinetuneOptions::augment`].
    pub fn new(photos: &'a Photos, classes: usize, size: (usize, usize), options: &'a FinetuneOptions) -> Result<Self> {
        let mut counts = vec![0usize; classes];
        photos.photos().iter().for_each(|photo| counts[photo.class] += 1);
        let weight = |count: &usize| match options.balance {
            Balance::Weights => photos.len() as f64 / (classes * (*count).max(1)) as f64,
            Balance::None | Balance::Sampler => 1.0,
        };
        let weights = counts.iter().map(weight).collect();
        Ok(Self { photos, options, augment: options.augment()?, geometry: photos.geometry(size), weights })
    }

    /// How many samples are in memory at most, those of a call of `images` images twice: as they come, and as its input.
    pub fn waiting(options: &FinetuneOptions, images: usize) -> usize {
        let (each, makers) = (unit(options), options.threads.saturating_sub(1));
        let queued = makers * (AHEAD.div_ceil(each) + 1) * each;
        queued.max(each) + 2 * images
    }

    /// Photos of an epoch: those of an incomplete last batch are left out where statistics are of a batch.
    pub fn len(&self) -> usize {
        let photos = self.photos.len();
        if self.options.recipe.norms == Norms::Trained { photos - photos % self.options.batch } else { photos }
    }

    /// Batches of an epoch.
    pub fn steps(&self) -> usize {
        self.len().div_ceil(self.options.batch)
    }

    /// Who has a turn in an epoch, in order.
    pub fn order(&self, epoch: u64) -> Vec<Turn> {
        let mut turns = match self.options.balance {
            Balance::None | Balance::Weights => {
                (0..self.photos.len()).map(|photo| Turn { photo, key: photo as u64 }).collect()
            }
            Balance::Sampler => self.evenly(epoch),
        };
        Draw::new(self.options.seed, Purpose::Order, epoch, 0).shuffle(&mut turns);
        turns.truncate(self.len());
        turns
    }

    /// As many turns of every class, give or take one: all of its photos in turn, as often as it takes, the last time
    /// those that are drawn.
    fn evenly(&self, epoch: u64) -> Vec<Turn> {
        let mut draw = Draw::new(self.options.seed, Purpose::Sample, epoch, 0);
        let mut classes: Vec<Vec<usize>> = vec![Vec::new(); self.weights.len()];
        self.photos.photos().iter().enumerate().for_each(|(photo, of)| classes[of.class].push(photo));
        classes.retain(|photos| !photos.is_empty());
        draw.shuffle(&mut classes);
        let (all, count) = (self.photos.len(), classes.len().max(1));
        let mut turns = Vec::with_capacity(all);
        for (at, mut photos) in classes.into_iter().enumerate() {
            draw.shuffle(&mut photos);
            let quota = all / count + usize::from(at < all % count);
            let turn = |turn: usize| {
                let photo = photos[turn % photos.len()];
                Turn { photo, key: (photo + turn / photos.len() * all) as u64 }
            };
            turns.extend((0..quota).map(turn));
        }
        turns
    }

    /// Lets `body` take the samples of `order` one after the other. Others are made meanwhile, on `threads` threads
    /// less the caller's, if that leaves any.
    ///
    /// # Errors
    /// Those of `body`, to which errors of samples go.
    pub fn samples<R>(
        &self,
        order: &[Turn],
        epoch: u64,
        threads: usize,
        body: impl FnOnce(&mut dyn Iterator<Item = Result<Sample>>) -> Result<R>,
    ) -> Result<R> {
        let each = unit(self.options);
        let units: Vec<&[Turn]> = order.chunks(self.options.batch).flat_map(|batch| batch.chunks(each)).collect();
        let sizes: Vec<usize> =
            order.chunks(self.options.batch).flat_map(|batch| vec![batch.len(); batch.len().div_ceil(each)]).collect();
        let make = |at: usize| self.unit(units[at], sizes[at], epoch);
        std::thread::scope(|scope| {
            let makers = threads.saturating_sub(1).min(units.len());
            let mut queues = Vec::with_capacity(makers);
            for maker in 0..makers {
                let (send, receive) = sync_channel(AHEAD.div_ceil(each));
                let (units, make) = (units.len(), &make);
                let work = move || _ = (maker..units).step_by(makers).try_for_each(|at| send.send(make(at)));
                // Where the system gives no thread, the caller makes them all.
                if std::thread::Builder::new().name("photos".into()).spawn_scoped(scope, work).is_err() {
                    queues.clear();
                    break;
                }
                queues.push(receive);
            }
            let next = |at: usize| match queues.len() {
                0 => Some(make(at)),
                count => queues[at % count].recv().ok(),
            };
            let units = (0..units.len()).map_while(next);
            let mut samples = units.flat_map(|unit| match unit {
                Ok(samples) => samples.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            });
            body(&mut samples)
        })
    }

    /// The samples of turns that are mixed with one another, of a batch of `batch`.
    fn unit(&self, turns: &[Turn], batch: usize, epoch: u64) -> Result<Vec<Sample>> {
        let seed = self.options.seed;
        let image = |turn: &Turn| {
            let mut draw = Draw::new(seed, Purpose::Augment, epoch, turn.key);
            self.photos.augmented(turn.photo, &self.augment, self.geometry.size, &mut draw)
        };
        let mut images = turns.iter().map(image).collect::<Result<Vec<_>>>()?;
        let shares = match self.options.mix.is_none() {
            true => vec![1.0; images.len()],
            false => {
                let draws = turns.iter().map(|turn| Draw::new(seed, Purpose::Mix, epoch, turn.key));
                self.options.mix.apply(&mut images, self.geometry, draws)
            }
        };
        let label = |at: usize| self.photos.photos()[turns[at].photo].class;
        let sample = |(at, values): (usize, Vec<f32>)| {
            let (own, other, share) = (label(at), label(turns.len() - 1 - at), shares[at]);
            let target = |class: usize| {
                let mixed = share * self.target(class, own) + (1.0 - share) * self.target(class, other);
                (self.weights[class] * mixed / batch as f64) as f32
            };
            let targets = (0..self.weights.len()).map(target).collect();
            Sample { values, targets, label: if share < 0.5 { other } else { own }, key: turns[at].key }
        };
        Ok(images.into_iter().enumerate().map(sample).collect())
    }

    /// The share of a class in the target of a photo of class `label`.
    fn target(&self, class: usize, label: usize) -> f64 {
        let smoothing = self.options.smoothing;
        smoothing / self.weights.len() as f64 + if class == label { 1.0 - smoothing } else { 0.0 }
    }
}

/// How many samples are made together: what is mixed is made by batches.
fn unit(options: &FinetuneOptions) -> usize {
    if options.mix.is_none() { 1 } else { options.batch }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::dataset::Photo;
    use super::super::mix::Mix;
    use super::super::photos::BadImages;
    use super::super::testing::plain;
    use super::*;
    use crate::images::{Layout, Preprocess, Resize};

    /// Seven photos of a class and two of another.
    fn photos() -> Photos {
        let photo = |class: usize| {
            let path = ["examples/photos/stop.jpg", "examples/photos/yield.jpg"][class].into();
            Photo { path, class }
        };
        let all = [0, 0, 0, 0, 0, 0, 0, 1, 1].map(photo).to_vec();
        let preprocess = Preprocess { resize: Resize::Exact(16, 16), layout: Layout::Nchw, ..plain() };
        Photos::load(all, &preprocess, BadImages::Refuse, 1 << 20, 1).unwrap()
    }

    fn options() -> FinetuneOptions {
        FinetuneOptions { batch: 4, smoothing: 0.0, ..FinetuneOptions::default() }
    }

    #[test]
    fn a_sampler_gives_every_class_as_many_turns() {
        let (photos, options) = (photos(), FinetuneOptions { balance: Balance::Sampler, ..options() });
        let batches = Batches::new(&photos, 2, (16, 16), &options).unwrap();
        let orders: Vec<Vec<Turn>> = (0..40).map(|epoch| batches.order(epoch)).collect();
        for order in &orders {
            let rare = order.iter().filter(|turn| turn.photo >= 7).count();
            assert!(order.len() == 9 && (rare == 4 || rare == 5), "{order:?}");
            let keys: BTreeSet<u64> = order.iter().map(|turn| turn.key).collect();
            assert!(keys.len() == 9 && order.iter().all(|turn| turn.key % 9 == turn.photo as u64), "{order:?}");
        }
        let seen: BTreeSet<usize> = orders.iter().flatten().map(|turn| turn.photo).collect();
        assert_eq!(seen.len(), 9);
        assert!(orders[0] != orders[1] && orders[0] == batches.order(0));
    }

    #[test]
    fn an_incomplete_batch_is_left_out_where_statistics_are_of_batches() {
        let (photos, fixed) = (photos(), options());
        let mut trained = options();
        trained.recipe.norms = Norms::Trained;
        let count = |options| {
            let batches = Batches::new(&photos, 2, (16, 16), options).unwrap();
            (batches.order(3).len(), batches.steps())
        };
        assert_eq!((count(&fixed), count(&trained)), ((9, 3), (8, 2)));
    }

    #[test]
    fn targets_are_weighed_mixed_and_over_the_batch() {
        let photos = photos();
        let of = |options: &FinetuneOptions, threads| -> Vec<(u64, Vec<f32>)> {
            let batches = Batches::new(&photos, 2, (16, 16), options).unwrap();
            let order = batches.order(0);
            let collect = |samples: &mut dyn Iterator<Item = Result<Sample>>| {
                samples.map(|sample| sample.map(|sample| (sample.key, sample.targets))).collect()
            };
            batches.samples(&order, 0, threads, collect).unwrap()
        };
        let weighed = FinetuneOptions { balance: Balance::Weights, ..options() };
        for (at, (key, targets)) in of(&weighed, 1).into_iter().enumerate() {
            // Batches are of four, four and one; weights are 9 / (2 * 7) and 9 / (2 * 2).
            let batch = if at < 8 { 4.0 } else { 1.0 };
            let expected = if key < 7 { [9.0 / 14.0 / batch, 0.0] } else { [0.0, 2.25 / batch] };
            assert!(targets.iter().zip(expected).all(|(a, b)| (f64::from(*a) - b).abs() < 1e-6), "{at}: {targets:?}");
        }
        let mixed = FinetuneOptions { mix: Mix { mixup: 1.0, cutmix: 1.0 }, ..options() };
        let found = of(&mixed, 1);
        assert!(found[..8].iter().all(|(_, targets)| (targets.iter().sum::<f32>() - 0.25).abs() < 1e-6));
        assert!(found.iter().any(|(_, targets)| targets[0] > 0.01 && targets[1] > 0.01), "{found:?}");
        assert_eq!((&found, found.len()), (&of(&mixed, 3), 9));
    }
}
