//! Random graphs of the rewrites' tests in native code: chains behind a convolution or product, gates, residuals, with constants and
//! parameters nudged, scaled out of range and replaced by special values.
//!
//! Results may differ by what changes of constants and inputs by a rounding make of them ([`compare`](crate::compare)). Functions
//! whose error is absolute near zero are left out: what follows may make it as large as it likes. They have tables of their own.

use fornax_ir::graph::Graph;
use fornax_ir::ops::Op;
use fornax_ir::ops::literal::Literal;
use fornax_ir::pipeline::{PipelineOptions, optimise};
use fornax_ir::scalar::UnaryFn;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;

use crate::agree::levels;
use crate::compare::Oracle;
use crate::random::{Step, build, graphs};
use crate::vary::{Variation, varied};

/// Graphs that the tests of every build can spare; `PROPTEST_CASES` asks for another number.
const SPARED: u32 = 400;

fn relative(step: &Step) -> bool {
    let absolute = |f: &UnaryFn| matches!(f, UnaryFn::Sigmoid | UnaryFn::Swish(_));
    !matches!(step, Step::Function(f) | Step::Gate { function: f, .. } if absolute(f))
}

/// Whether terms of a sum may overflow: what becomes of them is then left to their order.
fn overflows(graph: &Graph, inputs: &[Literal]) -> bool {
    let largest = |x: Literal| x.to_f64().into_iter().filter(|v| v.is_finite()).fold(0.0, |m: f64, v| m.max(v.abs()));
    let x = inputs.iter().cloned().map(largest).fold(0.0, f64::max);
    let sums = |op: &Op| matches!(op, Op::Conv(_) | Op::ConvTranspose(_) | Op::MatMul(_) | Op::Gemm(_));
    graph.ids().filter(|id| graph.node(*id).op().is_some_and(sums)).any(|id| {
        let weights = graph.node(graph.operands(id)[1].node).constant().map(Literal::from_constant);
        weights.is_none_or(|w| w.is_ok_and(|w| largest(w) * x * 64.0 > f64::from(f32::MAX)))
    })
}

/// Fails where the optimised graph in native code is not what the graph computes.
fn expect_same(graph: &Graph, seed: u64) -> Result<(), TestCaseError> {
    let Some(oracle) = Oracle::new(graph, seed) else { return Ok(()) };
    let optimised = optimise(graph.clone(), &PipelineOptions::default()).expect("passes that run").graph;
    if overflows(graph, oracle.inputs()) || overflows(&optimised, oracle.inputs()) {
        return Ok(());
    }
    let fault = |error: String| TestCaseError::fail(format!("{error}\nbefore:\n{graph}\nafter:\n{optimised}"));
    let results = levels(&optimised, &[oracle.inputs().to_vec()]).map_err(fault)?;
    for (target, mut found) in results.map_err(fault)? {
        let found: Vec<Vec<f64>> = found.remove(0).iter().map(Literal::to_f64).collect();
        oracle.agrees(&found).map_err(|difference| fault(format!("{target}: {difference}")))?;
    }
    Ok(())
}

#[test]
fn random_graphs() {
    let cases = if std::env::var_os("PROPTEST_CASES").is_some() { ProptestConfig::default().cases } else { SPARED };
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let strategy = (graphs(), prop::collection::vec(any::<Variation>(), 0..4), any::<u64>());
    let result = TestRunner::new(config).run(&strategy, |((producer, weights, mut steps), variations, seed)| {
        steps.retain(relative);
        match varied(&build(&(producer, weights, steps)), &variations) {
            Some(graph) => expect_same(&graph, seed),
            None => Ok(()),
        }
    });
    result.unwrap_or_else(|e| panic!("{e}"));
}
