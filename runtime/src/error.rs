//! Everything that can go wrong while loading, binding or running.

use std::fmt;
use std::path::PathBuf;

use crate::dtype::DType;
use crate::features::CpuFeatures;
use crate::tensor::Shape;

/// Which side of a program a tensor is on.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PortKind {
    /// Read by the program.
    Input,
    /// Written by the program.
    Output,
    /// Kept by a session: a parameter or a state.
    Variable,
}

impl fmt::Display for PortKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            PortKind::Input => "input",
            PortKind::Output => "output",
            PortKind::Variable => "variable",
        })
    }
}

/// An error of the runtime.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The system has no memory for a block.
    #[error("cannot allocate {bytes} bytes for {what}")]
    Allocation {
        /// What the block is for.
        what: &'static str,
        /// Its size.
        bytes: usize,
    },
    /// The size of a tensor in bytes does not fit the address space.
    #[error("a tensor {dtype}{shape} does not fit in memory")]
    TensorTooLarge {
        /// Element type.
        dtype: DType,
        /// The offending shape.
        shape: Shape,
    },
    /// The data given for a tensor has the wrong length.
    #[error("a tensor {dtype}{shape} takes {expected} bytes, {found} given")]
    DataLength {
        /// Element type.
        dtype: DType,
        /// Shape asked for.
        shape: Shape,
        /// Bytes that dtype and shape take.
        expected: usize,
        /// Bytes given.
        found: usize,
    },
    /// A name is not that of an element type.
    #[error("`{found}` is not an element type (expected one of f32 f64 f16 bf16 i8 u8 i16 u16 i32 u32 i64 u64 bool)")]
    UnknownDType {
        /// The name given.
        found: String,
    },
    /// The code needs instructions that this processor, or its operating system, does not offer.
    #[error("the program needs {needed}; this processor lacks {missing}")]
    MissingFeatures {
        /// What the code was compiled for.
        needed: CpuFeatures,
        /// The part of it that is absent.
        missing: CpuFeatures,
    },
    /// A field of a program contradicts the rest of it.
    #[error("step {step} ({kernel}, from {node}): {field}: expected {expected}, found {found}")]
    BadStep {
        /// Position of the step.
        step: usize,
        /// Its kernel.
        kernel: String,
        /// The nodes of the model that it comes from.
        node: String,
        /// The offending field.
        field: &'static str,
        /// The rule it breaks.
        expected: String,
        /// Its value.
        found: usize,
    },
    /// A program has fewer steps than its prologue.
    #[error("prologue: expected at most {expected} steps, found {found}")]
    Prologue {
        /// Steps of the program.
        expected: usize,
        /// Steps of its prologue.
        found: usize,
    },
    /// A session of no program was asked for.
    #[error("programs of a session: expected at least one, found none")]
    NoProgram,
    /// A session has no such program.
    #[error("program: expected one below {expected}, found {found}")]
    ProgramIndex {
        /// How many programs it has.
        expected: usize,
        /// The program asked for.
        found: usize,
    },
    /// A parameter or state of a program contradicts the rest of it.
    #[error("variable `{name}`: {field}: expected {expected}, found {found}")]
    BadVariable {
        /// The variable, or `all`.
        name: String,
        /// The offending field.
        field: &'static str,
        /// The rule it breaks.
        expected: String,
        /// Its value.
        found: String,
    },
    /// A program has no parameter or state of this name.
    #[error("parameter or state: expected {expected}, found `{found}`")]
    NoVariable {
        /// The names it has.
        expected: String,
        /// The name asked for.
        found: String,
    },
    /// Bytes are not the saved state of a program with these variables.
    #[error("unusable state: {field}: expected {expected}, found {found}")]
    State {
        /// The offending field.
        field: &'static str,
        /// What the program needs there.
        expected: String,
        /// What the bytes hold there.
        found: String,
    },
    /// The wrong number of tensors was given.
    #[error("expected {expected} {kind} tensors, found {found}")]
    PortCount {
        /// Inputs or outputs.
        kind: PortKind,
        /// How many the program has.
        expected: usize,
        /// How many were given.
        found: usize,
    },
    /// A tensor has the wrong element type.
    #[error("{kind} `{name}`: expected element type {expected}, found {found}")]
    PortDType {
        /// Input or output.
        kind: PortKind,
        /// Its name in the model.
        name: String,
        /// Element type of the program.
        expected: DType,
        /// Element type given.
        found: DType,
    },
    /// A tensor has the wrong shape.
    #[error("{kind} `{name}`: expected shape {expected}, found {found}")]
    PortShape {
        /// Input or output.
        kind: PortKind,
        /// Its name in the model.
        name: String,
        /// Shape of the program.
        expected: Shape,
        /// Shape given.
        found: Shape,
    },
    /// The table for the times of a profiled run has the wrong length.
    #[error("times_ns: expected {expected} entries, one per step, found {found}")]
    TimesLength {
        /// Steps of the program.
        expected: usize,
        /// Entries given.
        found: usize,
    },
    /// The timeline for a traced run is for another program or pool.
    #[error("timeline: expected {expected_steps} steps on {expected_threads} threads, found {steps} on {threads}")]
    TimelineSize {
        /// Steps of the program.
        expected_steps: usize,
        /// Threads of the pool.
        expected_threads: usize,
        /// Steps there is room for.
        steps: usize,
        /// Threads there is room for.
        threads: usize,
    },
    /// A pool of that many threads is not possible.
    #[error("threads: expected 1 to {max}, found {found}")]
    ThreadCount {
        /// The most a pool takes.
        max: usize,
        /// Threads asked for.
        found: usize,
    },
    /// The system refused a thread.
    #[error("cannot start worker {worker}")]
    Spawn {
        /// Number of the worker.
        worker: usize,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A file could not be opened or mapped.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: std::io::Error,
    },
    /// A path leads to something that is not a regular file.
    #[error("{}: expected a regular file, found {found}", path.display())]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What is there.
        found: &'static str,
    },
    /// A file is larger than the caller accepts.
    #[error("{}: {found} bytes, the limit is {limit}", path.display())]
    FileTooLarge {
        /// The file.
        path: PathBuf,
        /// The most the caller accepts, in bytes.
        limit: u64,
        /// Size of the file, in bytes.
        found: u64,
    },
    /// A file is not a library that Fornax compiled for this architecture, in a version of the format known here.
    #[error("{}: not a library compiled by Fornax for this machine: {field}: expected {expected}, found {found}", path.display())]
    NotALibrary {
        /// The file.
        path: PathBuf,
        /// The field that tells.
        field: &'static str,
        /// What a library has there.
        expected: String,
        /// What the file has there.
        found: String,
    },
    /// A compiled library contradicts itself.
    #[error("{}: damaged library: {field}: expected {expected}, found {found}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The offending field.
        field: String,
        /// The rule it breaks.
        expected: String,
        /// Its value.
        found: String,
    },
    /// Weights are damaged, or not those that a library needs.
    #[error("{}: unusable weights: {field}: expected {expected}, found {found}", path.display())]
    Weights {
        /// The file that holds the weights.
        path: PathBuf,
        /// The offending field.
        field: &'static str,
        /// What the library needs there.
        expected: String,
        /// What the file has there.
        found: String,
    },
    /// A library without weights of its own was opened without a weights file.
    #[error(
        "{}: weights: expected in the library, or in {} beside it, or in the file that the `weights` option names, found none",
        path.display(),
        beside.display()
    )]
    NoWeights {
        /// The library.
        path: PathBuf,
        /// Where its weights are looked for when no other file is named.
        beside: PathBuf,
    },
    /// A library has no code for a level.
    #[error("{}: level: expected {expected}, found {found}", path.display())]
    NoLevel {
        /// The library.
        path: PathBuf,
        /// The levels it has.
        expected: String,
        /// The level asked for.
        found: u32,
    },
    /// A library has no such binding.
    #[error("{}: binding: expected one below {expected}, found {found}", path.display())]
    NoBinding {
        /// The library.
        path: PathBuf,
        /// How many bindings it has.
        expected: usize,
        /// The binding asked for.
        found: usize,
    },
}
