//! What tests of this room share.

use fornax_runtime::DType;

use crate::images::{ChannelOrder, Crop, Interpolation, Layout, Preprocess, Resampler, Resize};

/// Photos as they are, in bytes as numbers, channels last.
pub fn plain() -> Preprocess {
    Preprocess {
        channel_order: ChannelOrder::Rgb,
        resize: Resize::None,
        interpolation: Interpolation::Bicubic,
        resampler: Resampler::Pillow,
        crop: Crop::None,
        scale: 1.0,
        mean: vec![0.0; 3],
        std: vec![1.0; 3],
        layout: Layout::Nhwc,
        dtype: DType::F32,
    }
}
