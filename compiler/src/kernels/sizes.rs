//! Kernels count bytes by the element: no file of a kernel says how large one is.
//!
//! In: the source of this folder, tests and comments left out. Out: a failure that names the line with a factor of 4, the size of
//! `f32`, or with a name of a fixed type. The size is `element.size()`, or `SINGLE` of what is `f32` whatever the element is.

use std::fs;
use std::path::{Path, PathBuf};

/// Lines that multiply by 4 and do not count bytes, by file: a part of the line, and what it counts.
const OTHERWISE: &[(&str, &str, &str)] = &[
    ("square.rs", "columns[4 * j + k]", "squares are four by four"),
    ("winograd.rs", "target.l2 / 4 * 3", "three quarters of a cache"),
];

/// The source files below a folder.
fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

/// Whether the line has the number 4 as a factor.
fn factor_of_four(line: &str) -> bool {
    let number = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    line.match_indices(['4']).any(|(at, _)| {
        let before = &line[..at];
        let after = line[at + 1..].strip_prefix(".0").unwrap_or(&line[at + 1..]);
        let alone = !before.ends_with(number) && !after.starts_with(number);
        alone && (before.trim_end().ends_with('*') || after.trim_start().starts_with('*'))
    })
}

#[test]
fn bytes_are_counted_by_the_element() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/kernels");
    let mut found = Vec::new();
    for path in sources(&folder) {
        let name = path.strip_prefix(&folder).expect("a file below").to_string_lossy().replace('\\', "/");
        if ["tests.rs", "testing.rs", "sizes.rs"].iter().any(|tests| name.ends_with(tests)) {
            continue;
        }
        let text = fs::read_to_string(&path).expect("a source file");
        let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap_or_default();
        for (number, line) in code.lines().enumerate() {
            let line = line.split("//").next().unwrap_or_default();
            let counted = |(file, part, _): &&(&str, &str, &str)| *file == name && line.contains(part);
            let fixed = line.contains("KernelName::new(DType::");
            if (factor_of_four(line) && !OTHERWISE.iter().any(|other| counted(&other))) || fixed {
                found.push(format!("{name}:{}: {}", number + 1, line.trim()));
            }
        }
    }
    assert!(found.is_empty(), "sizes of elements that are numbers:\n{}", found.join("\n"));
}

#[test]
fn factors_are_told_from_other_numbers() {
    for line in ["e.add(x, (n * 4) as i64)", "4 * n", "let bytes = 4.0 * n;", "(a*4)"] {
        assert!(factor_of_four(line), "{line}");
    }
    for line in ["n * 48", "14 * n", "x4 * n", "n / 4", "4 + n * 3", "1.4 * n", "n * 4.5"] {
        assert!(!factor_of_four(line), "{line}");
    }
}
