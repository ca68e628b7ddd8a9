//! The statistics of batch norms, taken anew over other photos (Li and others 2016), as torch's `update_bn` does it.
//!
//! In: photos as they are evaluated, and a network. Out: for each batch norm the mean over the batches of the batch's
//! mean, and of its variance with one less than the number of elements as the divisor; every batch norm sees what those
//! before it make of a batch with the statistics of that batch. Batches are of photos in a random order; those that are
//! left over take no part, unless there is no whole batch.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fornax_ir::graph::Graph;
use fornax_ir::training::{Norm, Optimiser, Setting, TrainingOptions};
use fornax_ir::types::{Constant, TensorType};
use fornax_runtime::{Pool, Tensor};

use super::options::FinetuneOptions;
use super::photos::Photos;
use super::random::{Draw, Purpose};
use super::step::Step;
use crate::error::{Error, Result};

/// The statistics of the network that `graph` gives for any number of images, over `photos`, under the names of its
/// constants; `head` are those of the last layer.
///
/// # Errors
/// [`Error::Usage`] if there is no batch norm, or there are too few photos; as [`Step::new`].
pub(crate) fn over(
    photos: &Photos,
    options: &FinetuneOptions,
    head: &BTreeSet<String>,
    graph: impl Fn(usize) -> Result<Graph>,
) -> Result<BTreeMap<String, Constant>> {
    let batch = options.batch.min(photos.len());
    if batch < 2 {
        return Err(Error::usage("--bn stats", "at least two photos to take statistics of", photos.len().to_string()));
    }
    // Of a step only its forward half is wanted, and the statistics that it leaves behind: all of the last batch's.
    let training = TrainingOptions {
        trained: &|name| head.contains(name),
        norms: &|_| Norm::Trained,
        momentum: 1.0,
        dropout: false,
        drop_path: false,
        optimiser: Optimiser::Sgd { momentum: 0.0, nesterov: false },
        setting: &|_, _: &TensorType| Setting { rate: 1.0, decay: 0.0 },
        clip: false,
        ema: false,
    };
    let pool = Arc::new(Pool::at_most(options.threads.max(1), false)?);
    let mut step = Step::new(&graph(batch)?, &training, &crate::facade::host()?, pool)?;
    let names = step.running().to_vec();
    if names.is_empty() {
        return Err(Error::usage("--bn stats", "a network with batch norms", "none"));
    }
    let mut order: Vec<usize> = (0..photos.len()).collect();
    Draw::new(options.seed, Purpose::Look, 0, 0).shuffle(&mut order);
    let mut sums: Vec<Vec<f64>> = vec![Vec::new(); names.len()];
    let batches = order.chunks_exact(batch);
    let count = batches.len() as f64;
    for chosen in batches {
        let images = chosen.iter().map(|photo| photos.evaluated(*photo)).collect::<Result<Vec<_>>>()?.concat();
        let mut tensors = Vec::with_capacity(2);
        for (at, port) in step.inputs().iter().enumerate() {
            let zeros = vec![0.0; port.shape.numel()];
            tensors.push(Tensor::from_f32(port.shape.clone(), if at == 0 { &images } else { &zeros })?);
        }
        step.gradients(&tensors.iter().collect::<Vec<_>>())?;
        for (name, sum) in names.iter().zip(&mut sums) {
            let values = step.variable(name)?.to_f64_vec();
            sum.resize(values.len(), 0.0);
            sum.iter_mut().zip(values).for_each(|(sum, value)| *sum += value);
        }
    }
    let mean = |(name, sum): (String, Vec<f64>)| {
        let values: Vec<f32> = sum.iter().map(|sum| (sum / count) as f32).collect();
        (name, Constant::from_f32([values.len()], &values))
    };
    Ok(names.into_iter().zip(sums).map(mean).collect())
}
