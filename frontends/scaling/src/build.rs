//! From an architecture and its weights to a graph.
//!
//! In: an [`Architecture`], a size, and a source of weights. Out: the graph that importing an ONNX export of the same network
//! gives, before the passes: batch norms are nodes, pads are those of the actual size of each layer. Invariant: nothing here
//! rounds or scales, and only the weights that the outputs depend on are asked for.

mod options;

use fornax_ir::OpError;
use fornax_ir::graph::{Graph, GraphBuilder, ValueId};
use fornax_ir::ops::reduce::ReduceKind;
use fornax_ir::ops::{BatchNorm, Binary, Concat, Conv, Gemm, Op, Reduce, Reshape, Slice, Unary};
use fornax_ir::scalar::{BinaryFn, UnaryFn};

use crate::architecture::{Activation, Architecture, Block, Gate, Head, Padding, SqueezeExcite};
use crate::layers::{self, BlockIndex, Layer, Piece, block_layers};
use crate::parameters::Parameter;
use crate::weights::{self, Weights};
use options::Targets;
pub use options::{BuildOptions, Outputs, output_names};

/// Why a graph cannot be built.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An option does not fit the architecture.
    #[error("{field}: expected {expected}, found {found}")]
    Option {
        /// The option.
        field: &'static str,
        /// What would fit.
        expected: String,
        /// What was given.
        found: String,
    },
    /// A weight cannot be had.
    #[error(transparent)]
    Weights(#[from] weights::Error),
    /// The compiler refused a layer.
    #[error(transparent)]
    Graph(#[from] fornax_ir::Error),
}

/// Result of building.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// The graph of `architecture` with `weights`: input `input`, outputs as the options say.
///
/// # Errors
/// [`Error::Option`] for an empty size or an output that the architecture does not have, [`Error::Weights`] for a weight
/// that cannot be had, [`Error::Graph`] for a layer that the compiler refuses.
pub fn build(architecture: &Architecture, options: &BuildOptions, weights: &dyn Weights) -> Result<Graph> {
    let targets = Targets::of(architecture, options)?;
    let mut net = Net { b: GraphBuilder::new(&architecture.name), weights, architecture };
    let (height, width) = options.side;
    let x = net.b.input("input", [options.batch, architecture.channels, height, width]);
    let mut x = net.stem(x)?;
    targets.stem.iter().for_each(|name| net.b.output(*name, x));
    let mut running = 0;
    for (stage, blocks) in architecture.stages.iter().enumerate().take(targets.stages) {
        for (block, b) in blocks.iter().enumerate() {
            x = net.block(b, BlockIndex { stage, block, running }, x)?;
            running += 1;
        }
        targets.at(stage).for_each(|name| net.b.output(name, x));
    }
    if targets.pooled || targets.logits {
        x = net.features(x)?;
    }
    if targets.logits {
        let logits = net.classifier(x)?;
        net.b.output("logits", logits);
    } else if targets.pooled {
        net.b.output("pooled", x);
    }
    Ok(net.b.finish())
}

/// The function of an activation.
pub fn function(activation: Activation) -> UnaryFn {
    match activation {
        Activation::Relu => UnaryFn::Relu,
        Activation::Relu6 => UnaryFn::Clip(0.0, 6.0),
        Activation::Silu => UnaryFn::Silu,
        Activation::HardSwish => UnaryFn::HardSwish,
    }
}

/// The function of a gate.
pub fn gate(gate: Gate) -> UnaryFn {
    match gate {
        Gate::Sigmoid => UnaryFn::Sigmoid,
        Gate::HardSigmoid => UnaryFn::HardSigmoid(1.0 / 6.0, 0.5),
    }
}

/// Padding before and after `size` pixels.
pub fn pads(padding: Padding, size: usize, kernel: usize, stride: usize) -> (usize, usize) {
    match padding {
        Padding::Symmetric => (kernel.saturating_sub(1) / 2, kernel.saturating_sub(1) / 2),
        Padding::Same => {
            let steps = size.div_ceil(stride.max(1)).saturating_sub(1);
            let total = steps.saturating_mul(stride).saturating_add(kernel).saturating_sub(size);
            (total / 2, total - total / 2)
        }
    }
}

/// Refuses splits into more parts than there are channels.
fn splits(block: &Block) -> Result<(), OpError> {
    for (field, parts, channels) in [
        ("kernels", block.kernels.len(), block.expanded),
        ("expand_split", block.expand_split, block.input.min(block.expanded)),
        ("project_split", block.project_split, block.expanded.min(block.output)),
    ] {
        let most = channels.min(layers::MAX_PARTS);
        if !(1..=most).contains(&parts) {
            return Err(OpError::new(field, format!("1 to {most} parts of {channels} channels"), parts.to_string()));
        }
    }
    Ok(())
}

/// A graph under construction.
struct Net<'a> {
    b: GraphBuilder,
    weights: &'a dyn Weights,
    architecture: &'a Architecture,
}

impl Net<'_> {
    fn stem(&mut self, x: ValueId) -> Result<ValueId> {
        let layer = layers::stem(self.architecture);
        let x = self.layer(&layer, x)?;
        self.activation("bn1", self.architecture.stem.activation, x)
    }

    fn block(&mut self, block: &Block, index: BlockIndex, input: ValueId) -> Result<ValueId> {
        let prefix = format!("blocks.{}.{}", index.stage, index.block);
        splits(block).map_err(|e| e.at(&prefix, "block"))?;
        let parts = block_layers(block, index);
        let mut x = input;
        for layer in parts.expand.iter().chain([&parts.spatial]) {
            x = self.layer(layer, x)?;
            x = self.activation(layer.norm.as_deref().unwrap_or(&layer.name), block.activation, x)?;
        }
        if let (Some(layers), Some(squeeze)) = (&parts.squeeze, &block.squeeze_excite) {
            x = self.squeeze_excite(&prefix, squeeze, layers, x)?;
        }
        if let Some(project) = &parts.project {
            x = self.layer(project, x)?;
        }
        if block.skip {
            let add = Binary { function: BinaryFn::Add };
            x = self.op(&format!("{prefix}.add"), add, &[x, input])?;
        }
        Ok(x)
    }

    /// Mean, two projections, gate, product.
    fn squeeze_excite(
        &mut self,
        prefix: &str,
        squeeze: &SqueezeExcite,
        [reduce, expand]: &[Layer; 2],
        x: ValueId,
    ) -> Result<ValueId> {
        let mut s = self.mean(&format!("{prefix}.se.mean"), x)?;
        s = self.layer(reduce, s)?;
        s = self.activation(&reduce.name, squeeze.activation, s)?;
        s = self.layer(expand, s)?;
        s = self.op(&format!("{prefix}.se.gate"), Unary { function: gate(squeeze.gate) }, &[s])?;
        self.op(&format!("{prefix}.se"), Binary { function: BinaryFn::Mul }, &[x, s])
    }

    /// From the last block to the features that the classifier reads, `[batch, features]`.
    fn features(&mut self, x: ValueId) -> Result<ValueId> {
        let layer = layers::head(self.architecture);
        let x = match self.architecture.head {
            Head::BeforePool { activation, .. } => {
                let x = self.layer(&layer, x)?;
                let x = self.activation("bn2", activation, x)?;
                self.mean("global_pool", x)?
            }
            Head::AfterPool { activation, .. } => {
                let x = self.mean("global_pool", x)?;
                let x = self.layer(&layer, x)?;
                self.activation("conv_head", activation, x)?
            }
        };
        let shape = self.b.ty(x).shape[..2].to_vec();
        self.op("flatten", Reshape { shape }, &[x])
    }

    fn classifier(&mut self, x: ValueId) -> Result<ValueId> {
        let layer = layers::classifier(self.architecture);
        let mut operands = vec![x];
        for piece in &layer.pieces {
            operands.push(self.parameter(&layer.weight(piece))?);
            operands.extend(layer.bias(piece).map(|bias| self.parameter(&bias)).transpose()?);
        }
        self.op("classifier", Gemm { trans_b: true, bias: layer.bias, ..Gemm::default() }, &operands)
    }

    /// Convolution and batch norm.
    fn layer(&mut self, layer: &Layer, x: ValueId) -> Result<ValueId> {
        let x = match &layer.pieces[..] {
            [piece] => self.conv(layer, piece, x)?,
            pieces => self.split_conv(layer, pieces, x)?,
        };
        let (Some(name), Some(norm)) = (&layer.norm, layer.norm()) else { return Ok(x) };
        let mut operands = vec![x];
        for parameter in &norm {
            operands.push(self.parameter(parameter)?);
        }
        self.op(name, BatchNorm { epsilon: self.architecture.eps as f32 }, &operands)
    }

    /// Convolutions of consecutive channels, concatenated.
    fn split_conv(&mut self, layer: &Layer, pieces: &[Piece], x: ValueId) -> Result<ValueId> {
        let (mut start, mut parts) = (0, Vec::new());
        let shape = self.b.ty(x).shape.to_vec();
        for piece in pieces {
            let (mut starts, mut sizes) = (vec![0; shape.len()], shape.clone());
            (starts[1], sizes[1]) = (start, piece.input);
            start += piece.input;
            let part = self.op(&format!("{}.split", piece.name), Slice { starts, steps: Vec::new(), sizes }, &[x])?;
            parts.push(self.conv(layer, piece, part)?);
        }
        self.op(&layer.name, Concat { axis: 1 }, &parts)
    }

    fn conv(&mut self, layer: &Layer, piece: &Piece, x: ValueId) -> Result<ValueId> {
        let (height, width) = (self.b.ty(x).shape[2], self.b.ty(x).shape[3]);
        let along = |size| pads(self.architecture.padding, size, piece.kernel, layer.stride);
        let ((top, bottom), (left, right)) = (along(height), along(width));
        let mut operands = vec![x, self.parameter(&layer.weight(piece))?];
        operands.extend(layer.bias(piece).map(|bias| self.parameter(&bias)).transpose()?);
        let op = Conv {
            strides: vec![layer.stride; 2],
            pads: vec![top, left, bottom, right],
            group: piece.group,
            bias: layer.bias,
            ..Conv::default()
        };
        self.op(&piece.name, op, &operands)
    }

    fn activation(&mut self, owner: &str, activation: Activation, x: ValueId) -> Result<ValueId> {
        self.op(&format!("{owner}.act"), Unary { function: function(activation) }, &[x])
    }

    /// The mean of each channel, `[batch, channels, 1, 1]`.
    fn mean(&mut self, name: &str, x: ValueId) -> Result<ValueId> {
        self.op(name, Reduce { kind: ReduceKind::Mean, axes: vec![2, 3], keepdims: true }, &[x])
    }

    fn parameter(&mut self, parameter: &Parameter) -> Result<ValueId> {
        let constant = self.weights.constant(parameter)?;
        Ok(self.b.constant(&parameter.name, constant))
    }

    fn op(&mut self, name: &str, op: impl Into<Op>, operands: &[ValueId]) -> Result<ValueId> {
        Ok(self.b.op(name, op, operands)?)
    }
}
