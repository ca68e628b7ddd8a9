//! Housekeeping as a test: every selection of packages builds its dependencies with the same features.
//!
//! In: what `cargo tree` says of the default members, of each member by itself, and of the workspace. Out: a failure that
//! names the dependency whose features differ, which would be compiled once per selection, and all that stands on it.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

/// The sets of features of each dependency in a selection; several where proc macros and build scripts have their own.
type Selected = BTreeMap<String, BTreeSet<String>>;

/// The dependencies of a selection; development dependencies count as when testing.
fn tree(selection: &[&str], edges: &str) -> Selected {
    let output = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args([
            "tree",
            "--offline",
            "--locked",
            "--quiet",
            "--prefix",
            "none",
            "--format",
            "{p}\t{f}",
            "--edges",
            edges,
        ])
        .args(selection)
        .output()
        .expect("cargo");
    assert!(output.status.success(), "cargo tree {selection:?}: {}", String::from_utf8_lossy(&output.stderr));
    let mut selected = Selected::new();
    for line in String::from_utf8(output.stdout).expect("text").lines().filter(|line| !line.is_empty()) {
        let (package, features) = line.trim_end_matches(" (*)").split_once('\t').expect("a package and its features");
        selected.entry(package.to_string()).or_default().insert(features.to_string());
    }
    selected
}

/// The names of the members but `fornax-features`, which nobody selects by itself.
fn members() -> Vec<String> {
    let depth = ["--workspace", "--depth", "0"];
    let names = tree(&depth, "normal").into_keys().filter_map(|package| package.split(' ').next().map(String::from));
    names.filter(|name| name != "fornax-features").collect()
}

#[test]
fn dependencies_are_built_once() {
    let whole = tree(&["--workspace"], "normal,build,dev");
    let members = members();
    assert!(members.len() >= 5, "{members:?}");
    let mut selections = vec![("cargo build".to_string(), tree(&[], "normal,build"))];
    for name in &members {
        selections.push((format!("cargo test -p {name}"), tree(&["-p", name], "normal,build,dev")));
    }
    let mut wrong = Vec::new();
    for (selection, selected) in &selections {
        for (package, features) in selected {
            for features in features.difference(&whole[package]) {
                wrong.push(format!("{selection}: {package} has [{features}], elsewhere {:?}", whole[package]));
            }
        }
    }
    assert!(wrong.is_empty(), "ask for the union in tools/features/Cargo.toml:\n{}", wrong.join("\n"));
}

#[test]
fn an_embedding_program_builds_no_command_line() {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/jit/Cargo.toml");
    let crates = tree(&["--manifest-path", manifest], "normal,build");
    let has = |name: &str| crates.keys().any(|package| package.split(' ').next() == Some(name));
    for name in ["clap", "indicatif", "image", "libjpeg-turbo-rs", "zip"] {
        assert!(!has(name), "{name} is built without the default features");
    }
    assert!(has("cranelift-codegen") && has("fornax-onnx"));
    let readme = include_str!("../README.md");
    let said = format!("{} crates", crates.len());
    assert!(readme.contains(&said), "README.md should say that such a program builds {said}");
}

/// The crates of a member that is built by itself.
fn crates_of(member: &str) -> Vec<String> {
    tree(&["-p", member], "normal")
        .into_keys()
        .filter_map(|package| package.split(' ').next().map(String::from))
        .collect()
}

#[test]
fn the_graph_needs_no_code_generator() {
    for (member, most) in [("fornax-ir", 32), ("fornax-onnx", 40), ("fornax-scaling", 55)] {
        let crates = crates_of(member);
        assert!(crates.len() <= most, "{member}: {} crates, at most {most}: {crates:?}", crates.len());
        let foreign = crates
            .iter()
            .find(|name| name.starts_with("cranelift") || *name == "iced-x86" || *name == "fornax-compiler");
        assert_eq!(foreign, None, "{member}");
    }
}
