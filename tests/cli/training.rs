//! Verbs about photos of known classes.

use std::fs;
use std::path::Path;

use serde_json::Value;

use super::{fornax, text};

/// The demo's photos in a folder for each class, each `copies` times.
fn photos(copies: usize, classes: &[&str]) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    for class in classes {
        let folder = root.path().join(class);
        fs::create_dir_all(&folder).unwrap();
        for copy in 0..copies {
            fs::copy(format!("examples/photos/{class}.jpg"), folder.join(format!("{copy}.jpg"))).unwrap();
        }
    }
    root
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&text(arguments)).unwrap()
}

#[test]
fn eval_counts_what_is_told_right() {
    let root = photos(2, &["stop", "yield", "turn_left"]);
    let csv = root.path().with_extension("csv");
    let said = text(&["eval", "examples/signs.onnx", path(root.path()), "--predictions", path(&csv)]);
    assert!(said.starts_with("6 photos: top-1 100.0 %, top-5 100.0 %"), "{said}");
    assert_eq!(said.lines().skip(3).map(|line| line.split_whitespace().next().unwrap()).count(), 3, "{said}");
    let lines: Vec<String> = fs::read_to_string(&csv).unwrap().lines().map(String::from).collect();
    assert!(lines[0].starts_with("photo,class,prediction,") && lines.len() == 7, "{lines:?}");
    assert!(lines[1].contains("stop/0.jpg,stop,stop,0."), "{}", lines[1]);
    fs::remove_file(csv).unwrap();
    let said = json(&["eval", "examples/signs.onnx", path(root.path()), "--json", "--threads", "1"]);
    assert_eq!((&said["top1"], &said["photos"]), (&1.0.into(), &6.into()));
    assert_eq!(said["confusion"].as_array().unwrap().len(), 12);
}

#[test]
fn eval_names_what_does_not_fit() {
    let root = photos(1, &["stop"]);
    fs::rename(root.path().join("stop"), root.path().join("halt")).unwrap();
    let output = fornax(&["eval", "examples/signs.onnx", path(root.path())]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("expected classes of the model (") && message.contains("found halt"), "{message}");
    fs::write(root.path().join("halt/broken.jpg"), "no photo").unwrap();
    let message = String::from_utf8(fornax(&["eval", "examples/signs.onnx", path(root.path())]).stderr).unwrap();
    assert!(message.contains("found 1 that cannot") && message.contains("broken.jpg"), "{message}");
    let skipping = fornax(&["eval", "examples/signs.onnx", path(root.path()), "--bad-images", "skip"]);
    let message = String::from_utf8(skipping.stderr).unwrap();
    assert!(message.contains("left out: ") && message.contains("found halt"), "{message}");
}

#[test]
fn probe_finds_a_linear_classifier() {
    let root = photos(6, &["stop", "yield"]);
    let arguments = ["probe", "examples/signs.onnx", path(root.path()), "--json", "--threads"];
    let run = |threads| json(&[&arguments[..], &[threads]].concat());
    let (said, on_two) = (run("1"), run("2"));
    assert_eq!((&said["val"]["accuracy"], &said["val"]["photos"]), (&1.0.into(), &2.into()));
    assert_eq!((&said["features"], said["held_out"].as_array().unwrap().len()), (&448.into(), 6));
    assert_eq!((&said["held_out"], &said["val"]), (&on_two["held_out"], &on_two["val"]));
    let output = fornax(&["probe", "examples/signs.onnx", path(root.path()), "--l2", "-1"]);
    assert_eq!(output.status.code(), Some(2));
    let said = text(&["probe", "examples/signs.onnx", path(root.path()), "--l2", "0.01"]);
    assert!(said.starts_with("2 classes, 448 features,"), "{said}");
}
