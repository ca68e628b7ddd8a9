//! Everything of the engine that the net touches: networks, plans, machine code, outputs. What is renamed is renamed here.

use std::sync::Arc;

use fornax::{Bindings, Model, Options, ScaledOptions, Tensor};
use fornax_compiler::internals::{KernelName, MachineCode, Spec, compile_kernels, lower};
use fornax_compiler::pipeline::{Form, Numerics, PipelineOptions, optimise, plan_in, run_plan_pass, stages};
use fornax_compiler::{Kernel, KernelCall, LayerKind, Plan, distinct_kernels, jit, parse_plan};
use fornax_ir::graph::Graph;
use fornax_ir::types::random_values;
use fornax_runtime::{Pool, Session, available_threads};
use xxhash_rust::xxh3::xxh3_64;

pub use fornax::{Precision, Target};

use crate::support::onnx::with_shifts;
use crate::support::resnet::resnet50;

/// Where a network comes from.
#[derive(Clone, Copy, Debug)]
enum Source {
    /// A preset with weights of seed 1.
    Preset(&'static str),
    /// The same with batch norms and biases drawn anew: the seed leaves them at 0 and 1.
    Shifted(&'static str),
    /// Ours.
    ResNet50,
}

/// A network of the net, for one image of its own size.
#[derive(Debug)]
pub struct Network {
    /// Its name in the contest.
    pub name: &'static str,
    /// Height and width of the image.
    pub side: usize,
    /// Whether a build with debug assertions compiles and runs it for a target in less than about a second.
    pub fast: bool,
    source: Source,
}

/// A network after all passes.
pub struct Optimised {
    side: usize,
    graph: Graph,
}

/// One distinct kernel of a network.
pub struct KernelCode {
    /// Name of its spec.
    pub name: String,
    /// Whether it is a loop nest.
    pub loops: bool,
    /// Hash of its bytes.
    pub hash: u64,
}

const fn network(name: &'static str, side: usize, source: Source) -> Network {
    Network { name, side, fast: true, source }
}

const fn slow(name: &'static str, side: usize, source: Source) -> Network {
    Network { name, side, fast: false, source }
}

/// The networks: those of the contest, then some with shifts.
pub const NETWORKS: &[Network] = &[
    network("effnet_b0", 224, Source::Preset("efficientnet_b0")),
    network("effnet_b1", 240, Source::Preset("efficientnet_b1")),
    network("effnet_b2", 260, Source::Preset("efficientnet_b2")),
    network("effnet_b3", 300, Source::Preset("efficientnet_b3")),
    slow("effnet_b4", 380, Source::Preset("efficientnet_b4")),
    slow("effnet_b5", 456, Source::Preset("efficientnet_b5")),
    slow("effnet_b6", 528, Source::Preset("efficientnet_b6")),
    slow("effnet_b7", 600, Source::Preset("efficientnet_b7")),
    network("effnet_v2_s", 384, Source::Preset("efficientnetv2_s")),
    network("tf_effnet_b0", 224, Source::Preset("tf_efficientnet_b0")),
    network("effnet_lite0", 224, Source::Preset("efficientnet_lite0")),
    network("tf_effnetv2_b0", 224, Source::Preset("tf_efficientnetv2_b0")),
    network("mobilenetv3_large", 224, Source::Preset("mobilenetv3_large_100")),
    network("mnasnet_100", 224, Source::Preset("mnasnet_100")),
    network("mixnet_s", 224, Source::Preset("mixnet_s")),
    network("mobilenet_v2", 224, Source::Preset("mobilenetv2_100")),
    network("resnet50", 224, Source::ResNet50),
    network("effnet_b0+shifts", 224, Source::Shifted("efficientnet_b0")),
    slow("effnet_v2_s+shifts", 384, Source::Shifted("efficientnetv2_s")),
    network("mobilenetv3_large+shifts", 224, Source::Shifted("mobilenetv3_large_100")),
    network("mixnet_s+shifts", 224, Source::Shifted("mixnet_s")),
];

/// The network called `name`.
pub fn find(name: &str) -> &'static Network {
    NETWORKS.iter().find(|network| network.name == name).expect("a network of the list")
}

/// Every target whose code for `f32` is its own: tile registers are for `bf16`.
pub fn targets() -> Vec<Target> {
    Target::all().filter(|target| !target.vectors().tiles).collect()
}

/// Every target.
pub fn all_targets() -> Vec<Target> {
    Target::all().collect()
}

impl Network {
    fn model(&self) -> Model {
        let scaled = ScaledOptions { seed: 1, ..ScaledOptions::default() };
        let open = |preset| Model::open_with(preset, &Options { scaled, ..Options::default() }).expect("a preset");
        let bytes = match self.source {
            Source::Preset(preset) => return open(preset),
            Source::Shifted(preset) => {
                let file = open(preset).export(&Bindings::default(), false, false).expect("a file");
                with_shifts(&file)
            }
            Source::ResNet50 => resnet50(self.side, 1000),
        };
        Model::from_bytes(bytes, &Options::default()).expect("a model")
    }

    /// The network after all passes.
    pub fn optimised(&self) -> Optimised {
        let graph = self.model().graph(&Bindings::default()).expect("a graph");
        let graph = optimise(graph, &PipelineOptions::default()).expect("passes run").graph;
        Optimised { side: self.side, graph }
    }

    /// The network as an ONNX file.
    pub fn file(&self) -> Vec<u8> {
        self.model().export(&Bindings::default(), false, true).expect("a file").to_vec()
    }
}

impl Optimised {
    fn plan(&self, target: &Target) -> Plan {
        self.plan_in(Precision::F32, target)
    }

    fn plan_in(&self, precision: Precision, target: &Target) -> Plan {
        plan_in(&self.graph, target, Numerics { precision, ..Numerics::default() }).expect("a plan")
    }

    /// The text of the plan for `target`. The names of its kernels read back, and tell what the kernels know.
    pub fn plan_text(&self, target: &Target) -> String {
        let plan = self.plan(target);
        for KernelCall { kernel, .. } in &plan.steps {
            let name: KernelName = kernel.name.parse().expect("a kernel's name");
            assert_eq!((name.to_string(), name.kind()), (kernel.name.clone(), kernel.kind));
            assert_ne!(kernel.kind, LayerKind::Other, "{name}");
        }
        plan.to_string()
    }

    /// Holds the plan for `target` to read back as it prints, and its passes to make the same of a plan that was read.
    pub fn reads_back(&self, precision: Precision, target: &Target) {
        let expected = self.plan_in(precision, target).to_string();
        let again = parse_plan(&expected).unwrap_or_else(|e| panic!("{target}: {e}"));
        assert!(again.to_string() == expected, "{target}: reads back to another plan");
        let numerics = Numerics { precision, ..Numerics::default() };
        let lowered = lower(&self.graph, target, numerics).expect("a plan").to_string();
        let mut read = parse_plan(&lowered).unwrap_or_else(|e| panic!("{target}: {e}"));
        stages()
            .filter(|stage| stage.form == Form::Plan)
            .for_each(|stage| run_plan_pass(&mut read, stage.name).expect("a pass over plans"));
        assert!(read.to_string() == expected, "{target}: passes make another plan of the text");
    }

    /// The distinct kernels for `target`.
    pub fn code(&self, target: &Target) -> Vec<KernelCode> {
        let plan = self.plan(target);
        let (kernels, _) = distinct_kernels(&plan);
        let code = compile_kernels(&kernels, target).expect("machine code");
        let one = |(kernel, code): (&&Kernel, &MachineCode)| KernelCode {
            name: kernel.name.clone(),
            loops: matches!(kernel.spec, Spec::Loops(_)),
            hash: xxh3_64(&code.bytes),
        };
        kernels.iter().zip(&code).map(one).collect()
    }

    /// What code for `target` computes in a precision from a seeded image.
    pub fn output(&self, precision: Precision, target: &Target) -> Tensor {
        let pixels = random_values(7, 3 * self.side * self.side);
        let image = Tensor::from_f32([1, 3, self.side, self.side], &pixels).expect("an image");
        let program = jit::compile(&self.plan_in(precision, target)).expect("a program");
        let pool = Pool::new(available_threads(), false).expect("threads");
        let mut session = Session::new(Arc::new(program), Arc::new(pool)).expect("memory");
        let mut outputs = session.outputs().expect("outputs");
        session.run(&[&image], &mut outputs).expect("a run");
        outputs.remove(0)
    }
}
