//! torchvision's MobileNetV2, MobileNetV3 and MnasNet.
//!
//! MobileNetV2 and V3 count blocks over the network, in sequences whose indices count what is there. MnasNet is one flat sequence with a
//! stack per stage; its first stage lies open in it.

use super::{Around, Scheme, suffixed};
use crate::architecture::Architecture;
use crate::layers::{BlockIndex, Part};
use crate::parameters::Parameter;

/// Names of `parameter` in one of the three.
pub(super) fn names(scheme: Scheme, architecture: &Architecture, parameter: &Parameter) -> Vec<String> {
    let norm = usize::from(parameter.role.is_norm());
    let around = parameter.block.and_then(|index| Some((index, Around::of(architecture, index)?)));
    let owner = match (scheme, around) {
        (_, Some((_, around))) if around.split => None,
        (Scheme::TorchvisionMobileNetV2, around) => v2(architecture, parameter.part, around, norm),
        (Scheme::TorchvisionMobileNetV3, around) => v3(parameter.part, around, norm),
        (_, around) => mnasnet(architecture, parameter.part, around, norm),
    };
    owner.map(|owner| suffixed(owner, parameter.role)).into_iter().collect()
}

fn v2(architecture: &Architecture, part: Part, around: Option<(BlockIndex, Around)>, norm: usize) -> Option<String> {
    let Some((index, around)) = around else {
        return match part {
            Part::Stem => Some(format!("features.0.{norm}")),
            Part::Head => Some(format!("features.{}.{norm}", architecture.blocks().count() + 1)),
            _ => Some("classifier.1".into()),
        };
    };
    let (block, spatial) = (format!("features.{}.conv", index.running + 1), usize::from(around.expand));
    match part {
        _ if !around.depthwise || around.squeeze => None,
        Part::Expand => Some(format!("{block}.0.{norm}")),
        Part::Spatial => Some(format!("{block}.{spatial}.{norm}")),
        _ => Some(format!("{block}.{}", spatial + 1 + norm)),
    }
}

fn v3(part: Part, around: Option<(BlockIndex, Around)>, norm: usize) -> Option<String> {
    let Some((index, around)) = around else {
        return Some(match part {
            Part::Stem => format!("features.0.{norm}"),
            Part::Head => "classifier.0".into(),
            _ => "classifier.3".into(),
        });
    };
    let module = format!("features.{}", index.running + 1);
    if !around.project {
        return (part == Part::Spatial).then(|| format!("{module}.{norm}"));
    }
    let spatial = usize::from(around.expand);
    let squeeze = spatial + 1;
    Some(match part {
        Part::Expand => format!("{module}.block.0.{norm}"),
        Part::Spatial => format!("{module}.block.{spatial}.{norm}"),
        Part::SqueezeReduce => format!("{module}.block.{squeeze}.fc1"),
        Part::SqueezeExpand => format!("{module}.block.{squeeze}.fc2"),
        _ => format!("{module}.block.{}.{norm}", squeeze + usize::from(around.squeeze)),
    })
}

fn mnasnet(
    architecture: &Architecture,
    part: Part,
    around: Option<(BlockIndex, Around)>,
    norm: usize,
) -> Option<String> {
    let Some((index, around)) = around else {
        return match part {
            Part::Stem => Some(format!("layers.{norm}")),
            Part::Head => Some(format!("layers.{}", architecture.stages.len() + 7 + norm)),
            _ => Some("classifier.1".into()),
        };
    };
    let at = norm
        + match part {
            _ if !around.depthwise || around.squeeze => return None,
            Part::Expand => 0,
            Part::Spatial => 3,
            _ => 6,
        };
    match index.stage {
        0 if index.block > 0 || around.expand => None,
        0 => Some(format!("layers.{at}")),
        stage => Some(format!("layers.{}.{}.layers.{at}", stage + 7, index.block)),
    }
}
