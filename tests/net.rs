//! The net under a rebuilding: plans, machine code and outputs of whole networks, as they were committed.
//!
//! In: the networks of the contest, with weights of our own generator: presets with seed 1, a ResNet-50 whose every initialiser is
//! drawn, and some with batch norms and biases drawn anew. Out: a failure that names the network, the target and what has changed.
//!
//! ```text
//! cargo test --workspace --test net                          # what is fast
//! FORNAX_NET=full cargo test --workspace --test net          # every network
//! FORNAX_NET=full FORNAX_BLESS=1 cargo test --workspace --test net     # what is found now becomes what is expected
//! FORNAX_NET=full FORNAX_NET_SAVE=zoo cargo test --workspace --test net outputs     # the networks as files, to race binaries on them
//! ```
//!
//! * `net/plans/<network>.txt`: the plan of every target, without hashes of weights; see [`plans`] for its form.
//! * `net/outputs.txt`, `net/outputs_bf16.txt`: hash of the output, one for all targets with FMA and one for x86-64 without.
//! * `net/kernels.txt`, `net/loops.txt`: hash of the machine code of every distinct kernel; kernels may be renamed, so that only a hash that is gone or
//!   new is a failure.

#[path = "net/code.rs"]
mod code;
#[path = "net/engine.rs"]
mod engine;
#[path = "net/outputs.rs"]
mod outputs;
#[path = "net/plans.rs"]
mod plans;
mod support;

use std::io::Write;
use std::path::PathBuf;

/// A file or folder of the net.
fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/net")
}

/// Whether what is found becomes what is expected.
fn bless() -> bool {
    std::env::var_os("FORNAX_BLESS").is_some_and(|value| value == "1")
}

/// Whether every network runs.
fn full() -> bool {
    match std::env::var("FORNAX_NET").as_deref() {
        Ok("full") => true,
        Ok(other) => panic!("FORNAX_NET={other}: expected full, or nothing"),
        Err(_) => false,
    }
}

/// Says it past the test harness, which keeps what a passing test prints.
fn say(line: &str) {
    // Nobody can be told if standard error is closed.
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// The committed file `name`, empty if there is none yet and this run writes it.
fn committed(name: &str) -> String {
    match std::fs::read_to_string(folder().join(name)) {
        Err(_) if bless() => String::new(),
        read => read.unwrap_or_else(|error| panic!("tests/net/{name}: {error}; FORNAX_BLESS=1 writes it")),
    }
}

fn write(name: &str, text: &str) {
    std::fs::write(folder().join(name), text).unwrap_or_else(|error| panic!("tests/net/{name}: {error}"));
}

/// Up to a dozen lines that are only in `expected` and only in `found`.
fn changes(expected: &str, found: &str) -> String {
    let only = |sign: char, these: &str, those: &str| {
        let mut left: Vec<&str> = those.lines().collect();
        let mut lines = Vec::new();
        for line in these.lines() {
            match left.iter().position(|other| *other == line) {
                Some(at) => drop(left.remove(at)),
                None => lines.push(format!("  {sign} {line}")),
            }
        }
        let more = lines.len().saturating_sub(12);
        lines.truncate(12);
        lines.extend((more > 0).then(|| format!("  {sign} and {more} more")));
        lines
    };
    let (gone, new) = (only('-', expected, found), only('+', found, expected));
    if gone.is_empty() && new.is_empty() {
        "  the same lines in another order".into()
    } else {
        [gone, new].concat().join("\n")
    }
}
