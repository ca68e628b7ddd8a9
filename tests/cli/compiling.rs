//! `compile`, and every verb on what it wrote.

use std::path::Path;
use std::process::Command;

use fornax::tensors;
use serde_json::Value;

use super::{MODEL, PHOTO, Scratch, fails, fornax, json, keys, text};

/// A folder with `signs.so` and its header.
fn compiled(arguments: &[&str]) -> (Scratch, String) {
    let scratch = Scratch::new();
    let path = scratch.name("signs.so");
    text(&[&["compile", MODEL, "-o", &path], arguments].concat());
    (scratch, path)
}

fn names(folder: &Scratch) -> Vec<String> {
    let entries = std::fs::read_dir(folder.path(".")).unwrap();
    let mut names: Vec<String> = entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[test]
fn every_verb_takes_a_library() {
    let (scratch, so) = compiled(&[]);
    assert_eq!(names(&scratch), ["signs.h", "signs.so"]);
    for arguments in [["--threads", "1"], ["--check", "--cpu=x86-64-v3"], ["--cpu", "x86-64"]] {
        if fornax(&["inspect", MODEL, arguments[1]]).status.code() == Some(4) {
            continue;
        }
        let named = text(&[&["run", &so, "--image", PHOTO], &arguments[..]].concat());
        assert!(named.lines().nth(1).unwrap().trim_start().starts_with("stop "), "{named}");
    }
    let (from_so, from_onnx) = (scratch.name("so.npy"), scratch.name("onnx.npy"));
    let input = "examples/signs.input.npy";
    text(&["run", &so, "--input", input, "--save", &from_so]);
    text(&["run", MODEL, "--input", input, "--save", &from_onnx]);
    let load = |path: &str| tensors::load(path).unwrap().remove(0).tensor;
    assert_eq!(load(&from_so).bytes(), load(&from_onnx).bytes());
    let bench = json(&["bench", &so, "--seconds", "0.01", "--min-runs", "1"]);
    assert!(bench["gflops"].as_f64().unwrap() > 0.0);
    let profile = json(&["profile", &so, "--seconds", "0.01", "--min-runs", "1"]);
    assert!(!profile["kernels"].as_array().unwrap().is_empty());
    assert!(text(&["bench", &so, "--time-passes"]).contains("manifest"));
    let summary = text(&["inspect", &so]);
    assert!(summary.contains("image  f32[1,3,96,96]") && summary.contains("x86-64, x86-64-v3, x86-64-v4"), "{summary}");
    assert_eq!(json(&["inspect", &so, "--stats"])["params"], 418_002);
    fails(&["inspect", &so, "--plan"], 2, "an ONNX file");
    fails(&["run", MODEL, "--check", "--image", PHOTO], 2, "a compiled library");
}

#[test]
fn the_manifest_says_what_a_host_needs() {
    let (_scratch, so) = compiled(&["--dim", "batch=1,8"]);
    let manifest = json(&["inspect", &so])["manifest"].clone();
    let expected = [
        "fornax",
        "name",
        "network",
        "source",
        "architecture",
        "levels",
        "flags",
        "weights",
        "bindings",
        "scores",
        "head",
        "labels",
        "preprocess",
        "metadata",
    ];
    assert_eq!((keys(&manifest), &manifest["name"]), (expected.to_vec(), &Value::from("signs")));
    assert_eq!(manifest["labels"][0], "stop");
    assert_eq!(manifest["preprocess"]["layout"], "NCHW");
    let bindings = manifest["bindings"].as_array().unwrap();
    let input = &bindings[1]["inputs"][0];
    assert_eq!(bindings[1]["dims"], serde_json::json!({"batch": 8}));
    assert_eq!(keys(input), ["name", "dtype", "shape", "bytes", "layout"]);
    assert_eq!(input["shape"], serde_json::json!([8, 3, 96, 96]));
    assert_eq!(input["bytes"], 8 * 3 * 96 * 96 * 4);
}

#[test]
fn every_kind_of_output() {
    let scratch = Scratch::new();
    let kinds = "so,a,obj,header,weights,ir,plan,clif,asm";
    let value = json(&["compile", MODEL, "-o", &scratch.name("net.so"), "--emit", kinds, "--name", "my_net"]);
    let expected = ["net.a", "net.asm", "net.clif", "net.h", "net.ir", "net.o", "net.plan", "net.so", "net.weights"];
    assert_eq!(names(&scratch), expected);
    assert_eq!(value["files"].as_array().unwrap().len(), expected.len());
    let read = |name: &str| std::fs::read_to_string(scratch.path(name)).unwrap();
    assert!(read("net.h").contains("int my_net_run(const fornax_call *call);"));
    assert!(read("net.asm").contains("vmulps") || !cfg!(target_arch = "x86_64"));
    let scratch = Scratch::new();
    text(&["compile", MODEL, "-o", &scratch.name("net"), "--weights", "file", "--emit", "so"]);
    assert_eq!(names(&scratch), ["net", "net.weights"]);
    assert!(text(&["run", &scratch.name("net"), "--image", PHOTO]).contains("stop"));
}

#[test]
fn a_step_has_the_flags_of_a_training() {
    let scratch = Scratch::new();
    let so = scratch.name("net.so");
    let flags = [
        "--train=top:2",
        "--weight-decay=0.01",
        "--optimizer=sgd",
        "--bn=train",
        "--layer-decay=0.8",
        "--clip=2.5",
        "--ema=0.9",
        "--dropout=0.25",
        "--drop-path=0.1",
    ];
    text(&[&["compile", MODEL, "-o", &so, "--dim", "batch=2"][..], &flags].concat());
    let found = json(&["inspect", &so])["manifest"]["flags"].clone();
    let found: Vec<&str> = found.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert!(flags.iter().all(|flag| found.contains(flag)), "{found:?}");
    let header = std::fs::read_to_string(scratch.path("net.h")).unwrap();
    for words in
        ["SGD with momentum 0.9 as Nesterov has it", "gradients clipped to the norm 2.5", "#define NET_STEP_IMAGES 2"]
    {
        assert!(header.contains(words), "{words}: {header}");
    }
    for (more, expected) in [
        (&["--train", "all", "--bn", "stats"][..], "--bn: expected fixed or train"),
        (&["--train", "all", "--bn", "train"], "at least two images at once (--dim)"),
        (&["--train", "head", "--bn", "train"], "--bn: expected fixed or stats"),
        (&["--train", "all", "--dropout", "1"], "--dropout: expected a share"),
        (&["--train", "all", "--clip", "0"], "--clip: expected a norm above 0"),
        (&["--clip", "1"], "--train"),
    ] {
        fails(&[&["compile", MODEL, "-o", &so][..], more].concat(), 2, expected);
    }
}

#[test]
fn it_needs_no_environment_and_no_tools() {
    let scratch = Scratch::new();
    let mut command = Command::new(env!("CARGO_BIN_EXE_fornax"));
    command.env_clear().args(["compile", MODEL, "-o", &scratch.name("a.so")]);
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let (_other, same) = compiled(&["--name", "a"]);
    assert!(std::fs::read(scratch.path("a.so")).unwrap() == std::fs::read(same).unwrap());
}

#[test]
fn options_that_do_not_fit() {
    let scratch = Scratch::new();
    let so = scratch.name("net.so");
    fails(&["compile", MODEL, "-o", &so, "--cpu", "z80"], 2, "multi, native or one of x86-64");
    fails(&["compile", MODEL, "-o", &so, "--target", "riscv64"], 2, "aarch64-unknown-linux-gnu");
    fails(&["compile", MODEL, "-o", &so, "--target", "aarch64-unknown-linux-gnu", "--cpu", "x86-64"], 2, "--cpu");
    fails(&["compile", MODEL, "-o", &scratch.name(".")], 2, "the path of a file");
    fails(&["compile", MODEL, "-o", &scratch.name("absent/")], 2, "the path of a file");
    fails(&["compile", MODEL, "-o", &so, "--name", "1a"], 2, "a C identifier");
    fails(&["compile", MODEL, "-o", &so, "--dim", "width=3"], 2, "a dimension of the model (batch)");
    fails(&["compile", MODEL, "-o", &so, "--dim", "batch=1,1"], 2, "different sets of shapes");
    fails(&["compile", MODEL, "-o", "/nowhere/net.so"], 1, "/nowhere/net");
    fails(&["compile", "README.md", "-o", &so], 1, "README.md");
    let (_other, library) = compiled(&[]);
    fails(&["compile", &library, "-o", &so], 2, "an ONNX file");
    let empty = scratch.file("empty.so", b"");
    fails(&["run", &empty, "--image", PHOTO], 1, "empty.so");
    let text = scratch.file("magic.so", b"\x7fELF and nothing else");
    fails(&["run", &text, "--image", PHOTO], 1, "magic.so");
    fails(&["run", env!("CARGO_BIN_EXE_fornax"), "--image", PHOTO], 1, "note");
    assert_eq!(names(&scratch), ["empty.so", "magic.so"]);
}

#[test]
fn the_model_is_never_written_over() {
    let scratch = Scratch::new();
    let model = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(MODEL)).unwrap();
    for (name, output) in [("net", "net"), ("net.so", "net.so"), ("net.h", "net.so")] {
        let path = scratch.file(name, &model);
        fails(&["compile", &path, "-o", &scratch.name(output)], 2, "another file than the model");
        assert!(std::fs::read(&path).unwrap() == model, "{name}");
        std::fs::remove_file(path).unwrap();
    }
    assert_eq!(names(&scratch), [""; 0]);
}

#[test]
fn names_keep_their_dots() {
    for (output, expected) in [
        ("v1.5", ["v1.5", "v1.5.h"]),
        ("v1.5.so", ["v1.5.h", "v1.5.so"]),
        ("libnet.so.1", ["libnet.so.1", "libnet.so.1.h"]),
        ("net.a", ["net.h", "net.so"]),
    ] {
        let scratch = Scratch::new();
        text(&["compile", MODEL, "-o", &scratch.name(output)]);
        assert_eq!(names(&scratch), expected);
    }
}

#[test]
fn a_library_has_the_levels_it_has() {
    let (_scratch, so) = compiled(&[]);
    for cpu in ["aarch64", "x86-64-fma"] {
        let expected = "one of the library's (x86-64, x86-64-v3, x86-64-v4)";
        fails(&["run", &so, "--cpu", cpu, "--image", PHOTO], 2, expected);
    }
    fails(&["run", &so, "--limit", "arena_bytes=10", "--image", PHOTO], 5, "arena bytes");
}

#[test]
fn exact_is_said_when_compiling() {
    let (_scratch, so) = compiled(&["--exact"]);
    fails(&["run", &so, "--exact", "--image", PHOTO], 2, "--exact");
    let winograd = |arguments: &[&str]| {
        let plan = text(&[&["inspect", "efficientnetv2-s", "--plan"], arguments].concat());
        plan.contains("f32_winograd")
    };
    assert!(winograd(&[]) && !winograd(&["--exact"]));
    let remarks = text(&["inspect", "efficientnetv2-s", "--remarks", "--exact"]);
    assert!(remarks.contains("winograd: only exact algorithms are asked for"), "{remarks}");
}

/// A folder that cannot take the second file keeps the first one out, too.
#[test]
fn all_files_or_none() {
    let scratch = Scratch::new();
    std::fs::create_dir(scratch.path("net.h")).unwrap();
    fails(&["compile", MODEL, "-o", &scratch.name("net.so")], 1, "net.h");
    assert_eq!(names(&scratch), ["net.h"]);
}

/// A file for AVX2 on a processor without, which qemu plays.
#[test]
fn a_lesser_processor_is_told_so() {
    let qemu = Path::new("/usr/bin/qemu-x86_64");
    if !qemu.exists() || !cfg!(target_arch = "x86_64") {
        eprintln!("SKIPPED: there is no {}", qemu.display());
        return;
    }
    let (_scratch, so) = compiled(&["--cpu", "x86-64-v3"]);
    let mut command = Command::new(qemu);
    command.args(["-cpu", "Nehalem", env!("CARGO_BIN_EXE_fornax"), "run", &so, "--image", PHOTO]);
    let output = command.current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.code() == Some(4) && stderr.contains("this processor lacks"), "{stderr}");
}

/// A library in bf16 has the bits of the model in bf16, whatever the level, and half the weights.
#[test]
fn a_library_computes_in_its_precision() {
    let (scratch, so) = compiled(&["--precision", "bf16"]);
    let (single, of_single) = compiled(&[]);
    let size = |path: &str| std::fs::metadata(path).unwrap().len();
    assert!(size(&so) < size(&of_single) * 3 / 4, "{} of {}", size(&so), size(&of_single));
    drop(single);
    let (input, saved) = ("examples/signs.input.npy", scratch.name("y.npy"));
    let computed = |arguments: &[&str]| {
        text(&[&["run"], arguments, &["--input", input, "--save", &saved]].concat());
        tensors::load(&saved).unwrap().remove(0).tensor
    };
    let expected = computed(&[MODEL, "--precision", "bf16"]);
    assert_eq!(computed(&[&so]).bytes(), expected.bytes());
    let (single, narrow) = (computed(&[MODEL]).to_f64_vec(), expected.to_f64_vec());
    let off = single.iter().zip(&narrow).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
    let largest = single.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
    assert!(off > 0.0 && off < 0.02 * largest, "{off} of {largest}");
    for cpu in ["x86-64-fma", "x86-64-v3", "x86-64-v4", "x86-64-amx"] {
        if fornax(&["run", MODEL, "--cpu", cpu, "--input", input]).status.success() {
            assert_eq!(computed(&[MODEL, "--precision", "bf16", "--cpu", cpu]).bytes(), expected.bytes(), "{cpu}");
        }
    }
    let named = text(&["run", MODEL, "--precision", "bf16", "--image", PHOTO]);
    assert!(named.lines().nth(1).unwrap().trim_start().starts_with("stop "), "{named}");
}

#[test]
fn precisions_that_there_are_not_are_refused() {
    fails(&["run", MODEL, "--precision", "f16", "--image", PHOTO], 2, "expected f32 or bf16, found f16");
    let (_scratch, so) = compiled(&[]);
    fails(&["run", &so, "--precision", "bf16", "--image", PHOTO], 2, "has been compiled in one precision");
    fails(&["compile", MODEL, "--train", "head", "--precision", "bf16", "-o", "none.so"], 2, "networks are trained in");
    let photos = "examples/transfer";
    fails(&["finetune", MODEL, photos, "-o", "none", "--precision", "bf16"], 2, "f32, which networks are trained in");
}
