//! efficientnet-pytorch: blocks counted over the network, batch norms numbered by their place in a full block. V1 only.

use super::{numbered, suffixed};
use crate::architecture::Architecture;
use crate::layers::Part;
use crate::parameters::Parameter;

/// Names of `parameter`.
pub(super) fn names(architecture: &Architecture, parameter: &Parameter) -> Vec<String> {
    owner(architecture, parameter).map(|owner| suffixed(owner, parameter.role)).into_iter().collect()
}

fn owner(architecture: &Architecture, parameter: &Parameter) -> Option<String> {
    let (conv, norm) = match parameter.part {
        Part::Stem => ("_conv_stem", "_bn0"),
        Part::Head => ("_conv_head", "_bn1"),
        Part::Classifier => ("_fc", ""),
        Part::Expand => ("_expand_conv", "_bn0"),
        Part::Spatial => ("_depthwise_conv", "_bn1"),
        Part::SqueezeReduce => ("_se_reduce", ""),
        Part::SqueezeExpand => ("_se_expand", ""),
        Part::Project => ("_project_conv", "_bn2"),
    };
    let own = if parameter.role.is_norm() { norm } else { conv };
    numbered(architecture, parameter, own, "_blocks")
}
