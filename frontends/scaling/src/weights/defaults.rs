//! What no state dict says: the epsilon of batch norms and the padding, by the source of the weights.

use std::path::Path;

use super::schemes::Scheme;
use crate::architecture::{Architecture, Head, Padding};

/// Largest `config.json` that is read.
const CONFIG_BYTES: u64 = 1 << 20;

/// The numerics that go with weights.
#[derive(Clone, PartialEq, Debug)]
pub struct Defaults {
    /// Added to the variance in every batch norm.
    pub eps: f64,
    /// Padding of strided convolutions.
    pub padding: Padding,
    /// Why, in a line.
    pub why: String,
    /// Whether the source leaves no doubt.
    pub certain: bool,
}

/// What is known about a state dict besides its tensors.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Hints {
    /// `architecture` of the `config.json` beside it.
    pub architecture: Option<String>,
    /// Its file name.
    pub file_name: Option<String>,
}

impl Hints {
    /// What the path of a state dict tells, and the `config.json` beside it, if there is one that can be read.
    pub fn beside(path: &Path) -> Self {
        let file_name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let config = path.with_file_name("config.json");
        let bytes = fornax_runtime::map_file(&config, CONFIG_BYTES).ok();
        let value = bytes.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
        let architecture = value.and_then(|v| v.get("architecture")?.as_str().map(str::to_string));
        Self { architecture, file_name }
    }
}

impl Scheme {
    /// The numerics that the source of these names trains with.
    pub fn defaults(self, architecture: &Architecture, hints: &Hints) -> Defaults {
        let (same, symmetric) = (Padding::Same, Padding::Symmetric);
        let sure = |eps, padding, why: &str| Defaults { eps, padding, why: why.into(), certain: true };
        match self {
            Self::Timm => timm(architecture, hints),
            Self::Torchvision => match large(architecture) {
                Some(why) => sure(1e-3, symmetric, why),
                None => sure(1e-5, symmetric, "torchvision's B0 to B4 use eps 1e-5 and symmetric padding"),
            },
            Self::EfficientNetPytorch => {
                sure(1e-3, same, "efficientnet-pytorch uses eps 1e-3 and SAME padding, as TensorFlow does")
            }
            Self::Transformers => {
                sure(1e-3, same, "transformers uses eps 1e-3 and SAME padding at the size it was trained for")
            }
            Self::Keras => sure(1e-3, same, "Keras uses eps 1e-3 and SAME padding"),
        }
    }
}

/// Why torchvision's network has eps 1e-3, if it has.
fn large(architecture: &Architecture) -> Option<&'static str> {
    let depthwise_first = architecture.blocks().next().is_some_and(|block| {
        !matches!(block.kind, crate::architecture::BlockKind::ConvBnAct | crate::architecture::BlockKind::FusedMbConv)
    });
    let head = match architecture.head {
        Head::BeforePool { output, .. } | Head::AfterPool { output, .. } => output,
    };
    if !depthwise_first {
        Some("torchvision's V2 networks use eps 1e-3 and symmetric padding")
    } else if matches!(head, 2048 | 2304 | 2560) {
        Some("torchvision's B5 to B7 use eps 1e-3 and symmetric padding")
    } else {
        None
    }
}

/// timm's names are the same for weights of TensorFlow and its own.
fn timm(architecture: &Architecture, hints: &Hints) -> Defaults {
    let named = [("config.json beside the weights", &hints.architecture), ("the file name", &hints.file_name)];
    let known = ["efficientnet", "mobilenet", "mnasnet", "mixnet", "tinynet"];
    for (place, name) in named {
        let Some(name) = name.as_deref() else { continue };
        if !known.iter().any(|family| name.contains(family)) {
            continue;
        }
        let (eps, padding, what) = if name.starts_with("tf_") || name.contains("tf_") {
            (1e-3, Padding::Same, "TensorFlow's, with eps 1e-3 and SAME padding")
        } else if name.contains("mobilenetv3_rw") {
            (1e-3, Padding::Symmetric, "timm's own, with eps 1e-3 and symmetric padding")
        } else {
            (1e-5, Padding::Symmetric, "timm's own, with eps 1e-5 and symmetric padding")
        };
        let why = format!("{place} says {name}: {what}");
        return Defaults { eps, padding, why, certain: true };
    }
    let padding = match architecture.padding {
        Padding::Same => "SAME",
        Padding::Symmetric => "symmetric",
    };
    let why = format!(
        "timm's names do not tell its own weights (eps 1e-5, symmetric) from TensorFlow's (tf_…: eps 1e-3, SAME); \
         those of the spec stay: eps {:e}, {padding} padding",
        architecture.eps
    );
    Defaults { eps: architecture.eps, padding: architecture.padding, why, certain: false }
}
