//! Import errors: one enum, one line each, always naming the node, tensor, attribute or limit at fault.

use std::path::PathBuf;

/// What can be wrong with a model file, or with what was asked of it.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The file cannot be opened or mapped.
    #[error("{}: {message}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system or the runtime said.
        message: String,
    },
    /// The bytes are not an ONNX model.
    #[error("not an ONNX model: {0}")]
    NotOnnx(String),
    /// A field of the model, the graph or a function is wrong.
    #[error("{place}: {field}: expected {expected}, found {found}")]
    Model {
        /// `model`, `graph`, or a named function, value or output.
        place: String,
        /// The field at fault.
        field: String,
        /// What ONNX asks for.
        expected: String,
        /// What the file holds.
        found: String,
    },
    /// A tensor of the file is wrong.
    #[error("tensor {tensor}: {field}: expected {expected}, found {found}")]
    Tensor {
        /// Name of the tensor.
        tensor: String,
        /// The field at fault.
        field: String,
        /// What ONNX asks for.
        expected: String,
        /// What the file holds.
        found: String,
    },
    /// An operand or attribute of a node is wrong.
    #[error("{node}: {op}: {field}: expected {expected}, found {found}")]
    Node {
        /// Name of the node, or of its first output.
        node: String,
        /// Operator type.
        op: String,
        /// Operand or attribute at fault.
        field: String,
        /// What the operator needs.
        expected: String,
        /// What the node has.
        found: String,
    },
    /// Operators, or variants of operators, that have no import; all of the model's.
    #[error("unsupported: {}", .0.join("; "))]
    Unsupported(Vec<String>),
    /// Dimensions of inputs that nothing binds, all of them.
    #[error("unbound dimensions: {}; bind them by name or give the input's shape", .0.join(", "))]
    Unbound(Vec<String>),
    /// A binding fits no input of the model.
    #[error("binding {name}: expected {expected}, found {found}")]
    Binding {
        /// Name of the dimension or input.
        name: String,
        /// What would fit.
        expected: String,
        /// What was given.
        found: String,
    },
    /// A limit was exceeded.
    #[error("{place}: limit {limit}: allowed {allowed}, needed {needed}")]
    Limit {
        /// The node, tensor or file at fault.
        place: String,
        /// Name of the field of [`crate::Limits`].
        limit: &'static str,
        /// The bound.
        allowed: u64,
        /// What the model would need; saturated.
        needed: u64,
    },
    /// The compiler refused the graph as a whole.
    #[error(transparent)]
    Compiler(Box<fornax_ir::Error>),
}

/// Result of the importer.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl From<fornax_ir::Error> for Error {
    fn from(error: fornax_ir::Error) -> Self {
        Self::Compiler(Box::new(error))
    }
}

impl Error {
    /// An error about a field of the model.
    pub(crate) fn model(
        place: impl Into<String>,
        field: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self::Model { place: place.into(), field: field.into(), expected: expected.into(), found: found.into() }
    }

    /// An error about a field of a tensor.
    pub(crate) fn tensor(
        tensor: impl Into<String>,
        field: impl Into<String>,
        expected: impl Into<String>,
        found: impl Into<String>,
    ) -> Self {
        Self::Tensor { tensor: tensor.into(), field: field.into(), expected: expected.into(), found: found.into() }
    }
}

/// The refusal of a variant of an operator at some nodes.
pub(crate) fn variant(op: &str, nodes: &str, why: &str) -> String {
    format!("{op} ({nodes}): {why}")
}

/// `text` cut to a length that fits a message, on a character boundary.
pub(crate) fn short(text: &str) -> String {
    const LONGEST: usize = 80;
    match text.char_indices().nth(LONGEST) {
        None => text.escape_debug().to_string(),
        Some((end, _)) => format!("{}…", text[..end].escape_debug()),
    }
}
