//! The layers of an architecture that hold parameters, in order of execution, with their canonical (timm) names.
//!
//! In: an [`Architecture`]. Out: one [`Layer`] per convolution or linear layer. Invariant: names are unique, and
//! [`crate::build`], [`crate::parameters`] and [`crate::count`] all read this list, so a graph asks for exactly the parameters
//! listed, and they are what is counted.

use crate::architecture::{Architecture, Block, BlockKind, Head};
use crate::rounding::split_channels;

/// What a layer does in the network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// First convolution.
    Stem,
    /// 1x1 expansion of a block.
    Expand,
    /// Depthwise convolution of a block, or the dense one of a fused block.
    Spatial,
    /// First convolution of squeeze-and-excite.
    SqueezeReduce,
    /// Second convolution of squeeze-and-excite.
    SqueezeExpand,
    /// 1x1 projection of a block.
    Project,
    /// Convolution between the blocks and the classifier.
    Head,
    /// Linear layer at the end.
    Classifier,
}

/// Where a block stands, all counted from 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BlockIndex {
    /// Stage.
    pub stage: usize,
    /// Block of the stage.
    pub block: usize,
    /// Block of the network.
    pub running: usize,
}

/// One convolution, or one of several side by side over parts of the channels.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Piece {
    /// Canonical name, for example `blocks.2.1.conv_dw`.
    pub name: String,
    /// Channels it reads.
    pub input: usize,
    /// Channels it makes.
    pub output: usize,
    /// Side of the kernel.
    pub kernel: usize,
    /// Groups: 1 if dense, the channels if depthwise.
    pub group: usize,
}

/// A convolution or linear layer with its bias or batch norm.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Layer {
    /// What it does.
    pub part: Part,
    /// The block it belongs to.
    pub block: Option<BlockIndex>,
    /// Canonical name.
    pub name: String,
    /// The convolution; several read consecutive channels and are concatenated.
    pub pieces: Vec<Piece>,
    /// Stride of every piece.
    pub stride: usize,
    /// Whether there is a bias.
    pub bias: bool,
    /// Canonical name of the batch norm that follows.
    pub norm: Option<String>,
}

/// The layers of a block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BlockLayers {
    /// 1x1 expansion.
    pub expand: Option<Layer>,
    /// Depthwise or dense convolution.
    pub spatial: Layer,
    /// The two convolutions of squeeze-and-excite.
    pub squeeze: Option<[Layer; 2]>,
    /// 1x1 projection.
    pub project: Option<Layer>,
}

impl BlockLayers {
    /// The layers in order of execution.
    pub fn into_layers(self) -> impl Iterator<Item = Layer> {
        let squeeze = self.squeeze.into_iter().flatten();
        self.expand.into_iter().chain([self.spatial]).chain(squeeze).chain(self.project)
    }
}

/// Most parts that channels are split into; [`crate::build`] refuses more.
pub const MAX_PARTS: usize = 64;

/// Equal parts of `channels`, the remainder to the first; at most [`MAX_PARTS`].
pub fn split(channels: usize, parts: usize) -> Vec<usize> {
    split_channels(channels, parts.clamp(1, MAX_PARTS))
}

/// Every layer of `architecture`, in order of execution.
pub fn layers(architecture: &Architecture) -> Vec<Layer> {
    let mut out = vec![stem(architecture)];
    for (index, block) in indexed_blocks(architecture) {
        out.extend(block_layers(block, index).into_layers());
    }
    out.extend([head(architecture), classifier(architecture)]);
    out
}

/// Every block with its index.
pub fn indexed_blocks(architecture: &Architecture) -> impl Iterator<Item = (BlockIndex, &Block)> {
    let blocks = architecture.stages.iter().enumerate();
    let blocks = blocks.flat_map(|(stage, blocks)| blocks.iter().enumerate().map(move |(j, b)| (stage, j, b)));
    blocks.enumerate().map(|(running, (stage, block, b))| (BlockIndex { stage, block, running }, b))
}

/// The first convolution.
pub fn stem(architecture: &Architecture) -> Layer {
    let stem = &architecture.stem;
    let name = "conv_stem".to_string();
    let pieces = vec![Piece {
        name: name.clone(),
        input: architecture.channels,
        output: stem.output,
        kernel: stem.kernel,
        group: 1,
    }];
    Layer { part: Part::Stem, block: None, name, pieces, stride: stem.stride, bias: false, norm: Some("bn1".into()) }
}

/// The convolution between the last block, or the stem if there is none, and the classifier.
pub fn head(architecture: &Architecture) -> Layer {
    let input = architecture.blocks().last().map_or(architecture.stem.output, |block| block.output);
    let (output, bias, norm) = match architecture.head {
        Head::BeforePool { output, .. } => (output, false, Some("bn2".into())),
        Head::AfterPool { output, bias, .. } => (output, bias, None),
    };
    let name = "conv_head".to_string();
    let pieces = vec![Piece { name: name.clone(), input, output, kernel: 1, group: 1 }];
    Layer { part: Part::Head, block: None, name, pieces, stride: 1, bias, norm }
}

/// The linear layer at the end.
pub fn classifier(architecture: &Architecture) -> Layer {
    let name = "classifier".to_string();
    let (input, output) = (architecture.head.output(), architecture.classes);
    let pieces = vec![Piece { name: name.clone(), input, output, kernel: 1, group: 1 }];
    Layer { part: Part::Classifier, block: None, name, pieces, stride: 1, bias: true, norm: None }
}

/// Names of the convolutions and batch norms of a block: expansion, spatial, projection.
type Names = [Option<(&'static str, &'static str)>; 3];

fn names(kind: BlockKind) -> Names {
    match kind {
        BlockKind::MbConv => [Some(("conv_pw", "bn1")), Some(("conv_dw", "bn2")), Some(("conv_pwl", "bn3"))],
        BlockKind::DepthwiseSeparable => [None, Some(("conv_dw", "bn1")), Some(("conv_pw", "bn2"))],
        BlockKind::FusedMbConv => [None, Some(("conv_exp", "bn1")), Some(("conv_pwl", "bn2"))],
        BlockKind::ConvBnAct => [None, Some(("conv", "bn1")), None],
    }
}

/// The layers of `block` at `index`.
pub fn block_layers(block: &Block, index: BlockIndex) -> BlockLayers {
    let prefix = format!("blocks.{}.{}", index.stage, index.block);
    let [expand, spatial, project] = names(block.kind);
    let normed = |part, (conv, norm): (&str, &str), stride, pieces: Vec<Piece>| {
        let (name, norm) = (format!("{prefix}.{conv}"), Some(format!("{prefix}.{norm}")));
        Layer { part, block: Some(index), pieces: named(pieces, &name), name, stride, bias: false, norm }
    };
    let pointwise = |input, output, parts| {
        let sizes = split(input, parts).into_iter().zip(split(output, parts));
        sizes.map(|(input, output)| piece(input, output, 1, 1)).collect::<Vec<_>>()
    };
    let expand =
        expand.map(|names| normed(Part::Expand, names, 1, pointwise(block.input, block.expanded, block.expand_split)));
    let project = project
        .map(|names| normed(Part::Project, names, 1, pointwise(block.expanded, block.output, block.project_split)));
    let spatial = normed(Part::Spatial, spatial.unwrap_or_default(), block.stride, spatial_pieces(block));
    let squeeze = block.squeeze_excite.map(|squeeze| {
        let dense = |part, name: &str, input, output| {
            let name = format!("{prefix}.se.{name}");
            let pieces = named(vec![piece(input, output, 1, 1)], &name);
            Layer { part, block: Some(index), name, pieces, stride: 1, bias: true, norm: None }
        };
        let channels = if block.kind == BlockKind::ConvBnAct { block.output } else { block.expanded };
        [
            dense(Part::SqueezeReduce, "conv_reduce", channels, squeeze.reduced),
            dense(Part::SqueezeExpand, "conv_expand", squeeze.reduced, channels),
        ]
    });
    BlockLayers { expand, spatial, squeeze, project }
}

fn piece(input: usize, output: usize, kernel: usize, group: usize) -> Piece {
    Piece { name: String::new(), input, output, kernel, group }
}

/// The depthwise convolutions, one per kernel, or the dense one.
fn spatial_pieces(block: &Block) -> Vec<Piece> {
    let dense = |output| block.kernels.first().map(|k| piece(block.input, output, *k, 1)).into_iter().collect();
    match block.kind {
        BlockKind::ConvBnAct => dense(block.output),
        BlockKind::FusedMbConv => dense(block.expanded),
        BlockKind::MbConv | BlockKind::DepthwiseSeparable => {
            let channels = split(block.expanded, block.kernels.len());
            channels.into_iter().zip(&block.kernels).map(|(c, k)| piece(c, c, *k, c)).collect()
        }
    }
}

/// `name` for a single piece, `name.0`, `name.1`, … for several.
fn named(mut pieces: Vec<Piece>, name: &str) -> Vec<Piece> {
    let several = pieces.len() > 1;
    for (i, piece) in pieces.iter_mut().enumerate() {
        piece.name = if several { format!("{name}.{i}") } else { name.to_string() };
    }
    pieces
}
