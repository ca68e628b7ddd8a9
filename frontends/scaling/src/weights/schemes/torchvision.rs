//! torchvision's EfficientNet V1 and V2: a sequence of stages, each block a sequence whose indices count what is there.

use super::{Around, suffixed};
use crate::architecture::{Architecture, Head};
use crate::layers::Part;
use crate::parameters::Parameter;

/// Names of `parameter`.
pub(super) fn names(architecture: &Architecture, parameter: &Parameter) -> Vec<String> {
    owner(architecture, parameter).map(|owner| suffixed(owner, parameter.role)).into_iter().collect()
}

fn owner(architecture: &Architecture, parameter: &Parameter) -> Option<String> {
    let norm = usize::from(parameter.role.is_norm());
    match (parameter.part, parameter.block) {
        (Part::Stem, _) => Some(format!("features.0.{norm}")),
        (Part::Head, _) => match architecture.head {
            Head::BeforePool { .. } => Some(format!("features.{}.{norm}", architecture.stages.len() + 1)),
            Head::AfterPool { .. } => None,
        },
        (Part::Classifier, _) => Some("classifier.1".into()),
        (part, Some(index)) => {
            let around = Around::of(architecture, index).filter(|around| !around.split)?;
            let spatial = usize::from(around.expand);
            let squeeze = spatial + 1;
            let block = format!("features.{}.{}.block", index.stage + 1, index.block);
            Some(match part {
                Part::Expand => format!("{block}.0.{norm}"),
                Part::Spatial => format!("{block}.{spatial}.{norm}"),
                Part::SqueezeReduce => format!("{block}.{squeeze}.fc1"),
                Part::SqueezeExpand => format!("{block}.{squeeze}.fc2"),
                _ => format!("{block}.{}.{norm}", squeeze + usize::from(around.squeeze)),
            })
        }
        _ => None,
    }
}
