//! What a training says of itself while it goes on.
//!
//! In: nothing. Out: the vocabulary between a training and who watches it: an [`Event`] is answered by a [`Flow`].

use std::time::Duration;

use super::mirrored::Mirrored;
use super::probe::Probe;
use super::step::Step;

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
    /// Whether photos are mirrored, and why.
    Mirrored(&'a Mirrored),
    /// The highest learning rate that a range test found.
    Rate(f64),
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
