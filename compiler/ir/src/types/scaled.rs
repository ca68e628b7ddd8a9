//! `f32` elements times factors, multiplied when they are read.
//!
//! In: the elements as they are in the model's file. Out: the products, each computed in `f64` and rounded once. No copy
//! of a folded weight exists before it is packed.

use std::sync::Arc;

use bytes::Bytes;

/// `f32` elements in runs of equal factors.
#[derive(Clone, Debug)]
pub struct Scaled {
    /// Row-major little-endian `f32` elements.
    pub elements: Bytes,
    /// Length of a run: that many elements in a row share a factor.
    pub run: usize,
    /// The factors of the runs, in order; they begin anew after the last.
    pub factors: Arc<[f64]>,
}

impl Scaled {
    /// Bytes of the products of at most the first `count` elements.
    pub fn first(&self, count: usize) -> Vec<u8> {
        let (elements, _) = self.elements.as_chunks::<4>();
        let elements = &elements[..count.min(elements.len())];
        let mut out = vec![0u8; elements.len() * 4];
        let (products, _) = out.as_chunks_mut::<4>();
        let run = self.run.max(1);
        let factors = self.factors.iter().cycle();
        for ((products, elements), factor) in products.chunks_mut(run).zip(elements.chunks(run)).zip(factors) {
            for (product, element) in products.iter_mut().zip(elements) {
                *product = ((f64::from(f32::from_le_bytes(*element)) * factor) as f32).to_le_bytes();
            }
        }
        out
    }

    /// Bytes of all products.
    pub fn products(&self) -> Bytes {
        self.first(usize::MAX).into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{Constant, Payload, TensorType};

    #[test]
    fn runs_take_their_factors_in_turn() {
        let elements = Constant::from_f32([6], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).bytes().unwrap_or_default();
        let scaled = |run: usize, factors: &[f64]| {
            let payload = Payload::Scaled(Scaled { elements: elements.clone(), run, factors: factors.into() });
            Constant::new(TensorType::f32([6]), payload)
        };
        assert_eq!(scaled(3, &[2.0, 10.0]), Constant::from_f32([6], &[2.0, 4.0, 6.0, 40.0, 50.0, 60.0]));
        assert_eq!(scaled(1, &[1.0, 0.5]), Constant::from_f32([6], &[1.0, 1.0, 3.0, 2.0, 5.0, 3.0]));
        assert_eq!(scaled(1, &[2.0, 0.5]).to_f32(), Some(vec![2.0, 1.0, 6.0, 2.0, 10.0, 3.0]));
    }
}
