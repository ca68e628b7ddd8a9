//! Verbs about photos of known classes.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use super::{fornax, text};

/// The demo's photos in a folder for each class, each `copies` times.
pub(super) fn photos(copies: usize, classes: &[&str]) -> tempfile::TempDir {
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

pub(super) fn path(path: &Path) -> &str {
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
    assert_eq!(said.lines().skip(3).count(), 3, "{said}");
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

/// A small run over the demo's photos.
fn finetune(root: &Path, run: &Path, more: &[&str]) -> std::process::Output {
    let fixed = ["finetune", "examples/signs.onnx", path(root), "-o", path(run), "--batch", "4", "--threads"];
    fornax(&[&fixed[..], more].concat())
}

pub(super) fn bytes(run: &Path, file: &str) -> Vec<u8> {
    fs::read(run.join(file)).unwrap_or_else(|e| panic!("{file}: {e}"))
}

#[test]
fn finetune_learns_other_classes() {
    let (root, runs) = (photos(4, &["stop", "yield", "turn_left"]), tempfile::tempdir().unwrap());
    let run = runs.path().join("run");
    let output = finetune(root.path(), &run, &["2", "--epochs", "2"]);
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(said.starts_with("2 epochs, validation 100.0 % of 3"), "{said}");
    assert_eq!(fs::read_to_string(run.join("log.jsonl")).unwrap().lines().count(), 2);
    // Classes, size and normalisation travel in the files.
    let mut answers = Vec::new();
    for model in ["model.so", "model.onnx"] {
        let said = json(&["run", path(&run.join(model)), "--image", "examples/photos/yield.jpg", "--json"]);
        let top = &said["results"][0]["top"];
        assert_eq!((&top[0]["label"], top.as_array().unwrap().len()), (&"yield".into(), 3), "{said}");
        answers.push(top[0]["score"].clone());
    }
    assert_eq!(answers[0], answers[1]);
    let again = json(&["eval", path(&run.join("model.so")), path(root.path()), "--json"]);
    assert_eq!(again["top1"], 1.0);
    // One is a model again.
    let (first, second) = (run.join("model.onnx"), runs.path().join("second"));
    let arguments = ["finetune", path(&first), path(root.path()), "-o", path(&second), "--train", "head"];
    assert!(text(&arguments).contains("0 epochs, validation 100.0 %"));
}

#[test]
fn threads_and_interruptions_change_no_bit_of_a_run() {
    let (root, runs) = (photos(4, &["stop", "yield"]), tempfile::tempdir().unwrap());
    let [whole, other, broken] = ["whole", "other", "broken"].map(|name| runs.path().join(name));
    let done = |output: std::process::Output| {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    done(finetune(root.path(), &whole, &["1", "--epochs", "3"]));
    done(finetune(root.path(), &other, &["3", "--epochs", "3"]));
    // Killed once it has a checkpoint, then gone on with.
    let arguments =
        ["finetune", "examples/signs.onnx", path(root.path()), "-o", path(&broken), "--batch", "4", "--epochs", "3"];
    let mut child = Command::new(env!("CARGO_BIN_EXE_fornax")).args(arguments).stderr(Stdio::null()).spawn().unwrap();
    let checkpoint = broken.join("state/checkpoint");
    while !checkpoint.exists() && child.try_wait().unwrap().is_none() {
        std::thread::sleep(Duration::from_millis(2));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    done(finetune(root.path(), &broken, &["2", "--epochs", "3", "--resume"]));
    assert!(bytes(&whole, "model.so") == bytes(&broken, "model.so"), "a run that was killed ends as one that was not");
    for file in ["model.safetensors", "model.onnx"] {
        assert!(bytes(&whole, file) == bytes(&other, file), "{file}");
    }
    let message = String::from_utf8(finetune(root.path(), &whole, &["1", "--epochs", "4"]).stderr).unwrap();
    assert!(message.contains("expected a new or empty folder, or --resume"), "{message}");
    let message = String::from_utf8(finetune(root.path(), &whole, &["1", "--epochs", "4", "--resume"]).stderr).unwrap();
    assert!(message.contains("--resume: epochs: expected 3, found 4"), "{message}");
    let before = bytes(&whole, "model.safetensors");
    done(finetune(root.path(), &whole, &["2", "--epochs", "3", "--resume"]));
    assert!(before == bytes(&whole, "model.safetensors"), "a run that is done stays as it is");
}

#[test]
fn specs_are_trained_and_their_weights_belong_to_the_run() {
    let (root, folder) = (photos(3, &["stop", "yield"]), tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let spec = "base = \"efficientnet_b0\"\nwidth = 0.25\ndepth = 0.35\nresolution = 32\n";
    fs::write(at("small.toml"), spec).unwrap();
    let train = |output: &str, more: &[&str]| {
        let (spec, output) = (at("small.toml"), at(output));
        let fixed = ["finetune", &spec, path(root.path()), "-o", &output, "--epochs", "1", "--threads", "1"];
        fornax(&[&fixed[..], more].concat())
    };
    let done = |output: std::process::Output| {
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    };
    done(train("first", &["--seed", "1"]));
    let weights = at("weights.safetensors");
    fs::copy(at("first/model.safetensors"), &weights).unwrap();
    done(train("second", &["--weights", &weights]));
    let before = bytes(&folder.path().join("second"), "model.safetensors");
    done(train("second", &["--weights", &weights, "--resume"]));
    assert!(before == bytes(&folder.path().join("second"), "model.safetensors"));
    done(train("third", &["--seed", "3"]));
    fs::copy(at("third/model.safetensors"), &weights).unwrap();
    let message = String::from_utf8(train("second", &["--weights", &weights, "--resume"]).stderr).unwrap();
    assert!(message.contains("--resume: weights: expected"), "{message}");
}

#[test]
fn what_cannot_be_trained_is_said() {
    let root = photos(2, &["stop", "yield"]);
    let run = root.path().with_extension("run");
    for (more, expected) in [
        (&["1", "--lr", "0"][..], "--lr: expected a number above 0"),
        (&["1", "--train", "top:99"], "--train: expected top:N of at most"),
        (&["1", "--smoothing", "1"], "--smoothing: expected a share"),
        (&["1", "--optimizer", "adam"], "expected adamw, sgd, rmsprop-tf or lion"),
        (&["1", "--resume"], "--resume: expected a folder of a run"),
        (&["1", "--augment", "wild"], "none, light or rand"),
    ] {
        let output = finetune(root.path(), &run, more);
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains(expected) && !output.status.success(), "{more:?}: {message}");
    }
    _ = fs::remove_dir_all(run);
}

/// The commands of the page, in order, in a folder of their own.
#[test]
fn the_page_on_fine_tuning_is_true() {
    let page = fs::read_to_string("docs/finetuning.md").unwrap();
    let blocks = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let commands: Vec<&str> = blocks.flat_map(str::lines).collect();
    assert_eq!(commands.len(), 6);
    let folder = tempfile::tempdir().unwrap();
    let examples = std::env::current_dir().unwrap().join("examples");
    std::os::unix::fs::symlink(examples, folder.path().join("examples")).unwrap();
    let mut said = Vec::new();
    for command in commands {
        let words = command.split(' ').skip(1);
        let mut process = Command::new(env!("CARGO_BIN_EXE_fornax"));
        let output = process.args(words).current_dir(folder.path()).stdin(Stdio::null()).output().unwrap();
        assert!(output.status.success(), "{command}: {}", String::from_utf8_lossy(&output.stderr));
        said.push(String::from_utf8(output.stdout).unwrap());
    }
    assert!(said[2].starts_with("8 epochs, validation 9"), "{}", said[2]);
    assert!(said[3].contains("hospital"), "{}", said[3]);
    assert_eq!(fs::read_to_string(folder.path().join("predictions.csv")).unwrap().lines().count(), 41);
}
