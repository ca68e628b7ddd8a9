//! What fine-tuning takes of memory, and how it keeps to a bound.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use super::training::{bytes, path, photos};

/// Bytes of decoded photos: eight of 96 x 96, and what surrounds the crop.
const PHOTOS: u64 = 1_000_000;

/// Runs `finetune` on the demo's photos: what it said of errors, and the largest resident set, bytes, that was seen.
fn finetune(root: &Path, run: &Path, more: &[&str]) -> (bool, String, u64) {
    let fixed = ["finetune", "examples/signs.onnx", path(root), "-o", path(run), "--batch", "4", "--epochs", "2"];
    let mut command = Command::new(env!("CARGO_BIN_EXE_fornax"));
    command.args([&fixed[..], &["--threads", "2"], more].concat()).current_dir(env!("CARGO_MANIFEST_DIR"));
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut peak = 0;
    while child.try_wait().unwrap().is_none() {
        peak = peak.max(largest(child.id()));
        std::thread::sleep(Duration::from_millis(1));
    }
    let output = child.wait_with_output().unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap(), peak)
}

/// The largest resident set of a process so far, bytes; 0 if it has ended.
fn largest(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|n| n.parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// What the error of a bound that cannot be kept says is possible, in megabytes.
fn least(message: &str) -> u64 {
    let found = message.split_once("--memory: expected at least ").and_then(|(_, rest)| rest.split_once("MB "));
    found.unwrap_or_else(|| panic!("{message}")).0.parse().unwrap()
}

#[test]
fn a_bound_on_memory_is_kept_and_changes_no_bit() {
    let (root, runs) = (photos(4, &["stop", "yield"]), tempfile::tempdir().unwrap());
    let [free, bounded, refused, more] = ["free", "bounded", "refused", "more"].map(|name| runs.path().join(name));
    let (done, message, _) = finetune(root.path(), &free, &["--micro-batch", "4"]);
    assert!(done, "{message}");
    // No process is as small.
    let (done, message, _) = finetune(root.path(), &refused, &["--memory", "1MB"]);
    assert!(!done && message.contains("MB for this network and 1 photo at once, found 1MB"), "{message}");
    assert!(!refused.join("model.safetensors").exists());
    // What is said to be possible is, but for what processes differ by.
    let bound = format!("{}MB", least(&message) + 2);
    let (done, message, peak) = finetune(root.path(), &bounded, &["--memory", &bound]);
    assert!(done, "{bound}: {message}");
    assert!(peak > 0 && peak <= (least_of(&bound)) * 1_000_000 + PHOTOS, "{peak} bytes of {bound}");
    for file in ["model.safetensors", "model.onnx"] {
        assert!(bytes(&free, file) == bytes(&bounded, file), "{file}");
    }
    // So many photos at once take more.
    let (done, message, _) = finetune(root.path(), &more, &["--memory", &bound, "--micro-batch", "4"]);
    assert!(!done && least(&message) > least_of(&bound), "{message}");
}

/// The megabytes of a bound.
fn least_of(bound: &str) -> u64 {
    bound.trim_end_matches("MB").parse().unwrap()
}
