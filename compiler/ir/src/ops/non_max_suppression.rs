//! Greedy choice of boxes: again and again the one of the highest score, which rules out those that overlap it too much.
//!
//! In: boxes `[images, 4, boxes]` as planes of their low `x` and `y` and their high `x` and `y`; scores `[images, classes, boxes]`; and the threshold, a
//! scalar, all `f32`. Out: for each image and class the indices of at most `k` boxes as `i64`, in the order of their choice and then zeros; and how
//! many were chosen.
//!
//! Of equal scores the lower index is chosen first. A score of -inf or NaN is never chosen. A box is ruled out if the area that it shares with a chosen one,
//! divided by the area that both cover, is above the threshold. All of that is `f32` arithmetic, rounded operation by operation: the choice is
//! discontinuous, so its intermediate values are part of what it means.

use super::Operation;
use super::attributes::{Attr, AttrReader, attributes};
use super::literal::Literal;
use super::shapes::{check, checked, expect_type, operands};
use crate::error::OpError;
use crate::types::{DType, TensorType};

attributes! {
    /// Attributes of a choice of boxes.
    pub struct NonMaxSuppression {
        /// How many boxes are chosen at most.
        pub k: usize = 1,
    }
}

impl NonMaxSuppression {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }

    /// The boxes of an image that are chosen by these scores.
    fn chosen(&self, boxes: &[Corners], mut scores: Vec<f32>, threshold: f32) -> Vec<i64> {
        let mut chosen = Vec::new();
        while chosen.len() < self.k {
            let mut best = None;
            let mut most = f32::NEG_INFINITY;
            for (index, score) in scores.iter().enumerate() {
                if *score > most {
                    (best, most) = (Some(index), *score);
                }
            }
            let Some(best) = best else { break };
            chosen.push(best as i64);
            scores[best] = f32::NEG_INFINITY;
            for (other, score) in boxes.iter().zip(&mut scores) {
                if other.overlap(&boxes[best]) > threshold {
                    *score = f32::NEG_INFINITY;
                }
            }
        }
        chosen
    }
}

/// A box: its low `x` and `y`, its high `x` and `y`.
struct Corners([f32; 4]);

impl Corners {
    fn area(&self) -> f32 {
        let [left, top, right, bottom] = self.0;
        (right - left) * (bottom - top)
    }

    /// Shared area by covered area; 0 of boxes that share none.
    fn overlap(&self, other: &Self) -> f32 {
        let side = |axis: usize| {
            let (high, low) = (smaller(self.0[axis + 2], other.0[axis + 2]), larger(self.0[axis], other.0[axis]));
            larger(high - low, 0.0)
        };
        let shared = side(0) * side(1);
        shared / ((self.area() + other.area()) - shared)
    }
}

/// The second of unordered numbers, as vector instructions have it.
fn smaller(a: f32, b: f32) -> f32 {
    if a < b { a } else { b }
}

fn larger(a: f32, b: f32) -> f32 {
    if a > b { a } else { b }
}

impl Operation for NonMaxSuppression {
    fn name(&self) -> &'static str {
        "non_max_suppression"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, OpError> {
        let [boxes, scores, threshold] = operands(inputs)?;
        let [images, classes, count] = scores.shape[..] else {
            return Err(OpError::new("scores", "rank 3", scores.to_string()));
        };
        expect_type("scores", DType::F32, &[images, classes, count], scores)?;
        expect_type("boxes", DType::F32, &[images, 4, count], boxes)?;
        expect_type("threshold", DType::F32, &[], threshold)?;
        check((1..=count).contains(&self.k), "k", || format!("1 to {count}"), || self.k.to_string())?;
        Ok(vec![checked(DType::I64, [images, classes, self.k])?, checked(DType::I64, [images, classes])?])
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Vec<Literal>, OpError> {
        let [boxes, scores, threshold] = operands(inputs)?;
        let types = self.infer(&[&boxes.ty, &scores.ty, &threshold.ty])?;
        let [_, classes, count] = scores.ty.shape[..] else { return Ok(Vec::new()) };
        let single = |values: &[f64]| values.iter().map(|v| *v as f32).collect::<Vec<f32>>();
        let (planes, scores) = (single(boxes.floats("boxes")?), single(scores.floats("scores")?));
        // As kernels take it: boxes that share nothing never rule each other out.
        let threshold = larger(single(threshold.floats("threshold")?)[0], 0.0);
        let (mut indices, mut counts) = (Vec::new(), Vec::new());
        for (group, scores) in scores.chunks(count).enumerate() {
            let planes = &planes[group / classes * 4 * count..];
            let corners: Vec<Corners> =
                (0..count).map(|i| Corners([0, 1, 2, 3].map(|plane| planes[plane * count + i]))).collect();
            let mut chosen = self.chosen(&corners, scores.to_vec(), threshold);
            counts.push(chosen.len() as i64);
            chosen.resize(self.k, 0);
            indices.append(&mut chosen);
        }
        let [first, second] = [0, 1].map(|i| types[i].clone());
        Ok(vec![Literal::new_int(first, indices), Literal::new_int(second, counts)])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Three boxes in a row, of which neighbours overlap by a third.
    fn row() -> Literal {
        Literal::from_f32([1, 4, 3], &[0., 1., 2., 0., 0., 0., 2., 3., 4., 1., 1., 1.])
    }

    fn chosen(scores: &[f32], threshold: f32, k: usize) -> (Vec<f64>, Vec<f64>) {
        let (scores, threshold) = (Literal::from_f32([1, 1, 3], scores), Literal::from_f32([], &[threshold]));
        let results = NonMaxSuppression { k }.evaluate(&[&row(), &scores, &threshold]).unwrap();
        (results[0].to_f64(), results[1].to_f64())
    }

    #[test]
    fn the_best_rules_out_its_neighbours() {
        assert_eq!(chosen(&[0.5, 0.9, 0.4], 0.3, 3), (vec![1., 0., 0.], vec![1.]));
        assert_eq!(chosen(&[0.5, 0.4, 0.9], 0.3, 3), (vec![2., 0., 0.], vec![2.]));
        assert_eq!(chosen(&[0.5, 0.9, 0.4], 0.34, 3), (vec![1., 0., 2.], vec![3.]));
        assert_eq!(chosen(&[0.5, 0.9, 0.4], 0.34, 2), (vec![1., 0.], vec![2.]));
    }

    #[test]
    fn equal_scores_go_by_index_and_what_has_none_is_not_chosen() {
        assert_eq!(chosen(&[0.0, -0.0, 0.0], 0.5, 3), (vec![0., 1., 2.], vec![3.]));
        assert_eq!(chosen(&[f32::NEG_INFINITY, f32::NAN, -5.0], 0.0, 3), (vec![2., 0., 0.], vec![1.]));
        // A threshold below 0 rules out no box that shares nothing.
        assert_eq!(chosen(&[0.9, 0.5, 0.4], -1.0, 3), (vec![0., 2., 0.], vec![2.]));
    }

    #[test]
    fn operands_go_together() {
        let field = |boxes: [usize; 3], scores: &[usize], k| {
            let types = [TensorType::f32(boxes), TensorType::f32(scores), TensorType::f32([])];
            NonMaxSuppression { k }.infer(&types.iter().collect::<Vec<_>>()).unwrap_err().field
        };
        assert_eq!(field([1, 4, 3], &[2, 5, 3], 1), "boxes");
        assert_eq!(field([1, 3, 4], &[1, 5, 4], 1), "boxes");
        assert_eq!(field([1, 4, 3], &[1, 3], 1), "scores");
        assert_eq!(field([1, 4, 3], &[1, 5, 3], 4), "k");
        assert_eq!(field([1, 4, 3], &[1, 5, 3], 0), "k");
    }
}
