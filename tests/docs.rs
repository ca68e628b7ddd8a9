//! Documents name files that there are.
//!
//! In: the documents for contributors. Out: a failure that names the document and the link or path that leads nowhere.

use std::fs;
use std::path::{Path, PathBuf};

#[test]
fn links_and_paths_lead_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents = vec![root.join("README.md"), root.join("CONTRIBUTING.md"), root.join("fuzz/README.md")];
    for folder in ["docs", "docs/internals"] {
        let entries = fs::read_dir(root.join(folder)).expect("a folder of documents");
        documents.extend(entries.map(|entry| entry.expect("an entry").path()).filter(|path| path.is_file()));
    }
    let mut missing = Vec::new();
    for document in &documents {
        let text = fs::read_to_string(document).expect("a document");
        let links = text.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        let links = links.filter(|link| !link.contains("://") && !link.starts_with('#'));
        let beside = document.parent().expect("a folder");
        let mut named: Vec<PathBuf> = links.map(|link| beside.join(link.split('#').next().unwrap_or(link))).collect();
        let source = |word: &&str| {
            let rooms = ["compiler/", "runtime/", "frontends/", "tests/", "benches/", "docs/", "fuzz/"];
            let plain = word.chars().all(|c| c.is_ascii_alphanumeric() || "/._-".contains(c));
            rooms.iter().any(|room| word.starts_with(room)) && word.ends_with(".rs") && plain
        };
        named.extend(text.split('`').skip(1).step_by(2).filter(source).map(|path| root.join(path)));
        missing.extend(named.into_iter().filter(|path| !path.exists()).map(|path| (document.clone(), path)));
    }
    assert!(missing.is_empty(), "{missing:#?}");
}
