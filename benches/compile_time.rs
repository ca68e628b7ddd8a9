//! From an ONNX file in memory to callable code, stage by stage: the demo network, and EfficientNet-B0 as both PyTorch exporters
//! write it.
//!
//! `cargo bench --bench compile_time -- [stage or network]…`

#[path = "../tests/support/mod.rs"]
mod support;

use std::fmt;
use std::sync::LazyLock;

use bytes::Bytes;
use divan::Bencher;
use fornax::compiler::pipeline::{PipelineOptions, optimise, plan_of};
use fornax::compiler::{Plan, jit};
use fornax::ir::graph::Graph;
use fornax::{Bindings, Limits, Model, Options, Target};
use fornax_onnx::OnnxFile;
use support::efficientnet::{Exporter, Padding, b0};

/// The bytes of a model file.
#[derive(Clone)]
struct Network {
    name: &'static str,
    bytes: Bytes,
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

static NETWORKS: LazyLock<Vec<Network>> = LazyLock::new(|| {
    let signs = std::fs::read(support::examples().join("signs.onnx")).expect("the demo");
    let b0 = |exporter| b0(exporter, Padding::Symmetric, 224, 1000);
    vec![
        Network { name: "signs", bytes: signs.into() },
        Network { name: "b0_torchscript", bytes: b0(Exporter::TorchScript).into() },
        Network { name: "b0_dynamo", bytes: b0(Exporter::Dynamo).into() },
    ]
});

impl Network {
    fn graph(&self) -> Graph {
        let file = OnnxFile::from_bytes(self.bytes.clone(), None, &Limits::default()).expect("a model");
        file.import(&Bindings::default()).expect("a graph")
    }

    fn optimised(&self) -> Graph {
        optimise(self.graph(), &PipelineOptions::default()).expect("a graph").graph
    }

    fn plan(&self) -> Plan {
        plan_of(&self.optimised(), &Target::host().expect("a supported host")).expect("a plan")
    }
}

/// Everything, as a session does it.
#[divan::bench(args = NETWORKS.iter().cloned())]
fn all(bencher: Bencher<'_, '_>, network: &Network) {
    bencher.bench(|| {
        let model = Model::from_bytes(network.bytes.clone(), &Options::default()).expect("a model");
        model.bind(&Bindings::default()).expect("a program")
    });
}

/// Bytes to graph.
#[divan::bench(args = NETWORKS.iter().cloned())]
fn import(bencher: Bencher<'_, '_>, network: &Network) {
    bencher.bench(|| network.graph());
}

/// Graph to optimised graph.
#[divan::bench(args = NETWORKS.iter().cloned())]
fn passes(bencher: Bencher<'_, '_>, network: &Network) {
    let graph = network.graph();
    let options = PipelineOptions::default();
    bencher.with_inputs(|| graph.clone()).bench_values(|graph| optimise(graph, &options).expect("a graph"));
}

/// Optimised graph to plan.
#[divan::bench(name = "lower", args = NETWORKS.iter().cloned())]
fn lowering(bencher: Bencher<'_, '_>, network: &Network) {
    let (graph, target) = (network.optimised(), Target::host().expect("a supported host"));
    bencher.bench(|| plan_of(&graph, &target).expect("a plan"));
}

/// Plan to program: machine code and packed weights.
#[divan::bench(args = NETWORKS.iter().cloned())]
fn emit(bencher: Bencher<'_, '_>, network: &Network) {
    let plan = network.plan();
    bencher.bench(|| jit::compile(&plan).expect("a program"));
}

fn main() {
    divan::main();
}
