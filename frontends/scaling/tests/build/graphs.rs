//! Graphs without any file: form, outputs, seeded weights.

use std::collections::BTreeMap;

use fornax_ir::ops::Op;
use fornax_scaling::architecture::{Activation, Architecture, Block, BlockKind, Gate, Head, Padding, SqueezeExcite};
use fornax_scaling::build::{BuildOptions, Outputs, build};
use fornax_scaling::parameters::parameters;
use fornax_scaling::random::Random;

use crate::options;
use crate::support::{Family, fused, scaled};

#[test]
fn random_weights_are_the_same_everywhere() {
    let architecture = scaled(Family::V1, (1.0, 1.0), 1000, Padding::Same, 1e-3);
    let random = Random { seed: 1 };
    let list = parameters(&architecture);
    let find = |name: &str| list.iter().find(|p| p.name == name).expect("a parameter");
    let stem = random.values(find("conv_stem.weight"));
    assert_eq!(stem, random.values(find("conv_stem.weight")));
    assert_ne!(stem, Random { seed: 2 }.values(find("conv_stem.weight")));
    assert_eq!(stem[..3].iter().map(|v| v.to_bits()).collect::<Vec<_>>(), [3_192_030_314, 1_024_579_863, 987_711_002]);
    let deviation = |name: &str| {
        let values = random.values(find(name));
        (values.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
    };
    for (name, expected) in [
        ("conv_head.weight", (2.0f64 / 1280.0).sqrt()),
        ("blocks.5.2.conv_dw.weight", (2.0f64 / 25.0).sqrt()),
        ("classifier.weight", (1.0f64 / 3000.0).sqrt()),
    ] {
        assert!((deviation(name) / expected - 1.0).abs() < 0.02, "{name}: {} {expected}", deviation(name));
    }
    assert!(random.values(find("classifier.bias")).iter().all(|v| *v == 0.0));
    assert!(random.values(find("bn1.running_var")).iter().all(|v| *v == 1.0));
}

#[test]
fn b0_ends_as_twenty_one_nodes() {
    let architecture = scaled(Family::V1, (1.0, 1.0), 1000, Padding::Same, 1e-3);
    let count: usize =
        parameters(&architecture).iter().filter(|p| !p.name.contains("running")).map(|p| p.numel()).sum();
    assert_eq!((count, parameters(&architecture).len()), (5_288_548, 311));
    let graph = build(&architecture, &BuildOptions::of(&architecture), &Random { seed: 1 }).expect("a graph");
    let after = fused(graph);
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    after.ids().filter_map(|id| after.node(id).op()).for_each(|op| *counts.entry(op.name()).or_default() += 1);
    assert_eq!(counts, BTreeMap::from([("conv", 2), ("gemm", 1), ("mbconv", 16), ("reduce", 1), ("reshape", 1)]));
}

#[test]
fn outputs_are_chosen_by_reduction() {
    let architecture = scaled(Family::V1, (0.25, 0.35), 10, Padding::Same, 1e-3);
    let named = |outputs| -> Result<Vec<String>, String> {
        let graph = build(&architecture, &options(1, 64, outputs), &Random { seed: 1 }).map_err(|e| e.to_string())?;
        Ok(graph.outputs().iter().map(|(name, id)| format!("{name} {}", graph.ty(*id).shape[2])).collect())
    };
    let all = named(Outputs::Reductions(vec![2, 4, 8, 16, 32])).expect("outputs");
    assert_eq!(all, ["stage0 32", "stage1 16", "stage2 8", "stage4 4", "stage6 2"]);
    let error = |outputs| named(outputs).expect_err("a refusal");
    let choices = "reductions: expected one or more of [2, 4, 8, 16, 32], each once, found";
    assert_eq!(error(Outputs::Reductions(vec![3])), format!("{choices} 3"));
    assert_eq!(error(Outputs::Reductions(vec![4, 4])), format!("{choices} 4 twice"));
    assert_eq!(
        error(Outputs::Stages(vec![])),
        "stages: expected one or more of [0, 1, 2, 3, 4, 5, 6], each once, found none"
    );
    let empty = BuildOptions { batch: 0, ..BuildOptions::of(&architecture) };
    let error = build(&architecture, &empty, &Random { seed: 1 }).expect_err("a refusal");
    assert_eq!(error.to_string(), "batch: expected 1 or more, found 0");
}

/// The nodes of a network of one block with split channels, and their shapes.
const SPLIT: &[&str] = &[
    "conv_stem [1,8,5,5]",
    "bn1 [1,8,5,5]",
    "bn1.act [1,8,5,5]",
    "blocks.0.0.conv_pw.0.split [1,4,5,5]",
    "blocks.0.0.conv_pw.0 [1,9,5,5]",
    "blocks.0.0.conv_pw.1.split [1,4,5,5]",
    "blocks.0.0.conv_pw.1 [1,8,5,5]",
    "blocks.0.0.conv_pw [1,17,5,5]",
    "blocks.0.0.bn1 [1,17,5,5]",
    "blocks.0.0.bn1.act [1,17,5,5]",
    "blocks.0.0.conv_dw.0.split [1,9,5,5]",
    "blocks.0.0.conv_dw.0 [1,9,5,5]",
    "blocks.0.0.conv_dw.1.split [1,8,5,5]",
    "blocks.0.0.conv_dw.1 [1,8,5,5]",
    "blocks.0.0.conv_dw [1,17,5,5]",
    "blocks.0.0.bn2 [1,17,5,5]",
    "blocks.0.0.bn2.act [1,17,5,5]",
    "blocks.0.0.se.mean [1,17,1,1]",
    "blocks.0.0.se.conv_reduce [1,4,1,1]",
    "blocks.0.0.se.conv_reduce.act [1,4,1,1]",
    "blocks.0.0.se.conv_expand [1,17,1,1]",
    "blocks.0.0.se.gate [1,17,1,1]",
    "blocks.0.0.se [1,17,5,5]",
    "blocks.0.0.conv_pwl.0.split [1,9,5,5]",
    "blocks.0.0.conv_pwl.0 [1,4,5,5]",
    "blocks.0.0.conv_pwl.1.split [1,8,5,5]",
    "blocks.0.0.conv_pwl.1 [1,4,5,5]",
    "blocks.0.0.conv_pwl [1,8,5,5]",
    "blocks.0.0.bn3 [1,8,5,5]",
    "blocks.0.0.add [1,8,5,5]",
    "global_pool [1,8,1,1]",
    "conv_head [1,16,1,1]",
    "conv_head.act [1,16,1,1]",
    "flatten [1,16]",
    "classifier [1,10]",
];

/// A block of every special kind, in the order of its nodes.
#[test]
fn split_channels_and_late_heads_have_their_form() {
    let squeeze = SqueezeExcite { reduced: 4, activation: Activation::Relu, gate: Gate::HardSigmoid };
    let block = Block {
        kind: BlockKind::MbConv,
        input: 8,
        output: 8,
        expanded: 17,
        squeeze_excite: Some(squeeze),
        kernels: vec![3, 5],
        stride: 1,
        skip: true,
        activation: Activation::HardSwish,
        expand_split: 2,
        project_split: 2,
    };
    let mut architecture = scaled(Family::V1, (0.25, 0.35), 10, Padding::Same, 1e-3);
    architecture.stages = vec![vec![block]];
    architecture.head = Head::AfterPool { output: 16, bias: true, activation: Activation::Relu6 };
    let graph = build(&architecture, &options(1, 9, Outputs::Logits), &Random { seed: 1 }).expect("a graph");
    let graph = graph.renumbered().expect("an order");
    let nodes = graph.ids().filter(|id| graph.node(*id).op().is_some());
    let lines: Vec<String> = nodes.map(|id| format!("{} {}", graph.node(id).name, graph.node(id).ty.shape)).collect();
    assert_eq!(lines, SPLIT);
    let starts = graph.ids().filter_map(|id| match graph.node(id).op() {
        Some(Op::Slice(op)) => Some(op.starts[1]),
        _ => None,
    });
    assert_eq!(starts.collect::<Vec<_>>(), [0, 4, 0, 9, 0, 9]);
}

#[test]
fn absurd_sizes_are_refused() {
    let sound = scaled(Family::V1, (0.25, 0.35), 10, Padding::Same, 1e-3);
    let refused = |architecture: &Architecture, options: &BuildOptions| {
        build(architecture, options, &Random { seed: 1 }).map(drop).expect_err("a refusal").to_string()
    };
    let small = options(1, 32, Outputs::Logits);
    for side in [(1 << 40, 1 << 40), (usize::MAX, 1), (1, usize::MAX)] {
        refused(&sound, &BuildOptions { side, ..small.clone() });
    }
    refused(&sound, &BuildOptions { batch: usize::MAX, ..small.clone() });
    type Change = fn(&mut Block);
    let changes: [Change; 8] = [
        |block| block.kernels = vec![],
        |block| block.kernels = vec![0],
        |block| block.kernels = vec![usize::MAX],
        |block| block.stride = 0,
        |block| block.expanded = usize::MAX,
        |block| block.output = 0,
        |block| block.expand_split = 1000,
        |block| block.project_split = usize::MAX,
    ];
    for padding in [Padding::Same, Padding::Symmetric] {
        for change in changes {
            let mut architecture = Architecture { padding, ..sound.clone() };
            change(&mut architecture.stages[1][0]);
            let error = refused(&architecture, &small);
            assert!(error.starts_with("blocks.1.0"), "{error}");
        }
    }
}
