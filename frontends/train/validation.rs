//! What a network says of photos while it is trained.
//!
//! In: a step, and photos. Out: an evaluation of the parameters as they are, from the step's own memory: nothing is compiled or copied for it but,
//! once, a program that predicts. The values of a photo do not depend on those that are computed with it, nor on threads.

use fornax_runtime::Tensor;

use super::metrics::Evaluation;
use super::parallel;
use super::photos::Photos;
use super::step::Step;
use crate::classify::{Scores, probabilities};
use crate::error::{Error, Result};

/// What the network says of `photos` of `classes` classes; by the averages of its parameters over the steps, where these are kept.
///
/// # Errors
/// [`Error::Input`] if there are no photos; as [`Step::predict`].
pub(crate) fn evaluated(step: &mut Step, photos: &Photos, classes: usize, threads: usize) -> Result<Evaluation> {
    if photos.is_empty() {
        return Err(Error::input("photos", "at least one", "none"));
    }
    let (shape, images) = (step.inputs()[0].shape.clone(), step.images());
    let mut rows = Vec::with_capacity(photos.len() * classes);
    let mut values = Vec::with_capacity(shape.numel());
    for begin in (0..photos.len()).step_by(images) {
        let count = images.min(photos.len() - begin);
        values.clear();
        for photo in parallel::map(threads, count, |at| photos.evaluated(begin + at)) {
            values.extend_from_slice(&photo?);
        }
        // The last call is filled up with nothing to look at.
        values.resize(shape.numel(), 0.0);
        let logits = step.predict(&Tensor::from_f32(shape.clone(), &values)?)?;
        rows.extend_from_slice(&logits[..logits.len() / images * count]);
    }
    let probabilities =
        probabilities(&Tensor::from_f32([photos.len(), rows.len() / photos.len()], &rows)?, Scores::Logits)?;
    let labels = photos.photos().iter().map(|photo| photo.class).collect();
    Ok(Evaluation::new(labels, probabilities, classes))
}
