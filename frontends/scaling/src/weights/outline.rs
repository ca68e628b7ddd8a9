//! The outline of a state dict: the few numbers that tell the networks of a family apart.

use std::collections::BTreeSet;
use std::fmt;

use super::file::StateDict;
use super::schemes::Scheme;
use crate::architecture::Architecture;
use crate::layers::{self, Layer};

/// What tells the networks of a family apart.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Outline {
    /// Channels of the stem.
    pub stem: Option<usize>,
    /// Features that the classifier reads.
    pub head: Option<usize>,
    /// Number of blocks.
    pub blocks: usize,
    /// Outputs of the classifier.
    pub classes: Option<usize>,
}

impl fmt::Display for Outline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_none = |n: Option<usize>| n.map_or("none".to_string(), |n| n.to_string());
        write!(f, "stem {}, head {}, {} blocks", or_none(self.stem), or_none(self.head), self.blocks)?;
        write!(f, ", classes {}", or_none(self.classes))
    }
}

impl Outline {
    /// The outline of an architecture.
    pub fn of(architecture: &Architecture) -> Self {
        Self {
            stem: Some(architecture.stem.output),
            head: Some(architecture.head.output()),
            blocks: architecture.blocks().count(),
            classes: Some(architecture.classes),
        }
    }
}

impl StateDict {
    /// The outline of the tensors, read in `scheme`, whose names outside the blocks may depend on `architecture`.
    pub fn outline(&self, architecture: &Architecture, scheme: Scheme) -> Outline {
        let filters = |layer: Layer| {
            let weight = layer.weight(layer.pieces.first()?);
            let names = scheme.names(architecture, &weight);
            let stored = names.iter().find_map(|name| self.shape(name))?;
            // The filters are axis 0 of the parameter.
            stored.get(scheme.permutation(&weight).map_or(0, |axes| axes[0])).copied()
        };
        let blocks: BTreeSet<&str> = self.names().filter_map(|name| block(scheme, name)).collect();
        Outline {
            stem: filters(layers::stem(architecture)),
            head: filters(layers::head(architecture)),
            blocks: blocks.len(),
            classes: filters(layers::classifier(architecture)),
        }
    }
}

/// The part of a name that tells its block.
fn block(scheme: Scheme, name: &str) -> Option<&str> {
    let components = |prefix: &str, count: usize| {
        let rest = name.strip_prefix(prefix)?;
        let end = rest.match_indices('.').nth(count - 1).map_or(rest.len(), |(at, _)| at);
        Some(&rest[..end])
    };
    match scheme {
        Scheme::Timm => components("blocks.", 2),
        Scheme::Torchvision | Scheme::TorchvisionMobileNetV3 => name.split_once(".block.").map(|(block, _)| block),
        Scheme::TorchvisionMobileNetV2 => name.split_once(".conv.").map(|(block, _)| block),
        Scheme::TorchvisionMnasNet => name.split_once(".layers.").map(|(block, _)| block),
        Scheme::EfficientNetPytorch => components("_blocks.", 1),
        Scheme::Transformers => {
            components("efficientnet.encoder.blocks.", 1).or_else(|| components("encoder.blocks.", 1))
        }
        Scheme::Keras => name.strip_prefix("block").and_then(|rest| rest.split_once('_')).map(|(block, _)| block),
    }
}
