//! Every network of the golden file, resolved from its preset and counted; rounding on every vector.

use std::path::PathBuf;

use fornax_scaling::architecture::{Activation, Architecture, Block, BlockKind, Head, Padding};
use fornax_scaling::count::{Counts, count};
use fornax_scaling::rounding::{RepeatRounding, Rounding, round_filters, round_repeats};
use fornax_scaling::spec::Spec;
use serde_json::{Value, json};

/// The golden file; `None`, loudly, if it is missing.
fn golden() -> Option<Value> {
    let root = std::env::var_os("FORNAX_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../../shared"), PathBuf::from);
    let path = root.join("reference/golden_architectures.json");
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("SKIPPED: {} is not there; set FORNAX_SHARED to the shared test data", path.display());
        return None;
    };
    Some(serde_json::from_str(&text).unwrap())
}

fn resolve(name: &str) -> Architecture {
    Spec::preset(name).and_then(|spec| spec.resolve()).unwrap_or_else(|error| panic!("{name}: {error}")).architecture
}

fn act(activation: Activation) -> &'static str {
    match activation {
        Activation::Relu => "relu",
        Activation::Relu6 => "relu6",
        Activation::Silu => "silu",
        Activation::HardSwish => "hardswish",
    }
}

/// A block as the golden file writes it, without its repeats.
fn row(block: &Block) -> Value {
    let kind = match block.kind {
        BlockKind::MbConv => "mbconv",
        BlockKind::DepthwiseSeparable => "depthwise_separable",
        BlockKind::FusedMbConv => "fused_mbconv",
        BlockKind::ConvBnAct => "conv_bn_act",
    };
    let kernel = match block.kernels.as_slice() {
        [side] => json!(side),
        sides => json!(sides),
    };
    let mut row = json!({
        "type": kind, "in": block.input, "out": block.output, "expanded": block.expanded,
        "se_reduced": block.squeeze_excite.map(|squeeze| squeeze.reduced), "kernel": kernel, "stride": block.stride,
        "skip": block.skip, "act": act(block.activation),
    });
    for (key, split) in [("expand_split", block.expand_split), ("project_split", block.project_split)] {
        if split > 1 {
            row[key] = json!(split);
        }
    }
    row
}

/// Blocks of a golden stage, one row each.
fn golden_rows(stage: &Value) -> Vec<Value> {
    let mut rows = Vec::new();
    for block in stage["blocks"].as_array().unwrap() {
        let mut block = block.as_object().unwrap().clone();
        let repeats = block.remove("repeats").unwrap().as_u64().unwrap();
        rows.extend((0..repeats).map(|_| Value::Object(block.clone())));
    }
    rows
}

fn shapes(counts: &Counts) -> Value {
    let shapes = &counts.shapes;
    let mut table = json!({ "stem": shapes.stem, "pooled": [shapes.pooled], "logits": [shapes.logits] });
    for (index, shape) in shapes.stages.iter().enumerate() {
        table[format!("stage{index}")] = json!(shape);
    }
    if let Some(head) = shapes.head {
        table["head"] = json!(head);
    }
    table
}

/// What differs between a network and its golden entry.
fn differences(name: &str, golden: &Value) -> Vec<String> {
    let architecture = resolve(name);
    let mut differences = Vec::new();
    let mut same = |what: &str, found: Value, expected: &Value| {
        if found != *expected {
            differences.push(format!("{name}: {what}: {found}, golden {expected}"));
        }
    };
    let counts = count(&architecture, architecture.side);
    same("params", json!(counts.params), &golden["params"]);
    same("without classifier", json!(counts.params - counts.classifier_params), &golden["params_no_classifier"]);
    same("running stats", json!(counts.running_stats), &golden["bn_running_stats"]);
    same("convolutions", json!(counts.convs), &golden["conv_layers"]);
    same("batch norms", json!(counts.batch_norms), &golden["bn_layers"]);
    same("side", json!(architecture.side), &golden["resolution"]);
    same("family", json!(architecture.family), &golden["family"]);
    same("eps", json!(architecture.eps), &golden["bn_eps"]);
    let padding = if architecture.padding == Padding::Same { "tf_same" } else { "symmetric" };
    same("padding", json!(padding), &golden["padding"]);
    if golden["dropout"].is_number() {
        same("dropout", json!(architecture.dropout), &golden["dropout"]);
    }
    let stem = &architecture.stem;
    let found = json!({"kernel": stem.kernel, "stride": stem.stride, "out": stem.output, "act": act(stem.activation)});
    same("stem", found, &golden["stem"]);
    let input = architecture.blocks().last().unwrap().output;
    let (position, bias) = match architecture.head {
        Head::BeforePool { .. } => ("before_pool", false),
        Head::AfterPool { bias, .. } => ("after_pool", bias),
    };
    let found = json!({"out": architecture.head.output(), "in": input, "bias": bias, "position": position});
    same("head", found, &golden["head"]);
    let repeats: Vec<usize> = architecture.stages.iter().map(Vec::len).collect();
    same("repeats", json!(repeats), &golden["repeats_per_stage"]);
    for (index, stage) in golden["stages"].as_array().unwrap().iter().enumerate() {
        let found = architecture.stages.get(index).map(|blocks| blocks.iter().map(row).collect::<Vec<_>>());
        same(&format!("stage {index}"), json!(found), &json!(golden_rows(stage)));
    }
    for (side, expected) in golden["at_resolution"].as_object().unwrap() {
        let counts = count(&architecture, side.parse().unwrap());
        let macs = counts.macs;
        same(&format!("macs at {side}"), json!(macs.total()), &expected["macs_total"]);
        same(&format!("convolution macs at {side}"), json!(macs.conv), &expected["macs_conv"]);
        same(&format!("depthwise macs at {side}"), json!(macs.depthwise), &expected["macs_depthwise"]);
        same(&format!("squeeze macs at {side}"), json!(macs.squeeze_excite), &expected["macs_se"]);
        same(&format!("classifier macs at {side}"), json!(macs.linear), &expected["macs_linear"]);
        let mut expected = expected["shapes_chw"].clone();
        expected["pooled"].as_array_mut().unwrap().truncate(1);
        same(&format!("shapes at {side}"), shapes(&counts), &expected);
    }
    differences
}

#[test]
fn every_network_of_the_golden_file_is_equal() {
    let Some(golden) = golden() else { return };
    let models = golden["models"].as_object().unwrap();
    let wrong: Vec<String> = models.iter().flat_map(|(name, golden)| differences(name, golden)).collect();
    let bad: std::collections::BTreeSet<&str> = wrong.iter().filter_map(|text| text.split(':').next()).collect();
    eprintln!("{} of {} equal", models.len() - bad.len(), models.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert_eq!(models.len(), 55);
}

#[test]
fn twins_differ_in_numerics_only() {
    let Some(golden) = golden() else { return };
    for (name, model) in golden["models"].as_object().unwrap() {
        let Some(twin) = model["tf_variant"]["name"].as_str() else { continue };
        let twin = resolve(twin);
        assert_eq!((twin.padding, twin.eps), (Padding::Same, 1e-3), "{name}");
        let plain = resolve(name);
        let renamed = Architecture { name: plain.name.clone(), padding: plain.padding, eps: plain.eps, ..twin };
        assert_eq!(renamed, plain);
    }
}

#[test]
fn every_rounding_vector_is_equal() {
    let Some(golden) = golden() else { return };
    let vectors = &golden["rounding_goldens"];
    let whole = |value: &Value| value.as_u64().unwrap() as usize;
    for row in vectors["round_filters"].as_array().unwrap() {
        let (filters, width) = (whole(&row["filters"]), row["width"].as_f64().unwrap());
        let rounded = |rule| round_filters(filters, width, rule, 8);
        assert_eq!(rounded(Rounding::TenPercent), whole(&row["rounded"]), "{row}");
        assert_eq!(rounded(Rounding::Nearest), whole(&row["rounded_no_10pct"]), "{row}");
    }
    for row in vectors["round_repeats"].as_array().unwrap() {
        let (repeats, depth) = (whole(&row["repeats"]), row["depth"].as_f64().unwrap());
        assert_eq!(round_repeats(repeats, depth, RepeatRounding::Ceil), whole(&row["rounded"]), "{row}");
    }
}
