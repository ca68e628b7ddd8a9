//! Hugging Face transformers: modules named by what they do, all but the classifier under `efficientnet.`, which a file of
//! the base model leaves out. V1 only.

use super::{numbered, suffixed};
use crate::architecture::Architecture;
use crate::layers::Part;
use crate::parameters::Parameter;

/// Names of `parameter`.
pub(super) fn names(architecture: &Architecture, parameter: &Parameter) -> Vec<String> {
    let Some(owner) = owner(architecture, parameter) else { return Vec::new() };
    let name = suffixed(owner, parameter.role);
    match parameter.part {
        Part::Classifier => vec![name],
        _ => vec![format!("efficientnet.{name}"), name],
    }
}

fn owner(architecture: &Architecture, parameter: &Parameter) -> Option<String> {
    let (conv, norm) = match parameter.part {
        Part::Stem => ("embeddings.convolution", "embeddings.batchnorm"),
        Part::Head => ("encoder.top_conv", "encoder.top_bn"),
        Part::Classifier => ("classifier", ""),
        Part::Expand => ("expansion.expand_conv", "expansion.expand_bn"),
        Part::Spatial => ("depthwise_conv.depthwise_conv", "depthwise_conv.depthwise_norm"),
        Part::SqueezeReduce => ("squeeze_excite.reduce", ""),
        Part::SqueezeExpand => ("squeeze_excite.expand", ""),
        Part::Project => ("projection.project_conv", "projection.project_bn"),
    };
    let own = if parameter.role.is_norm() { norm } else { conv };
    numbered(architecture, parameter, own, "encoder.blocks")
}
