//! Machine code, as one hash per distinct kernel and target, in order of the targets; `-` where a target does not use
//! the kernel. Loop nests have a file and a test of their own.
//!
//! A kernel that was renamed and has the same code is the same kernel: only hashes are compared, names tell which one it was.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::LazyLock;

use crate::engine::{KernelCode, find, targets};
use crate::{bless, committed, say, write};

const NETWORKS: [&str; 4] = ["effnet_b0", "mixnet_s", "resnet50", "effnet_v2_s"];

/// The hashes of each kernel, one per target.
type Hashes = BTreeMap<String, Vec<Option<u64>>>;

/// The machine code of all networks: kernels, loop nests.
static FOUND: LazyLock<[Hashes; 2]> = LazyLock::new(|| {
    let mut found = [Hashes::new(), Hashes::new()];
    for network in NETWORKS {
        let network = find(network).optimised();
        let targets = targets();
        for (column, target) in targets.iter().enumerate() {
            for KernelCode { name, loops, hash } in network.code(target) {
                let hashes = found[usize::from(loops)].entry(name.clone());
                let slot = &mut hashes.or_insert_with(|| vec![None; targets.len()])[column];
                assert!(slot.is_none_or(|other| other == hash), "{name} for {target}: two kernels of one name");
                *slot = Some(hash);
            }
        }
    }
    found
});

#[test]
fn machine_code_of_kernels_stays() {
    check("kernels.txt", &FOUND[0]);
}

#[test]
fn machine_code_of_loops_stays() {
    check("loops.txt", &FOUND[1]);
}

fn check(file: &str, found: &Hashes) {
    if bless() {
        return write(file, &print(found));
    }
    let expected = read(file, &committed(file));
    let differences = targets()
        .into_iter()
        .enumerate()
        .filter_map(|(i, target)| differ(&target.to_string(), &column(&expected, i), &column(found, i)));
    let wrong: Vec<String> = differences.collect();
    assert!(wrong.is_empty(), "machine code has changed (tests/net/{file})\n{}", wrong.join("\n"));
    if expected != *found {
        say(&format!(
            "RENAMED: kernels of tests/net/{file} have other names and the same code; FORNAX_BLESS=1 writes the names"
        ));
    }
}

/// The kernels of one target.
fn column(hashes: &Hashes, column: usize) -> BTreeMap<&str, u64> {
    hashes.iter().filter_map(|(name, hashes)| Some((name.as_str(), hashes[column]?))).collect()
}

/// How the code of one target differs, names apart: kernels whose hash has no counterpart.
fn differ(target: &str, expected: &BTreeMap<&str, u64>, found: &BTreeMap<&str, u64>) -> Option<String> {
    let only = |these: &BTreeMap<&str, u64>, those: &BTreeMap<&str, u64>| {
        let mut left: Vec<u64> = those.values().copied().collect();
        // First those of the same name, so that of several kernels with the same code the right one is named.
        let (same, other): (Vec<_>, Vec<_>) = these
            .iter()
            .map(|(name, hash)| (name.to_string(), *hash))
            .partition(|(name, hash)| those.get(name.as_str()) == Some(hash));
        let mut unmatched = same.into_iter().chain(other).collect::<Vec<_>>();
        unmatched
            .retain(|(_, hash)| left.iter().position(|other| other == hash).map(|at| left.swap_remove(at)).is_none());
        unmatched
    };
    let (gone, new) = (only(expected, found), only(found, expected));
    if gone.is_empty() && new.is_empty() {
        return None;
    }
    let mut text = format!("{target}: the code of {} kernels is gone, that of {} is new", gone.len(), new.len());
    for (sign, kernels) in [('-', &gone), ('+', &new)] {
        for (name, hash) in kernels.iter().take(12) {
            write!(text, "\n  {sign} {hash:016x} {name}").expect("memory");
        }
    }
    Some(text)
}

fn read(file: &str, text: &str) -> Hashes {
    let hash = |word: String| (word != "-").then(|| u64::from_str_radix(&word, 16).expect("a hash"));
    let line = |line: &str| {
        let mut words = line.split_whitespace().map(str::to_string);
        let hashes: Vec<Option<u64>> = words.by_ref().take(targets().len()).map(hash).collect();
        let name =
            words.next().unwrap_or_else(|| panic!("tests/net/{file}: {line}: expected a hash per target and a name"));
        (name, hashes)
    };
    text.lines().filter(|line| !line.starts_with(';')).map(line).collect()
}

fn print(hashes: &Hashes) -> String {
    let names: Vec<String> = targets().iter().map(ToString::to_string).collect();
    let mut text = format!("; xxh3 of the machine code for {}, and the kernel\n", names.join(", "));
    for (name, hashes) in hashes {
        for hash in hashes {
            write!(text, "{:16} ", hash.map_or("-".into(), |hash| format!("{hash:016x}"))).expect("memory");
        }
        writeln!(text, "{name}").expect("memory");
    }
    text
}
