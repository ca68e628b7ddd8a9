//! ONNX's own operator cases, imported and run on the reference evaluator and in native code.
//!
//! The environment variable `FORNAX_CONFORMANCE` names a folder of `<kind>/<case>/{model.onnx, case.json,
//! test_data_set_0/*.pb}`; without it there is nothing to run. A case may pass or be refused; none may be wrong. The cases
//! feed shapes, axes and bounds as graph inputs, which real files hold as constants: a case that is refused is tried
//! again with all but its first input, and then with all of its inputs, made initializers.
//! `FORNAX_CONFORMANCE_ONLY` keeps the cases whose path contains it and prints every refusal.

mod case;
mod engines;

use std::collections::BTreeMap;
use std::path::PathBuf;

use case::{Case, Engine, Verdict};

#[test]
fn no_case_is_wrong() {
    run_all(engines::reference);
}

#[test]
fn no_case_is_wrong_in_native_code() {
    run_all(engines::native);
}

fn run_all(engine: Engine) {
    let Some(root) = std::env::var_os("FORNAX_CONFORMANCE").map(PathBuf::from) else {
        eprintln!("skipped: FORNAX_CONFORMANCE is not set");
        return;
    };
    let only = std::env::var("FORNAX_CONFORMANCE_ONLY").unwrap_or_default();
    let cases: Vec<Case> = case::find(&root).into_iter().filter(|c| c.name.contains(&only)).collect();
    assert!(!cases.is_empty(), "no cases beneath {}", root.display());
    let mut counts: BTreeMap<String, [usize; 3]> = BTreeMap::new();
    let mut wrong = Vec::new();
    let mut refused: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for case in cases {
        let counts = counts.entry(case.tier.clone()).or_default();
        match case.run(engine) {
            Verdict::Pass => counts[0] += 1,
            Verdict::Refused(why) | Verdict::Unsupported(why) => {
                counts[1] += 1;
                refused.entry(why).or_default().push(case.name);
            }
            Verdict::Wrong(why) => {
                counts[2] += 1;
                wrong.push(format!("{}: {why}", case.name));
            }
        }
    }
    for (why, cases) in &refused {
        let shown = if only.is_empty() { cases.len().min(2) } else { cases.len() };
        println!("refused {:4}: {why} [{}]", cases.len(), cases[..shown].join(" "));
    }
    for (tier, [pass, refused, wrong]) in &counts {
        println!("{tier}: {pass} pass, {refused} refused, {wrong} wrong");
    }
    assert!(wrong.is_empty(), "wrong cases:\n{}", wrong.join("\n"));
}
