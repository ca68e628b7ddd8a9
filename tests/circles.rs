//! Circles of files: none, but those inside one idea, listed with a reason.
//!
//! In: the source tree. Out: a failure that names the files of a circle and what ties them. A file depends on the file whose module
//! its paths lead to (`use` and inline paths; tests left out). The front of a folder (`x.rs` next to `x/`) may be named by what
//! lies in the folder: the two are one room, and its front has their common words.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Each crate: the name that others use, its root file, and the folders below the root that belong to other crates.
const CRATES: &[(&str, &str, &[&str])] = &[
    ("fornax_runtime", "runtime/src/lib.rs", &[]),
    ("fornax_ir", "compiler/ir/src/lib.rs", &[]),
    ("fornax_compiler", "compiler/src/lib.rs", &[]),
    ("fornax_onnx", "frontends/onnx/src/lib.rs", &[]),
    ("fornax_scaling", "frontends/scaling/src/lib.rs", &[]),
    ("fornax", "frontends/lib.rs", &["frontends/cli", "frontends/onnx", "frontends/scaling"]),
    ("cli", "frontends/cli/main.rs", &[]),
];

/// Circles that may be: each inside one idea.
const ALLOWED: &[(&[&str], &str)] = &[
    (
        &[
            "runtime/src/arena.rs",
            "runtime/src/dtype.rs",
            "runtime/src/error.rs",
            "runtime/src/features.rs",
            "runtime/src/tensor.rs",
        ],
        "the runtime's vocabulary: its error names the types whose constructors return it",
    ),
    (
        &["compiler/src/emit/aot/tables.rs", "compiler/src/emit/aot/weights.rs"],
        "a library's tables: the table of constants is one of them",
    ),
    (
        &["compiler/src/kernels/winograd/emit.rs", "compiler/src/kernels/winograd/output.rs"],
        "one kernel: its loops, and what they do with a strip of outputs",
    ),
];

type Module = Vec<String>;

/// The files of a crate by module path.
struct Crate {
    files: BTreeMap<Module, PathBuf>,
}

fn tree() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read_crate(root: &str, foreign: &[&str]) -> Crate {
    let root = tree().join(root);
    let base = root.parent().expect("a folder").to_path_buf();
    let foreign: Vec<PathBuf> = foreign.iter().map(|folder| tree().join(folder)).collect();
    let (mut open, mut files) = (vec![base.clone()], BTreeMap::new());
    while let Some(folder) = open.pop() {
        for path in fs::read_dir(&folder).expect("a source folder").map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() {
                if !foreign.contains(&path) {
                    open.push(path);
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                files.insert(module(&base, &root, &path), path);
            }
        }
    }
    Crate { files }
}

fn module(base: &Path, root: &Path, path: &Path) -> Module {
    if path == root {
        return Vec::new();
    }
    let inside = path.strip_prefix(base).expect("a file of the crate").with_extension("");
    let mut module: Module = inside.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    if module.last().is_some_and(|name| name == "mod") {
        module.pop();
    }
    module
}

/// The text of a file without comments and without its tests.
fn product(path: &Path) -> String {
    let text = fs::read_to_string(path).expect("a source file");
    let text = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
    let mut kept = String::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        let line = line.split("//").next().unwrap_or_default();
        if line.trim() == "#[cfg(test)]" {
            lines.next();
            continue;
        }
        kept.push_str(line);
        kept.push('\n');
    }
    kept
}

/// Every path that a file names, as segments; `use` trees are spelled out.
fn paths(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find("use ") {
        let before = rest[..at].rsplit('\n').next().unwrap_or_default().trim();
        let starts = before.is_empty() || before.starts_with("pub");
        let statement = &rest[at + 4..];
        let end = statement.find(';').unwrap_or(statement.len());
        if starts {
            spell(&statement[..end], &[], &mut found);
        }
        rest = &statement[end.min(statement.len())..];
    }
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    for piece in text.split(|c: char| !word(c)) {
        if piece.starts_with("crate::") || piece.starts_with("super::") || piece.starts_with("self::") {
            found.push(piece.split("::").map(String::from).collect());
        }
    }
    found
}

/// Spells out one `use` tree below `prefix`.
fn spell(tree: &str, prefix: &[String], found: &mut Vec<Vec<String>>) {
    let tree = tree.trim();
    let Some(brace) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap_or_default();
        let segments = path
            .split("::")
            .map(|s| s.trim().to_string())
            .filter(|s| !s.is_empty() && s != "self" || prefix.is_empty());
        found.push(prefix.iter().cloned().chain(segments).collect());
        return;
    };
    let head = tree[..brace].trim_end_matches(':').split("::").map(|s| s.trim().to_string()).filter(|s| !s.is_empty());
    let prefix: Vec<String> = prefix.iter().cloned().chain(head).collect();
    let inner = &tree[brace + 1..tree.rfind('}').unwrap_or(tree.len())];
    let (mut depth, mut start) = (0, 0);
    for (at, c) in inner.char_indices().chain([(inner.len(), ',')]) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                if !inner[start..at].trim().is_empty() {
                    spell(&inner[start..at], &prefix, found);
                }
                start = (at + 1).min(inner.len());
            }
            _ => {}
        }
    }
}

/// The module that a path leads to from `here`, if it stays in the crate.
fn target(files: &BTreeMap<Module, PathBuf>, here: &Module, path: &[String]) -> Option<Module> {
    let mut at: Module;
    let mut rest = path;
    match path.first()?.as_str() {
        "crate" => {
            at = Vec::new();
            rest = &rest[1..];
        }
        "self" => {
            at = here.clone();
            rest = &rest[1..];
        }
        "super" => {
            at = here.clone();
            while rest.first().is_some_and(|s| s == "super") {
                at.pop();
                rest = &rest[1..];
            }
        }
        first => {
            at = here.clone();
            let child: Module = here.iter().cloned().chain([first.to_string()]).collect();
            if !files.contains_key(&child) {
                return None;
            }
        }
    }
    for segment in rest {
        at.push(segment.clone());
        if !files.contains_key(&at) {
            at.pop();
            break;
        }
    }
    files.contains_key(&at).then_some(at)
}

#[test]
fn files_form_no_circles() {
    let mut found = Vec::new();
    for (name, root, foreign) in CRATES {
        let Crate { files } = read_crate(root, foreign);
        let mut uses: BTreeMap<&Module, BTreeSet<Module>> = BTreeMap::new();
        for (here, path) in &files {
            let targets = paths(&product(path)).into_iter().filter_map(|path| target(&files, here, &path));
            // What lies in a folder may name its front.
            uses.insert(here, targets.filter(|to| to != here && !here.starts_with(to)).collect());
        }
        for circle in circles(&uses) {
            let shown = |module: &Module| {
                let path = &files[module];
                path.strip_prefix(tree()).expect("a file of the tree").display().to_string()
            };
            let circle: BTreeSet<String> = circle.iter().map(shown).collect();
            let allowed = ALLOWED.iter().any(|(files, _)| circle.iter().eq(files.iter()));
            if !allowed {
                found.push(format!("{name}: {}", circle.into_iter().collect::<Vec<_>>().join(", ")));
            }
        }
    }
    for (files, _) in ALLOWED {
        assert!(files.iter().all(|file| tree().join(file).exists()), "listed, but gone: {files:?}");
    }
    assert!(found.is_empty(), "circles of files:\n{}", found.join("\n"));
}

/// The strongly connected sets of more than one module.
fn circles(uses: &BTreeMap<&Module, BTreeSet<Module>>) -> Vec<Vec<Module>> {
    let reach = |from: &Module| {
        let (mut open, mut seen) = (vec![from.clone()], BTreeSet::new());
        while let Some(module) = open.pop() {
            for to in uses.get(&module).into_iter().flatten() {
                if seen.insert(to.clone()) {
                    open.push(to.clone());
                }
            }
        }
        seen
    };
    let reached: BTreeMap<&Module, BTreeSet<Module>> = uses.keys().map(|module| (*module, reach(module))).collect();
    let mut done = BTreeSet::new();
    let mut circles = Vec::new();
    for (module, reached_from) in &reached {
        if !reached_from.contains(*module) || done.contains(*module) {
            continue;
        }
        let circle: Vec<Module> = reached_from
            .iter()
            .filter(|other| reached.get(other).is_some_and(|back| back.contains(*module)))
            .cloned()
            .collect();
        done.extend(circle.iter().cloned());
        circles.push(circle);
    }
    circles
}

#[test]
fn a_circle_would_be_found() {
    let module = |name: &str| vec![name.to_string()];
    let (a, b, c) = (module("a"), module("b"), module("c"));
    let uses = BTreeMap::from([
        (&a, BTreeSet::from([b.clone()])),
        (&b, BTreeSet::from([a.clone(), c.clone()])),
        (&c, BTreeSet::new()),
    ]);
    assert_eq!(circles(&uses), [vec![a.clone(), b.clone()]]);
    let found = paths("use crate::{a::{X, y::Z}, b};\nfn f() { super::c::g() }\n");
    let shown: BTreeSet<String> = found.iter().map(|path| path.join("::")).collect();
    for path in ["crate::a::X", "crate::a::y::Z", "crate::b", "super::c::g"] {
        assert!(shown.contains(path), "{path} in {shown:?}");
    }
}
