//! The golden networks as specs, and their graphs in both precisions.

use std::path::Path;

use fornax::ir::graph::{Graph, GraphBuilder, ValueId};
use fornax::ir::ops::literal::Literal;
use fornax::ir::types::{DType, TensorType};
use fornax::scaling::architecture::Architecture;
use fornax::scaling::build::{BuildOptions, Outputs, build};
use fornax::scaling::spec::Spec;
use fornax::scaling::weights::{Classifier, Scheme, StateDict, Weights};

/// Name, spec, weights below the golden folder.
const NETWORKS: &[(&str, &str, &str)] = &[
    ("v1_symmetric", "base = 'efficientnet_b0'\nwidth = 0.25\ndepth = 0.35", "v1_weights_timm.safetensors"),
    (
        "v1_tf_same",
        "base = 'efficientnet_b0'\nwidth = 0.25\ndepth = 0.35\npadding = 'same'\neps = 0.001",
        "v1_weights_timm.safetensors",
    ),
    ("v2_tf_same", "base = 'tf_efficientnetv2_b0'\nwidth = 0.25\ndepth = 0.35", "v2_weights_timm.safetensors"),
    ("lite_symmetric", "base = 'efficientnet_lite0'\nwidth = 0.25\ndepth = 0.35", "lite_weights_timm.safetensors"),
    ("mobilenet_v3", MOBILENET_V3, "train2/mobilenet_v3_weights.safetensors"),
];

const MOBILENET_V3: &str = "
width = 0.5
activation = 'hard_swish'
eps = 0.001
squeeze_excite = { of = 'expanded', divisor = 8, activation = 'relu', gate = 'hard_sigmoid' }
stem = { filters = 8, scale = false }
head = { filters = 128, position = 'after_pool', scale = false }
stages = [
  { block = 'depthwise_separable', stride = 2, filters = 16, se = 0.25, activation = 'relu' },
  { stride = 2, expansion = 4, filters = 24, activation = 'relu' },
  { expansion = 3, filters = 24, activation = 'relu', continues = true },
  { kernel = 5, stride = 2, expansion = 4, filters = 40, se = 0.25 },
  { kernel = 5, expansion = 6, filters = 40, se = 0.25, continues = true },
  { kernel = 5, expansion = 3, filters = 48, se = 0.25 },
  { repeats = 2, kernel = 5, stride = 2, expansion = 6, filters = 64, se = 0.25 },
  { block = 'conv_bn_act', kernel = 1, filters = 192, skip = false },
]
";

/// The architecture of a spec, for ten classes.
pub fn architecture(spec: &str) -> Architecture {
    let spec = Spec::parse(&format!("classes = 10\n{spec}"), "test").expect("a spec");
    spec.resolve().expect("an architecture").architecture
}

/// A network with what weights it has.
pub struct Network {
    architecture: Architecture,
    weights: Box<dyn Weights>,
}

impl Network {
    /// A golden network.
    pub fn golden(folder: &Path, name: &str) -> Self {
        let (_, spec, weights) = NETWORKS.iter().find(|network| network.0 == name).expect("a golden network");
        let architecture = architecture(spec);
        let state = StateDict::open(&folder.join(weights), u64::MAX).expect("a state dict");
        let bound = state.bind(&architecture, Scheme::Timm, Classifier::File).expect("weights of the network");
        Self { architecture, weights: Box::new(bound) }
    }

    /// A network of a spec and seeded weights.
    pub fn seeded(spec: &str, seed: u64) -> Self {
        let weights = Box::new(fornax::scaling::random::Random { seed });
        Self { architecture: architecture(spec), weights }
    }

    /// Its graph for an input `[images, channels, height, width]`.
    pub fn graph(&self, shape: [usize; 4], outputs: Outputs) -> Graph {
        let options = BuildOptions { batch: shape[0], side: (shape[2], shape[3]), outputs };
        build(&self.architecture, &options, &*self.weights).expect("a graph")
    }
}

/// The same network over `f64`.
pub fn widened(graph: &Graph) -> Graph {
    let mut b = GraphBuilder::new(&graph.name);
    let mut values = std::collections::HashMap::new();
    let wide = |ty: &TensorType| TensorType::new(DType::F64, ty.shape.clone());
    for id in graph.topological().expect("an order") {
        let node = graph.node(id);
        let made: Vec<ValueId> = match (node.constant(), node.op()) {
            (Some(constant), _) => {
                let elements = Literal::from_constant(constant).expect("elements").to_f64();
                vec![b.constant(&node.name, Literal::new_float(wide(&constant.ty), elements).to_constant())]
            }
            (_, Some(op)) => {
                let operands: Vec<ValueId> = graph.operands(id).iter().map(|operand| values[operand]).collect();
                let names: Vec<&str> = node.results().map(|(name, _)| name).collect();
                b.ops_from(&names, op.clone(), &operands, Vec::new()).expect("an operator")
            }
            _ => vec![b.input_of(&node.name, wide(&node.ty))],
        };
        values.extend(graph.values(id).zip(made));
    }
    graph.outputs().iter().for_each(|(name, value)| b.output(name, values[value]));
    b.finish()
}
