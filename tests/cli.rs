//! The command line: what it prints, and how it answers wrong use.

#[path = "cli/compiling.rs"]
mod compiling;
#[path = "cli/files.rs"]
mod files;
#[path = "cli/finetuning.rs"]
mod finetuning;
#[path = "cli/measuring.rs"]
mod measuring;
#[path = "cli/memory.rs"]
mod memory;
#[path = "cli/scaling.rs"]
mod scaling;
mod support;
#[path = "cli/system.rs"]
mod system;
#[path = "cli/training.rs"]
mod training;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use fornax::{DType, Tensor, tensors};
use serde_json::Value;

fn fornax(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fornax"));
    command.args(arguments).current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::null());
    command.output().unwrap()
}

/// Standard output of a run that must succeed.
fn text(arguments: &[&str]) -> String {
    let output = fornax(arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(arguments: &[&str]) -> Value {
    let value: Value = serde_json::from_str(&text(&[arguments, &["--json"]].concat())).unwrap();
    assert_eq!(value["version"], 1);
    value
}

fn keys(value: &Value) -> Vec<&str> {
    value.as_object().unwrap().keys().map(String::as_str).collect()
}

/// Runs what must fail: one line on standard error that says `expected`, nothing on standard output.
#[track_caller]
fn fails(arguments: &[&str], code: i32, expected: &str) {
    let output = fornax(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    let errors: Vec<&str> =
        stderr.lines().filter(|line| !line.starts_with("preprocess: ") && !line.starts_with("note: ")).collect();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {stderr}");
    assert!(
        matches!(errors[..], [line] if line.starts_with("error: ") && line.contains(expected)),
        "{expected}: {stderr}"
    );
    assert!(output.stdout.is_empty(), "{arguments:?}");
}

const MODEL: &str = "examples/signs.onnx";
const PHOTO: &str = "examples/photos/stop.jpg";

struct Scratch(tempfile::TempDir);

impl Scratch {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn name(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_string()
    }

    fn file(&self, name: &str, content: &[u8]) -> String {
        std::fs::write(self.path(name), content).unwrap();
        self.name(name)
    }

    fn tensor(&self, name: &str, tensor: &Tensor) -> String {
        tensors::save(self.path(name), &[("x", tensor)]).unwrap();
        self.name(name)
    }
}

#[test]
fn a_photo_is_named() {
    let text = text(&["run", MODEL, "--image", PHOTO]);
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!((lines.len(), lines[0]), (6, PHOTO));
    let words: Vec<&str> = lines[1].split_whitespace().collect();
    let share: f64 = words[1].parse().unwrap();
    assert!(words[0] == "stop" && (95.2..95.8).contains(&share) && words[2] == "%", "{text}");
}

#[test]
fn json_of_run() {
    let value = json(&["run", MODEL, "--image", PHOTO, "--image", "examples/photos/yield.jpg", "--top", "2"]);
    assert_eq!(keys(&value), ["version", "results"]);
    let results = value["results"].as_array().unwrap();
    assert_eq!((results.len(), &results[0]["image"]), (2, &Value::from(PHOTO)));
    let top = results[1]["top"].as_array().unwrap();
    assert_eq!((top.len(), keys(&top[0])), (2, vec!["index", "label", "score"]));
    assert_eq!((&top[0]["index"], &top[0]["label"]), (&Value::from(1), &Value::from("yield")));
    assert!(top[0]["score"].as_f64().unwrap() > 0.9 && top[1]["score"].as_f64().unwrap() < 0.1);
}

#[test]
fn json_of_inspect_and_bench() {
    let stats = json(&["inspect", MODEL, "--stats"]);
    assert_eq!(keys(&stats), ["version", "params", "macs", "nodes", "ops", "arena_bytes", "weights_bytes"]);
    assert_eq!((&stats["params"], &stats["macs"]), (&Value::from(418_002), &Value::from(10_152_176)));
    let ops: u64 = stats["ops"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    assert_eq!(stats["nodes"].as_u64(), Some(ops));
    let bench = json(&["bench", MODEL, "--seconds", "0.01", "--min-runs", "1", "--threads", "1"]);
    let expected = ["version", "median_ms", "min_ms", "compile_ms", "gflops", "peak_gflops", "threads", "peaks"];
    assert_eq!((keys(&bench), &bench["threads"]), (expected.to_vec(), &Value::from(1)));
    let peaks = bench["peaks"].as_array().unwrap();
    assert!(peaks[0]["bits"] == 128 && peaks.iter().all(|peak| peak["gflops"].as_f64().unwrap() > 0.0), "{peaks:?}");
    assert!(bench["median_ms"].as_f64().unwrap() > 0.0 && bench["peak_gflops"].as_f64().unwrap() > 0.0);
}

#[test]
fn every_view_of_inspect() {
    let summary = text(&["dump", MODEL]);
    assert!(summary.contains("image  f32[batch,3,96,96]") && summary.contains("logits  f32[1,12]"), "{summary}");
    assert!(text(&["inspect", MODEL, "--dim", "batch=2"]).contains("logits  f32[2,12]"));
    let imported = text(&["inspect", MODEL, "--after", "import"]);
    assert!(imported.starts_with("graph @") && imported.contains("batch_norm"));
    let folded = text(&["inspect", MODEL, "--after", "fold_batch_norm"]);
    assert!(folded.starts_with("graph @") && !folded.contains("batch_norm"));
    assert!(text(&["inspect", MODEL, "--dot"]).starts_with("digraph"));
    assert!(text(&["inspect", MODEL, "--remarks"]).contains("fuse_mbconv"));
    let plan = json(&["inspect", MODEL, "--plan"]);
    assert!(
        plan["steps"].as_array().unwrap().iter().all(|step| step["predicted_us"].as_f64().unwrap() > 0.0),
        "{plan}"
    );
    let plan = text(&["inspect", MODEL, "--plan", "--cpu", "aarch64"]);
    assert!(plan.starts_with("plan @") && plan.lines().next().unwrap().ends_with("for aarch64"));
    assert!(text(&["inspect", MODEL, "--clif", "--cpu", "x86-64-fma"]).contains("function"));
}

#[test]
fn lists() {
    let operators = json(&["list-ops"]);
    let conv = operators["operators"].as_array().unwrap().iter().find(|op| op["name"] == "Conv").unwrap();
    assert_eq!(conv["domain"], "ai.onnx");
    let passes = text(&["list-passes"]);
    assert!(passes.lines().any(|line| line.starts_with("fold_batch_norm ")));
}

#[test]
fn tensors_in_and_out() {
    let scratch = Scratch::new();
    let (npy, npz) = (scratch.name("out.npy"), scratch.name("out.npz"));
    let expected = tensors::load(support::examples().join("signs.output.npy")).unwrap().remove(0).tensor;
    for (input, path) in [("examples/signs.input.npy", &npy), ("image=examples/signs.input.npy", &npz)] {
        let value = json(&["run", MODEL, "--input", input, "--save", path]);
        let output = &value["outputs"][0];
        assert_eq!((&output["name"], &output["shape"]), (&Value::from("logits"), &serde_json::json!([1, 12])));
        let saved = tensors::load(path).unwrap().remove(0).tensor;
        let pairs = saved.to_f64_vec().into_iter().zip(expected.to_f64_vec());
        assert!(pairs.map(|(a, b)| (a - b).abs()).fold(0.0, f64::max) < 1e-3);
    }
    assert_eq!(tensors::load(&npz).unwrap()[0].name.as_deref(), Some("logits"));
    let classes = text(&["run", MODEL, "--input", "examples/signs.input.npy", "--top", "1"]);
    assert!(classes.contains("stop"), "{classes}");
}

#[test]
fn flags_override_the_metadata() {
    let score = |flags: &[&str]| {
        let value = json(&[&["run", MODEL, "--image", PHOTO, "--top", "12"], flags].concat());
        let top = value["results"][0]["top"].as_array().unwrap().clone();
        top.iter().find(|class| class["index"] == 0).unwrap()["score"].as_f64().unwrap()
    };
    let metadata = score(&[]);
    let same = ["--resize", "112", "--crop", "96", "--interpolation", "bicubic", "--scale", "1/255"];
    assert!((score(&same) - metadata).abs() < 1e-9);
    assert!((score(&["--mean", "0.485,0.456,0.406", "--std", "0.229,0.224,0.225"]) - metadata).abs() < 1e-9);
    assert!(score(&["--channel-order", "bgr"]) != metadata);
    assert!(score(&["--preprocess", "inception"]) != metadata);
    // 96 / 0.875 is 109.7, so only the resize differs, slightly.
    assert!((score(&["--preprocess", "imagenet"]) - metadata).abs() < 0.01);
}

#[test]
fn labels_from_a_file() {
    let scratch = Scratch::new();
    let names: Vec<String> = (0..12).map(|i| format!("sign {i}")).collect();
    let labels = scratch.file("labels.txt", names.join("\n").as_bytes());
    assert!(text(&["run", MODEL, "--image", PHOTO, "--labels", &labels]).contains("sign 0"));
    let short = scratch.file("short.txt", b"one\ntwo\n");
    fails(&["run", MODEL, "--image", PHOTO, "--labels", &short], 1, "expected 12");
    fails(&["run", MODEL, "--image", PHOTO, "--labels", "absent.txt"], 1, "absent.txt");
}

#[test]
fn wrong_models() {
    let scratch = Scratch::new();
    fails(&["inspect", "absent.onnx"], 1, "cannot read absent.onnx: No such file");
    fails(&["inspect", "examples"], 1, "expected a model, or a folder with model.toml or model.onnx");
    fails(&["inspect", &scratch.file("text.onnx", b"this is a text file\n")], 1, "not an ONNX model");
    fails(&["inspect", &scratch.file("empty.onnx", b"")], 1, "not an ONNX model: the file is empty");
    fails(&["bench", &scratch.name("nothing")], 1, "nothing");
    fails(&["inspect", MODEL, "--limit", "file_bytes=100"], 5, "the limit is 100");
    fails(&["inspect", MODEL, "--limit", "nodes=10"], 5, "limit");
    fails(&["run", MODEL, "--image", PHOTO, "--limit", "arena_bytes=10"], 5, "arena bytes");
}

#[test]
fn wrong_inputs() {
    let scratch = Scratch::new();
    let zeros = |dtype, shape: &[usize]| Tensor::zeros(dtype, shape).unwrap();
    let narrow = scratch.tensor("narrow.npy", &zeros(DType::F32, &[1, 3, 96, 95]));
    fails(&["run", MODEL, "--input", &narrow], 1, "[batch,3,96,96]");
    let flat = scratch.tensor("flat.npy", &zeros(DType::F32, &[27648]));
    fails(&["run", MODEL, "--input", &flat], 1, "[batch,3,96,96]");
    let double = scratch.tensor("double.npy", &zeros(DType::F64, &[1, 3, 96, 96]));
    fails(&["run", MODEL, "--input", &double], 1, "expected element type f32, found f64");
    fails(&["run", MODEL, "--input", "absent.npy"], 1, "absent.npy");
    fails(&["run", MODEL, "--input", &scratch.file("text.npy", b"1 2 3")], 1, "expected a .npy file");
    fails(&["run", MODEL, "--input", &scratch.file("x.csv", b"1,2")], 1, ".safetensors");
    let right = "examples/signs.input.npy";
    fails(&["run", MODEL, "--input", right, "--input", right], 2, "expected 1 tensors (image)");
    fails(&["run", MODEL, "--input", &format!("photo={right}")], 2, "the name of an input (image), found photo");
}

#[test]
fn wrong_images() {
    let scratch = Scratch::new();
    fails(&["run", MODEL, "--image", "absent.jpg"], 1, "cannot read absent.jpg");
    fails(&["run", MODEL, "--image", "examples"], 1, "expected a regular file");
    fails(&["run", MODEL, "--image", MODEL], 1, "expected an image (JPEG, PNG, WebP, BMP, GIF or TIFF)");
    fails(
        &["run", MODEL, "--image", &scratch.file("empty.jpg", b"")],
        1,
        "expected an image (JPEG, PNG, WebP, BMP, GIF or TIFF), found an empty file",
    );
    let photo = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(PHOTO)).unwrap();
    fails(
        &["run", MODEL, "--image", &scratch.file("head.jpg", &photo[..300])],
        1,
        "expected an image (JPEG, PNG, WebP, BMP, GIF or TIFF)",
    );
    // A good photo before a bad one changes nothing.
    let save = scratch.name("out.npy");
    fails(&["run", MODEL, "--image", PHOTO, "--image", "absent.jpg", "--save", &save], 1, "absent.jpg");
    assert!(!Path::new(&save).exists());
}

#[test]
fn wrong_use() {
    fails(
        &["classify", MODEL],
        2,
        "expected one of compile, scale, dataset, features, export, finetune, probe, eval, choose, head, run",
    );
    fails(&["run"], 2, "<MODEL>");
    fails(&["run", MODEL], 2, "--image");
    fails(&["run", MODEL, "--image", PHOTO, "--input", "x.npy"], 2, "cannot be used with");
    fails(&["run", MODEL, "--image", PHOTO, "--top", "0"], 2, "--top");
    fails(&["run", MODEL, "--image", PHOTO, "--threads", "0"], 2, "--threads");
    fails(&["run", MODEL, "--image", PHOTO, "--preprocess", "resnet"], 2, "expected one of imagenet, inception");
    fails(&["run", MODEL, "--image", PHOTO, "--crop", "0"], 2, "expected N or HxW");
    fails(&["run", MODEL, "--image", PHOTO, "--std", "0"], 1, "other than 0");
    fails(&["run", MODEL, "--image", PHOTO, "--dim", "height=3"], 2, "a dimension of the model (batch)");
    fails(&["run", MODEL, "--image", PHOTO, "--dim", "batch"], 2, "NAME=N");
    fails(&["run", MODEL, "--image", PHOTO, "--limit", "colour=1"], 2, "expected file_bytes");
    fails(&["run", MODEL, "--image", PHOTO, "--save", "out.txt"], 2, ".npy");
    fails(&["inspect", MODEL, "--after", "fuse_everything"], 2, "fold_batch_norm");
    fails(&["inspect", MODEL, "--cpu", "pdp11"], 2, "x86-64-v3");
    fails(&["inspect", MODEL, "--clif", "winograd9"], 2, "part of a kernel's name");
    fails(&["bench", MODEL, "--seconds", "-1"], 2, "--seconds");
    assert!(!Path::new(env!("CARGO_MANIFEST_DIR")).join("out.txt").exists());
}

#[test]
fn an_unwritable_target_leaves_nothing() {
    let scratch = Scratch::new();
    let inside = scratch.name("absent/out.npy");
    fails(&["run", MODEL, "--input", "examples/signs.input.npy", "--save", &inside], 1, "cannot write");
    std::fs::create_dir(scratch.path("folder.npy")).unwrap();
    fails(
        &["run", MODEL, "--input", "examples/signs.input.npy", "--save", &scratch.name("folder.npy")],
        1,
        "directory",
    );
    assert_eq!(std::fs::read_dir(scratch.path("")).unwrap().count(), 1);
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fornax"));
    command.args(["inspect", MODEL, "--after", "import"]).current_dir(env!("CARGO_MANIFEST_DIR"));
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn stages_have_times() {
    let arguments = ["bench", MODEL, "--threads", "1", "--input", "examples/signs.input.npy", "--time-passes"];
    let found = json(&arguments);
    assert_eq!(keys(&found), ["version", "stages", "load_ms", "total_ms", "peak_rss_kb"]);
    let stages: Vec<&str> = found["stages"].as_array().unwrap().iter().map(|s| s["stage"].as_str().unwrap()).collect();
    for stage in ["map", "decode", "import", "fold_batch_norm", "lower", "pack", "codegen", "session", "first run"] {
        assert!(stages.contains(&stage), "{stage}: {stages:?}");
    }
    let total = found["total_ms"].as_f64().unwrap();
    let sum: f64 = found["stages"].as_array().unwrap().iter().map(|s| s["ms"].as_f64().unwrap()).sum();
    assert!(sum > 0.0 && sum <= total && found["load_ms"].as_f64().unwrap() < total, "{found}");
    let text = text(&arguments);
    assert!(text.starts_with("map ") && text.contains("\nfirst run ") && text.contains("\npeak "), "{text}");
}

#[test]
fn the_file_is_not_kept_in_memory() {
    let scratch = Scratch::new();
    let (channels, filters) = (1024, 512);
    let mut model = support::onnx::Writer::new("wide", 17);
    model.input("x", &[1, channels, 1, 1]);
    let mut value = "x".to_string();
    let mut bytes = 0;
    for (at, (inputs, outputs)) in [(channels, filters), (filters, channels)].iter().cycle().take(12).enumerate() {
        let values: Vec<f32> = (0..inputs * outputs).map(|i| ((i * 37 + at as i64) % 101) as f32 * 1e-4).collect();
        bytes += values.len() * 4;
        let weight = format!("w{at}");
        model.weight(&weight, &[*outputs, *inputs, 1, 1], &values);
        value = model.node("Conv", &[&value, &weight], &format!("y{at}"), &[]);
    }
    model.output(&value, &[1, channels, 1, 1]);
    let path = scratch.name("wide.onnx");
    std::fs::write(&path, model.finish()).unwrap();
    let output = text(&["bench", &path, "--threads", "1", "--stdio"]);
    let words: Vec<f64> = output.split_whitespace().skip(1).take(4).map(|word| word.parse().unwrap()).collect();
    let (peak, base) = (words[2] * 1024.0, words[3] * 1024.0);
    // The packed weights, and less than half as much again for everything else.
    assert!(peak - base < 1.5 * bytes as f64, "{output} with {bytes} bytes of weights");
}

#[test]
fn names_of_any_length_print() {
    let name = "x".repeat(100_000);
    let mut model = support::onnx::Writer::new("long", 17);
    model.input("x", &[1, 2]);
    model.node("Relu", &["x"], &name, &[]);
    model.output(&name, &[1, 2]);
    let scratch = Scratch::new();
    let (path, input) = (
        scratch.file("long.onnx", &model.finish()),
        scratch.tensor("x.npy", &Tensor::zeros(DType::F32, [1, 2]).unwrap()),
    );
    assert!(text(&["run", &path, "--input", &input]).contains(&name));
}

#[test]
fn a_model_without_inputs_runs() {
    let mut model = support::onnx::Writer::new("constant", 17);
    model.weight("w", &[2], &[-1.0, 2.0]);
    model.node("Relu", &["w"], "y", &[]);
    model.output("y", &[2]);
    let scratch = Scratch::new();
    assert!(text(&["run", &scratch.file("constant.onnx", &model.finish())]).contains("max 2.0"));
}

#[test]
fn a_dimension_and_a_tensor_that_disagree_are_an_error() {
    fails(&["run", MODEL, "--input", "examples/signs.input.npy", "--dim", "batch=3"], 2, "expected 3, as --dim says");
}

#[test]
fn nans_are_warned_of() {
    let mut model = support::onnx::Writer::new("logarithm", 17);
    model.input("x", &[1, 3]);
    model.node("Log", &["x"], "y", &[]);
    model.output("y", &[1, 3]);
    let scratch = Scratch::new();
    let model = scratch.file("logarithm.onnx", &model.finish());
    let labels = scratch.file("labels.txt", b"a\nb\nc\n");
    let run = |values: [f32; 3], flags: &[&str]| {
        let input = scratch.tensor("x.npy", &Tensor::from_f32([1, 3], &values).unwrap());
        let output = fornax(&[&["run", &model, "--input", &input], flags].concat());
        assert!(output.status.success());
        let stderr = String::from_utf8(output.stderr).unwrap();
        let warnings = stderr.lines().filter(|line| line.starts_with("warning: ")).map(str::to_string);
        (String::from_utf8(output.stdout).unwrap(), warnings.collect::<Vec<_>>())
    };
    assert!(run([1.0, 2.0, 3.0], &["--labels", &labels]).1.is_empty());
    let (stdout, warnings) = run([-1.0, 2.0, 3.0], &["--labels", &labels]);
    assert!(!stdout.contains("NaN %"), "{stdout}");
    assert!(warnings.contains(&"warning: y: 1 of 3 values are NaN".to_string()), "{warnings:?}");
    assert!(warnings.iter().any(|line| line.ends_with("scores: 3 of 3 values are NaN")), "{warnings:?}");
    let (_, warnings) = run([1.0, 2.0, -3.0], &["--json"]);
    assert_eq!(warnings, ["warning: y: 1 of 3 values are NaN"]);
}

#[test]
fn targets() {
    let value = json(&["targets"]);
    assert_eq!(keys(&value), ["version", "host", "cpu", "features", "threads", "targets"]);
    let list = value["targets"].as_array().unwrap();
    let hosts: Vec<&Value> =
        list.iter().filter(|target| target["host"] == true).map(|target| &target["name"]).collect();
    assert_eq!(hosts, [&value["host"]]);
    assert!(list.iter().any(|target| target["name"] == "aarch64" && target["vector_bits"] == 128));
    let text = text(&["targets"]);
    assert_eq!(text.matches("this machine").count(), 1);
    assert_eq!(text.lines().count(), list.len() + 1);
}

/// What `--perf-map` leaves for profilers: the kernels of the process by address, size and name.
#[test]
fn a_perf_map_names_the_kernels() {
    let photo = support::examples().join("photos/stop.jpg");
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_fornax"));
    command.args(["run", MODEL, "--image"]).arg(photo).arg("--perf-map").current_dir(env!("CARGO_MANIFEST_DIR"));
    command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    let path = format!("/tmp/perf-{}.map", child.id());
    assert!(child.wait().unwrap().success());
    let map = std::fs::read_to_string(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    for line in map.lines() {
        let [address, size, name] = line.split(' ').collect::<Vec<_>>()[..] else { panic!("{line}") };
        let [address, size] = [address, size].map(|word| u64::from_str_radix(word, 16).unwrap());
        assert!(address > 0 && size > 0 && name.contains('_'), "{line}");
    }
    assert!(map.contains(" f32_conv_"), "{map}");
}
