//! The recipes of `docs/internals` as templates that compile: one new thing for each, with its tests, in as few files as the recipe says.
//!
//! In: `tests/templates/<recipe>`, laid out as the tree. Out: a failure where a template no longer fits, compiles or passes, touches more
//! files than its recipe may, or where the recipe's table names other files. A file that ends in `.edit` says what is added to a file of
//! the tree: `@after LINE` and `@before LINE` name the one line of that text, `@end` the end of the file; the lines that follow are new.
//!
//! All templates together are put into a copy of the sources and built there at once, with the dependencies that this test was built with.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A recipe: its template, the page that links it, and the most files that it may touch, tests left out.
struct Recipe {
    template: &'static str,
    page: &'static str,
    most: usize,
}

const fn recipe(template: &'static str, page: &'static str, most: usize) -> Recipe {
    Recipe { template, page, most }
}

const RECIPES: &[Recipe] = &[
    recipe("onnx-operator", "add-an-operator.md", 2),
    recipe("scalar-function", "add-an-operator.md", 4),
    recipe("operator", "add-an-operator.md", 5),
    recipe("operator-with-lowering", "add-an-operator.md", 7),
    recipe("pass", "add-a-pass.md", 3),
    recipe("kernel", "add-a-kernel.md", 3),
];

/// What the copy is made of: all that the manifest of the workspace names.
const SOURCES: &[&str] =
    &["Cargo.toml", "Cargo.lock", "benches", "compiler", "examples", "frontends", "runtime", "tests", "tools"];

/// The tests of the templates: packages, what of them is tested, and the names that are asked for.
const RUNS: &[(&str, &[&str])] = &[
    ("fornax-ir", &["--lib", "--", "template_"]),
    ("fornax-compiler", &["--lib", "--test", "native", "--", "template_", "codegen::math"]),
    ("fornax-onnx", &["--test", "operators", "--", "template_"]),
];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// Every file below `folder`, relative to it.
fn files(folder: &Path) -> Vec<PathBuf> {
    let (mut open, mut found) = (vec![folder.to_path_buf()], Vec::new());
    while let Some(folder) = open.pop() {
        for path in fs::read_dir(&folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            if path.is_dir() { open.push(path) } else { found.push(path) }
        }
    }
    found.sort();
    found.iter().map(|path| path.strip_prefix(folder).expect("a file below the folder").to_path_buf()).collect()
}

/// The files of a template: where each stands, the file of the tree that it makes or adds to, and whether it adds.
fn touched(template: &str) -> Vec<(PathBuf, String, bool)> {
    let folder = root().join("tests/templates").join(template);
    let file = |path: PathBuf| {
        let name = path.display().to_string();
        let target = name.strip_suffix(".edit").unwrap_or(&name).to_string();
        (folder.join(&path), target.clone(), target != name)
    };
    files(&folder).into_iter().map(file).collect()
}

fn is_test(path: &str) -> bool {
    path.split('/').any(|part| part == "tests")
}

/// `text` with the lines that `edit` adds, or puts instead of one.
fn edited(text: &str, edit: &str, name: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    let mut at = None;
    for line in edit.lines() {
        let anchor = |place: &str| {
            let found: Vec<usize> = (0..lines.len()).filter(|i| lines[*i].trim() == place.trim()).collect();
            let [line] = found[..] else { panic!("{name}: expected one line `{place}`, found {}", found.len()) };
            line
        };
        if let Some(place) = line.strip_prefix("@after ") {
            at = Some(anchor(place) + 1);
        } else if let Some(place) = line.strip_prefix("@before ") {
            at = Some(anchor(place));
        } else if let Some(place) = line.strip_prefix("@instead ") {
            // What the tree has made otherwise.
            let line = anchor(place);
            lines.remove(line);
            at = Some(line);
        } else if line == "@end" {
            at = Some(lines.len());
        } else {
            let next =
                at.unwrap_or_else(|| panic!("{name}: expected @after, @before, @instead or @end, found `{line}`"));
            lines.insert(next, line);
            at = Some(next + 1);
        }
    }
    lines.join("\n") + "\n"
}

/// The folder of Cargo's output that this test lies in.
fn target() -> PathBuf {
    let test = std::env::current_exe().expect("a test that is a file");
    test.ancestors().nth(3).expect("target/profile/deps").to_path_buf()
}

/// Writes a file unless it is there with these bytes, so that nothing is built again that is the same.
fn write(path: &Path, bytes: &[u8]) {
    if fs::read(path).is_ok_and(|found| found == bytes) {
        return;
    }
    fs::create_dir_all(path.parent().expect("a folder")).expect("a new folder");
    fs::write(path, bytes).expect("a new file");
}

/// The sources with every template, in a folder of their own.
fn copy() -> PathBuf {
    let folder = target().join("templates");
    let mut texts: Vec<(String, Vec<u8>)> = Vec::new();
    for source in SOURCES {
        let path = root().join(source);
        let below = if path.is_dir() { files(&path) } else { vec![PathBuf::new()] };
        for file in below.into_iter().filter(|file| !file.starts_with("target")) {
            let name = Path::new(source).join(&file).display().to_string().trim_end_matches('/').to_string();
            let bytes = fs::read(root().join(&name)).unwrap_or_else(|e| panic!("{name}: {e}"));
            texts.push((name, bytes));
        }
    }
    for Recipe { template, .. } in RECIPES {
        for (path, name, adds) in touched(template) {
            let known = texts.iter_mut().find(|(known, _)| *known == name);
            match (known, adds) {
                (Some((_, bytes)), true) => {
                    let text = String::from_utf8(std::mem::take(bytes)).expect("text");
                    *bytes = edited(&text, &read(&path), &path.display().to_string()).into_bytes();
                }
                (None, false) => texts.push((name, read(&path).into_bytes())),
                (Some(_), false) => panic!("{}: {name} is there already", path.display()),
                (None, true) => panic!("{}: there is no {name}", path.display()),
            }
        }
    }
    if folder.exists() {
        for file in files(&folder).iter().filter(|file| !texts.iter().any(|(name, _)| Path::new(name) == *file)) {
            fs::remove_file(folder.join(file)).expect("a file that is no longer needed");
        }
    }
    for (name, bytes) in texts {
        // Unoptimised, without debug information: the dependencies, which have a profile of their own, stay as they are.
        let bytes = match name.as_str() {
            "Cargo.toml" => String::from_utf8(bytes)
                .expect("text")
                .replace("[profile.dev]\nopt-level = 1\ndebug = \"line-tables-only\"", "[profile.dev]\ndebug = false")
                .into_bytes(),
            _ => bytes,
        };
        write(&folder.join(name), &bytes);
    }
    folder
}

#[test]
fn templates_compile_and_pass() {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    if Command::new(&cargo).arg("--version").output().is_err() {
        eprintln!("SKIPPED: there is no cargo: {}", cargo.display());
        return;
    }
    let folder = copy();
    for (package, arguments) in RUNS {
        let output = Command::new(&cargo)
            .args(["test", "--offline", "--locked", "--quiet", "-p", package])
            .args(*arguments)
            .current_dir(&folder)
            .env("CARGO_TARGET_DIR", target())
            .output()
            .expect("cargo");
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{package}: {err}\n{out}");
        assert!(!out.contains("running 0 tests"), "{package}: no test of a template:\n{out}");
    }
}

/// The text of a section, by the link to its template, up to that link.
fn section(page: &str, template: &str) -> String {
    let text = read(&root().join("docs/internals").join(page));
    let link = format!("(../../tests/templates/{template})");
    let (before, _) = text.split_once(&link).unwrap_or_else(|| panic!("{page}: expected a link {link}"));
    let start = before.rfind("\n## ").or_else(|| before.find("# ")).unwrap_or(0);
    before[start..].to_string()
}

/// Whether a path is what a row of a recipe says, in which `<…>` stands for any name.
fn matches(pattern: &str, path: &str) -> bool {
    match pattern.split_once('<').and_then(|(before, rest)| Some((before, rest.split_once('>')?.1))) {
        Some((before, after)) => {
            let middle = path.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
            middle.is_some_and(|name| !name.is_empty() && !name.contains('/'))
        }
        None => pattern == path,
    }
}

#[test]
fn recipes_name_the_files_of_their_templates() {
    for Recipe { template, page, most } in RECIPES {
        let text = section(page, template);
        let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let rows: BTreeSet<&str> = rows.collect();
        let touched: Vec<String> = touched(template).into_iter().map(|(_, name, _)| name).collect();
        let product: Vec<&String> = touched.iter().filter(|name| !is_test(name)).collect();
        assert!(product.len() <= *most, "{template}: at most {most} files, found {product:#?}");
        for row in &rows {
            // A row of any name means none of the files that have a row of their own.
            let own = |name: &str| row.contains('<') && rows.contains(name);
            let of = product.iter().filter(|name| matches(row, name) && !own(name)).count();
            assert_eq!(of, 1, "{page}: {row}: files of the template {template}: {product:#?}");
        }
        assert_eq!(rows.len(), product.len(), "{page}: {rows:#?} for the template {template}: {product:#?}");
    }
}

#[test]
fn lines_are_added_where_an_edit_says() {
    let text = "a\n    b\nc\n";
    assert_eq!(edited(text, "@after b\nx\ny\n@before a\nz\n@end\nlast\n", "test"), "z\na\n    b\nx\ny\nc\nlast\n");
    assert_eq!(edited(text, "@instead b\nx\n", "test"), "a\nx\nc\n");
    assert!(matches("ops/<op>.rs", "ops/lrn.rs") && !matches("ops/<op>.rs", "ops/a/b.rs"));
}
