//! A model with other weights, and perhaps other classes.
//!
//! In: a model, and constants by the names of their nodes. Out: a model whose graph has these in place of its own. Types may differ
//! where shapes follow from them: the weights of a classifier of other classes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use fornax_ir::graph::{Graph, Kind, ValueId};
use fornax_ir::inputs::{Bindings, InputDecl};
use fornax_ir::ops::reduce::ReduceKind;
use fornax_ir::ops::{Op, Reshape};
use fornax_ir::types::{Constant, TensorType};
use fornax_scaling::architecture::Architecture;
use fornax_scaling::spec::Spec;
use xxhash_rust::xxh3::xxh3_64;

use super::head::{self, Head, linear_layer};
use super::metadata;
use super::model::Model;
use super::pooled::{POOLED, pooled, reduced};
use super::source::Source;
use crate::error::{Error, Result};
use crate::images::Preprocess;

/// A model with constants of its own.
struct Retrained {
    model: Model,
    constants: BTreeMap<String, Constant>,
    metadata: BTreeMap<String, String>,
    architecture: Option<Architecture>,
}

impl Model {
    /// The classifier's last layer.
    ///
    /// # Errors
    /// [`Error::Usage`] if the network does not end in a linear layer with constant weights and biases.
    pub(crate) fn head(&self, graph: &Graph) -> Result<Head> {
        head::head(graph).ok_or_else(|| {
            let expected = "a network that ends in a linear layer with weights and biases of its own";
            Error::usage("model", expected, format!("{:?}", graph.name))
        })
    }

    /// What the metadata of this model says once it tells `classes` apart, in photos that are prepared as `preprocess` says.
    ///
    /// # Errors
    /// [`Error::Input`] if its own entry makes no sense.
    pub(crate) fn metadata_for(&self, classes: &[String], preprocess: &Preprocess) -> Result<BTreeMap<String, String>> {
        let mut all = BTreeMap::from([("labels".to_string(), serde_json::json!(classes).to_string())]);
        if self.preprocess()?.as_ref() != Some(preprocess) {
            all.insert("preprocess".to_string(), metadata::described(preprocess));
        }
        Ok(all)
    }

    /// The model with `constants` in place of its own of the same names, for `classes` classes; `metadata` is added to what it has, but for the
    /// labels, which are those of `metadata` or none.
    pub(crate) fn retrained(
        &self,
        constants: BTreeMap<String, Constant>,
        metadata: BTreeMap<String, String>,
        classes: usize,
    ) -> Model {
        let mut all = self.metadata().clone();
        all.remove("labels");
        all.extend(metadata);
        let architecture = self.architecture().map(|own| Architecture { classes, ..own.clone() });
        Model::derived(self, Box::new(Retrained { model: self.clone(), constants, metadata: all, architecture }))
    }
}

/// What a classifier computes on the way to its scores.
struct Cut {
    model: Model,
    /// Name of the one output.
    name: &'static str,
    cut: fn(Graph) -> Result<Graph>,
}

impl Model {
    /// The classifier as a feature extractor: what its last linear layer reads, as the one output `pooled`.
    pub fn pooled(&self) -> Model {
        Model::derived(self, Box::new(Cut { model: self.clone(), name: POOLED, cut: pooled }))
    }

    /// The least of all scores that the ReLU after the classifier's last layer reads, as the one output `least`; see [`Head::rectified`].
    pub(crate) fn least_score(&self) -> Model {
        Model::derived(self, Box::new(Cut { model: self.clone(), name: LEAST, cut: least_score }))
    }
}

/// Name of the output of [`Model::least_score`].
const LEAST: &str = "least";

fn least_score(graph: Graph) -> Result<Graph> {
    match linear_layer(&graph).and_then(|layer| layer.rectified) {
        Some(scores) => reduced(graph, scores, 1, ReduceKind::Min, LEAST),
        None => Err(Error::usage("model", "a ReLU after the last linear layer", format!("{:?}", graph.name))),
    }
}

impl Source for Cut {
    fn inputs(&self) -> &[InputDecl] {
        self.model.inputs()
    }

    fn outputs(&self) -> Vec<String> {
        vec![self.name.to_string()]
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        self.model.metadata()
    }

    fn graph(&self, bindings: &Bindings) -> Result<Graph> {
        (self.cut)(self.model.graph(bindings)?)
    }

    fn hash(&self) -> u64 {
        xxh3_64(format!("{} {:016x}", self.name, self.model.source().hash()).as_bytes())
    }
}

impl Source for Retrained {
    fn inputs(&self) -> &[InputDecl] {
        self.model.inputs()
    }

    fn outputs(&self) -> Vec<String> {
        self.model.outputs()
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    fn graph(&self, bindings: &Bindings) -> Result<Graph> {
        with_constants(self.model.graph(bindings)?, &self.constants)
    }

    fn hash(&self) -> u64 {
        let lines = self.constants.iter().map(|(name, constant)| format!("{name} {:016x}\n", constant.hash()));
        xxh3_64(format!("{:016x}\n{}", self.model.source().hash(), lines.collect::<String>()).as_bytes())
    }

    fn files(&self) -> Vec<PathBuf> {
        self.model.files()
    }

    fn notes(&self) -> &[String] {
        self.model.notes()
    }

    fn architecture(&self) -> Option<&Architecture> {
        self.architecture.as_ref()
    }

    fn spec(&self) -> Option<&Spec> {
        self.model.source().spec()
    }

    fn stored(&self, name: &str, constant: &Constant) -> Option<(String, Vec<usize>, Bytes)> {
        self.model.source().stored(name, constant)
    }
}

/// The graph with other constants; the types of what depends on them follow.
///
/// # Errors
/// [`Error::Usage`] if a node has no such constant; [`Error::Graph`] if an operator refuses the new types.
pub(crate) fn with_constants(mut graph: Graph, constants: &BTreeMap<String, Constant>) -> Result<Graph> {
    let mut missing: Vec<&str> = constants.keys().map(String::as_str).collect();
    let mut before: BTreeMap<ValueId, TensorType> = BTreeMap::new();
    for id in graph.topological()? {
        let node = graph.node(id);
        if let (Some(own), Some(constant)) = (node.constant(), constants.get(&node.name)) {
            missing.retain(|name| *name != node.name);
            let constant = constant.clone().with_origins(own.origins.clone());
            let node = graph.node_mut(id);
            node.ty = constant.ty.clone();
            node.kind = Kind::Constant(constant);
        } else if let Some(op) = node.op() {
            let operands = graph.operands(id);
            let op = match (op, operands.first().and_then(|x| Some((before.get(x)?, graph.ty(*x))))) {
                (Op::Reshape(reshape), Some((old, new))) => reshaped(reshape, old, new).into(),
                _ => op.clone(),
            };
            let types: Vec<&TensorType> = operands.iter().map(|operand| graph.ty(*operand)).collect();
            let types = op.infer(&types).map_err(|e| e.at(&node.name, op.name()))?;
            before.extend(graph.values(id).map(|value| (value, graph.ty(value).clone())));
            let node = graph.node_mut(id);
            node.kind = Kind::Op(op);
            let mut types = types.into_iter();
            node.ty = types.next().unwrap_or_else(|| node.ty.clone());
            node.more.iter_mut().zip(types).for_each(|(more, ty)| more.ty = ty);
        }
    }
    match missing.first() {
        Some(name) => Err(Error::usage("weights", "names of constants of the network", *name)),
        None => Ok(graph),
    }
}

/// A reshape of `old`, of whose axes one has another extent in `new`, as that of `new`: the one extent of its result that is the old one
/// follows.
fn reshaped(reshape: &Reshape, old: &TensorType, new: &TensorType) -> Reshape {
    let mut changed = old.shape.iter().zip(new.shape.iter()).filter(|(old, new)| old != new);
    let mut shape = reshape.shape.clone();
    if let (Some((old, new)), None) = (changed.next(), changed.next()) {
        let mut same = shape.iter_mut().filter(|extent| *extent == old);
        if let (Some(extent), None) = (same.next(), same.next()) {
            *extent = *new;
        }
    }
    Reshape { shape }
}
