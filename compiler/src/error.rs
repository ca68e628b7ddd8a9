//! Errors between a graph and its code: what the graph says, and what only a compiler can refuse.

/// What can go wrong between a graph and its code.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The graph is at fault: an operator's operands, an invariant, a limit, its text.
    #[error(transparent)]
    Graph(#[from] fornax_ir::Error),
    /// Nodes that no kernel can compute natively, all of them.
    #[error("unsupported: {}", .0.join("; "))]
    Unsupported(Vec<String>),
    /// The plan breaks an invariant: a bug of a lowering, not of the model.
    #[error("invalid plan: {}", .0.join("\n"))]
    Plan(Vec<String>),
    /// The code generator refused a function: a bug of the compiler, not of the model.
    #[error("code generation of {function}: {message}")]
    Codegen {
        /// Kernel name.
        function: String,
        /// The generator's own words.
        message: String,
    },
    /// The system gives no memory for code that a process has written, as under `MemoryDenyWriteExecute`.
    #[error(
        "executable memory: expected some for the compiled code, found that the system refuses it ({0}); \
         a library (`fornax compile`) runs from its file"
    )]
    ExecutableMemory(String),
    /// A compiled library is not as this version writes it.
    #[error("library: {what}: expected {expected}, found {found}")]
    Library {
        /// The part of it.
        what: String,
        /// What was expected of it.
        expected: String,
        /// What was found.
        found: String,
    },
    /// The runtime refused the program.
    #[error(transparent)]
    Runtime(#[from] RuntimeError),
}

/// A runtime error in a form that can be compared and cloned.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct RuntimeError(pub String);

/// Result of the compiler's stages.
pub type Result<T, E = Error> = std::result::Result<T, E>;
