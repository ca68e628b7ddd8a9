//! A model with other weights, and perhaps other classes.
//!
//! In: a model, and constants by the names of their nodes. Out: a model whose graph has these in place of its own. Types may differ
//! where shapes follow from them: the weights of a classifier of other classes.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use fornax_ir::graph::{Graph, Kind};
use fornax_ir::inputs::{Bindings, InputDecl};
use fornax_ir::types::{Constant, TensorType};
use fornax_scaling::architecture::Architecture;
use fornax_scaling::spec::Spec;
use xxhash_rust::xxh3::xxh3_64;

use super::head::{self, Head};
use super::metadata;
use super::model::Model;
use super::pooled::{POOLED, pooled};
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

    /// The model with `constants` in place of its own of the same names, and `metadata` added to what it has.
    pub(crate) fn retrained(
        &self,
        constants: BTreeMap<String, Constant>,
        metadata: BTreeMap<String, String>,
        classes: usize,
    ) -> Model {
        let mut all = self.metadata().clone();
        all.extend(metadata);
        let architecture = self.architecture().map(|own| Architecture { classes, ..own.clone() });
        Model::derived(self, Box::new(Retrained { model: self.clone(), constants, metadata: all, architecture }))
    }
}

/// A classifier without its last layer.
struct Cut {
    model: Model,
}

impl Model {
    /// The classifier as a feature extractor: what its last linear layer reads, as the one output `pooled`.
    pub fn pooled(&self) -> Model {
        Model::derived(self, Box::new(Cut { model: self.clone() }))
    }
}

impl Source for Cut {
    fn inputs(&self) -> &[InputDecl] {
        self.model.inputs()
    }

    fn outputs(&self) -> Vec<String> {
        vec![POOLED.to_string()]
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        self.model.metadata()
    }

    fn graph(&self, bindings: &Bindings) -> Result<Graph> {
        pooled(self.model.graph(bindings)?)
    }

    fn hash(&self) -> u64 {
        xxh3_64(format!("pooled {:016x}", self.model.source().hash()).as_bytes())
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
            let types: Vec<&TensorType> = operands.iter().map(|operand| graph.ty(*operand)).collect();
            let types = op.infer(&types).map_err(|e| e.at(&node.name, op.name()))?;
            let node = graph.node_mut(id);
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
