//! A corpus of broken, hostile and odd files: none may panic, and each is refused or accepted as its manifest says.
//!
//! The folder is named by `FORNAX_MALFORMED`; without it the test says so and passes.

use std::path::{Path, PathBuf};

use fornax_ir::inputs::Bindings;
use fornax_onnx::{Error, Limits, OnnxFile};
use serde_json::Value;

/// Broken files whose fault only shows when kernels are chosen may pass the importer, but no more than this many.
const TOLERATED: usize = 6;

fn import(path: &Path) -> Result<(), Error> {
    OnnxFile::open(path, &Limits::default())?.import(&Bindings::default()).map(drop)
}

fn corpus() -> Option<(PathBuf, Vec<Value>)> {
    let Some(folder) = std::env::var_os("FORNAX_MALFORMED").map(PathBuf::from) else {
        eprintln!("SKIPPED: FORNAX_MALFORMED names no folder of malformed models");
        return None;
    };
    let text = std::fs::read_to_string(folder.join("manifest.json")).expect("the corpus has a manifest");
    Some((folder, serde_json::from_str(&text).expect("the manifest is a list of cases")))
}

#[test]
fn every_case_gets_its_verdict() {
    let Some((folder, cases)) = corpus() else { return };
    let (mut refused, mut passed, mut wrong) = (0, Vec::new(), Vec::new());
    for case in &cases {
        let name = case["case"].as_str().expect("cases have names");
        let verdict = import(&folder.join(name).join("model.onnx"));
        let text = verdict.as_ref().map_or_else(Error::to_string, |()| "accepted".into());
        println!("{} {name}: {text}", case["expect"]);
        if text.contains('\n') || text.len() > 1000 {
            wrong.push(format!("{name}: not a one-line message: {text}"));
        }
        match (case["expect"].as_str(), verdict) {
            (Some("reject"), Err(_)) => refused += 1,
            (Some("reject"), Ok(())) => passed.push(name),
            (Some("accept"), Err(e)) => wrong.push(format!("{name}: {e}")),
            _ => {}
        }
    }
    println!("{refused} refused; broken but imported: {passed:?}");
    assert!(wrong.is_empty(), "valid models refused or bad messages:\n{}", wrong.join("\n"));
    assert!(refused > 0 && passed.len() <= TOLERATED, "broken models imported: {passed:?}");
}
