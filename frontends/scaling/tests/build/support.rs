//! Architectures from their published tables, test data, and runs of a graph.

use std::path::PathBuf;
use std::sync::Arc;

use fornax_compiler::pipeline::{PipelineOptions, optimise, plan_of};
use fornax_compiler::{Target, jit};
use fornax_ir::graph::Graph;
use fornax_ir::ops::literal::Literal;
use fornax_ir::types::TensorType;
use fornax_runtime::{Pool, Session, Tensor};
use fornax_scaling::architecture::{
    Activation, Architecture, Block, BlockKind, ConvNorm, Gate, Head, Padding, SqueezeExcite,
};

/// A file of the shared test data; `None`, loudly, if it is missing.
pub fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("FORNAX_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let found = root.join(path);
    if found.exists() {
        return Some(found);
    }
    eprintln!("SKIPPED: {} is not there; set FORNAX_SHARED to the shared test data", found.display());
    None
}

/// A row of a table: kind, repeats, kernel, stride, expansion, output channels, squeeze-and-excite.
type Stage = (BlockKind, usize, usize, usize, usize, usize, bool);

/// EfficientNet V1.
const V1: [Stage; 7] = [
    (BlockKind::DepthwiseSeparable, 1, 3, 1, 1, 16, true),
    (BlockKind::MbConv, 2, 3, 2, 6, 24, true),
    (BlockKind::MbConv, 2, 5, 2, 6, 40, true),
    (BlockKind::MbConv, 3, 3, 2, 6, 80, true),
    (BlockKind::MbConv, 3, 5, 1, 6, 112, true),
    (BlockKind::MbConv, 4, 5, 2, 6, 192, true),
    (BlockKind::MbConv, 1, 3, 1, 6, 320, true),
];

/// EfficientNetV2-B0.
const V2: [Stage; 6] = [
    (BlockKind::ConvBnAct, 1, 3, 1, 1, 16, false),
    (BlockKind::FusedMbConv, 2, 3, 2, 4, 32, false),
    (BlockKind::FusedMbConv, 2, 3, 2, 4, 48, false),
    (BlockKind::MbConv, 3, 3, 2, 4, 96, true),
    (BlockKind::MbConv, 5, 3, 1, 6, 112, true),
    (BlockKind::MbConv, 8, 3, 2, 6, 192, true),
];

fn round(channels: usize, width: f64, ten_percent: bool) -> usize {
    let x = channels as f64 * width;
    let n = (((x + 4.0) / 8.0).floor() * 8.0).max(8.0);
    (if ten_percent && n < 0.9 * x { n + 8.0 } else { n }) as usize
}

/// Which table, and how it is read.
#[derive(Clone, Copy, PartialEq)]
pub enum Family {
    V1,
    Lite,
    V2,
}

/// One network of a family.
pub fn scaled(family: Family, (width, depth): (f64, f64), classes: usize, padding: Padding, eps: f64) -> Architecture {
    let lite = family == Family::Lite;
    let table = if family == Family::V2 { &V2[..] } else { &V1[..] };
    let activation = if lite { Activation::Relu6 } else { Activation::Silu };
    let filters = |c| round(c, width, family != Family::V2);
    let fixed = |c| if lite { c } else { filters(c) };
    let stem = ConvNorm { kernel: 3, stride: 2, output: fixed(32), activation };
    let mut input = stem.output;
    let mut stages = Vec::new();
    for (i, (kind, repeats, kernel, stride, expand, output, se)) in table.iter().copied().enumerate() {
        let end = lite && (i == 0 || i == table.len() - 1);
        let repeats = if end { repeats } else { (repeats as f64 * depth).ceil() as usize };
        let output = filters(output);
        let mut blocks = Vec::new();
        for j in 0..repeats {
            let stride = if j == 0 { stride } else { 1 };
            let reduced = (input / 4).max(1);
            let squeeze = SqueezeExcite { reduced, activation, gate: Gate::Sigmoid };
            blocks.push(Block {
                kind,
                input,
                output,
                expanded: input * expand,
                squeeze_excite: (se && !lite).then_some(squeeze),
                kernels: vec![kernel],
                stride,
                skip: stride == 1 && input == output,
                activation,
                expand_split: 1,
                project_split: 1,
            });
            input = output;
        }
        stages.push(blocks);
    }
    let head = Head::BeforePool { output: fixed(1280), activation };
    let name = format!("test_{width}_{depth}");
    let family = "efficientnet".to_string();
    Architecture { name, family, side: 224, channels: 3, stem, stages, head, classes, padding, eps, dropout: 0.2 }
}

/// An `f32` array.
pub fn npy(path: &std::path::Path) -> Literal {
    let bytes = std::fs::read(path).unwrap();
    let header = usize::from(u16::from_le_bytes([bytes[8], bytes[9]]));
    let text = std::str::from_utf8(&bytes[10..10 + header]).unwrap();
    assert!(text.contains("'<f4'") && text.contains("False"), "{text}");
    let shape = text.split(['(', ')']).nth(1).unwrap();
    let shape: Vec<usize> = shape.split(',').filter_map(|d| d.trim().parse().ok()).collect();
    Literal::from_bytes(TensorType::f32(shape), &bytes[10 + header..]).unwrap()
}

/// A graph after the passes.
pub fn fused(graph: Graph) -> Graph {
    optimise(graph, &PipelineOptions::default()).unwrap().graph
}

/// The outputs of a graph's native code.
pub fn native(graph: &Graph, input: &Literal) -> Vec<Literal> {
    let graph = fused(graph.clone());
    let plan = plan_of(&graph, &Target::host().unwrap()).unwrap();
    let program = Arc::new(jit::compile(&plan).unwrap());
    let mut session = Session::new(program, Arc::new(Pool::new(2, false).unwrap())).unwrap();
    let tensor = Tensor::from_bytes(input.ty.dtype, input.ty.shape.clone(), &input.to_bytes()).unwrap();
    let mut outputs = session.outputs().unwrap();
    session.run(&[&tensor], &mut outputs).unwrap();
    let types = graph.outputs().iter().map(|(_, id)| graph.ty(*id).clone());
    types.zip(&outputs).map(|(ty, y)| Literal::from_bytes(ty, y.bytes()).unwrap()).collect()
}

/// The largest difference, over the largest value expected.
pub fn distance(expected: &Literal, found: &Literal) -> f64 {
    assert_eq!(expected.ty, found.ty);
    let (expected, found) = (expected.to_f64(), found.to_f64());
    let largest = expected.iter().fold(0.0f64, |m, v| m.max(v.abs()));
    assert!(found.iter().all(|v| v.is_finite()));
    expected.iter().zip(&found).fold(0.0f64, |m, (e, f)| m.max((e - f).abs())) / largest
}
