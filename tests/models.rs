//! Trained and reference networks: recorded outputs, and the class of every photo.

mod support;

use std::path::{Path, PathBuf};

use fornax::classify::{self, Scores};
use fornax::{
    Crop, Image, ImageConvention, ImageInput, Interpolation, Model, Preprocess, Resize, Session, SessionOptions,
    Tensor, tensors,
};
use serde_json::Value;

fn session(folder: &Path, model: &str) -> Session {
    Model::open(folder.join(model)).unwrap().session(&SessionOptions::default()).unwrap()
}

fn tensor(path: PathBuf) -> Tensor {
    tensors::load(path).unwrap().remove(0).tensor
}

/// Files of a folder whose names begin with `input`, and the output next to each.
fn pairs(folder: &Path) -> Vec<(PathBuf, PathBuf)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let name = entry.file_name().unwrap().to_str().unwrap();
        if entry.is_dir() {
            found.extend(pairs(&entry));
        } else if name.contains("input_") {
            found.push((entry.clone(), entry.with_file_name(name.replace("input_", "output_"))));
        }
    }
    found.sort();
    found
}

fn best(values: &[f64]) -> usize {
    classify::top(values, 1, None)[0].index
}

#[test]
fn trained_networks_give_the_recorded_outputs() {
    let Some(models) = support::shared("models") else { return };
    let mut wrong = Vec::new();
    for (name, count) in [
        ("efficientnet_b0_signdigits", 2),
        ("efficientnet_w0.35_d0.6_signdigits", 2),
        ("mnist_8", 3),
        ("mobilenet_v1_0.25_imagenet", 2),
        ("mobilenet_v2_1.0_imagenet_float", 2),
        ("mobilenet_v2_1.0_imagenet_qdq", 2),
        ("squeezenet1.1_imagenet", 5),
        ("super_resolution_10", 1),
    ] {
        let mut session = session(&models.join(name), "model.onnx");
        let pairs = pairs(&models.join(name));
        assert_eq!(pairs.len(), count, "{name}");
        for (input, output) in pairs {
            let found = session.run(&[&tensor(input)]).unwrap().remove(0);
            let scores = session.model().scores(session.compiled().unwrap()).unwrap();
            let (found, expected) = (found.to_f64_vec(), tensor(output.clone()).to_f64_vec());
            let (relative, absolute) = match scores {
                // One step of the quantised scores.
                _ if name.ends_with("qdq") => (0.0, 1.0),
                Scores::Probabilities => (1e-3, 1e-4),
                _ => (1e-3, 1e-3),
            };
            let off = |(a, b): (&f64, &f64)| (a - b).abs() - relative * b.abs();
            let worst = found.iter().zip(&expected).map(off).fold(f64::MIN, f64::max);
            if found.len() != expected.len() || worst > absolute || best(&found) != best(&expected) {
                wrong.push(format!("{}: off by {worst}", output.display()));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What the `expected.json` files say of preparing photos, in words.
fn recorded(name: &str, input: &ImageInput) -> Preprocess {
    let short = Preprocess {
        resize: Resize::ShortEdge(256),
        interpolation: Interpolation::Bilinear,
        ..ImageConvention::Imagenet.preprocess(input)
    };
    match name {
        "squeezenet1.1_imagenet" => short,
        "mobilenet_v1_0.25_imagenet" => Preprocess { mean: vec![0.5; 3], std: vec![0.5; 3], ..short },
        "mobilenet_v2_1.0_imagenet_float" => {
            Preprocess { scale: 1.0, mean: vec![128.0; 3], std: vec![128.0; 3], ..short }
        }
        _ => Preprocess { resize: Resize::Exact(64, 64), crop: Crop::None, ..short },
    }
}

/// The recorded class of a photo.
fn recorded_class(case: &Value) -> u64 {
    let class = case.get("predicted").unwrap_or_else(|| &case["top5"][0]["class"]);
    class.as_u64().unwrap()
}

#[test]
fn trained_networks_name_every_photo_as_recorded() {
    let (Some(models), Some(images)) = (support::shared("models"), support::shared("images")) else { return };
    let mut wrong = Vec::new();
    for (name, photos) in [
        ("efficientnet_b0_signdigits", "sign_digits"),
        ("efficientnet_w0.35_d0.6_signdigits", "sign_digits"),
        ("mobilenet_v1_0.25_imagenet", ""),
        ("mobilenet_v2_1.0_imagenet_float", ""),
        ("squeezenet1.1_imagenet", ""),
    ] {
        let mut session = session(&models.join(name), "model.onnx");
        let preprocess = recorded(name, &ImageInput::of(session.model().inputs()).unwrap());
        let text = std::fs::read_to_string(models.join(name).join("expected.json")).unwrap();
        let expected: Value = serde_json::from_str(&text).unwrap();
        for (photo, case) in expected["photos"].as_object().unwrap() {
            let image = Image::open(images.join(photos).join(photo)).unwrap();
            let outputs = session.run(&[&preprocess.tensor(&[image]).unwrap()]).unwrap();
            let found = best(&outputs[0].to_f64_vec());
            let class = recorded_class(case);
            if found as u64 != class {
                wrong.push(format!("{name}: {photo}: class {found}, recorded {class}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn reference_networks_give_their_golden_logits() {
    let Some(golden) = support::shared("reference/golden_small") else { return };
    for (folder, model) in [
        ("v1_symmetric", "model_torch_export.onnx"),
        ("v1_tf_same", "model_same_upper.onnx"),
        ("v2_tf_same", "model_same_upper.onnx"),
    ] {
        let folder = golden.join(folder);
        let found =
            session(&folder, model).run(&[&tensor(folder.join("input_64.npy"))]).unwrap().remove(0).to_f64_vec();
        let expected = tensor(folder.join("out_64_logits.npy")).to_f64_vec();
        let largest = expected.iter().fold(0.0f64, |a, b| a.max(b.abs()));
        let off = found.iter().zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
        eprintln!("{}: off by {:.1e} of the largest logit", folder.display(), off / largest);
        assert!(found.len() == expected.len() && off <= 1e-4 * largest, "{}: {off} of {largest}", folder.display());
    }
}
