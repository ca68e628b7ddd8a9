//! Measuring verbs: `bench` and its assertion, `bench --stdio`, `profile`.

use std::io::{BufRead, BufReader, Lines, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Instant;

use serde_json::Value;

use super::{MODEL, Scratch, fails, fornax, json, keys, text};

/// A running `bench --stdio`.
struct Driven {
    child: Child,
    requests: ChildStdin,
    answers: Lines<BufReader<ChildStdout>>,
}

impl Driven {
    fn new(arguments: &[&str]) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_fornax"));
        command.args(["bench", MODEL, "--stdio"]).args(arguments);
        command.current_dir(env!("CARGO_MANIFEST_DIR")).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let requests = child.stdin.take().unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, requests, answers }
    }

    fn answer(&mut self) -> String {
        self.answers.next().unwrap().unwrap()
    }

    /// Sends a line, and reads one.
    fn ask(&mut self, line: &[u8]) -> String {
        self.requests.write_all(&[line, b"\n"].concat()).unwrap();
        self.answer()
    }

    /// Ends standard input; the process must end well and say nothing more.
    fn end(mut self) {
        drop(self.requests);
        assert!(self.child.wait().unwrap().success() && self.answers.next().is_none());
    }
}

/// Wall and process milliseconds of an answer.
fn latencies(answer: &str) -> Vec<(f64, f64)> {
    let pairs = answer.strip_prefix("lat").unwrap_or_else(|| panic!("{answer}")).split_whitespace();
    let pairs = pairs.map(|pair| pair.split_once(':').unwrap());
    pairs.map(|(wall, cpu)| (wall.parse().unwrap(), cpu.parse().unwrap())).collect()
}

/// The processors that each thread of a process may run on, as the system lists them.
fn affinities(process: u32) -> Vec<String> {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let of = |task: std::fs::DirEntry| {
        let status = std::fs::read_to_string(task.path().join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:")).unwrap();
        line.trim().to_string()
    };
    let mut all: Vec<String> = tasks.map(|task| of(task.unwrap())).collect();
    all.sort();
    all
}

#[test]
fn threads_are_bound_where_they_fill_the_machine_or_when_asked() {
    let cpus = fornax::runtime::allowed_cpus().len();
    if cpus < 2 {
        println!("SKIPPED: expected two processors, found {cpus}");
        return;
    }
    let input = ["--input", "examples/signs.input.npy", "--threads", "2"];
    let bound = |more: &[&str]| {
        let mut driven = Driven::new(&[&input[..], more].concat());
        driven.answer();
        // A worker binds itself when it begins, which a run waits for no more than anything else does.
        driven.ask(b"run 0.05 1");
        let found = affinities(driven.child.id());
        driven.end();
        let single = found.iter().all(|list| list.parse::<usize>().is_ok());
        assert!(found.len() == 2 && (!single || found[0] != found[1]), "{found:?}");
        single
    };
    assert!(bound(&["--pin"]));
    // Two such processes would share two processors of many.
    assert_eq!(bound(&[]), cpus == 2);
}

#[test]
fn drive_speaks_the_protocol() {
    let scratch = Scratch::new();
    let save = scratch.name("y.npy");
    let mut driven = Driven::new(&["--threads", "1", "--input", "examples/signs.input.npy", "--save", &save]);
    let ready = driven.answer();
    let words: Vec<&str> = ready.split(' ').collect();
    let numbers: Vec<f64> = words[1..].iter().map(|word| word.parse().unwrap()).collect();
    assert!(words[0] == "ready" && numbers.len() == 4 && numbers[2] >= numbers[3] && numbers[3] > 0.0, "{ready}");
    assert!(Path::new(&save).exists());
    for least in [4, 1] {
        let times = latencies(&driven.ask(format!("run 0 {least}").as_bytes()));
        assert_eq!(times.len(), least);
        assert!(times.iter().all(|(wall, cpu)| *wall > 0.0 && *cpu >= 0.0), "{times:?}");
    }
    driven.end();
}

#[test]
fn drive_answers_what_it_does_not_know() {
    let mut driven = Driven::new(&["--threads", "1"]);
    driven.answer();
    for line in [
        &b"stop"[..],
        b"",
        b"run",
        b"run 1",
        b"run x 3",
        b"run nan 3",
        b"run -1 3",
        b"run 1 -3",
        b"run 1 2 3",
        b"\xff\xfe",
    ] {
        let answer = driven.ask(line);
        assert!(answer.starts_with("error expected run SECONDS MIN_RUNS, found "), "{answer}");
        assert_eq!(latencies(&driven.ask(b"run 0 2")).len(), 2);
    }
    driven.end();
}

#[test]
fn driven_times_add_up_to_the_time_outside() {
    let mut driven = Driven::new(&["--threads", "1"]);
    driven.answer();
    let mut tries = Vec::new();
    // A busy machine may stop either process between a clock and its line, so one good try will do.
    for _ in 0..20 {
        let begun = Instant::now();
        let answer = driven.ask(b"run 0.3 3");
        let outside = begun.elapsed().as_secs_f64() * 1e3;
        let inside: f64 = latencies(&answer).iter().map(|(wall, _)| wall).sum();
        assert!(inside <= outside + 1.0, "{inside} ms of {outside}");
        tries.push(inside / outside);
        if inside >= 0.8 * outside {
            return driven.end();
        }
    }
    panic!("shares of the time outside that were reported: {tries:?}");
}

#[test]
fn profile_adds_up() {
    let value = json(&["profile", MODEL, "--seconds", "0.05", "--min-runs", "3", "--threads", "2"]);
    let expected =
        "version threads runs wall_ms steps_ms between_ms jitter_ms gflops peak_gflops peaks kernels kinds steps";
    assert_eq!((keys(&value).join(" "), &value["threads"]), (expected.into(), &Value::from(2)));
    let number = |value: &Value, key: &str| value[key].as_f64().unwrap();
    let list = |key: &str| value[key].as_array().unwrap().clone();
    let rest = number(&value, "between_ms") + number(&value, "jitter_ms");
    for rows in ["kernels", "kinds", "steps"] {
        let sum: f64 = list(rows).iter().map(|row| number(row, "ms")).sum();
        assert!((sum - number(&value, "steps_ms")).abs() < 1e-6, "{rows}: {sum}");
        assert!((sum + rest - number(&value, "wall_ms")).abs() < 1e-6, "{rows}: {sum} and {rest}");
    }
    for rows in ["kernels", "kinds"] {
        let calls: u64 = list(rows).iter().map(|row| row["calls"].as_u64().unwrap()).sum();
        assert_eq!(calls, list("steps").len() as u64);
    }
    let kinds: Vec<Value> = list("kinds").iter().map(|row| row["name"].clone()).collect();
    assert!(kinds.contains(&"depthwise convolution".into()) && kinds.contains(&"stem convolution".into()), "{kinds:?}");
    assert!(!kinds.contains(&"other".into()), "{kinds:?}");
    let kernel = &list("kernels")[0];
    assert!(number(kernel, "gflops") >= 0.0 && !kernel["nodes"].as_array().unwrap().is_empty());
    assert!(list("peaks").iter().all(|peak| number(peak, "gflops") > 0.0));
}

#[test]
fn tables_of_profile() {
    let of = |flags: &[&str]| text(&[&["profile", MODEL, "--seconds", "0", "--threads", "1"], flags].concat());
    let both = of(&[]);
    assert!(both.contains("kernel, nodes") && both.contains("kind of layer") && both.contains("f32_"), "{both}");
    assert_eq!(both.matches("between steps").count(), 2);
    let kinds = of(&["--by", "kind"]);
    assert!(!kinds.contains("f32_") && kinds.contains("stem convolution"), "{kinds}");
    let kernels = of(&["--by", "kernel", "--top", "2"]);
    assert_eq!(kernels.matches("f32_").count(), 2, "{kernels}");
    assert!(kernels.contains(" more\n") && !kernels.contains("kind of layer"), "{kernels}");
    let steps = of(&["--by", "step", "--top", "1000"]);
    assert!(steps.contains("  0 f32_conv_") && steps.lines().last().unwrap().ends_with("the median run"), "{steps}");
    fails(&["profile", MODEL, "--by", "layer"], 2, "--by");
    fails(&["profile", MODEL, "--top", "0"], 2, "--top");
    fails(&["profile", MODEL, "--seconds", "-1"], 2, "--seconds");
    fails(&["profile", MODEL, "--threads", "0"], 2, "--threads");
    fails(&["profile", "absent.onnx"], 1, "absent.onnx");
}

#[test]
fn traces_for_chrome() {
    let scratch = Scratch::new();
    let file = scratch.file("trace.json", b"old");
    text(&["profile", MODEL, "--seconds", "0", "--threads", "2", "--trace", &file]);
    let trace: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let events = trace["traceEvents"].as_array().unwrap();
    let tracks: Vec<&Value> = events.iter().filter(|e| e["ph"] == "M").map(|e| &e["args"]["name"]).collect();
    assert_eq!(tracks, ["steps", "thread 0", "thread 1"]);
    let wall = trace["otherData"]["wall_us"].as_f64().unwrap();
    let mut ended = 0.0;
    for slice in events.iter().filter(|e| e["ph"] == "X" && e["tid"] == 0) {
        let (from, length) = (slice["ts"].as_f64().unwrap(), slice["dur"].as_f64().unwrap());
        assert!(from >= ended && from + length <= wall + 1e-3, "{slice}");
        ended = from + length - 1e-3;
        assert!(slice["args"]["GFLOP/s"].is_number() && slice["args"]["node"].is_string(), "{slice}");
    }
    assert!(ended > 0.0);
    fails(&["profile", MODEL, "--seconds", "0", "--trace", &scratch.name("absent/t.json")], 1, "cannot write");
    // Nothing is left behind next to the trace.
    assert_eq!(std::fs::read_dir(scratch.path("")).unwrap().count(), 1);
}

#[test]
fn a_share_of_the_peak_can_be_asserted() {
    let bench = ["bench", MODEL, "--seconds", "0.01", "--threads", "1"];
    let reached = json(&[&bench[..], &["--assert-peak", "0.0001"]].concat());
    assert_eq!(keys(&reached["assert_peak"]), ["percent", "reached", "ok"]);
    assert_eq!(reached["assert_peak"]["ok"], true);
    // No network of small layers comes near the peak.
    let output = fornax(&[&bench[..], &["--assert-peak", "100", "--json"]].concat());
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert_eq!(output.status.code(), Some(3), "{stderr}");
    let value: Value = serde_json::from_str(&stdout).unwrap();
    let verdict = &value["assert_peak"];
    assert_eq!((&verdict["ok"], &verdict["percent"]), (&Value::from(false), &Value::from(100.0)));
    assert!(verdict["reached"].as_f64().unwrap() > 0.0, "{verdict}");
    assert!(stderr.starts_with("error: median run: expected at least 100 %"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
    for percent in ["0", "101", "nan", "-5", "inf", "x", ""] {
        fails(&[&bench[..], &["--assert-peak", percent]].concat(), 2, "--assert-peak");
    }
    fails(&["bench", MODEL, "--stdio", "--assert-peak", "5"], 2, "cannot be used with");
}
