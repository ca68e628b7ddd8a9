//! A compiled library as the source of a model.
//!
//! In: a library. Out: what a model file tells (inputs, metadata), and the program of the set of shapes that is asked for, ready
//! to run. It has no graph and compiles nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use fornax_compiler::{Target, Times};
use fornax_ir::graph::Graph;
use fornax_ir::inputs::{Bindings, Dim, InputDecl};
use fornax_runtime::{Level, Library, LibraryOptions, Port, live_outputs};

use super::compile::check_arena;
use super::compiled::Compiled;
use super::manifest::Manifest;
use super::options::{LibrarySource, Options};
use super::pooled::POOLED;
use super::source::Source;
use super::stats::Stats;
use crate::error::{Error, Result};

/// An opened library.
pub(crate) struct LibraryModel {
    path: PathBuf,
    library: Library,
    manifest: Manifest,
    inputs: Vec<InputDecl>,
    outputs: Vec<String>,
    /// The level to use.
    level: &'static Level,
}

impl LibraryModel {
    /// Opens a library, reads its manifest and chooses the level: that of the target asked for, or the best that this processor
    /// runs.
    ///
    /// # Errors
    /// [`Error::Usage`] if the library has no code for the target, [`Error::Runtime`] if it cannot be read or the processor runs
    /// none of its levels, [`Error::Input`] if the manifest is not one.
    pub fn open(path: &Path, options: &Options, times: &mut Times) -> Result<Self> {
        let LibrarySource { weights, check_weights } = options.library.clone();
        let opening = LibraryOptions { check_weights, weights, file_bytes: options.limits.file_bytes };
        let library = times.stage("load", || Library::open_with(path, &opening))?;
        let opened = times.stage("manifest", || Self::new(path, library, options.target.as_ref()))?;
        match options.features {
            Some(_) if opened.outputs != [POOLED] => {
                let expected = "a network, or a library that was compiled with --features pooled";
                Err(Error::usage("features", expected, path.display().to_string()))
            }
            _ => Ok(opened),
        }
    }

    fn new(path: &Path, library: Library, target: Option<&Target>) -> Result<Self> {
        let manifest = Manifest::of(&library)?;
        let level = match target {
            None => library.best_level()?,
            Some(target) => {
                let levels = library.levels();
                let names = || levels.iter().map(|level| level.name).collect::<Vec<_>>().join(", ");
                let absent =
                    || Error::usage("target", format!("one of the library's ({})", names()), target.to_string());
                // It leaves out a level whose code is that of the one below.
                let needed = target.needed(library.float_mode()).level;
                levels.iter().find(|level| **level == needed).ok_or_else(absent)?
            }
        };
        if manifest.stats.len() != library.bindings() {
            let (expected, found) = (format!("{} bindings", library.bindings()), manifest.stats.len().to_string());
            return Err(Error::input("manifest of the library", expected, found));
        }
        let inputs = declarations(&library, &manifest.dims);
        let ports = library.outputs(0);
        let live = live_outputs(ports);
        let says_an_extent = |at: usize| live.iter().any(|output| output.count == at);
        let named = ports.iter().enumerate().filter(|(at, _)| !says_an_extent(*at));
        let outputs = named.map(|(_, port)| port.name.clone()).collect();
        Ok(Self { path: path.to_path_buf(), library, manifest, inputs, outputs, level })
    }

    /// The set of shapes that `bindings` ask for: the first that has every extent they give.
    ///
    /// # Errors
    /// [`Error::Usage`] listing the sets if there is none.
    fn find(&self, bindings: &Bindings) -> Result<usize> {
        let fits = |number: &usize| {
            let named = &self.manifest.dims[*number];
            let ports = self.library.inputs(*number);
            let dims = |(name, extent): (&String, &usize)| match named.get(name) {
                Some(own) => own == extent,
                None => ports.iter().zip(&self.inputs).all(|(port, input)| has(port, input, name, *extent)),
            };
            let shape = |port: &Port| bindings.shapes.get(&port.name).is_none_or(|shape| shape[..] == port.shape[..]);
            bindings.dims.iter().all(dims) && ports.iter().all(shape)
        };
        (0..self.library.bindings()).find(fits).ok_or_else(|| {
            let text = |number: usize| {
                let ports = self.library.inputs(number).iter();
                ports.map(|port| format!("{} {}", port.name, port.shape)).collect::<Vec<_>>().join(", ")
            };
            let expected: Vec<String> = (0..self.library.bindings()).map(text).collect();
            let dims = bindings.dims.iter().map(|(name, extent)| format!("{name}={extent}"));
            let shapes = bindings.shapes.iter().map(|(name, shape)| format!("{name} {shape:?}"));
            let (expected, found) = (expected.join("; "), dims.chain(shapes).collect::<Vec<_>>().join(", "));
            let expected = format!("one of those the library was compiled for ({expected})");
            // The shape of a tensor is input, not usage.
            match bindings.dims.is_empty() {
                true => Error::input("shapes", expected, found),
                false => Error::usage("shapes", expected, found),
            }
        })
    }
}

impl Source for LibraryModel {
    fn inputs(&self) -> &[InputDecl] {
        &self.inputs
    }

    fn outputs(&self) -> Vec<String> {
        self.outputs.clone()
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        &self.manifest.metadata
    }

    fn graph(&self, _: &Bindings) -> Result<Graph> {
        let found = format!("a compiled library ({})", self.path.display());
        Err(Error::usage("model", "an ONNX file, which has a graph", found))
    }

    fn hash(&self) -> u64 {
        0
    }

    fn name(&self, _: &Bindings) -> Result<String> {
        Ok(self.manifest.name.clone())
    }

    fn input_ports(&self, bindings: &Bindings) -> Result<Vec<Port>> {
        Ok(self.library.inputs(self.find(bindings)?).to_vec())
    }

    fn stats(&self, bindings: &Bindings, _: &Options) -> Result<Stats> {
        Ok(self.manifest.stats[self.find(bindings)?].clone())
    }

    fn target(&self, _: &Options) -> Result<Target> {
        Ok(Target::new(self.level))
    }

    fn program(&self, bindings: &Bindings, options: &Options) -> Result<Option<Compiled>> {
        let (begun, mut times) = (Instant::now(), Times::default());
        let binding = self.find(bindings)?;
        let program = times.stage("program", || self.library.program(binding, self.level.number))?;
        check_arena(program.arena_bytes(), options)?;
        let kernels: BTreeSet<usize> = program.steps().iter().map(|step| step.kernel as usize).collect();
        let (scores, stats) = (self.manifest.scores, self.manifest.stats[binding].clone());
        let (program, time) = (Arc::new(program), begun.elapsed());
        let (kernels, notes, values) = (kernels.len(), Vec::new(), Vec::new());
        Ok(Some(Compiled { program, scores, kernels, stats, notes, values, times, time }))
    }

    fn library(&self) -> Option<&Library> {
        Some(&self.library)
    }
}

/// Whether an input has an extent wherever it has a dimension of this name; `batch` is its first.
fn has(port: &Port, input: &InputDecl, name: &str, extent: usize) -> bool {
    let named = |(axis, dim): (usize, &Dim)| match dim {
        _ if axis == 0 && name == "batch" => true,
        _ if name.rsplit_once('.').is_some_and(|of| of == (&port.name, &axis.to_string())) => true,
        Dim::Symbol(own) => own == name,
        _ => false,
    };
    input.dims.iter().enumerate().filter(|dim| named(*dim)).all(|(axis, _)| port.shape.get(axis) == Some(&extent))
}

/// The inputs, with a name for every extent in which the sets of shapes differ.
fn declarations(library: &Library, named: &[BTreeMap<String, usize>]) -> Vec<InputDecl> {
    let sets = || (0..library.bindings()).map(|number| library.inputs(number));
    let declare = |(index, port): (usize, &Port)| {
        let same = |axis: usize| {
            let extents = sets().map(|ports| ports.get(index).and_then(|port| port.shape.get(axis)));
            extents.into_iter().all(|extent| extent == port.shape.get(axis))
        };
        // The name that gave this extent in every set of shapes, as far as they can tell.
        let name = |axis: usize| {
            let is = |name: &&String| {
                let extent = |ports: &[Port]| ports.get(index).and_then(|port| port.shape.get(axis)).copied();
                sets().zip(named).all(|(ports, dims)| extent(ports) == dims.get(*name).copied())
            };
            named.first().and_then(|dims| dims.keys().find(is)).cloned()
        };
        let dim = |(axis, extent): (usize, &usize)| match axis {
            _ if same(axis) => Dim::Known(*extent),
            0 => Dim::Symbol("batch".into()),
            _ => Dim::Symbol(name(axis).unwrap_or_else(|| format!("{}.{axis}", port.name))),
        };
        let dims = port.shape.iter().enumerate().map(dim).collect();
        InputDecl { name: port.name.clone(), dtype: port.dtype, dims, ranked: true }
    };
    library.inputs(0).iter().enumerate().map(declare).collect()
}
