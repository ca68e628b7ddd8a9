//! All networks of the golden file: parameters, layers, MACs and shapes of the graphs built from their block tables.

use std::collections::BTreeMap;

use fornax_ir::graph::{Graph, evaluate};
use fornax_ir::ops::literal::Literal;
use fornax_ir::types::{Constant, Payload, TensorType, random_values};
use fornax_scaling::architecture::{
    Activation, Architecture, Block, BlockKind, ConvNorm, Gate, Head, Padding, SqueezeExcite,
};
use fornax_scaling::build::{Outputs, build};
use fornax_scaling::parameters::{Parameter, Role, parameters};
use fornax_scaling::random::Random;
use fornax_scaling::weights::{self, Scheme, Weights};
use serde_json::Value;

use crate::options;
use crate::support::{distance, native, shared};

/// Weights that are never looked at.
struct Placeholder;

impl Weights for Placeholder {
    fn constant(&self, parameter: &Parameter) -> weights::Result<Constant> {
        Ok(Constant::new(TensorType::f32(parameter.shape.clone()), Payload::Random(1)))
    }
}

fn number(value: &Value) -> usize {
    value.as_u64().unwrap_or_else(|| panic!("a number, found {value}")) as usize
}

fn activation(value: &Value) -> Activation {
    match value.as_str().expect("an activation") {
        "silu" => Activation::Silu,
        "relu" => Activation::Relu,
        "relu6" => Activation::Relu6,
        "hardswish" => Activation::HardSwish,
        other => panic!("{other}"),
    }
}

fn block(value: &Value, family: &str) -> Block {
    let activation = activation(&value["act"]);
    let kernels = match &value["kernel"] {
        Value::Array(list) => list.iter().map(number).collect(),
        one => vec![number(one)],
    };
    let (gate, act) = match family {
        "mobilenetv3" => (Gate::HardSigmoid, Activation::Relu),
        _ => (Gate::Sigmoid, activation),
    };
    let squeeze = value["se_reduced"].as_u64();
    Block {
        kind: match value["type"].as_str().expect("a kind") {
            "mbconv" => BlockKind::MbConv,
            "depthwise_separable" => BlockKind::DepthwiseSeparable,
            "fused_mbconv" => BlockKind::FusedMbConv,
            "conv_bn_act" => BlockKind::ConvBnAct,
            other => panic!("{other}"),
        },
        input: number(&value["in"]),
        output: number(&value["out"]),
        expanded: number(&value["expanded"]),
        squeeze_excite: squeeze.map(|reduced| SqueezeExcite { reduced: reduced as usize, activation: act, gate }),
        kernels,
        stride: number(&value["stride"]),
        skip: value["skip"].as_bool().expect("a choice"),
        activation,
        expand_split: value.get("expand_split").map_or(1, number),
        project_split: value.get("project_split").map_or(1, number),
    }
}

fn architecture(name: &str, model: &Value) -> Architecture {
    let family = model["family"].as_str().expect("a family");
    let stages = model["stages"].as_array().expect("stages").iter().map(|stage| {
        let blocks = stage["blocks"].as_array().expect("blocks").iter();
        blocks.flat_map(|b| vec![block(b, family); number(&b["repeats"])]).collect()
    });
    let (stem, head) = (&model["stem"], &model["head"]);
    let output = number(&head["out"]);
    let act = activation(&stem["act"]);
    Architecture {
        name: name.into(),
        family: family.into(),
        side: number(&model["resolution"]),
        channels: 3,
        stem: ConvNorm {
            kernel: number(&stem["kernel"]),
            stride: number(&stem["stride"]),
            output: number(&stem["out"]),
            activation: act,
        },
        stages: stages.collect(),
        head: match head["position"].as_str() {
            Some("before_pool") => Head::BeforePool { output, activation: act },
            _ => Head::AfterPool { output, bias: head["bias"].as_bool().expect("a choice"), activation: act },
        },
        classes: number(&model["classifier"]["out"]),
        padding: if model["padding"] == "symmetric" { Padding::Symmetric } else { Padding::Same },
        eps: model["bn_eps"].as_f64().expect("a number"),
        dropout: 0.0,
    }
}

fn models() -> Option<BTreeMap<String, Value>> {
    let text = std::fs::read(shared("reference/golden_architectures.json")?).expect("a file");
    let file: Value = serde_json::from_slice(&text).expect("a file");
    let models = file["models"].as_object().expect("models");
    Some(models.iter().map(|(name, model)| (name.clone(), model.clone())).collect())
}

fn macs(graph: &Graph) -> u64 {
    let each = graph.ids().filter_map(|id| {
        let types: Vec<&TensorType> = graph.operands(id).iter().map(|o| graph.ty(*o)).collect();
        Some(graph.node(id).op()?.macs(&types, &graph.node(id).ty))
    });
    each.sum()
}

/// What differs between a network's golden figures and its graph.
fn differences(name: &str, model: &Value) -> Vec<String> {
    let architecture = architecture(name, model);
    let list = parameters(&architecture);
    let mut wrong = Vec::new();
    let mut check = |what: String, expected: usize, found: usize| {
        if expected != found {
            wrong.push(format!("{name}: {what}: expected {expected}, found {found}"));
        }
    };
    let trained = list.iter().filter(|p| !matches!(p.role, Role::Mean | Role::Variance));
    check("parameters".into(), number(&model["params"]), trained.map(Parameter::numel).sum());
    for (side, figures) in model["at_resolution"].as_object().expect("figures") {
        let side = side.parse().expect("a side");
        let graph = build(&architecture, &options(1, side, Outputs::Logits), &Placeholder).expect("a graph");
        let count = |mnemonic: &str| graph.ids().filter(|id| graph.node(*id).mnemonic() == mnemonic).count();
        check("convolutions".into(), number(&model["conv_layers"]), count("conv"));
        check("batch norms".into(), number(&model["bn_layers"]), count("batch_norm"));
        check(format!("MACs at {side}"), number(&figures["macs_total"]), macs(&graph) as usize);
        let stages = Outputs::Stages((0..architecture.stages.len()).collect());
        let graph = build(&architecture, &options(1, side, stages), &Placeholder).expect("a graph");
        for (output, id) in graph.outputs() {
            let expected: Vec<usize> =
                figures["shapes_chw"][output].as_array().expect("a shape").iter().map(number).collect();
            check(format!("{output} at {side}"), 1, usize::from(graph.ty(*id).shape[1..] == expected[..]));
        }
    }
    wrong
}

#[test]
fn every_golden_network_is_built() {
    let Some(models) = models() else { return };
    assert_eq!(models.len(), 55);
    let wrong: Vec<String> = models.iter().flat_map(|(name, model)| differences(name, model)).collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Splits, heads after the pooling and every activation compute natively what the evaluator says.
#[test]
fn relatives_compute_natively() {
    let Some(models) = models() else { return };
    for name in ["mixnet_s", "mobilenetv3_small_100", "mobilenetv2_035", "test_efficientnet", "mnasnet_small"] {
        let architecture = architecture(name, &models[name]);
        let graph = build(&architecture, &options(1, 33, Outputs::Logits), &Random { seed: 1 }).expect("a graph");
        let ty = TensorType::f32([1, 3, 33, 33]);
        let pixels = random_values(5, ty.shape.numel()).into_iter().map(f64::from).collect();
        let input = Literal::new_float(ty, pixels);
        let expected = evaluate(&graph, std::slice::from_ref(&input)).expect("results");
        let far = distance(&expected[0], &native(&graph, &input)[0]);
        eprintln!("{name}: {far:.1e}");
        assert!(far <= 1e-4, "{name}: {far}");
    }
}

/// torchvision's relatives: every parameter has a name of its own, and the first and last are those of the library.
#[test]
fn relatives_have_names_in_torchvision() {
    let Some(models) = models() else { return };
    for (model, scheme, expected) in [
        (
            "mobilenetv2_100",
            Scheme::TorchvisionMobileNetV2,
            [
                ("blocks.0.0.conv_dw.weight", "features.1.conv.0.0.weight"),
                ("blocks.0.0.bn2.bias", "features.1.conv.2.bias"),
                ("blocks.1.0.conv_pwl.weight", "features.2.conv.2.weight"),
                ("bn2.running_var", "features.18.1.running_var"),
            ],
        ),
        (
            "mobilenetv3_large_100",
            Scheme::TorchvisionMobileNetV3,
            [
                ("blocks.0.0.conv_dw.weight", "features.1.block.0.0.weight"),
                ("blocks.2.0.se.conv_reduce.bias", "features.4.block.2.fc1.bias"),
                ("blocks.6.0.bn1.weight", "features.16.1.weight"),
                ("conv_head.bias", "classifier.0.bias"),
            ],
        ),
        (
            "mnasnet_100",
            Scheme::TorchvisionMnasNet,
            [
                ("blocks.0.0.conv_pw.weight", "layers.6.weight"),
                ("blocks.1.0.conv_pw.weight", "layers.8.0.layers.0.weight"),
                ("blocks.6.0.bn3.bias", "layers.13.0.layers.7.bias"),
                ("bn2.running_var", "layers.15.running_var"),
            ],
        ),
    ] {
        let architecture = architecture(model, &models[model]);
        let list = parameters(&architecture);
        let names: BTreeMap<String, String> = list
            .iter()
            .map(|p| (scheme.names(&architecture, p).into_iter().next().expect("a name"), p.name.clone()))
            .collect();
        assert_eq!(names.len(), list.len(), "{model}");
        for (canonical, name) in expected {
            assert_eq!(names.get(name).map(String::as_str), Some(canonical));
        }
        let found = Scheme::detect(|name| names.contains_key(name), || names.keys().map(String::as_str));
        assert_eq!(found, Some(scheme));
    }
}

#[test]
fn canonical_names_are_unique() {
    for (name, model) in models().into_iter().flatten() {
        let list = parameters(&architecture(&name, &model));
        let names: std::collections::BTreeSet<&str> = list.iter().map(|p| p.name.as_str()).collect();
        assert_eq!(names.len(), list.len(), "{name}");
    }
}
