//! How much memory a run takes, and what a bound on it leaves for the step.
//!
//! In: the bound of the options, what the process holds before the step is made, and the photos that wait for their turn. Out: a
//! [`StepBound`]. Photos that are kept between epochs have a bound of their own and do not count.

use fornax_ir::graph::Graph;

use super::options::{FinetuneOptions, Norms};
use super::photos::Photos;
use super::step::StepBound;
use crate::error::Error;

/// What a process takes where nothing is asked for, if that is possible by computing this share of a step again.
const USUAL: (u64, f64) = (250_000_000, 0.03);
/// The same where batches are computed at once.
const OF_BATCHES: (u64, f64) = (900_000_000, 0.5);
/// The share above which calls of fewer images take less time, where a bound is asked for.
const RATHER: f64 = 0.06;
/// Times the variables of a whole network that a step may take otherwise.
const OF_VARIABLES: u64 = 3;
/// Code and tables of the step, its compilation once memory that this frees has been given back, the validation, stacks of threads.
const RESERVE: u64 = 18_000_000;

/// What a run may take.
pub(crate) struct Budget {
    /// The process before the step is made, without kept photos.
    held: u64,
    /// Parameters and states of a step that trains all of the network.
    variables: u64,
    /// As the options say.
    asked: Option<u64>,
    /// Where they say nothing: bytes, and what share may be computed again for them.
    usual: (u64, f64),
}

impl Budget {
    /// That of `options` for a network, in a process that holds what it holds now, `photos` among it.
    pub fn new(options: &FinetuneOptions, network: Graph, photos: [&Photos; 2]) -> Self {
        let constants = network.ids().filter_map(|id| network.node(id).constant());
        let weights: u64 = constants.map(|constant| constant.ty.bytes() as u64).sum();
        // Beside the optimiser's states gradients and, of most, what is folded with batch norms.
        let variables = weights * (3 + options.recipe.optimiser.states().len() as u64);
        // The range test puts back what it began with.
        let saved = if options.lr.is_none() { 2 * weights } else { 0 };
        let usual = if options.recipe.norms == Norms::Trained { OF_BATCHES } else { USUAL };
        // Those of the step's own graph take its place.
        drop(network);
        fornax_runtime::return_free_memory();
        let kept: u64 = photos.into_iter().map(Photos::kept_bytes).sum();
        Self { held: resident().saturating_sub(kept) + saved, variables, asked: options.memory, usual }
    }

    /// What is left for the step of a run whose samples take `samples` bytes; `less`: whether there is another step to try that takes less
    /// memory.
    pub fn left(&self, samples: u64, less: bool) -> StepBound {
        let others = self.held + RESERVE + samples;
        match self.asked {
            Some(asked) => {
                let bytes = asked.saturating_sub(others);
                StepBound { bytes, recompute: if less { RATHER } else { f64::INFINITY }, as_it_is: bytes }
            }
            None => StepBound {
                bytes: self.usual.0.saturating_sub(others),
                recompute: self.usual.1,
                as_it_is: if less { OF_VARIABLES * self.variables } else { u64::MAX },
            },
        }
    }

    /// The error of a step over `images` images a call that needs `needed` bytes and got fewer.
    pub fn refusal(&self, samples: u64, needed: u64, images: usize) -> Error {
        let (least, asked) = (self.held + RESERVE + samples + needed, self.asked.unwrap_or(self.usual.0));
        let photos = if images == 1 { "photo" } else { "photos" };
        let expected = format!("at least {} for this network and {images} {photos} at once", megabytes(least));
        Error::usage("--memory", expected, megabytes(asked))
    }
}

/// A number of bytes as it is read, rounded up.
fn megabytes(bytes: u64) -> String {
    format!("{}MB", bytes.div_ceil(1_000_000))
}

/// Memory of this process that is resident, bytes; 0 where the system does not say.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
}
