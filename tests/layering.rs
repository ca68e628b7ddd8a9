//! Housekeeping as tests: the order of modules, and the files that may hold `unsafe`.
//!
//! In: the source tree. Out: a failure that names the file and line. Dependencies point downwards only, and every `unsafe`
//! lives in a file of the list below.

use std::fs;
use std::path::{Path, PathBuf};

/// The crates with an order of modules, from the top. A module names only those below it (and itself).
const ORDERS: &[(&str, &[&str])] = &[
    ("compiler/src", &["emit", "lower", "plan", "kernels", "codegen", "target", "times", "error"]),
    ("compiler/ir/src", &["pipeline", "passes", "graph", "ops", "inputs", "types", "scalar", "error"]),
];

/// The files that may lift `unsafe_code`.
const UNSAFE: &[&str] = &[
    "compiler/src/emit/jit.rs",
    "runtime/src/arena.rs",
    "runtime/src/cpu.rs",
    "runtime/src/library/program.rs",
    "runtime/src/map.rs",
    "runtime/src/peak.rs",
    "runtime/src/program.rs",
    "runtime/src/region.rs",
    "runtime/src/tensor.rs",
    "runtime/tests/allocations.rs",
    "tests/allocations.rs",
    "runtime/tests/float_environment.rs",
    "runtime/tests/support/mod.rs",
];

/// The files that may name Cranelift.
const CRANELIFT: &[&str] = &[
    "compiler/src/codegen/clif.rs",
    "compiler/src/codegen/clif/",
    "compiler/src/emit/mod.rs",
    "compiler/src/emit/jit.rs",
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn sources(folder: &str) -> Vec<PathBuf> {
    let (mut open, mut found) = (vec![root().join(folder)], Vec::new());
    while let Some(dir) = open.pop() {
        for entry in fs::read_dir(&dir).expect("a source folder").map(|e| e.expect("a folder entry").path()) {
            match (entry.is_dir(), entry.extension()) {
                (true, _) => open.push(entry),
                (false, Some(extension)) if extension == "rs" => found.push(entry),
                _ => {}
            }
        }
    }
    found.sort();
    found
}

fn relative(path: &Path) -> String {
    path.strip_prefix(root()).expect("a file of the tree").display().to_string()
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).expect("a source file")
}

#[test]
fn compiler_modules_depend_downwards() {
    let mut wrong = Vec::new();
    let files =
        ORDERS.iter().flat_map(|(root, order)| sources(root).into_iter().map(move |path| (*root, *order, path)));
    for (root, order, path) in files {
        let name = relative(&path);
        if name.ends_with("/testing.rs") || name.ends_with("/tests.rs") {
            continue;
        }
        let inside = name.strip_prefix(root).expect("a file of the crate").trim_start_matches('/');
        let module = inside.split(['/', '.']).next().expect("a module name");
        let Some(rank) = order.iter().position(|m| *m == module) else {
            assert_eq!(module, "lib", "{name}: a module without a place in the order");
            continue;
        };
        let text = read(&path);
        let product = text.split("#[cfg(test)]\nmod ").next().expect("text");
        for (number, line) in product.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//")) {
            for used in line.split("crate::").skip(1) {
                let used = used.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap_or("");
                if order.iter().position(|m| *m == used).is_some_and(|other| other < rank) {
                    wrong.push(format!("{name}:{}: {module} names {used}, which stands above it", number + 1));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn unsafe_has_listed_homes() {
    let mut wrong = Vec::new();
    for path in ["compiler", "runtime", "frontends", "tests"].into_iter().flat_map(sources) {
        let name = relative(&path);
        if name == "tests/layering.rs" {
            continue;
        }
        match (read(&path).contains("allow(unsafe_code"), UNSAFE.contains(&name.as_str())) {
            (true, false) => wrong.push(format!("{name}: lifts unsafe_code, but is not listed")),
            (false, true) => wrong.push(format!("{name}: is listed, but has no unsafe")),
            _ => {}
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn cranelift_stays_behind_few_files() {
    let naming: Vec<String> = ["compiler/src", "runtime/src", "frontends"]
        .into_iter()
        .flat_map(sources)
        .filter(|path| read(path).contains("cranelift_"))
        .map(|path| relative(&path))
        .filter(|name| !CRANELIFT.iter().any(|allowed| name.starts_with(allowed)))
        .collect();
    assert!(naming.is_empty(), "cranelift is named in {naming:?}");
}
