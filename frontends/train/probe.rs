//! The best linear classifier over a network's pooled features: what fine-tuning begins with, and often enough by itself.
//!
//! In: features of photos. Out: a linear layer, its penalty, and what cross-validation says of each penalty that was tried: each
//! class's photos are dealt to five folds in their order, and each fold is held out once. The least held-out cross-entropy decides, the
//! larger penalty among equals.

use super::logistic::{Linear, Samples};
use super::parallel;
use crate::error::{Error, Result};

/// Penalties that are tried.
pub const L2: [f64; 6] = [1.0, 1e-1, 1e-2, 1e-3, 1e-4, 1e-5];
/// Number of folds.
pub const FOLDS: usize = 5;

/// What cross-validation says of a penalty.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct HeldOut {
    /// The penalty.
    pub l2: f64,
    /// Mean cross-entropy of photos that were held out, a mean over the folds.
    pub loss: f64,
    /// Share of photos that were held out and told right.
    pub accuracy: f64,
}

/// A linear classifier.
#[derive(Clone, PartialEq, Debug)]
pub struct Probe {
    /// The layer.
    pub layer: Linear,
    /// Its penalty.
    pub l2: f64,
    /// Of each penalty that was tried; none where it was given.
    pub held_out: Vec<HeldOut>,
}

/// Fits a classifier with penalty `l2`, or with the one that cross-validation finds, on `threads` threads, which change no bit.
///
/// # Errors
/// [`Error::Usage`] if the penalty is no positive number.
pub fn probe(samples: &Samples, l2: Option<f64>, threads: usize) -> Result<Probe> {
    if let Some(l2) = l2 {
        if !(l2 > 0.0 && l2.is_finite()) {
            return Err(Error::usage("--l2", "a positive number, or auto", l2.to_string()));
        }
        return Ok(Probe { layer: samples.fit(l2, None), l2, held_out: Vec::new() });
    }
    let held_out = cross_validated(samples, &L2, threads);
    let best = held_out.iter().fold(held_out[0], |best, tried| if tried.loss < best.loss { *tried } else { best });
    Ok(Probe { layer: samples.fit(best.l2, None), l2: best.l2, held_out })
}

/// What cross-validation says of the penalties `tried`, of which there is at least one.
pub fn cross_validated(samples: &Samples, tried: &[f64], threads: usize) -> Vec<HeldOut> {
    let folds = folds(samples.labels());
    let of_fold = |fold: usize| -> Vec<(f64, usize)> {
        let (Some(others), Some(held)) =
            (samples.filtered(|at| folds[at] != fold), samples.filtered(|at| folds[at] == fold))
        else {
            return Vec::new();
        };
        let mut near: Option<Linear> = None;
        let loss = |l2: &f64| {
            let layer = others.fit(*l2, near.as_ref());
            let loss = held.loss(&layer);
            near = Some(layer);
            loss
        };
        tried.iter().map(loss).collect()
    };
    let mut results = parallel::map(threads, FOLDS, of_fold);
    results.retain(|fold| !fold.is_empty());
    let of_penalty = |(at, l2): (usize, &f64)| {
        let (losses, wrong): (Vec<f64>, Vec<usize>) = results.iter().map(|fold| fold[at]).unzip();
        let accuracy = 1.0 - wrong.iter().sum::<usize>() as f64 / samples.len() as f64;
        HeldOut { l2: *l2, loss: losses.iter().sum::<f64>() / losses.len().max(1) as f64, accuracy }
    };
    tried.iter().enumerate().map(of_penalty).collect()
}

/// The fold of each photo: the photos of a class in turn.
pub(super) fn folds(labels: &[usize]) -> Vec<usize> {
    let mut seen = vec![0; labels.iter().max().map_or(0, |most| most + 1)];
    let fold = |label: &usize| {
        seen[*label] += 1;
        (seen[*label] - 1) % FOLDS
    };
    labels.iter().map(fold).collect()
}

#[cfg(test)]
mod tests {
    use super::super::random::{Draw, Purpose};
    use super::*;

    fn samples(count: usize, noise: f64) -> Samples {
        let mut draw = Draw::new(4, Purpose::Order, 0, 0);
        let labels: Vec<usize> = (0..count).map(|at| at % 3).collect();
        let row = |label: &usize| {
            (0..8).map(|at| (f64::from(u8::from(at == *label)) + noise * draw.normal()) as f32).collect()
        };
        let rows: Vec<Vec<f32>> = labels.iter().map(row).collect();
        Samples::new(rows.concat(), 8, labels, 3).unwrap()
    }

    #[test]
    fn noisy_features_take_a_larger_penalty() {
        let chosen = |noise| probe(&samples(90, noise), None, 1).unwrap();
        let (clean, noisy) = (chosen(0.05), chosen(2.0));
        assert!(clean.l2 < noisy.l2, "{clean:?} {noisy:?}");
        assert!(clean.held_out.iter().any(|tried| tried.l2 == clean.l2 && tried.accuracy == 1.0));
        assert_eq!(clean, probe(&samples(90, 0.05), None, 3).unwrap());
    }

    #[test]
    fn folds_share_every_class() {
        assert_eq!(folds(&[0, 0, 1, 0, 0, 0, 0, 1]), [0, 1, 0, 2, 3, 4, 0, 1]);
    }

    #[test]
    fn fewer_photos_than_folds_are_enough() {
        let few = Samples::new(vec![0.0, 1.0, 0.2, 0.9], 1, vec![0, 1, 0, 1], 2).unwrap();
        let found = probe(&few, None, 2).unwrap();
        assert_eq!((found.held_out.len(), few.loss(&found.layer).1), (L2.len(), 0));
    }

    #[test]
    fn a_penalty_is_a_positive_number() {
        for l2 in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            assert!(probe(&samples(6, 0.1), Some(l2), 1).is_err());
        }
        assert_eq!(probe(&samples(6, 0.1), Some(0.5), 1).unwrap().held_out, []);
    }
}
