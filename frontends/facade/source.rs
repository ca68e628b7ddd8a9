//! What a model is read from: one file for each kind.
//!
//! A [`Source`] tells its inputs and outputs and gives a graph to compile, or a program that is compiled already. `onnx.rs`,
//! `spec.rs` and `library.rs` are the kinds there are; another one is another file, and a line where `Model` opens them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use fornax_compiler::Target;
use fornax_ir::graph::Graph;
use fornax_ir::inputs::{Bindings, InputDecl};
use fornax_ir::types::Constant;
use fornax_onnx::Outline;
use fornax_runtime::{Library, Port};
use fornax_scaling::architecture::Architecture;
use fornax_scaling::spec::Spec;

use super::compile;
use super::compiled::Compiled;
use super::options::Options;
use super::stats::Stats;
use crate::error::Result;

/// What a model is read from.
pub(crate) trait Source: Send + Sync {
    /// Its inputs as declared, open dimensions included.
    fn inputs(&self) -> &[InputDecl];

    /// Names of its outputs.
    fn outputs(&self) -> Vec<String>;

    /// Inputs that have a value in the file, and are inputs only if they are to be given.
    fn defaults(&self) -> Vec<String> {
        Vec::new()
    }

    /// What the file holds before its shapes are known, if that is not all.
    fn outline(&self) -> Option<Outline> {
        None
    }

    /// Its key-value metadata.
    fn metadata(&self) -> &BTreeMap<String, String>;

    /// The graph for the shapes that `bindings` give.
    fn graph(&self, bindings: &Bindings) -> Result<Graph>;

    /// Hash of what it was read from.
    fn hash(&self) -> u64;

    /// Name of the network.
    fn name(&self, bindings: &Bindings) -> Result<String> {
        Ok(self.graph(bindings)?.name.clone())
    }

    /// Types and shapes of the inputs for `bindings`.
    fn input_ports(&self, bindings: &Bindings) -> Result<Vec<Port>> {
        let graph = self.graph(bindings)?;
        let types = graph.inputs().iter().map(|id| graph.node(*id).ty.clone());
        let port = |(input, ty): (&InputDecl, fornax_ir::types::TensorType)| Port {
            name: input.name.clone(),
            dtype: ty.dtype,
            shape: ty.shape,
        };
        Ok(self.inputs().iter().zip(types).map(port).collect())
    }

    /// What the model amounts to.
    fn stats(&self, bindings: &Bindings, options: &Options) -> Result<Stats> {
        compile::stats(self.graph(bindings)?, &self.target(options)?, options)
    }

    /// The machine that its programs are for.
    fn target(&self, options: &Options) -> Result<Target> {
        compile::target(options)
    }

    /// The program for `bindings`, if it is compiled already.
    fn program(&self, bindings: &Bindings, options: &Options) -> Result<Option<Compiled>> {
        let _ = (bindings, options);
        Ok(None)
    }

    /// Gives the pages of the model's file back to the system; they are read again where needed.
    fn release_pages(&self) {}

    /// The files it was read from besides the model file itself.
    fn files(&self) -> Vec<PathBuf> {
        Vec::new()
    }

    /// What was chosen where it is left open, a line each.
    fn notes(&self) -> &[String] {
        &[]
    }

    /// The network of a spec or preset.
    fn architecture(&self) -> Option<&Architecture> {
        None
    }

    /// The spec that gives the network, but for its classes, if one does.
    fn spec(&self) -> Option<&Spec> {
        None
    }

    /// Name, shape and elements of the constant of node `name` as a file of the state dict's kind holds them; none if they are those of the graph.
    fn stored(&self, name: &str, constant: &Constant) -> Option<(String, Vec<usize>, Bytes)> {
        let _ = (name, constant);
        None
    }

    /// The compiled library.
    fn library(&self) -> Option<&Library> {
        None
    }
}
