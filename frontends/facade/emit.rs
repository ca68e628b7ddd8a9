//! Models compiled ahead of time, as files.
//!
//! In: an opened model, the shapes and processors to compile for. Out: a shared library, an object file, an archive, a C header or
//! a weights file, each as the bytes to write. The bytes depend on the model and the options, not on the machine, the
//! day or the folder.

use std::collections::BTreeMap;
use std::str::FromStr;

use bytes::Bytes;
use fornax_compiler::aot::{self, Memory, Network, StepSpec};
#[cfg(feature = "train")]
use fornax_compiler::pipeline::CompileOptions;
use fornax_compiler::{Plan, Target, Times};
#[cfg(feature = "train")]
use fornax_ir::graph::Graph;
use fornax_ir::inputs::Bindings;
use fornax_runtime::Arch;

use super::compile::planned;
#[cfg(feature = "train")]
use super::compile::planned_with;
use super::manifest::Description;
use super::model::Model;
use super::parted::Parted;
use super::stats::{Counts, Stats, scores};
use crate::classify::Scores;
use crate::error::{Error, Result};

/// A kind of file that a model is compiled to.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Emit {
    /// A shared library.
    So,
    /// A static library.
    Archive,
    /// An object file.
    Object,
    /// The C header of either.
    Header,
    /// The weights, if they are not embedded, or for a library that is there.
    Weights,
}

impl Emit {
    /// Every kind: its name, and the suffix of its file.
    pub const ALL: [(Self, &'static str, &'static str); 5] = [
        (Self::So, "so", "so"),
        (Self::Archive, "a", "a"),
        (Self::Object, "obj", "o"),
        (Self::Header, "header", "h"),
        (Self::Weights, "weights", "weights"),
    ];

    /// What a program in another language needs to load the network: the library and its header.
    #[cfg(feature = "train")]
    pub(crate) const LOADED: [Self; 2] = [Self::So, Self::Header];

    /// Suffix of its file.
    pub fn suffix(self) -> &'static str {
        Self::ALL.iter().find(|(kind, ..)| *kind == self).map_or("", |(.., suffix)| suffix)
    }

    /// Whether it holds code, so that it needs the weights, in it or next to it.
    pub fn holds_code(self) -> bool {
        !matches!(self, Self::Header | Self::Weights)
    }
}

impl FromStr for Emit {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|(_, name, _)| *name == text).map(|(kind, ..)| *kind);
        found.ok_or_else(|| format!("expected one of {}", Self::ALL.map(|(_, name, _)| name).join(", ")))
    }
}

/// How a model is compiled to files.
#[derive(Clone, Debug)]
pub struct ArtifactOptions {
    /// Symbol prefix, a C identifier.
    pub name: String,
    /// The levels of one architecture to hold code for, in order of their numbers; for example [`Target::multi`].
    pub targets: Vec<Target>,
    /// The sets of shapes to hold code for, at least one.
    pub bindings: Vec<Bindings>,
    /// Whether libraries hold the weights.
    pub embed: bool,
    /// Threads to compile on, 0 for as many as the machine gives this process. The bytes do not depend on it.
    pub threads: usize,
    /// What is noted in the manifest: the options that it was compiled with.
    pub flags: Vec<String>,
}

impl ArtifactOptions {
    /// For every x86-64 processor, batch 1 where the model leaves it open, weights embedded, symbols with the prefix `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            targets: Target::multi(Arch::X86_64),
            bindings: vec![Bindings::default()],
            embed: true,
            threads: 0,
            flags: Vec::new(),
        }
    }
}

/// A file that a model was compiled to.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// What it is.
    pub kind: Emit,
    /// Its bytes, one part after the other.
    pub parts: Vec<Bytes>,
}

/// What came out of a compilation.
#[derive(Debug, Default)]
pub struct Artifacts {
    /// The files asked for, in that order.
    pub files: Vec<Artifact>,
    /// Stages and their times.
    pub times: Times,
    /// What is odd about the model file, and what was left out and why, a line each.
    pub notes: Vec<String>,
    /// Distinct kernels of all levels, 0 if only weights were packed.
    pub kernels: usize,
    /// Bytes of their code.
    pub kernel_bytes: usize,
    /// Bytes of the packed weights, 0 if they were not packed.
    pub weights_bytes: usize,
    /// Bytes of the first binding's arena, on one thread.
    pub arena_bytes: usize,
}

/// The plans of a model for one set of shapes.
struct Binding {
    stats: Stats,
    scores: Scores,
    plans: Vec<Plan>,
    parted: Option<Parted>,
    notes: Vec<String>,
}

/// What a library is made of.
struct Content<'a> {
    /// One list of levels for each binding.
    plans: Vec<Vec<Plan>>,
    /// Of the sets of shapes.
    stats: Vec<Stats>,
    scores: Scores,
    step: Option<StepSpec>,
    /// Of the first binding, where its last layer can be exchanged.
    parted: Option<Parted>,
    metadata: &'a BTreeMap<String, String>,
    /// The first binding for this machine, if none of the targets is.
    reference: &'a dyn Fn(&Target) -> Result<Option<Plan>>,
}

impl Model {
    /// Compiles the model to files of the kinds in `emit`.
    ///
    /// # Errors
    /// As [`Model::plan`]; [`Error::Usage`] if the options do not fit together.
    pub fn artifacts(&self, options: &ArtifactOptions, emit: &[Emit]) -> Result<Artifacts> {
        check(options)?;
        let mut times = self.times().clone();
        let mut bindings = Vec::new();
        for binding in &options.bindings {
            bindings.push(self.plans(binding, &options.targets, &mut times)?);
        }
        let plans =
            aot::distinct_levels(bindings.iter_mut().map(|binding| std::mem::take(&mut binding.plans)).collect());
        let (scores, parted) = (bindings[0].scores, bindings[0].parted.take());
        let notes: Vec<String> = bindings.iter().flat_map(|binding| binding.notes.iter().cloned()).collect();
        let stats = bindings.into_iter().map(|binding| binding.stats).collect();
        let reference = |host: &Target| {
            let graph = self.graph(&options.bindings[0])?;
            Ok(planned(graph, std::slice::from_ref(host), None, self.options())?.plans.pop())
        };
        let (step, metadata) = (None, self.metadata());
        let content = Content { plans, stats, scores, step, parted, metadata, reference: &reference };
        let mut result = self.emit(&content, options, emit, times)?;
        result.notes.splice(0..0, notes);
        Ok(result)
    }

    /// Compiles the parts of a training step of this model to files of the kinds in `emit`.
    ///
    /// # Errors
    /// As [`Model::artifacts`].
    #[cfg(feature = "train")]
    pub(crate) fn step_artifacts(
        &self,
        StepParts { graphs, spec, metadata, compile }: StepParts,
        options: &ArtifactOptions,
        emit: &[Emit],
    ) -> Result<Artifacts> {
        check(options)?;
        let mut times = self.times().clone();
        // Those of the network: in the parts of a step its weights are variables.
        let counts = Counts::of(&self.graph(&options.bindings[0])?)?;
        let (mut plans, mut first) = (Vec::with_capacity(graphs.len()), None);
        for graph in &graphs {
            let planned = planned_with(graph.clone(), &options.targets, &compile, self.options())?;
            times.extend(&planned.times);
            first.get_or_insert_with(|| {
                (Stats::new(&counts, &planned.graph, &planned.plans[0]), scores(&planned.graph))
            });
            plans.push(planned.plans);
        }
        let (stats, scores) = first.ok_or_else(|| Error::usage("step", "its parts", "none"))?;
        let reference = |host: &Target| {
            let host = std::slice::from_ref(host);
            Ok(planned_with(graphs[0].clone(), host, &compile, self.options())?.plans.pop())
        };
        let (stats, step, parted, plans) = (vec![stats], Some(spec), None, aot::distinct_levels(plans));
        let content = Content { plans, stats, scores, step, parted, metadata: &metadata, reference: &reference };
        self.emit(&content, options, emit, times)
    }

    fn emit(&self, content: &Content<'_>, options: &ArtifactOptions, emit: &[Emit], times: Times) -> Result<Artifacts> {
        let threads = if options.threads == 0 { fornax_runtime::available_threads() } else { options.threads };
        let network = Network { plans: &content.plans, step: content.step.as_ref() };
        let mut result = Artifacts { times, arena_bytes: arena_bytes(&content.plans), ..Artifacts::default() };
        self.source().release_pages();
        let header = || Bytes::from(aot::write_header(&options.name, network, options.embed));
        if !emit.iter().any(|kind| kind.holds_code()) {
            for kind in emit {
                let part = match kind {
                    Emit::Weights => result.times.stage("pack", || aot::pack(network, threads))?.bytes,
                    _ => header(),
                };
                result.weights_bytes += if *kind == Emit::Weights { part.len() } else { 0 };
                result.files.push(Artifact { kind: *kind, parts: vec![part] });
            }
            return Ok(result);
        }
        let reference = match Target::host() {
            // Its bits are those of every machine with fused multiply-add.
            Ok(host) if host.fma() && !options.targets.iter().any(Target::runs_here) => (content.reference)(&host)?,
            _ => None,
        };
        let compiled = aot::compile(network, reference.as_ref(), threads, &mut result.times)?;
        self.source().release_pages();
        let weights = compiled.weights();
        result.notes.extend_from_slice(compiled.notes());
        result.kernels = compiled.kernels();
        (result.kernel_bytes, result.weights_bytes) = (compiled.kernel_bytes(), weights.bytes.len());
        let targets: Vec<Target> = content.plans[0].iter().map(|plan| plan.target.clone()).collect();
        let description = Description {
            prefix: &options.name,
            targets: &targets,
            bindings: &options.bindings,
            embed: options.embed,
            flags: &options.flags,
            network,
            stats: content.stats.iter().collect(),
            scores: content.scores,
            source: result.times.stage("source hash", || self.source().hash()),
            metadata: content.metadata,
            weights,
            head: content.parted.as_ref().and_then(|parted| parted.exchangeable(&compiled)),
        };
        let manifest = description.json().to_string();
        let image = result.times.stage("entry", || compiled.image(&options.name, &manifest, options.embed))?;
        for kind in emit {
            let parts = match kind {
                Emit::Header => vec![header()],
                Emit::Weights => vec![weights.bytes.clone()],
                _ => result.times.stage("image", || code(*kind, &image))?,
            };
            result.files.push(Artifact { kind: *kind, parts });
        }
        Ok(result)
    }

    /// The plans for one set of shapes, one per target.
    fn plans(&self, bindings: &Bindings, targets: &[Target], times: &mut Times) -> Result<Binding> {
        let graph = times.stage("import", || self.graph(bindings))?;
        let counts = Counts::of(&graph)?;
        let parted = times.stage("hash of the layers", || Parted::of(&graph))?;
        let planned = planned(graph, targets, None, self.options())?;
        times.extend(&planned.times);
        let stats = Stats::new(&counts, &planned.graph, &planned.plans[0]);
        let (scores, notes) = (scores(&planned.graph), planned.graph.notes);
        Ok(Binding { stats, scores, plans: planned.plans, parted, notes })
    }
}

/// The parts of a training step.
#[cfg(feature = "train")]
pub(crate) struct StepParts {
    /// `predict`, `gradients` and `update`.
    pub graphs: [Graph; 3],
    /// What they are besides graphs.
    pub spec: StepSpec,
    /// Metadata of the network.
    pub metadata: BTreeMap<String, String>,
    /// How they are compiled.
    pub compile: CompileOptions,
}

fn arena_bytes(plans: &[Vec<Plan>]) -> usize {
    Memory::of(plans).first().map_or(0, |memory| memory.arena_bytes(1))
}

/// A file that holds code.
fn code(kind: Emit, image: &aot::ObjectImage) -> Result<Vec<Bytes>> {
    if kind == Emit::So {
        let library = aot::write_shared_library(image)?;
        return Ok(vec![library.head.into(), library.weights, library.tail.into()]);
    }
    let write = if kind == Emit::Archive { aot::write_archive } else { aot::write_object };
    Ok(vec![write(image)?.into()])
}

fn check(options: &ArtifactOptions) -> Result<()> {
    let name = &options.name;
    let first = name.chars().next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_');
    if !first || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
        return Err(Error::usage("--name", "a C identifier", name.as_str()));
    }
    let (targets, arch) = (&options.targets, options.targets.first().map(|target| target.arch()));
    let ascending = targets.is_sorted_by(|a, b| a.level.number < b.level.number);
    if arch.is_none() || !ascending || targets.iter().any(|target| Some(target.arch()) != arch) {
        let found: Vec<String> = targets.iter().map(Target::to_string).collect();
        return Err(Error::usage("targets", "levels of one architecture, ascending", found.join(", ")));
    }
    if options.bindings.is_empty() {
        return Err(Error::usage("bindings", "at least one", "none"));
    }
    Ok(())
}
