//! The demo: twelve photos of road signs, classified by native code compiled here.

mod support;

use fornax::{Image, Model, SessionOptions, Tensor, classify, tensors};
use serde_json::Value;

const LOGITS: f64 = 1e-3;
const PROBABILITIES: f64 = 1e-3;

fn expected() -> Value {
    let text = std::fs::read_to_string(support::examples().join("signs.expected.json")).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn largest(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

#[test]
fn twelve_photos_of_twelve() {
    let model = Model::open(support::examples().join("signs.onnx")).unwrap();
    let preprocess = model.preprocess().unwrap().unwrap();
    let labels = model.labels().unwrap().unwrap();
    let mut session = model.session(&SessionOptions::default()).unwrap();
    let expected = expected();
    let photos = expected["photos"].as_object().unwrap();
    let (mut wrong, mut worst) = (Vec::new(), (0.0f64, 0.0f64));
    for (name, case) in photos {
        let image = Image::open(support::examples().join("photos").join(name)).unwrap();
        let outputs = session.run(&[&preprocess.tensor(&[image]).unwrap()]).unwrap();
        let scores = model.scores(session.compiled().unwrap()).unwrap();
        let probabilities = classify::probabilities(&outputs[0], scores).unwrap().remove(0);
        let best = classify::top(&probabilities, 1, Some(&labels)).remove(0);
        let numbers = |value: &Value| value.as_array().unwrap().iter().map(|v| v.as_f64().unwrap()).collect::<Vec<_>>();
        let logits = largest(&outputs[0].to_f64_vec(), &numbers(&case["logits"]));
        let by_label: Vec<f64> = labels.iter().map(|l| case["probabilities"][l].as_f64().unwrap()).collect();
        let shares = largest(&probabilities, &by_label);
        worst = (worst.0.max(logits), worst.1.max(shares));
        if best.label.as_deref() != case["true"].as_str() || logits > LOGITS || shares > PROBABILITIES {
            wrong.push(format!("{name}: {:?}, logits off by {logits:.4}, probabilities by {shares:.5}", best.label));
        }
    }
    eprintln!("largest difference: logits {:.4}, probabilities {:.5}", worst.0, worst.1);
    assert!(wrong.is_empty() && photos.len() == 12, "{}", wrong.join("\n"));
}

#[test]
fn the_same_tensor_gives_the_same_logits() {
    let load = |name: &str| tensors::load(support::examples().join(name)).unwrap().remove(0).tensor;
    let model = Model::open(support::examples().join("signs.onnx")).unwrap();
    for threads in [1, 2, 3] {
        let mut session = model.session(&SessionOptions { threads, ..Default::default() }).unwrap();
        let outputs = session.run(&[&load("signs.input.npy")]).unwrap();
        let off = largest(&outputs[0].to_f64_vec(), &load("signs.output.npy").to_f64_vec());
        assert!(off <= LOGITS, "{threads} threads: off by {off}");
    }
}

#[test]
fn a_batch_gives_what_its_images_give() {
    let image = tensors::load(support::examples().join("signs.input.npy")).unwrap().remove(0).tensor;
    let model = Model::open(support::examples().join("signs.onnx")).unwrap();
    let mut session = model.session(&SessionOptions { threads: 2, ..Default::default() }).unwrap();
    let alone = session.run(&[&image]).unwrap().remove(0);
    let pixels = image.as_f32().unwrap();
    let darker: Vec<f32> = pixels.iter().map(|v| v * 0.5).collect();
    let batch = Tensor::from_f32([3, 3, 96, 96], &[pixels, &darker, pixels].concat()).unwrap();
    let together = session.run(&[&batch]).unwrap().remove(0);
    let (rows, alone64) = (together.to_f64_vec(), alone.to_f64_vec());
    assert!(rows[..12] == alone64 && rows[24..] == alone64, "the batch changed a bit");
    assert!(largest(&rows[12..24], &alone64) > 1e-2);
    // The shape used before is still there.
    assert_eq!(session.run(&[&image]).unwrap()[0], alone);
}

#[test]
fn sessions_run_side_by_side() {
    let image = tensors::load(support::examples().join("signs.input.npy")).unwrap().remove(0).tensor;
    let model = Model::open(support::examples().join("signs.onnx")).unwrap();
    let run = || {
        let mut session = model.session(&SessionOptions { threads: 2, ..Default::default() }).unwrap();
        let first = session.run(&[&image]).unwrap();
        for _ in 0..20 {
            assert_eq!(session.run(&[&image]).unwrap(), first);
        }
        first
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..3).map(|_| scope.spawn(run)).collect();
        running.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(results.iter().all(|result| *result == results[0]));
}
