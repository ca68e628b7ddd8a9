//! Another last layer in a compiled library, without compiling.
//!
//! ```text
//! compile:  graph ── head, rest ──▶ Exchangeable, in the manifest: where the layer lies in the weights, hash of all
//! else exchange: library, trained network ── the same rest? ──▶ weights with the layer in place ──▶ library, manifest,
//! hashes
//! ```
//!
//! In: a library, and a network that differs from the one it was compiled from in the values of its last layer, and in
//! what its metadata says. Out: the library that compiling this network gives, byte for byte. A network that differs in
//! anything else is refused: convolutions are stored with their batch norms folded in, in an order that is the
//! compiler's to choose.

use std::path::Path;

use fornax_compiler::aot;
use fornax_ir::inputs::Bindings;
use fornax_ir::types::Constant;
use fornax_runtime::Library;
use fornax_runtime::packing::Packing;
use serde_json::Value;

use super::emit::{Artifact, Emit};
use super::manifest;
use super::model::Model;
use super::parted::{Exchangeable, Parted};
use super::stats::scores;
use crate::classify::Scores;
use crate::error::{Error, Result};

impl Model {
    /// This compiled library with the last layer, labels and other metadata of `trained`, written by way of `threads`
    /// threads: the library, and its weights where they are in a file of their own. They are what compiling `trained`
    /// gives. `output` is where they go.
    ///
    /// # Errors
    /// [`Error::Usage`] if this is no library whose last layer can be exchanged, or if the networks differ in more than
    /// that, naming the command that compiles `trained`; [`Error::Runtime`], [`Error::Compiler`] if the library cannot
    /// be read or written.
    pub fn with_head_of(&self, trained: &Model, output: &Path, threads: usize) -> Result<Vec<Artifact>> {
        let library = self.library().ok_or_else(|| {
            let found = format!("{} (`fornax compile` makes one)", self.path().display());
            Error::usage("library", "a compiled library", found)
        })?;
        if trained.library().is_some() {
            let expected = "a trained network: the folder of a run, or an ONNX file, spec or preset with its weights";
            return Err(Error::usage("--weights", expected, trained.path().display().to_string()));
        }
        let refuse = |expected: &str, found: String| {
            let command = format!("fornax compile {} -o {}", trained.path().display(), output.display());
            Err(Error::usage("--weights", expected, format!("{found}; `{command}` compiles it")))
        };
        let manifest = manifest::read(library)?;
        let known = serde_json::from_value::<Exchangeable>(manifest["head"].clone()).ok();
        let version = manifest["fornax"]["version"].as_str() == Some(env!("CARGO_PKG_VERSION"));
        let Some(known) = known.filter(|_| version) else {
            let found =
                "a library whose last layer cannot be exchanged: none of its own, or of another version of Fornax";
            return refuse("the last layer of a library of this version", found.into());
        };
        let dims = serde_json::from_value(manifest["bindings"][0]["dims"].clone()).unwrap_or_default();
        let graph = trained.graph(&Bindings { dims, ..Bindings::default() })?;
        let Some(parted) = Parted::of(&graph)? else {
            let expected = "a network that ends in a linear layer with weights and biases of its own";
            return Err(Error::usage("--weights", expected, format!("{:?}", graph.name)));
        };
        let shapes = [&known.weights.shape, &known.biases.shape];
        if shapes != [&parted.head.shape, &parted.head.bias_shape] {
            let classes = known.biases.shape.iter().product::<usize>();
            let found = format!("one of {} classes, weights {:?}", parted.head.classes, parted.head.shape);
            return refuse(&format!("a classifier of {classes} classes, weights {:?}", known.weights.shape), found);
        }
        if known.rest != parted.rest {
            let found = "a network that differs in more than that".to_string();
            return refuse("the network that the library was compiled from, with another last layer", found);
        }
        exchange(library, manifest, &known, &parted, (trained, scores(&graph)), threads)
    }
}

/// Puts the layer into its places, and writes the library around it.
fn exchange(
    library: &Library,
    mut manifest: Value,
    known: &Exchangeable,
    parted: &Parted,
    (trained, scores): (&Model, Scores),
    threads: usize,
) -> Result<Vec<Artifact>> {
    let mut places = Vec::new();
    for (part, constant) in [(&known.weights, &parted.weights), (&known.biases, &parted.biases)] {
        let Some(elements) = constant.bytes() else { continue };
        for (offset, packing) in &part.places {
            places.push((*offset, packing_of(packing, constant, *offset, library)?, elements.clone()));
        }
    }
    let change = |weights: &mut [u8]| {
        for (offset, packing, elements) in &places {
            let to = &mut weights[*offset..*offset + packing.len() * size_of::<f32>()];
            to.fill(0);
            packing.pack(size_of::<f32>(), elements, to);
        }
    };
    let prefix = manifest["name"].as_str().unwrap_or_default().to_string();
    let named = trained.name(&Bindings::default())?;
    let made = std::thread::scope(|scope| {
        // The whole file is read for it, meanwhile.
        let source = scope.spawn(|| trained.source().hash());
        let described = |weights: u64| {
            let source = source.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            manifest::describe(&mut manifest, (source, &named), weights, (trained.metadata(), scores));
            manifest.to_string()
        };
        aot::relink(library, &prefix, change, described, threads)
    })?;
    let parts = vec![made.library.head.into(), made.library.weights, made.library.tail.into()];
    let weights = Artifact { kind: Emit::Weights, parts: vec![made.weights.bytes] };
    let apart = (!library.sections().embedded).then_some(weights);
    Ok(apart.into_iter().chain([Artifact { kind: Emit::So, parts }]).collect())
}

/// The packing that a manifest states, if it is one of this constant, inside the weights.
fn packing_of(text: &str, constant: &Constant, offset: usize, library: &Library) -> Result<Packing> {
    let wrong =
        |expected: String| Error::input("manifest of the library: head", expected, format!("{text} at {offset}"));
    let packing: Packing = text.parse().map_err(|_| wrong("a packing".into()))?;
    let elements = packing.extents().iter().try_fold(1usize, |all, extent| all.checked_mul(*extent));
    let fits = elements == Some(constant.ty.shape.numel()) && {
        let end = packing.len().checked_mul(size_of::<f32>()).and_then(|bytes| bytes.checked_add(offset));
        end.is_some_and(|end| end <= library.weights().len())
    };
    if fits { Ok(packing) } else { Err(wrong(format!("a packing of {} in the weights", constant.ty))) }
}
