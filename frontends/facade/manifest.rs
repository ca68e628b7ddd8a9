//! The manifest of a compiled library: what a host program needs to know, as JSON. The function of the library that gives it is
//! called `net_signature`.
//!
//! ```json
//! {"fornax": {"version": "0.1.0", "abi": 1, "format": 1}, "name": "b0", "network": "EfficientNet", "source": "xxh3:…",
//!  "architecture": "x86_64", "levels": ["x86-64", "x86-64-v3", "x86-64-v4"], "flags": ["--cpu=multi"],
//!  "weights": {"bytes": 21333312, "embedded": true, "hash": "xxh64:…"},
//!  "bindings": [{"dims": {"batch": 1},
//!                "inputs": [{"name": "x", "dtype": "f32", "shape": [1,3,224,224], "bytes": 602112, "layout": "NCHW"}],
//!                "outputs": [{"name": "y", "dtype": "f32", "shape": [1,1000], "bytes": 4000}],
//!                "arena_bytes": 4899392, "scratch_bytes": 0, "stats": {"params": 5288548, …}}],
//!  "scores": "logits", "head": {…}, "preprocess": {…}, "labels": […], "metadata": {…}}
//! ```
//!
//! That of a training step has `step` besides: `{"images": 1, "update": "AdamW, …", "trained": ["classifier.weight", …]}`, and the one
//! binding that predicts.
//!
//! An output with an extent that depends on data has `"extent": {"axis": 0, "output": "y.extent.0"}`: the output that says it.
//!
//! `arena_bytes` is what `arena_bytes` gives less `scratch_bytes` for each thread. `source` is the
//! hash of the ONNX file without its external data. `head` is what exchanging the last layer needs ([`super::exchange`]); it is there where that
//! can be done. `preprocess` and `labels` are the entries of the model's metadata by
//! these keys, `metadata` the others.

use std::collections::BTreeMap;

use fornax_compiler::aot::{Memory, Network, Weights};
use fornax_compiler::{Plan, Port, Target};
use fornax_ir::inputs::Bindings;
use fornax_runtime::{ABI_VERSION, Arch, Library, LiveOutput, live_outputs};
use serde_json::{Map, Value, json};

use super::metadata;
use super::parted::Exchangeable;
use super::stats::Stats;
use crate::classify::Scores;
use crate::error::{Error, Result};
use crate::images::Layout;

/// Entries of the metadata that are JSON themselves.
const STRUCTURED: [&str; 2] = ["preprocess", "labels"];

/// What the manifest says.
pub(crate) struct Description<'a> {
    /// Prefix of the symbols.
    pub prefix: &'a str,
    /// The levels that there is code for.
    pub targets: &'a [Target],
    /// The sets of shapes.
    pub bindings: &'a [Bindings],
    /// Whether the library holds the weights.
    pub embed: bool,
    /// The options that it was compiled with.
    pub flags: &'a [String],
    pub network: Network<'a>,
    /// Of each set of shapes.
    pub stats: Vec<&'a Stats>,
    pub scores: Scores,
    /// Hash of the model's file.
    pub source: u64,
    pub metadata: &'a BTreeMap<String, String>,
    pub weights: &'a Weights,
    /// Where the last layer lies, if it can be exchanged.
    pub head: Option<Exchangeable>,
}

impl Description<'_> {
    /// The manifest.
    pub fn json(&self) -> Value {
        let Network { plans, step } = self.network;
        let memory = Memory::of(plans);
        let binding = |(number, levels): (usize, &Vec<Plan>)| {
            let plan = levels.first()?;
            Some(json!({
                "dims": self.bindings[number].dims,
                "inputs": plan.inputs.iter().map(tensor).collect::<Vec<_>>(),
                "outputs": outputs(&plan.outputs),
                "arena_bytes": memory[number].fixed,
                "scratch_bytes": memory[number].stride,
                "stats": self.stats[number],
            }))
        };
        let arch = self.targets.first().map_or(Arch::X86_64, |target| target.arch());
        let mut value = json!({
            "fornax": {"version": env!("CARGO_PKG_VERSION"), "abi": ABI_VERSION, "format": self.network.format_version()},
            "name": self.prefix,
            "network": null,
            "source": null,
            "architecture": arch.name(),
            "levels": self.targets.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "flags": self.flags,
            "weights": {"bytes": self.weights.bytes.len(), "embedded": self.embed, "hash": null},
            "bindings": plans.iter().take(self.stats.len()).enumerate().filter_map(binding).collect::<Vec<_>>(),
            "scores": null,
        });
        if let Some(step) = step {
            let exported: Vec<&str> = step.exported.iter().map(|(_, name)| name.as_str()).collect();
            value["step"] = json!({"images": step.images, "update": step.about, "trained": exported});
        }
        if let Some(head) = &self.head {
            value["head"] = json!(head);
        }
        let name = plans.first().and_then(|levels| levels.first()).map_or("", |plan| plan.name.as_str());
        describe(&mut value, (self.source, name), self.weights.hash, (self.metadata, self.scores));
        value
    }
}

/// The outputs; one with an extent that depends on data names the output that says it.
fn outputs(ports: &[Port]) -> Vec<Value> {
    let mut outputs: Vec<Value> = ports.iter().map(tensor).collect();
    let port = |port: &Port| fornax_runtime::Port {
        name: port.name.clone(),
        dtype: port.ty.dtype,
        shape: port.ty.shape.clone(),
    };
    for LiveOutput { output, axis, count } in live_outputs(&ports.iter().map(port).collect::<Vec<_>>()) {
        outputs[output]["extent"] = json!({"axis": axis, "output": ports[count].name});
    }
    outputs
}

fn tensor(port: &Port) -> Value {
    json!({
        "name": port.name,
        "dtype": port.ty.dtype.to_string(),
        "shape": port.ty.shape.to_vec(),
        "bytes": port.ty.bytes(),
    })
}

/// Enters what a network's file and the values of its weights say: its name, its hash and that of the weights, and its metadata. The result ends in
/// `scores` if the metadata does not know better.
pub(crate) fn describe(
    value: &mut Value,
    (source, name): (u64, &str),
    weights: u64,
    (metadata, scores): (&BTreeMap<String, String>, Scores),
) {
    value["network"] = name.into();
    value["source"] = format!("xxh3:{source:016x}").into();
    value["weights"]["hash"] = format!("xxh64:{weights:016x}").into();
    // What the metadata says is for whoever reads it: entries that make no sense are kept as they are.
    value["scores"] = match metadata::scores(metadata).ok().flatten().unwrap_or(scores) {
        Scores::Logits => "logits",
        Scores::Probabilities => "probabilities",
        Scores::LogProbabilities => "log_probabilities",
    }
    .into();
    let layout = metadata::preprocess(metadata).ok().flatten().map(|preprocess| match preprocess.layout {
        Layout::Nhwc => "NHWC",
        Layout::Nchw => "NCHW",
    });
    let bindings = value["bindings"].as_array_mut().into_iter().flatten();
    for input in bindings.filter_map(|binding| binding["inputs"].as_array_mut()).flatten() {
        let images = input["shape"].as_array().is_some_and(|shape| shape.len() == 4);
        match (input.as_object_mut(), layout) {
            (Some(input), Some(layout)) if images => _ = input.insert("layout".into(), layout.into()),
            (Some(input), _) => _ = input.remove("layout"),
            (None, _) => {}
        }
    }
    if let Some(value) = value.as_object_mut() {
        for key in STRUCTURED.into_iter().chain(["metadata"]) {
            value.shift_remove(key);
        }
    }
    let mut rest = Map::new();
    for (key, text) in metadata {
        match STRUCTURED.contains(&key.as_str()).then(|| serde_json::from_str::<Value>(text)) {
            Some(Ok(entry)) => value[key.as_str()] = entry,
            _ => _ = rest.insert(key.clone(), text.as_str().into()),
        }
    }
    value["metadata"] = rest.into();
}

/// The manifest of a library.
///
/// # Errors
/// [`Error::Input`] if it is no JSON.
pub(crate) fn read(library: &Library) -> Result<Value> {
    let wrong = |e: serde_json::Error| Error::input("manifest of the library", "JSON", e.to_string());
    serde_json::from_str(library.manifest()).map_err(wrong)
}

/// What a manifest says about a library that is opened.
pub(crate) struct Manifest {
    pub name: String,
    pub metadata: BTreeMap<String, String>,
    pub scores: Scores,
    pub stats: Vec<Stats>,
    /// The dimensions that were named, of each set of shapes.
    pub dims: Vec<BTreeMap<String, usize>>,
}

impl Manifest {
    /// What the manifest of a library says.
    ///
    /// # Errors
    /// [`Error::Input`] naming the entry that is missing.
    pub fn of(library: &Library) -> Result<Self> {
        let wrong = |what: &str, found: String| Error::input("manifest of the library", what, found);
        let value = read(library)?;
        let mut metadata = BTreeMap::new();
        for key in STRUCTURED {
            if let Some(entry) = value.get(key) {
                metadata.insert(key.to_string(), entry.to_string());
            }
        }
        for (key, entry) in value["metadata"].as_object().into_iter().flatten() {
            metadata.insert(key.clone(), entry.as_str().unwrap_or_default().to_string());
        }
        let scores = match value["scores"].as_str() {
            Some("probabilities") => Scores::Probabilities,
            Some("log_probabilities") => Scores::LogProbabilities,
            Some("logits") => Scores::Logits,
            _ => return Err(wrong("scores", value["scores"].to_string())),
        };
        let bindings = value["bindings"].as_array().ok_or_else(|| wrong("bindings", "none".into()))?;
        let stats = bindings.iter().map(|binding| serde_json::from_value(binding["stats"].clone()));
        let stats = stats.collect::<Result<_, _>>().map_err(|e| wrong("stats of each binding", e.to_string()))?;
        let dims = bindings.iter().map(|binding| serde_json::from_value(binding["dims"].clone()));
        let dims = dims.collect::<Result<_, _>>().map_err(|e| wrong("dims of each binding", e.to_string()))?;
        Ok(Self { dims, name: value["network"].as_str().unwrap_or_default().to_string(), metadata, scores, stats })
    }
}
