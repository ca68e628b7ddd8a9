//! Published ImageNet top-1 accuracy, as figures of other people's training; nothing here is measured or predicted.
//!
//! In: the name of a preset. Out: the figures published for that architecture, with the recipe of each.

/// A published figure.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Published {
    /// Top-1 accuracy, percent.
    pub top1: f64,
    /// Recipe or release.
    pub recipe: &'static str,
}

const BASELINE: &str = "original checkpoints, baseline preprocessing";
const AUTO_AUGMENT: &str = "AutoAugment";
const RAND_AUGMENT: &str = "RandAugment";
const NOISY_STUDENT: &str = "NoisyStudent";
const ADV_PROP: &str = "AdvProp";
const TORCHVISION: &str = "torchvision";
const RELEASE: &str = "release notes";
const PRETRAINED: &str = "release notes, 21k-pretrained";
const LITE: &str = "release notes, float";
const LITE_INT8: &str = "release notes, int8";

/// Recipe, architecture without its last part, and figures by that part.
type Row = (&'static str, &'static str, &'static [(&'static str, f64)]);

const ROWS: &[Row] = &[
    (BASELINE, "efficientnet_b", &[("0", 76.7), ("1", 78.7), ("2", 79.8), ("3", 81.1), ("4", 82.5), ("5", 83.1)]),
    (
        AUTO_AUGMENT,
        "efficientnet_b",
        &[("0", 77.1), ("1", 79.1), ("2", 80.1), ("3", 81.6), ("4", 82.9), ("5", 83.6), ("6", 84.0), ("7", 84.3)],
    ),
    (RAND_AUGMENT, "efficientnet_b", &[("5", 83.7), ("7", 84.7)]),
    (
        NOISY_STUDENT,
        "efficientnet_b",
        &[("0", 78.8), ("1", 81.5), ("2", 82.4), ("3", 84.1), ("4", 85.3), ("5", 86.1), ("6", 86.4), ("7", 86.9)],
    ),
    (NOISY_STUDENT, "efficientnet_", &[("l2", 88.4)]),
    ("NoisyStudent, side 475", "efficientnet_", &[("l2", 88.2)]),
    (ADV_PROP, "efficientnet_b", &[("0", 77.6), ("7", 85.2), ("8", 85.5)]),
    (
        TORCHVISION,
        "efficientnet_b",
        &[
            ("0", 77.692),
            ("1", 78.642),
            ("2", 80.608),
            ("3", 82.008),
            ("4", 83.384),
            ("5", 83.444),
            ("6", 84.008),
            ("7", 84.122),
        ],
    ),
    ("torchvision, second weights", "efficientnet_b", &[("1", 79.838)]),
    (TORCHVISION, "efficientnetv2_", &[("s", 84.228), ("m", 85.112), ("l", 85.808)]),
    (RELEASE, "efficientnetv2_", &[("s", 83.9), ("m", 85.2), ("l", 85.7)]),
    (PRETRAINED, "efficientnetv2_", &[("s", 84.9), ("m", 86.2), ("l", 86.9), ("xl", 87.2)]),
    (RELEASE, "efficientnetv2_b", &[("0", 78.7), ("1", 79.8), ("2", 80.5), ("3", 82.1)]),
    (LITE, "efficientnet_lite", &[("0", 75.1), ("1", 76.7), ("2", 77.6), ("3", 79.8), ("4", 81.5)]),
    (LITE_INT8, "efficientnet_lite", &[("0", 74.4), ("1", 75.9), ("2", 77.0), ("3", 79.0), ("4", 80.2)]),
];

/// Figures published for the architecture of a preset, whatever its numerics; none for most.
pub fn published(preset: &str) -> Vec<Published> {
    let name = preset.to_ascii_lowercase().replace('-', "_");
    let name = name.strip_prefix("tf_").or_else(|| name.strip_prefix("torchvision_")).unwrap_or(&name);
    let name = name.replace("efficientnet_v2_", "efficientnetv2_");
    let figures = ROWS.iter().flat_map(|(recipe, stem, figures)| {
        let part = name.strip_prefix(stem);
        let figure = figures.iter().find(|(member, _)| Some(*member) == part);
        figure.map(|(_, top1)| Published { top1: *top1, recipe })
    });
    figures.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_belong_to_architectures() {
        assert_eq!(published("tf_efficientnet-b8"), [Published { top1: 85.5, recipe: ADV_PROP }]);
        assert_eq!(published("efficientnet_v2_l").len(), 3);
        assert_eq!(published("efficientnetv2_b0").len(), 1);
        assert!(published("mixnet_s").is_empty());
    }
}
