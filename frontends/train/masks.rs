//! What is dropped of an image during training: features before the last layer (Srivastava and others 2014), and branches of residual
//! blocks (Huang and others 2016).
//!
//! In: a [`Recipe`], and seed, epoch and image. Out: the factors that a step takes as inputs, 0 for what is dropped and 1 over the share that
//! is kept for the rest. Invariant: a factor is a function of seed, epoch and image alone, in this process as in a library that
//! [`super::library`] has compiled.

use fornax_runtime::Tensor;

use super::random::{Draw, Purpose};
use super::recipe::Recipe;
use super::step::Step;
use crate::error::Result;

/// The factors of one image for an input of a step.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Mask {
    /// Of which sequence they are drawn.
    pub purpose: Purpose,
    /// How many numbers of the sequence come before them.
    pub first: u64,
    /// How many they are.
    pub count: usize,
    /// Share of those that are dropped.
    pub rate: f64,
}

impl Mask {
    /// The factors.
    pub fn draw(&self, seed: u64, epoch: u64, image: u64) -> impl Iterator<Item = f32> {
        let mut draw = Draw::new(seed, self.purpose, epoch, image).after(self.first);
        let (rate, kept) = (self.rate, (1.0 / (1.0 - self.rate)) as f32);
        (0..self.count).map(move |_| if draw.unit() < rate { 0.0 } else { kept })
    }
}

impl Recipe {
    /// What the input `name` of a gradients program takes of the factors of an image, for which it has `count` elements, in a network of
    /// `blocks` residual blocks.
    pub(super) fn mask(&self, name: &str, count: usize, blocks: usize) -> Option<Mask> {
        if name == "dropout" {
            return Some(Mask { purpose: Purpose::Dropout, first: 0, count, rate: self.dropout });
        }
        let block: usize = name.strip_prefix("drop_path.")?.parse().ok()?;
        // The last block has the whole rate.
        let rate = self.drop_path * (block + 1) as f64 / blocks as f64;
        Some(Mask { purpose: Purpose::DropPath, first: block as u64, count, rate })
    }

    /// The tensors that [`Step::gradients`] takes after images and targets, for images of these numbers; fewer than the step takes at
    /// once are filled up by zeros.
    ///
    /// # Errors
    /// [`crate::Error::Runtime`] if there is no memory for them.
    pub fn masks(&self, step: &Step, seed: u64, epoch: u64, images: &[u64]) -> Result<Vec<Tensor>> {
        let mut tensors = Vec::new();
        for port in step.inputs() {
            let count = port.shape.numel() / step.images();
            let Some(mask) = self.mask(&port.name, count, step.blocks()) else { continue };
            let factors = images.iter().take(step.images()).flat_map(|image| mask.draw(seed, epoch, *image));
            let mut values: Vec<f32> = factors.collect();
            values.resize(port.shape.numel(), 0.0);
            tensors.push(Tensor::from_f32(port.shape.clone(), &values)?);
        }
        Ok(tensors)
    }
}
