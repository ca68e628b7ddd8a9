//! A snapshot of a network's graph and plan in a test of your own, with [insta](https://insta.rs).
//!
//! The first run writes `*.snap.new` next to the test; `cargo insta review` shows it and makes it what later runs expect. The target
//! is named, so that the texts are the same on every machine. What is stable, and between what: docs/snapshots.md.

use fornax::{Bindings, Model, Options};

/// The network of this repository, for one target.
fn model() -> fornax::Result<Model> {
    let target = Some("x86-64-v3".parse().expect("a target"));
    Model::open_with("examples/signs.onnx", &Options { target, ..Options::default() })
}

#[test]
fn the_graph_stays() -> fornax::Result<()> {
    let graph = model()?.optimised(&Bindings::default(), None)?.graph;
    insta::assert_snapshot!("graph", graph);
    Ok(())
}

#[test]
fn the_plan_stays() -> fornax::Result<()> {
    let plan = model()?.plan(&Bindings::default())?;
    insta::assert_snapshot!("plan", plan);
    Ok(())
}

/// Not all of a plan need be pinned: here what was fused, and why the rest was not.
#[test]
fn the_remarks_stay() -> fornax::Result<()> {
    let planned = model()?.planned(&Bindings::default(), None)?;
    insta::assert_snapshot!("remarks", fornax::ir::remark::summary(&planned.remarks));
    Ok(())
}
