//! What can be wrong with a PyTorch checkpoint.

/// What can be wrong with a PyTorch checkpoint.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckpointError {
    /// The pickle names a class or function that is not among those that state dicts are made of.
    #[error(
        "expected tensors, numbers, text and containers of these, found `{name}`, which is not loaded: nothing in a file is \
         executed. If a whole model was saved, load it where its code is and save the weights alone: \
         torch.save(model.state_dict(), \"weights.pth\")"
    )]
    Global {
        /// Module and name, as the pickle has them.
        name: String,
    },
    /// The archive holds a program.
    #[error(
        "expected a state dict, found a TorchScript archive, whose code is not executed; save the weights alone: \
         torch.save(torch.jit.load(\"model.pt\").state_dict(), \"weights.pth\")"
    )]
    Script,
    /// An instruction of the pickle does not fit.
    #[error("pickle, byte {at}: expected {expected}, found {found}")]
    Pickle {
        /// Offset of the instruction.
        at: usize,
        /// What would fit.
        expected: &'static str,
        /// What is there.
        found: String,
    },
    /// A part of the checkpoint does not fit.
    #[error("{what}: expected {expected}, found {found}")]
    Content {
        /// The part: a tensor, a storage, an entry of the archive.
        what: String,
        /// What would fit.
        expected: String,
        /// What is there.
        found: String,
    },
    /// A bound is exceeded.
    #[error("{what}: limit {limit}, needed more")]
    Limit {
        /// The bounded quantity.
        what: &'static str,
        /// The bound.
        limit: usize,
    },
}

impl CheckpointError {
    /// An error about a part of the checkpoint.
    pub(super) fn content(what: impl Into<String>, expected: impl Into<String>, found: impl Into<String>) -> Self {
        Self::Content { what: what.into(), expected: expected.into(), found: found.into() }
    }
}

/// Result of reading a checkpoint.
pub type Result<T, E = CheckpointError> = std::result::Result<T, E>;
