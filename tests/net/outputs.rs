//! What whole networks compute, as hashes of their output: `<network> <side> <with FMA> <x86-64 without>`.
//!
//! Every target with FMA must find the first hash, so that a machine without AVX-512 checks that target too; it was found on one that
//! has it. Targets that this machine cannot run are named on standard error.

use std::collections::BTreeMap;
use std::fmt::Write;

use xxhash_rust::xxh3::xxh3_64;

use crate::engine::{NETWORKS, Network, Precision, Target, all_targets, targets};
use crate::{bless, committed, full, say, write};

/// The file of a precision's hashes, and the targets that have code of their own for it.
fn file(precision: Precision) -> (&'static str, Vec<Target>) {
    match precision {
        Precision::F32 => ("outputs.txt", targets()),
        Precision::Bf16 => ("outputs_bf16.txt", all_targets()),
    }
}

/// The hashes of a network: with FMA, without.
type Hashes = [Option<u64>; 2];

#[test]
fn outputs_stay() {
    outputs_stay_in(Precision::F32);
}

#[test]
fn outputs_in_bf16_stay() {
    outputs_stay_in(Precision::Bf16);
}

fn outputs_stay_in(precision: Precision) {
    let (file, targets) = file(precision);
    let (run, left): (Vec<&Network>, Vec<&Network>) = NETWORKS.iter().partition(|network| network.fast || full());
    if !left.is_empty() {
        let names: Vec<&str> = left.iter().map(|network| network.name).collect();
        say(&format!("SHORT NET: outputs of {} were not checked; FORNAX_NET=full does", names.join(", ")));
    }
    for target in targets.iter().filter(|target| !target.runs_here()) {
        say(&format!("NOT RUN: outputs for {target}: this machine cannot"));
    }
    let mut expected = read(file, &committed(file));
    let mut wrong = Vec::new();
    for network in run {
        if precision == Precision::F32 {
            save(network);
        }
        let hashes = expected.entry(network.name.into()).or_default();
        check(network, (precision, &targets), hashes, &mut wrong);
    }
    assert!(wrong.is_empty(), "outputs have changed\n{}", wrong.join("\n"));
    if bless() {
        write(file, &print(&expected));
    }
}

/// Holds every target to `expected`; where it becomes what is found, they are still held to each other.
fn check(
    network: &Network,
    (precision, targets): (Precision, &[Target]),
    expected: &mut Hashes,
    wrong: &mut Vec<String>,
) {
    let optimised = network.optimised();
    if bless() {
        *expected = Hashes::default();
    }
    for target in targets.iter().filter(|target| target.runs_here()) {
        let output = optimised.output(precision, target);
        let values = output.to_f64_vec();
        let largest = values.iter().fold(0.0f64, |largest, value| largest.max(value.abs()));
        let sound = values.iter().all(|value| value.is_finite()) && largest > 1e-6;
        let found = xxh3_64(output.bytes());
        let slot = &mut expected[usize::from(!target.fma())];
        if bless() {
            slot.get_or_insert(found);
        }
        if *slot != Some(found) || !sound {
            let expected = slot.map_or("nothing".into(), |hash| format!("{hash:016x}"));
            wrong.push(format!(
                "{} in {precision} for {target}: expected {expected}, found {found:016x}, largest value {largest:.3e}",
                network.name
            ));
        }
    }
}

/// Writes the network to the folder `FORNAX_NET_SAVE`, if there is one.
fn save(network: &Network) {
    if let Some(folder) = std::env::var_os("FORNAX_NET_SAVE") {
        let path = std::path::Path::new(&folder).join(format!("{}.onnx", network.name));
        std::fs::write(&path, network.file()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    }
}

fn read(file: &str, text: &str) -> BTreeMap<String, Hashes> {
    let hash = |word: &str| (word != "-").then(|| u64::from_str_radix(word, 16).expect("a hash"));
    let line = |line: &str| match line.split_whitespace().collect::<Vec<_>>()[..] {
        [name, _, fma, base] => (name.to_string(), [hash(fma), hash(base)]),
        _ => panic!("tests/net/{file}: {line}: expected a name, a side and two hashes"),
    };
    text.lines().filter(|line| !line.starts_with(';')).map(line).collect()
}

fn print(hashes: &BTreeMap<String, Hashes>) -> String {
    let mut text = String::from("; network, side, xxh3 of the output with FMA, and of that of x86-64 without\n");
    for network in NETWORKS {
        let found = hashes.get(network.name).copied().unwrap_or_default();
        let [fma, base] = found.map(|hash| hash.map_or("-".into(), |hash| format!("{hash:016x}")));
        writeln!(text, "{:24} {} {fma} {base}", network.name, network.side).expect("memory");
    }
    text
}
