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

/// Photos whose classes are called otherwise.
fn renamed(classes: &[(&str, &str)]) -> tempfile::TempDir {
    let own: Vec<&str> = classes.iter().map(|(class, _)| *class).collect();
    let root = photos(4, &own);
    for (class, name) in classes {
        fs::rename(root.path().join(class), root.path().join(name)).unwrap();
    }
    root
}

/// A run of the linear classifier over the demo's network.
fn probed(root: &Path, run: &Path) {
    text(&["probe", "examples/signs.onnx", path(root), "-o", path(run), "--threads", "2"]);
}

#[test]
fn a_classifier_is_exchanged_as_if_it_were_compiled() {
    let runs = tempfile::tempdir().unwrap();
    let at = |name: &str| runs.path().join(name);
    let (first, second) =
        (photos(4, &["stop", "yield"]), renamed(&[("turn_left", "left"), ("stop", "a \"long\" halt")]));
    probed(first.path(), &at("first"));
    probed(second.path(), &at("second"));
    for weights in ["embed", "file"] {
        let compile = |model: &str, output: &str| {
            let (model, output) = (at(model), at(output));
            text(&["compile", path(&model), "-o", path(&output), "--name", "net", "--weights", weights]);
        };
        compile("first/model.onnx", "old.so");
        compile("second/model.onnx", "fresh.so");
        let (old, second, new) = (at("old.so"), at("second"), at("new.so"));
        text(&["head", path(&old), "--weights", path(&second), "-o", path(&new)]);
        assert!(bytes(runs.path(), "new.so") == bytes(runs.path(), "fresh.so"), "{weights}");
        if weights == "file" {
            assert!(bytes(runs.path(), "new.weights") == bytes(runs.path(), "fresh.weights"));
        }
        let said = json(&["run", path(&new), "--image", "examples/photos/turn_left.jpg", "--json"]);
        assert_eq!(said["results"][0]["top"][0]["label"], "left");
        // In place, and back.
        let before = bytes(runs.path(), "old.so");
        text(&["head", path(&old), "--weights", path(&second)]);
        assert!(bytes(runs.path(), "old.so") == bytes(runs.path(), "fresh.so"));
        text(&["head", path(&old), "--weights", path(&at("first"))]);
        assert!(bytes(runs.path(), "old.so") == before);
    }
}

#[test]
fn another_network_is_no_classifier_of_a_library() {
    let runs = tempfile::tempdir().unwrap();
    let at = |name: &str| runs.path().join(name);
    let (two, three) = (photos(4, &["stop", "yield"]), photos(4, &["stop", "yield", "turn_left"]));
    probed(two.path(), &at("two"));
    probed(three.path(), &at("three"));
    let output = finetune(two.path(), &at("all"), &["2", "--epochs", "1"]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let library = at("two/model.so");
    let before = fs::read(&library).unwrap();
    let refused = |weights: &Path, expected: &str| {
        let output = fornax(&["head", path(&library), "--weights", path(weights)]);
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains(expected) && output.status.code() == Some(2), "{message}");
        message
    };
    let message = refused(&at("three"), "expected a classifier of 2 classes");
    assert!(message.contains("one of 3 classes") && message.contains("`fornax compile "), "{message}");
    let message = refused(&at("all"), "found a network that differs in more than that");
    assert!(message.contains("all/model.onnx -o "), "{message}");
    refused(&at("two/model.so"), "expected a trained network");
    let output = fornax(&["head", "examples/signs.onnx", "--weights", path(&at("two"))]);
    assert!(String::from_utf8(output.stderr).unwrap().contains("expected a compiled library"));
    assert!(fs::read(&library).unwrap() == before, "what is refused changes nothing");
}

#[test]
fn the_folder_of_a_run_is_a_model_with_its_spec() {
    let (root, folder) = (photos(4, &["stop", "yield"]), tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    let spec = "base = \"efficientnet_b0\"\nwidth = 0.25\ndepth = 0.35\nresolution = 32\n";
    fs::write(at("small.toml"), spec).unwrap();
    let (small, photo) = (at("small.toml"), "examples/photos/stop.jpg");
    // Preprocessing that a spec has words for, and one that it has none for.
    for (name, more) in
        [("plain", &[][..]), ("tf", &["--preprocess", "tf"]), ("grey", &["--mean", "0.25", "--resize", "80"])]
    {
        let run = at(name);
        let fixed =
            ["finetune", &small, path(root.path()), "-o", &run, "--epochs", "1", "--threads", "2", "--side", "64"];
        text(&[&fixed[..], more].concat());
        let answer = |model: &str| {
            let said = json(&["run", model, "--image", photo, "--json"]);
            said["results"][0]["top"].clone()
        };
        let answers = ["", "/model.toml", "/model.onnx", "/model.so"].map(|file| answer(&format!("{run}{file}")));
        assert_eq!(answers[0].as_array().unwrap().len(), 2);
        assert!(answers.iter().all(|own| *own == answers[0]), "{name}: {answers:?}");
        let written = fs::read_to_string(format!("{run}/model.toml")).unwrap();
        assert!(written.contains("labels = [\"stop\", \"yield\"]") && written.contains("resolution = 64"), "{written}");
        assert_eq!(written.contains("[metadata]"), name == "tf", "{written}");
    }
    // A library of the spec takes the classifier of the spec.
    let (probed, library, fresh) = (at("probed"), at("spec.so"), at("fresh.so"));
    text(&["compile", &at("plain"), "-o", &library, "--name", "net"]);
    text(&["probe", &at("plain"), path(root.path()), "-o", &probed, "--l2", "0.5"]);
    text(&["compile", &probed, "-o", &fresh, "--name", "net"]);
    assert!(fs::read(&library).unwrap() != fs::read(&fresh).unwrap());
    text(&["head", &library, "--weights", &probed]);
    assert!(fs::read(&library).unwrap() == fs::read(&fresh).unwrap());
    // The next run begins with it, and has a spec again.
    let (run, next) = (at("plain"), at("next"));
    text(&["finetune", &run, path(root.path()), "-o", &next, "--epochs", "1", "--threads", "2"]);
    assert!(fs::exists(format!("{next}/model.toml")).unwrap());
    let output = fornax(&["run", path(root.path()), "--image", photo]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("expected a model, or a folder with model.toml or model.onnx"), "{message}");
}

#[test]
fn networks_are_compared_as_probe_and_bench_find_them() {
    let (root, folder) = (photos(6, &["stop", "yield", "turn_left"]), tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    fs::copy("examples/signs.onnx", at("signs.onnx")).unwrap();
    fs::write(at("broken.onnx"), "no network").unwrap();
    text(&["export", "mobilenetv2-050", "--seed", "3", "--side", "32", "-o", &at("random.onnx")]);
    let html = at("chart.html");
    let fixed = ["choose", path(root.path()), path(folder.path()), "--seconds", "0.05", "--threads", "1"];
    let output = fornax(&[&fixed[..], &["--json", "--latency", "10s", "--html", &html]].concat());
    let warned = String::from_utf8(output.stderr).unwrap();
    assert!(warned.contains("left out: broken"), "{warned}");
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let networks = said["networks"].as_array().unwrap();
    assert_eq!(networks.iter().map(|own| own["network"].as_str().unwrap()).collect::<Vec<_>>(), ["random", "signs"]);
    let probed = json(&["probe", &at("signs.onnx"), path(root.path()), "--json", "--threads", "1"]);
    let best = probed["held_out"].as_array().unwrap().iter().find(|tried| tried["l2"] == probed["l2"]).unwrap();
    assert_eq!((&networks[1]["accuracy"], &networks[1]["l2"]), (&best["accuracy"], &best["l2"]));
    assert_eq!(networks[1]["side"], 96);
    let figures: Vec<[f64; 2]> =
        networks.iter().map(|own| ["accuracy", "latency_ms"].map(|key| own[key].as_f64().unwrap())).collect();
    let beaten = |[accuracy, ms]: [f64; 2]| {
        figures.iter().any(|own| own[0] >= accuracy && own[1] <= ms && *own != [accuracy, ms])
    };
    for (own, figures) in networks.iter().zip(&figures) {
        assert_eq!(own["front"], !beaten(*figures), "{said}");
    }
    let chosen: Vec<&Value> = networks.iter().filter(|own| own["chosen"] == true).collect();
    assert_eq!((chosen.len(), &chosen[0]["front"]), (1, &true.into()));
    assert!(said["command"].as_str().unwrap().starts_with("fornax finetune "), "{said}");
    assert!(fs::read_to_string(&html).unwrap().contains(" ms of 10000 ms"));
    // Nothing is as fast as that.
    let output = fornax(&[&fixed[..], &["--latency", "0.0001ms"]].concat());
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    for (more, expected) in [
        (&["efficientnet-b0"][..], "--weights: expected NETWORK=FILE"),
        (&["--preprocess", "other=timm"], "expected one of the networks (broken, random, signs), found other"),
        (&["--preprocess", "signs=magic"], "expected NETWORK= and one of imagenet"),
        (&["--latency", "soon"], "expected a time such as 10ms"),
        (&["--html", &at("signs.onnx")], "output: expected another file than the model or its data"),
    ] {
        let output = fornax(&[&fixed[..], more].concat());
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains(expected) && output.status.code() == Some(2), "{more:?}: {message}");
    }
}

#[test]
fn networks_without_a_classifier_are_said() {
    let (root, folder) = (photos(4, &["stop", "yield"]), tempfile::tempdir().unwrap());
    let at = |name: &str| folder.path().join(name).to_str().unwrap().to_string();
    // Features only: its last layer is gone.
    text(&["export", "efficientnet-b0", "--seed", "1", "--side", "32", "--features", "pooled", "-o", &at("none.onnx")]);
    text(&["compile", "examples/signs.onnx", "-o", &at("signs.so")]);
    let (none, library, run) = (at("none.onnx"), at("signs.so"), at("run"));
    let expected = "expected a network that ends in a linear layer";
    for (arguments, expected) in [
        (&["finetune", &none, path(root.path()), "-o", &run][..], expected),
        (&["probe", &none, path(root.path()), "-o", &run], expected),
        (&["probe", &none, path(root.path())], expected),
        (&["choose", path(root.path()), &none], expected),
        (
            &["probe", &library, path(root.path())],
            "expected a network, or a library that was compiled with --features pooled",
        ),
        (&["probe", &library, path(root.path()), "-o", &run], "as a library cannot be trained"),
        (&["choose", path(root.path()), &library], "expected a network that can be trained"),
        (&["head", &library, "--weights", &none], expected),
    ] {
        let output = fornax(arguments);
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains(expected) && output.status.code() == Some(2), "{arguments:?}: {message}");
    }
    assert!(!Path::new(&run).exists(), "nothing is left of what was refused");
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

/// A network of others, whose classifier is a convolution under an average: its features, and the last layer made of them.
#[test]
fn squeezenet_takes_other_classes() {
    let shared = std::env::var_os("FORNAX_SHARED").unwrap_or_else(|| "../shared".into());
    let model = Path::new(&shared).join("models/squeezenet1.1_imagenet/model.onnx");
    if !model.exists() {
        eprintln!("SKIPPED: {} is not there; set FORNAX_SHARED to the shared test data", model.display());
        return;
    }
    let (root, runs) = (photos(5, &["stop", "yield", "turn_left"]), tempfile::tempdir().unwrap());
    let run = runs.path().join("run");
    let common = [path(&model), path(root.path()), "--preprocess", "imagenet", "--threads", "2", "--json"];
    let probed = json(&[&["probe"][..], &common].concat());
    let done = json(&[&["finetune", "-o", path(&run), "--train", "head"][..], &common].concat());
    assert_eq!((&probed["features"], &done["val_accuracy"]), (&512.into(), &probed["val"]["accuracy"]));
    let loss = |value: &Value| value.as_f64().unwrap();
    let (own, probed) = (loss(&done["val_loss"]), loss(&probed["val"]["cross_entropy"]));
    assert!((own - probed).abs() < 1e-4 * probed.max(1.0), "{own}, {probed}");
    let said = json(&["run", path(&run.join("model.so")), "--image", "examples/photos/yield.jpg", "--json"]);
    assert_eq!(said["results"][0]["top"][0]["label"], "yield", "{said}");
}

/// The commands of the page, in order, in a folder of their own.
#[test]
fn the_page_on_fine_tuning_is_true() {
    let page = fs::read_to_string("docs/finetuning.md").unwrap();
    let blocks = page.split("```sh\n").skip(1).filter_map(|rest| rest.split("```").next());
    let commands: Vec<&str> = blocks.flat_map(str::lines).collect();
    assert_eq!(commands.len(), 11);
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
    assert!(said[4].starts_with("8 epochs, validation 9"), "{}", said[4]);
    assert!(said[5].contains("hospital"), "{}", said[5]);
    assert!(said[8].contains("signs.so"), "{}", said[8]);
    let read = |file: &str| fs::read_to_string(folder.path().join(file)).unwrap_or_else(|e| panic!("{file}: {e}"));
    assert_eq!(read("predictions.csv").lines().count(), 41);
    for (file, words) in [
        ("run/report.html", ["<h2>Training</h2>", "hospital", "Adam"]),
        ("probed/report.html", ["held-out accuracy", "hospital", "<h2>Calibration</h2>"]),
        ("eval.html", ["<h2>Worst photos</h2>", "data:image/jpeg", "precision"]),
        ("chart.html", ["<h2>Accuracy against latency</h2>", "<svg", "signs"]),
    ] {
        let page = read(file);
        assert!(words.iter().all(|word| page.contains(word)), "{file}");
        assert!(!page.contains("<script") && !page.contains("http"), "{file} needs nothing but itself");
    }
    // What was exchanged is what was compiled.
    let [own, new] = ["probed/model.so", "signs.so"].map(|file| fs::read(folder.path().join(file)).unwrap());
    assert!(own == new, "the same layer leaves the same bytes");
    // A training step as a library is a network too.
    assert!(said[10].contains("hospital"), "{}", said[10]);
}
