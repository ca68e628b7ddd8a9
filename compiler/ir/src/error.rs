//! Compile errors: one enum, every variant says where and what.

/// What can go wrong between a graph and its code.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An operator refuses its operands or attributes.
    #[error("{node}: {op}: {field}: expected {expected}, found {found}")]
    Operator {
        /// Name of the node, as in the model file.
        node: String,
        /// Operator mnemonic.
        op: String,
        /// Attribute or operand at fault.
        field: String,
        /// What the operator needs.
        expected: String,
        /// What it was given.
        found: String,
    },
    /// A configured bound was exceeded.
    #[error("{what}: limit {limit}, needed {needed}{}", .hint.as_ref().map(|h| format!(" ({h})")).unwrap_or_default())]
    Limit {
        /// The bounded quantity, with its unit.
        what: String,
        /// The bound.
        limit: u64,
        /// What the model would need.
        needed: u64,
        /// How to raise the bound.
        hint: Option<String>,
    },
    /// The graph breaks an invariant; every message, located.
    #[error("invalid graph: {}", .0.join("\n"))]
    Invalid(Vec<String>),
    /// Operators without a gradient rule on the way that a gradient goes; every one, located.
    #[error("no gradient of: {}", .0.join("; "))]
    NotDifferentiable(Vec<String>),
    /// Text that does not parse as a graph.
    #[error("line {line}: expected {expected}, found {found}")]
    Parse {
        /// One-based line.
        line: usize,
        /// What the grammar allows here.
        expected: String,
        /// The text at fault.
        found: String,
    },
}

/// Result of the compiler's stages.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What an operator says against its operands or attributes; the graph adds the node's name.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("{field}: expected {expected}, found {found}")]
pub struct OpError {
    /// Attribute or operand at fault.
    pub field: String,
    /// What the operator needs.
    pub expected: String,
    /// What it was given.
    pub found: String,
}

impl OpError {
    /// An error about `field`.
    pub fn new(field: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self { field: field.into(), expected: expected.into(), found: found.into() }
    }

    /// The same error located at a node.
    pub fn at(self, node: &str, op: &str) -> Error {
        Error::Operator {
            node: node.into(),
            op: op.into(),
            field: self.field,
            expected: self.expected,
            found: self.found,
        }
    }
}
