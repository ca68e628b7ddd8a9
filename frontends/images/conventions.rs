//! Preprocessing by the name of where the weights come from.
//!
//! In: an [`ImageConvention`] and the image input of a network. Out: the [`Preprocess`] that source evaluates its networks with.
//! Same architecture, other source, other numbers: a wrong choice costs a point of accuracy or all of it, without any
//! error.

use fornax_runtime::DType;
use fornax_scaling::architecture::Architecture;

use super::filter::Interpolation;
use super::input::ImageInput;
use super::preprocess::{ChannelOrder, Crop, Preprocess, Resize};
use super::resample::Resampler;

const IMAGENET_MEAN: [f64; 3] = [0.485, 0.456, 0.406];
const IMAGENET_STD: [f64; 3] = [0.229, 0.224, 0.225];
const UNIT: f64 = 1.0 / 255.0;

/// A source of weights, and so a convention of preparing images.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ImageConvention {
    /// Short edge to side / 0.875, bicubic; ImageNet mean and std.
    Imagenet,
    /// As `Imagenet`, but values in [-1, 1].
    Inception,
    /// timm's defaults: as `Imagenet`.
    Timm,
    /// torchvision's EfficientNets: resize and filter by side, as its weights say.
    Torchvision,
    /// torchvision's EfficientNetV2 L: bicubic, values in [-1, 1].
    TorchvisionV2L,
    /// torchvision's second weights of EfficientNet-B1: short edge 255, bilinear.
    TorchvisionB1V2,
    /// efficientnet-pytorch: short edge to side, no margin.
    EfficientnetPytorch,
    /// transformers: whole image to side x side.
    Transformers,
    /// TensorFlow's EfficientNet V1: crop, then legacy bicubic.
    Tf,
    /// The same with AdvProp's values in [-1, 1].
    TfAdvprop,
    /// TensorFlow's Lite networks: bilinear, `(x - 127) / 128`.
    TfLite,
    /// TensorFlow's EfficientNet V2 S, M, L: bilinear, `(x - 128) / 128`.
    TfV2,
    /// Keras networks, which normalise inside: 0 to 255.
    Keras,
    /// Whole image to side x side, 0 to 255.
    None,
}

impl ImageConvention {
    /// Every convention with its name.
    pub const NAMES: &[(&str, Self)] = &[
        ("imagenet", Self::Imagenet),
        ("inception", Self::Inception),
        ("timm", Self::Timm),
        ("torchvision", Self::Torchvision),
        ("torchvision-v2-l", Self::TorchvisionV2L),
        ("torchvision-b1-v2", Self::TorchvisionB1V2),
        ("efficientnet-pytorch", Self::EfficientnetPytorch),
        ("transformers", Self::Transformers),
        ("tf", Self::Tf),
        ("tf-advprop", Self::TfAdvprop),
        ("tf-lite", Self::TfLite),
        ("tf-v2", Self::TfV2),
        ("keras", Self::Keras),
        ("none", Self::None),
    ];

    /// The convention for a network of `architecture`: torchvision prepares images for its V2 L, of 79 blocks, as for no other
    /// network of that side.
    pub fn of_architecture(self, architecture: &Architecture) -> Self {
        match self {
            Self::Torchvision if architecture.side == 480 && architecture.blocks().count() == 79 => {
                Self::TorchvisionV2L
            }
            other => other,
        }
    }

    /// The preprocessing for images of `input`.
    pub fn preprocess(self, input: &ImageInput) -> Preprocess {
        let side = input.height;
        let geometry = self.geometry(input);
        let (scale, mean, std) = match self {
            Self::Inception | Self::TfAdvprop | Self::TorchvisionV2L => (UNIT, [0.5; 3], [0.5; 3]),
            Self::TfLite => (1.0, [127.0; 3], [128.0; 3]),
            Self::TfV2 => (1.0, [128.0; 3], [128.0; 3]),
            Self::Keras | Self::None => (1.0, [0.0; 3], [1.0; 3]),
            _ => (UNIT, IMAGENET_MEAN, IMAGENET_STD),
        };
        let (channel_order, mean, std) = match input.channels {
            // The means above are of colours; one channel of luma is only scaled.
            1 => (ChannelOrder::Gray, vec![0.0], vec![1.0]),
            _ => (ChannelOrder::Rgb, mean.to_vec(), std.to_vec()),
        };
        let pixels = input.dtype == DType::U8;
        let plain = |values: Vec<f64>, value: f64| if pixels { vec![value; values.len()] } else { values };
        let (interpolation, resampler) = match self {
            Self::Tf | Self::TfAdvprop => (Interpolation::Bicubic, Resampler::TfLegacy),
            Self::TfLite => (Interpolation::Bilinear, Resampler::TfLegacy),
            Self::TfV2 | Self::Keras => (Interpolation::Bilinear, Resampler::Tf),
            Self::Torchvision if matches!(side, 384 | 480) => (Interpolation::Bilinear, Resampler::Pillow),
            Self::TorchvisionB1V2 => (Interpolation::Bilinear, Resampler::Pillow),
            _ => (Interpolation::Bicubic, Resampler::Pillow),
        };
        Preprocess {
            channel_order,
            resize: geometry.0,
            interpolation,
            resampler,
            crop: geometry.1,
            scale: if pixels { 1.0 } else { scale },
            mean: plain(mean, 0.0),
            std: plain(std, 1.0),
            layout: input.layout,
            dtype: if pixels { DType::U8 } else { DType::F32 },
        }
    }

    /// What is resized to what, and which part is used.
    fn geometry(self, input: &ImageInput) -> (Resize, Crop) {
        let (height, width) = (input.height, input.width);
        let side = height.min(width);
        let center = Crop::Center(height, width);
        let exact = Resize::Exact(height, width);
        let margin = |fraction: f64| Resize::ShortEdge((height.max(width) as f64 / fraction) as usize);
        match self {
            Self::Imagenet | Self::Inception | Self::Timm => (margin(0.875), center),
            Self::Torchvision => {
                let edge = match side {
                    240 => Some(256),
                    288 | 384 | 456 | 480 | 528 | 600 => Some(side),
                    300 => Some(320),
                    380 => Some(384),
                    _ => None,
                };
                (edge.filter(|_| height == width).map_or(margin(0.875), Resize::ShortEdge), center)
            }
            Self::TorchvisionB1V2 => (margin(240.0 / 255.0), center),
            Self::EfficientnetPytorch | Self::TorchvisionV2L => (Resize::ShortEdge(height.max(width)), center),
            Self::Tf | Self::TfAdvprop | Self::TfLite => {
                (exact, Crop::TfV1 { padding: (height as f64 * (1.0 / 0.875 - 1.0)).round() as usize })
            }
            Self::TfV2 if side < 320 => (exact, Crop::TfV2 { padding: 32 }),
            Self::Transformers | Self::TfV2 | Self::Keras | Self::None => (exact, Crop::None),
        }
    }
}

#[cfg(test)]
mod tests {
    use fornax_scaling::spec::Spec;

    use super::super::preprocess::Layout;
    use super::*;

    fn input(side: usize) -> ImageInput {
        let (batch, name) = (Some(1), "input".into());
        ImageInput { name, dtype: DType::F32, batch, channels: 3, height: side, width: side, layout: Layout::Nchw }
    }

    #[test]
    fn torchvision_prepares_its_v2_l_by_itself() {
        let of = |preset: &str| {
            let network = Spec::preset(preset).unwrap().resolve().unwrap().architecture;
            let convention = ImageConvention::Torchvision.of_architecture(&network);
            let found = convention.preprocess(&input(network.side));
            (found.resize, found.interpolation, found.mean[0])
        };
        let (bilinear, bicubic) = (Interpolation::Bilinear, Interpolation::Bicubic);
        assert_eq!(of("efficientnet_v2_l"), (Resize::ShortEdge(480), bicubic, 0.5));
        assert_eq!(of("efficientnet_v2_m"), (Resize::ShortEdge(480), bilinear, 0.485));
        assert_eq!(of("efficientnet_v2_s"), (Resize::ShortEdge(384), bilinear, 0.485));
        assert_eq!(of("efficientnet_b1"), (Resize::ShortEdge(256), bicubic, 0.485));
        let second = ImageConvention::TorchvisionB1V2.preprocess(&input(240));
        assert_eq!((second.resize, second.interpolation), (Resize::ShortEdge(255), bilinear));
    }
}
