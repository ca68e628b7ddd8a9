//! Multinomial logistic regression: the best linear layer over features as they are.
//!
//! In: features, classes and a penalty. Out: weights and biases at the minimum of `mean cross-entropy + l2 / 2 * sum of squared
//! weights`; biases are free, and sum to 0, which the objective leaves open. Newton's method with conjugate gradients (Nocedal, Wright,
//! *Numerical Optimization*, section 7.1) in `f64`: the objective is convex, so that the way there leaves no trace in the result, and
//! sums are taken in the order of the photos, so that it is the same on every machine.

use crate::error::{Error, Result};

/// Features of photos and what they show.
#[derive(Clone, Debug)]
pub struct Samples {
    /// One row of `width` features per photo.
    features: Vec<f32>,
    width: usize,
    /// The class of each photo.
    labels: Vec<usize>,
    classes: usize,
}

/// A linear layer.
#[derive(Clone, PartialEq, Debug)]
pub struct Linear {
    /// One row per class.
    pub weights: Vec<f64>,
    /// One per class.
    pub biases: Vec<f64>,
    /// Features of a row.
    pub width: usize,
}

/// Most steps of Newton's method; some 10 are enough.
const STEPS: usize = 100;
/// The gradient's norm at which the minimum is reached.
const GRADIENT: f64 = 1e-9;

impl Samples {
    /// Photos of which photo `i` has the features `features[i * width..][..width]` and shows class `labels[i]` of `classes`.
    ///
    /// # Errors
    /// [`Error::Input`] if the numbers do not fit, a feature is not finite, or there is no photo.
    pub fn new(features: Vec<f32>, width: usize, labels: Vec<usize>, classes: usize) -> Result<Self> {
        let wrong = |field: &str, expected: &str, found: String| Err(Error::input(field, expected, found));
        if labels.is_empty() || width == 0 || features.len() != labels.len() * width {
            let found = format!("{} for {} photos of {width}", features.len(), labels.len());
            return wrong("features", "some for each of at least one photo", found);
        }
        if let Some(label) = labels.iter().find(|label| **label >= classes) {
            return wrong("labels", &format!("classes below {classes}"), label.to_string());
        }
        if let Some(at) = features.iter().position(|feature| !feature.is_finite()) {
            return wrong("features", "finite numbers", format!("{} of photo {}", features[at], at / width));
        }
        Ok(Self { features, width, labels, classes })
    }

    /// Number of photos.
    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// The class of each photo.
    pub fn labels(&self) -> &[usize] {
        &self.labels
    }

    /// Whether there is none; never, once made.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    /// The photos for which `keep` says so, if there are any.
    pub fn filtered(&self, keep: impl Fn(usize) -> bool) -> Option<Self> {
        let kept: Vec<usize> = (0..self.len()).filter(|at| keep(*at)).collect();
        let features = kept.iter().flat_map(|at| self.row(*at)).copied().collect();
        let labels: Vec<usize> = kept.iter().map(|at| self.labels[*at]).collect();
        (!labels.is_empty()).then_some(Self { features, labels, ..*self })
    }

    fn row(&self, at: usize) -> &[f32] {
        &self.features[at * self.width..][..self.width]
    }

    /// The layer at the minimum; `near` is one not far from it, to begin with.
    pub fn fit(&self, l2: f64, near: Option<&Linear>) -> Linear {
        let mut problem = Problem { samples: self, l2, probabilities: Vec::new() };
        let zeros = || vec![0.0; self.classes * (self.width + 1)];
        let mut at = near.map_or_else(zeros, |near| [&near.weights[..], &near.biases].concat());
        let mut value = problem.value(&at);
        for _ in 0..STEPS {
            let gradient = problem.gradient(&at);
            if norm(&gradient) <= GRADIENT {
                break;
            }
            let step = problem.newton_step(&gradient);
            let slope = dot(&gradient, &step);
            // Halved until it falls by a part of what the slope promises (Armijo's rule); at the end of what f64 tells apart it cannot.
            let tried = (0..40).map(|halvings| 0.5f64.powi(halvings)).find_map(|length| {
                let there: Vec<f64> = at.iter().zip(&step).map(|(a, s)| a + length * s).collect();
                let found = problem.value(&there);
                (found <= value + 1e-4 * length * slope).then_some((there, found))
            });
            let Some((there, found)) = tried.filter(|(_, found)| *found < value) else { break };
            (at, value) = (there, found);
        }
        let mut biases: Vec<f64> = at.split_off(self.classes * self.width);
        let mean = biases.iter().sum::<f64>() / self.classes as f64;
        biases.iter_mut().for_each(|bias| *bias -= mean);
        Linear { weights: at, biases, width: self.width }
    }

    /// Mean cross-entropy of what `layer` says, and how many photos it takes for another class.
    pub fn loss(&self, layer: &Linear) -> (f64, usize) {
        let (mut sum, mut wrong) = (0.0, 0);
        for (at, label) in self.labels.iter().enumerate() {
            let scores = layer.scores(self.row(at));
            sum -= log_softmax(&scores)[*label];
            wrong += usize::from(best(&scores) != *label);
        }
        (sum / self.len() as f64, wrong)
    }

    /// Whether `layer` tells each photo right.
    pub fn right(&self, layer: &Linear) -> Vec<bool> {
        self.labels.iter().enumerate().map(|(at, label)| best(&layer.scores(self.row(at))) == *label).collect()
    }
}

impl Linear {
    /// One score per class.
    pub fn scores(&self, features: &[f32]) -> Vec<f64> {
        let rows = self.weights.chunks_exact(self.width).zip(&self.biases);
        rows.map(|(row, bias)| product(row, features) + bias).collect()
    }
}

/// The class of the highest score, the first among equals.
fn best(scores: &[f64]) -> usize {
    (0..scores.len()).fold(0, |best, class| if scores[class] > scores[best] { class } else { best })
}

fn log_softmax(scores: &[f64]) -> Vec<f64> {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let sum: f64 = scores.iter().map(|score| libm::exp(score - largest)).sum();
    scores.iter().map(|score| score - largest - libm::log(sum)).collect()
}

/// The sum of products in eight parts, of which each takes every eighth: vectors compute it, and the order is always the same.
fn product(weights: &[f64], features: &[f32]) -> f64 {
    let ((weights, last_weights), (features, last)) = (weights.as_chunks::<8>(), features.as_chunks::<8>());
    let mut parts = [0.0; 8];
    for (weights, features) in weights.iter().zip(features) {
        (0..8).for_each(|lane| parts[lane] += weights[lane] * f64::from(features[lane]));
    }
    let rest: f64 = last_weights.iter().zip(last).map(|(w, x)| w * f64::from(*x)).sum();
    parts.iter().sum::<f64>() + rest
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn norm(a: &[f64]) -> f64 {
    dot(a, a).sqrt()
}

/// The objective over weights, then biases.
struct Problem<'a> {
    samples: &'a Samples,
    l2: f64,
    /// Of every photo and class, where the gradient was taken last.
    probabilities: Vec<f64>,
}

impl Problem<'_> {
    fn layer(&self, at: &[f64]) -> Linear {
        let (weights, biases) = at.split_at(self.samples.classes * self.samples.width);
        Linear { weights: weights.to_vec(), biases: biases.to_vec(), width: self.samples.width }
    }

    fn penalised<'b>(&self, at: &'b [f64]) -> &'b [f64] {
        &at[..self.samples.classes * self.samples.width]
    }

    fn value(&self, at: &[f64]) -> f64 {
        let weights = self.penalised(at);
        self.samples.loss(&self.layer(at)).0 + self.l2 / 2.0 * dot(weights, weights)
    }

    fn gradient(&mut self, at: &[f64]) -> Vec<f64> {
        let (samples, layer) = (self.samples, self.layer(at));
        self.probabilities.clear();
        let mut errors = Vec::with_capacity(samples.len() * samples.classes);
        for (photo, label) in samples.labels.iter().enumerate() {
            let probabilities = log_softmax(&layer.scores(samples.row(photo)));
            for (class, log) in probabilities.into_iter().enumerate() {
                let probability = libm::exp(log);
                self.probabilities.push(probability);
                errors.push(probability - f64::from(u8::from(class == *label)));
            }
        }
        self.transposed(&errors, at)
    }

    /// `errors` of every photo and class taken back to weights and biases, and the penalty's part at `at`.
    fn transposed(&self, errors: &[f64], at: &[f64]) -> Vec<f64> {
        let Samples { width, classes, .. } = *self.samples;
        let (mut out, count) = (vec![0.0; at.len()], self.samples.len() as f64);
        for (photo, errors) in errors.chunks_exact(classes).enumerate() {
            let row = self.samples.row(photo);
            for (class, error) in errors.iter().map(|error| error / count).enumerate() {
                let weights = &mut out[class * width..][..width];
                weights.iter_mut().zip(row).for_each(|(w, x)| *w += error * f64::from(*x));
                out[classes * width + class] += error;
            }
        }
        out.iter_mut().zip(self.penalised(at)).for_each(|(out, weight)| *out += self.l2 * weight);
        out
    }

    /// The Hessian, where the gradient was taken last, times a vector.
    fn hessian(&self, vector: &[f64]) -> Vec<f64> {
        let (samples, layer) = (self.samples, self.layer(vector));
        let mut errors = Vec::with_capacity(self.probabilities.len());
        for (photo, probabilities) in self.probabilities.chunks_exact(samples.classes).enumerate() {
            let scores = layer.scores(samples.row(photo));
            let mean = dot(&scores, probabilities);
            errors.extend(scores.iter().zip(probabilities).map(|(score, p)| p * (score - mean)));
        }
        self.transposed(&errors, vector)
    }

    /// Where the quadratic model is least, nearly: the closer to the minimum, the nearer.
    fn newton_step(&self, gradient: &[f64]) -> Vec<f64> {
        let goal = norm(gradient) * norm(gradient).sqrt().min(0.1);
        let mut step = vec![0.0; gradient.len()];
        let mut residual: Vec<f64> = gradient.iter().map(|g| -g).collect();
        let (mut direction, mut square) = (residual.clone(), dot(&residual, &residual));
        for _ in 0..2 * gradient.len() {
            if square.sqrt() <= goal {
                break;
            }
            let product = self.hessian(&direction);
            let curvature = dot(&direction, &product);
            if curvature <= 0.0 {
                break;
            }
            let length = square / curvature;
            step.iter_mut().zip(&direction).for_each(|(s, d)| *s += length * d);
            residual.iter_mut().zip(&product).for_each(|(r, p)| *r -= length * p);
            let next = dot(&residual, &residual);
            direction.iter_mut().zip(&residual).for_each(|(d, r)| *d = r + next / square * *d);
            square = next;
        }
        step
    }
}

#[cfg(test)]
mod tests {
    use super::super::random::{Draw, Purpose};
    use super::*;

    fn samples(count: usize, width: usize, classes: usize) -> Samples {
        let mut draw = Draw::new(9, Purpose::Order, 0, 0);
        let labels: Vec<usize> = (0..count).map(|at| at % classes).collect();
        let mut feature = |label: usize, at: usize| (draw.normal() + f64::from(u8::from(at % classes == label))) as f32;
        let features = labels.iter().flat_map(|label| (0..width).map(|at| (*label, at)).collect::<Vec<_>>());
        let features = features.map(|(label, at)| feature(label, at)).collect();
        Samples::new(features, width, labels, classes).unwrap()
    }

    #[test]
    fn the_gradient_is_none_at_the_minimum() {
        for (count, width, classes, l2) in [(60, 7, 4, 1e-3), (12, 30, 3, 1e-2), (40, 5, 2, 1e-4)] {
            let samples = samples(count, width, classes);
            let layer = samples.fit(l2, None);
            let at: Vec<f64> = layer.weights.iter().chain(&layer.biases).copied().collect();
            let gradient = Problem { samples: &samples, l2, probabilities: Vec::new() }.gradient(&at);
            assert!(norm(&gradient) < 1e-8, "{}", norm(&gradient));
            assert!(layer.biases.iter().sum::<f64>().abs() < 1e-12);
        }
    }

    #[test]
    fn gradient_and_hessian_are_those_of_the_value() {
        let samples = samples(20, 3, 4);
        let mut problem = Problem { samples: &samples, l2: 0.1, probabilities: Vec::new() };
        let at: Vec<f64> = (0..16).map(|i| (i as f64 * 0.37).sin()).collect();
        let along: Vec<f64> = (0..16).map(|i| (i as f64 * 0.91).cos()).collect();
        let there = |t: f64| -> Vec<f64> { at.iter().zip(&along).map(|(a, d)| a + t * d).collect() };
        let slope = (problem.value(&there(1e-5)) - problem.value(&there(-1e-5))) / 2e-5;
        assert!((slope - dot(&problem.gradient(&at), &along)).abs() < 1e-8);
        let (after, before) = (problem.gradient(&there(1e-5)), problem.gradient(&there(-1e-5)));
        problem.gradient(&at);
        let product = problem.hessian(&along);
        let worst = (0..16).map(|i| ((after[i] - before[i]) / 2e-5 - product[i]).abs()).fold(0.0, f64::max);
        assert!(worst < 1e-8, "{worst}");
    }

    #[test]
    fn a_layer_without_anything_to_learn_is_the_share_of_each_class() {
        let samples = Samples::new(vec![0.0; 4], 1, vec![0, 0, 0, 1], 2).unwrap();
        let layer = samples.fit(1.0, None);
        assert!((layer.biases[0] - layer.biases[1] - 3f64.ln()).abs() < 1e-8);
        assert_eq!(samples.loss(&layer).1, 1);
    }

    #[test]
    fn what_is_no_sample_is_refused() {
        let refused = |features: Vec<f32>, width, labels: Vec<usize>| Samples::new(features, width, labels, 2).is_err();
        assert!(refused(vec![], 1, vec![]) && refused(vec![1.0], 1, vec![2]) && refused(vec![1.0, 2.0], 1, vec![0]));
        assert!(refused(vec![f32::NAN], 1, vec![0]) && !refused(vec![1.0], 1, vec![0]));
    }
}
