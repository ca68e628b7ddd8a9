//! Naming schemes of state dicts, each a function from a canonical parameter to the names it may have.
//!
//! In: an [`Architecture`] and one of its parameters. Out: names, most usual first; none where the scheme's library has no such
//! layer. Invariant: no two parameters of an architecture share a name.

mod efficientnet_pytorch;
mod keras;
mod torchvision;
mod torchvision_mobile;
mod transformers;

use crate::architecture::{Architecture, Head};
use crate::layers::{BlockIndex, Part, block_layers};
use crate::parameters::{Parameter, Role};

/// Whose names a state dict uses.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Scheme {
    /// timm: the canonical names.
    Timm,
    /// torchvision's EfficientNet.
    Torchvision,
    /// torchvision's MobileNetV2.
    TorchvisionMobileNetV2,
    /// torchvision's MobileNetV3.
    TorchvisionMobileNetV3,
    /// torchvision's MnasNet.
    TorchvisionMnasNet,
    /// efficientnet-pytorch.
    EfficientNetPytorch,
    /// Hugging Face transformers.
    Transformers,
    /// Keras variables, written to safetensors as they are.
    Keras,
}

/// What those who train call a classifier of their own, most usual first.
const HEADS: [&str; 5] = ["classifier", "classifier.1", "fc", "head", "head.fc"];

impl Scheme {
    /// Every scheme.
    pub const ALL: [Self; 8] = [
        Self::Timm,
        Self::Torchvision,
        Self::TorchvisionMobileNetV2,
        Self::TorchvisionMobileNetV3,
        Self::TorchvisionMnasNet,
        Self::EfficientNetPytorch,
        Self::Transformers,
        Self::Keras,
    ];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::Timm => "timm",
            Self::Torchvision => "torchvision",
            Self::TorchvisionMobileNetV2 => "torchvision-mobilenetv2",
            Self::TorchvisionMobileNetV3 => "torchvision-mobilenetv3",
            Self::TorchvisionMnasNet => "torchvision-mnasnet",
            Self::EfficientNetPytorch => "efficientnet-pytorch",
            Self::Transformers => "transformers",
            Self::Keras => "keras",
        }
    }

    /// The scheme of a set of names.
    pub fn detect<'a, I: Iterator<Item = &'a str>>(
        contains: impl Fn(&str) -> bool,
        names: impl Fn() -> I,
    ) -> Option<Self> {
        let transformers = ["efficientnet.embeddings.convolution.weight", "embeddings.convolution.weight"];
        if transformers.into_iter().any(&contains) {
            Some(Self::Transformers)
        } else if contains("_conv_stem.weight") {
            Some(Self::EfficientNetPytorch)
        } else if contains("conv_stem.weight") && names().any(|name| name.starts_with("blocks.0.0.")) {
            Some(Self::Timm)
        } else if contains("features.0.0.weight") && contains("features.1.0.block.0.0.weight") {
            Some(Self::Torchvision)
        } else if contains("features.1.conv.0.0.weight") {
            Some(Self::TorchvisionMobileNetV2)
        } else if contains("features.1.block.0.0.weight") {
            Some(Self::TorchvisionMobileNetV3)
        } else if contains("layers.8.0.layers.0.weight") {
            Some(Self::TorchvisionMnasNet)
        } else {
            names().any(|name| name.starts_with("stem_conv/") && name.contains("/kernel")).then_some(Self::Keras)
        }
    }

    /// The names that `parameter` may have.
    pub fn names(self, architecture: &Architecture, parameter: &Parameter) -> Vec<String> {
        let mut names = self.own_names(architecture, parameter);
        if parameter.part == Part::Classifier && self != Self::Keras {
            let others = HEADS.map(|owner| suffixed(owner, parameter.role));
            names.extend(others.into_iter().filter(|other| !names.contains(other)).collect::<Vec<_>>());
        }
        names
    }

    fn own_names(self, architecture: &Architecture, parameter: &Parameter) -> Vec<String> {
        match self {
            Self::Timm => vec![parameter.name.clone()],
            Self::Torchvision => torchvision::names(architecture, parameter),
            Self::TorchvisionMobileNetV2 | Self::TorchvisionMobileNetV3 | Self::TorchvisionMnasNet => {
                torchvision_mobile::names(self, architecture, parameter)
            }
            Self::EfficientNetPytorch => efficientnet_pytorch::names(architecture, parameter),
            Self::Transformers => transformers::names(architecture, parameter),
            Self::Keras => keras::names(architecture, parameter),
        }
    }

    /// Whether a tensor of the file is no parameter of any network.
    pub fn ignores(self, name: &str) -> bool {
        match self {
            Self::Keras => name.starts_with("normalization"),
            _ => false,
        }
    }

    /// The axis of the file's tensor for each axis of the parameter, where the two differ.
    pub fn permutation(self, parameter: &Parameter) -> Option<&'static [usize]> {
        match (self, parameter.role) {
            (Self::Keras, Role::ConvWeight { group: 1 }) => Some(&[3, 2, 0, 1]),
            (Self::Keras, Role::ConvWeight { .. }) => Some(&[2, 3, 0, 1]),
            (Self::Keras, Role::LinearWeight) => Some(&[1, 0]),
            _ => None,
        }
    }

    /// The shape that `parameter` has in the file.
    pub fn stored_shape(self, parameter: &Parameter) -> Vec<usize> {
        let mut shape = parameter.shape.clone();
        // Its head is a linear layer, over the same elements.
        if self == Self::TorchvisionMobileNetV3 && parameter.part == Part::Head {
            shape.truncate(2);
        }
        for (axis, stored) in self.permutation(parameter).into_iter().flatten().enumerate() {
            shape[*stored] = parameter.shape[axis];
        }
        shape
    }
}

/// What the layers of a block around a parameter are.
struct Around {
    /// Whether there is an expansion.
    expand: bool,
    /// Whether there is squeeze-and-excite.
    squeeze: bool,
    /// Whether the spatial convolution is depthwise.
    depthwise: bool,
    /// Whether there is a projection.
    project: bool,
    /// Whether a layer is split into several convolutions.
    split: bool,
}

impl Around {
    fn of(architecture: &Architecture, index: BlockIndex) -> Option<Self> {
        let block = architecture.stages.get(index.stage)?.get(index.block)?;
        let layers = block_layers(block, index);
        let pieces = [layers.expand.as_ref(), Some(&layers.spatial), layers.project.as_ref()];
        Some(Self {
            expand: layers.expand.is_some(),
            squeeze: layers.squeeze.is_some(),
            depthwise: crate::architecture::BlockKind::MbConv == block.kind
                || crate::architecture::BlockKind::DepthwiseSeparable == block.kind,
            project: layers.project.is_some(),
            split: pieces.into_iter().flatten().any(|layer| layer.pieces.len() > 1),
        })
    }
}

/// A convolution's or a batch norm's name with the tensor's own, as PyTorch joins them.
fn suffixed(owner: impl AsRef<str>, role: Role) -> String {
    format!("{}.{}", owner.as_ref(), role.suffix())
}

/// Name of a layer where blocks are counted over the whole network under `blocks`, and none but those of V1 have one.
fn numbered(architecture: &Architecture, parameter: &Parameter, own: &str, blocks: &str) -> Option<String> {
    if outside(parameter.part) {
        let known = parameter.part != Part::Head || matches!(architecture.head, Head::BeforePool { .. });
        return known.then(|| own.to_string());
    }
    let index = parameter.block?;
    let around = Around::of(architecture, index)?;
    (around.depthwise && !around.split).then(|| format!("{blocks}.{}.{own}", index.running))
}

/// Whether the part stands outside the blocks.
fn outside(part: Part) -> bool {
    matches!(part, Part::Stem | Part::Head | Part::Classifier)
}
