//! Every rewrite against the graph that it was given, over the table of passes: a new pass is tried as soon as it is in the table.
//!
//! In: the graphs of `tests/filetests/passes`, and random ones ([`random`]). Their constants and parameters are varied ([`vary`]): nudged,
//! scaled out of range, replaced by infinities, NaN, zeros of both signs, subnormals, the largest. Out: for each pass, and for all in
//! order, that the rewritten graph computes what the graph did ([`compare`]) on inputs of the same kind.

#[path = "../support/compare.rs"]
#[expect(dead_code, reason = "what native code is compared by")]
mod compare;
#[path = "../support/random.rs"]
mod random;
#[path = "../support/rebuild.rs"]
mod rebuild;
#[path = "../support/vary.rs"]
mod vary;

use std::path::PathBuf;

use fornax_ir::graph::{Graph, parse, verify};
use fornax_ir::pipeline::{PASSES, Pass, PipelineOptions, optimise, run_pass};
use fornax_ir::types::Payload;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use vary::Variation;

/// The graphs of the passes' file tests, each with the name of its pass; those without elements, and large ones, are left out.
fn corpus() -> Vec<(String, Graph)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../tests/filetests/passes");
    let mut out = Vec::new();
    for pass in PASSES {
        let folder = root.join(pass.name);
        let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let mut files: Vec<PathBuf> = files.map(|file| file.expect("a file").path()).collect();
        files.sort();
        for file in files.iter().filter(|file| file.extension().is_some_and(|e| e == "ir")) {
            let text = std::fs::read_to_string(file).expect("a readable file");
            let graph = parse(&text).unwrap_or_else(|e| panic!("{}: {e}", file.display()));
            let known = |graph: &Graph| {
                let constants = graph.ids().filter_map(|id| graph.node(id).constant().cloned()).collect::<Vec<_>>();
                constants.iter().all(|c| !matches!(c.payload, Payload::Hash(_)) && c.ty.shape.numel() <= 1 << 14)
            };
            if verify(&graph).is_ok() && known(&graph) {
                out.push((pass.name.to_owned(), graph));
            }
        }
    }
    out
}

/// The bound of a pass: on what it folds; of what a graph may keep for its backward half, nothing.
fn limit(pass: &Pass) -> u64 {
    if pass.name == "rematerialize" { 0 } else { 1 << 16 }
}

#[test]
fn every_pass_rewrites_a_graph_of_the_corpus() {
    let corpus = corpus();
    for pass in PASSES {
        let changes = |graph: &Graph| {
            run_pass(graph.clone(), pass.name, limit(pass)).is_ok_and(|(after, _)| !after.same_as(graph))
        };
        let own = corpus.iter().filter(|(name, _)| name == pass.name);
        assert!(own.map(|(_, graph)| graph).any(changes), "{}: no graph that it rewrites", pass.name);
    }
}

/// Fails where a pass, or all of them in order, make `graph` compute something else.
fn expect_same(graph: &Graph, seed: u64) -> Result<(), TestCaseError> {
    let Some(oracle) = compare::Oracle::new(graph, seed) else { return Ok(()) };
    for pass in PASSES {
        let (after, remarks) = run_pass(graph.clone(), pass.name, limit(pass)).expect("a pass that runs");
        if let Err(difference) = oracle.holds(&after) {
            return Err(TestCaseError::fail(report(pass.name, graph, &after, &remarks, &difference)));
        }
    }
    let optimised = optimise(graph.clone(), &PipelineOptions { fold_limit: 1 << 16, ..PipelineOptions::default() })
        .expect("passes that run");
    oracle.holds(&optimised.graph).map_err(|difference| {
        TestCaseError::fail(report("all passes", graph, &optimised.graph, &optimised.remarks, &difference))
    })
}

fn report(what: &str, before: &Graph, after: &Graph, remarks: &[fornax_ir::Remark], difference: &str) -> String {
    let remarks: String = remarks.iter().map(|remark| format!("; {remark}\n")).collect();
    format!("{what}: {difference}\nbefore:\n{before}\nafter:\n{after}{remarks}")
}

/// The environment's number of cases (`PROPTEST_CASES`), or what the tests of every build can spare.
fn cases(spared: u32) -> ProptestConfig {
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { ProptestConfig::default().cases } else { spared };
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

#[test]
fn rewrites_hold_over_the_corpus() {
    let corpus = corpus();
    for ((name, graph), seed) in corpus.iter().flat_map(|graph| (0..10).map(move |seed| (graph, seed))) {
        expect_same(graph, seed).unwrap_or_else(|e| panic!("{name}, as it is, seed {seed}: {e}"));
    }
    let strategy = (0..corpus.len(), prop::collection::vec(any::<Variation>(), 0..4), any::<u64>());
    let result = TestRunner::new(cases(1500)).run(&strategy, |(at, variations, seed)| {
        let Some(graph) = vary::varied(&corpus[at].1, &variations) else { return Ok(()) };
        expect_same(&graph, seed)
    });
    result.unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn rewrites_hold_over_random_graphs() {
    let strategy = (random::graphs(), prop::collection::vec(any::<Variation>(), 0..4), any::<u64>());
    let result = TestRunner::new(cases(3000)).run(&strategy, |(steps, variations, seed)| {
        let Some(graph) = vary::varied(&random::build(&steps), &variations) else { return Ok(()) };
        expect_same(&graph, seed)
    });
    result.unwrap_or_else(|e| panic!("{e}"));
}
