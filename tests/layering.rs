//! Housekeeping as tests: the order of modules, and the files that may hold `unsafe`.
//!
//! In: the source tree. Out: a failure that names the file and line. Dependencies point downwards only, and every `unsafe`
//! lives in a file of the list below.

use std::fs;
use std::path::{Path, PathBuf};

/// The crates with an order of modules, from the top. A module names only those below it (and itself).
const ORDERS: &[(&str, &[&str])] = &[
    (
        "compiler/src",
        &[
            "internals",
            "pipeline",
            "emit",
            "lower",
            "plan",
            "kernels",
            "codegen",
            "target",
            "numerics",
            "times",
            "error",
        ],
    ),
    (
        "compiler/ir/src",
        &[
            "training",
            "pipeline",
            "differentiate",
            "passes",
            "remark",
            "graph",
            "ops",
            "inputs",
            "types",
            "scalar",
            "error",
        ],
    ),
    ("frontends", &["train", "report", "facade", "classify", "tensors", "images", "files", "error"]),
];

/// Crates of their own in folders of another.
const OTHER_CRATES: &[&str] = &["frontends/cli/", "frontends/onnx/", "frontends/scaling/"];

/// The files that may lift `unsafe_code`.
const UNSAFE: &[&str] = &[
    "compiler/src/emit/jit.rs",
    "runtime/src/arena.rs",
    "runtime/src/cpu.rs",
    "runtime/src/tiles.rs",
    "runtime/src/frame.rs",
    "runtime/src/library/program.rs",
    "runtime/src/map.rs",
    "runtime/src/peak.rs",
    "runtime/src/program.rs",
    "runtime/src/region.rs",
    "runtime/src/tensor.rs",
    "runtime/tests/allocations.rs",
    "tests/allocations.rs",
    "tests/cli/system.rs",
    "runtime/tests/float_environment.rs",
    "runtime/tests/system.rs",
    "runtime/tests/support/mod.rs",
];

/// The files that may name Cranelift.
const CRANELIFT: &[&str] = &["compiler/src/codegen/clif.rs", "compiler/src/codegen/clif/", "compiler/src/emit.rs"];

/// What a level of vector instructions takes: the files that a new one is written into. The first says what it is, and all others
/// but those of its encodings and costs read that. Besides them: a row in `tests/net/` and a snapshot in `tests/filetests/asm/`.
const LEVEL: &[&str] = &[
    "runtime/src/levels.rs",
    "runtime/src/features.rs",
    "compiler/src/target.rs",
    "compiler/src/codegen/clif.rs",
    "compiler/src/codegen/x86/opcodes.rs",
    "compiler/src/codegen/x86/elements.rs",
    "compiler/src/codegen/x86/emit.rs",
    "docs/artifact.md",
];

/// What an output format takes: the files that a new one is written into.
const OUTPUT_FORMAT: &[&str] =
    &["compiler/src/emit/aot/<format>.rs", "compiler/src/emit/aot.rs", "frontends/facade/emit.rs"];

/// What tells that a line of code knows one output format from another.
const FORMAT_WORDS: &[&str] = &["write_archive", "write_object", "Emit::Archive", "Emit::Object", "Emit::Header"];

/// What tells that a line of code knows one level from another: names, features, widths of registers.
const LEVEL_WORDS: &[&str] = &[
    "x86-64-",
    "X86_64_FMA",
    "X86_64_V",
    "avx2",
    "avx512",
    "neon",
    "_ymm",
    "_zmm",
    "YMM",
    "ZMM",
    "lanes == 16",
    "lanes() == 16",
    "lanes == 8",
    "lanes() == 8",
    "lanes >= 16",
    "lanes() >= 16",
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
fn modules_depend_downwards() {
    let mut wrong = Vec::new();
    let files =
        ORDERS.iter().flat_map(|(root, order)| sources(root).into_iter().map(move |path| (*root, *order, path)));
    for (root, order, path) in files {
        let name = relative(&path);
        let other = OTHER_CRATES.iter().any(|folder| name.starts_with(folder));
        if other || name.ends_with("/testing.rs") || name.ends_with("/tests.rs") {
            continue;
        }
        let inside = name.strip_prefix(root).expect("a file of the crate").trim_start_matches('/');
        let module = inside.split(['/', '.']).next().expect("a module name");
        let Some(rank) = order.iter().position(|m| *m == module) else {
            assert_eq!(module, "lib", "{name}: a module without a place in the order");
            continue;
        };
        let text = read(&path);
        for (number, line) in product(&text) {
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

/// The lines of a file that are neither comments nor tests.
fn product(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let product = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
    product.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// The peak measures whatever registers there are.
#[test]
fn a_level_is_said_in_few_files() {
    let mut wrong = Vec::new();
    for path in ["runtime/src", "compiler/src", "compiler/ir/src", "frontends"].into_iter().flat_map(sources) {
        let name = relative(&path);
        let test = name.ends_with("tests.rs") || name.contains("/tests/") || name.ends_with("/testing.rs");
        if test || LEVEL.contains(&name.as_str()) || name == "runtime/src/peak.rs" {
            continue;
        }
        for (number, line) in product(&read(&path)) {
            if LEVEL_WORDS.iter().any(|word| line.contains(word)) {
                wrong.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "levels are told apart outside the files of a level:\n{}", wrong.join("\n"));
    assert!(LEVEL.len() <= 8 && LEVEL.iter().all(|name| root().join(name).exists()));
}

/// `x.rs` next to `x/`. What several test programs or benches share is a `mod.rs`, because Cargo takes `tests/x.rs` for a program.
#[test]
fn modules_with_a_folder_stand_next_to_it() {
    let mut found: Vec<String> = ["compiler", "runtime", "frontends", "tools"]
        .into_iter()
        .flat_map(sources)
        .map(|path| relative(&path))
        .filter(|name| name.ends_with("/mod.rs") && !name.contains("/tests/"))
        .collect();
    found.sort();
    assert_eq!(found, Vec::<String>::new(), "modules in a mod.rs; those with a folder are `x.rs` next to `x/`");
}

#[test]
fn an_output_format_is_said_in_few_files() {
    let mut wrong = Vec::new();
    for path in ["runtime/src", "compiler/src", "compiler/ir/src", "frontends"].into_iter().flat_map(sources) {
        let name = relative(&path);
        if OUTPUT_FORMAT.contains(&name.as_str()) || name.starts_with("compiler/src/emit/aot/") {
            continue;
        }
        for (number, line) in product(&read(&path)) {
            if FORMAT_WORDS.iter().any(|word| line.contains(word)) {
                wrong.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(wrong.is_empty(), "output formats are told apart outside their files:\n{}", wrong.join("\n"));
    assert!(OUTPUT_FORMAT.len() <= 3);
}

/// The recipes for a level and an output format name the files that are held to above.
#[test]
fn recipes_name_the_files_of_levels_and_formats() {
    let page = read(&root().join("docs/internals/add-a-level.md"));
    for (section, files) in [("## A level of vector instructions", LEVEL), ("## An output format", OUTPUT_FORMAT)] {
        let text = page.split(section).nth(1).expect("a section").split("\n## ").next().expect("its text");
        let rows: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect();
        assert_eq!(rows, files, "docs/internals/add-a-level.md: {section}");
    }
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
