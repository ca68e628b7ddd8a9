//! What no state dict says: the epsilon of batch norms and the padding, by the source of the weights.

use std::path::Path;

use super::schemes::Scheme;
use crate::architecture::{Architecture, Block, BlockKind, Padding};

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
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Hints {
    /// `architecture` of the `config.json` next to it.
    pub architecture: Option<String>,
    /// `batch_norm_eps` of that file.
    pub eps: Option<f64>,
    /// Its file name.
    pub file_name: Option<String>,
}

impl Hints {
    /// What the path of a state dict tells, and the `config.json` next to it, if there is one that can be read.
    pub fn beside(path: &Path) -> Self {
        let file_name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let config = path.with_file_name("config.json");
        let bytes = fornax_runtime::map_file(&config, CONFIG_BYTES).ok();
        let value = bytes.and_then(|bytes| serde_json::from_slice::<serde_json::Value>(&bytes).ok());
        let field = |name: &str| value.as_ref().and_then(|value| value.get(name));
        let architecture = field("architecture").and_then(|v| v.as_str()).map(str::to_string);
        let eps = field("batch_norm_eps").and_then(|v| v.as_f64()).filter(|eps| *eps > 0.0 && eps.is_finite());
        Self { architecture, eps, file_name }
    }
}

/// Parts of the names of networks, by which a name is known to be one.
const FAMILIES: [&str; 5] = ["efficientnet", "mobilenet", "mnasnet", "mixnet", "tinynet"];

/// Whether a name is one of a network.
fn is_network(name: &str) -> bool {
    FAMILIES.iter().any(|family| name.contains(family))
}

impl Hints {
    /// What `config.json` says of the network that its name, or the file's, contradicts: a line each. Numerics follow
    /// `config.json` nevertheless.
    pub fn contradictions(&self, network: &str) -> Vec<String> {
        let named = self.architecture.as_deref().and_then(|name| name.split('.').next());
        let Some(config) = named.filter(|name| is_network(name)) else { return Vec::new() };
        let file = self.file_name.as_deref().unwrap_or_default();
        let others = [("the network is", network), ("the file is", file)];
        let tensorflow = |name: &str| name.contains("tf_");
        let differs =
            |name: &str| is_network(name) && !(name.contains(config) && tensorflow(name) == tensorflow(config));
        let others = others.into_iter().filter(|(_, name)| differs(name));
        others.map(|(what, name)| format!("config.json beside the weights says {config}, {what} {name}")).collect()
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
            Self::TorchvisionMobileNetV2 | Self::TorchvisionMnasNet => {
                sure(1e-5, symmetric, "torchvision's MobileNetV2 and MnasNet use eps 1e-5 and symmetric padding")
            }
            Self::TorchvisionMobileNetV3 => {
                sure(1e-3, symmetric, "torchvision's MobileNetV3 uses eps 1e-3 and symmetric padding")
            }
            Self::EfficientNetPytorch => {
                sure(1e-3, same, "efficientnet-pytorch uses eps 1e-3 and SAME padding, as TensorFlow does")
            }
            Self::Transformers => match hints.eps {
                Some(eps) => {
                    let why = format!("config.json says eps {eps:e}; transformers pads as SAME at its training size");
                    Defaults { eps, padding: same, why, certain: true }
                }
                None => sure(1e-3, same, "transformers uses eps 1e-3 and pads as SAME at its training size"),
            },
            Self::Keras => sure(1e-3, same, "Keras uses eps 1e-3 and SAME padding"),
        }
    }
}

/// Why torchvision's EfficientNet has eps 1e-3, if it has.
fn large(architecture: &Architecture) -> Option<&'static str> {
    let fused = |block: &Block| matches!(block.kind, BlockKind::ConvBnAct | BlockKind::FusedMbConv);
    if architecture.blocks().next().is_some_and(fused) {
        Some("torchvision's V2 networks use eps 1e-3 and symmetric padding")
    } else if matches!(
        (architecture.head.output(), architecture.blocks().count()),
        (2048, 39) | (2304, 45) | (2560, 55)
    ) {
        Some("torchvision's B5 to B7 use eps 1e-3 and symmetric padding")
    } else {
        None
    }
}

/// timm's names are the same for weights of TensorFlow and its own.
fn timm(architecture: &Architecture, hints: &Hints) -> Defaults {
    let named = [("config.json beside the weights", &hints.architecture), ("the file name", &hints.file_name)];
    for (place, name) in named {
        let Some(name) = name.as_deref() else { continue };
        if !is_network(name) {
            continue;
        }
        let (eps, padding, what) = if name.contains("tf_") {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_config_that_contradicts_is_noted() {
        let of = |config: Option<&str>, file: &str, network: &str| {
            let hints = Hints { architecture: config.map(String::from), file_name: Some(file.into()), eps: None };
            hints.contradictions(network).len()
        };
        assert_eq!(of(Some("mobilenetv3_small_050"), "model.safetensors", "mobilenetv3_small_050"), 0);
        assert_eq!(of(Some("mobilenetv3_small_050.lamb_in1k"), "mobilenetv3_small_050-1234.safetensors", "mine"), 0);
        assert_eq!(of(Some("tf_mobilenetv3_small_050"), "model.safetensors", "mobilenetv3_small_050"), 1);
        assert_eq!(of(Some("mobilenetv3_small_050"), "tf_mobilenetv3_small_050.safetensors", "mine"), 1);
        assert_eq!(of(Some("efficientnet_b1"), "efficientnet_b0.safetensors", "efficientnet_b0"), 2);
        assert_eq!(of(Some("EfficientNetForImageClassification"), "w.safetensors", "efficientnet_b0"), 0);
        assert_eq!(of(None, "tf_efficientnet_b0.safetensors", "efficientnet_b0"), 0);
    }
}
