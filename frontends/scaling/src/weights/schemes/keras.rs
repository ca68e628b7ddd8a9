//! Keras layers and their variables: `block2a_expand_conv/kernel`, in safetensors as Keras holds them (HWIO).
//!
//! A name may end in `:0`, may repeat the layer (`stem_conv/stem_conv/kernel:0`), and a depthwise kernel may be called
//! `depthwise_kernel`. The depthwise layer is `dwconv` in V1 and `dwconv2` in V2.

use super::Around;
use crate::architecture::{Architecture, Head};
use crate::layers::{BlockIndex, Part};
use crate::parameters::{Parameter, Role};

/// Names of `parameter`.
pub(super) fn names(architecture: &Architecture, parameter: &Parameter) -> Vec<String> {
    let mut out = Vec::new();
    for layer in layers(architecture, parameter) {
        for variable in variables(parameter.role) {
            for name in [format!("{layer}/{variable}"), format!("{layer}/{layer}/{variable}")] {
                out.extend([name.clone(), format!("{name}:0")]);
            }
        }
    }
    out
}

fn variables(role: Role) -> &'static [&'static str] {
    match role {
        Role::ConvWeight { group: 1 } | Role::LinearWeight => &["kernel"],
        Role::ConvWeight { .. } => &["kernel", "depthwise_kernel"],
        Role::Bias => &["bias"],
        Role::Gamma => &["gamma"],
        Role::Beta => &["beta"],
        Role::Mean => &["moving_mean"],
        Role::Variance => &["moving_variance"],
    }
}

fn layers(architecture: &Architecture, parameter: &Parameter) -> Vec<String> {
    let norm = parameter.role.is_norm();
    let pick = |conv: &'static str, bn: &'static str| vec![if norm { bn } else { conv }.to_string()];
    match (parameter.part, parameter.block) {
        (Part::Stem, _) => pick("stem_conv", "stem_bn"),
        (Part::Head, _) if matches!(architecture.head, Head::BeforePool { .. }) => pick("top_conv", "top_bn"),
        (Part::Classifier, _) => pick("predictions", ""),
        (part, Some(index)) => match Around::of(architecture, index).filter(|around| !around.split) {
            Some(around) => in_block(&around, part, index, norm),
            None => Vec::new(),
        },
        _ => Vec::new(),
    }
}

fn in_block(around: &Around, part: Part, index: BlockIndex, norm: bool) -> Vec<String> {
    let own: &[&str] = match (part, norm) {
        (Part::Expand, false) => &["expand_conv"],
        (Part::Expand, true) => &["expand_bn"],
        (Part::Spatial, false) if around.depthwise => &["dwconv", "dwconv2"],
        (Part::Spatial, true) if around.depthwise => &["bn"],
        (Part::Spatial, false) if around.project => &["expand_conv"],
        (Part::Spatial, true) if around.project => &["expand_bn"],
        (Part::SqueezeReduce, _) => &["se_reduce"],
        (Part::SqueezeExpand, _) => &["se_expand"],
        (_, false) => &["project_conv"],
        (_, true) => &["project_bn"],
    };
    let Some(letter) = u32::try_from(index.block).ok().and_then(|j| char::from_u32(97u32.checked_add(j)?)) else {
        return Vec::new();
    };
    own.iter().map(|own| format!("block{}{letter}_{own}", index.stage + 1)).collect()
}
