//! The tensors of an architecture: canonical name, shape, role.
//!
//! In: an [`Architecture`]. Out: every tensor that a state dict must hold, in timm's order. Shapes are PyTorch's: a
//! convolution `[out, in / groups, k, k]`, the linear layer `[out, in]`, everything else `[channels]`.

use crate::architecture::Architecture;
use crate::layers::{BlockIndex, Layer, Part, Piece, layers};

/// What a tensor is to its layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    /// Kernel of a convolution.
    ConvWeight {
        /// Its groups.
        group: usize,
    },
    /// Matrix of the linear layer.
    LinearWeight,
    /// Added to the result of a convolution or of the linear layer.
    Bias,
    /// Scale of a batch norm.
    Gamma,
    /// Shift of a batch norm.
    Beta,
    /// Running mean of a batch norm.
    Mean,
    /// Running variance of a batch norm.
    Variance,
}

impl Role {
    /// Last part of the name in a PyTorch state dict.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::ConvWeight { .. } | Self::LinearWeight | Self::Gamma => "weight",
            Self::Bias | Self::Beta => "bias",
            Self::Mean => "running_mean",
            Self::Variance => "running_var",
        }
    }

    /// Whether it belongs to a batch norm.
    pub fn is_norm(self) -> bool {
        matches!(self, Self::Gamma | Self::Beta | Self::Mean | Self::Variance)
    }
}

/// A tensor of an architecture.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Parameter {
    /// Canonical name, for example `blocks.2.1.bn2.running_var`.
    pub name: String,
    /// Shape.
    pub shape: Vec<usize>,
    /// What it is to its layer.
    pub role: Role,
    /// The layer's part in the network.
    pub part: Part,
    /// The block it belongs to.
    pub block: Option<BlockIndex>,
}

impl Parameter {
    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.shape.iter().fold(1, |n, d| n.saturating_mul(*d))
    }
}

impl Layer {
    /// The weight of one of the layer's pieces.
    pub fn weight(&self, piece: &Piece) -> Parameter {
        let (role, shape) = match self.part {
            Part::Classifier => (Role::LinearWeight, vec![piece.output, piece.input]),
            _ => {
                let channels = piece.input.checked_div(piece.group).unwrap_or(0);
                let shape = vec![piece.output, channels, piece.kernel, piece.kernel];
                (Role::ConvWeight { group: piece.group }, shape)
            }
        };
        self.parameter(&piece.name, role, shape)
    }

    /// The bias of one of the layer's pieces, if the layer has one.
    pub fn bias(&self, piece: &Piece) -> Option<Parameter> {
        self.bias.then(|| self.parameter(&piece.name, Role::Bias, vec![piece.output]))
    }

    /// Scale, shift, mean and variance of the batch norm, if there is one.
    pub fn norm(&self) -> Option<[Parameter; 4]> {
        let channels = self.pieces.iter().map(|piece| piece.output).sum();
        let name = self.norm.as_deref()?;
        let roles = [Role::Gamma, Role::Beta, Role::Mean, Role::Variance];
        Some(roles.map(|role| self.parameter(name, role, vec![channels])))
    }

    fn parameter(&self, owner: &str, role: Role, shape: Vec<usize>) -> Parameter {
        let name = format!("{owner}.{}", role.suffix());
        Parameter { name, shape, role, part: self.part, block: self.block }
    }
}

/// Every tensor of `architecture`, in order of execution.
pub fn parameters(architecture: &Architecture) -> Vec<Parameter> {
    let mut out = Vec::new();
    for layer in layers(architecture) {
        for piece in &layer.pieces {
            out.push(layer.weight(piece));
            out.extend(layer.bias(piece));
        }
        out.extend(layer.norm().into_iter().flatten());
    }
    out
}
