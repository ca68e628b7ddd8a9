//! The options of `finetune`, each by what it changes; and runs that are broken off.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use fornax::Tensor;

use super::training::{bytes, path, photos};
use super::{fornax, json};

/// A network whose epochs take no time: batch norms, squeeze-and-excite, blocks with shortcuts.
const SMALL: &str = "base = \"efficientnet_b0\"\nwidth = 0.25\ndepth = 0.35\nresolution = 32\n";

/// A folder of photos, and room for a spec and runs.
struct Bench {
    photos: tempfile::TempDir,
    room: tempfile::TempDir,
}

impl Bench {
    /// Of 4 photos of each of three classes, of which one is drawn for validation.
    fn new() -> Self {
        let bench = Self { photos: photos(4, &["stop", "yield", "turn_left"]), room: tempfile::tempdir().unwrap() };
        fs::write(bench.at("small.toml"), SMALL).unwrap();
        bench
    }

    fn at(&self, name: &str) -> PathBuf {
        self.room.path().join(name)
    }

    /// The arguments of a run into the folder `name`.
    fn arguments(&self, name: &str, more: &[&str]) -> Vec<String> {
        let (spec, output) = (self.at("small.toml"), self.at(name));
        let fixed = ["finetune", path(&spec), path(self.photos.path()), "-o", path(&output), "--seed", "1"];
        fixed.iter().chain(more).map(ToString::to_string).collect()
    }

    fn run(&self, name: &str, more: &[&str]) -> Output {
        let arguments = self.arguments(name, more);
        fornax(&arguments.iter().map(String::as_str).collect::<Vec<_>>())
    }

    /// The weights after a run that must succeed.
    fn weights(&self, name: &str, more: &[&str]) -> Vec<u8> {
        let output = self.run(name, more);
        assert!(output.status.success(), "{more:?}: {}", String::from_utf8_lossy(&output.stderr));
        bytes(&self.at(name), "model.safetensors")
    }

    /// The tensors after a run.
    fn tensors(&self, name: &str) -> BTreeMap<String, Tensor> {
        let found = fornax::tensors::load(self.at(name).join("model.safetensors")).unwrap();
        found.into_iter().map(|one| (one.name.unwrap(), one.tensor)).collect()
    }
}

/// All that a step may have besides.
const EVERYTHING: [&str; 18] = [
    "--mixup",
    "0.3",
    "--cutmix",
    "1",
    "--drop-path",
    "0.2",
    "--clip",
    "0.5",
    "--ema",
    "0.8",
    "--layer-decay",
    "0.7",
    "--balance",
    "sampler",
    "--augment",
    "rand",
    "--flip",
    "on",
];

#[test]
fn how_many_photos_a_call_takes_changes_no_bit() {
    let bench = Bench::new();
    // Nine photos: batches of five and of four, which calls of four and sixteen do not divide.
    let with = |more: &[&str], micro: &str, threads: &str| -> Vec<u8> {
        let name = format!("{}-{micro}-{threads}", more.len());
        let fixed = ["--epochs", "2", "--batch", "5", "--micro-batch", micro, "--threads", threads];
        bench.weights(&name, &[&fixed[..], more].concat())
    };
    for more in [&[][..], &EVERYTHING] {
        let one = with(more, "1", "1");
        for (micro, threads) in [("4", "2"), ("16", "1"), ("auto", "3")] {
            assert!(one == with(more, micro, threads), "{more:?}: calls of {micro} on {threads} threads");
        }
    }
    // A run may go on with calls of another size.
    let more = ["--epochs", "2", "--batch", "5", "--micro-batch", "16", "--resume"];
    assert!(bench.weights("0-1-1", &more) == with(&[], "4", "3"));
}

#[test]
fn every_option_changes_what_is_learnt() {
    let bench = Bench::new();
    let fixed = ["--epochs", "1", "--batch", "4", "--threads", "2"];
    let plain = bench.weights("plain", &fixed);
    assert!(plain == bench.weights("again", &fixed));
    for (at, more) in [
        &["--bn", "train"][..],
        &["--bn", "stats"],
        &["--layer-decay", "0.5"],
        &["--clip", "0.01", "--optimizer", "sgd"],
        &["--ema", "0.9"],
        &["--drop-path", "0.5"],
        &["--mixup", "0.4"],
        &["--cutmix", "1"],
        &["--augment", "rand"],
        &["--augment", "none"],
        &["--crop-scale", "0.2:0.4"],
        &["--flip", "off"],
        &["--balance", "sampler"],
        &["--lr", "auto"],
    ]
    .into_iter()
    .enumerate()
    {
        let name = at.to_string();
        let found = bench.weights(&name, &[&fixed[..], more].concat());
        assert!(found != plain, "{more:?}");
    }
    // Classes of one size are weighed alike.
    assert!(bench.weights("balanced", &[&fixed[..], &["--balance", "weights"]].concat()) == plain);
    fs::remove_file(bench.photos.path().join("stop/0.jpg")).unwrap();
    let [even, weighed] =
        ["none", "weights"].map(|how| bench.weights(how, &[&fixed[..], &["--balance", how]].concat()));
    assert!(even != weighed);
}

#[test]
fn a_resumed_run_has_the_options_of_the_first() {
    let bench = Bench::new();
    let fixed = ["--epochs", "1", "--batch", "4", "--threads", "2"];
    bench.weights("run", &fixed);
    for (option, value, key) in [
        ("--bn", "train", "bn"),
        ("--layer-decay", "0.5", "layer-decay"),
        ("--clip", "1", "clip"),
        ("--ema", "0.9", "ema"),
        ("--drop-path", "0.1", "drop-path"),
        ("--balance", "weights", "balance"),
        ("--mixup", "0.2", "mixup"),
        ("--cutmix", "1", "cutmix"),
        ("--augment", "rand", "augment"),
        ("--crop-scale", "0.5:1", "crop-scale"),
        ("--flip", "on", "flip"),
        ("--lr", "auto", "lr"),
    ] {
        let output = bench.run("run", &[&fixed[..], &["--resume", option, value]].concat());
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains(&format!("--resume: {key}: expected")), "{option}: {message}");
        assert_eq!(output.status.code(), Some(3), "{option}");
    }
}

#[test]
fn trained_batch_norms_follow_the_photos_and_are_written() {
    let bench = Bench::new();
    let fixed = ["--epochs", "1", "--batch", "4", "--threads", "2"];
    bench.weights("fixed", &fixed);
    bench.weights("trained", &[&fixed[..], &["--bn", "train"]].concat());
    bench.weights("top", &[&fixed[..], &["--bn", "train", "--train", "top:1"]].concat());
    let [fixed, trained, top] = ["fixed", "trained", "top"].map(|name| bench.tensors(name));
    let followed = |found: &BTreeMap<String, Tensor>| -> Vec<String> {
        let running = found.iter().filter(|(name, _)| name.contains("running_"));
        running.filter(|(name, tensor)| tensor.bytes() != fixed[*name].bytes()).map(|(name, _)| name.clone()).collect()
    };
    let all = fixed.keys().filter(|name| name.contains("running_")).count();
    assert_eq!(followed(&trained).len(), all);
    let top = followed(&top);
    assert!(!top.is_empty() && top.len() < all && top.iter().all(|name| !name.starts_with("bn1.")), "{top:?}");
    // The files hold the averages that the validation was computed with.
    let (val, model) = (photos(2, &["stop", "yield", "turn_left"]), bench.at("again/model.onnx"));
    let more = ["--epochs", "1", "--batch", "4", "--bn", "train", "--ema", "0.5", "--val", path(val.path())];
    let arguments = bench.arguments("again", &more);
    let said = json(&arguments.iter().map(String::as_str).collect::<Vec<_>>());
    let again = json(&["eval", path(&model), path(val.path())]);
    let [said, again] = [&said["val_loss"], &again["cross_entropy"]].map(|loss| loss.as_f64().unwrap());
    assert!((said - again).abs() < 1e-5 * said.max(1.0), "{said} {again}");
}

#[test]
fn statistics_taken_anew_do_not_depend_on_the_old_ones() {
    let bench = Bench::new();
    // All nine photos at once.
    let fixed = ["--train", "head", "--bn", "stats", "--batch", "16"];
    let first = bench.weights("first", &fixed);
    let (model, second) = (bench.at("first/model.onnx"), bench.at("second"));
    let arguments = ["finetune", path(&model), path(bench.photos.path()), "-o", path(&second), "--seed", "1"];
    let output = fornax(&[&arguments[..], &fixed, &["--threads", "1"]].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(first == bytes(&second, "model.safetensors"));
    bench.weights("plain", &["--train", "head"]);
    let (first, plain) = (bench.tensors("first"), bench.tensors("plain"));
    for (name, tensor) in &first {
        let changed = name.contains("running_") || name.starts_with("classifier");
        assert_eq!(tensor.bytes() != plain[name].bytes(), changed, "{name}");
    }
}

#[test]
fn what_does_not_go_together_is_refused_by_the_name_of_the_flag() {
    let bench = Bench::new();
    for (more, code, expected) in [
        (&["--bn", "train", "--batch", "1"][..], 2, "--batch: expected at least 2 photos"),
        (&["--bn", "stats", "--batch", "1"], 2, "--batch: expected at least 2 photos"),
        (&["--bn", "train", "--batch", "10"], 2, "--batch: expected at most the 9 photos"),
        (&["--bn", "train", "--batch", "4", "--micro-batch", "2"], 2, "statistics are of a whole batch"),
        (&["--bn", "moving"], 2, "fixed, train or stats"),
        (&["--micro-batch", "0"], 2, "a number from 1"),
        (&["--lr", "nan"], 2, "--lr: expected a number above 0"),
        (&["--lr=-1"], 2, "--lr: expected a number above 0"),
        (&["--warmup=-1"], 2, "--warmup: expected a number of epochs from 0"),
        (&["--bn", "train", "--train", "head"], 2, "--bn: expected fixed or stats"),
        (&["--layer-decay", "0"], 2, "--layer-decay: expected a factor above 0"),
        (&["--clip", "0"], 2, "--clip: expected a norm above 0"),
        (&["--ema", "1"], 2, "--ema: expected a share"),
        (&["--drop-path", "1"], 2, "--drop-path: expected a share"),
        (&["--mixup", "inf"], 2, "--mixup: expected a number from 0"),
        (&["--cutmix", "nan"], 2, "--cutmix: expected a number from 0"),
        (&["--crop-scale", "1:0.5"], 2, "--crop-scale: expected A:B"),
        (&["--crop-scale", "half"], 2, "A:B"),
        (&["--crop-scale", "0.5:1", "--augment", "none"], 2, "--crop-scale: expected --augment light or rand"),
        (&["--balance", "even"], 2, "none, weights or sampler"),
        (&["--flip", "maybe"], 2, "auto, on or off"),
    ] {
        let output = bench.run("refused", more);
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains(expected) && output.status.code() == Some(code), "{more:?}: {message}");
        assert!(!bench.at("refused").exists(), "{more:?}: nothing is written");
    }
}

#[test]
fn a_run_writes_the_forms_that_are_asked_for() {
    let bench = Bench::new();
    let forms = |name: &str, emit: &str| {
        let output = bench.run(name, &["--train", "head", "--emit", emit]);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let mut files: Vec<String> = fs::read_dir(bench.at(name))
            .unwrap()
            .map(|file| file.unwrap().file_name().into_string().unwrap())
            .collect();
        files.sort();
        (files, String::from_utf8(output.stdout).unwrap())
    };
    let (files, said) = forms("small", "safetensors");
    assert_eq!(files, ["model.safetensors", "model.toml", "report.html", "state"]);
    assert!(said.contains("small/model.toml --image"), "{said}");
    let (files, said) = forms("network", "onnx,safetensors");
    assert_eq!(files, ["model.onnx", "model.safetensors", "model.toml", "report.html", "state"]);
    assert!(said.contains("network/model.onnx --image"), "{said}");
    let (files, said) = forms("library", "so");
    assert_eq!(files, ["model.h", "model.so", "report.html", "state"]);
    assert!(said.contains("library/model.so --image"), "{said}");
    let output = bench.run("refused", &["--emit", "keras"]);
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("--emit: expected onnx, safetensors or so") && output.status.code() == Some(2),
        "{message}"
    );
}

#[test]
fn a_rate_is_found_and_said() {
    let bench = Bench::new();
    let found = |name: &str, threads: &str| {
        let output = bench.run(name, &["--epochs", "1", "--batch", "4", "--lr", "auto", "--threads", threads]);
        let said = String::from_utf8(output.stderr).unwrap();
        let line =
            said.lines().find_map(|line| line.strip_prefix("learning rate: ")).unwrap_or_else(|| panic!("{said}"));
        line.parse::<f64>().unwrap()
    };
    let (one, two) = (found("one", "1"), found("two", "2"));
    assert!(one == two && (1e-7..=0.1).contains(&one), "{one} {two}");
    assert!(bytes(&bench.at("one"), "model.safetensors") == bytes(&bench.at("two"), "model.safetensors"));
    // The rate of a run that goes on is the one that it had.
    let whole = bench.weights("whole", &["--epochs", "3", "--batch", "4", "--lr", "auto"]);
    killed(&bench, "broken", &["--epochs", "3", "--batch", "4", "--lr", "auto"], |run| {
        run.join("state/checkpoint").exists()
    });
    assert!(whole == bench.weights("broken", &["--epochs", "3", "--batch", "4", "--lr", "auto", "--resume"]));
}

#[test]
fn photos_that_are_there_twice_are_said() {
    let bench = Bench::new();
    fs::copy("examples/photos/stop.jpg", bench.photos.path().join("yield/other.jpg")).unwrap();
    let output = bench.run("run", &["--train", "head"]);
    let message = String::from_utf8(output.stderr).unwrap();
    let lines: Vec<&str> = message.lines().filter(|line| line.starts_with("warning: the same photo")).collect();
    assert!(output.status.success() && lines.len() >= 2, "{message}");
    let both = lines.iter().filter(|line| line.contains("and of several classes: stop/")).count();
    assert!(both == 1 && lines.iter().all(|line| line.contains("both to train and to validate")), "{lines:?}");
}

#[test]
fn links_to_all_classes_lead_nowhere() {
    let bench = Bench::new();
    let plain = bench.weights("plain", &["--train", "head"]);
    std::os::unix::fs::symlink("..", bench.photos.path().join("stop/up")).unwrap();
    std::os::unix::fs::symlink("round", bench.photos.path().join("stop/round")).unwrap();
    assert!(bench.weights("linked", &["--train", "head"]) == plain);
}

#[test]
fn a_run_is_not_among_the_photos() {
    let bench = Bench::new();
    let inside = bench.photos.path().join("stop/../run");
    for output in [&inside, &bench.photos.path().to_path_buf()] {
        let output = fornax(&["finetune", "examples/signs.onnx", path(bench.photos.path()), "-o", path(output)]);
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains("--output: expected a folder outside that of the photos"), "{message}");
        assert_eq!((output.status.code(), inside.exists()), (Some(2), false));
    }
}

#[test]
fn weights_that_are_no_numbers_are_named() {
    let bench = Bench::new();
    for (name, at, value, expected) in [
        ("features.1.0.block.0.0.weight", 3, f32::NAN, "expected finite numbers, found NaN"),
        ("features.0.1.bias", 0, f32::INFINITY, "expected finite numbers, found inf"),
        ("features.0.1.running_var", 1, -1.0, "expected variances from 0, found -1"),
    ] {
        let broken = bench.at("broken.onnx");
        fs::write(&broken, with_value(name, at, value)).unwrap();
        let run = bench.at("run");
        let output = fornax(&["finetune", path(&broken), path(bench.photos.path()), "-o", path(&run)]);
        let message = String::from_utf8(output.stderr).unwrap();
        assert!(message.contains(&format!("weights {name}: {expected}")), "{message}");
        assert_eq!((output.status.code(), run.exists()), (Some(1), false));
    }
}

/// The demo's network with another number at one place.
fn with_value(name: &str, at: usize, value: f32) -> Vec<u8> {
    use protobuf::Message;
    let bytes = fs::read("examples/signs.onnx").unwrap();
    let mut model = onnx_protobuf::ModelProto::parse_from_bytes(&bytes).unwrap();
    let graph = model.graph.mut_or_insert_default();
    let tensor = graph.initializer.iter_mut().find(|tensor| tensor.name == name).unwrap();
    tensor.raw_data[at * 4..at * 4 + 4].copy_from_slice(&value.to_le_bytes());
    model.write_to_bytes().unwrap()
}

#[test]
fn a_loss_that_is_no_number_ends_the_run_and_keeps_the_last_epoch() {
    let bench = Bench::new();
    let fixed = ["--epochs", "3", "--batch", "3", "--schedule", "constant", "--warmup", "0", "--optimizer", "sgd"];
    let output = bench.run("run", &[&fixed[..], &["--lr", "1e30"]].concat());
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(
        message.contains("loss: expected a finite number, found ") && message.contains("with rate 1e30"),
        "{message}"
    );
    assert_eq!(output.status.code(), Some(3));
    assert!(!bench.at("run/model.onnx").exists());
}

/// Starts a run and kills it as soon as `when` says so, unless it ends before.
fn killed(bench: &Bench, name: &str, more: &[&str], when: impl Fn(&Path) -> bool) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fornax"));
    command.args(bench.arguments(name, more)).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut child = command.spawn().unwrap();
    while child.try_wait().unwrap().is_none() && !when(&bench.at(name)) {
        std::thread::sleep(Duration::from_millis(1));
    }
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Every file that has its name is whole.
fn expect_whole(run: &Path, expected: &BTreeMap<PathBuf, Vec<u8>>) {
    for (file, bytes) in expected {
        let Ok(found) = fs::read(run.join(file)) else { continue };
        let name = file.to_str().unwrap();
        if name == "log.jsonl" {
            let text = String::from_utf8(found).unwrap();
            assert!(
                text.ends_with('\n')
                    && text.lines().all(|line| serde_json::from_str::<serde_json::Value>(line).is_ok())
            );
        } else if name != "state/checkpoint" {
            assert!(&found == bytes, "{name} is another than that of the run that nobody killed");
        }
    }
}

/// Kills a run again and again, at random moments of all its length, of which FORNAX_TRAINING=full has twenty.
#[test]
fn a_run_that_is_killed_at_any_moment_ends_as_one_that_is_not() {
    let kills = if std::env::var("FORNAX_TRAINING").is_ok_and(|value| value == "full") { 20 } else { 4 };
    let bench = Bench::new();
    let more = ["--epochs", "4", "--batch", "3", "--threads", "2"];
    let begun = Instant::now();
    bench.weights("whole", &more);
    let length = begun.elapsed();
    let files = ["model.onnx", "model.safetensors", "model.so", "model.h", "log.jsonl", "state/checkpoint"];
    let expected: BTreeMap<PathBuf, Vec<u8>> =
        files.iter().map(|file| (PathBuf::from(file), bytes(&bench.at("whole"), file))).collect();
    let mut moment = 0.37f64;
    for kill in 0..kills {
        // Spread evenly, in an order without a pattern.
        moment = (moment + 0.618_033_988_75).fract();
        // Some of the runs go on from the one before, others begin anew.
        let name = format!("broken-{}", kill / 4);
        let resume: &[&str] = if bench.at(&name).exists() { &["--resume"] } else { &[] };
        let (begun, after) = (Instant::now(), length.mul_f64(moment));
        killed(&bench, &name, &[&more[..], resume].concat(), |_| begun.elapsed() > after);
        if bench.at(&name).exists() {
            expect_whole(&bench.at(&name), &expected);
        }
    }
    for run in 0..kills / 4 {
        let name = format!("broken-{run}");
        let resume: &[&str] = if bench.at(&name).exists() { &["--resume"] } else { &[] };
        bench.weights(&name, &[&more[..], resume].concat());
        for file in &files[..4] {
            assert!(bytes(&bench.at(&name), file) == expected[Path::new(file)], "{name}: {file}");
        }
    }
}
