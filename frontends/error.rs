//! The errors of the public API: one enum, one line each, and the exit code that each stands for.

use std::path::PathBuf;

/// What can go wrong between a model file and an answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A model cannot be imported.
    #[error("{}: {error}", path.display())]
    Model {
        /// The model file.
        path: PathBuf,
        /// The importer's answer.
        error: Box<fornax_onnx::Error>,
    },
    /// The compiler refused the model.
    #[error(transparent)]
    Compiler(Box<fornax_compiler::Error>),
    /// The graph is at fault.
    #[error(transparent)]
    Graph(#[from] fornax_ir::Error),
    /// The runtime refused a tensor, a thread count or a file.
    #[error(transparent)]
    Runtime(#[from] fornax_runtime::Error),
    /// A spec or preset is not one.
    #[error(transparent)]
    Spec(Box<fornax_scaling::spec::SpecError>),
    /// A state dict does not fit the network.
    #[error(transparent)]
    Weights(Box<fornax_scaling::weights::Error>),
    /// The network of a spec cannot be built.
    #[error(transparent)]
    Build(Box<fornax_scaling::build::Error>),
    /// A file of tensors, labels or pixels cannot be read or written.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was expected, and what is there.
        message: String,
    },
    /// A folder is no set of photos by class.
    #[error("{}: not a folder of photos by class:{}", path.display(), faults.iter().map(|fault| format!("\n  {fault}")).collect::<String>())]
    Dataset {
        /// The folder.
        path: PathBuf,
        /// All faults, one line each.
        faults: Vec<String>,
    },
    /// An entry of the model's metadata, or an input, does not fit.
    #[error("{what}: expected {expected}, found {found}")]
    Input {
        /// The entry, tensor or setting at fault.
        what: String,
        /// What would fit.
        expected: String,
        /// What is there.
        found: String,
    },
    /// The request itself makes no sense for this model.
    #[error("{what}: expected {expected}, found {found}")]
    Usage {
        /// The option or argument.
        what: String,
        /// What would make sense.
        expected: String,
        /// What was given.
        found: String,
    },
    /// A result is not what it was asked to be.
    #[error("{what}: expected {expected}, found {found}")]
    Mismatch {
        /// What was compared.
        what: String,
        /// What was asked for.
        expected: String,
        /// What came out.
        found: String,
    },
    /// A bound of [`crate::Options`] was exceeded.
    #[error("{what}: limit {limit}, needed {needed}")]
    Limit {
        /// The bounded quantity, with its unit.
        what: &'static str,
        /// The bound.
        limit: u64,
        /// What the model needs.
        needed: u64,
    },
    /// The answer cannot be written to its stream.
    #[error("cannot write the output")]
    Output(#[from] std::io::Error),
}

impl From<fornax_compiler::Error> for Error {
    fn from(error: fornax_compiler::Error) -> Self {
        Self::Compiler(Box::new(error))
    }
}

impl From<fornax_scaling::spec::SpecError> for Error {
    fn from(error: fornax_scaling::spec::SpecError) -> Self {
        Self::Spec(Box::new(error))
    }
}

impl From<fornax_scaling::weights::Error> for Error {
    fn from(error: fornax_scaling::weights::Error) -> Self {
        Self::Weights(Box::new(error))
    }
}

impl From<fornax_scaling::build::Error> for Error {
    fn from(error: fornax_scaling::build::Error) -> Self {
        Self::Build(Box::new(error))
    }
}

/// Result of the public API.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// An error about a file.
    pub(crate) fn file(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self::File { path: path.into(), message: message.into() }
    }

    /// An error about an input.
    pub(crate) fn input(what: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Input { what: what.into(), expected: expected.into(), found: found.into() }
    }

    /// An error about the request.
    pub fn usage(what: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Usage { what: what.into(), expected: expected.into(), found: found.into() }
    }

    /// Whether all that is missing are shapes of inputs that the model leaves open.
    pub fn is_unbound(&self) -> bool {
        matches!(self, Self::Model { error, .. } if matches!(**error, fornax_onnx::Error::Unbound(_)))
    }

    /// Whether all that is missing are values of inputs, which decide shapes.
    pub fn wants_values(&self) -> bool {
        let known = |why: &String| why.contains("known at compile time");
        matches!(self, Self::Model { error, .. } if matches!(&**error, fornax_onnx::Error::Unsupported(all) if all.iter().all(known)))
    }

    /// The exit code of the command line: 1 model or input, 2 usage, 3 mismatch, 4 unsupported, 5 limit exceeded.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Usage { .. } => 2,
            Self::Mismatch { .. } => 3,
            Self::Limit { .. } => 5,
            Self::Model { error, .. } => import_code(error),
            Self::Compiler(error) => compiler_code(error),
            Self::Graph(error) => graph_code(error),
            Self::Weights(error) => weights_code(error),
            Self::Build(error) => match &**error {
                fornax_scaling::build::Error::Option { .. } => 2,
                fornax_scaling::build::Error::Weights(error) => weights_code(error),
                fornax_scaling::build::Error::Graph(error) => graph_code(error),
                _ => 1,
            },
            Self::Runtime(fornax_runtime::Error::FileTooLarge { .. } | fornax_runtime::Error::Allocation { .. }) => 5,
            Self::Runtime(fornax_runtime::Error::ThreadCount { .. }) => 2,
            Self::Runtime(fornax_runtime::Error::MissingFeatures { .. }) => 4,
            _ => 1,
        }
    }
}

fn import_code(error: &fornax_onnx::Error) -> u8 {
    match error {
        fornax_onnx::Error::Unsupported(_) => 4,
        fornax_onnx::Error::Limit { .. } => 5,
        fornax_onnx::Error::Compiler(error) => graph_code(error),
        _ => 1,
    }
}

fn weights_code(error: &fornax_scaling::weights::Error) -> u8 {
    use fornax_scaling::weights::{CheckpointError, Error};
    match error {
        Error::TooLarge { .. } | Error::Checkpoint { error: CheckpointError::Limit { .. }, .. } => 5,
        Error::Pattern { .. } => 2,
        _ => 1,
    }
}

fn compiler_code(error: &fornax_compiler::Error) -> u8 {
    match error {
        fornax_compiler::Error::Unsupported(_) => 4,
        fornax_compiler::Error::Graph(error) => graph_code(error),
        _ => 1,
    }
}

fn graph_code(error: &fornax_ir::Error) -> u8 {
    if matches!(error, fornax_ir::Error::Limit { .. }) { 5 } else { 1 }
}
