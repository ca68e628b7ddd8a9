//! Preprocessing against the tensors that the reference frameworks made of one picture.

mod support;

use fornax::{ChannelOrder, Crop, DType, Image, Interpolation, Layout, Preprocess, Resampler, Resize, tensors};

const MEAN: [f64; 3] = [0.485, 0.456, 0.406];
const STD: [f64; 3] = [0.229, 0.224, 0.225];

/// What the pipelines have in common: Pillow's bicubic and ImageNet's normalisation.
fn base() -> Preprocess {
    Preprocess {
        channel_order: ChannelOrder::Rgb,
        resize: Resize::ShortEdge(73),
        interpolation: Interpolation::Bicubic,
        resampler: Resampler::Pillow,
        crop: Crop::Center(64, 64),
        scale: 1.0 / 255.0,
        mean: MEAN.to_vec(),
        std: STD.to_vec(),
        layout: Layout::Nchw,
        dtype: DType::F32,
    }
}

fn half() -> Preprocess {
    Preprocess { mean: vec![0.5; 3], std: vec![0.5; 3], ..base() }
}

fn tf(crop: Crop, interpolation: Interpolation, resampler: Resampler) -> Preprocess {
    let resize = Resize::Exact(64, 64);
    Preprocess { resize, crop, interpolation, resampler, layout: Layout::Nhwc, ..base() }
}

fn tf_v2(crop: Crop) -> Preprocess {
    let p = tf(crop, Interpolation::Bilinear, Resampler::Tf);
    Preprocess { scale: 1.0, mean: vec![128.0; 3], std: vec![128.0; 3], ..p }
}

/// Name of the reference tensor, pipeline, and tolerance in grey levels; `None` is an absolute 1e-3.
fn cases() -> Vec<(&'static str, Preprocess, Option<f64>)> {
    let level = Some(1.0);
    let squash = Resize::Exact(64, 64);
    vec![
        ("timm_center_bicubic_0875_imagenet", base(), level),
        ("timm_center_bilinear_0875_imagenet", Preprocess { interpolation: Interpolation::Bilinear, ..base() }, level),
        ("timm_squash_bicubic_100_half", Preprocess { resize: squash, crop: Crop::None, ..half() }, level),
        ("timm_center_bicubic_100_half", Preprocess { resize: Resize::ShortEdge(64), ..half() }, level),
        ("torchvision_bicubic_73_64", base(), level),
        (
            "tf_v1_crop_then_bicubic_legacy_imagenet_hwc",
            tf(Crop::TfV1 { padding: 9 }, Interpolation::Bicubic, Resampler::TfLegacy),
            None,
        ),
        ("tf_v2_crop_then_bilinear_128_hwc", tf_v2(Crop::TfV2 { padding: 32 }), None),
        ("tf_v2_squash_bilinear_128_hwc", tf_v2(Crop::None), None),
        ("transformers_squash_bicubic_double_std", Preprocess { resize: squash, crop: Crop::None, ..base() }, level),
    ]
}

#[test]
fn reproduces_the_reference_pipelines() {
    let Some(folder) = support::shared("reference/golden_small/preprocess") else { return };
    let image = Image::open(folder.join("image_150x113.png")).unwrap();
    let mut wrong = Vec::new();
    for (name, preprocess, levels) in cases() {
        let expected = tensors::load(folder.join(format!("{name}.npy"))).unwrap().remove(0).tensor;
        let found = preprocess.tensor(std::slice::from_ref(&image)).unwrap();
        assert_eq!(found.shape()[1..], expected.shape()[..], "{name}");
        // The transformers case divides by std instead of sqrt(std) twice, so std is that of ImageNet.
        let step = levels.map(|n| n * preprocess.scale / preprocess.std.iter().copied().fold(f64::MAX, f64::min));
        let tolerance = step.map_or(1e-3, |step| step * 1.001);
        let pairs = found.to_f64_vec().into_iter().zip(expected.to_f64_vec());
        let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        eprintln!("{name}: largest difference {largest:.5}, allowed {tolerance:.5}");
        if largest > tolerance {
            wrong.push(format!("{name}: {largest} exceeds {tolerance}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_demo_model_describes_the_demo_preprocessing() {
    let model = fornax::Model::open(support::examples().join("signs.onnx")).unwrap();
    let preprocess = model.preprocess().unwrap().unwrap();
    let expected =
        Preprocess { resize: Resize::ShortEdge(112), crop: Crop::Center(96, 96), scale: preprocess.scale, ..base() };
    assert_eq!(preprocess, expected);
    let photo = Image::open(support::examples().join("photos/stop.jpg")).unwrap();
    let found = preprocess.tensor(&[photo]).unwrap();
    let expected = tensors::load(support::examples().join("signs.input.npy")).unwrap().remove(0).tensor;
    assert_eq!(found.shape(), expected.shape());
    let pairs = found.as_f32().unwrap().iter().zip(expected.as_f32().unwrap());
    let largest = pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(largest <= 1e-5, "{largest}");
}

#[test]
fn layouts_and_channels_permute_the_same_values() {
    let image = Image::from_rgb(2, 2, (0..12).map(|v| v * 20).collect()).unwrap();
    let plain = Preprocess {
        resize: Resize::None,
        crop: Crop::None,
        scale: 1.0,
        mean: vec![0.0; 3],
        std: vec![1.0; 3],
        ..base()
    };
    let values = |p: &Preprocess| p.tensor(std::slice::from_ref(&image)).unwrap().to_f64_vec();
    assert_eq!(values(&plain), [0., 60., 120., 180., 20., 80., 140., 200., 40., 100., 160., 220.]);
    let nhwc = Preprocess { layout: Layout::Nhwc, channel_order: ChannelOrder::Bgr, ..plain.clone() };
    assert_eq!(values(&nhwc), [40., 20., 0., 100., 80., 60., 160., 140., 120., 220., 200., 180.]);
    let gray = Preprocess { channel_order: ChannelOrder::Gray, mean: vec![0.0], std: vec![1.0], ..plain.clone() };
    assert_eq!(values(&gray), [16., 76., 136., 196.]);
    let bytes = Preprocess { dtype: DType::U8, ..plain };
    assert_eq!(bytes.tensor(&[image]).unwrap().dtype(), DType::U8);
}

#[test]
fn a_crop_larger_than_the_image_is_an_error() {
    let image = Image::from_rgb(2, 2, vec![0; 12]).unwrap();
    let error = Preprocess { resize: Resize::None, ..base() }.tensor(&[image]).unwrap_err();
    assert_eq!((error.to_string().contains("64x64 of 2x2"), error.exit_code()), (true, 1));
}
